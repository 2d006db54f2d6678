//! Cells that no other test has: take-overs with a standby, networks that go silent between the
//! leader and its services, and owners who do what stops a pipeline.

use crate::support::chaos::cell::Cell;
use crate::support::chaos::{Arena, Fault};

const SEED: u64 = 20_240_817;

/// `./dev chaos --list` says what they do, `./dev chaos --seed 20240817 --fault NAME` runs one.
const FAULTS: [&str; 6] = [
    "relay-killed",
    "relay-hangs",
    "brokers-cut",
    "database-black-hole",
    "truncate-forced",
    "sequence-cache",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i2_i3_i5_i7_the_most_important_faults() {
    let arena = Arena::start().await;
    for name in FAULTS {
        // GIVEN a hostile writer, a leader, a standby and both brokers
        // WHEN the fault happens, and is mended
        let fault = Fault::named(name).unwrap();
        let outcome = Cell::run(&arena, &[fault], SEED).await;
        // THEN nothing is lost, invented or out of order, and there are no more duplicates than there may be
        assert!(outcome.is_clean(), "{name} (seed {SEED}):\n{}", outcome.describe());
    }
}

#[test]
fn every_fault_has_a_name_of_its_own() {
    let names: Vec<&str> = Fault::all().map(|fault| fault.name).collect();
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "{name} stands there twice");
    }
}
