//! What the child process of a [`Job`] does: the system calls that may block.
//!
//! Runs one job after the other and is killed from outside, so there are no deadlines here. A job leaves nothing
//! behind in the process: no descriptor, no directory, no namespace. Every refusal names
//! the call ([`call`]), by which [`crate::host::worker::Failure`] is told apart further up.

mod bind;
mod nfs;
mod probe;

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
use rustix::fs::openat;
use rustix::fs::statvfs;
use rustix::fs::statx;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::unmount;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::host::mount_table::ProcMountTable;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::FsStats;
use crate::host::worker::Job;
use crate::host::worker::Unmounting;

/// The names of the calls in [`Failure::Refused`].
pub mod call {
    /// Opening the directory to mount at.
    pub const OPEN_TARGET: &str = "open(target)";
    /// Opening what is to be bound.
    pub const OPEN_SOURCE: &str = "open(source)";
    /// Looking for a mount that is there already.
    pub const MOUNT_TABLE: &str = "read(mountinfo)";
    /// Asking the kernel for its NFS client.
    pub const FSOPEN: &str = "fsopen(nfs)";
    /// Talking to the server.
    pub const CREATE: &str = "fsconfig(create)";
    /// Making a mount of it.
    pub const FSMOUNT: &str = "fsmount";
    /// Putting the mount in its place.
    pub const MOVE_MOUNT: &str = "move_mount";
    /// All of these in one, where the kernel or a long text leaves no choice.
    pub const MOUNT: &str = "mount(nfs)";
    /// Making the mount shared.
    pub const SHARE: &str = "mount(shared)";
    /// Binding.
    pub const BIND: &str = "mount(bind)";
    /// Giving a mount its attributes.
    pub const ATTRIBUTES: &str = "mount(attributes)";
    /// Unmounting.
    pub const UNMOUNT: &str = "umount";
    /// Asking for sizes.
    pub const STATFS: &str = "statfs";

    /// Setting one option.
    #[must_use]
    pub fn option(key: &str) -> String {
        format!("fsconfig({key})")
    }
}

/// Does a job. What the kernel remarks on a mount that succeeds is added to `remarks`.
///
/// # Errors
/// Names the call that was refused.
pub fn perform(job: &Job, remarks: &mut Vec<String>) -> Result<Done, Failure> {
    match job {
        Job::MountNfs { source, options, attributes, target } => {
            let attributes = &flags(attributes)?;
            nfs::mount(&nfs::Request { source, options, attributes, target }, remarks)?;
        }
        Job::FindNfs { target } => return find_nfs(target).map(Done::Found),
        Job::CheckTarget { target } => drop(Directory::open(target, call::OPEN_TARGET)?),
        Job::Bind { from, to, read_only } => bind::bind(from, to, *read_only)?,
        Job::Unmount { target, force } => unmount_top(target, *force)?,
        Job::SetAttributes { target, attributes } => {
            bind::set_attributes(target, &flags(attributes)?)?;
        }
        Job::ProbeOptions { options } => return probe::options(options).map(Done::Probed),
        Job::ProbeTogether { options } => {
            return probe::together(options).map(|answer| Done::Probed(vec![answer]));
        }
        Job::StatFs { path } => return stat_fs(path).map(Done::StatFs),
    }
    Ok(Done::Done)
}

fn find_nfs(target: &Path) -> Result<Vec<u64>, Failure> {
    let directory = Directory::open(target, call::OPEN_TARGET)?;
    let here = directory.mounts_here().map_err(unreadable)?;
    Ok(here.iter().filter(|entry| entry.is_nfs()).map(|entry| entry.id).collect())
}

fn unmount_top(target: &Path, force: Unmounting) -> Result<(), Failure> {
    let hard = match force {
        Unmounting::Plain => UnmountFlags::empty(),
        Unmounting::Forced => UnmountFlags::FORCE,
        Unmounting::Lazy => UnmountFlags::DETACH,
    };
    unmount(target, hard | UnmountFlags::NOFOLLOW).map_err(refused(call::UNMOUNT))
}

fn stat_fs(path: &Path) -> Result<FsStats, Failure> {
    let stats = statvfs(path).map_err(refused(call::STATFS))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stats.f_frsize);
    Ok(FsStats {
        total_bytes: bytes(stats.f_blocks),
        available_bytes: bytes(stats.f_bavail),
        free_bytes: bytes(stats.f_bfree),
        total_inodes: stats.f_files,
        free_inodes: stats.f_ffree,
    })
}

/// The attributes of a mount, as each of the two interfaces has them.
#[derive(Clone, Copy, Debug)]
struct Attributes {
    new: MountAttrFlags,
    old: MountFlags,
}

