//! The daemon's listening sockets: opened here, or handed over by whoever started it.
//!
//! systemd opens the door before the daemon runs (sd_listen_fds(3)), and a daemon that begins anew hands its door to
//! itself in the same way. So apt never finds the port closed. What is handed over takes the place of the entry of
//! `[proxy] listen` with the same address, or comes beside them.

use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{self, Command},
};

use anyhow::{Result, anyhow, bail};
use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;

use super::trouble;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Descriptors that are handed over are numbered from here on: room for those that every program has.
const FIRST_HANDED: i32 = 20;

/// All that listen.
pub(super) struct Sockets {
    pub(super) door: OpenDoor,
    pub(super) peers: Vec<TcpListener>,
}

impl Sockets {
    pub(super) fn open(config: &Config, shares: bool, inherited: Vec<TcpListener>) -> Result<Self> {
        let handed = addresses(&inherited)?;
        let others = handed.iter().find(|at| !at.ip().to_canonical().is_loopback());
        if let (Some(at), true) = (others, config.proxy.allow.is_empty()) {
            bail!(
                "systemd hands over {at}, which others can reach: expected their networks in allow in section [proxy], or \
                 ListenStream=127.0.0.1:9977 in apt-huddle.socket"
            );
        }
        let mut door = inherited;
        // Port 0 is any port.
        let is_open =
            |at: &SocketAddr| handed.iter().any(|open| open.ip() == at.ip() && [0, open.port()].contains(&at.port()));
        for at in config.proxy.listen.iter().filter(|at| !is_open(at)) {
            door.push(listen(*at, "proxy")?);
        }
        let peers = match shares {
            true => config.peer.listen.iter().map(|at| listen(*at, "peer")).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        Ok(Self { door: OpenDoor(door), peers })
    }
}

/// The sockets that apt connects to.
#[derive(Debug)]
pub struct OpenDoor(Vec<TcpListener>);

impl OpenDoor {
    /// What was handed over to this process. To be called before it has threads: it takes the marks of that out of the
    /// environment.
    pub fn inherited() -> io::Result<Vec<TcpListener>> {
        let mut handed = ListenFd::from_env();
        let taken = (0..handed.len()).map(|index| handed.take_tcp_listener(index));
        let taken: Vec<_> = taken.collect::<io::Result<_>>()?;
        let taken: Vec<_> = taken.into_iter().flatten().collect();
        for listener in &taken {
            listener.set_nonblocking(true)?;
        }
        Ok(taken)
    }

    /// Executes the program again with the same arguments and its open door. It comes back only if that fails.
    pub fn begin_anew(self, program: &Path) -> io::Error {
        match self.handed_over(program) {
            Ok((mut command, _kept)) => command.exec(),
            Err(error) => error,
        }
    }

    /// The command, and the descriptors that it is to find open.
    fn handed_over(&self, program: &Path) -> io::Result<(Command, Vec<OwnedFd>)> {
        let mut command = Command::new(program);
        command.args(env::args_os().skip(1));
        let kept: Vec<_> =
            self.0.iter().map(|socket| fcntl_dupfd_cloexec(socket, FIRST_HANDED)).collect::<Result<_, _>>()?;
        let first = kept.first().map_or(FIRST_HANDED, AsRawFd::as_raw_fd);
        // They are told by their first number and how many they are. Otherwise the new image opens its sockets itself.
        if kept.iter().map(AsRawFd::as_raw_fd).eq((first..).take(kept.len())) {
            for socket in &kept {
                fcntl_setfd(socket, FdFlags::empty())?;
            }
            command.env("LISTEN_FDS", kept.len().to_string()).env("LISTEN_FDS_FIRST_FD", first.to_string());
            command.env("LISTEN_PID", process::id().to_string());
        }
        Ok((command, kept))
    }

    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        addresses(&self.0)
    }

    /// Descriptors for a server, which closes them when it stops.
    pub(super) fn listeners(&self) -> io::Result<Vec<TcpListener>> {
        self.0.iter().map(TcpListener::try_clone).collect()
    }
}

pub(super) fn addresses(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>> {
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?)
}

/// Whether an address is one of this host's: only to these a socket can be bound.
pub(super) fn is_own(ip: IpAddr) -> bool {
    let at = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP));
    socket.is_ok_and(|socket| socket.bind(&at.into()).is_ok())
}

/// Opens a listening socket; `[::]` takes IPv4 too, or IPv4 alone where the host has no IPv6.
fn listen(at: SocketAddr, section: &str) -> Result<TcpListener> {
    let opened = match open_socket(at) {
        Err(error) if at.is_ipv6() && at.ip().is_unspecified() && is_without_ipv6(&error) => {
            open_socket((Ipv4Addr::UNSPECIFIED, at.port()).into())
        }
        other => other,
    };
    opened.map_err(|error| anyhow!(trouble::of_listening(at, section, &error)))
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(97)
}

fn open_socket(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    // Connections of an earlier run that wait for their end must not keep a new one from its port.
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_are_its_own() {
        for (ip, want) in [("127.0.0.1", true), ("127.3.2.1", true), ("192.0.2.1", false), ("2001:db8::1", false)] {
            assert_eq!(is_own(ip.parse().unwrap()), want, "{ip}");
        }
    }

    #[test]
    fn what_is_handed_over_stands_for_the_same_address_in_the_configuration() {
        let handed = open_socket("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = handed.local_addr().unwrap();
        let mut config = Config::default();
        config.proxy.listen = vec![at, "127.0.0.2:0".parse().unwrap()];
        let sockets = Sockets::open(&config, false, vec![handed]).unwrap();
        let addresses = sockets.door.addresses().unwrap();
        assert_eq!((addresses.len(), addresses[0], sockets.peers.len()), (2, at, 0));
    }

    #[test]
    fn a_door_for_others_needs_to_know_whom_it_is_for_also_when_it_is_handed_over() {
        let open = || vec![open_socket("0.0.0.0:0".parse().unwrap()).unwrap()];
        let mut config = Config::default();
        config.proxy.listen.clear();
        let refused = Sockets::open(&config, false, open()).err().expect("nobody is allowed").to_string();
        assert!(refused.contains("allow") && refused.contains("apt-huddle.socket"), "{refused}");
        config.proxy.allow = vec!["192.0.2.0/24".parse().unwrap()];
        assert!(Sockets::open(&config, false, open()).is_ok());
    }
}
