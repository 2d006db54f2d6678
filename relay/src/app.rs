//! The composition root: builds every part, then runs them. Nothing else starts tasks that outlive
//! a pipeline.

use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::config::{BrokerConfig, Config};
use crate::exit::Failure;
use crate::http::Http;
use crate::inbox;
use crate::keeper::Keeper;
use crate::membership::Membership;
use crate::notify::notify;
use crate::pipeline::{self, Context, Neighbours, PipelineError};
use crate::schema::Schema;
use crate::shutdown::{Ignored, Shutdown, Signals, escalate};
use crate::source::Bell;
use crate::target::amqp::AmqpTarget;
use crate::target::kafka::KafkaTarget;
use crate::telemetry::recorder;

/// The daemon, built and not started.
#[derive(Debug)]
pub struct App {
    config: Config,
    schema: Schema,
    board: Board,
    shutdown: Shutdown,
}

impl App {
    /// Builds everything that can be built without a connection.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn build(config: Config) -> Result<Self, Failure> {
        let schema = config.database.schema.parse::<Schema>().map_err(Failure::configuration)?;
        let board = Board::new(config.targets.iter().map(|target| target.name.as_str()));
        Ok(Self { config, schema, board, shutdown: Shutdown::default() })
    }

    /// Runs until a signal, or until a part ends for good; then everything is joined.
    ///
    /// # Errors
    /// What made it end, if that was not a signal.
    pub async fn run(self) -> Result<(), Failure> {
        let Self { config, schema, board, shutdown } = self;
        let signals = Signals::listen()?;
        let ignored = Ignored::listen()?;
        let stopped = CancellationToken::new();
        let mut background = JoinSet::new();
        background.spawn(escalate(signals, shutdown.clone(), config.shutdown.grace));
        background.spawn(ignored.tell());
        let http = match &config.http {
            // Before everything that counts: what is counted before there is a recorder is lost.
            Some(http) => Some((Http::bind(http).await?, recorder::install()?)),
            None => None,
        };
        let mut telling = JoinSet::new();
        telling.spawn(notify(board.clone(), shutdown.stop.clone(), stopped.clone()));
        let (bell, bell_handle) = Bell::new(config.database.clone(), schema.clone());
        background.spawn(bell.run(stopped.clone()));
        if let Some((http, metrics)) = http {
            let (stop, stopped) = (shutdown.stop.clone(), stopped.clone());
            let bell = bell_handle.clone();
            background.spawn(http.serve(metrics, board.clone(), bell, stop, stopped));
        }
        background.spawn(keep(&config, &schema, shutdown.stop.clone()));

        if !config.inboxes.is_empty() {
            board.more_to_do();
        }
        for inbox in &config.inboxes {
            let schema = inbox.database.schema.parse::<Schema>().map_err(Failure::configuration)?;
            background.spawn(inbox::keep(inbox.clone(), schema, shutdown.stop.clone()));
        }

        let names = config.targets.iter().map(|target| target.name.clone()).collect();
        let (membership, member) =
            Membership::new(config.database.clone(), schema.clone(), config.lease.clone(), names);
        // Left before the pipelines end: what they let go is for the others.
        background.spawn(membership.run(shutdown.stop.clone()));

        let neighbours = Neighbours::new(&config.targets);
        let mut pipelines = JoinSet::new();
        for target in &config.targets {
            let context = Context {
                database: config.database.clone(),
                schema: schema.clone(),
                source: config.source.clone(),
                lease: config.lease.clone(),
                target: target.clone(),
                board: board.clone(),
                bell: bell_handle.clone(),
                member: member.clone(),
                neighbour: neighbours.of(&target.broker),
                proven: Arc::default(),
            };
            spawn(&mut pipelines, context, shutdown.clone());
        }
        let outcome = first_failure(&mut pipelines, &mut background, &shutdown).await;
        stopped.cancel();
        background.shutdown().await;
        // Not aborted like the others: its last word is still to be said.
        while telling.join_next().await.is_some() {}
        tracing::info!("{}", board.last_word());
        outcome
    }
}

/// Every process stands for election; one keeper a database is elected.
fn keep(
    config: &Config,
    schema: &Schema,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let keeper = Keeper {
        database: config.database.clone(),
        schema: schema.clone(),
        retention: config.retention.clone(),
        dead_ranges_max: config.source.dead_ranges_max,
        targets: config.targets.iter().map(|target| target.name.clone()).collect(),
        is_metered: config.http.is_some(),
    };
    async move { keeper.run(stop).await }
}

fn spawn(pipelines: &mut JoinSet<Result<(), PipelineError>>, context: Context, shutdown: Shutdown) {
    match context.target.broker.clone() {
        BrokerConfig::Amqp(broker) => {
            let (routes, window) =
                (context.target.routes.clone(), context.target.window_messages_max);
            let make = move |fence| AmqpTarget::new(broker.clone(), routes.clone(), window, fence);
            pipelines.spawn(pipeline::supervise(context, make, shutdown));
        }
        BrokerConfig::Kafka(broker) => {
            let routes = context.target.routes.clone();
            let make = move |fence| KafkaTarget::new(broker.clone(), routes.clone(), fence);
            pipelines.spawn(pipeline::supervise(context, make, shutdown));
        }
    }
}

/// Joins all pipelines. The first that ends with an error, or dies, stops the others: visibly, and
/// after they have settled what is confirmed. So does a death in the background: without a keeper or a
/// bell the relay would go on, and nobody would know that nothing is deleted any more.
async fn first_failure(
    pipelines: &mut JoinSet<Result<(), PipelineError>>,
    background: &mut JoinSet<()>,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    loop {
        let failure = tokio::select! {
            biased;
            Some(ended) = background.join_next() => match ended {
                // They end when they are told to.
                Ok(()) => continue,
                Err(panic) => Failure::from(anyhow::anyhow!("a part of the relay died: {panic}")),
            },
            ended = pipelines.join_next() => match ended {
                None => break,
                Some(Ok(Ok(()))) => continue,
                Some(Ok(Err(error @ PipelineError::Configuration { .. }))) => {
                    Failure::configuration(error)
                }
                Some(Ok(Err(error))) => Failure::from(error),
                Some(Err(panic)) => Failure::from(anyhow::anyhow!("a pipeline died: {panic}")),
            },
        };
        if outcome.is_ok() {
            outcome = Err(failure);
        }
        shutdown.stop.cancel();
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_death_in_the_background_ends_the_process_after_the_pipelines() {
        // GIVEN a pipeline that ends when it is told to, and a part that is over, one that dies
        let shutdown = Shutdown::default();
        let (mut pipelines, mut background) = (JoinSet::new(), JoinSet::new());
        let stop = shutdown.stop.clone();
        pipelines.spawn(async move {
            stop.cancelled().await;
            Ok(())
        });
        background.spawn(async {});
        background.spawn(async { panic!("out of ink") });
        // WHEN / THEN
        let failure = first_failure(&mut pipelines, &mut background, &shutdown).await;
        let failure = failure.expect_err("somebody died").to_string();
        assert!(failure.contains("a part of the relay died"), "{failure}");
    }
}
