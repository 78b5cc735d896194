//! Who is at the other end of a loopback connection: the kernel, or a process.
//!
//! The signs, from the strongest:
//!
//! 1. *The cgroup of the peer's socket*, from sock_diag. The NFS client's sockets belong to the root cgroup,
//!    whoever mounted; a process's socket belongs to the cgroup in which it was made and keeps it, even after
//!    the process is gone. Any other cgroup than the root is a process.
//! 2. *The user of the socket.* The NFS client makes its sockets in a kernel thread, as root. Any other user
//!    is a process.
//! 3. *The list of the kernel's RPC client* (Linux 5.14). It names both ends of each of its connections: what is
//!    listed is the kernel's and what is not is a process's, wherever the descriptor is: on its way through
//!    a Unix socket, in an io_uring, in the table of a single thread.
//! 4. *A process that holds the socket.* Where neither the cgroup (cgroup v1, a kernel before 5.8, a process in the
//!    root cgroup) nor the RPC client says anything, `/proc/*/fd` is searched for it. What this cannot see, it
//!    cannot refuse: it needs the host's process namespace and, for the files of others, CAP_SYS_PTRACE.
//!
//! The cheap signs come first. Who an intruder is, is only searched for when somebody is to be told.
//!
//! A peer whose socket is not established any more is refused: nobody can tell whose it was.
//!
//! Of other processes only the name (`comm`) and the links in `fd` are read. `cmdline`, `environ` and `maps`
//! are never opened: they can block on the memory of a process that waits for a dead server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::host::occupant::Occupant;
use crate::host::peer_diag;
use crate::host::peer_proc;
use crate::host::peer_rpc;
use crate::host::peer_rpc::Word;

/// The id of the root cgroup: the first inode of the cgroup file system, the same in every namespace.
const ROOT_CGROUP: u64 = 1;

/// For a name that only goes into a message. A look at a busy node's `/proc` takes some 30 ms.
const NAME_DEADLINE: Duration = Duration::from_millis(300);

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
        /// Which one, where that was seen on the way.
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
    /// The kernel's RPC client does not list the connection.
    NotListed,
    /// A process has a descriptor of the socket.
    Descriptor,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(id) => write!(f, "its socket belongs to cgroup {id}"),
            Self::User(id) => write!(f, "its socket belongs to user {id}"),
            Self::NotListed => f.write_str("the kernel's RPC client does not list the connection"),
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
    /// Looks at one connection. Blocks, on a kernel that gives no other sign for as long as it takes to walk through
    /// `/proc`.
    ///
    /// # Errors
    /// When the kernel cannot be asked; the caller must not take that for [`Peer::Kernel`].
    fn peer(&self, connection: Connection) -> io::Result<Peer>;

    /// The process at the far end, for a message. Walks through `/proc`.
    fn holder(&self, connection: Connection) -> Option<Process>;

    /// Who listens where we would like to, for a message. Takes a third of a second at most.
    fn occupant(&self, wanted: SocketAddrV4) -> Option<Occupant>;
}

/// Asks this kernel.
#[derive(Debug, Default)]
pub struct LinuxPeers {
    /// Who was found last. Who connects without end is found at once.
    intruder: AtomicU32,
}

impl PeerCheck for LinuxPeers {
    fn peer(&self, connection: Connection) -> io::Result<Peer> {
        let socket = far_socket(connection)?;
        let listed = || peer_rpc::ask(connection.reversed());
        Ok(judge(socket.as_ref(), listed, |inode| self.holder_of(inode)))
    }

    fn holder(&self, connection: Connection) -> Option<Process> {
        self.holder_of(far_socket(connection).ok()??.inode)
    }

    fn occupant(&self, wanted: SocketAddrV4) -> Option<Occupant> {
        // A kernel without tcp_diag answers as if nobody listened.
        let asked = peer_diag::listener(wanted).ok().flatten();
        let ListenerFacts { at, user, inode } = asked.or_else(|| peer_proc::listener(wanted))?;
        let until = Instant::now() + NAME_DEADLINE;
        let process = self.remembered(inode, || peer_proc::holder_until(inode, until));
        Some(Occupant { wanted, at, user, process })
    }
}

impl LinuxPeers {
    fn holder_of(&self, inode: u32) -> Option<Process> {
        self.remembered(inode, || peer_proc::holder(inode))
    }

    /// Looks at who was found last before anybody else.
    fn remembered(&self, inode: u32, search: impl FnOnce() -> Option<Process>) -> Option<Process> {
        let before = self.intruder.load(Ordering::Relaxed);
        let process = peer_proc::held_by(before, inode).or_else(search)?;
        self.intruder.store(process.id, Ordering::Relaxed);
        Some(process)
    }
}

