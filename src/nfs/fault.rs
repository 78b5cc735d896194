//! What a failed mount is called, and what to do about it: one line for each.
//!
//! Which failure is which is decided in [`super::diagnose`].

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::NfsMount;
use crate::host::errno::errno_name;
use crate::host::mount_syscalls::call;
use crate::host::worker::Failure;
use crate::model::NfsVersion;

/// Why a mount failed. Its text is one line: what was tried, on what, why it failed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountFault {
    /// The directory is not there.
    NoSuchExport(Attempt),
    /// What is there is a file.
    ExportNotADirectory(Attempt),
    /// The server does not let this node in, or says so instead of "no such directory".
    ExportDenied(Attempt),
    /// The server does not speak this version.
    VersionNotServed(Attempt),
    /// The kernel does not know an option, or does not take its value.
    OptionRefused(Attempt),
    /// No NFS client for this version in this kernel.
    KernelLacksNfs(Attempt),
    /// CAP_SYS_ADMIN is missing.
    NotPrivileged(Attempt),
    /// The local directory is not there.
    TargetMissing(Attempt),
    /// Something else is there.
    TargetNotADirectory(Attempt),
    /// A name or path that NFS or Linux cannot carry.
    NameTooLong(Attempt),
    /// The tunnel refused or broke the connection: it does not run, or does not reach the mount target.
    Unreachable(Attempt),
    /// A connection, but no answer: for this long, where it was us who stopped waiting.
    NoAnswer(Attempt, Option<Duration>),
    /// An NFS mount is there already, and would be hidden.
    AlreadyMounted(Attempt),
    /// Nothing that we have a better word for.
    Other(Attempt),
}

/// How [`call::option`] begins.
pub(super) const OPTION: &str = "fsconfig(";

/// What was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `domain:/path`.
    pub source: String,
    /// The local directory.
    pub target: PathBuf,
    /// The NFS version.
    pub version: NfsVersion,
    /// Where the tunnel listens.
    pub endpoint: SocketAddr,
    /// The call that failed and its errno, or what became of the worker.
    pub outcome: String,
    /// The kernel's words.
    pub kernel: Vec<String>,
}

impl MountFault {
    /// Whether trying the same again is in vain until somebody changes something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NoSuchExport(_)
            | Self::ExportNotADirectory(_)
            | Self::ExportDenied(_)
            | Self::VersionNotServed(_)
            | Self::OptionRefused(_)
            | Self::KernelLacksNfs(_)
            | Self::NotPrivileged(_)
            | Self::TargetMissing(_)
            | Self::TargetNotADirectory(_)
            | Self::NameTooLong(_)
            | Self::AlreadyMounted(_) => true,
            Self::Unreachable(_) | Self::NoAnswer(..) | Self::Other(_) => false,
        }
    }
}

impl fmt::Display for MountFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = self.attempt();
        write!(f, "failed to mount {attempt}: {}{}", self.cause_and_remedy(), attempt.said())
    }
}

impl std::error::Error for MountFault {}

impl MountFault {
    fn cause_and_remedy(&self) -> String {
        match self {
            Self::NoSuchExport(_) => {
                "the mount target has no such directory; create it there, or correct the path of the volume"
                    .to_owned()
            }
            Self::ExportNotADirectory(_) => {
                "this path is a file on the mount target; give a directory as the path of the volume"
                    .to_owned()
            }
            Self::ExportDenied(attempt) => {
                format!("the mount target denied access; {}", attempt.way_to_be_allowed())
            }
            Self::VersionNotServed(attempt) => format!(
                "the mount target does not serve this NFS version; try the mount option {}",
                attempt.other_version()
            ),
            Self::OptionRefused(attempt) => format!(
                "the kernel refused {}; correct or remove it in the mount options",
                attempt.refused_option()
            ),
            Self::KernelLacksNfs(attempt) => format!(
                "the kernel of this node has no NFS client for this version; load it (modprobe {}), or \
                 install the package that holds it",
                attempt.module()
            ),
            Self::NotPrivileged(_) => "this process is not permitted to mount; the node container must be \
                                       privileged, and the command line must run as root"
                .to_owned(),
            Self::TargetMissing(_) => {
                "the directory to mount at does not exist on this node; create it".to_owned()
            }
            Self::TargetNotADirectory(_) => {
                "the path to mount at is no directory on this node; remove what is there".to_owned()
            }
            Self::NameTooLong(_) => "a path or a name in it is too long; shorten it".to_owned(),
            Self::Unreachable(attempt) => format!(
                "no connection through the tunnel at {}; see the tunnel's log and `alinas-csi status` for \
                 whether it runs and reaches the mount target",
                attempt.endpoint
            ),
            Self::NoAnswer(attempt, after) => format!(
                "no answer through the tunnel at {}{}; check that the mount target is active and its \
                 security group lets this node in",
                attempt.endpoint,
                after.map(|after| format!(" within {} s", after.as_secs())).unwrap_or_default()
            ),
            Self::AlreadyMounted(_) => {
                "something is mounted there already; unmount it first, if it is not in use".to_owned()
            }
            Self::Other(_) => "for a reason that may pass; try again, and see the end of this line".to_owned(),
        }
    }

