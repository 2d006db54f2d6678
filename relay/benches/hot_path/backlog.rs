//! A backlog that is drained by a flow, without a database or a broker.

use std::time::{Duration, Instant};

use outbox_relay::flow::{Begin, Flow, FreshRead, FreshRow, Past, Policy};
use outbox_relay::ledger::progress::Progress;
use outbox_relay::message::{Message, Parts};
use outbox_relay::range::RangeSet;
use outbox_relay::route::{Destination, RouteConfig};
use outbox_relay::target::{Event, Submission, wire};
use uuid::Uuid;

/// Rows of one read.
const BATCH_ROWS: usize = 700;
/// Confirms come in batches of one partition each.
const PARTITIONS: u64 = 3;

/// Rows that were read, and the flow that is to send them.
pub(super) struct Backlog {
    flow: Flow,
    reads: Vec<FreshRead>,
}

impl Backlog {
    pub(super) fn new(rows: i64) -> Self {
        let ids: Vec<i64> = (1..=rows).collect();
        let read = |ids: &[i64]| FreshRead {
            as_of: 0,
            rows: ids.iter().map(|&id| row(id)).collect(),
            opened: vec![],
            dead: vec![],
            caught_up: true,
        };
        let begin = Begin {
            progress: Progress::new(RangeSet::new(), RangeSet::new()),
            takeover_id: None,
            parked: vec![],
            past: Past::default(),
            routes_changed: false,
            unrouted: vec![],
        };
        let flow = Flow::new(Policy::default(), vec![route("*")].into(), begin, 1);
        Self { flow, reads: ids.chunks(BATCH_ROWS).map(read).collect() }
    }

    /// Sends, encodes, confirms and marks everything; returns how many rows were settled.
    pub(super) fn drain(self) -> u64 {
        let Self { mut flow, reads } = self;
        flow.on_connected();
        let mut now = Instant::now();
        let mut bytes = 0;
        for read in reads {
            flow.on_read(read, now);
            let mut partitions: [Vec<Event>; PARTITIONS as usize] = Default::default();
            while let Some(submission) = flow.next_send(now) {
                wire::headers(&submission, &[], |_, value| bytes += value.map_or(0, <[u8]>::len))
                    .expect("they are legal");
                let partition = submission.ticket % PARTITIONS;
                partitions[partition as usize].push(Event::Confirmed(submission.ticket));
            }
            partitions.into_iter().flatten().for_each(|event| flow.on_event(event));
            now += Duration::from_millis(5);
            if let Some(mark) = flow.take_mark(now) {
                flow.on_marked(&mark, 1);
            }
            flow.take_freed();
        }
        assert!(bytes > 0 && !flow.has_marks());
        flow.counters().confirmed
    }
}

pub(super) fn message(id: i64) -> Message {
    Message::new(Parts {
        id,
        message_id: Uuid::from_u128(id.unsigned_abs().into()),
        created_at_us: 1_700_000_000_123_456,
        topic: "order.placed",
        key: Some("customer-4711"),
        kind: Some("OrderPlaced"),
        headers: Some(
            r#"{"tenant": "a", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-01"}"#,
        ),
        payload: Some(&[b'x'; 300]),
        oversize_bytes: None,
    })
}

pub(super) fn submission(id: i64) -> Submission {
    Submission {
        ticket: 1,
        message: message(id),
        route: 0,
        resent: None,
        replay: None,
        probe: false,
    }
}

pub(super) fn route(topic: &str) -> RouteConfig {
    RouteConfig {
        topic: topic.parse().expect("a pattern"),
        kind: None,
        destination: Destination::Kafka {
            topic: "{{ topic }}".parse().expect("a template"),
            headers: vec![],
        },
    }
}

fn row(id: i64) -> FreshRow {
    FreshRow { message: message(id), route: Some(0), held: false }
}
