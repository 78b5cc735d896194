//! Who is at the other end of a loopback connection: the kernel, or a process.
//!
//! The signs, from the strongest:
//!
//! 1. *The cgroup of the peer's socket*, from sock_diag. The NFS client's sockets belong to the root cgroup,
//!    whoever mounted; a process's socket belongs to the cgroup in which it was made and keeps it, even after
//!    the process is gone. Any other cgroup than the root is a process.
//! 2. *The user of the socket.* The NFS client makes its sockets in a kernel thread, as root. Any other user
//!    is a process.
//! 3. *A process that holds the socket.* Where the cgroup says nothing (cgroup v1, a kernel before 5.8, a
//!    process in the root cgroup) `/proc/*/fd` is searched for it. What this cannot see, it cannot
//!    refuse: it needs the host's process namespace and, for the files of others, CAP_SYS_PTRACE.
//!
//! A peer whose socket is not established any more is refused: nobody can tell whose it was.
//!
//! Of other processes only the name (`comm`) and the links in `fd` are read. `cmdline`, `environ` and `maps`
//! are never opened: they can block on the memory of a process that waits for a dead server.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;

use crate::host::peer_diag;
use crate::host::peer_proc;

/// The id of the root cgroup: the first inode of the cgroup file system, the same in every namespace.
const ROOT_CGROUP: u64 = 1;

/// A connection as the accepting side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The far end: the socket in question.
    pub peer: SocketAddrV4,
    /// Our end.
    pub local: SocketAddrV4,
}

impl Connection {
    /// The same connection, as the far end sees it.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { peer: self.local, local: self.peer }
    }
}

/// Who is at the far end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Nothing says that a process has to do with the socket.
    Kernel,
    /// A process.
    Process {
        /// What gave it away.
        sign: Sign,
        /// Which one, where it can be seen.
        process: Option<Process>,
    },
    /// The socket is closed, or closing.
    Gone,
}

/// What gives a process away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The socket's cgroup is not the root.
    Cgroup(u64),
    /// The socket's user is not root.
    User(u32),
    /// A process has a descriptor of the socket.
    Descriptor,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(id) => write!(f, "its socket belongs to cgroup {id}"),
            Self::User(id) => write!(f, "its socket belongs to user {id}"),
            Self::Descriptor => f.write_str("it holds the socket"),
        }
    }
}

/// A process, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id in the process namespace that `/proc` shows.
    pub id: u32,
    /// The text of `/proc/<id>/comm`.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.id)
    }
}

/// Tells who is at the far end of a connection.
pub trait PeerCheck: Send + Sync + fmt::Debug {
    /// Looks at one connection. Blocks for as long as it takes to walk through `/proc`.
    ///
    /// # Errors
    /// When the kernel cannot be asked; the caller must not take that for [`Peer::Kernel`].
    fn peer(&self, connection: Connection) -> io::Result<Peer>;

    /// The process that listens where we would like to, for a message.
    fn listener_at(&self, address: SocketAddrV4) -> Option<Process>;
}

/// Asks this kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxPeers;

impl PeerCheck for LinuxPeers {
    fn peer(&self, connection: Connection) -> io::Result<Peer> {
        let far_end = connection.reversed();
        let socket = match peer_diag::find(far_end) {
            Ok(Some(socket)) => Some(socket),
            // A kernel without tcp_diag answers as if no socket were there; our own end must be.
            Ok(None) if matches!(peer_diag::find(connection), Ok(Some(_))) => None,
            Ok(None) | Err(_) => peer_proc::find(far_end)?,
        };
        Ok(judge(socket.as_ref(), peer_proc::holder))
    }

    fn listener_at(&self, address: SocketAddrV4) -> Option<Process> {
        peer_proc::holder(peer_proc::listener_inode(address)?)
    }
}

/// What the kernel says of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketFacts {
    pub(super) established: bool,
    pub(super) user: u32,
    pub(super) inode: u32,
    pub(super) cgroup: Option<u64>,
}

