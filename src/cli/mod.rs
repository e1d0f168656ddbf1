//! The command line: what may be asked of a daemon from a terminal, and how it is told.

mod apt;
mod client;
pub mod config;
pub mod dht;
pub mod doctor;
pub mod keep;
mod lookup;
mod peers;
pub mod sources;
mod status;
mod text;
mod watch;
mod why;

use std::{io, net::SocketAddr, path::PathBuf};

use clap::{CommandFactory, Parser, Subcommand};
use serde::de::DeserializeOwned;

use crate::{config::Config, hash::ContentHash, status::why::Trouble};

use client::Reply;
pub use text::Paint;

pub use watch::watch;

/// Peer-to-peer proxy for Debian archives.
#[derive(Debug, Parser)]
#[command(name = "apt-huddle", version, about)]
pub struct Cli {
    /// Configuration file (TOML); without one the defaults hold.
    #[arg(long, value_name = "FILE", env = "APT_HUDDLE_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Default, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground. This is what happens without a command.
    #[default]
    Run,
    /// Say on what a file's hash hangs: key, Release, index, file; or where that chain breaks.
    Why {
        /// A path in a repository, a URL, a file name, a package (hello, hello:amd64, hello=2.10-3), or a SHA-256.
        #[arg(value_name = "PATH|PACKAGE|SHA256")]
        question: String,
        /// Print the daemon's answer as it is.
        #[arg(long)]
        json: bool,
    },
    /// Look who has a file, through the running daemon: only for files that it could ask peers for anyway.
    Lookup {
        /// The file's SHA-256.
        #[arg(value_name = "SHA256")]
        hash: ContentHash,
        /// Print the daemon's answer as it is.
        #[arg(long)]
        json: bool,
    },
    /// Say which way apt goes to each of its sources, and lead their addresses through the daemon, or back.
    Sources(sources::Args),
    /// Look for what is wrong, and say what to do about it.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the configuration that holds, and where each value is from.
    Config {
        /// What to do with it instead.
        #[command(subcommand)]
        task: Option<config::Task>,
    },
    /// Probe a DHT, ours or Mainline, without a daemon.
    Dht(dht::Tool),
    /// Print what a shell needs to complete this program's arguments.
    #[command(hide = true)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// See, choose, check and bring in what the daemon holds.
    #[command(flatten)]
    Keep(keep::Tool),
    /// Say what the running daemon does.
    Status {
        /// Show it again and again, once a second, until Ctrl-C.
        #[arg(long)]
        watch: bool,
        /// Print the daemon's answer as it is.
        #[arg(long)]
        json: bool,
    },
    /// List the peers: what they gave and took, how quick they are, who is banned.
    Peers {
        /// Print the daemon's answer as it is.
        #[arg(long)]
        json: bool,
    },
}

impl Cli {
    /// The command that was given, or the one that is meant without any.
    pub fn take_command(&mut self) -> Command {
        self.command.take().unwrap_or_default()
    }
}

/// What a question to the daemon came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is printed.
    pub text: String,
    /// Whether it is as one would wish it to be: for `why`, a chain is whole.
    pub good: bool,
}

/// Why a question has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The daemon does not understand the question.
    #[error("{0}")]
    Question(String),
    /// There is no daemon, or none that can answer.
    #[error("{0}")]
    Daemon(String),
}

/// Asks the daemon of this configuration why a file is what it is said to be.
pub fn why(config: &Config, question: &str, json: bool) -> Result<Outcome, Failure> {
    let reply = client::get(&config.proxy.listen, &why::target(question))?;
    let answer = understood(&reply)?;
    let text = if json { reply.as_is() } else { why::render(&answer) };
    Ok(Outcome { text, good: answer.whole })
}

/// Asks the daemon of this configuration who has a file.
pub fn lookup(config: &Config, hash: ContentHash, json: bool) -> Result<Outcome, Failure> {
    let reply = client::get(&config.proxy.listen, &lookup::target(hash))?;
    let answer = understood(&reply)?;
    let text = if json { reply.as_is() } else { lookup::render(&answer) };
    Ok(Outcome { text, good: !answer.holders.is_empty() })
}

/// Asks the daemon of this configuration what it does.
pub fn status(config: &Config, json: bool) -> Result<Outcome, Failure> {
    let reply = client::get(&config.proxy.listen, status::TARGET)?;
    let report = understood(&reply)?;
    let text = if json { reply.as_is() } else { status::render(&report) };
    Ok(Outcome { text, good: true })
}

/// What the daemon of this configuration does.
fn report(config: &Config) -> Result<crate::status::report::Report, Failure> {
    understood(&client::get(&config.proxy.listen, status::TARGET)?)
}

/// Asks the daemon of this configuration who is there.
pub fn peers(config: &Config, json: bool) -> Result<Outcome, Failure> {
    let reply = client::get(&config.proxy.listen, peers::TARGET)?;
    let list = understood(&reply)?;
    let text = if json { reply.as_is() } else { peers::render(&list) };
    Ok(Outcome { text, good: true })
}

/// Whether the daemon at one of these addresses answers.
pub fn is_healthy(listen: &[SocketAddr]) -> bool {
    client::get(listen, "/healthz").is_ok_and(|reply| reply.status == 200)
}

/// Prints the completions of a shell.
pub fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "apt-huddle", &mut io::stdout());
}

/// Reads an answer of the API, or what it says instead.
fn understood<T: DeserializeOwned>(reply: &Reply) -> Result<T, Failure> {
    let foreign = || Failure::Daemon(format!("what listens at {} is no apt-huddle of this version", reply.from));
    match reply.status {
        200 => serde_json::from_slice(&reply.body).map_err(|_| foreign()),
        status => {
            let trouble: Trouble = serde_json::from_slice(&reply.body).map_err(|_| foreign())?;
            let error = text::clean(&trouble.error);
            Err(if status == 400 { Failure::Question(error) } else { Failure::Daemon(error) })
        }
    }
}
