//! The four consumers, each a process, started again whenever it ends.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::crash::CrashPoint;
use super::rig::Rig;
use super::tally::Tally;
use super::{CONSUMER, CONTROL_VARIABLE};
use crate::support::patience::wait_for;
use crate::support::relay::signal;
use crate::support::services::Services;

const ABORTED: i32 = 6;
const KILLED: i32 = 9;

/// A message fails twice by the provider's fault at most: see there.
const ATTEMPTS_MAX: &str = "5";

pub(crate) const KILLED_BY_SIGNAL: &str = "consumer ended by kill -9, wherever it was";

/// The consumers of a run.
pub(crate) struct Crew {
    stop: CancellationToken,
    lives: JoinSet<()>,
    pids: Pids,
}

type Pids = Arc<Mutex<HashMap<String, u32>>>;

/// How a consumer is started.
struct Member {
    name: String,
    /// What it says of errors, in all its lives.
    log: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Crew {
    /// Starts all four; `ends`: where the lives of each but the last end.
    pub(crate) fn start(rig: &Rig, mut ends: impl FnMut() -> Vec<(CrashPoint, u64)>) -> Self {
        let (stop, mut lives, pids) = (CancellationToken::new(), JoinSet::new(), Pids::default());
        for member in members(rig) {
            let life = supervise(member, ends(), rig.tally.clone(), pids.clone(), stop.clone());
            lives.spawn(life);
        }
        Self { stop, lives, pids }
    }

    /// Ends one of them without a warning; the next one of that name is started at once.
    pub(crate) async fn kill(&self, number: usize) {
        let pid = {
            let pids = self.pids.lock().expect("nobody panics while holding the pids");
            let mut names: Vec<&String> = pids.keys().collect();
            names.sort_unstable();
            names.get(number % names.len().max(1)).map(|&name| pids[name])
        };
        let Some(pid) = pid else { return };
        // It may just have ended by itself.
        let mut kill = Command::new("kill");
        kill.args(["-KILL", &pid.to_string()]).stderr(Stdio::null());
        kill.status().await.expect("kill can be run");
    }

    /// Lets them finish what they have in hand. A panic of a supervisor is the run's.
    pub(crate) async fn dismiss(self) {
        self.stop.cancel();
        self.lives.join_all().await;
    }
}

fn members(rig: &Rig) -> Vec<Member> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let common = [
        &[CONSUMER, "--provider", &rig.provider.url, "--attempts-max", ATTEMPTS_MAX][..],
        &["--backoff-min-ms", "10", "--backoff-max-ms", "100", "--step-lease-ms", "500"],
        &["--concurrency", "8"],
    ]
    .concat();
    let rabbitmq = words(&[&common[..], &["rabbitmq", "--queue", &rig.amqp.queue]].concat());
    let kafka = [&common[..], &["kafka", "--topic", &rig.kafka.topic]].concat();
    let kafka = [&kafka[..], &["--group", &rig.kafka.topic, "--instance"]].concat();
    let mut environment = vec![
        ("PAYMENTS_DATABASE_URL", rig.payments_url.clone()),
        ("PAYMENTS_AMQP_URL", rig.amqp_url.clone()),
        ("PAYMENTS_KAFKA", rig.kafka.brokers.clone()),
    ];
    environment.extend(rig.mistake.map(|mistake| (CONTROL_VARIABLE, mistake.name().to_owned())));
    let member = |name: String, arguments| {
        let log = Services::folder().join(format!("proof-{}-{name}.log", rig.amqp.queue));
        Member { name, log, arguments, environment: environment.clone() }
    };
    let of_rabbitmq = (1..=2).map(|n| member(format!("rabbitmq-{n}"), rabbitmq.clone()));
    let of_kafka = (1..=2).map(|n| {
        let name = format!("kafka-{n}");
        let arguments = words(&[&kafka[..], &[&name]].concat());
        member(name, arguments)
    });
    of_rabbitmq.chain(of_kafka).collect()
}

/// One consumer, life after life.
async fn supervise(
    member: Member,
    ends: Vec<(CrashPoint, u64)>,
    tally: Arc<Tally>,
    pids: Pids,
    stop: CancellationToken,
) {
    let mut ends = ends.into_iter();
    while !stop.is_cancelled() {
        let end = ends.next();
        let mut child = member.spawn(end);
        let pid = child.id().expect("it was just started");
        let shared = || pids.lock().expect("nobody panics while holding the pids");
        shared().insert(member.name.clone(), pid);
        let life = live(&mut child, &tally);
        tokio::pin!(life);
        let (status, stopped) = tokio::select! {
            status = &mut life => (status, false),
            () = stop.cancelled() => {
                signal(pid, "TERM").await;
                (wait_for(&member.name, &mut life).await, true)
            }
        };
        shared().remove(&member.name);
        match (status.signal(), end) {
            (Some(ABORTED), Some((point, _))) => tally.count(point.about()),
            (Some(KILLED), _) => tally.count(KILLED_BY_SIGNAL),
            _ if stopped && status.success() => {}
            _ => {
                let (name, log) = (&member.name, member.log.display());
                tally.problem(format!("{name} ended with {status}; its log: {log}"));
                // It would do so again, and again.
                return;
            }
        }
    }
}

impl Member {
    fn spawn(&self, end: Option<(CrashPoint, u64)>) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        Command::new(program())
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(end.map(|(point, pass)| point.variable(pass)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a log can be opened"))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program().display()))
    }
}

/// Counts what it says until it ends.
async fn live(child: &mut Child, tally: &Tally) -> ExitStatus {
    let said = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(said).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tally.count(&line);
    }
    child.wait().await.expect("one's own child can be waited for")
}

/// This program, if it is the proof; a test's is beside the example that cargo has built with it.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own");
    if own.file_name().is_some_and(|name| name == "proof") {
        return own;
    }
    let built = own.parent().and_then(Path::parent).map(|folder| folder.join("examples/proof"));
    built
        .filter(|path| path.exists())
        .expect("examples/proof is built; hint: run ./dev test, or cargo build --example proof")
}
