//! Arguments, configuration, run, exit code.

use std::{env, process::ExitCode};

use apt_huddle::cli::{self, Cli};
use clap::Parser;

fn main() -> ExitCode {
    let variables =
        env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    cli::main(Cli::parse(), variables)
}
