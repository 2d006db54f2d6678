//! Who is the keeper: one at a time, and another when it is gone.

use std::time::Duration;

use outbox_relay::admin::backend::lock_holder;
use outbox_relay::config::{DatabaseConfig, TlsConfig};
use outbox_relay::keeper::{APPLICATION_NAME, Keeper, election};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::outbox::{Outbox, keep_nothing, pid};
use crate::support::patience::{until, wait_for};

pub(super) fn keeper(outbox: &Outbox) -> Keeper {
    Keeper {
        database: DatabaseConfig {
            url: outbox.database.url.clone(),
            password: None,
            schema: "outbox".to_owned(),
            tls: TlsConfig::default(),
            connect_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(60),
        },
        schema: outbox.schema.clone(),
        retention: keep_nothing(),
        dead_ranges_max: 1_000_000,
        targets: Vec::new(),
        is_metered: false,
    }
}

/// Waits until a session other than `not` is the keeper.
pub(super) async fn elected(outbox: &Outbox, not: Option<i32>) -> i32 {
    until("a keeper", async || {
        let holder = lock_holder(&*outbox.session, &outbox.schema, "@keeper").await.unwrap();
        holder.and_then(|holder| holder.pid).filter(|&pid| Some(pid) != not)
    })
    .await
}

#[tokio::test]
async fn one_session_is_elected() {
    let outbox = Outbox::create().await;
    let (one, other) = (outbox.another().await, outbox.another().await);
    assert!(election::stand(&one, &outbox.schema).await.unwrap());
    assert!(!election::stand(&other, &outbox.schema).await.unwrap());
    let elected_pid = elected(&outbox, None).await;
    assert_eq!(elected_pid, pid(&one).await);
    drop(one);
    until("the lock to be free", async || {
        election::stand(&other, &outbox.schema).await.unwrap().then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_keeper_works_and_another_takes_over() {
    // GIVEN two relays, rows that are settled, one that was given up wrongly, one below the floor
    let outbox = Outbox::create().await;
    outbox.insert(6).await;
    outbox.settle("lake", "{[1,5)}").await;
    outbox.dead_range("lake", "{[4,5)}").await;
    outbox.run("UPDATE outbox.meta SET floor = 2").await;
    let stop = CancellationToken::new();
    let mut relays = JoinSet::new();
    for _ in 0..2 {
        let (keeper, stop) = (keeper(&outbox), stop.clone());
        relays.spawn(async move { keeper.run(stop).await });
    }
    // WHEN the first is elected, THEN it sweeps and deletes
    let first = elected(&outbox, None).await;
    until("the floor", async || (outbox.floor().await == 5).then_some(())).await;
    assert_eq!(outbox.messages().await, [1, 4, 5, 6]);
    assert_eq!(outbox.late("lake").await, [1, 4]);
    assert_eq!(outbox.late_rows().await, 2);
    let name = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {first} AND application_name = '{APPLICATION_NAME}'"
    );
    assert_eq!(outbox.count(&name).await, 1);
    // WHEN its session is lost, THEN another goes on
    outbox.run(&format!("SELECT pg_terminate_backend({first})")).await;
    elected(&outbox, Some(first)).await;
    outbox.run("DELETE FROM outbox.retry").await;
    outbox.settle("lake", "{[1,7)}").await;
    until("the rest", async || outbox.messages().await.is_empty().then_some(())).await;
    // WHEN it is told to, THEN it stops and resigns
    stop.cancel();
    while let Some(ended) = wait_for("the keepers", relays.join_next()).await {
        ended.unwrap();
    }
    until("nobody to be the keeper", async || {
        let holder = lock_holder(&*outbox.session, &outbox.schema, "@keeper").await.unwrap();
        holder.is_none().then_some(())
    })
    .await;
}
