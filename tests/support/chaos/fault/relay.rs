//! Relays that die, hang, or are asked to go.

use super::super::cell::Cell;
use super::super::outcome::Silence;
use super::{Fault, Part, Scene};

/// Take-overs of each target in one cell, each of which is measured.
const ROUNDS: usize = 3;
/// Messages between two of them.
const BETWEEN: usize = 100;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new("relay-killed", "kill -9 of the leader", &[Part::Relay], |cell| {
        Box::pin(ended(cell, "KILL"))
    }),
    Fault::new("relay-terminated", "SIGTERM to the leader", &[Part::Relay], |cell| {
        Box::pin(ended(cell, "TERM"))
    }),
    Fault::new(
        "relay-hangs",
        "SIGSTOP of the leader, SIGCONT after the take-over",
        &[Part::Relay],
        |cell| Box::pin(hangs(cell)),
    ),
    Fault::new(
        "relay-hangs-other-fences",
        "the same with no fence at RabbitMQ, and transactions as the fence at Kafka",
        &[Part::Relay],
        |cell| Box::pin(hangs(cell)),
    )
    .in_scene(Scene::OtherFences),
    Fault::new("standby-killed", "kill -9 of the standby", &[Part::Relay], |cell| {
        Box::pin(standby_killed(cell))
    }),
    Fault::new("standby-hangs", "SIGSTOP and SIGCONT of the standby", &[Part::Relay], |cell| {
        Box::pin(standby_hangs(cell))
    }),
];

async fn ended(cell: &Cell<'_>, signal: &str) {
    for target in ["amqp", "kafka"].repeat(ROUNDS) {
        let leader = cell.leader_to(target).await;
        // What a start takes is another figure.
        cell.crew.wait_ready().await;
        cell.struck_as(Silence::Failover(target));
        cell.crew.end(&leader, signal).await;
        cell.hire().await;
        cell.wait_other_leader(&leader).await;
        cell.wait_delivered(BETWEEN).await;
    }
}

async fn hangs(cell: &Cell<'_>) {
    for target in ["amqp", "kafka"] {
        let leader = cell.leader_to(target).await;
        cell.struck_as(Silence::Failover(target));
        cell.crew.signal(&leader, "STOP").await;
        cell.wait_other_leader(&leader).await;
        cell.wait_delivered(BETWEEN).await;
        // What it does now is what a predecessor may still do.
        cell.crew.signal(&leader, "CONT").await;
        cell.wait_delivered(BETWEEN).await;
    }
}

async fn standby_killed(cell: &Cell<'_>) {
    let standby = standby(cell).await;
    cell.struck();
    cell.crew.end(&standby, "KILL").await;
    cell.hire().await;
    cell.go_on(BETWEEN).await;
}

async fn standby_hangs(cell: &Cell<'_>) {
    let standby = standby(cell).await;
    cell.struck();
    cell.crew.signal(&standby, "STOP").await;
    cell.go_on(3 * BETWEEN).await;
    cell.crew.signal(&standby, "CONT").await;
    cell.mended();
}

async fn standby(cell: &Cell<'_>) -> String {
    let leader = cell.leader().await;
    let roles = cell.crew.roles().await;
    roles.into_iter().rev().find(|role| *role != leader).unwrap_or(leader)
}
