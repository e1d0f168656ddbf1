//! From peers: pipelined HTTP/1.1 over connections that are kept and shared by all files.
//!
//! [`Pool`] is the handle, `io.rs` holds the sockets, [`pipeline`] is the protocol, `ask` what can be asked and [`standing`] what is remembered
//! of each peer.

mod ask;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod io;
mod owed;
pub mod pipeline;
pub mod standing;

pub use io::{Failure, Met, Pool, Snapshot};
pub use pipeline::{Answer, Ask, MAX_HOLDS, Question};