/// The names of the attributes, in mountinfo as in the option text.
const ATTRIBUTES: &[(&str, MountAttrFlags, MountFlags)] = &[
    ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
    ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
    ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    ("nosymfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
];

fn flags(names: &[String]) -> Result<Attributes, Failure> {
    let mut flags = Attributes { new: MountAttrFlags::empty(), old: MountFlags::empty() };
    for name in names {
        let (_, new, old) =
            ATTRIBUTES.iter().find(|(known, ..)| known == name).ok_or_else(|| {
                Failure::Worker(format!("no attribute of a mount is called {name:?}"))
            })?;
        flags.new |= *new;
        flags.old |= *old;
    }
    Ok(flags)
}

/// A directory that cannot be exchanged for another one any more. A link in its place is refused (ENOTDIR).
struct Directory {
    descriptor: OwnedFd,
}

impl Directory {
    fn open(path: &Path, name_of_call: &'static str) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = openat(CWD, path, flags, Mode::empty()).map_err(refused(name_of_call))?;
        Ok(Self { descriptor })
    }

    /// A path that leads to this very directory, for calls that take no descriptor.
    fn path(&self) -> PathBuf {
        descriptor_path(&self.descriptor)
    }

    /// Refuses to hide an NFS mount under another one: neither move_mount nor a bind minds.
    fn refuse_if_taken(&self) -> Result<(), Failure> {
        let taken = self.mounts_here().map_err(unreadable)?.iter().any(MountEntry::is_nfs);
        if taken { Err(refused(call::MOUNT_TABLE)(Errno::BUSY)) } else { Ok(()) }
    }

    /// The mounts at this directory, the one on top last. The kernel knows its path without links.
    ///
    /// The table is only read where there is one: the kernel writes all of it for each reader, which would make a
    /// thousand mounts cost a million lines.
    fn mounts_here(&self) -> io::Result<Vec<MountEntry>> {
        let path = std::fs::read_link(self.path())?;
        if is_mount_point(&path) == Some(false) {
            return Ok(Vec::new());
        }
        let mut entries = ProcMountTable.read()?;
        entries.retain(|entry| entry.mount_point == path);
        Ok(entries)
    }
}

/// Whether a mount is at `path`; asks no server for it. Nothing where that cannot be said: before Linux 5.8, or where
/// the path leads nowhere any more.
fn is_mount_point(path: &Path) -> Option<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let status = statx(CWD, path, flags, StatxFlags::empty()).ok()?;
    let known = status.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
    known.then(|| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn descriptor_path(descriptor: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn unreadable(error: io::Error) -> Failure {
    match Errno::from_io_error(&error) {
        Some(errno) => refused(call::MOUNT_TABLE)(errno),
        None => Failure::Worker(error.to_string()),
    }
}

fn refused(name_of_call: &str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::refused(name_of_call, errno, Vec::new())
}

/// What the kernel said in a file system context: one message for each read, until ENODATA.
fn kernel_log(context: &OwnedFd) -> Vec<String> {
    let mut buffer = [0; 4096];
    let mut said = Vec::new();
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        said.extend(message.trim_end().split_once(' ').map(|(_level, text)| text.to_owned()));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_that_the_option_table_knows_has_its_flags() {
        use crate::model::nfs_option::Consumer;
        use crate::model::nfs_option::NfsOption;
        use crate::model::nfs_option::OPTIONS;
        use crate::model::nfs_option::Rules;

        for rules in [Rules::Tunnel, Rules::Direct] {
            let attribute =
                |option: &&NfsOption| option.under(rules).consumer == Consumer::Attribute;
            for word in OPTIONS.iter().filter(attribute).flat_map(NfsOption::spellings) {
                let options = crate::model::MountOptions::parse(rules, [word]).unwrap();
                assert!(flags(&options.attributes()).is_ok(), "{word}");
            }
        }
        assert!(flags(&["sticky".to_owned()]).is_err());
    }

    #[test]
    fn a_target_that_is_missing_or_a_file_or_a_link_is_refused_before_anything_else() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        for (target, errno) in [
            (folder.path().join("missing"), Errno::NOENT),
            (file, Errno::NOTDIR),
            (link, Errno::NOTDIR),
        ] {
            let mount = Job::MountNfs {
                source: "nas:/".to_owned(),
                options: Vec::new(),
                attributes: Vec::new(),
                target: target.clone(),
            };
            let find = Job::FindNfs { target: target.clone() };
            for job in [Job::CheckTarget { target }, find, mount] {
                let refused = Failure::refused(call::OPEN_TARGET, errno, Vec::new());
                assert_eq!(perform(&job, &mut Vec::new()), Err(refused));
            }
        }
    }

    #[test]
    fn a_mount_point_is_told_from_a_directory_without_the_table() {
        let folder = tempfile::tempdir().unwrap();
        for (path, expected) in [(Path::new("/proc"), true), (folder.path(), false)] {
            assert!(is_mount_point(path).is_none_or(|there| there == expected), "{path:?}");
        }
        assert_eq!(is_mount_point(&folder.path().join("gone")), None);
        let nothing = Job::FindNfs { target: folder.path().to_owned() };
        assert_eq!(perform(&nothing, &mut Vec::new()), Ok(Done::Found(Vec::new())));
    }

    #[test]
    fn sizes_are_given_in_bytes() {
        let stats = stat_fs(Path::new("/")).unwrap();
        assert!(stats.total_bytes >= stats.free_bytes && stats.total_bytes > 0);
        assert!(stat_fs(Path::new("/nowhere")).is_err());
    }
}
