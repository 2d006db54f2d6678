//! The loop of a pipeline: events into the flow, its commands out. It decides nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use super::driver::{Command, Report};
use super::feed::{Fed, Feed};
use super::link::Link;
use super::meter::Meter;
use super::neighbour::Neighbour;
use super::tally::Tally;
use super::trouble::Trouble;
use super::{Context, PipelineError};
use crate::board::State;
use crate::broker::{self, Broker};
use crate::cause::Cause;
use crate::crash;
use crate::flow::Flow;
use crate::lease::LeaseClock;
use crate::ledger::Mark;
use crate::shutdown::Shutdown;
use crate::target::{Broken, ConnectError, Event};

/// Marks are gathered this long when there is much to settle, or a row waits for the mark: at full speed
/// one then settles about a thousand messages, and a crash sends a few milliseconds' worth again.
const MARK_INTERVAL: Duration = Duration::from_millis(5);

/// And this long else: a mark costs the database about 0.1 ms, which RabbitMQ's messages feel on a
/// machine that they share, and nobody waits for it.
const MARK_INTERVAL_IDLE: Duration = Duration::from_millis(20);

/// What is confirmed when the daemon must end is settled under a deadline of its own.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// `retry` is looked at this often without a reason: the reader knows what falls due, and a mark asks
/// for what it changed, so this is only against a slip.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

const BLOCKED: &str = "the broker blocks its publishers (a memory or disk alarm)";

/// While `retry` is full, its rows are counted this often: an operator may have given some up.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// Submissions handed over at a time, so that the target encodes while the flow goes on.
const SUBMIT_MESSAGES: usize = 256;

pub(super) struct Steady<'a> {
    pub(super) context: &'a Context,
    pub(super) flow: Flow,
    pub(super) feed: Feed,
    pub(super) clock: LeaseClock,
    pub(super) link: Link,
    /// The other pipelines with this broker.
    pub(super) neighbour: Neighbour,
    pub(super) commands: UnboundedSender<Command>,
    pub(super) reports: UnboundedReceiver<Report>,
    pub(super) marks: Sender<Mark>,
    pub(super) marked: UnboundedReceiver<Mark>,
    /// The broker takes nothing for now, and says so.
    pub(super) blocked: Arc<AtomicBool>,
    /// What was last said of that.
    pub(super) was_blocked: bool,
    /// When the broker last gave a sign of life.
    pub(super) heard_at: Instant,
    pub(super) marking: bool,
    /// When the last mark was taken.
    pub(super) marked_at: Instant,
    /// When `retry` is looked at in any case.
    pub(super) retry_at: Instant,
    /// When the rows of `retry` are counted, if they are too many.
    pub(super) count_at: Instant,
    pub(super) tally: Tally,
    pub(super) meter: Meter,
    /// What the database refuses, though the sessions are well.
    pub(super) trouble: Trouble,
    /// What stands in the way of the next row: once all before it is settled, the pipeline stops.
    pub(super) obstacle: Option<PipelineError>,
    /// Where the settled messages went; `None`: not known yet.
    pub(super) broker: Option<Broker>,
    /// What the next mark notes of that.
    pub(super) broker_news: Option<Broker>,
}

/// What the loop woke for.
#[allow(clippy::large_enum_variant, reason = "one lives at a time, and a box would cost each mark")]
enum Wake {
    Report(Report),
    Fed(Fed),
    Marked(Box<Mark>),
    Ended(Result<(), PipelineError>),
    /// The broker has answered another pipeline.
    Answered,
    Time,
    Stop,
    Abort,
}

