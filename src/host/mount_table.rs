//! The kernel's mount table, as `/proc/self/mountinfo` shows it (proc(5)). Reading it never blocks.

use std::io;
use std::path::PathBuf;

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id.
    pub id: u64,
    /// Device of the superblock, `major:minor`.
    pub device: String,
    /// The directory of the file system that is the root of this mount.
    pub root: String,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The options of this mount alone: `rw`, `ro`, `nosuid`, …
    pub options: Vec<String>,
    /// The `shared:N` peer group. Bind mounts of a shared mount have its number.
    pub peer_group: Option<u64>,
    /// `nfs`, `nfs4`, `tmpfs`, …
    pub fs_type: String,
    /// What is mounted: `domain:/path`.
    pub source: String,
    /// The options of the superblock.
    pub super_options: Vec<String>,
}

/// Reads the mount table of this mount namespace.
pub trait MountTable: Send + Sync + std::fmt::Debug {
    /// Every mount, in the kernel's order: of several at one place the last is on top.
    ///
    /// # Errors
    /// When the table cannot be read or understood.
    fn read(&self) -> io::Result<Vec<MountEntry>>;
}

/// STAND-IN: the lead merges the real one over this file.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcMountTable;

impl MountTable for ProcMountTable {
    fn read(&self) -> io::Result<Vec<MountEntry>> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}
