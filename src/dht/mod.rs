//! Who: a Kademlia of our own.

mod bencode;
mod contact;
mod id;
mod message;
mod realm;
mod tokens;
