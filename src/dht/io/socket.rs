//! The UDP sockets of a node.
#![expect(clippy::disallowed_types, reason = "the node's sockets")]

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::ReadBuf, net::UdpSocket};

/// Wished size of a socket's receive buffer, in bytes: replies to many searches come in bursts.
const RECEIVE_BUFFER: usize = 1 << 20;

/// One socket.
pub struct Endpoint {
    /// The socket.
    pub socket: UdpSocket,
    /// Where it is bound.
    pub local: SocketAddr,
    /// Whether it takes IPv4 beside IPv6.
    pub is_dual: bool,
}

impl Endpoint {
    /// Binds one address; `[::]` for both families unless IPv4 has an address of its own in `all`.
    pub fn bind(addr: SocketAddr, all: &[SocketAddr]) -> io::Result<Self> {
        let is_any_v6 = addr.is_ipv6() && addr.ip().is_unspecified();
        let is_dual = is_any_v6 && !all.iter().any(SocketAddr::is_ipv4);
        match Self::bind_exactly(addr, is_dual) {
            Err(error) if is_dual && error.kind() != io::ErrorKind::AddrInUse => {
                Self::bind_exactly((Ipv4Addr::UNSPECIFIED, addr.port()).into(), false)
            }
            bound => bound,
        }
    }

    fn bind_exactly(addr: SocketAddr, is_dual: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!is_dual)?;
        }
        // A smaller buffer loses some replies, and that is all.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local, is_dual })
    }

    /// How well the socket suits a destination: not at all, by family, or by family and scope.
    pub fn fitness(&self, to: SocketAddr) -> u8 {
        let ip = self.local.ip();
        let has_family = self.is_dual || self.local.is_ipv4() == to.is_ipv4();
        let has_scope = ip.is_unspecified() || ip.is_loopback() == to.ip().is_loopback();
        u8::from(has_family) + u8::from(has_family && has_scope)
    }

    /// A destination in the form that the socket's family takes.
    pub fn spelled(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.local.is_ipv6() => (ip.to_ipv6_mapped(), to.port()).into(),
            _ => to,
        }
    }
}

/// Waits for a datagram on any socket; each is looked at first in its turn.
pub async fn receive(sockets: &[Endpoint], turn: usize, buffer: &mut [u8]) -> (usize, SocketAddr, usize) {
    let mut poll_all = |context: &mut Context<'_>| {
        for nth in 0..sockets.len() {
            let via = (turn + nth) % sockets.len();
            let mut read = ReadBuf::new(buffer);
            match sockets[via].socket.poll_recv_from(context, &mut read) {
                Poll::Ready(Ok(from)) => return Poll::Ready((via, from, read.filled().len())),
                // An error is about a datagram sent before; an empty one in its place is dropped.
                Poll::Ready(Err(_)) => return Poll::Ready((via, sockets[via].local, 0)),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    };
    poll_fn(&mut poll_all).await
}
