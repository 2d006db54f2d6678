//! Where an outbox is, and whether it has been there since its id was made.
//!
//! `outbox_id` names the locks of the relays and their fences at the brokers. A copy of the database
//! has the same id, so its relay would keep the relay of the original out, and send what the original
//! sends as well. What a copy does not have is the place: the cluster's system identifier, the
//! database's OID and the table's OID. Timeline, LSN and address have no part in it: they change in a
//! failover, and a failover must never be refused.

use tokio_postgres::{Error, GenericClient};

use super::Schema;

/// Where the outbox was when its id was made, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As `outbox.meta` has it; `None`: not noted yet.
    pub noted: Option<String>,
    /// As `outbox.place()` says it.
    pub present: String,
}

/// What to do about an outbox that is in another place.
pub const PLACE_HINT: &str = "stop the relays of this database, then run as the owner: \
    `outbox-relay identity renew` if this is a copy, which gets an id of its own, or \
    `outbox-relay identity keep` if it is the original, which was moved (dump and restore, pg_upgrade)";

const READ: &str = "SELECT place, outbox.place() FROM outbox.meta";

/// Notes the present place of an outbox for which none is known.
pub(super) const NOTE: &str = "UPDATE outbox.meta SET place = outbox.place() WHERE place IS NULL";

impl Place {
    /// Reads both.
    ///
    /// # Errors
    /// The database's; also if `outbox.meta` is empty.
    pub async fn read(client: &impl GenericClient, schema: &Schema) -> Result<Self, Error> {
        let row = client.query_typed_one(&schema.sql(READ), &[]).await?;
        Ok(Self { noted: row.try_get(0)?, present: row.try_get(1)? })
    }

    /// Notes the present place of an outbox for which none is known.
    ///
    /// # Errors
    /// The database's.
    pub async fn note(client: &impl GenericClient, schema: &Schema) -> Result<(), Error> {
        client.execute_typed(&schema.sql(NOTE), &[]).await.map(drop)
    }

    /// What tells that the outbox was copied or moved; `None` if it is where it was.
    #[must_use]
    pub fn moved(&self) -> Option<String> {
        let noted = self.noted.as_ref().filter(|noted| **noted != self.present)?;
        let changed = changes(noted, &self.present);
        Some(format!(
            "this database is a copy of another one, or it was moved: {changed} changed since its \
             outbox_id was made ({noted} then, {present} now: system identifier, database, table)",
            present = self.present,
        ))
    }
}

/// The parts that differ, for people.
fn changes(noted: &str, present: &str) -> String {
    let parts =
        ["the system identifier of the cluster", "the OID of the database", "the OID of the table"];
    let (noted, present): (Vec<_>, Vec<_>) =
        (noted.split('/').collect(), present.split('/').collect());
    let differs = |&(index, _): &(usize, &&str)| noted.get(index) != present.get(index);
    let changed: Vec<&str> =
        parts.iter().enumerate().filter(differs).map(|(_, part)| *part).collect();
    changed.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(noted: Option<&str>, present: &str) -> Option<String> {
        Place { noted: noted.map(str::to_owned), present: present.to_owned() }.moved()
    }

    #[test]
    fn a_copy_is_told_by_each_part_of_its_place() {
        for (present, named) in [
            ("8/5/16384", "the system identifier of the cluster changed"),
            ("7/6/16384", "the OID of the database changed"),
            ("7/5/20000", "the OID of the table changed"),
            ("8/6/16384", "cluster and the OID of the database changed"),
        ] {
            let text = moved(Some("7/5/16384"), present).expect("it is elsewhere");
            assert!(text.contains(named), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_compared() {
        assert_eq!(moved(Some("7/5/16384"), "7/5/16384"), None);
        assert_eq!(moved(None, "7/5/16384"), None);
    }
}