/// The socket at the far end, where there is one.
fn far_socket(connection: Connection) -> io::Result<Option<SocketFacts>> {
    let far_end = connection.reversed();
    match peer_diag::find(far_end) {
        Ok(Some(socket)) => Ok(Some(socket)),
        // A kernel without tcp_diag answers as if no socket were there; our own end must be.
        Ok(None) if matches!(peer_diag::find(connection), Ok(Some(_))) => Ok(None),
        Ok(None) | Err(_) => peer_proc::find(far_end),
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

/// What the kernel says of a socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenerFacts {
    pub(super) at: SocketAddr,
    pub(super) user: u32,
    pub(super) inode: u32,
}

fn judge(
    socket: Option<&SocketFacts>,
    listed: impl FnOnce() -> Word,
    holder: impl FnOnce(u32) -> Option<Process>,
) -> Peer {
    let process = |sign| Peer::Process { sign, process: None };
    // An orphan, whose process has closed it, has no inode.
    let Some(socket) = socket.filter(|socket| socket.established && socket.inode != 0) else {
        return Peer::Gone;
    };
    match socket.cgroup {
        Some(id) if id != ROOT_CGROUP => return process(Sign::Cgroup(id)),
        _ if socket.user != 0 => return process(Sign::User(socket.user)),
        _ => {}
    }
    match listed() {
        Word::Listed => Peer::Kernel,
        Word::NotListed => process(Sign::NotListed),
        Word::Silent => match holder(socket.inode) {
            Some(holder) => Peer::Process { sign: Sign::Descriptor, process: Some(holder) },
            None => Peer::Kernel,
        },
    }
}

/// Says what it was told to say.
#[derive(Debug)]
pub struct FakePeers(pub Peer);

impl PeerCheck for FakePeers {
    fn peer(&self, _: Connection) -> io::Result<Peer> {
        Ok(self.0.clone())
    }

    fn holder(&self, _: Connection) -> Option<Process> {
        Some(Process { id: 42, name: "nc".into() })
    }

    fn occupant(&self, _: SocketAddrV4) -> Option<Occupant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const KERNEL: SocketFacts =
        SocketFacts { established: true, user: 0, inode: 7, cgroup: Some(ROOT_CGROUP) };

    fn somebody(_: u32) -> Option<Process> {
        Some(Process { id: 9, name: "nc".into() })
    }

    fn nobody(_: u32) -> Option<Process> {
        None
    }

    fn not_asked<T>() -> T {
        panic!("a sign that costs less has told it already")
    }

    #[test]
    fn only_an_established_socket_of_root_in_the_root_cgroup_that_nobody_holds_is_the_kernels() {
        let unseen = |sign| Peer::Process { sign, process: None };
        let silent = || Word::Silent;
        for socket in [KERNEL, SocketFacts { cgroup: None, ..KERNEL }] {
            assert_eq!(judge(Some(&socket), silent, nobody), Peer::Kernel, "{socket:?}");
            let held = Peer::Process { sign: Sign::Descriptor, process: somebody(7) };
            assert_eq!(judge(Some(&socket), silent, somebody), held, "{socket:?}");
        }
        for (socket, peer) in [
            (SocketFacts { cgroup: Some(77), ..KERNEL }, unseen(Sign::Cgroup(77))),
            (SocketFacts { user: 1000, ..KERNEL }, unseen(Sign::User(1000))),
            (SocketFacts { established: false, ..KERNEL }, Peer::Gone),
            (SocketFacts { inode: 0, ..KERNEL }, Peer::Gone),
        ] {
            assert_eq!(judge(Some(&socket), not_asked, |_| not_asked()), peer, "{socket:?}");
        }
        assert_eq!(judge(None, not_asked, |_| not_asked()), Peer::Gone);
    }

    #[test]
    fn the_word_of_the_rpc_client_decides_without_a_look_at_processes() {
        for (word, peer) in [
            (Word::Listed, Peer::Kernel),
            (Word::NotListed, Peer::Process { sign: Sign::NotListed, process: None }),
        ] {
            assert_eq!(judge(Some(&KERNEL), || word, |_| not_asked()), peer);
        }
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

        let peers = LinuxPeers::default();
        let peer = peers.peer(connection).unwrap();
        assert!(matches!(peer, Peer::Process { .. }), "{peer:?}");
        // The second time it is the first that is looked at.
        for _ in 0..2 {
            assert_eq!(peers.holder(connection).unwrap().id, std::process::id());
        }

        drop(client);
        assert_eq!(peers.peer(connection).unwrap(), Peer::Gone);
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
        assert_eq!(LinuxPeers::default().peer(connection).unwrap(), Peer::Gone);
    }

    #[test]
    fn who_listens_there_or_at_every_address_is_found_by_either_way() {
        for at in ["127.0.9.1:0", "0.0.0.0:0", "[::]:0"] {
            let listener = match TcpListener::bind(at) {
                Err(error) if at.starts_with('[') => {
                    eprintln!("no IPv6 here, so nobody listens for it: {error}");
                    continue;
                }
                bound => bound.unwrap(),
            };
            let at = listener.local_addr().unwrap();
            let wanted = SocketAddrV4::new("127.0.9.1".parse().unwrap(), at.port());
            let peers = LinuxPeers::default();
            // The second time it is the first that is looked at.
            for _ in 0..2 {
                let occupant = peers.occupant(wanted).unwrap();
                assert_eq!((occupant.at, occupant.wanted), (at, wanted));
                assert_eq!(occupant.process.unwrap().id, std::process::id(), "{at}");
            }
            let shown = peer_proc::listener(wanted).unwrap();
            assert_eq!(peer_diag::listener(wanted).unwrap().unwrap_or(shown), shown, "{at}");
            drop(listener);
            // A child that another test starts meanwhile has the socket too, until its exec(2).
            let mut looks = 0..1000;
            while let Some(occupant) = peers.occupant(wanted) {
                assert!(looks.next().is_some(), "{at}: {occupant}");
                thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}
