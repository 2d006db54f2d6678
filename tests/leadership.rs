//! Who leads: fences, take-overs, sharing, and a database that moves.

use crate::support::checker::Delivery;
use crate::support::stage::Stage;

mod failover;
mod figure;
mod hang;
mod network;
mod permission;
mod share;
mod upgrade;

/// The tags of two relays, in the order in which they lead.
const OLD: &str = "1 old";
const NEW: &str = "2 new";

/// Everything that `OLD` published stands before everything that `NEW` published.
fn assert_not_interleaved(deliveries: &[Delivery]) {
    let relays: Vec<_> = deliveries.iter().map(|delivery| delivery.relay.as_deref()).collect();
    let count = |relay| relays.iter().filter(|found| **found == Some(relay)).count();
    let (old, new) = (count(OLD), count(NEW));
    assert!(old > 0 && new > 0 && old + new == relays.len(), "{old} by the old, {new} by the new");
    let late = relays
        .iter()
        .skip_while(|relay| **relay == Some(OLD))
        .position(|relay| *relay == Some(OLD));
    assert!(late.is_none(), "the old relay published among the messages of the new one");
}

/// The longest silence of a consumer, milliseconds: what a take-over costs. Printed, never asserted.
fn report_pause(what: &str, stage: &Stage) {
    for (name, consumer) in &stage.consumers {
        let times: Vec<_> = consumer.deliveries().iter().map(|d| d.received_at_us).collect();
        let pause = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        println!("{what}: the longest silence of {name} was {} ms", pause / 1000);
    }
}
