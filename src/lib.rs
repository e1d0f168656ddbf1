//! apt-huddle: a proxy between apt and its mirrors that shares what it proves.
//!
//! The folders are the stations of the data's path, in its order:
//!
//! ```text
//!  apt asks -> what must this path hash to -> have we got it -> who has it -> bring and prove -> keep -> answer -> tell
//!  proxy       archive (flow, store)          store             dht           fetch              store   proxy    announce
//!                                                                             peer, mirror                        upload
//! ```
//!
//! # Invariants
//!
//! - **Proof.** [`archive::Release`] comes only from a checked signature; [`archive::Vouched`] only from a `Release` or
//!   an index that one lists; [`hash::Verified`] only from bytes that were hashed. The store keeps only what is
//!   `Verified`; strangers are asked for, and told of, only what is [`archive::Shareable`], which only a `Vouched` of a
//!   public repository yields.
//! - **Purity.** `archive`, `hash` and everything in `dht`, `peer` and `fetch` but their `mod.rs` and `io` hold no
//!   socket, clock, file, lock or global. Clippy bans those everywhere, and each file that is a door says so.
//! - **Direction.** Imports go strictly down:
//!   `daemon -> everything; cli -> config, status, dht, archive; status -> each station's snapshot; proxy -> flow;`
//!   `flow -> fetch, dht, mirror, store; announce -> dht, store; upload -> store; fetch -> peer, mirror, store;`
//!   `dht, peer, mirror, store -> archive -> hash; peer, upload -> seal`. The command line knows of `status` the types of
//!   the local API alone, of `dht` the node that its tools are for a moment, as they need no daemon, and of `archive` how
//!   apt's sources are read.
//!   A test reads the sources and holds every edge to its list.
//! - **Bounds.** Every queue, list, packet and buffer that a stranger can fill has a limit beside it.

pub mod cli;
pub mod config;
pub mod daemon;

pub mod hash;

pub mod seal;

pub mod proxy;

pub mod flow;

pub mod archive;

pub mod dht;

pub mod peer;

pub mod mirror;

pub mod fetch;

pub mod store;

pub mod upload;

pub mod announce;

pub mod status;

/// For the daemon, its benches and its tests alike. `.cargo/config.toml` sets it up. A fuzzer brings its own.
#[cfg(not(feature = "fuzzing"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
