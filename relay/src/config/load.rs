//! Loading: file → layer of values → environment over it → shape → checked configuration.

use std::ffi::OsString;
use std::path::Path;

use super::place::Place;
use super::report::Report;
use super::variable::Variables;
use super::{Config, ConfigError, check, document, file, shape};

/// The longest file; a larger one is not a configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

impl Config {
    /// Loads a configuration with the environment of this process over it. Reads files and
    /// blocks: to be called before there is a runtime.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and a remedy. The process should end with
    /// exit code 78: to start it again changes nothing.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, std::env::vars_os())
    }

    /// Loads a configuration with these variables as the environment.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_with<K: Into<OsString>, V: Into<OsString>>(
        path: &Path,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        let variables = Variables::new(variables);
        let mut report = Report::new(path);
        match file::read_text(path, FILE_BYTES_MAX) {
            Ok(text) => load(&text, &variables, report),
            Err(reason) => {
                report.place(
                    Place::File(path.to_owned()),
                    format!("cannot read the configuration: {reason}"),
                    "name a regular file that is there and that the relay's user can read",
                );
                Err(ConfigError::new(report.into_problems()))
            }
        }
    }
}

fn load(text: &str, variables: &Variables, mut report: Report) -> Result<Config, ConfigError> {
    let config = document::parse(text, variables, &mut report)
        .and_then(|file| {
            let environment = variables.overrides(&file, &mut report);
            shape::shape(file, environment, &mut report)
        })
        .map(|raw| check::check(&raw, variables, &mut report));
    match config {
        Some(config) if report.is_empty() => Ok(config),
        _ => {
            if report.is_empty() {
                let place = Place::File(report.places.file().to_owned());
                let hint = "compare it with the annotated file, config/relay.toml";
                report.place(place, "cannot be understood", hint);
            }
            Err(ConfigError::new(report.into_problems()))
        }
    }
}
