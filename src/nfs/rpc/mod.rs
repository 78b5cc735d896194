//! Remote procedure calls of our own (ONC RPC version 2, RFC 5531), for what a mount must know beforehand.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`message`] | a call into bytes, bytes into a reply |
//! | [`channel`] | one call after the other over UDP or TCP |
//! | [`rpcbind`] | where a service listens |
//! | [`mountd`] | what an NFSv3 export asks for, and good manners after an unmount |
//!
//! Each call has one limit for everything that it does, and is cancelled by being dropped. What answers may be
//! anything: nothing is believed before it was checked, and no length from outside is allocated. The bytes are
//! those of the crate `nfs3_types`.

pub mod channel;
pub mod message;
pub mod mountd;
pub mod rpcbind;
#[cfg(test)]
pub(crate) mod stub;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::host::errno::errno_name;
use crate::host::errno::errno_text;
use crate::model::nfs_option::Transport;
use crate::nfs::policy::RpcFault;
use crate::nfs::policy::Service;

use channel::Channel;
use message::Call;

/// A program in a version, as RPC numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Assigned at <https://www.iana.org/assignments/rpc-program-numbers>.
    pub number: u32,
    /// The version.
    pub version: u32,
}

impl Program {
    /// RFC 1833: version 2 is the portmapper of IPv4, 3 and 4 know netids.
    pub const fn rpcbind(version: u32) -> Self {
        Self { number: 100_000, version }
    }

    /// rpc.statd, which lockd asks in this version (fs/lockd/mon.c).
    pub const STATD: Self = Self { number: 100_024, version: 1 };
}

impl From<Service> for Program {
    fn from(service: Service) -> Self {
        match service {
            Service::Nfs(version) if version.is_4() => Self { number: 100_003, version: 4 },
            Service::Nfs(_) => Self { number: 100_003, version: 3 },
            Service::Mount(version) => Self { number: 100_005, version: u32::from(version) },
        }
    }
}

/// Calls procedure 0 of a program, which does nothing but answer.
///
/// # Errors
/// Says what answered instead, if anything did.
pub async fn null(
    server: SocketAddr,
    program: Program,
    transport: Transport,
    limit: Duration,
) -> Result<(), RpcFault> {
    within(limit, async {
        let mut channel = Channel::open(server, transport).await?;
        channel.call(&Call::null(program)).await.map(|answer| answer.map(drop))
    })
    .await
}

/// Runs calls for as long as `limit` allows: what went wrong below RPC becomes a fault here.
async fn within<T>(
    limit: Duration,
    calls: impl Future<Output = io::Result<Result<T, RpcFault>>>,
) -> Result<T, RpcFault> {
    match tokio::time::timeout(limit, calls).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Err(fault_of(&error, limit)),
        Err(_) => Err(RpcFault::NoAnswer(limit)),
    }
}

/// `No route to host (EHOSTUNREACH)`.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => format!("{} ({})", errno_text(errno), errno_name(errno)),
        None => error.to_string(),
    }
}

fn fault_of(error: &io::Error, limit: Duration) -> RpcFault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => RpcFault::Refused,
        io::ErrorKind::TimedOut => RpcFault::NoAnswer(limit),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => RpcFault::Closed,
        io::ErrorKind::InvalidData => RpcFault::Garbage(error.to_string()),
        _ => RpcFault::Unreachable(words(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::stub::Stub;
    use super::*;
    use crate::model::NfsVersion;

    const SOON: Duration = Duration::from_secs(5);
    const NFS3: Program = Program { number: 100_003, version: 3 };

    #[test]
    fn every_minor_version_of_nfs_is_version_4_to_rpc() {
        for version in [NfsVersion::V40, NfsVersion::V41, NfsVersion::V42] {
            assert_eq!(Program::from(Service::Nfs(version)).version, 4);
        }
        assert_eq!(Program::from(Service::Nfs(NfsVersion::V3)), NFS3);
        assert_eq!(Program::from(Service::Mount(1)), Program { number: 100_005, version: 1 });
    }

    #[tokio::test]
    async fn a_service_answers_over_tcp_and_udp_and_both_families() {
        for transport in [Transport::Tcp, Transport::Udp] {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let server = Stub::answering(address, transport).await;
                assert_eq!(null(server.address(), NFS3, transport, SOON).await, Ok(()));
            }
        }
    }

    #[tokio::test]
    async fn an_answer_in_many_fragments_is_put_together() {
        let server = Stub::fragments(&[1, 3, 0, 20]).await;
        assert_eq!(null(server.address(), NFS3, Transport::Tcp, SOON).await, Ok(()));
    }

    /// A name for what the server does, the server, and what is said of it.
    #[tokio::test]
    async fn each_wrong_answer_over_tcp_is_told_from_the_others() {
        let closed = "it closed the connection without an answer";
        for (name, server, said) in [
            ("closes", Stub::closing().await, closed),
            ("speaks HTTP", Stub::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, "\"HTTP\""),
            ("speaks TLS", Stub::saying(&[0x15, 3, 3, 0, 2, 2, 10]).await, "no RPC"),
            ("wrong xid", Stub::with_xid_plus(1).await, "another call"),
            ("huge record", Stub::saying(&[0xff; 8]).await, "2147483647 bytes"),
            ("no end of empty fragments", Stub::saying(&[0; 4096]).await, "fragments"),
            ("half a reply", Stub::saying(&[0x80, 0, 0, 4, 0, 0, 0, 0]).await, "no RPC reply"),
        ] {
            let fault = null(server.address(), NFS3, Transport::Tcp, SOON).await.unwrap_err();
            assert!(matches!(fault, RpcFault::Garbage(_) | RpcFault::Closed), "{name}: {fault}");
            assert!(fault.to_string().contains(said), "{name}: {fault}");
        }
    }

    #[tokio::test]
    async fn a_refusal_within_rpc_keeps_its_meaning() {
        for (words, fault) in [
            (vec![0, 0, 0, 1], RpcFault::NoSuchProgram),
            (vec![0, 0, 0, 2, 2, 4], RpcFault::NoSuchVersion { low: 2, high: 4 }),
            (vec![1, 1, 5], RpcFault::Denied),
        ] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let server = Stub::replying(transport, &words).await;
                let answer = null(server.address(), NFS3, transport, SOON).await;
                assert_eq!(answer, Err(fault.clone()), "{transport:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_closed_port_refuses_over_both_transports() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let address = Stub::closed_port(transport).await;
            assert_eq!(null(address, NFS3, transport, SOON).await, Err(RpcFault::Refused));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_left_at_the_limit() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let server = Stub::silent(transport).await;
            let answer = null(server.address(), NFS3, transport, SOON).await;
            assert_eq!(answer, Err(RpcFault::NoAnswer(SOON)), "{transport:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_datagram_that_was_lost_is_sent_again() {
        let server = Stub::answering_datagram(3).await;
        let limit = Duration::from_secs(30);
        assert_eq!(null(server.address(), NFS3, Transport::Udp, limit).await, Ok(()));
    }

    #[tokio::test]
    async fn there_is_no_call_over_rdma() {
        let address = ([127, 0, 0, 1], 1).into();
        let fault = null(address, NFS3, Transport::Rdma, SOON).await.unwrap_err();
        assert!(matches!(fault, RpcFault::Unreachable(_)), "{fault}");
    }
}
