//! What is asked of a mount.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::DeviceName;
use crate::model::MountOptions;

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

/// How long a mount is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As `retry=` says, in minutes: 2 where the user says nothing, 10000 in the background.
    AsOptionsSay,
    /// This long and no longer; a caller like the kubelet repeats the request by itself.
    Deadline(Duration),
}
