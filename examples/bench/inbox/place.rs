//! A database with an inbox, and ids for it.

use outbox_inbox::schema::{DEFAULT_LOCK_TIMEOUT, Schema, migrate};
use time::OffsetDateTime;

use crate::rig::Rig;
use crate::support::database::Database;
use crate::support::session::Session;

const DAY_MS: i128 = 86_400_000;

/// Of its own, with nothing in it.
pub(super) struct Place {
    pub(super) database: Database,
    pub(super) session: Session,
}

impl Place {
    pub(super) async fn create(rig: &Rig) -> Self {
        let database = Database::create_empty_on(rig.postgres.url()).await;
        let mut session = database.connect().await;
        let migrated = migrate(&mut session, &Schema::default(), DEFAULT_LOCK_TIMEOUT).await;
        migrated.expect("an empty database can have an inbox");
        Self { database, session }
    }

    /// Rows for the ids of [`serial`], 1 to `rows`, as if they had been processed.
    pub(super) async fn fill(&self, days_ago: i32, rows: u64) {
        let day = format!("(now() AT TIME ZONE 'UTC')::date - {days_ago}");
        let id = serial(days_ago, "n");
        let text = format!(
            "INSERT INTO outbox.inbox (bucket, consumer, message_id)
             SELECT {day}, 'bench', {id} FROM generate_series(1, {rows}) AS n"
        );
        self.session.run(&text).await;
        self.session.run("VACUUM ANALYZE outbox.inbox").await;
        self.session.run("CHECKPOINT").await;
    }
}

/// SQL of the id with the number that the SQL `number` says, of that day.
pub(super) fn serial(days_ago: i32, number: &str) -> String {
    format!("('{}-{:04x}-7000-8000-' || lpad(({number})::text, 12, '0'))", head(days_ago), 0)
}

/// pgbench's words for an id of today that nobody has had: decimal digits are hexadecimal ones as well.
pub(super) const FRESH: &str = "\\set a random(1000, 9999)\n\
                                \\set b random(100, 999)\n\
                                \\set c random(100000000000, 999999999999)\n";

/// SQL of that id.
pub(super) fn fresh() -> String {
    format!("('{}-' || :a::int || '-7' || :b::int || '-8000-' || :c::bigint)", head(0))
}

/// The first eight digits: the day in the middle of which such an id was made, to a minute.
fn head(days_ago: i32) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let noon = (now / DAY_MS - i128::from(days_ago)) * DAY_MS + DAY_MS / 2;
    format!("{:08x}", noon >> 16)
}
