//! Who: a Kademlia of our own.

mod bencode;
mod claim;
mod contact;
mod id;
mod limits;
mod lookup;
mod message;
mod realm;
mod storage;
mod table;
mod tokens;
