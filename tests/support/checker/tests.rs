//! The checker must be able to find each kind of mistake, and only those that are there.

use proptest::prelude::*;
use uuid::Uuid;

use super::{Committed, Delivery, Inversion, Phantom, check};

/// `count` messages over `keys` keys, each with its place in its key.
fn journal(count: usize, keys: usize) -> Vec<Committed> {
    (0..count)
        .map(|n| Committed {
            message_id: Uuid::from_u128(n as u128 + 1),
            key: Some(format!("key-{}", n % keys)),
            counter: Some((n / keys) as i64 + 1),
            digest: [n as u8; 32],
            committed_at_us: Some(n as i64),
        })
        .collect()
}

fn deliver(n: usize, committed: &Committed) -> Delivery {
    Delivery {
        message_id: Some(committed.message_id),
        row_id: Some(n as i64 + 1),
        digest: committed.digest,
        resent: None,
        relay: None,
        received_at_us: n as i64 + 10,
    }
}

fn deliver_all(journal: &[Committed]) -> Vec<Delivery> {
    journal.iter().enumerate().map(|(n, c)| deliver(n, c)).collect()
}

#[test]
fn all_in_order_is_exact() {
    let journal = journal(100, 7);
    let report = check(&journal, &deliver_all(&journal));
    assert!(report.is_exact());
    assert_eq!((report.received, report.duplicates), (100, 0));
    assert_eq!(report.latency_us(50), Some(10));
    report.assert_exact("all in order");
}

#[test]
fn a_missing_message_is_lost() {
    let journal = journal(100, 7);
    let mut deliveries = deliver_all(&journal);
    deliveries.remove(42);
    let report = check(&journal, &deliveries);
    assert_eq!(report.lost, [journal[42].message_id]);
    assert!(!report.is_exact() && report.phantom.is_empty() && report.reordered.is_empty());
}

#[test]
fn an_unknown_message_is_a_phantom() {
    let mut journal = journal(100, 7);
    let deliveries = deliver_all(&journal);
    let rolled_back = journal.remove(42);
    let report = check(&journal, &deliveries);
    assert_eq!(report.phantom, [Phantom::Unknown(Some(rolled_back.message_id))]);
    assert!(!report.is_exact() && report.lost.is_empty());
}

#[test]
fn other_content_is_a_phantom_and_the_message_is_lost() {
    let journal = journal(100, 7);
    let mut deliveries = deliver_all(&journal);
    deliveries[42].digest[0] ^= 1;
    let report = check(&journal, &deliveries);
    assert_eq!(report.phantom, [Phantom::Altered(journal[42].message_id)]);
    assert_eq!(report.lost, [journal[42].message_id]);
}

#[test]
fn a_first_delivery_behind_a_later_one_is_out_of_order() {
    let journal = journal(100, 7);
    let mut deliveries = deliver_all(&journal);
    deliveries.swap(0, 7);
    let report = check(&journal, &deliveries);
    assert_eq!(report.reordered, [Inversion { key: "key-0".into(), counter: 1, after: 2 }]);
    assert!(!report.is_exact() && report.lost.is_empty() && report.phantom.is_empty());
}

#[test]
fn keys_are_judged_apart_and_no_place_is_no_promise() {
    let mut journal = journal(100, 7);
    journal[0].counter = None;
    let mut deliveries = deliver_all(&journal);
    deliveries.swap(1, 2);
    deliveries.swap(0, 7);
    check(&journal, &deliveries).assert_exact("different keys, and a row without a place");
}

#[test]
fn a_second_delivery_is_a_duplicate_wherever_it_comes() {
    let journal = journal(100, 7);
    let mut deliveries = deliver_all(&journal);
    deliveries.push(deliver(0, &journal[0]));
    let report = check(&journal, &deliveries);
    assert!(report.is_exact());
    assert_eq!((report.duplicates, report.identical), (1, 1));
}

