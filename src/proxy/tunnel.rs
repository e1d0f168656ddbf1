//! CONNECT: a plain tunnel to port 443, for apt's https sources when the proxy is set for everything.
//!
//! Nothing inside is seen, kept or shared. Only clients on this host get one, and only to where the guard lets them.
#![expect(clippy::disallowed_types, reason = "the door's sockets")]

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
    time::timeout,
};

use crate::{archive::Location, flow::Flow};

use super::wire::Wire;

/// Bytes of a request's head at most.
const MAX_HEAD: usize = 8 * 1024;
/// Time to read the head, and to reach the origin.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time for one of several addresses.
const ONE_ADDRESS: Duration = Duration::from_secs(3);
/// The only port that is tunnelled to.
const PORT: u16 = 443;

/// Serves one CONNECT to its end.
pub async fn serve(wire: Wire, flow: &Flow) {
    let is_local = wire.peer().ip().to_canonical().is_loopback();
    let Some(mut client) = wire.into_stream() else { return };
    let refusal = match timeout(PATIENCE, open(&mut client, flow, is_local)).await {
        Ok(Ok(mut origin)) => {
            if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
                let _ended = copy_bidirectional(&mut client, &mut origin).await;
            }
            return;
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal { status: "504 Gateway Timeout", reason: "the origin does not answer".to_owned() },
    };
    let body = format!("apt-huddle: {}\n", refusal.reason);
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        refusal.status,
        body.len()
    );
    let _gone = client.write_all((head + &body).as_bytes()).await;
    let _gone = client.shutdown().await;
}

struct Refusal {
    status: &'static str,
    reason: String,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { status: "502 Bad Gateway", reason: error.to_string() }
    }
}

async fn open(client: &mut TcpStream, flow: &Flow, is_local: bool) -> Result<TcpStream, Refusal> {
    let forbidden = |reason: String| Refusal { status: "403 Forbidden", reason };
    let authority = read_head(client).await?;
    if !is_local {
        return Err(forbidden("tunnels are for clients on this host".to_owned()));
    }
    let at = Location::parse(&format!("https://{authority}/")).map_err(|error| forbidden(error.to_string()))?;
    if at.port_or_default() != PORT {
        return Err(forbidden(format!("tunnels lead to port {PORT} only")));
    }
    let reach = flow.reach(&at, is_local);
    let host = at.host().trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, PORT)).await? {
        reach.check(at.host(), address.ip()).map_err(|error| forbidden(error.to_string()))?;
        match timeout(ONE_ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(origin)) => return Ok(origin),
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    Err(last.into())
}

/// Reads the head byte by byte, so that nothing of what follows it is lost, and gives the authority it names.
async fn read_head(client: &mut TcpStream) -> io::Result<String> {
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(bad("the request's head is too long"));
        }
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).map_err(|_| bad("the request's head is no text"))?;
    let authority = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    authority.map(str::to_owned).ok_or_else(|| bad("no authority"))
}
