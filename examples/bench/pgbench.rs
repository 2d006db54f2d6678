//! PostgreSQL's own load generator: it costs little, and it is there wherever PostgreSQL is.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::rig::Rig;

/// A load: the same transaction again and again, over several connections.
pub(crate) struct Load<'a> {
    pub(crate) url: &'a str,
    /// In pgbench's own words.
    pub(crate) script: &'a str,
    pub(crate) clients: usize,
    /// How long.
    pub(crate) time: Duration,
    /// Transactions a second, if not as fast as it goes.
    pub(crate) rate: Option<u32>,
}

/// One transaction that was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Made {
    /// Microseconds since the epoch when it ended.
    pub(crate) at_us: u64,
    /// From when it was due until it ended.
    pub(crate) took_us: u64,
}

impl Load<'_> {
    /// Transactions a second.
    pub(crate) async fn rate(&self, rig: &Rig) -> f64 {
        let text = self.run(rig, &[]).await;
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        tps.and_then(|tps| tps.parse().ok())
            .unwrap_or_else(|| panic!("pgbench said no tps: {text}"))
    }

    /// Every transaction.
    pub(crate) async fn transactions(&self, rig: &Rig) -> Vec<Made> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let prefix = folder.path().join("log").display().to_string();
        self.run(rig, &["--log", "--log-prefix", &prefix]).await;
        let files = std::fs::read_dir(folder.path()).expect("the folder is there");
        files.flatten().flat_map(|file| read_log(&file.path())).collect()
    }

    async fn run(&self, rig: &Rig, more: &[&str]) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let script = folder.path().join("script.sql");
        std::fs::write(&script, self.script).expect("a script can be written");
        let mut command = Command::new(format!("{}/pgbench", rig.postgres.fact("BIN")));
        command
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
            .args(["--time", &self.time.as_secs().to_string()])
            .args(["--client", &self.clients.to_string()])
            .args(more);
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        command.arg("--file").arg(&script).arg(self.url);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
        let output = output.expect("pgbench can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pgbench: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A line a transaction: client, number, microseconds, script, seconds, microseconds of that second.
fn read_log(file: &Path) -> Vec<Made> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let made = |line: &str| {
        let fields: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).collect();
        let &[_, _, took_us, _, secs, micros, ..] = fields.as_slice() else { return None };
        Some(Made { at_us: secs * 1_000_000 + micros, took_us })
    };
    text.lines().filter_map(made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_a_transaction() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0 199 2241 0 1175850568 995598 12\nnonsense\n").unwrap();
        let made = Made { at_us: 1_175_850_568_995_598, took_us: 2_241 };
        assert_eq!(read_log(file.path()), [made]);
    }
}