    fn attempt(&self) -> &Attempt {
        match self {
            Self::NoSuchExport(attempt)
            | Self::ExportNotADirectory(attempt)
            | Self::ExportDenied(attempt)
            | Self::VersionNotServed(attempt)
            | Self::OptionRefused(attempt)
            | Self::KernelLacksNfs(attempt)
            | Self::NotPrivileged(attempt)
            | Self::TargetMissing(attempt)
            | Self::TargetNotADirectory(attempt)
            | Self::NameTooLong(attempt)
            | Self::Unreachable(attempt)
            | Self::NoAnswer(attempt, _)
            | Self::AlreadyMounted(attempt)
            | Self::Other(attempt) => attempt,
        }
    }
}

impl Attempt {
    pub(super) fn new(failure: &Failure, mount: &NfsMount) -> Self {
        let (outcome, kernel) = match failure {
            Failure::Refused { call, errno, kernel, .. } => {
                (format!("{call}: {}", errno_name(*errno)), kernel.clone())
            }
            other => (other.to_string(), Vec::new()),
        };
        Self {
            source: mount.source.clone(),
            target: mount.target.clone(),
            version: super::version(&mount.options),
            endpoint: mount.endpoint,
            outcome,
            kernel,
        }
    }

    /// The kernel's way to say that it has no module for the version.
    pub(super) fn client_is_missing(&self) -> bool {
        self.kernel.iter().any(|words| {
            ["Version unavailable", "not compiled in"].iter().any(|word| words.contains(word))
        })
    }

    /// An NFSv3 server also says "denied" of a directory that is in no export.
    fn way_to_be_allowed(&self) -> &'static str {
        match self.version {
            NfsVersion::V3 => {
                "allow this node's address in the permission group of the mount target, and check that the \
                 path of the volume exists there"
            }
            NfsVersion::V40 | NfsVersion::V41 | NfsVersion::V42 => {
                "allow this node's address in the permission group of the mount target"
            }
        }
    }

    fn other_version(&self) -> &'static str {
        match self.version {
            NfsVersion::V3 => "vers=4.0",
            NfsVersion::V40 | NfsVersion::V41 | NfsVersion::V42 => "vers=3",
        }
    }

    fn module(&self) -> &'static str {
        match self.version {
            NfsVersion::V3 => "nfsv3",
            NfsVersion::V40 | NfsVersion::V41 | NfsVersion::V42 => "nfsv4",
        }
    }

    /// The option of `fsconfig(rsize)`; where each was taken by itself, all of them together were refused.
    fn refused_option(&self) -> String {
        let option = self.outcome.strip_prefix(OPTION).and_then(|rest| rest.split_once(')'));
        match option {
            Some((option, _)) if !self.outcome.starts_with(call::CREATE) => {
                format!("the mount option {option:?}")
            }
            _ => "one of the mount options".to_owned(),
        }
    }

    /// For the end of the line: what exactly happened.
    fn said(&self) -> String {
        match self.informative_words() {
            words if words.is_empty() => format!(" ({})", self.outcome),
            words => format!(" ({}; kernel: {})", self.outcome, words.join("; ")),
        }
    }

    /// Linux adds "Couldn't follow remote path" to every failure of NFSv4, whatever it is.
    fn informative_words(&self) -> Vec<&str> {
        let telling = |words: &&str| !words.contains("Couldn't follow remote path");
        self.kernel.iter().map(String::as_str).filter(telling).collect()
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?} over NFS {}", self.source, self.target, self.version)
    }
}
