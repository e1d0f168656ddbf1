//! Arguments, configuration, run, exit code.
#![expect(clippy::print_stderr, reason = "what keeps a command from being done is said to whoever gave it")]

use std::{
    env,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use apt_huddle::{
    cli::{self, Cli, Command, Failure, Outcome, Paint, config},
    config::{Config, ConfigError, Setting},
    daemon::{self, Ended, OpenDoor},
};
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Read when no other is named, and it is there.
const CONFIG: &str = "/etc/apt-huddle/apt-huddle.toml";
/// Exit code of a configuration, a question or a command line which cannot be used.
const BAD_USE: u8 = 2;
/// Exit code of a command that found no daemon to ask.
const NO_DAEMON: u8 = 3;
/// Threads that move bytes; a small machine has two cores, and a large one needs no more for this.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    let command = cli.take_command();
    let file = cli.config.take().or_else(|| Some(PathBuf::from(CONFIG)).filter(|file| file.exists()));
    let loaded = load(file.as_deref());
    match command {
        Command::Doctor { json } => {
            tell(Ok(cli::doctor::run(loaded.as_ref(), file.as_deref(), json, Paint::of_stdout())))
        }
        Command::Config { task } => tell_configuration(task.as_ref(), file),
        Command::Completions { shell } => {
            cli::completions(shell);
            ExitCode::SUCCESS
        }
        Command::Run => with(loaded, |config| run(config, file.as_deref())),
        Command::Sources(args) => with(loaded, |config| tell(Ok(cli::sources::run(&config, &args)))),
        Command::Why { question, json } => with(loaded, |config| tell(cli::why(&config, &question, json))),
        Command::Lookup { hash, json } => with(loaded, |config| tell(cli::lookup(&config, hash, json))),
        Command::Dht(tool) => with(loaded, |config| tell(cli::dht::run(&config, &tool))),
        Command::Keep(tool) => with(loaded, |config| tell(cli::keep::run(&config, &tool))),
        Command::Status { watch: true, json } => {
            with(loaded, |config| tell(cli::watch(&config, json, &mut io::stdout())))
        }
        Command::Status { watch: false, json } => with(loaded, |config| tell(cli::status(&config, json))),
        Command::Peers { json } => with(loaded, |config| tell(cli::peers(&config, json))),
    }
}

/// Does what needs a configuration that can be used.
fn with(loaded: Result<Config, ConfigError>, does: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match loaded {
        Ok(config) => does(config),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("apt-huddle: {error}");
    ExitCode::from(BAD_USE)
}

/// Prints what holds, or says whether it can be used.
fn tell_configuration(task: Option<&config::Task>, file: Option<PathBuf>) -> ExitCode {
    let file = match task {
        Some(config::Task::Check { file: Some(named) }) => Some(named.clone()),
        Some(config::Task::Check { file: None }) | None => file,
    };
    match Setting::all(file.as_deref(), env::vars_os()) {
        Ok(settings) if task.is_none() => tell(Ok(Outcome { text: config::render(&settings), good: true })),
        Ok(_) => {
            let name = file.map_or("the built-in configuration".to_owned(), |file| file.display().to_string());
            tell(Ok(Outcome { text: format!("{name}: good\n"), good: true }))
        }
        Err(error) => refuse(&error),
    }
}

fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    Config::load(file, env::vars_os())
}

/// Prints what a question to the daemon came to.
fn tell(outcome: Result<Outcome, Failure>) -> ExitCode {
    let (code, error) = match outcome {
        Ok(Outcome { text, good }) => {
            // Whoever closed the pipe has read enough.
            let _closed = io::stdout().write_all(text.as_bytes());
            return if good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(Failure::Question(error)) => (BAD_USE, error),
        Err(Failure::Daemon(error)) => (NO_DAEMON, error),
    };
    eprintln!("apt-huddle: {error}");
    ExitCode::from(code)
}

fn run(config: Config, file: Option<&Path>) -> ExitCode {
    log_to_stderr();
    match serve(config, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("apt-huddle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config, file: Option<&Path>) -> anyhow::Result<()> {
    // Its file may have another name by the time it is wanted.
    let program = env::current_exe()?;
    let inherited = OpenDoor::inherited()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let is_usable = || Ok(load(file).map(drop)?);
    let ended = runtime.block_on(daemon::run(config, inherited, is_usable))?;
    drop(runtime);
    match ended {
        Ended::ToStop => Ok(()),
        Ended::ToBeginAnew(door) => Err(door.begin_anew(&program).into()),
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
