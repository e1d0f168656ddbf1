//! Arguments, configuration, run, exit code.
#![expect(clippy::print_stderr, reason = "what keeps the daemon from starting is said to whoever starts it")]

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    os::unix::process::CommandExt,
    path::Path,
    process::{self, ExitCode},
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

/// glibc keeps what is freed below a size, and raises that size to the largest block it has seen freed: one index unpacked,
/// and megabytes are kept for good. The size can be fixed only before a process starts, so this one starts once more.
fn give_memory_back() {
    const FIXED: &str = "MALLOC_MMAP_THRESHOLD_";
    let mut arguments = env::args_os();
    let (Some(name), Ok(program), None) = (arguments.next(), env::current_exe(), env::var_os(FIXED)) else { return };
    // Only an error comes back, and then it goes on as it is.
    let _error = process::Command::new(program).arg0(name).args(arguments).env(FIXED, "131072").exec();
}

fn run(file: Option<&Path>) -> ExitCode {
    give_memory_back();
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