#[test]
fn a_duplicate_with_other_bytes_or_another_id_is_not_identical() {
    let journal = journal(100, 7);
    let mut bytes = deliver(0, &journal[0]);
    bytes.digest[0] ^= 1;
    let mut id = deliver(0, &journal[0]);
    id.message_id = Some(Uuid::from_u128(u128::MAX));
    for odd in [bytes, id] {
        let mut deliveries = deliver_all(&journal);
        deliveries.push(odd);
        let report = check(&journal, &deliveries);
        assert_eq!((report.duplicates, report.identical), (1, 0));
        assert_eq!(report.phantom.len(), 1, "nobody committed that");
    }
}

#[test]
#[should_panic(expected = "out of order: Inversion")]
fn the_assertion_shows_examples() {
    let journal = journal(20, 2);
    let mut deliveries = deliver_all(&journal);
    deliveries.swap(0, 2);
    check(&journal, &deliveries).assert_exact("swapped");
}

proptest! {
    /// Whatever is done to a correct run, exactly that is found.
    #[test]
    fn finds_what_was_done(
        count in 1..80usize,
        keys in 1..6usize,
        dropped in prop::collection::hash_set(0..80usize, 0..10),
        repeated in prop::collection::vec(0..80usize, 0..10),
        invented in 0..5usize,
    ) {
        let journal = journal(count, keys);
        let mut deliveries: Vec<_> = deliver_all(&journal)
            .into_iter()
            .enumerate()
            .filter(|(n, _)| !dropped.contains(n))
            .map(|(_, delivery)| delivery)
            .collect();
        let lost = journal.len() - deliveries.len();
        let mut duplicates = 0;
        for n in repeated {
            if n < count && !dropped.contains(&n) {
                deliveries.push(deliver(n, &journal[n]));
                duplicates += 1;
            }
        }
        for n in 0..invented {
            let mut delivery = deliver(1000 + n, &journal[0]);
            delivery.message_id = Some(Uuid::from_u128(5000 + n as u128));
            deliveries.insert(n.min(deliveries.len()), delivery);
        }
        let report = check(&journal, &deliveries);
        prop_assert_eq!(report.lost.len(), lost);
        prop_assert_eq!(report.phantom.len(), invented);
        prop_assert_eq!((report.duplicates, report.identical), (duplicates, duplicates));
        prop_assert!(report.reordered.is_empty());
        prop_assert_eq!(report.is_exact(), lost + invented == 0);
    }

    /// A shuffle of the deliveries is in order exactly when no key's places go down.
    #[test]
    fn finds_every_disorder(order in Just((0..24usize).collect::<Vec<_>>()).prop_shuffle()) {
        let journal = journal(24, 4);
        let deliveries: Vec<_> = order.iter().map(|&n| deliver(n, &journal[n])).collect();
        let disorder = (0..4).any(|key| {
            let places: Vec<_> = order.iter().filter(|&&n| n % 4 == key).collect();
            !places.is_sorted()
        });
        prop_assert_eq!(!check(&journal, &deliveries).is_exact(), disorder);
    }
}

#[test]
fn a_duplicate_that_does_not_say_so_is_counted() {
    let journal = journal(3, 1);
    let mut deliveries = deliver_all(&journal);
    let again = |n: usize, resent: Option<&str>| Delivery {
        resent: resent.map(str::to_owned),
        ..deliver(n, &journal[n])
    };
    deliveries.extend([again(0, Some("takeover")), again(1, None)]);
    let report = check(&journal, &deliveries);
    assert_eq!((report.duplicates, report.identical, report.unsaid), (2, 2, 1));
}

#[test]
fn two_parts_add_up() {
    let journal = journal(10, 2);
    let (first, second) = journal.split_at(4);
    let mut sum = check(first, &deliver_all(first));
    sum.add(check(second, &[]));
    assert_eq!((sum.committed, sum.received, sum.lost.len()), (10, 4, 6));
    assert_eq!(sum.latencies_us.len(), 4);
}
