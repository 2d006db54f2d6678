//! `outbox-relay run`: the daemon.

use crate::app::App;
use crate::config::Config;
use crate::exit::Failure;
use crate::telemetry;

/// Runs until a signal, or until something no restart of a pipeline mends.
///
/// # Errors
/// See [`Failure`].
pub fn run(config: Config) -> Result<(), Failure> {
    telemetry::log::init(&config.log).map_err(Failure::configuration)?;
    for exposed in &config.exposed {
        tracing::warn!(hint = exposed.remedy(), "a secret is open: {}", exposed.reason());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let app = App::build(config)?;
    runtime.block_on(app.run())
}
