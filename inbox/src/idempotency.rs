//! Idempotency keys: what was asked once is done once, and answered the same every time.
//!
//! ```text
//!  begin ─► started(lease) ─► work, checkpoint, work … ─► finish(answer)
//!    │      resumed(lease at a recovery point)               │ false: another attempt has the lease
//!    │                             └─► suspend, and the next begin is resumed there
//!    └─► replay(answer) | in progress | unknown | mismatch
//!
//!  BEGIN ─► claim ─► work ─► store(answer) ─► COMMIT         (no lease: the transaction is the lease)
//! ```
//!
//! [`KeyTable`] calls the SQL functions, [`Steps`] is made of it for work that calls somebody outside
//! the database. For HTTP there is a layer that does all of this: the module `http`.

mod answer;
mod downstream;
mod error;
mod external;
mod request;
mod step;
mod table;
mod verdict;

pub use answer::Answer;
pub use downstream::{DOWNSTREAM_NAMESPACE, downstream_key};
pub use error::{KeyError, LeaseError};
pub use external::{DEFAULT_EXTERNAL_LEASE, DEFAULT_EXTERNAL_TTL, ExternalSteps};
pub use request::{
    DEFAULT_LEASE, DEFAULT_TTL, FINGERPRINT_BYTES_MAX, KEY_BYTES_MAX, KeyRequest, ResumeAt,
    SCOPE_BYTES_MAX,
};
pub use step::{External, STEP_REPLAYS, STEP_RESULTS_BYTES_MAX, StepError, Steps};
pub use table::KeyTable;
pub use verdict::{Begin, Claim, Lease, STARTED};
