//! Where everything meets: the command line, the settings, and one file per role.
//!
//! A role is a subcommand. Each reads its settings from flags and environment, checks them once, and hands
//! every module only its part.

mod command;
mod exit;
mod helper;
pub mod mount;
mod nfsmount_conf;
pub mod node;
mod system_log;
pub mod telemetry;
pub mod tunnel;
pub mod umount;
pub mod watchdog;

use std::error::Error;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use clap::error::ErrorKind;
use telemetry::LogFormat;

use crate::app::exit::Exit;
use crate::host::worker;
use crate::runtime::Chain;

/// EX_USAGE of sysexits.h: the command line or a setting is wrong.
const USAGE: u8 = 64;

/// Kubernetes CSI driver that mounts Alibaba Cloud NAS with encryption in transit.
#[derive(Debug, Parser)]
#[command(name = "alinas-csi", version, propagate_version = true, max_term_width = 100)]
struct CommandLine {
    /// What the log shows: a level, or a list such as "alinas_csi::tunnel=debug,info".
    #[arg(long, global = true, env = "ALINAS_CSI_LOG", default_value = "info")]
    log: String,
    /// How the log is written, on standard error; mount and umount write to the system log.
    #[arg(long, global = true, env = "ALINAS_CSI_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves the CSI Identity and Node services: stages and publishes volumes.
    Node(node::NodeArgs),
    /// Keeps the tunnel process and its records alive, and gives tunnels to the node plugin.
    Watchdog(watchdog::WatchdogArgs),
    /// Carries NFS over TLS: one tunnel in the foreground, or all of a node under the watchdog.
    Tunnel(tunnel::TunnelArgs),
    /// Mounts NFS, encrypted or not; also as /sbin/mount.nfs, mount.nfs4 and mount.alinas.
    Mount(mount::MountArgs),
    /// Unmounts NFS; also as /sbin/umount.nfs, umount.nfs4 and umount.alinas.
    Umount(umount::UmountArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything else: the worker is started for every mount and needs neither log nor runtime.
    if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(worker::ARGUMENT)) {
        return worker::child_main();
    }
    let arguments = helper::spelled_out(std::env::args_os());
    match CommandLine::try_parse_from(&arguments) {
        Ok(command_line) => run(command_line),
        Err(error) => refuse(&error, &arguments),
    }
}

fn run(command_line: CommandLine) -> ExitCode {
    match &command_line.role {
        Role::Mount(arguments) => return mount::run(arguments, &command_line.log),
        Role::Umount(arguments) => return umount::run(arguments, &command_line.log),
        Role::Node(_) | Role::Watchdog(_) | Role::Tunnel(_) => {}
    }
    match start(command_line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("alinas-csi: {}\n", Chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

fn start(command_line: CommandLine) -> Result<(), Box<dyn Error>> {
    telemetry::open(&command_line.log, command_line.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command_line.role {
        Role::Node(arguments) => runtime.block_on(node::run(arguments))?,
        Role::Watchdog(arguments) => runtime.block_on(watchdog::run(arguments))?,
        Role::Tunnel(arguments) => runtime.block_on(tunnel::run(arguments))?,
        // Run before, and without this log.
        Role::Mount(_) | Role::Umount(_) => {}
    }
    Ok(())
}

fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    // The text is clap's own; where it cannot be printed there is nobody to tell.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ if helper::ends_as_mount(arguments) => Exit::Usage.into(),
        _ => ExitCode::from(USAGE),
    }
}

/// Writes to standard error. The last word of a process that ends goes there even if no log is open.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }
}
