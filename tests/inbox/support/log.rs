//! What the crate logs while a test runs, as a program with a JSON log would have it.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::format::FmtSpan;

/// The log of a thread: of a test whose runtime has one.
pub(crate) struct Log {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins to listen.
    pub(crate) fn open() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(LevelFilter::DEBUG)
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(move || writer.clone())
            .finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.written.0.lock().unwrap().clone()).unwrap()
    }

    /// The fields of the records with this message, in order.
    pub(crate) fn records(&self, message: &str) -> Vec<Value> {
        let of = |record: &Value| record["fields"]["message"] == message;
        self.all().filter(of).map(|record| record["fields"].clone()).collect()
    }

    /// The spans of this name that have ended, in order.
    pub(crate) fn spans(&self, name: &str) -> Vec<Value> {
        let of = |record: &Value| {
            record["fields"]["message"] == "close" && record["span"]["name"] == name
        };
        self.all().filter(of).map(|record| record["span"].clone()).collect()
    }

    /// The names of the spans around the records with this message, from the outside.
    pub(crate) fn around(&self, message: &str) -> Vec<Value> {
        let record = self.all().find(|record| record["fields"]["message"] == message).unwrap();
        record["spans"].as_array().unwrap().iter().map(|span| span["name"].clone()).collect()
    }

    fn all(&self) -> impl Iterator<Item = Value> {
        let lines: Vec<_> = self.text().lines().map(serde_json::from_str).collect();
        lines.into_iter().map(Result::unwrap)
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
