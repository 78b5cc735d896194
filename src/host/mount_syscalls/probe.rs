//! What the running kernel says to an option, without a mount: a context is opened, told, and let go.
//!
//! No packet is sent before FSCONFIG_CMD_CREATE. A refusal does not spoil the context (Linux 6.12), but its words
//! go to a log that all options of a context share, so it is read after each.
//!
//! FSCONFIG_CMD_CREATE is said only with a source that cannot be mounted: the kernel checks the options among each
//! other and the address, then the transport, then the source, and only then the server (fs/nfs/fs_context.c:
//! `nfs_fs_context_validate`; seen so on Linux 6.1 and 6.12).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::FsOpenFlags;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsopen;

use super::call;
use super::kernel_log;
use super::refused;
use crate::host::worker::Failure;
use crate::host::worker::OptionRefusal;

/// Not in host:path form.
const NOTHING_TO_MOUNT: &str = "none";

pub(super) fn options(
    options: &[(String, Option<String>)],
) -> Result<Vec<Option<OptionRefusal>>, Failure> {
    let context = fsopen("nfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused(call::FSOPEN))?;
    Ok(options.iter().map(|(key, value)| tell(&context, key, value.as_deref()).err()).collect())
}

/// What the kernel says to all of them at once, which is at best that there is nothing to mount.
pub(super) fn together(
    options: &[(String, Option<String>)],
) -> Result<Option<OptionRefusal>, Failure> {
    let context = fsopen("nfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused(call::FSOPEN))?;
    let all = tell(&context, "source", Some(NOTHING_TO_MOUNT)).and_then(|()| {
        options.iter().try_for_each(|(key, value)| tell(&context, key, value.as_deref()))
    });
    Ok(all.and_then(|()| said(&context, fsconfig_create(&context))).err())
}

fn tell(context: &OwnedFd, key: &str, value: Option<&str>) -> Result<(), OptionRefusal> {
    let told = match value {
        Some(value) => fsconfig_set_string(context, key, value),
        None => fsconfig_set_flag(context, key),
    };
    said(context, told)
}

fn said(context: &OwnedFd, told: Result<(), Errno>) -> Result<(), OptionRefusal> {
    // Read it also where the option was taken: a word of warning would else be said of the next one.
    let kernel = kernel_log(context);
    told.map_err(|errno| OptionRefusal { errno: errno.raw_os_error(), kernel })
}
