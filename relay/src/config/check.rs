//! From what was written to what the program needs: types, ranges, and what must fit together.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::default::*;
use super::duration::{format_duration, parse_duration};
use super::raw::{RawConfig, RawLease, RawLog, RawRetention, RawShutdown, RawSource, Setting};
use super::report::Report;
use super::section::Section;
use super::size::format_size;
use super::variable::Variables;
use super::{
    Config, LeaseConfig, LogConfig, LogFormat, RetentionConfig, ShutdownConfig, SourceConfig,
    database, http, inbox, target,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const MIB: usize = 1 << 20;

/// Checks everything; what is wrong is in the report, and the result counts only if nothing is.
pub(super) fn check(raw: &RawConfig, variables: &Variables, report: &mut Report) -> Config {
    let database = database::check(&raw.database.0, &mut Section::new(report, "database"));
    let source = source(&raw.source.0, &mut Section::new(report, "source"));
    let retention = retention(&raw.retention.0, &mut Section::new(report, "retention"));
    let lease = lease(&raw.lease.0, &mut Section::new(report, "lease"));
    let log = log(&raw.log.0, variables, report);
    let http = http::check(&raw.http.0, &mut Section::new(report, "http"));
    let shutdown = shutdown(&raw.shutdown.0, &mut Section::new(report, "shutdown"));
    if raw.target.is_empty() {
        report.no_target();
    }
    let targets = raw
        .target
        .iter()
        .filter_map(|(name, raw)| {
            let path = format!("target.{name}");
            target::check(name, &raw.0, &source, &mut Section::new(report, path))
        })
        .collect();
    let inboxes = raw
        .inbox
        .iter()
        .map(|(name, raw)| {
            inbox::check(name, &raw.0, &mut Section::new(report, format!("inbox.{name}")))
        })
        .collect();
    let (path, exposed) = (report.places.file().to_owned(), report.exposed());
    Config {
        path,
        database,
        source,
        retention,
        lease,
        log,
        http,
        shutdown,
        targets,
        inboxes,
        exposed,
    }
}

fn source(raw: &RawSource, s: &mut Section<'_>) -> SourceConfig {
    match s.text("mode", &raw.mode).as_deref() {
        Some("tail") => {
            s.refuse("mode", "not available yet", "write mode = \"poll\", or leave it out");
        }
        Some(_) => {
            s.choice("mode", &raw.mode, &[("poll", ())]);
        }
        None => {}
    }
    let source = SourceConfig {
        batch_rows_max: s.integer(
            "batch_rows_max",
            &raw.batch_rows_max,
            DEFAULT_BATCH_ROWS_MAX,
            1..=100_000,
        ),
        prefetch_rows_max: s.integer(
            "prefetch_rows_max",
            &raw.prefetch_rows_max,
            DEFAULT_PREFETCH_ROWS_MAX,
            1..=10_000_000,
        ),
        prefetch_bytes_max: s.size(
            "prefetch_bytes_max",
            &raw.prefetch_bytes_max,
            DEFAULT_PREFETCH_BYTES_MAX,
            MIB..=64 * 1024 * MIB,
        ),
        // PostgreSQL sends no longer field than 1 GiB, so neither could a row be read.
        row_bytes_max: s.size(
            "row_bytes_max",
            &raw.row_bytes_max,
            DEFAULT_ROW_BYTES_MAX,
            1..=512 * MIB,
        ),
        holes_max: s.integer("holes_max", &raw.holes_max, DEFAULT_HOLES_MAX, 100..=10_000_000),
        dead_ranges_max: s.integer(
            "dead_ranges_max",
            &raw.dead_ranges_max,
            DEFAULT_DEAD_RANGES_MAX,
            100..=10_000_000,
        ),
        poll_interval_min: s.duration(
            "poll_interval_min",
            &raw.poll_interval_min,
            DEFAULT_POLL_INTERVAL_MIN,
            MILLISECOND / 10..=SECOND * 60,
        ),
        poll_interval_max: s.duration(
            "poll_interval_max",
            &raw.poll_interval_max,
            DEFAULT_POLL_INTERVAL_MAX,
            MILLISECOND..=SECOND * 60,
        ),
        idle_read_interval: s.duration(
            "idle_read_interval",
            &raw.idle_read_interval,
            DEFAULT_IDLE_READ_INTERVAL,
            MILLISECOND * 10..=SECOND * 600,
        ),
    };
    s.ordered(
        ("batch_rows_max", source.batch_rows_max),
        ("prefetch_rows_max", source.prefetch_rows_max),
        usize::to_string,
    );
    s.ordered(
        ("row_bytes_max", source.row_bytes_max),
        ("prefetch_bytes_max", source.prefetch_bytes_max),
        |&bytes| format_size(bytes as u64),
    );
    s.ordered(
        ("poll_interval_min", source.poll_interval_min),
        ("poll_interval_max", source.poll_interval_max),
        |&pause| format_duration(pause),
    );
    source
}

fn retention(raw: &RawRetention, s: &mut Section<'_>) -> RetentionConfig {
    RetentionConfig {
        keep: s.duration("keep", &raw.keep, DEFAULT_KEEP, Duration::ZERO..=HOUR * 24 * 3_660),
        keep_rows_max: s.integer(
            "keep_rows_max",
            &raw.keep_rows_max,
            DEFAULT_KEEP_ROWS_MAX,
            0..=1_000_000_000_000,
        ),
        interval: s.duration(
            "interval",
            &raw.interval,
            DEFAULT_RETENTION_INTERVAL,
            MILLISECOND * 10..=HOUR,
        ),
        delete_rows_max: s.integer(
            "delete_rows_max",
            &raw.delete_rows_max,
            DEFAULT_DELETE_ROWS_MAX,
            1..=1_000_000,
        ),
        dead: dead(raw, s),
    }
}

/// `never`, or an age. Nothing is removed unless it is said: what is dead is a message that somebody
/// has not received.
fn dead(raw: &RawRetention, s: &mut Section<'_>) -> Option<Duration> {
    let text = s.text("dead", &raw.dead)?;
    if text == "never" {
        return None;
    }
    match parse_duration(&text) {
        Ok(age) if age >= HOUR => Some(age),
        parsed => {
            let reason = match parsed {
                Ok(_) => "must be at least 1h",
                Err(_) => "neither \"never\" nor a duration",
            };
            s.refuse("dead", reason, "write \"never\", or an age such as \"90d\"");
            None
        }
    }
}

fn lease(raw: &RawLease, s: &mut Section<'_>) -> LeaseConfig {
    let lease = LeaseConfig {
        ttl: s.duration("ttl", &raw.ttl, DEFAULT_LEASE_TTL, SECOND..=HOUR),
        ping_interval: s.duration(
            "ping_interval",
            &raw.ping_interval,
            DEFAULT_PING_INTERVAL,
            MILLISECOND * 10..=HOUR,
        ),
        standby_interval: s.duration(
            "standby_interval",
            &raw.standby_interval,
            DEFAULT_STANDBY_INTERVAL,
            MILLISECOND * 10..=HOUR,
        ),
        rebalance_interval: s.duration(
            "rebalance_interval",
            &raw.rebalance_interval,
            DEFAULT_REBALANCE_INTERVAL,
            MILLISECOND * 100..=HOUR,
        ),
    };
    // Publishing stops at half of the lease, counted from the sending of the last answered ping.
    if lease.ping_interval * 2 >= lease.ttl {
        let key = if raw.ping_interval.is_some() { "ping_interval" } else { "ttl" };
        s.refuse(
            key,
            format!(
                "a ping every {} cannot keep a lease of {}, of which half is used",
                format_duration(lease.ping_interval),
                format_duration(lease.ttl)
            ),
            "ping_interval must be below half of ttl; a fifth leaves room for a lost ping",
        );
    }
    lease
}

fn log(raw: &RawLog, variables: &Variables, report: &mut Report) -> LogConfig {
    let mut s = Section::new(report, "log");
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = s.choice("format", &raw.format, &formats).unwrap_or(LogFormat::Text);
    let level = level(&raw.level, variables, &mut s);
    LogConfig { format, level }
}

/// The level's own variable, then `RUST_LOG`, which people reach for, then the file.
fn level(written: &Setting, variables: &Variables, s: &mut Section<'_>) -> String {
    const HINT: &str = "write a level (error, warn, info, debug, trace) or a filter such as \
                        \"info,outbox_relay=debug\"";
    let rust_log = variables.text("RUST_LOG").filter(|text| !text.is_empty());
    if let Some(text) = rust_log
        && !s.is_variable("level")
    {
        if let Err(reason) = check_filter(text) {
            s.refuse_variable("RUST_LOG", reason, HINT);
        }
        return text.to_owned();
    }
    let text = s.text("level", written).unwrap_or_else(|| DEFAULT_LOG_LEVEL.to_owned());
    if let Err(reason) = check_filter(&text) {
        s.refuse("level", reason, HINT);
    }
    text
}

fn check_filter(text: &str) -> Result<(), String> {
    // A word that is no level is taken for the name of a module, all of which it would log.
    let lone_word = !text.contains(['=', ',', '[']) && text.parse::<tracing::Level>().is_err();
    match EnvFilter::try_new(text) {
        Ok(_) if lone_word && text != "off" => Err("not a level".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("not a filter: {error}")),
    }
}

fn shutdown(raw: &RawShutdown, s: &mut Section<'_>) -> ShutdownConfig {
    ShutdownConfig {
        grace: s.duration("grace", &raw.grace, DEFAULT_SHUTDOWN_GRACE, Duration::ZERO..=HOUR),
    }
}
