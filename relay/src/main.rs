//! Bootstrap: parse, load, build the runtime, map the outcome to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use outbox_relay::cli::{Cli, Command};
use outbox_relay::command;
use outbox_relay::config::Config;
use outbox_relay::exit::Failure;
use outbox_relay::printable::escaped_lines;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Standard error may be closed; the exit code says it all the same.
            let text = format!("error: {failure}\n");
            let _ =
                std::io::Write::write_all(&mut std::io::stderr(), escaped_lines(&text).as_bytes());
            failure.code()
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let load = || Config::load(&cli.config).map_err(Failure::configuration);
    match cli.command {
        Command::Run => command::run::run(load()?),
        Command::Migrate(args) => command::block_on(command::migrate::migrate(args, load)),
        Command::Check(args) => command::block_on(command::check::run(args, &load()?)),
        Command::Status(args) => command::block_on(command::status::run(args, &load()?)),
        Command::Dead(args) => command::block_on(command::dead::run(args, &load()?)),
        Command::Hold(args) => command::block_on(command::hold::run(args, &load()?)),
        Command::Replay(args) => command::block_on(command::replay::run(args, &load()?)),
        Command::Prune(args) => command::block_on(command::prune::run(args, &load()?)),
        Command::Target(args) => command::block_on(command::target::run(args, &load()?)),
        Command::Inbox(args) => command::block_on(command::inbox::run(args, load)),
        Command::Ledger(args) => command::block_on(command::ledger::run(args, &load()?)),
    }
}
