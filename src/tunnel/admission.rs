//! Who may connect to a listener: the kernel, and nobody else.
//!
//! The tunnel authenticates the node, not the process: whoever gets a connection through it is, to the server,
//! this node's NFS client. What cannot be decided in time is refused; the kernel comes again.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::host::occupant::Occupant;
use crate::host::peer::Connection;
use crate::host::peer::LinuxPeers;
use crate::host::peer::Peer;
use crate::host::peer::PeerCheck;
use crate::host::peer::Process;
use crate::host::peer::Sign;

/// A look at a busy node's `/proc` takes some 30 ms.
const DEADLINE: Duration = Duration::from_secs(2);

/// The rule of a tunnel process.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Only the kernel's own connections.
    KernelOnly(Arc<dyn PeerCheck>),
    /// Every local process: for debugging and benchmarks.
    Anyone,
}

/// Why a connection was not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is a process's.
    #[error("{} is not the kernel's NFS client ({})", name(.process), .sign)]
    Process {
        /// What gave it away.
        sign: Sign,
        /// Which one, where it can be seen.
        process: Option<Process>,
    },
    /// It was closed before anybody could tell whose it was.
    #[error("the peer is gone already")]
    Gone,
    /// The kernel cannot be asked.
    #[error("failed to find out who connects: {0}")]
    Unknown(#[from] io::Error),
    /// The kernel did not answer in time.
    #[error("failed to find out who connects within {} s", DEADLINE.as_secs())]
    Deadline,
}

impl Admission {
    /// Decides on one accepted connection. With `by_name`, a process that is refused is searched for: it takes longer.
    ///
    /// # Errors
    /// Says why it must be closed.
    pub async fn admit(&self, connection: Connection, by_name: bool) -> Result<(), Refusal> {
        let Self::KernelOnly(peers) = self else { return Ok(()) };
        let peers = Arc::clone(peers);
        let looking = tokio::task::spawn_blocking(move || look(&*peers, connection, by_name));
        match timeout(DEADLINE, looking).await {
            Ok(Ok(peer)) => match peer? {
                Peer::Kernel => Ok(()),
                Peer::Process { sign, process } => Err(Refusal::Process { sign, process }),
                Peer::Gone => Err(Refusal::Gone),
            },
            Ok(Err(panicked)) => Err(Refusal::Unknown(io::Error::other(panicked))),
            Err(_) => Err(Refusal::Deadline),
        }
    }

    /// Who listens at an address that we could not bind.
    #[must_use]
    pub fn occupant(&self, wanted: SocketAddrV4) -> Option<Occupant> {
        match self {
            Self::KernelOnly(peers) => peers.occupant(wanted),
            Self::Anyone => LinuxPeers::default().occupant(wanted),
        }
    }
}

fn look(peers: &dyn PeerCheck, connection: Connection, by_name: bool) -> io::Result<Peer> {
    Ok(match peers.peer(connection)? {
        Peer::Process { sign, process: None } if by_name => {
            Peer::Process { sign, process: peers.holder(connection) }
        }
        peer => peer,
    })
}

fn name(process: &Option<Process>) -> String {
    process.as_ref().map_or_else(|| "a process of another container".to_owned(), Process::to_string)
}

#[cfg(test)]
mod tests {
    use crate::host::peer::FakePeers;

    use super::*;

    const CONNECTION: Connection = Connection {
        peer: SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 900),
        local: SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 12049),
    };

    async fn admit(peer: Peer) -> Result<(), Refusal> {
        Admission::KernelOnly(Arc::new(FakePeers(peer))).admit(CONNECTION, true).await
    }

    #[tokio::test]
    async fn the_kernel_is_let_in_and_a_process_is_refused_by_its_name() {
        admit(Peer::Kernel).await.unwrap();
        let process = Process { id: 42, name: "nc".into() };
        for process in [Some(process), None] {
            let peer = Peer::Process { sign: Sign::Descriptor, process };
            assert_eq!(
                admit(peer).await.unwrap_err().to_string(),
                "nc (pid 42) is not the kernel's NFS client (it holds the socket)"
            );
        }
        assert!(matches!(admit(Peer::Gone).await, Err(Refusal::Gone)));
    }

    #[tokio::test]
    async fn who_an_intruder_is_is_searched_for_only_where_it_is_to_be_said() {
        let intruder = Peer::Process { sign: Sign::Cgroup(7), process: None };
        let admission = Admission::KernelOnly(Arc::new(FakePeers(intruder)));
        let refusal = admission.admit(CONNECTION, false).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Process { process: None, .. }), "{refusal}");
        let refusal = admission.admit(CONNECTION, true).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Process { process: Some(_), .. }), "{refusal}");
    }

    #[derive(Debug)]
    struct Mute;

    impl PeerCheck for Mute {
        fn peer(&self, _: Connection) -> io::Result<Peer> {
            Err(io::Error::other("no netlink"))
        }

        fn holder(&self, _: Connection) -> Option<Process> {
            None
        }

        fn occupant(&self, _: SocketAddrV4) -> Option<Occupant> {
            None
        }
    }

    #[tokio::test]
    async fn what_cannot_be_found_out_is_refused() {
        let admission = Admission::KernelOnly(Arc::new(Mute));
        assert!(matches!(admission.admit(CONNECTION, true).await, Err(Refusal::Unknown(_))));
    }
}
