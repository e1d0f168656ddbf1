//! The product from outside: real daemons, real apt, a signed archive made on the spot, a mirror that can misbehave.
//!
//! ```text
//!   harness/archive --files--> harness/mirror --HTTP--> daemons (harness/machine, daemon) --HTTP--> apt-get, dpkg (harness/apt)
//!                              harness/liar   --peer--^   ^--KRPC-- harness/probe, harness/libtorrent
//! ```
//!
//! Everything happens on 127.0.0.0/8; every host has a network of its own, because limits count networks.
//! `APT_HUDDLE_BIN` names another binary to test than the one just built. Where there is no apt, the tests that need
//! it say so and pass.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests are the world around the product: they own clocks, files, sockets and a terminal"
)]

mod harness;

mod selftest;

mod browser;
mod commands;
mod config;
mod dht_network;
mod page;
mod service;
mod startup;
mod tools;

mod e2e_bring;
mod e2e_conspiracy;
mod e2e_crash;
mod e2e_crowd;
mod e2e_door;
mod e2e_edges;
mod e2e_faults;
mod e2e_hostile;
mod e2e_indexes;
mod e2e_liars;
mod e2e_lists;
mod e2e_mainline;
mod e2e_mirrors;
mod e2e_path;
mod e2e_privacy;
mod e2e_rendezvous;
mod e2e_shelves;
mod e2e_soak;
mod e2e_store;
mod e2e_suites;
mod e2e_swarm;
mod e2e_trust;
mod e2e_why;

mod house;
mod lan;
