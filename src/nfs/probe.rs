//! The words for what is asked of a server before the kernel is, and for what comes of it.

use std::fmt;
use std::time::Duration;

use crate::model::NfsVersion;

/// An RPC program in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Program 100003.
    Nfs(NfsVersion),
    /// Program 100005, version 1 or 3.
    Mount(u8),
}

/// What listens on a server for one part of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The NFS service itself.
    Nfs,
    /// rpcbind, on port 111.
    Rpcbind,
    /// mountd, for NFSv3.
    Mountd,
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
    #[error("not registered")]
    NotRegistered,
    /// PROG_UNAVAIL.
    #[error("the server does not have the program")]
    NoSuchProgram,
    /// PROG_MISMATCH, with the versions that the server has.
    #[error("the server has {} of the program", versions(*.low, *.high))]
    NoSuchVersion {
        /// The lowest.
        low: u32,
        /// The highest.
        high: u32,
    },
    /// The server does not accept our credentials.
    #[error("the server refused the call's credentials")]
    Denied,
    /// It took the connection and closed it without an answer.
    #[error("it closed the connection without an answer")]
    Closed,
    /// What answered does not speak RPC.
    #[error("{0}")]
    Garbage(String),
}

fn versions(low: u32, high: u32) -> String {
    if low == high { format!("version {low}") } else { format!("versions {low} to {high}") }
}

impl Service {
    /// Who offers it.
    #[must_use]
    pub fn peer(self) -> Peer {
        match self {
            Self::Nfs(_) => Peer::Nfs,
            Self::Mount(_) => Peer::Mountd,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nfs(NfsVersion::V3) => f.write_str("NFS 3"),
            // To RPC, all minor versions are one.
            Self::Nfs(_) => f.write_str("NFS 4"),
            Self::Mount(version) => write!(f, "MOUNT {version}"),
        }
    }
}
