//! What to do next for a mount: a pure machine without any I/O.
//!
//! The shell that drives it does each [`Step`] and hands the [`Answer`] back with the time.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::model::NfsVersion;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Transport;
use crate::nfs::MountFault;

pub use crate::host::daemon::Daemon;
pub use crate::host::daemon::Presence;
pub use crate::host::resolve::ResolveFault;
pub use crate::host::resolve::ServerAddress;

/// What the shell is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Resolve a name; answered by [`Answer::Addresses`].
    Resolve {
        /// The name.
        host: String,
        /// Only addresses of this family.
        family: Option<Family>,
    },
    /// Find the address that packets to `destination` leave from; answered by [`Answer::Source`].
    Locate {
        /// The server.
        destination: IpAddr,
    },
    /// See whether a daemon of this host runs; answered by [`Answer::Daemon`].
    LookFor(Daemon),
    /// Ask the server's rpcbind for a port; answered by [`Answer::Port`].
    AskPort {
        /// The server.
        server: IpAddr,
        /// The service to find.
        service: Service,
        /// The transport, of the question as of the service.
        transport: Transport,
    },
    /// Make a NULL call; answered by [`Answer::Pinged`].
    Ping {
        /// Where the service listens.
        server: SocketAddr,
        /// The service.
        service: Service,
        /// The transport.
        transport: Transport,
    },
    /// Let the kernel mount; answered by [`Answer::Mounted`].
    Mount {
        /// What the worker does.
        job: Job,
        /// When it is killed.
        deadline: Duration,
    },
    /// Wait; answered by [`Answer::Waited`].
    Wait(Duration),
    /// Tell the caller that the mount is not there and that it goes on being tried (`bg`); answered by
    /// [`Answer::InBackground`].
    GoToBackground(Box<MountFault>),
    /// It is mounted; nothing is to be done any more.
    Finish(Box<Mounted>),
    /// It is not; nothing is to be done any more.
    GiveUp(Box<MountFault>),
}

/// What came of a [`Step`].
#[derive(Debug)]
pub enum Answer {
    /// Nothing was asked yet: the first call.
    Begin,
    /// In the order in which they are to be tried; IPv6 link-local ones with their scope.
    Addresses(Result<Vec<ServerAddress>, ResolveFault>),
    /// This host's own address.
    Source(io::Result<IpAddr>),
    /// Whether the daemon runs.
    Daemon(Presence),
    /// The port; [`RpcFault::NotRegistered`] where rpcbind knows none.
    Port(Result<u16, RpcFault>),
    /// The service answered.
    Pinged(Result<(), RpcFault>),
    /// The kernel's answer.
    Mounted(Result<Done, Failure>),
    /// The time is over.
    Waited,
    /// The caller knows.
    InBackground,
    /// The caller does not want the mount any more. May come instead of any other answer.
    Cancelled,
}

/// An RPC program in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Program 100003.
    Nfs(NfsVersion),
    /// Program 100005, version 1 or 3.
    Mount(u8),
}

/// Why a remote procedure call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcFault {
    /// The port is closed.
    #[error("connection refused")]
    Refused,
    /// No answer within this time.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// No way there.
    #[error("{0}")]
    Unreachable(String),
    /// rpcbind knows of no such service.
    #[error("rpcbind does not know the service")]
    NotRegistered,
    /// PROG_UNAVAIL.
    #[error("the server does not have the program")]
    NoSuchProgram,
    /// PROG_MISMATCH, with the versions that the server has.
    #[error("the server has versions {low} to {high} of the program")]
    NoSuchVersion {
        /// The lowest.
        low: u32,
        /// The highest.
        high: u32,
    },
    /// The server does not accept our credentials.
    #[error("the server refused the call's credentials")]
    Denied,
    /// What answered does not speak RPC, or it closed the connection.
    #[error("{0}")]
    Garbage(String),
}

/// A mount that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The NFS version that worked.
    pub version: NfsVersion,
    /// Where the kernel connected to.
    pub server: SocketAddr,
    /// The option text that finally worked, for the record and for unmounting (never a secret in it).
    pub options: String,
    /// It was there already (EBUSY, and the same file system).
    pub already: bool,
}
