//! The settings of a reader's session, which make every plan of its statements the only possible one.
//!
//! The statements are prepared once and live for days. A plan that was made while the table was
//! empty and never analysed was a sequential scan with a sort, and stayed one at ten million rows;
//! so the plan is the generic one from the first execution on, and what could tempt it is off.

use tokio_postgres::Client;

const SETTINGS: &str = "
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SET row_security = off";

/// Puts the settings in force.
pub(super) async fn set(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(SETTINGS).await
}
