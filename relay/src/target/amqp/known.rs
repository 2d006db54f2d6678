//! What is known of exchanges and routing keys, and so which way a message may take. Pure.
//!
//! RabbitMQ answers a publish to a missing or forbidden place by closing the channel, and everything
//! in flight on it has to be sent again. So a message goes on the channel that carries others only if
//! its place is *proven* (a message went there lately), or if its exchange is there and no refusal has
//! cast doubt on it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::classify::Blame;
use crate::target::Trouble;

/// Places that are remembered as proven, by hash: 256 kB. A place whose slot another one took is
/// proven again by its next confirm, and if its exchange is in doubt by a try of its own.
const PROVEN_MAX: usize = 1 << 15;

/// Exchanges that are remembered. A template may name millions; what is forgotten is looked for again.
const EXCHANGES_MAX: usize = 30_000;

/// So long a missing exchange is not looked for again because of a further message.
const MISSING_FOR: Duration = Duration::from_secs(1);

/// So long after the last refusal of a routing key each new one of the exchange is tried alone.
const DOUBT_FOR: Duration = Duration::from_secs(600);

/// The way that a message may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// On the channel that carries the others. The number is the place's, for [`Known::proven`].
    Main(u64),
    /// Nothing is known of its exchange: the broker has to be asked.
    Look,
    /// Alone: it is to find something out, and may be refused.
    Side,
    /// Nowhere for now.
    Refuse(Trouble, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// A passive declaration found it, or a message went there.
    There,
    Missing {
        until: Instant,
        reason: String,
    },
    /// A routing key was refused: unproven ones are tried alone.
    Doubted {
        until: Instant,
    },
    /// Writing is refused, whatever the routing key.
    Closed {
        reason: String,
    },
}

/// How an exchange treats `mandatory`, once that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What it returns it has not delivered.
    Ordinary,
    /// It returns what it delivers later (x-delayed-message), or the broker does not tell this user.
    Delays,
}

/// Everything known of one target's places.
#[derive(Debug)]
pub(super) struct Known {
    /// Seeded anew in each process: nobody can choose names whose hashes collide.
    hasher: RandomState,
    proven: Box<[u64]>,
    exchanges: HashMap<Box<str>, State>,
    /// Of exchanges that returned a message with a delay.
    kinds: HashMap<Box<str>, Kind>,
    /// A refusal that no name could be read from: every exchange is in doubt until then.
    all_doubted: Option<Instant>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            proven: vec![0; PROVEN_MAX].into_boxed_slice(),
            exchanges: HashMap::new(),
            kinds: HashMap::new(),
            all_doubted: None,
        }
    }
}

impl Known {
    /// The way of a message; `probe` says that it is sent to find out.
    pub(super) fn way(&self, exchange: &str, routing_key: &str, probe: bool, now: Instant) -> Way {
        let place = self.place(exchange, routing_key);
        if self.proven[Self::slot(place)] == place {
            return Way::Main(place);
        }
        let all_doubted = self.all_doubted.is_some_and(|until| now < until);
        let doubted = || match probe {
            true => Way::Side,
            false => Way::Refuse(
                Trouble::Untried,
                "the broker refused a routing key of this exchange: each one that no message \
                 has used lately is tried alone first"
                    .into(),
            ),
        };
        match self.exchanges.get(exchange) {
            Some(State::Doubted { until }) if now < *until => doubted(),
            Some(State::Closed { .. }) if probe => Way::Side,
            Some(State::Closed { reason }) => Way::Refuse(Trouble::Forbidden, reason.clone()),
            Some(State::Missing { until, reason }) if !probe && now < *until => {
                Way::Refuse(Trouble::Missing, reason.clone())
            }
            Some(State::There | State::Doubted { .. }) if !all_doubted => Way::Main(place),
            // The default exchange is always there.
            None if exchange.is_empty() && !all_doubted => Way::Main(place),
            Some(State::There | State::Doubted { .. }) => doubted(),
            None if exchange.is_empty() => doubted(),
            _ if probe && all_doubted => Way::Side,
            // A probe too: once the exchange is found it may go with the others.
            _ => Way::Look,
        }
    }

    fn place(&self, exchange: &str, routing_key: &str) -> u64 {
        // 0 is an empty slot.
        self.hasher.hash_one((exchange, routing_key)).max(1)
    }

    fn slot(place: u64) -> usize {
        usize::try_from(place).unwrap_or_default() % PROVEN_MAX
    }