fn judge(socket: Option<&SocketFacts>, holder: impl FnOnce(u32) -> Option<Process>) -> Peer {
    // An orphan, whose process has closed it, has no inode.
    let Some(socket) = socket.filter(|socket| socket.established && socket.inode != 0) else {
        return Peer::Gone;
    };
    let sign = match socket.cgroup {
        Some(id) if id != ROOT_CGROUP => Some(Sign::Cgroup(id)),
        _ if socket.user != 0 => Some(Sign::User(socket.user)),
        _ => None,
    };
    match (sign, holder(socket.inode)) {
        (Some(sign), process) => Peer::Process { sign, process },
        (None, Some(process)) => Peer::Process { sign: Sign::Descriptor, process: Some(process) },
        (None, None) => Peer::Kernel,
    }
}

/// Says what it was told to say.
#[derive(Debug)]
pub struct FakePeers(pub Peer);

impl PeerCheck for FakePeers {
    fn peer(&self, _: Connection) -> io::Result<Peer> {
        Ok(self.0.clone())
    }

    fn listener_at(&self, _: SocketAddrV4) -> Option<Process> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::net::TcpListener;
    use std::net::TcpStream;

    use super::*;

    const KERNEL: SocketFacts =
        SocketFacts { established: true, user: 0, inode: 7, cgroup: Some(ROOT_CGROUP) };

    fn somebody(_: u32) -> Option<Process> {
        Some(Process { id: 9, name: "nc".into() })
    }

    fn nobody(_: u32) -> Option<Process> {
        None
    }

    #[test]
    fn only_an_established_socket_of_root_in_the_root_cgroup_that_nobody_holds_is_the_kernels() {
        let unseen = |sign| Peer::Process { sign, process: None };
        for (socket, peer) in [
            (KERNEL, Peer::Kernel),
            (SocketFacts { cgroup: None, ..KERNEL }, Peer::Kernel),
            (SocketFacts { cgroup: Some(77), ..KERNEL }, unseen(Sign::Cgroup(77))),
            (SocketFacts { user: 1000, ..KERNEL }, unseen(Sign::User(1000))),
            (SocketFacts { established: false, ..KERNEL }, Peer::Gone),
            (SocketFacts { inode: 0, ..KERNEL }, Peer::Gone),
        ] {
            assert_eq!(judge(Some(&socket), nobody), peer, "{socket:?}");
        }
        assert_eq!(judge(None, nobody), Peer::Gone);
        assert_eq!(
            judge(Some(&KERNEL), somebody),
            Peer::Process { sign: Sign::Descriptor, process: somebody(7) }
        );
    }

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => panic!("{address}"),
        }
    }

    #[test]
    fn a_connection_of_this_process_is_known_as_such_and_a_closed_one_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = v4(listener.local_addr().unwrap());
        let client = TcpStream::connect(address).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let connection = Connection { peer: v4(peer), local: address };

        let Peer::Process { process: Some(process), .. } = LinuxPeers.peer(connection).unwrap()
        else {
            panic!("{:?}", LinuxPeers.peer(connection));
        };
        assert_eq!(process.id, std::process::id());

        drop(client);
        assert_eq!(LinuxPeers.peer(connection).unwrap(), Peer::Gone);
        drop(accepted);
    }

    #[test]
    fn a_listener_elsewhere_on_the_port_of_a_closed_peer_is_not_taken_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = Connection {
            peer: v4(other.local_addr().unwrap()),
            local: v4(listener.local_addr().unwrap()),
        };
        assert_eq!(LinuxPeers.peer(connection).unwrap(), Peer::Gone);
    }

    #[test]
    fn the_holder_of_a_listener_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = v4(listener.local_addr().unwrap());
        assert_eq!(LinuxPeers.listener_at(address).unwrap().id, std::process::id());
    }
}
