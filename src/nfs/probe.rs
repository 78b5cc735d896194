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

/// What mountd says of a directory (RFC 1813, section 5.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// This host may mount it, by one of these.
    Flavours(Vec<Flavour>),
    /// It may not, for this reason (mountstat3).
    Refused(u32),
}

/// A security flavour, as RPC numbers them (<https://www.iana.org/assignments/rpc-authentication-numbers>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flavour(pub u32);

impl Flavour {
    /// AUTH_NONE.
    pub const NONE: Self = Self(0);
    /// AUTH_SYS.
    pub const SYS: Self = Self(1);
}

/// As in `sec=`; the number of one that has no name there.
impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("none"),
            1 => f.write_str("sys"),
            390_003 => f.write_str("krb5"),
            390_004 => f.write_str("krb5i"),
            390_005 => f.write_str("krb5p"),
            390_006 => f.write_str("lkey"),
            390_007 => f.write_str("lkeyi"),
            390_008 => f.write_str("lkeyp"),
            390_009 => f.write_str("spkm3"),
            390_010 => f.write_str("spkm3i"),
            390_011 => f.write_str("spkm3p"),
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flavours(flavours) => {
                let flavours: Vec<_> = flavours.iter().map(ToString::to_string).collect();
                write!(f, "sec={}", flavours.join(":"))
            }
            Self::Refused(status) => write!(f, "refused with status {status}"),
        }
    }
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
