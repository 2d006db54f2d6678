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
use crate::support::progress::wait_settled;
use crate::support::relay::command;
use crate::support::rng::Rng;

/// What is left of a run that nothing strikes any more.
pub(crate) struct Running {
    relay: JoinSet<()>,
    stop: CancellationToken,
}

/// Everything twice under every fault, and once more when all is quiet.
pub(crate) async fn run(plan: &Plan) -> Verdict {
    let rig = Rig::set(plan, None).await;
    let mut rng = Rng::new(plan.seed);
    let schedule = Schedule::of(plan, &mut rng);
    let (mut ends, strikes) = (rng.fork(), rng.fork());
    // Each confirm of a batch is a pass.
    let passes_max = (plan.messages / 10).max(1) as u64;
    let passes = (0..plan.relay_crashes).map(|_| 1 + rng.below(passes_max) as usize).collect();

    let crew = Crew::start(&rig, || plan.ends(&mut ends));
    let running = Running::start(&rig, passes);
    let requests = rig.requests.connect().await;
    tokio::join!(schedule.run(&rig, &crew, strikes), async {
        request::write(&requests, plan).await;
        // Both brokers have everything once; now twice.
        wait_settled(&requests, TARGETS.len()).await;
        replay(&rig).await;
        wait_settled(&requests, TARGETS.len()).await;
    });
    consume(&rig, crew).await;
    let wanted = Wanted::read(&rig).await;
    let before = Found::read(&rig, &wanted).await;
    let mut verdict = Verdict::of(&wanted, &before, &rig.tally);
    verdict.dead_letters(wanted.poison.len(), dead_letters(&rig).await.len());
    verdict.faults(plan, &rig.tally);

    let had = rig.tally.of("duplicate");
    let crew = Crew::start(&rig, Vec::new);
    replay(&rig).await;
    wait_settled(&requests, TARGETS.len()).await;
    consume(&rig, crew).await;
    running.stop().await;
    let after = Found::read(&rig, &wanted).await;
    verdict.replayed(&before, &after, rig.tally.of("duplicate") - had);
    verdict.problems.extend(rig.tally.problems());
    verdict
}

impl Running {
    /// Starts the relay, which ends at each of these confirms first.
    pub(crate) fn start(rig: &Rig, passes: Vec<usize>) -> Self {
        let (stop, mut relay) = (CancellationToken::new(), JoinSet::new());
        let config = rig.relay.clone();
        relay.spawn(relay::supervise(config, passes, rig.tally.clone(), stop.clone()));
        Self { relay, stop }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.relay.join_all().await;
    }
}

/// Returns when everything was consumed and the consumers have gone.
pub(crate) async fn consume(rig: &Rig, mut crew: Crew) {
    loop {
        drain::wait(rig).await;
        crew.dismiss().await;
        // What they had in hand and could not settle is back by now.
        if drain::left(rig).await == Left::default() || !rig.tally.problems().is_empty() {
            return;
        }
        crew = Crew::start(rig, Vec::<(CrashPoint, u64)>::new);
    }
}

/// Publishes everything once more, under the same ids.
async fn replay(rig: &Rig) {
    for target in TARGETS {
        let arguments = ["replay", "--target", target, "--all", "--reason", "the proof"];
        let output = command(&rig.relay, &arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "outbox-relay replay: {errors}");
    }
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
