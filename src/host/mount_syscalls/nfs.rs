//! Mounting NFS: by a file system context, which says what is wrong, or else by mount(2).
//!
//! The order: the target is opened before the server is talked to; the mount is made and only then put in its
//! place, unless something else is there by now; then it is made shared.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsmount;
use rustix::mount::fsopen;
use rustix::mount::mount as mount_at_once;
use rustix::mount::mount_change;
use rustix::mount::mount_remount;
use rustix::mount::move_mount;
use rustix::mount::unmount;

use super::Attributes;
use super::Directory;
use super::call;
use super::descriptor_path;
use super::kernel_log;
use super::refused;
use crate::host::worker::Failure;
use crate::runtime::FailurePoint;

/// fsconfig(2) takes no longer value (`strndup_user(_value, 256)`), and refuses it without a word.
const LONGEST_VALUE: usize = 255;

/// mount(2) takes a page of options and silently cuts off what is behind.
const LONGEST_DATA: usize = 4095;

pub(super) struct Request<'a> {
    pub(super) source: &'a str,
    pub(super) options: &'a [(String, Option<String>)],
    pub(super) attributes: &'a Attributes,
    pub(super) target: &'a Path,
}

pub(super) fn mount(request: &Request<'_>, remarks: &mut Vec<String>) -> Result<(), Failure> {
    let directory = Directory::open(request.target, call::OPEN_TARGET)?;
    directory.refuse_if_taken()?;
    if request.has_long_value() {
        return request.mount_at_once(&directory);
    }
    match fsopen("nfs", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(context) => request.mount_by_context(context, &directory, remarks),
        // ENOSYS: a kernel before 5.2. EPERM: a seccomp profile that knows mount(2) only, or no privilege.
        Err(errno @ (Errno::NOSYS | Errno::PERM)) => {
            let at_once = request.mount_at_once(&directory);
            at_once.map_err(|failure| the_more_telling(errno, failure))
        }
        Err(errno) => Err(refused(call::FSOPEN)(errno)),
    }
}

/// Where both ways end with EPERM, it is not the server that does not permit it.
fn the_more_telling(of_fsopen: Errno, of_mount: Failure) -> Failure {
    match of_mount {
        Failure::Refused { errno, .. }
            if of_fsopen == Errno::PERM && errno == of_fsopen.raw_os_error() =>
        {
            refused(call::FSOPEN)(of_fsopen)
        }
        other => other,
    }
}

