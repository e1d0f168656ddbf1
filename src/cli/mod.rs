//! The subcommands other than the daemon.
