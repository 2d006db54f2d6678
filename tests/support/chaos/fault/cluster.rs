//! Three Kafka brokers of which one goes.

use super::super::cell::Cell;
use super::{Fault, Scene};

/// Messages that are written meanwhile.
const MEANWHILE: usize = 300;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "broker-of-three-killed",
        "kill -9 of one of three brokers, two in sync suffice",
        &[],
        |cell| Box::pin(one_killed(cell)),
    )
    .in_scene(Scene::ThreeBrokers("2")),
    Fault::new(
        "replicas-missing",
        "kill -9 of one of three brokers, three in sync are asked for",
        &[],
        |cell| Box::pin(one_killed(cell)),
    )
    .in_scene(Scene::ThreeBrokers("3")),
];

async fn one_killed(cell: &Cell<'_>) {
    let brokers = cell.arena.three_brokers().await;
    cell.struck();
    brokers.kill_node(1).await;
    cell.go_on(MEANWHILE).await;
    cell.nobody_is_blamed().await;
    brokers.start_node(1).await;
    cell.mended();
}
