//! A run from its first request to its verdict.

use std::collections::HashSet;

use lapin::options::BasicGetOptions;
use lapin::{Connection, ConnectionProperties};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::crash::CrashPoint;
use super::crew::Crew;
use super::drain::{self, Left, short};
use super::fault::Schedule;
use super::found::{Found, Wanted};
use super::plan::Plan;
use super::rig::{Rig, TARGETS};
use super::verdict::Verdict;
use super::{relay, request};
use crate::support::patience::until;
use crate::support::relay::command;
use crate::support::rng::Rng;

/// What is left of a run that nothing strikes any more.
pub(crate) struct Running {
    relay: JoinSet<()>,
    stop: CancellationToken,
}

/// Everything under every fault, and once more when all is quiet.
pub(crate) async fn run(plan: &Plan) -> Verdict {
    let rig = Rig::set(plan, None).await;
    let mut rng = Rng::new(plan.seed);
    let schedule = Schedule::of(plan, &mut rng);
    let (ends, strikes) = (rng.fork(), rng.fork());
    // Each confirm is a pass, and there are two for a message.
    let passes_max = (plan.messages / 4).max(1) as u64;
    let passes = (0..plan.relay_crashes).map(|_| 1 + rng.below(passes_max) as usize).collect();

    let running = Running::start(&rig, passes);
    let verdict = async {
        step("messages by both brokers, and twice; consumers, relay, backends and connections end");
        let (wanted, before, mut verdict) = strike(plan, &rig, schedule, ends, strikes).await;
        step("everything once more, and nothing ends");
        let had = rig.tally.of("duplicate");
        let crew = Crew::start(&rig, Vec::new);
        replay(&rig, &["--all"]).await;
        consume(&rig, crew).await;
        let after = Found::read(&rig, &wanted).await;
        verdict.replayed(wanted.deliveries(), &before, &after, rig.tally.of("duplicate") - had);
        verdict
    };
    let mut verdict = running.while_it_runs(verdict).await;
    verdict.problems = rig.tally.problems();
    verdict
}

/// Everything, and half of it four times, under every fault.
async fn strike(
    plan: &Plan,
    rig: &Rig,
    schedule: Schedule,
    mut ends: Rng,
    strikes: Rng,
) -> (Wanted, Found, Verdict) {
    let crew = Crew::start(rig, || plan.ends(&mut ends));
    tokio::join!(schedule.run(rig, &crew, strikes), async {
        let requests = rig.requests.connect().await;
        request::write(&requests, plan).await;
        drain::wait_sent(rig).await;
        // What both brokers have had they get twice.
        replay(rig, &["--topic", request::BY_BOTH]).await;
    });
    consume(rig, crew).await;
    let wanted = Wanted::read(rig).await;
    let found = Found::read(rig, &wanted).await;
    let mut verdict = Verdict::of(&wanted, &found, &rig.tally);
    verdict.dead_letters(wanted.dead_letters, dead_letters(rig).await.len());
    verdict.faults(plan, &rig.tally);
    (wanted, found, verdict)
}

impl Running {
    /// Starts the relay, which ends at each of these confirms first.
    pub(crate) fn start(rig: &Rig, passes: Vec<usize>) -> Self {
        let (stop, mut relay) = (CancellationToken::new(), JoinSet::new());
        let config = rig.relay.clone();
        relay.spawn(relay::supervise(config, passes, rig.tally.clone(), stop.clone()));
        Self { relay, stop }
    }

    /// Ends the relay after `work`.
    ///
    /// # Panics
    /// If whoever keeps the relay alive has.
    pub(crate) async fn while_it_runs<T>(mut self, work: impl Future<Output = T>) -> T {
        let done = tokio::select! {
            done = work => done,
            ended = self.relay.join_next() => panic!("nobody keeps the relay alive: {ended:?}"),
        };
        self.stop.cancel();
        self.relay.join_all().await;
        done
    }
}

/// Returns when everything was sent and consumed, and the consumers have gone.
pub(crate) async fn consume(rig: &Rig, mut crew: Crew) {
    loop {
        drain::wait_consumed(rig).await;
        crew.dismiss().await;
        // What they had in hand and could not settle is back by now.
        if drain::left(rig).await == Left::default() || !rig.tally.problems().is_empty() {
            return;
        }
        crew = Crew::start(rig, Vec::<(CrashPoint, u64)>::new);
    }
}

/// Publishes what was sent once more, under the same ids.
async fn replay(rig: &Rig, choice: &[&str]) {
    for target in TARGETS {
        let arguments = [&["replay", "--target", target, "--reason", "the proof"], choice].concat();
        // A fault may end the backend of this very command. It is given again: a replay of a replay
        // changes nothing for the consumers.
        let replayed = until("a replay that no fault ends", async || {
            let output = command(&rig.relay, &arguments).await;
            let errors = String::from_utf8_lossy(&output.stderr);
            let ended = errors.contains("terminating connection due to administrator command");
            assert!(output.status.success() || ended, "outbox-relay replay: {errors}");
            output.status.success().then_some(())
        });
        Box::pin(replayed).await;
    }
}

fn step(what: &str) {
    println!("── {what}");
}

/// The ids of what RabbitMQ's consumers gave up.
async fn dead_letters(rig: &Rig) -> HashSet<String> {
    let read = async {
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&rig.dead_letters.url, properties).await?;
        let channel = connection.create_channel().await?;
        let mut ids = HashSet::new();
        let (queue, options) = (short(&rig.dead_letters.queue), BasicGetOptions { no_ack: true });
        while let Some(letter) = channel.basic_get(queue.clone(), options).await? {
            let id = letter.properties.message_id().as_ref();
            ids.insert(id.map(ToString::to_string).unwrap_or_default());
        }
        connection.close(200, short("done")).await?;
        Ok::<_, lapin::Error>(ids)
    };
    read.await.expect("the dead letters can be read")
}
