//! From peers: pipelined HTTP/1.1.
