//! One call after the other to a server, over UDP or TCP.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::model::nfs_option::Transport;
use crate::nfs::rpc::message;
use crate::nfs::rpc::message::Answer;
use crate::nfs::rpc::message::Call;
use crate::nfs::rpc::message::LONGEST_REPLY;

/// When a datagram counts as lost (nfs-utils: support/nfs/rpc_socket.c).
const RETRANSMIT: Duration = Duration::from_secs(1);

/// bindresvport(3) chooses among these. Below 600 are services of their own.
const RESERVED_PORTS: std::ops::RangeInclusive<u16> = 600..=1023;

/// A way to a server. It has no deadline of its own: what is done with it as a whole has one.
#[derive(Debug)]
pub(super) enum Channel {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Channel {
    /// Connects from any port.
    pub(super) async fn open(server: SocketAddr, transport: Transport) -> io::Result<Self> {
        Self::open_from(any(server, 0), server, transport).await
    }

    /// Connects from a port that only root may have, where that is permitted and one is free; else from any.
    pub(super) async fn open_reserved(
        server: SocketAddr,
        transport: Transport,
    ) -> io::Result<Self> {
        let (first, last) = (*RESERVED_PORTS.start(), *RESERVED_PORTS.end());
        let count = last - first + 1;
        // Another port each time: the last one may still linger in TIME_WAIT.
        let start = u16::try_from(transaction() % u32::from(count)).unwrap_or_default();
        for step in 0..count {
            let port = first + (start + step) % count;
            match Self::open_from(any(server, port), server, transport).await {
                Err(error) if is_taken(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                opened => return opened,
            }
        }
        Self::open(server, transport).await
    }

    async fn open_from(
        own: SocketAddr,
        server: SocketAddr,
        transport: Transport,
    ) -> io::Result<Self> {
        match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(own).await?;
                // Connected, so that ICMP errors arrive and the datagrams of others do not.
                socket.connect(server).await?;
                Ok(Self::Udp(socket))
            }
            Transport::Tcp => {
                let socket =
                    if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                if own.port() != 0 {
                    socket.set_reuseaddr(true)?;
                    socket.bind(own)?;
                }
                Ok(Self::Tcp(socket.connect(server).await?))
            }
            Transport::Rdma => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "only the kernel makes calls over RDMA",
            )),
        }
    }

    /// Calls and waits for the reply, however long it takes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where what answered does not speak RPC.
    pub(super) async fn call(&mut self, call: &Call) -> io::Result<Answer> {
        let xid = transaction();
        match self {
            Self::Tcp(stream) => message::call_over(stream, xid, call).await,
            Self::Udp(socket) => call_by_datagrams(socket, xid, call).await,
        }
    }
}

/// Sends the same call again and again: the server may do it twice, so only what may be repeated is called.
async fn call_by_datagrams(socket: &UdpSocket, xid: u32, call: &Call) -> io::Result<Answer> {
    let call = call.to_bytes(xid)?;
    loop {
        socket.send(&call).await?;
        if let Ok(answer) = timeout(RETRANSMIT, answer_to(socket, xid)).await {
            return answer;
        }
    }
}

/// A datagram that is no reply to this call may be one to an earlier call, so another is waited for; what
/// never says anything else ends as "no answer".
async fn answer_to(socket: &UdpSocket, xid: u32) -> io::Result<Answer> {
    let mut buffer = [0; LONGEST_REPLY];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match message::reply(xid, buffer.get(..length).unwrap_or_default()) {
            Ok(answer) => return Ok(answer),
            Err(reason) => tracing::debug!(%reason, "a datagram is passed over"),
        }
    }
}

fn any(like: SocketAddr, port: u16) -> SocketAddr {
    let address: IpAddr = match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(address, port)
}

/// TCP finds out only when connecting that the port is in use towards the same server.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

/// A number that no earlier call of this process had, and hardly one of an earlier process.
pub(in crate::nfs) fn transaction() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since
        .subsec_nanos()
        .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::rpc::Program;
    use crate::nfs::rpc::stub::Stub;

    #[tokio::test]
    async fn a_reserved_port_is_used_where_it_is_permitted() {
        let server = Stub::answering("127.0.0.1:0", Transport::Tcp).await;
        let mut channel = Channel::open_reserved(server.address(), Transport::Tcp).await.unwrap();
        let Channel::Tcp(stream) = &channel else { panic!("no stream") };
        let port = stream.local_addr().unwrap().port();
        assert_eq!(RESERVED_PORTS.contains(&port), rustix::process::geteuid().is_root(), "{port}");
        let call = Call::null(Program { number: 100_005, version: 3 });
        channel.call(&call).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_datagram_that_answers_another_call_is_passed_over() {
        let server = Stub::answering_after_a_stranger().await;
        let mut channel = Channel::open(server.address(), Transport::Udp).await.unwrap();
        let call = Call::null(Program { number: 100_003, version: 3 });
        channel.call(&call).await.unwrap().unwrap();
    }
}
