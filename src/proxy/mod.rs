//! The door: apt's requests.
