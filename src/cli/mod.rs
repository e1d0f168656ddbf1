//! The command line.
#![expect(clippy::print_stderr, reason = "the command line speaks to people")]

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{config::Config, daemon};

/// Exit code of a configuration, or a command line, that cannot be used.
const BAD_CONFIG: u8 = 2;

/// Peer-to-peer proxy for Debian archives.
#[derive(Debug, Parser)]
#[command(name = "apt-huddle", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground. This is what happens without a command.
    Run(Run),
}

#[derive(Debug, Default, clap::Args)]
struct Run {
    /// Configuration file (TOML); without one the defaults hold.
    #[arg(long, value_name = "FILE", env = "APT_HUDDLE_CONFIG")]
    config: Option<PathBuf>,
}

/// Does what the command line says.
pub fn main(cli: Cli, variables: impl Iterator<Item = (String, String)>) -> ExitCode {
    let Command::Run(run) = cli.command.unwrap_or(Command::Run(Run::default()));
    let config = match Config::load(run.config.as_deref(), variables) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("apt-huddle: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let filter = EnvFilter::try_from_env("APT_HUDDLE_LOG").unwrap_or_else(|_| EnvFilter::new("warn,apt_huddle=info"));
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(color)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(daemon::run(config)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("apt-huddle: {error:#}");
            ExitCode::FAILURE
        }
    }
}
