//! Who: a Kademlia of our own.
