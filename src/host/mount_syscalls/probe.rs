//! What the running kernel says to an option, without a mount: a context is opened, told, and let go.
//!
//! No packet is sent before FSCONFIG_CMD_CREATE, which is never said here. A refusal does not spoil the context
//! (Linux 6.12), but its words go to a log that all options of a context share, so it is read after each.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::FsOpenFlags;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsopen;

use super::call;
use super::kernel_log;
use super::refused;
use crate::host::worker::Failure;
use crate::host::worker::OptionRefusal;

pub(super) fn options(
    options: &[(String, Option<String>)],
) -> Result<Vec<Option<OptionRefusal>>, Failure> {
    let context = fsopen("nfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused(call::FSOPEN))?;
    Ok(options.iter().map(|(key, value)| tell(&context, key, value.as_deref()).err()).collect())
}

fn tell(context: &OwnedFd, key: &str, value: Option<&str>) -> Result<(), OptionRefusal> {
    let told = match value {
        Some(value) => fsconfig_set_string(context, key, value),
        None => fsconfig_set_flag(context, key),
    };
    // Read it also where the option was taken: a word of warning would else be said of the next one.
    let kernel = kernel_log(context);
    told.map_err(|errno: Errno| OptionRefusal { errno: errno.raw_os_error(), kernel })
}