impl Steady<'_> {
    /// Runs until the daemon stops or a task ends.
    pub(super) async fn run(
        mut self,
        tasks: &mut JoinSet<Result<(), PipelineError>>,
        shutdown: &Shutdown,
    ) -> Result<(), PipelineError> {
        let outcome = self.until_end(tasks, shutdown).await;
        if matches!(
            outcome,
            Ok(()) | Err(PipelineError::Stopped { .. } | PipelineError::Configuration { .. })
        ) {
            // While the last mark is under way: the next leader waits for both.
            self.command(Command::Disconnect);
            self.settle_confirmed().await;
        }
        self.meter.show(&self.flow, self.feed.retry_rows());
        // With this its ends of the channels go: the driver disconnects, the writer lets the lock go.
        outcome
    }

    async fn until_end(
        &mut self,
        tasks: &mut JoinSet<Result<(), PipelineError>>,
        shutdown: &Shutdown,
    ) -> Result<(), PipelineError> {
        let mut stopping = false;
        loop {
            let now = Instant::now();
            self.guard(now);
            if !stopping {
                self.send(now);
            }
            self.mark(now);
            self.ask_retry(now);
            self.tally.say(self.flow.counters(), now);
            self.meter.show(&self.flow, self.feed.retry_rows());
            self.feed.release(self.flow.take_freed());
            if stopping && self.flow.in_flight() == 0 {
                return Ok(());
            }
            if self.flow.is_sent()
                && let Some(obstacle) = self.obstacle.take()
            {
                return Err(obstacle);
            }
            match self.wake(tasks, shutdown, stopping).await {
                Wake::Report(report) => self.on_report(report)?,
                Wake::Fed(Fed::Fresh(read, obstacle)) => {
                    self.flow.on_read(read, Instant::now());
                    self.obstacle = obstacle;
                }
                Wake::Fed(Fed::Retry { rows, as_of }) => self.flow.on_retry_rows(rows, as_of),
                Wake::Marked(mark) => self.on_marked(&mark),
                Wake::Ended(Err(error)) => return Err(error),
                Wake::Ended(Ok(())) => {
                    return Err(PipelineError::Lost("a task of the pipeline ended early".into()));
                }
                Wake::Answered => {
                    if self.link.hurry(Instant::now()) {
                        let name = &self.context.target.name;
                        tracing::info!(target_name = name, "the broker answers another target");
                    }
                }
                Wake::Time => {}
                Wake::Stop => {
                    stopping = true;
                    self.feed.stop();
                }
                Wake::Abort => return Ok(()),
            }
        }
    }

    async fn wake(
        &mut self,
        tasks: &mut JoinSet<Result<(), PipelineError>>,
        shutdown: &Shutdown,
        stopping: bool,
    ) -> Wake {
        let wake_at = self.wake_at();
        let pauses = self.link.pauses();
        tokio::select! {
            biased;
            () = shutdown.abort.cancelled() => Wake::Abort,
            () = shutdown.stop.cancelled(), if !stopping => Wake::Stop,
            Some(mark) = self.marked.recv() => Wake::Marked(Box::new(mark)),
            Some(report) = self.reports.recv() => Wake::Report(report),
            fed = self.feed.next(), if !stopping && self.obstacle.is_none() => match fed {
                Some(fed) => Wake::Fed(fed),
                None => ended(tasks).await,
            },
            () = self.neighbour.heard(), if pauses => Wake::Answered,
            () = tokio::time::sleep_until(wake_at.into()) => Wake::Time,
            wake = ended(tasks), if !stopping => wake,
        }
    }

    /// The next moment at which time alone changes something.
    fn wake_at(&self) -> Instant {
        let watchdog = self.watchdog_at();
        let mark = (self.flow.has_marks() && !self.marking).then(|| self.mark_at());
        let lease = self.link.is_up().then(|| self.clock.publish_until());
        // While the lease is in doubt nothing connects; `retry_at` looks again soon.
        let link = self.link.wake_at().filter(|_| self.clock.may_publish(Instant::now()));
        let probe = self.flow.probe_at().filter(|_| !self.marking).map(|at| at.max(self.mark_at()));
        let times = [watchdog, mark, lease, link, probe];
        times.into_iter().flatten().fold(self.retry_at, Instant::min)
    }

    /// When silence proves the connection dead: something is unconfirmed, and no outcome at all has
    /// come for `confirm_timeout`. A slow broker is not dead, nor one that says that it takes
    /// nothing for now (a memory or disk alarm).
    fn watchdog_at(&self) -> Option<Instant> {
        let oldest = self.flow.oldest_unconfirmed().filter(|_| self.link.is_up())?;
        Some(oldest.max(self.heard_at) + self.context.target.confirm_timeout)
    }

    /// Connects when it is time; stops publishing when the lease or the broker cannot be trusted.
    fn guard(&mut self, now: Instant) {
        let blocked = self.link.is_up() && self.blocked.load(Ordering::Relaxed);
        if blocked {
            self.heard_at = now;
        }
        self.show_blocked(blocked);
        self.show_trouble();
        if !self.clock.may_publish(now) {
            self.leave("the lease was not renewed in time");
        } else if self.watchdog_at().is_some_and(|at| now >= at) {
            self.leave("no confirm within confirm_timeout");
        } else if self.link.may_connect(now) {
            self.command(Command::Connect);
        }
    }

    /// Connected, and kept from publishing all the same: who asks is told.
    fn show_blocked(&mut self, blocked: bool) {
        if std::mem::replace(&mut self.was_blocked, blocked) == blocked || !self.link.is_up() {
            return;
        }
        let name = &self.context.target.name;
        let state = if blocked {
            tracing::warn!(target_name = name, "{BLOCKED}");
            State::Paused(BLOCKED.into())
        } else {
            tracing::info!(target_name = name, "the broker takes messages again");
            self.connected_state()
        };
        self.context.board.set(name, state);
    }

    /// Connected, and kept from settling or reading by the database.
    fn show_trouble(&mut self) {
        if self.trouble.has_changed() && self.link.is_up() && !self.was_blocked {
            self.context.board.set(&self.context.target.name, self.connected_state());
        }
    }

    fn connected_state(&self) -> State {
        self.trouble.cause().map_or(State::Leading, State::Waiting)
    }

    fn leave(&mut self, reason: &str) {
        if self.link.may_leave() {
            let name = &self.context.target.name;
            tracing::warn!(target_name = name, reason, "disconnecting from the broker");
            self.context.board.set(name, State::Paused(reason.into()));
            self.flow.on_broken(Broken { reason: reason.into(), suspect: None });
            self.command(Command::Disconnect);
        }
    }

    fn send(&mut self, now: Instant) {
        if !self.link.is_up() {
            return;
        }
        loop {
            let mut batch = Vec::new();
            while batch.len() < SUBMIT_MESSAGES
                && let Some(submission) = self.flow.next_send(now)
            {
                crash::point(crash::BEFORE_SEND);
                crash::sending(submission.message.id());
                batch.push(submission);
            }
            if batch.is_empty() {
                return;
            }
            self.command(Command::Submit(batch));
        }
    }

    fn mark(&mut self, now: Instant) {
        if self.marking || now < self.mark_at() {
            return;
        }
        self.take_mark(now);
    }

    fn take_mark(&mut self, now: Instant) {
        if let Some(mut mark) = self.flow.take_mark(now) {
            mark.broker = self.broker_news.take();
            self.marking = true;
            // The writer's channel holds one mark, and only one is ever under way.
            if self.marks.try_send(mark).is_err() {
                tracing::debug!("the writer has ended");
            }
        }
        self.marked_at = now;
    }

    fn mark_at(&self) -> Instant {
        let urgent = self.flow.is_mark_urgent();
        self.marked_at + if urgent { MARK_INTERVAL } else { MARK_INTERVAL_IDLE }
    }

    fn ask_retry(&mut self, now: Instant) {
        if self.feed.retry_rows().1 && now >= self.count_at {
            self.count_at = now + COUNT_INTERVAL;
            self.flow.count_retry();
        }
        // While nothing of it can be sent, a read would show the same rows each time.
        let useful = self.link.is_up() && !self.flow.has_retry_ready();
        let due = now >= self.retry_at;
        if due {
            self.retry_at = now + RETRY_INTERVAL;
        }
        if useful && (self.flow.take_retry_wanted() || due) {
            self.feed.ask_retry(self.flow.retry_in_hand());
        }
    }

    fn on_marked(&mut self, mark: &Mark) {
        crash::point(crash::AFTER_MARK);
        self.marking = false;
        self.tell_unrouted(mark);
        self.meter.marked();
        let number = self.feed.marked(mark);
        self.flow.on_marked(mark, number);
    }

    /// Once for each topic and type, as long as the routes hold.
    fn tell_unrouted(&self, mark: &Mark) {
        for noted in mark.unrouted.iter().filter(|noted| noted.open_from.is_some()) {
            tracing::info!(
                target_name = self.context.target.name,
                topic = noted.topic.as_deref().unwrap_or("(others)"),
                r#type = noted.kind,
                first_id = noted.first_id,
                "no route of this target takes the topic: its messages are settled unsent"
            );
        }
    }

    fn on_report(&mut self, report: Report) -> Result<(), PipelineError> {
        let name = &self.context.target.name;
        match report {
            // It was asked to disconnect meanwhile: that answer is still to come.
            Report::Connected(_) if !self.link.connected() => {}
            Report::Connected(broker) => {
                self.neighbour.answered();
                self.compare(broker)?;
                self.context.proven.store(true, Ordering::Relaxed);
                self.flow.on_connected();
                self.context.board.set(name, self.connected_state());
                tracing::info!(target_name = name, "connected to the broker");
            }
            Report::NotConnected(ConnectError::Configuration { reason, hint })
                if !self.context.proven.load(Ordering::Relaxed) =>
            {
                // The lead is given up: another relay may have a password that works.
                self.neighbour.answered();
                let reason = format!("target {name}: {reason}");
                return Err(PipelineError::Configuration { reason, hint });
            }
            Report::NotConnected(ConnectError::Fenced(reason)) => self.fenced(reason),
            Report::NotConnected(error) => {
                if matches!(error, ConnectError::Configuration { .. }) {
                    self.neighbour.answered();
                }
                self.paused(Cause::of(&error));
            }
            Report::Disconnected => {
                // Whatever was handed over after the request went nowhere.
                self.flow.on_broken(Broken { reason: String::new(), suspect: None });
                self.link.lost(Instant::now());
            }
            Report::Events(events) => self.on_events(events),
        }
        Ok(())
    }

    /// Before anything is sent: at another broker the ledger means nothing. What is not known yet is
    /// noted with the next mark, which is the first that counts there.
    fn compare(&mut self, present: Option<Broker>) -> Result<(), PipelineError> {
        let Some(present) = present else { return Ok(()) };
        let name = &self.context.target.name;
        if let Some((reason, hint)) = broker::refusal(name, self.broker.as_ref(), &present) {
            return Err(PipelineError::stopped(reason, hint));
        }
        if present.is_news(self.broker.as_ref()) {
            self.broker_news = Some(present.clone());
            self.broker = Some(present);
        }
        Ok(())
    }

    fn on_events(&mut self, events: Vec<Event>) {
        self.heard_at = Instant::now();
        for event in events {
            match &event {
                Event::Confirmed(_) => {
                    self.link.works();
                    crash::point(crash::AFTER_CONFIRM);
                }
                Event::Refused(_, refusal) => self.tally.refused(refusal),
                Event::Broken(broken) if broken.suspect.is_some() => self.spoiled(&broken.reason),
                Event::Broken(broken) => self.paused(broken.reason.as_str().into()),
            }
            self.flow.on_event(event);
        }
    }

    fn fenced(&mut self, reason: String) {
        let name = &self.context.target.name;
        if self.link.fenced(Instant::now()) {
            self.neighbour.answered();
            tracing::info!(target_name = name, reason, "waiting for the fence");
        }
        self.context.board.set(name, State::Paused(reason.into()));
    }

    /// A message made the broker end the channel.
    fn spoiled(&mut self, reason: &str) {
        let pause = self.link.spoiled(Instant::now());
        let target_name = &self.context.target.name;
        tracing::warn!(target_name, reason, ?pause, "the broker ended the channel over a message");
    }

    fn paused(&mut self, cause: Cause) {
        let name = &self.context.target.name;
        let pause = self.link.lost(Instant::now());
        // What another pipeline heard before this failure says nothing of the time after it.
        self.neighbour.forget();
        let Cause { reason, hint } = &cause;
        tracing::warn!(target_name = name, reason, hint, ?pause, "the broker is not available");
        self.context.board.set(name, State::Paused(cause));
    }

    /// What is confirmed is settled, whatever else is given up.
    async fn settle_confirmed(&mut self) {
        let deadline = tokio::time::Instant::now() + SETTLE_TIMEOUT;
        loop {
            if !self.marking {
                self.take_mark(Instant::now());
            }
            if !self.marking {
                return;
            }
            match tokio::time::timeout_at(deadline, self.marked.recv()).await {
                Ok(Some(mark)) => self.on_marked(&mark),
                Ok(None) | Err(_) => {
                    tracing::warn!("the last confirms could not be settled: they are sent again");
                    return;
                }
            }
        }
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("the driver has ended");
        }
    }
}

/// The first task to end, ends the pipeline.
async fn ended(tasks: &mut JoinSet<Result<(), PipelineError>>) -> Wake {
    match tasks.join_next().await {
        Some(Ok(outcome)) => Wake::Ended(outcome),
        Some(Err(panic)) => Wake::Ended(Err(PipelineError::Lost(format!("a task died: {panic}")))),
        None => std::future::pending().await,
    }
}