    /// A message went there: the exchange exists and the user may write. (It may have been returned
    /// or refused by a queue, which harms no other message.)
    pub(super) fn proven(&mut self, place: u64) {
        self.proven[Self::slot(place)] = place;
    }

    /// The same, of a message that was tried alone.
    pub(super) fn tried(&mut self, exchange: &str, routing_key: &str, now: Instant) {
        let place = self.place(exchange, routing_key);
        self.proven(place);
        match self.exchanges.get(exchange) {
            // One routing key may be written to: the others are tried one by one.
            Some(State::Closed { .. }) => self.doubt(exchange, now),
            Some(State::Doubted { .. } | State::There) => {}
            Some(State::Missing { .. }) | None => self.put(exchange, State::There),
        }
    }

    /// A passive declaration found the exchange. It says nothing of permissions.
    pub(super) fn found(&mut self, exchange: &str) {
        if matches!(self.exchanges.get(exchange), None | Some(State::Missing { .. })) {
            self.put(exchange, State::There);
        }
    }

    /// The broker has no such exchange.
    pub(super) fn missing(&mut self, exchange: &str, reason: String, now: Instant) {
        self.kinds.remove(exchange);
        self.put(exchange, State::Missing { until: now + MISSING_FOR, reason });
    }

    /// A message that was tried alone was refused for its place.
    pub(super) fn refused(
        &mut self,
        exchange: &str,
        trouble: Trouble,
        reason: String,
        now: Instant,
    ) {
        match trouble {
            Trouble::Missing => self.missing(exchange, reason, now),
            Trouble::Forbidden => self.put(exchange, State::Closed { reason }),
            Trouble::ForbiddenKey => self.doubt(exchange, now),
            _ => {}
        }
    }

    /// The channel that carries the others was closed over one of them.
    pub(super) fn blamed(&mut self, blame: &Blame, reason: &str, now: Instant) {
        match blame {
            // Which ones were deleted, and how many, is not known: all are looked for again.
            Blame::Missing => {
                self.exchanges.retain(|_, state| *state != State::There);
                self.proven.fill(0);
            }
            Blame::Key { place: Some((exchange, routing_key)) } => {
                let place = self.place(exchange, routing_key);
                let slot = Self::slot(place);
                if self.proven[slot] == place {
                    // The permission was taken away.
                    self.proven[slot] = 0;
                }
                self.doubt(exchange, now);
            }
            Blame::Exchange { name: Some(name) } => {
                self.put(name, State::Closed { reason: reason.to_owned() });
                self.proven.fill(0);
            }
            // The broker cuts its texts at 255 bytes, and a name may look like the words around it.
            Blame::Key { place: None } | Blame::Exchange { name: None } => {
                self.all_doubted = Some(now + DOUBT_FOR);
                self.proven.fill(0);
            }
        }
    }

    /// What was asked about the exchange.
    pub(super) fn kind(&self, exchange: &str) -> Option<Kind> {
        if exchange.is_empty() {
            // The default exchange is a direct one.
            return Some(Kind::Ordinary);
        }
        self.kinds.get(exchange).copied()
    }

