//! Negative controls: if the checker does not catch these, it proves nothing about the relay.

use crate::support::chaos::control::{Mistake, run, without_mistake};
use crate::support::services::Services;

async fn is_caught(mistake: Mistake) {
    let caught = run(mistake, &Services::amqp(), &Services::postgres()).await;
    assert!(caught.is_caught(), "{}: {caught}", mistake.about());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_before_the_confirm_is_caught_losing_messages() {
    is_caught(Mistake::MarkBeforeConfirm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_predecessor_without_a_fence_is_caught_by_what_it_does_not_say() {
    is_caught(Mistake::NoFence).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_on_another_session_than_the_locks_is_caught_by_its_duplicates() {
    is_caught(Mistake::MarkElsewhere).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_without_holes_is_caught_losing_messages() {
    is_caught(Mistake::NoHoles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_mistake_is_not_blamed() {
    let report = without_mistake(&Services::amqp(), &Services::postgres()).await;
    report.assert_exact("a relay without a mistake");
    assert_eq!((report.duplicates, report.unsaid), (0, 0));
}
