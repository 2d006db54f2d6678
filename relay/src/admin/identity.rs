//! `identity renew | keep`: what becomes of an outbox that is found in another place than before.

use serde::Serialize;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::{AdminError, backend, end, overlap};
use crate::decision::{self, Decided, Decision};
use crate::keeper::floor;
use crate::range::RangeSet;
use crate::schema::{Place, Schema};

/// What became of the identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The outbox's id before.
    pub former_id: Uuid,
    /// And now.
    pub outbox_id: Uuid,
    /// Where the outbox was when its id was made, or when it was last kept.
    pub former_place: Option<String>,
    /// Where it is.
    pub place: String,
    /// Whether commits wake an idle relay.
    pub doorbell: bool,
    /// Rows that counted as sent and cannot have been, each target's counted: they are pending again.
    pub released_rows: i64,
    /// The highest id that is known, if the sequence was behind it: new rows get higher ones.
    pub advanced_to: Option<i64>,
}

/// What is asked for, as it is recorded.
#[derive(Serialize)]
struct Filter<'a> {
    former_id: Uuid,
    outbox_id: Uuid,
    former_place: Option<&'a str>,
    place: &'a str,
}

const OWNER: &str = "
SELECT pg_get_userbyid(relowner)::text, pg_has_role(relowner, 'USAGE')
FROM pg_catalog.pg_class WHERE oid = 'outbox.meta'::regclass";

// Of every name that a relay locks (see schema/0001_meta.sql), but @bell, which writers lock as well,
// and @floor, which the transaction holds.
const NAMES: &str = "
SELECT '@keeper'
UNION ALL SELECT target FROM outbox.ledger
UNION ALL SELECT '@relay/' || target FROM outbox.ledger
ORDER BY 1";

const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock(k1, k2) FROM outbox.lock_key($1)";

const LOCK: &str = "SELECT pg_advisory_xact_lock(k1, k2) FROM outbox.lock_key($1)";

const FORMER: &str = "SELECT outbox_id FROM outbox.meta FOR UPDATE";

const RENEW: &str = "
UPDATE outbox.meta SET outbox_id = gen_random_uuid(), place = outbox.place()
RETURNING outbox_id";

// Another outbox: nothing has been sent for it anywhere.
const FORGET: &str = "
UPDATE outbox.ledger SET identity = NULL, broker_kind = NULL, broker_place = NULL";

const KEEP: &str = "UPDATE outbox.meta SET place = outbox.place()";

// The sequence has another file where it was restored, and is the same all the same.
const FORGET_FILE: &str = "UPDATE outbox.ledger SET identity = NULL";

const DOORBELL: &str = "SELECT outbox.install_doorbell()";

/// Gives the outbox another id, and with it other locks and other fences: it is a copy, and the
/// original goes on under the former one. The doorbell is installed anew, since the key of its lock
/// stands in its trigger. Progress and messages stay as they are.
///
/// With `dry_run` everything is done and rolled back.
///
/// # Errors
/// [`AdminError::InUse`] while a relay works on this database, [`AdminError::NotOwner`], the
/// database's.
pub async fn renew(
    client: &mut Client,
    schema: &Schema,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Identity, AdminError> {
    let (transaction, place) = begin(client, schema).await?;
    refuse_in_use(&transaction, schema).await?;
    let former_id = transaction.query_one(&schema.sql(FORMER), &[]).await?.try_get(0)?;
    let outbox_id = transaction.query_one(&schema.sql(RENEW), &[]).await?.try_get(0)?;
    transaction.execute(&schema.sql(FORGET), &[]).await?;
    let ids = (former_id, outbox_id);
    finish(transaction, schema, "identity renew", ids, place, decision, dry_run).await
}

/// Keeps the outbox's id in the place where the outbox is now: it is the original, which was moved.
///
/// With `dry_run` everything is done and rolled back.
///
/// # Errors
/// [`AdminError::NotOwner`], the database's.
pub async fn keep(
    client: &mut Client,
    schema: &Schema,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Identity, AdminError> {
    let (transaction, place) = begin(client, schema).await?;
    let outbox_id = transaction.query_one(&schema.sql(FORMER), &[]).await?.try_get(0)?;
    transaction.execute(&schema.sql(KEEP), &[]).await?;
    // Also where nothing was moved: a restore of the data alone brings ledgers of another sequence.
    transaction.execute(&schema.sql(FORGET_FILE), &[]).await?;
    let ids = (outbox_id, outbox_id);
    finish(transaction, schema, "identity keep", ids, place, decision, dry_run).await
}

async fn begin<'c>(
    client: &'c mut Client,
    schema: &Schema,
) -> Result<(Transaction<'c>, Place), AdminError> {
    let row = client.query_one(&schema.sql(OWNER), &[]).await?;
    if !row.try_get::<_, bool>(1)? {
        return Err(AdminError::NotOwner { owner: row.try_get(0)? });
    }
    let transaction = floor::hold(client, schema).await?;
    let place = Place::read(&transaction, schema).await?;
    Ok((transaction, place))
}

/// Takes every lock under the former id, so that no relay holds one or begins to: it would go on as
/// the outbox that this one is no more.
async fn refuse_in_use(transaction: &Transaction<'_>, schema: &Schema) -> Result<(), AdminError> {
    for row in transaction.query(&schema.sql(NAMES), &[]).await? {
        let name: String = row.try_get(0)?;
        if !transaction.query_one(&schema.sql(TRY_LOCK), &[&name]).await?.try_get::<_, bool>(0)? {
            let holder = backend::any_lock_holder(transaction, schema, &name).await?;
            return Err(AdminError::InUse { holder });
        }
    }
    // Waits for open writers: one that did not ring must be visible before a relay sleeps under the
    // new key.
    transaction.query_one(&schema.sql(LOCK), &[&"@bell"]).await?;
    Ok(())
}

/// What both have in common, once the outbox has its id and the ledgers have forgotten which sequence
/// they were written for: from here on nothing compares the two, and a restore may have left the
/// sequence behind.
async fn finish(
    transaction: Transaction<'_>,
    schema: &Schema,
    command: &str,
    (former_id, outbox_id): (Uuid, Uuid),
    place: Place,
    decision: &Decision<'_>,
    dry_run: bool,
) -> Result<Identity, AdminError> {
    let doorbell = transaction.query_one(&schema.sql(DOORBELL), &[]).await?.try_get(0)?;
    let released_rows = overlap::release(&transaction, schema).await?;
    let advanced_to = overlap::behind(&transaction, schema, !dry_run).await?;
    let Place { noted: former_place, present: place } = place;
    let decided = Decided {
        command_id: Uuid::now_v7(),
        command,
        target: None,
        filter: &Filter {
            former_id,
            outbox_id,
            former_place: former_place.as_deref(),
            place: &place,
        },
        rows: 0,
        ids: RangeSet::new(),
        message_ids: None,
    };
    decision::record_always(&transaction, schema, decided, decision).await?;
    end(transaction, dry_run).await?;
    Ok(Identity { former_id, outbox_id, former_place, place, doorbell, released_rows, advanced_to })
}
