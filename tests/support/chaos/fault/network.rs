//! Networks that break, between the leader and its brokers, and between the leader and its database.

use super::super::cell::Cell;
use super::super::outcome::Silence;
use super::{Fault, Part};
use crate::support::proxy::Network;

/// Messages that are written meanwhile.
const MEANWHILE: usize = 300;
/// Some messages pass before each cut.
const CUT_AFTER_BYTES: usize = 60_000;
/// Connections that are begun and cut.
const CUTS: usize = 3;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "brokers-half-open",
        "half-open connections to both brokers",
        &[Part::RabbitMq, Part::Kafka],
        |cell| Box::pin(brokers(cell, Network::HalfOpen)),
    ),
    Fault::new(
        "brokers-deaf",
        "what both brokers say is swallowed",
        &[Part::RabbitMq, Part::Kafka],
        |cell| Box::pin(brokers(cell, Network::Deaf)),
    ),
    Fault::new(
        "brokers-cut",
        "connections to both brokers cut after 60 kB, again and again",
        &[Part::RabbitMq, Part::Kafka],
        |cell| Box::pin(brokers(cell, Network::CutAfter(CUT_AFTER_BYTES))),
    ),
    Fault::new(
        "brokers-refused",
        "connections to both brokers are refused",
        &[Part::RabbitMq, Part::Kafka],
        |cell| Box::pin(brokers(cell, Network::Refused)),
    ),
    Fault::new(
        "brokers-black-hole",
        "connections to both brokers lead nowhere",
        &[Part::RabbitMq, Part::Kafka],
        |cell| Box::pin(brokers(cell, Network::BlackHole)),
    ),
    Fault::new(
        "database-half-open",
        "half-open connections to the database",
        &[Part::Database],
        |cell| Box::pin(database(cell, Network::HalfOpen)),
    ),
    Fault::new("database-deaf", "what the database says is swallowed", &[Part::Database], |cell| {
        Box::pin(database(cell, Network::Deaf))
    }),
    Fault::new(
        "database-cut",
        "connections to the database cut after 60 kB, again and again",
        &[Part::Database],
        |cell| Box::pin(database(cell, Network::CutAfter(CUT_AFTER_BYTES))),
    ),
    Fault::new(
        "database-refused",
        "the leader is refused by the database",
        &[Part::Database],
        |cell| Box::pin(database(cell, Network::Refused)),
    ),
    Fault::new(
        "database-black-hole",
        "the leader's connections to the database lead nowhere",
        &[Part::Database],
        |cell| Box::pin(database(cell, Network::BlackHole)),
    ),
];

async fn brokers(cell: &Cell<'_>, network: Network) {
    let leader = cell.leader().await;
    let Some(links) = cell.crew.links(&leader).await else { return };
    let kafka = &cell.arena.kafka_link;
    let count = || (links.amqp.connections(), kafka.connections());
    let (amqp_before, kafka_before) = count();
    cell.struck();
    links.amqp.set(network);
    kafka.set(network);
    match network {
        Network::Refused => cell.go_on(MEANWHILE).await,
        _ => {
            let again = if matches!(network, Network::CutAfter(_)) { CUTS } else { 1 };
            let noticed = async || {
                let (amqp, kafka) = count();
                amqp >= amqp_before + again && kafka >= kafka_before + again
            };
            cell.hold(noticed).await;
        }
    }
    cell.nobody_is_blamed().await;
    links.amqp.set(Network::Up);
    kafka.set(Network::Up);
    cell.mended();
}

async fn database(cell: &Cell<'_>, network: Network) {
    let leader = cell.leader().await;
    let Some(links) = cell.crew.links(&leader).await else { return };
    let before = links.database.connections();
    let lasting = matches!(network, Network::Refused | Network::Deaf | Network::BlackHole);
    cell.struck_as(if lasting { Silence::Failover("amqp") } else { Silence::Unnamed });
    links.database.set(network);
    match network {
        // Whoever cannot reach the database is succeeded.
        _ if lasting => {
            cell.wait_other_leader(&leader).await;
            cell.wait_delivered(MEANWHILE / 2).await;
        }
        _ => cell.hold(async || links.database.connections() >= before + CUTS).await,
    }
    links.database.set(Network::Up);
    cell.mended();
}
