//! One statement that the database refuses stops one thing: the rest of the keeper's round is done.

use std::time::Duration;

use outbox_relay::config::RetentionConfig;
use outbox_relay::keeper::Keeper;
use outbox_relay::keeper::trouble::{self, Trouble};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::election::{elected, keeper};
use super::outbox::{Outbox, keep_nothing};
use crate::support::patience::until;

/// Deletes what is settled, and removes every dead message.
fn tidy(outbox: &Outbox) -> Keeper {
    let retention = RetentionConfig { dead: Some(Duration::ZERO), ..keep_nothing() };
    Keeper { retention, ..keeper(outbox) }
}

fn start(keeper: Keeper) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { keeper.run(CancellationToken::new()).await });
    tasks
}

async fn troubles(outbox: &Outbox) -> Vec<Trouble> {
    trouble::read(&*outbox.session, &outbox.schema).await.unwrap()
}

/// Twenty settled messages; one more is dead.
async fn settled() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.insert(20).await;
    outbox.settle("lake", "{[1,21)}").await;
    outbox.bury("lake", 3, "refused").await;
    outbox
}

async fn wait_messages(outbox: &Outbox, expected: &[i64]) {
    until(&format!("messages {expected:?}"), async || {
        (outbox.messages().await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_referenced_row_is_left_out_and_the_rest_of_the_round_is_done() {
    // GIVEN a table of a user that refers to one message, and another that refers to a dead one
    let outbox = settled().await;
    outbox.bury("lake", 4, "refused").await;
    outbox
        .run(
            "CREATE TABLE audit (message bigint REFERENCES outbox.message (id));
             INSERT INTO audit VALUES (10);
             CREATE TABLE grave (target text, id bigint,
                                 FOREIGN KEY (target, id) REFERENCES outbox.dead (target, id));
             INSERT INTO grave VALUES ('lake', 4)",
        )
        .await;
    // WHEN a keeper works
    let _keeper = start(tidy(&outbox));
    let pid = elected(&outbox, None).await;
    // THEN every other message goes, and every other dead one; the floor is past all of them
    wait_messages(&outbox, &[10]).await;
    until("the floor", async || (outbox.floor().await == 21).then_some(())).await;
    until("the dead", async || (outbox.ids("outbox.dead").await == [4]).then_some(())).await;
    // AND what is refused is written down, with the constraint and the remedy
    until("two troubles", async || (troubles(&outbox).await.len() == 2).then_some(())).await;
    for (trouble, (part, constraint)) in troubles(&outbox)
        .await
        .iter()
        .zip([("dead", "grave_target_id_fkey"), ("kept", "audit_message_fkey")])
    {
        assert_eq!(trouble.part, part);
        assert!(trouble.reason.contains(constraint), "{}", trouble.reason);
        let hint = trouble.hint.as_deref().unwrap_or_default();
        assert!(hint.contains(&format!("DROP CONSTRAINT {constraint}")), "{hint}");
    }
    // AND on the session that it had
    assert_eq!(elected(&outbox, None).await, pid);
    // WHEN the constraints are dropped THEN the rows go, and nothing is said any more
    outbox.run("DROP TABLE audit, grave").await;
    wait_messages(&outbox, &[]).await;
    until("no dead", async || outbox.ids("outbox.dead").await.is_empty().then_some(())).await;
    until("no trouble", async || troubles(&outbox).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_trigger_that_refuses_every_deletion_stops_retention_alone() {
    // GIVEN more messages than are left out one by one, and a user's trigger on each deletion
    let outbox = settled().await;
    outbox.insert(200).await;
    outbox.settle("lake", "{[1,221)}").await;
    outbox
        .run(
            "CREATE FUNCTION public.keep_all() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'nothing is deleted here'; END $$;
             CREATE TRIGGER keep_all BEFORE DELETE ON outbox.message
             FOR EACH ROW EXECUTE FUNCTION public.keep_all()",
        )
        .await;
    // WHEN a keeper works
    let _keeper = start(tidy(&outbox));
    // THEN the dead are removed all the same, and the keeper says what refuses the others
    until("the dead", async || outbox.ids("outbox.dead").await.is_empty().then_some(())).await;
    let trouble = until("the keeper to say what refuses it", async || {
        troubles(&outbox).await.into_iter().next()
    })
    .await;
    assert!(
        trouble.reason.contains("keep_all()") && trouble.reason.contains("P0001"),
        "{trouble:?}"
    );
    assert_eq!(outbox.messages().await.len(), 220);
    // WHEN it is dropped THEN everything goes
    outbox.run("DROP TRIGGER keep_all ON outbox.message").await;
    wait_messages(&outbox, &[]).await;
    until("no trouble", async || troubles(&outbox).await.is_empty().then_some(())).await;
}
