//! Plans that the design rests on.

use crate::support::database::Database;
use crate::support::services::Services;
use crate::support::session::Session;

/// The mark, as the lease session runs it.
const MARK: &str = "UPDATE outbox.ledger SET settled = settled + $4::text::int8multirange
    WHERE ctid = $1::text::tid AND target = $2 AND epoch = $3::text::uuid RETURNING ctid::text";

async fn with_a_ledger(server: &str) -> Session {
    let session = Database::create_on(server).await.connect().await;
    session
        .run("INSERT INTO outbox.ledger (target) VALUES ('orders'); ANALYZE outbox.ledger")
        .await;
    session
}

#[tokio::test]
async fn a_mark_goes_straight_to_its_row() {
    for server in [Services::postgres(), Services::postgres_18()] {
        // GIVEN a ledger of one page, which the planner would rather scan, and a generic plan
        let session = with_a_ledger(&server).await;
        session.run("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan").await;

        // WHEN
        let typed = MARK.replace("$4::text", "$4");
        session.run(&format!("PREPARE mark (text, text, text, int8multirange) AS {typed}")).await;
        let plan = session
            .query(
                "EXPLAIN EXECUTE mark ('(0,1)', 'orders', outbox.uuidv7()::text, '{[1,2)}')",
                &[],
            )
            .await
            .unwrap();

        // THEN
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("Tid Scan")), "{plan:#?}");
    }
}

#[tokio::test]
async fn marks_are_hot_updates() {
    for server in [Services::postgres(), Services::postgres_18()] {
        // GIVEN more targets than one page would hold, were it filled
        let mut session = with_a_ledger(&server).await;
        session
            .run("INSERT INTO outbox.ledger (target) SELECT 't' || n FROM generate_series(1, 200) AS n")
            .await;
        let row = session
            .query_one("SELECT ctid::text, epoch::text FROM outbox.ledger WHERE target = 't7'", &[])
            .await
            .unwrap();
        let (mut ctid, epoch): (String, String) = (row.get(0), row.get(1));

        // WHEN in one transaction, so that nothing can be pruned in between
        let transaction = session.transaction().await.unwrap();
        let statement = transaction.prepare(MARK).await.unwrap();
        for id in 1..=40 {
            let ranges = format!("{{[{id},{})}}", id + 1);
            let row = transaction.query_one(&statement, &[&ctid, &"t7", &epoch, &ranges]).await;
            ctid = row.unwrap().get(0);
        }

        // THEN none of the versions went into the index
        let hot = "SELECT n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relid = 'outbox.ledger'::regclass";
        assert_eq!(transaction.query_one(hot, &[]).await.unwrap().get::<_, i64>(0), 40);
        let settled = "SELECT settled::text FROM outbox.ledger WHERE target = 't7'";
        let row = transaction.query_one(settled, &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "{[1,41)}");
    }
}
