//! Binding a mounted directory to another place, read-only for that place alone where asked.

use std::path::Path;

use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::mount_bind;
use rustix::mount::mount_remount;
use rustix::mount::unmount;

use super::ATTRIBUTES;
use super::Attributes;
use super::Directory;
use super::call;
use super::refused;
use super::unreadable;
use crate::host::worker::Failure;
use crate::runtime::FailurePoint;

/// For a moment a read-only bind can be written through; nobody has been told of it by then.
pub(super) fn bind(from: &Path, to: &Path, read_only: bool) -> Result<(), Failure> {
    let source = Directory::open(from, call::OPEN_SOURCE)?;
    let target = Directory::open(to, call::OPEN_TARGET)?;
    target.refuse_if_taken()?;
    mount_bind(source.path(), target.path()).map_err(refused(call::BIND))?;
    FailurePoint::WorkerBound.pass();
    let finish = if read_only { make_read_only(to) } else { Ok(()) };
    if finish.is_err() {
        let _ = unmount(to, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    finish
}

/// A remount of this mount alone (MS_BIND): the superblock and its NFS options are not asked.
pub(super) fn set_attributes(target: &Path, attributes: &Attributes) -> Result<(), Failure> {
    let mount = Directory::open(target, call::OPEN_TARGET)?;
    mount_remount(mount.path(), MountFlags::BIND | attributes.old, "")
        .map_err(refused(call::ATTRIBUTES))
}

/// A remount sets all attributes anew, so those that the bind has from its source are said again.
fn make_read_only(to: &Path) -> Result<(), Failure> {
    let bound = Directory::open(to, call::OPEN_TARGET)?;
    let mounts = bound.mounts_here().map_err(unreadable)?;
    let options = mounts.last().map(|mount| mount.options.as_slice()).unwrap_or_default();
    let kept = ATTRIBUTES
        .iter()
        .filter(|(name, ..)| options.iter().any(|option| option == name))
        .fold(MountFlags::RDONLY, |flags, (.., flag)| flags | *flag);
    mount_remount(bound.path(), MountFlags::BIND | kept, "").map_err(refused(call::ATTRIBUTES))
}
