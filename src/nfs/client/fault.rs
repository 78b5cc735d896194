//! Why a call of ours to an NFS server failed, in words that say what to do.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::nfs::client::name::NameError;
use crate::nfs::policy::RpcFault;

/// What a server answers instead of a result (RFC 1813, section 2.6, and mountstat3 of section 5.1.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// NFS3ERR_PERM.
    pub const PERM: Self = Self(1);
    /// NFS3ERR_NOENT.
    pub const NOENT: Self = Self(2);
    /// NFS3ERR_ACCES.
    pub const ACCES: Self = Self(13);
    /// NFS3ERR_EXIST.
    pub const EXIST: Self = Self(17);
    /// NFS3ERR_NOTDIR.
    pub const NOTDIR: Self = Self(20);
    /// NFS3ERR_ISDIR.
    pub const ISDIR: Self = Self(21);
    /// NFS3ERR_NOSPC.
    pub const NOSPC: Self = Self(28);
    /// NFS3ERR_ROFS.
    pub const ROFS: Self = Self(30);
    /// NFS3ERR_NOTEMPTY.
    pub const NOTEMPTY: Self = Self(66);
    /// NFS3ERR_DQUOT.
    pub const DQUOT: Self = Self(69);
    /// NFS3ERR_STALE.
    pub const STALE: Self = Self(70);
    /// NFS3ERR_JUKEBOX: later.
    pub const JUKEBOX: Self = Self(10008);
}

/// Name, meaning, and what to do where that is known.
const STATUSES: &[(u32, &str, &str)] = &[
    (
        1,
        "PERM",
        "operation not permitted; let root keep its rights (no_squash) in the mount target's permission group",
    ),
    (2, "NOENT", "no such file or directory"),
    (5, "IO", "input/output error on the server; try again, then ask whoever runs it"),
    (
        13,
        "ACCES",
        "permission denied; let this cluster's addresses in, with root's rights, in the permission group",
    ),
    (17, "EXIST", "it exists already"),
    (20, "NOTDIR", "not a directory"),
    (21, "ISDIR", "it is a directory"),
    (22, "INVAL", "the server takes no such argument"),
    (27, "FBIG", "the file is too large"),
    (28, "NOSPC", "no space is left on the file system"),
    (
        30,
        "ROFS",
        "the file system is read-only for this client; allow writing in the permission group",
    ),
    (63, "NAMETOOLONG", "the name is too long for the server"),
    (66, "NOTEMPTY", "the directory is not empty"),
    (69, "DQUOT", "the quota is used up"),
    (70, "STALE", "it is gone from the server"),
    (10004, "NOTSUPP", "the server does not support it"),
    (10006, "SERVERFAULT", "the server failed; try again, then ask whoever runs it"),
    (10008, "JUKEBOX", "the server wants to be asked later"),
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match STATUSES.iter().find(|(number, ..)| *number == self.0) {
            Some((_, name, meaning)) => write!(f, "{meaning} (NFS3ERR_{name})"),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum NfsFault {
    /// The server says no.
    #[error("failed to {action}: {status}")]
    Refused {
        /// What was tried, on what.
        action: String,
        /// Its word for it.
        status: Status,
    },
    /// The server says nothing.
    #[error("failed to {action}: no answer within {} s; the server is overloaded or gone, and it is tried again", .waited.as_secs())]
    NoAnswer {
        /// What was tried, on what.
        action: String,
        /// For how long.
        waited: Duration,
    },
    /// The connection broke.
    #[error("failed to {action}: the connection was lost: {source}")]
    Lost {
        /// What was tried, on what.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// What answers does not serve this.
    #[error(
        "failed to {action}: {source}; check that the port is the mount target's own, which serves MOUNT and NFSv3"
    )]
    Rpc {
        /// What was tried, on what.
        action: String,
        /// What came instead.
        source: RpcFault,
    },
    /// What answers is no NFS server.
    #[error("failed to {action}: the answer makes no sense ({why})")]
    Garbage {
        /// What was tried, on what.
        action: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that leads elsewhere.
    #[error("failed to {action}: {source}")]
    Name {
        /// What was tried, on what.
        action: String,
        /// The rule.
        source: NameError,
    },
}

impl NfsFault {
    /// The server's own word, where it has said one.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::NoAnswer { .. }
            | Self::Lost { .. }
            | Self::Rpc { .. }
            | Self::Garbage { .. }
            | Self::Name { .. } => None,
        }
    }
}

/// Takes one status for success without a result.
pub trait Unless<T> {
    /// `None` where the server said `status`.
    ///
    /// # Errors
    /// Every other fault.
    fn unless(self, status: Status) -> Result<Option<T>, NfsFault>;
}

impl<T> Unless<T> for Result<T, NfsFault> {
    fn unless(self, status: Status) -> Result<Option<T>, NfsFault> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(fault) if fault.status() == Some(status) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}
