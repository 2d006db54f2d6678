//! Settled messages, deleted when a person says so.

use std::time::Duration;

use outbox_relay::admin::prune::{Pruned, prune};
use outbox_relay::decision::Decision;
use outbox_relay::keeper::horizon::Held;
use outbox_relay::keeper::retention::Prune;

use crate::keeper::outbox::{Outbox, keep_hours};
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::progress::wait_settled;
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::Batch;

const ADA: Decision<'_> = Decision { by: Some("ada"), reason: Some("the disk is full") };
const NOW: Prune = Prune { older_than: Duration::ZERO, below_id: None };

async fn ask(outbox: &mut Outbox, which: Prune, dry_run: bool) -> Pruned {
    // In several rounds, and long before retention would.
    let mut config = keep_hours(24 * 7);
    config.delete_rows_max = 2;
    let (session, schema) = (&mut outbox.session, &outbox.schema);
    prune(session, schema, &config, 1_000, which, &ADA, dry_run).await.unwrap()
}

#[tokio::test]
async fn what_every_target_has_settled_is_pruned_and_nothing_else() {
    // GIVEN a target that has settled 1 to 7, of which 3 stands in retry, and one that has 1 to 9
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("lake", "{[1,8)}").await;
    outbox.settle("mill", "{[1,10)}").await;
    outbox.retry("lake", 3).await;
    let expected = Pruned {
        floor_before: 1,
        floor: 8,
        deleted: 6,
        kept: 1,
        late: 0,
        held: Held::Pending { target: "lake".to_owned(), id: 8 },
    };
    // WHEN it is only asked
    assert_eq!(ask(&mut outbox, NOW, true).await, expected);
    // THEN nothing changes
    assert_eq!(outbox.messages().await.len(), 9);
    assert_eq!(outbox.floor().await, 1);
    assert_eq!(outbox.count("SELECT count(*) FROM outbox.decision").await, 0);
    // WHEN it is done
    assert_eq!(ask(&mut outbox, NOW, false).await, expected);
    // THEN
    assert_eq!(outbox.messages().await, [3, 8, 9]);
    assert_eq!(outbox.floor().await, 8);
    let audit = "SELECT sum(rows)::bigint FROM outbox.decision
                 WHERE command = 'prune' AND target IS NULL AND decided_by = 'ada'
                   AND reason = 'the disk is full' AND filter = '{\"older_than\": \"0s\"}'";
    assert_eq!(outbox.count(audit).await, 6);
    let commands = "SELECT count(DISTINCT command_id) FROM outbox.decision";
    assert_eq!(outbox.count(commands).await, 1);
}

#[tokio::test]
async fn an_age_and_an_id_bound_what_is_pruned() {
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("lake", "{[1,10)}").await;
    outbox.settled_ago("lake", 7, 2).await;
    outbox.settled_ago("lake", 9, 1).await;
    let hours = |hours: u64| Duration::from_secs(hours * 3_600 - 60);
    // Of two bounds the nearer one counts.
    for (older_than, below_id, floor) in
        [(hours(3), None, 1), (hours(3), Some(5), 1), (hours(2), Some(4), 4), (hours(2), None, 7)]
    {
        let which = Prune { older_than, below_id };
        for dry_run in [true, false] {
            assert_eq!(ask(&mut outbox, which, dry_run).await.floor, floor, "{which:?}");
        }
        assert_eq!(outbox.messages().await, (floor..10).collect::<Vec<_>>(), "{which:?}");
    }
    // The watermarks of retention are as they were: what is younger still has its age.
    assert_eq!(outbox.ids("outbox.watermark WHERE id = 9").await, [9]);
    // An id that is far ahead is no licence.
    let ahead = Prune { older_than: Duration::ZERO, below_id: Some(1_000) };
    assert_eq!(ask(&mut outbox, ahead, false).await.floor, 10);
}

/// GIVEN a relay at work, whose role owns nothing WHEN a person prunes THEN what it has delivered goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_as_a_command() {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let session = stage.session().await;
    Batch::orders(50).write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(50).await;
    wait_settled(&session, 1).await;

    let run = async |arguments: &[&str]| {
        let output = command(&stage.config, &[&["prune"], arguments].concat()).await;
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(run(&[]).await.0, Some(2));
    let (code, said) = run(&["--all", "--dry-run"]).await;
    assert_eq!(code, Some(0));
    assert!(said.starts_with("50 messages would be deleted\n"), "{said}");
    let (code, said) = run(&["--older-than", "1h"]).await;
    assert_eq!(code, Some(0));
    assert!(said.starts_with("0 messages were deleted\n"), "{said}");
    let (code, said) = run(&["--all", "--json", "--reason", "test"]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("\"deleted\": 50"), "{said}");
    assert_eq!(session.count("SELECT count(*) FROM outbox.message").await, 0);
    // AND what comes afterwards comes
    Batch::orders(50).write(&session).await;
    stage.wait_received(100).await;
    assert!(relay.terminate().await.success());
}
