//! STAND-IN: the lead merges the real `nfs` over this file. Only the signatures that `node` calls.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::model::MountOptions;

/// One mount that is wanted.
#[derive(Clone, Debug)]
pub struct NfsMount {
    /// `domain:/path`.
    pub source: String,
    /// The user's options.
    pub options: MountOptions,
    /// Where the kernel connects to.
    pub endpoint: SocketAddr,
    /// Our address, as the server sees it.
    pub client_address: Option<IpAddr>,
    /// The directory.
    pub target: PathBuf,
}

/// The job that mounts it.
#[must_use]
pub fn mount_job(mount: &NfsMount) -> Job {
    Job::MountNfs {
        source: mount.source.clone(),
        options: Vec::new(),
        attributes: Vec::new(),
        target: mount.target.clone(),
    }
}

/// Why a mount failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountFault {
    #[error("no such export")]
    NoSuchExport,
    #[error("access denied")]
    ExportDenied,
    #[error("version not served")]
    VersionNotServed,
    #[error("option refused")]
    OptionRefused,
    #[error("kernel lacks nfs")]
    KernelLacksNfs,
    #[error("not privileged")]
    NotPrivileged,
    #[error("target missing")]
    TargetMissing,
    #[error("target not a directory")]
    TargetNotADirectory,
    #[error("unreachable")]
    Unreachable,
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error("already mounted")]
    AlreadyMounted,
    #[error("{0}")]
    Other(String),
}

/// Says why a mount failed.
#[must_use]
pub fn diagnose(failure: &Failure, _mount: &NfsMount) -> MountFault {
    match failure {
        Failure::Deadline(waited) => MountFault::NoAnswer(*waited),
        other => MountFault::Other(other.to_string()),
    }
}
