//! What the machine and the shell that drives it say to each other.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::daemon::Daemon;
use crate::host::daemon::Presence;
use crate::host::mount_table::MountEntry;
use crate::host::resolve::ResolveFault;
use crate::host::resolve::ServerAddress;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::model::NfsVersion;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Transport;
use crate::nfs::MountFault;
use crate::nfs::history::History;
use crate::nfs::probe::Export;
use crate::nfs::probe::RpcFault;
use crate::nfs::probe::Service;

/// What the shell is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Resolve a name; answered by [`Answer::Addresses`].
    Resolve {
        /// The name.
        host: String,
        /// Only addresses of this family.
        family: Option<Family>,
        /// How long to wait; then [`ResolveFault::TryAgain`].
        limit: Duration,
    },
    /// See whether the directory to mount at is there, before anything is sent; answered by
    /// [`Answer::Target`].
    CheckTarget {
        /// What the worker does.
        job: Job,
        /// When it is killed.
        deadline: Duration,
    },
    /// Find the address that packets to `destination` leave from; answered by [`Answer::Source`].
    Locate {
        /// The server.
        destination: ServerAddress,
    },
    /// See whether a daemon of this host runs; answered by [`Answer::Daemon`].
    LookFor(Daemon),
    /// Ask the server's rpcbind for a port; answered by [`Answer::Port`].
    AskPort {
        /// The server.
        server: ServerAddress,
        /// The service to find.
        service: Service,
        /// The transport of the service.
        transport: Transport,
        /// The transport of the question; another one only to IPv4.
        over: Transport,
        /// How long to wait; then [`RpcFault::NoAnswer`] with this time.
        limit: Duration,
    },
    /// Make a NULL call; answered by [`Answer::Pinged`].
    Ping {
        /// Where the service listens.
        server: SocketAddr,
        /// The service.
        service: Service,
        /// The transport.
        transport: Transport,
        /// How long to wait; then [`RpcFault::NoAnswer`] with this time.
        limit: Duration,
    },
    /// Ask mountd, version 3, by which flavours a directory may be mounted, and tell it that this was no mount;
    /// answered by [`Answer::Export`].
    AskExport {
        /// Where mountd listens.
        mountd: SocketAddr,
        /// The transport.
        transport: Transport,
        /// The directory.
        path: String,
        /// How long to wait; then [`RpcFault::NoAnswer`] with this time.
        limit: Duration,
    },
    /// Let the kernel mount; answered by [`Answer::Mounted`].
    Mount {
        /// What the worker does.
        job: Job,
        /// When it is killed.
        deadline: Duration,
    },
    /// Look at what is mounted at the target; answered by [`Answer::MountedThere`].
    LookAtTarget(PathBuf),
    /// Wait; answered by [`Answer::Waited`].
    Wait(Duration),
    /// Tell the caller that the mount is not there and that it goes on being tried (`bg`); answered by
    /// [`Answer::InBackground`].
    GoToBackground(Box<MountFault>),
    /// It is mounted; nothing is to be done any more. Every later answer gets this step again.
    Finish(Box<Mounted>),
    /// It is not; nothing is to be done any more. Every later answer gets this step again.
    GiveUp(Box<MountFault>),
}

/// What came of a [`Step`].
#[derive(Debug)]
pub enum Answer {
    /// Nothing was asked yet: the first call.
    Begin,
    /// In the order in which they are to be tried; IPv6 link-local ones with their scope.
    Addresses(Result<Vec<ServerAddress>, ResolveFault>),
    /// Whether the directory is there.
    Target(Result<Done, Failure>),
    /// This host's own address.
    Source(io::Result<IpAddr>),
    /// Whether the daemon runs.
    Daemon(Presence),
    /// The port; [`RpcFault::NotRegistered`] where rpcbind knows none.
    Port(Result<u16, RpcFault>),
    /// The service answered.
    Pinged(Result<(), RpcFault>),
    /// What mountd says of the directory.
    Export(Result<Export, RpcFault>),
    /// The kernel's answer.
    Mounted(Result<Done, Failure>),
    /// The mount on top at the target, where there is one.
    MountedThere(io::Result<Option<MountEntry>>),
    /// The time is over.
    Waited,
    /// The caller knows.
    InBackground,
    /// The caller does not want the mount any more. May come instead of any other answer.
    Cancelled,
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
    /// What the caller may want to warn about.
    pub notes: Vec<Note>,
    /// Everything that was tried.
    pub history: History,
}

/// Something about a mount that is no fault. Its text is one sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// The user chose the address for the server's calls back; whether it is one of this host's is to be seen.
    #[error(
        "clientaddr={0} is not an address of this host; unless something on the way to the server translates it, the \
         server cannot call back, and grants no delegations"
    )]
    ClientAddressOfUser(IpAddr),
    /// No address for the server's calls back was found, for this reason; the kernel chooses one.
    #[error(
        "no address of this host was found for the server's calls back, so the kernel chooses one: {0}"
    )]
    NoClientAddress(String),
    /// Whether a daemon runs could not be found out, for this reason.
    #[error("whether {0:?} runs on this host could not be found out: {1}")]
    DaemonUnknown(Daemon, String),
}

/// What the running kernel can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelFacts {
    /// NFSv3 over UDP (CONFIG_NFS_DISABLE_UDP_SUPPORT is not set).
    pub nfs_over_udp: bool,
}
