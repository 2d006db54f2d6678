//! What makes a cell unclean, and what a silence is.

use uuid::Uuid;

use super::{Line, Outcome, longest_silence, take_over};
use crate::support::checker::{Delivery, Inversion, Phantom, Report};

fn clean() -> Line {
    let report = Report { duplicates: 3, identical: 3, ..Report::default() };
    Line {
        target: "amqp",
        report,
        lost: 0,
        dead: 1,
        blamed: 0,
        excused: 0,
        duplicates_max: 3,
        fenced: true,
        recovery_us: None,
        failover_us: Vec::new(),
    }
}

fn outcome(line: Line) -> Outcome {
    Outcome { lines: vec![clean(), line], problems: Vec::new(), log: String::new() }
}

#[test]
fn each_mistake_makes_a_cell_unclean() {
    assert!(outcome(clean()).is_clean());
    let inversion = Inversion { key: "a".into(), counter: 1, after: 2 };
    let report = clean().report;
    let reports = [
        Report { phantom: vec![Phantom::Unknown(None)], ..report.clone() },
        Report { reordered: vec![inversion.clone()], ..report.clone() },
        Report { identical: 2, ..report.clone() },
        Report { duplicates: 4, identical: 4, ..report.clone() },
        Report { unsaid: 1, ..report.clone() },
    ];
    let mut lines: Vec<Line> = reports.map(|report| Line { report, ..clean() }).into();
    lines.extend([Line { lost: 1, ..clean() }, Line { blamed: 1, ..clean() }]);
    for line in lines {
        assert!(!line.is_clean(), "{line:?}");
        assert!(!outcome(line).is_clean());
    }
    assert!(!Outcome { problems: vec!["it hung".into()], ..outcome(clean()) }.is_clean());
}

#[test]
fn what_is_excused_is_as_much_as_there_is() {
    let inversion = Inversion { key: "a".into(), counter: 1, after: 2 };
    let report = Report { reordered: vec![inversion], ..clean().report };
    assert!(Line { report, excused: 1, ..clean() }.is_clean());
    let report = Report { unsaid: 1, ..clean().report };
    assert!(Line { report, fenced: false, ..clean() }.is_clean());
}

#[test]
fn a_silence_spans_the_strike_or_comes_after_it() {
    let at = |n: u128, received_at_us| Delivery {
        relay: None,
        message_id: Some(Uuid::from_u128(n)),
        row_id: None,
        digest: [0; 32],
        resent: None,
        received_at_us,
    };
    // The second 3 is a duplicate: it ends no silence.
    let deliveries = [at(1, 0), at(2, 100), at(3, 110), at(3, 150), at(4, 200), at(5, 210)];
    assert_eq!(longest_silence(&deliveries, 105, i64::MAX), Some(90));
    assert_eq!(longest_silence(&deliveries, 50, 105), Some(100));
    assert_eq!(longest_silence(&deliveries, 205, i64::MAX), Some(10));
    assert_eq!(longest_silence(&deliveries, 300, i64::MAX), None);
}

#[test]
fn a_take_over_lasts_from_the_last_of_the_old_to_the_first_of_the_new() {
    let by = |relay: &str, received_at_us| Delivery {
        relay: Some(relay.into()),
        message_id: None,
        row_id: None,
        digest: [0; 32],
        resent: None,
        received_at_us,
    };
    // What the old one sends behind the new one counts for nothing, nor does a later silence.
    let deliveries =
        [by("a", 10), by("a", 30), by("b", 45), by("a", 50), by("b", 900), by("c", 910)];
    assert_eq!(take_over(&deliveries, 20, i64::MAX), Some(15));
    assert_eq!(take_over(&deliveries, 20, 40), None);
    assert_eq!(take_over(&deliveries, 905, i64::MAX), Some(10));
    assert_eq!(take_over(&deliveries, 5, i64::MAX), None);
}
