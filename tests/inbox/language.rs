//! The consumer of the examples in other languages: real processes on real brokers, one of which is killed
//! with -9 after its COMMIT and before its acknowledgement.

mod fault;
mod node;
mod page;
mod program;
mod python;

use std::path::{Path, PathBuf};

use program::Program;

use crate::support::database::Database;
use crate::support::id;
use crate::support::patience::until;
use crate::support::session::Session;

/// What the examples pay into, without a unique key. The COMMIT of a payment waits while the gate is shut;
/// not for a lock, of which the consumer waits five seconds only.
const PAYMENTS: &str = "
CREATE TABLE payment (id text NOT NULL, amount int NOT NULL);
CREATE TABLE gate (shut boolean NOT NULL);
INSERT INTO gate VALUES (true);
CREATE FUNCTION await_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE (SELECT shut FROM gate) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER await_gate AFTER INSERT ON payment DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION await_gate()";

/// What arrives, as ids and payloads in their order.
struct Messages {
    /// Sent twice.
    twice: (String, &'static str),
    poison: (String, &'static str),
    last: (String, &'static str),
}

impl Messages {
    fn new() -> Self {
        Self {
            // The examples write it in lower case, as everybody does.
            twice: (id::new().to_uppercase(), r#"{"payment_id": "p-1", "amount": 1250}"#),
            poison: (id::new(), "no JSON"),
            last: (id::new(), r#"{"payment_id": "p-2", "amount": 100}"#),
        }
    }

    fn before_the_kill(&self) -> [&(String, &'static str); 2] {
        [&self.twice, &self.twice]
    }

    fn after_the_kill(&self) -> [&(String, &'static str); 2] {
        [&self.poison, &self.last]
    }
}

struct Stage {
    url: String,
    session: Session,
}

impl Stage {
    async fn new() -> Self {
        let database = Database::create().await;
        let session = database.connect().await;
        session.run(PAYMENTS).await;
        Self { url: database.url, session }
    }

    /// With the gate open.
    async fn open() -> Self {
        let stage = Self::new().await;
        stage.session.run("UPDATE gate SET shut = false").await;
        stage
    }

    /// Kills a consumer that has sent its COMMIT and has no answer to it yet, and lets the database commit.
    async fn kill_in_the_commit(&self, consumer: Program) {
        let committing = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event = 'PgSleep'";
        until("the consumer to be in its COMMIT", async || {
            (self.session.count(committing).await == 1).then_some(())
        })
        .await;
        consumer.kill().await;
        self.session.run("UPDATE gate SET shut = false").await;
        until("the payment of the killed consumer", async || {
            (self.payments().await == 1).then_some(())
        })
        .await;
    }

    async fn payments(&self) -> i64 {
        self.session.count("SELECT count(*) FROM payment").await
    }

    /// Each payment was made once, and what cannot be processed waits for a person.
    async fn assert_once(&self, consumer: &str, messages: &Messages) {
        assert_eq!(self.payments().await, 2);
        assert_eq!(self.session.count("SELECT count(DISTINCT id) FROM payment").await, 2);
        let failure =
            "SELECT message_id, attempts, parked_at IS NOT NULL, convert_from(payload, 'UTF8')
             FROM outbox.inbox_failure WHERE consumer = $1";
        let rows = self.session.query(failure, &[&consumer]).await.unwrap();
        assert_eq!(rows.len(), 1);
        let row: (String, i32, bool, String) =
            (rows[0].get(0), rows[0].get(1), rows[0].get(2), rows[0].get(3));
        let (id, payload) = &messages.poison;
        // No other attempt makes JSON of it.
        assert_eq!(row, (id.clone(), 1, true, (*payload).to_owned()));
    }
}

/// A file of the examples.
fn example(path: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    repository.join("examples").join(path)
}
