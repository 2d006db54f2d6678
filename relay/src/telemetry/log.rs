//! Logs: one record a line on stderr, for people or for programs, never with a payload or a secret.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};

use tracing::{Level, Metadata, Subscriber, error};
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::{LogConfig, LogFormat};
use crate::printable::Records;

/// Libraries that would log what we handed to them, and the most that they may say, whatever the
/// filter: tokio-postgres logs parameters at debug, lapin whole frames (credentials, payloads) at
/// trace, and every message that the broker returns, payload included, as a warning.
const CEILINGS: [(&str, Level); 3] = [
    ("tokio_postgres", Level::INFO),
    ("lapin", Level::DEBUG),
    ("lapin::returned_messages", Level::ERROR),
];

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none; a loaded configuration cannot hold it.
    #[error("cannot use the log filter: {0}\nhint: correct log.level")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in this process has set up logs.
    #[error("cannot set up logs: {0}\nhint: set them up once a process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the records of this process, those of libraries that use the `log` crate, and its panics
/// to stderr.
///
/// # Errors
/// A filter that is none, and a second call.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    subscriber(config, io::stderr, colours)?.try_init()?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn subscriber<W>(
    config: &LogConfig,
    writer: W,
    colours: bool,
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(Records(writer));
    let layer = match config.format {
        LogFormat::Text => layer.with_ansi(colours).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let filter = EnvFilter::try_new(filter(&config.level))?;
    Ok(Registry::default().with(filter).with(FilterFn::new(below_ceiling)).with(layer))
}

/// lapin calls every end of a connection an error, in several lines, without saying whose it is. The
/// pipeline says it once, with the target; whoever names lapin in the filter hears both.
fn filter(level: &str) -> String {
    if level.contains("lapin") { level.to_owned() } else { format!("{level},lapin=off") }
}

fn below_ceiling(record: &Metadata<'_>) -> bool {
    CEILINGS.iter().all(|&(library, ceiling)| {
        let of_library = record
            .target()
            .strip_prefix(library)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        !of_library || *record.level() <= ceiling
    })
}

/// A panic is a record like any other: on stderr alone it would be lost to what collects JSON.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    let location = info.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(location, backtrace, "panicked: {message}");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing::{debug, info, trace, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, f: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let config = LogConfig { format, level: level.to_owned() };
        with_default(subscriber(&config, move || writer.clone(), false).unwrap(), f);
        buffer.text()
    }

    #[test]
    fn text_is_one_line_a_record() {
        let text = logged(LogFormat::Text, "info", || {
            info!(target_name = "orders", "connected");
            debug!("not this");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" INFO ") && text.contains("connected target_name=\"orders\""));
    }

    #[test]
    fn json_is_one_object_a_record() {
        let text = logged(LogFormat::Json, "warn,outbox_relay=debug", || {
            debug!(rows = 3, "read");
            trace!("not this");
        });
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["message"], "read");
        assert_eq!(record["rows"], 3);
        assert_eq!(record["level"], "DEBUG");
    }

    #[test]
    fn libraries_log_no_parameters_and_no_frames_whatever_the_filter() {
        let text = logged(LogFormat::Text, "trace,lapin=trace,tokio_postgres=trace", || {
            debug!(target: "tokio_postgres::query", "executing with parameters: secret");
            trace!(target: "lapin::frames", "frame: secret");
            warn!(target: "lapin::returned_messages", "Server returned us a message: secret");
            info!(target: "tokio_postgres::connection", "NOTICE: hello");
            debug!(target: "lapin::channel", "opened");
            debug!(target: "lapin_like", "of somebody else");
        });
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    /// In a process of its own: logs and the panic hook are set once for a whole process.
    #[test]
    fn a_panic_is_a_record() {
        const CHILD: &str = "OUTBOX_RELAY_TEST_PANIC";
        if std::env::var_os(CHILD).is_some() {
            let config = LogConfig { format: LogFormat::Json, level: "info".to_owned() };
            init(&config).unwrap();
            assert!(init(&config).is_err());
            let _ = std::thread::spawn(|| panic!("row {} is odd", 7)).join();
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "telemetry::log::tests::a_panic_is_a_record", "--nocapture"])
            .env(CHILD, "1")
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let line = text.lines().find(|line| line.starts_with('{')).expect("a record");
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["message"], "panicked: row 7 is odd");
        assert_eq!(record["level"], "ERROR");
        assert!(record["location"].as_str().unwrap().contains("log.rs"));
    }
}
