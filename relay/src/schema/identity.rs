//! The identity of the message table: where its sequence is, and how far it has drawn.

use tokio_postgres::{Error, GenericClient};

use super::Schema;

/// An identity's sequence may be renamed, or made anew under another name, so it is asked for.
const SEQUENCE: &str = "SELECT pg_get_serial_sequence('outbox.message', 'id')";

/// A sequence that was restarted has not drawn its `last_value` yet. `pg_sequence_last_value` would say
/// NULL then, as if it had never drawn at all. No snapshot has a part in it.
const LAST_ID: &str = "
(SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence})";

/// Restarting the sequence (TRUNCATE … RESTART IDENTITY, ALTER … RESTART) writes a new file, and so does
/// another CACHE or INCREMENT; drawing ids, VACUUM FULL of the table or a failover does not.
const FILE: &str =
    "SELECT relfilenode FROM pg_catalog.pg_class WHERE oid = to_regclass('{sequence}')";

/// Which cluster, database and table it is, and in which file the sequence is.
const STAMP: &str = "
SELECT concat_ws('/', system_identifier, database.oid, to_regclass('outbox.message')::oid), relfilenode::text
FROM pg_catalog.pg_control_system(), pg_catalog.pg_database AS database, pg_catalog.pg_class
WHERE database.datname = current_database()
  AND pg_class.oid = to_regclass(pg_get_serial_sequence('outbox.message', 'id'))";

/// What tells a restarted identity from the one that a ledger was written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Cluster, database and table. A dump that was restored has another.
    place: String,
    file: String,
}

impl Stamp {
    /// The stamp of the present identity.
    pub(crate) async fn read(client: &impl GenericClient, schema: &Schema) -> Result<Self, Error> {
        let row = client.query_typed_one(&schema.sql(STAMP), &[]).await?;
        Ok(Self { place: row.try_get(0)?, file: row.try_get(1)? })
    }

    /// As the ledger keeps it.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.place, self.file)
    }

    /// Whether the identity of the same table was restarted since `text` was kept.
    pub(crate) fn is_restart_of(&self, text: &str) -> bool {
        text.split_once(' ').is_some_and(|(place, file)| place == self.place && file != self.file)
    }
}

/// The statement that says where the sequence is stored.
pub(crate) async fn file(client: &impl GenericClient, schema: &Schema) -> Result<String, Error> {
    let sequence = sequence(client, schema).await?.unwrap_or_default();
    // Quoted by PostgreSQL; the schema's name holds no character that a literal would escape.
    Ok(FILE.replace("{sequence}", &sequence))
}

/// The name of the sequence, quoted where need be; `None`: `message.id` has none.
pub(crate) async fn sequence(
    client: &impl GenericClient,
    schema: &Schema,
) -> Result<Option<String>, Error> {
    client.query_typed_one(&schema.sql(SEQUENCE), &[]).await?.try_get(0)
}

/// `text` with the last id that was drawn, 0 before the first, in place of `{last_id}`, and with the
/// schema's name.
pub(crate) async fn with_last_id(
    client: &impl GenericClient,
    schema: &Schema,
    text: &str,
) -> Result<String, Error> {
    // Without an identity the statement says itself what is missing.
    let sequence = sequence(client, schema).await?;
    let sequence = sequence.unwrap_or_else(|| schema.sql("outbox.message_id_seq"));
    let last_id = LAST_ID.replace("{sequence}", &sequence);
    Ok(schema.sql(text).replace("{last_id}", &last_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_dump_is_no_restart() {
        let stamp = |place: &str, file: &str| Stamp { place: place.into(), file: file.into() };
        let kept = stamp("7/5/16384", "16399").text();
        assert!(!stamp("7/5/16384", "16399").is_restart_of(&kept));
        assert!(stamp("7/5/16384", "17001").is_restart_of(&kept));
        assert!(!stamp("8/5/16384", "17001").is_restart_of(&kept));
        assert!(!stamp("7/5/20000", "17001").is_restart_of(&kept));
    }
}
