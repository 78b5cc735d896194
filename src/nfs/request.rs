//! What is asked of a mount.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::DeviceName;
use crate::model::MountOptions;
use crate::model::NfsVersion;
use crate::model::nfs_option::Transport;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRequest {
    /// What is mounted; shown by `mount -l`.
    pub device: DeviceName,
    /// The directory to mount at.
    pub target: PathBuf,
    /// The user's options.
    pub options: MountOptions,
    /// How the kernel reaches the server.
    pub way: Way,
    /// Where negotiation begins.
    pub start: Start,
    /// How long it is tried.
    pub patience: Patience,
}

/// How the kernel reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through a tunnel of ours. Nothing is resolved or probed: NFS and MOUNT calls go to `endpoint`.
    Tunnel {
        /// Where the tunnel listens.
        endpoint: SocketAddr,
        /// This node's address as the server knows it, for NFSv4.0; the user's `clientaddr` goes before.
        client_address: Option<IpAddr>,
    },
    /// Straight to the server, unencrypted.
    Direct,
}

/// Where negotiation begins, in what the user's options leave open. Nothing else is ruled out: what it does not lead
/// to is tried next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Lower versions are tried after it, higher ones never. The highest, where nothing is said.
    pub version: Option<NfsVersion>,
    /// The transport of NFSv3 that is tried first, where this kernel has it. TCP, where nothing is said.
    pub transport: Option<Transport>,
}

/// How long a mount is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As `retry=` says, in minutes: 2 where the user says nothing, 10000 in the background.
    AsOptionsSay,
    /// This long and no longer; a caller like the kubelet repeats the request by itself.
    Deadline(Duration),
}
