//! Downloads under a virtual clock: course and pipeline, as they are, against a network in memory.
//!
//! [`network`] is the world: links with a rate and a delay, peers and mirrors of every manner ([`server`]), clients that give
//! each other what they have ([`client`]). The bytes are real and really hashed, and what peers say goes through the real pipeline.

mod client;
pub(super) mod files;
mod network;
mod rows;
mod schedules;
pub(super) mod server;
mod swarm;
