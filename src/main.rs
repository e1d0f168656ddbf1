//! Arguments, configuration, run, exit code.
#![expect(clippy::print_stderr, reason = "what keeps the daemon from starting is said to whoever starts it")]

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
};

use apt_huddle::{
    cli::{Cli, Command},
    config::{Config, ENV_PREFIX},
    daemon,
};
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Exit code of a configuration, like that of a command line, which cannot be used.
const BAD_CONFIG: u8 = 2;
/// Threads that move bytes; a small machine has two cores, and a large one needs no more for this.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    match cli.command() {
        Command::Run => run(cli.config.as_deref()),
    }
}

fn run(file: Option<&Path>) -> ExitCode {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string()));
    let mut variables = Vec::new();
    for (name, value) in env::vars_os().filter_map(text) {
        match value {
            Ok(value) => variables.push((name, value)),
            Err(_) if name.starts_with(ENV_PREFIX) => {
                eprintln!("apt-huddle: {name}: not a text: expected UTF-8");
                return ExitCode::from(BAD_CONFIG);
            }
            Err(_) => {}
        }
    }
    let config = match Config::load(file, variables) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("apt-huddle: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(daemon::run(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("apt-huddle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `APT_HUDDLE_LOG` chooses what is logged, in the form of `RUST_LOG`.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("APT_HUDDLE_LOG").unwrap_or_else(|_| EnvFilter::new("warn,apt_huddle=info"));
    let color = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(color)
        .init();
}
