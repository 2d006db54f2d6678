//! `outbox-relay inbox doctor`

use std::time::Duration;

use anyhow::anyhow;

use super::place::PlaceArgs;
use crate::admin::check::{self, Level};
use crate::admin::inbox::doctor::{self, Window};
use crate::command::{age, link, output};
use crate::config::Config;
use crate::exit::Failure;

/// Arguments of `inbox doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// How long Kafka keeps the consumed topics (`retention.ms`): compared with the inbox's retention.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    kafka_retention: Option<Duration>,
    /// How long a message may be a dead letter before somebody sends it again.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    dead_letter_ttl: Option<Duration>,
    /// How far back the producer's outbox can be replayed (`retention.keep` there).
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    outbox_retention: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    args: DoctorArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let windows: Vec<Window> = [
        ("kafka retention", args.kafka_retention),
        ("dead letters", args.dead_letter_ttl),
        ("outbox retention", args.outbox_retention),
    ]
    .into_iter()
    .filter_map(|(name, duration)| Some(Window { name, duration: duration? }))
    .collect();
    let (session, schema) = args.place.connect(load).await?;
    let findings = doctor::doctor(&session, &schema, &windows).await.map_err(link::in_database)?;
    output::answer(args.json, &findings, || crate::command::check::render(&findings))?;
    let failed = findings.iter().filter(|finding| finding.level >= Level::Down).count();
    match check::worst(&findings) {
        Level::Ok | Level::Warn => Ok(()),
        Level::Down | Level::Fail => {
            Err(Failure::Configuration(anyhow!("{failed} of {} checks failed", findings.len())))
        }
    }
}
