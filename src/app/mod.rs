//! Where everything meets: the command line, the settings, and one file per role.
//!
//! A role is a subcommand. Each reads its settings from flags and environment, checks them once, and hands
//! every module only its part. A question is one too; it is answered without a log or a runtime.

mod alinas_conf;
pub mod call_times;
pub mod cluster;
mod command;
pub mod completion;
pub mod controller;
mod csi_server;
pub mod doctor;
mod exit;
pub mod explain;
mod helper;
mod log_file;
pub mod log_level;
mod log_line;
mod messages;
pub mod metrics;
pub mod mount;
mod namespace;
pub mod nas;
mod nfsmount_conf;
pub mod node;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "no_otlp.rs"]
mod otlp;
mod signals;
pub mod status;
mod succession;
mod system_log;
pub mod telemetry;
pub mod tunnel;
pub mod umount;
pub mod watchdog;

use std::error::Error;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;
use clap::error::ErrorKind;
use telemetry::LogArgs;

use crate::app::alinas_conf::AlinasConf;
use crate::app::exit::Exit;
use crate::host::worker;
use crate::runtime::Chain;
use crate::runtime::FailurePoint;
use crate::runtime::failure_point::UnknownPoint;

/// EX_USAGE of sysexits.h: the command line or a setting is wrong.
const USAGE: u8 = 64;

/// Kubernetes CSI driver that mounts Alibaba Cloud NAS with encryption in transit.
#[derive(Debug, Parser)]
#[command(name = "alinas-csi", version, propagate_version = true, max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Role(Role),
    #[command(flatten)]
    Mounting(Mounting),
    #[command(flatten)]
    Question(Question),
    /// Shows the tunnels of this node: where they lead, how they are secured, what they carry.
    Status(status::StatusArgs),
    /// Looks at this node, and at a mount target from it, and says what to do.
    Doctor(doctor::DoctorArgs),
    /// Says what the logs of this pod or machine show, or changes it for a while.
    LogLevel(log_level::LogLevelArgs),
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Says what a mount option means, or lists all of them.
    Explain(explain::ExplainArgs),
    /// Prints the completion script of a shell.
    Completion(completion::CompletionArgs),
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves the CSI Identity and Controller services: makes and deletes volumes. Needs no right.
    Controller(controller::ControllerArgs),
    /// Serves the CSI Identity and Node services: stages and publishes volumes.
    Node(node::NodeArgs),
    /// Keeps the tunnel process and its records alive, and gives tunnels to the node plugin.
    Watchdog(watchdog::WatchdogArgs),
    /// Carries NFS over TLS: one tunnel in the foreground, or all of a node under the watchdog.
    Tunnel(tunnel::TunnelArgs),
}

impl Role {
    /// Its name, for those who ask a process.
    fn word(&self) -> &'static str {
        match self {
            Self::Controller(_) => "controller",
            Self::Node(_) => "node",
            Self::Watchdog(_) => "watchdog",
            Self::Tunnel(_) => "tunnel",
        }
    }
}

/// Ends with the exit codes of mount(8), and keeps its own log.
#[derive(Debug, Subcommand)]
enum Mounting {
    /// Mounts NFS, encrypted or not; also as /sbin/mount.nfs, mount.nfs4 and mount.alinas.
    Mount(mount::MountArgs),
    /// Unmounts NFS; also as /sbin/umount.nfs, umount.nfs4 and umount.alinas.
    Umount(umount::UmountArgs),
}

/// The command line, for who checks what is written about it.
#[must_use]
pub fn command_line() -> clap::Command {
    CommandLine::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything else: the worker is started for every mount and needs neither log nor runtime.
    if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(worker::ARGUMENT)) {
        // Its parent has refused a wrong name.
        let _ = armed();
        return worker::child_main();
    }
    let arguments = helper::spelled_out(std::env::args_os());
    match CommandLine::try_parse_from(&arguments) {
        Ok(command_line) => run(command_line),
        Err(error) => refuse(&error, &arguments),
    }
}

fn run(command_line: CommandLine) -> ExitCode {
    let CommandLine { log, command } = command_line;
    let role = match command {
        Command::Question(question) => return answer(&question),
        Command::Status(arguments) => return status::run(&arguments),
        Command::Doctor(arguments) => return doctor::run(&arguments, &log),
        Command::LogLevel(arguments) => return log_level::run(&arguments),
        Command::Mounting(Mounting::Mount(arguments)) => return mount::run(&arguments, &log),
        Command::Mounting(Mounting::Umount(arguments)) => return umount::run(&arguments, &log),
        Command::Role(role) => role,
    };
    match start(role, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("alinas-csi: {}\n", Chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

fn start(role: Role, log: &LogArgs) -> Result<(), Box<dyn Error>> {
    let (name, config) = match &role {
        Role::Controller(_) => ("controller.log", None),
        Role::Node(_) => ("node.log", None),
        Role::Watchdog(arguments) => ("mount-watchdog.log", arguments.config.as_deref()),
        Role::Tunnel(arguments) => ("tunnel.log", arguments.config.as_deref()),
    };
    let conf = config.map(AlinasConf::load);
    let runtime = match &role {
        // What it carries has threads of its own; a thousand listeners are opened without waking anybody.
        Role::Tunnel(_) => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
    };
    // The log may have to send something.
    let _within = runtime.enter();
    let switch = telemetry::open(log.of(conf.as_ref(), name), log.log_format, role.word())?;
    otlp::tell();
    if let Some(point) = armed()? {
        tracing::warn!(%point, "this process ends itself at a failure point: it is under test");
    }
    let conf = conf.unwrap_or_default();
    match role {
        Role::Controller(arguments) => runtime.block_on(controller::run(arguments, switch))?,
        Role::Node(arguments) => runtime.block_on(node::run(arguments, switch))?,
        Role::Watchdog(arguments) => {
            conf.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            let tunnel_log = log.passed_on(&conf);
            runtime.block_on(watchdog::run(arguments, &conf, tunnel_log, switch))?;
        }
        Role::Tunnel(arguments) => runtime.block_on(tunnel::run(arguments, switch))?,
    }
    Ok(())
}

/// The failure point at which this process is to end.
#[expect(clippy::disallowed_methods, reason = "app is where the environment is looked up")]
fn armed() -> Result<Option<FailurePoint>, UnknownPoint> {
    FailurePoint::arm(|name| std::env::var(name).ok())
}

fn answer(question: &Question) -> ExitCode {
    let answer = match question {
        Question::Explain(arguments) => {
            explain::answer(arguments).map_err(|error| error.to_string())
        }
        Question::Completion(arguments) => {
            Ok(completion::script(arguments, CommandLine::command()))
        }
    };
    match answer {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("alinas-csi: {error}\n"));
            ExitCode::from(USAGE)
        }
    }
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

/// Writes to standard output. A reader that has seen enough, as `head` has, is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes to standard error. The last word of a process that ends goes there even if no log is open.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }
}
