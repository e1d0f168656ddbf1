//! Trying somebody's public port over TCP.
#![expect(clippy::disallowed_types, reason = "a connection to who asked for one")]

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::dht::reach::Dial;

/// How long it may take in all. Who asked waits two seconds for the datagram that says how it went.
const PATIENCE: Duration = Duration::from_millis(1200);

/// Asked of the port: a path below which files are, without one.
const QUESTION: &[u8] = b"HEAD /~/ HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n";

/// How what peers say begins.
const ANSWER: &[u8] = b"HTTP/1.";

/// Connects, and sees whether the public port answers.
pub async fn dial(to: SocketAddr, from: Option<IpAddr>) -> Dial {
    match timeout(PATIENCE, talk(to, from)).await {
        Ok(Ok(true)) => Dial::Open,
        Ok(Ok(false)) => Dial::Foreign,
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Dial::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Dial::Unroutable,
            _ => Dial::Silent,
        },
        Err(_) => Dial::Silent,
    }
}

async fn talk(to: SocketAddr, from: Option<IpAddr>) -> io::Result<bool> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = from {
        socket.bind((ip, 0).into())?;
    }
    let mut stream: TcpStream = socket.connect(to).await?;
    stream.write_all(QUESTION).await?;
    let mut answer = [0; ANSWER.len()];
    match stream.read_exact(&mut answer).await {
        Ok(_) => Ok(answer == ANSWER),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: Option<&'static [u8]>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.81.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, from) = listener.accept().await.unwrap();
            assert_eq!(from.ip().to_string(), "127.0.81.2");
            match answer {
                Some(answer) => stream.write_all(answer).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        addr
    }

    #[tokio::test]
    async fn what_answers_is_told_from_what_does_not() {
        let from = Some("127.0.81.2".parse().unwrap());
        assert_eq!(dial(answering(Some(b"HTTP/1.1 404 Not Found\r\n\r\n")).await, from).await, Dial::Open);
        assert_eq!(dial(answering(Some(b"SSH-2.0-OpenSSH")).await, from).await, Dial::Foreign);
        assert_eq!(dial(answering(None).await, from).await, Dial::Silent);
        let gone = TcpListener::bind("127.0.81.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(dial(gone, from).await, Dial::Refused);
    }
}
