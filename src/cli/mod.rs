//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
}

impl Cli {
    /// The command that was given, or the one that is meant without any.
    pub fn command(&mut self) -> Command {
        self.command.take().unwrap_or_default()
    }
}
