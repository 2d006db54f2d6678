//! The proof of the receivers' half, the short form of `./dev proof`: the same consumers, the same faults,
//! fewer of both; and the consumers that are wrong on purpose.

use crate::support::proof::control::{self, Mistake};
use crate::support::proof::{self, Plan};

const SEED: u64 = 20_240_817;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_made_once_whatever_ends() {
    // GIVEN four consumers of both brokers, and a relay
    // WHEN all of them end in every way, everything comes twice, and is replayed
    let verdict = proof::run(&Plan::short(SEED)).await;
    // THEN payments, charges and follow-ups are those that were asked for
    verdict.assert_holds();
}

async fn is_caught(mistake: Mistake) {
    let verdict = control::run(mistake, SEED).await;
    assert!(mistake.is_caught(&verdict), "{}: {verdict:#?}", mistake.about());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_before_the_insert_is_caught_paying_twice() {
    is_caught(Mistake::CheckThenInsert).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_committed_first_is_caught_losing_payments() {
    is_caught(Mistake::ClaimCommittedFirst).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_of_the_payload_is_caught_losing_payments() {
    is_caught(Mistake::HashOfPayload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_without_a_mistake_is_not_blamed() {
    control::without_mistake(SEED).await.assert_holds();
}
