//! `outbox-relay inbox maintain | stats`

use std::time::Duration;

use anyhow::anyhow;
use outbox_inbox::maintenance::{self, Report, Stats};

use super::place::{PlaceArgs, connect};
use crate::command::{age, link, output};
use crate::config::Config;
use crate::exit::Failure;

/// Arguments of `inbox maintain`.
#[derive(Debug, clap::Args)]
pub struct MaintainArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// So long a processed message is remembered, in whole days; as configured without it.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    retention: Option<Duration>,
    /// So many days ahead have their partition; as configured without it.
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    ahead: Option<Duration>,
    /// The longest wait for handlers that are in a partition which is to go; as configured without it.
    #[arg(long, value_name = "TIME", value_parser = age::parse)]
    detach_timeout: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `inbox stats`.
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn maintain(
    args: MaintainArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let mut inbox = args.place.inbox(load)?;
    inbox.retention = args.retention.unwrap_or(inbox.retention);
    inbox.ahead = args.ahead.unwrap_or(inbox.ahead);
    inbox.detach_timeout = args.detach_timeout.unwrap_or(inbox.detach_timeout);
    let (session, schema) = connect(&inbox).await?;
    let report = maintenance::maintain(&session, &schema, &inbox.settings()).await;
    match report.map_err(link::in_database)? {
        Some(report) => Ok(output::answer(args.json, &report, || render(&report))?),
        None => Err(anyhow!("another run is at it\nhint: nothing is to be done").into()),
    }
}

pub(super) async fn stats(
    args: StatsArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (session, schema) = args.place.connect(load).await?;
    let stats = maintenance::stats(&session, &schema).await.map_err(link::in_database)?;
    Ok(output::answer(args.json, &stats, || render_stats(&stats))?)
}

fn render(report: &Report) -> String {
    let Report { made, dropped, waiting, undated, failures, idempotency_keys } = report;
    let mut text = format!(
        "made {made} partitions, removed {}; expired: {undated} ids without a day, {failures} failures, {idempotency_keys} idempotency keys\n",
        dropped.len()
    );
    if let Some(name) = waiting {
        text.push_str(&format!("a handler is in {name}: it goes at a later run\n"));
    }
    text
}

fn render_stats(stats: &Stats) -> String {
    let maintained = stats.maintained_at.map_or("never", |_| "yes");
    format!(
        "partitions ahead  {} days\nkept from         {}\nrows              {} (estimated)\nbytes             {}\nretrying          {}\nparked            {}\nmaintained        {maintained}\nkeys in progress  {}\nkeys lost         {}\n",
        stats.partitions_ahead,
        stats.kept_from,
        stats.rows_estimated,
        stats.bytes,
        stats.retrying,
        stats.parked,
        stats.keys_in_progress,
        stats.keys_expired,
    )
}