    /// Whether anything was asked about any exchange.
    pub(super) fn has_kinds(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// The broker has said (or not) what it is.
    pub(super) fn is_of_kind(&mut self, exchange: &str, kind: Kind) {
        if self.kinds.len() >= EXCHANGES_MAX {
            self.kinds.clear();
        }
        self.kinds.insert(exchange.into(), kind);
    }

    fn doubt(&mut self, exchange: &str, now: Instant) {
        self.put(exchange, State::Doubted { until: now + DOUBT_FOR });
    }

    fn put(&mut self, exchange: &str, state: State) {
        if self.exchanges.len() >= EXCHANGES_MAX && !self.exchanges.contains_key(exchange) {
            let lasting =
                |state: &State| matches!(state, State::Doubted { .. } | State::Closed { .. });
            self.exchanges.retain(|_, state| lasting(state));
            if self.exchanges.len() >= EXCHANGES_MAX
                && let State::Doubted { until } = state
            {
                // More refused ones than are remembered: then all are in doubt.
                self.exchanges.clear();
                self.all_doubted = Some(until);
            }
        }
        if self.exchanges.len() < EXCHANGES_MAX || self.exchanges.contains_key(exchange) {
            self.exchanges.insert(exchange.into(), state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(exchange: &str, routing_key: &str) -> Blame {
        Blame::Key { place: Some((exchange.into(), routing_key.into())) }
    }

    #[test]
    fn an_exchange_is_looked_for_once() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert_eq!(known.way("orders", "a", false, now), Way::Look);
        assert_eq!(known.way("orders", "a", true, now), Way::Look);
        known.found("orders");
        assert!(matches!(known.way("orders", "a", false, now), Way::Main(_)));
        assert!(matches!(known.way("orders", "b", true, now), Way::Main(_)));
        assert!(matches!(known.way("", "queue", false, now), Way::Main(_)), "always there");
    }

    #[test]
    fn a_missing_exchange_is_refused_and_soon_looked_for_again() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.missing("orders", "404".into(), now);
        let refused = Way::Refuse(Trouble::Missing, "404".into());
        assert_eq!(known.way("orders", "a", false, now), refused);
        assert_eq!(known.way("orders", "a", true, now), Way::Look);
        assert_eq!(known.way("orders", "a", false, now + MISSING_FOR), Way::Look);
    }

    #[test]
    fn a_404_voids_what_was_known() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.found("orders");
        let Way::Main(place) = known.way("orders", "a", false, now) else { panic!() };
        known.proven(place);
        known.blamed(&Blame::Missing, "404", now);
        assert_eq!(known.way("orders", "a", false, now), Way::Look);
    }

    #[test]
    fn after_a_refused_key_only_proven_ones_go_with_the_others() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.found("orders");
        known.found("stock");
        let Way::Main(place) = known.way("orders", "ok", false, now) else { panic!() };
        known.proven(place);
        known.blamed(&key("orders", "no"), "403", now);
        assert_eq!(known.way("orders", "ok", false, now), Way::Main(place));
        let untried = |way| matches!(way, Way::Refuse(Trouble::Untried, _));
        assert!(untried(known.way("orders", "new", false, now)));
        assert_eq!(known.way("orders", "new", true, now), Way::Side);
        assert!(matches!(known.way("stock", "new", false, now), Way::Main(_)), "not concerned");

        known.tried("orders", "new", now);
        assert!(matches!(known.way("orders", "new", false, now), Way::Main(_)));
        // The permission of a proven one is taken away.
        known.blamed(&key("orders", "ok"), "403", now);
        assert!(untried(known.way("orders", "ok", false, now)));
        let later = now + DOUBT_FOR;
        assert!(matches!(known.way("orders", "ok", false, later), Way::Main(_)), "trusted again");
    }

    #[test]
    fn a_closed_exchange_is_open_key_by_key() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.found("orders");
        known.blamed(&Blame::Exchange { name: Some("orders".into()) }, "403", now);
        let refused = Way::Refuse(Trouble::Forbidden, "403".into());
        assert_eq!(known.way("orders", "a", false, now), refused);
        assert_eq!(known.way("orders", "a", true, now), Way::Side);
        known.tried("orders", "a", now);
        assert!(matches!(known.way("orders", "a", false, now), Way::Main(_)));
        assert!(matches!(known.way("orders", "b", false, now), Way::Refuse(Trouble::Untried, _)));
    }

    #[test]
    fn a_refusal_without_a_name_casts_doubt_on_all() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.found("orders");
        known.blamed(&Blame::Key { place: None }, "403", now);
        for exchange in ["orders", ""] {
            let way = known.way(exchange, "a", false, now);
            assert!(matches!(way, Way::Refuse(Trouble::Untried, _)), "{exchange}");
            assert_eq!(known.way(exchange, "a", true, now), Way::Side);
        }
        known.tried("", "a", now);
        assert!(matches!(known.way("", "a", false, now), Way::Main(_)));
    }

    #[test]
    fn i8_the_memory_of_exchanges_is_bounded() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.blamed(&key("doubted", "x"), "403", now);
        for n in 0..3 * EXCHANGES_MAX {
            known.found(&n.to_string());
            known.missing(&format!("missing {n}"), "404".into(), now);
        }
        assert!(known.exchanges.len() <= EXCHANGES_MAX);
        assert_eq!(known.way("doubted", "x", true, now), Way::Side, "a refusal is not forgotten");
        for n in 0..2 * EXCHANGES_MAX {
            known.blamed(&key(&n.to_string(), "x"), "403", now);
        }
        assert!(known.exchanges.len() <= EXCHANGES_MAX);
        let way = known.way("another", "x", true, now);
        assert_eq!(way, Way::Side);
    }
}