impl Request<'_> {
    fn has_long_value(&self) -> bool {
        let values = self.options.iter().filter_map(|(_, value)| value.as_deref());
        values.chain([self.source]).any(|value| value.len() > LONGEST_VALUE)
    }

    fn mount_by_context(
        &self,
        context: OwnedFd,
        directory: &Directory,
        remarks: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let mount = match self.configure(&context) {
            Ok(mount) => mount,
            Err((name_of_call, errno)) => {
                return Err(Failure::refused(&name_of_call, errno, kernel_log(&context)));
            }
        };
        remarks.extend(kernel_log(&context));
        directory.refuse_if_taken()?;
        let by_descriptors =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(mount.as_fd(), "", directory.descriptor.as_fd(), "", by_descriptors)
            .map_err(refused(call::MOVE_MOUNT))?;
        share(&descriptor_path(&mount))
    }

    fn configure(&self, context: &OwnedFd) -> Result<OwnedFd, (String, Errno)> {
        let at = |name: &str| {
            let name = name.to_owned();
            move |errno| (name, errno)
        };
        fsconfig_set_string(context, "source", self.source).map_err(at(&call::option("source")))?;
        for (key, value) in self.options {
            match value {
                Some(value) => fsconfig_set_string(context, key, value),
                None => fsconfig_set_flag(context, key),
            }
            .map_err(at(&call::option(key)))?;
        }
        fsconfig_create(context).map_err(at(call::CREATE))?;
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes.new)
            .map_err(at(call::FSMOUNT))
    }

    fn mount_at_once(&self, directory: &Directory) -> Result<(), Failure> {
        let data = self.data()?;
        // Read-only only for this mount: as a property of the superblock, it would be that of every mount
        // which shares it, or of none, depending on the kernel.
        let flags = self.attributes.old - MountFlags::RDONLY;
        mount_at_once(self.source, directory.path(), "nfs", flags, data.as_c_str())
            .map_err(refused(call::MOUNT))?;
        let finish = self.make_read_only().and_then(|()| share(self.target));
        if finish.is_err() {
            let _ = unmount(self.target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
        finish
    }

    fn make_read_only(&self) -> Result<(), Failure> {
        if !self.attributes.old.contains(MountFlags::RDONLY) {
            return Ok(());
        }
        mount_remount(self.target, MountFlags::BIND | self.attributes.old, "")
            .map_err(refused(call::ATTRIBUTES))
    }

    /// The options in one text.
    fn data(&self) -> Result<CString, Failure> {
        let shown = |(key, value): &(String, Option<String>)| match value {
            None => key.clone(),
            Some(value) if value.contains(',') => format!("{key}=\"{value}\""),
            Some(value) => format!("{key}={value}"),
        };
        let data = self.options.iter().map(shown).collect::<Vec<_>>().join(",");
        if data.len() > LONGEST_DATA {
            return Err(refused(call::MOUNT)(Errno::TOOBIG));
        }
        CString::new(data).map_err(|_| refused(call::MOUNT)(Errno::INVAL))
    }
}

/// Makes the mount at `path` shared, so that its bind mounts join its peer group; else takes it away again.
fn share(path: &Path) -> Result<(), Failure> {
    FailurePoint::WorkerPlaced.pass();
    mount_change(path, MountPropagationFlags::SHARED).map_err(|errno| {
        let _ = unmount(path, UnmountFlags::DETACH);
        refused(call::SHARE)(errno)
    })
}

#[cfg(test)]
mod tests {
    use super::super::flags;
    use super::*;

    fn with_request<T>(
        source: &str,
        options: &[(&str, Option<&str>)],
        test: impl Fn(&Request<'_>) -> T,
    ) -> T {
        let owned: Vec<_> = options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(ToOwned::to_owned)))
            .collect();
        let attributes = flags(&[]).unwrap();
        let target = Path::new("/nowhere");
        test(&Request { source, options: &owned, attributes: &attributes, target })
    }

    #[test]
    fn a_value_that_a_context_cannot_take_goes_by_mount() {
        let fits = "a".repeat(LONGEST_VALUE);
        let too_long = format!("{fits}a");
        assert!(!with_request(&fits, &[("fsc", Some(&fits))], |request| request.has_long_value()));
        assert!(with_request(&too_long, &[], |request| request.has_long_value()));
        assert!(
            with_request("nas:/", &[("fsc", Some(&too_long))], |request| request.has_long_value())
        );
    }

    #[test]
    fn options_for_mount_are_one_text_with_commas_in_quotes() {
        let options = [("vers", Some("3")), ("hard", None), ("context", Some("a,b"))];
        let data = with_request("nas:/", &options, |request| request.data().unwrap());
        assert_eq!(data.to_str().unwrap(), "vers=3,hard,context=\"a,b\"");
    }

    #[test]
    fn options_that_mount_would_cut_off_are_refused() {
        let long = "a".repeat(LONGEST_DATA);
        let failure = with_request("nas:/", &[("fsc", Some(&long))], |request| request.data());
        assert_eq!(failure, Err(refused(call::MOUNT)(Errno::TOOBIG)));
    }

    #[test]
    fn two_refusals_for_want_of_privilege_are_one() {
        let of_mount = |errno| refused(call::MOUNT)(errno);
        for (of_fsopen, of_mount, said) in [
            (Errno::PERM, of_mount(Errno::PERM), call::FSOPEN),
            (Errno::PERM, of_mount(Errno::ACCESS), call::MOUNT),
            (Errno::NOSYS, of_mount(Errno::PERM), call::MOUNT),
        ] {
            let failure = the_more_telling(of_fsopen, of_mount);
            assert!(matches!(failure, Failure::Refused { ref call, .. } if call == said));
        }
    }
}
