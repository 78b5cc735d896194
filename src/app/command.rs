//! What the commands `mount` and `umount` share: how they start, are interrupted, speak and end.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use rustix::thread::LinkNameSpaceType;
use rustix::thread::move_into_link_name_space;
use tokio_util::sync::CancellationToken;

use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::app::say;
use crate::app::signals;
use crate::app::telemetry;
use crate::app::telemetry::Log;
use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::runtime::Chain;
use crate::runtime::request::Request;

/// Whoever called, on the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// The name of the command.
    pub(super) command: &'static str,
    /// Asked for every attempt.
    pub(super) verbose: bool,
}

impl Caller {
    pub(super) fn say(&self, line: &str) {
        say(&format!("alinas-csi {}: {line}\n", self.command));
    }

    pub(super) fn say_if_verbose(&self, line: &str) {
        if self.verbose {
            self.say(line);
        }
    }
}

/// Runs `work` until it ends; it is to end by itself, and soon, when its token is cancelled by a signal.
///
/// `prepare` runs before there is a second thread.
pub(super) fn run(
    caller: Caller,
    log: Log,
    prepare: impl FnOnce() -> Result<(), Ending>,
    work: impl AsyncFnOnce(CancellationToken) -> Result<(), Ending>,
) -> ExitCode {
    let ended = prepare().and_then(|()| run_prepared(caller.command, log, work));
    let exit = ended.map_or_else(
        |ending| {
            caller.say(&ending.message);
            ending.exit
        },
        |()| Exit::Success,
    );
    exit.into()
}

fn run_prepared(
    command: &str,
    log: Log,
    work: impl AsyncFnOnce(CancellationToken) -> Result<(), Ending>,
) -> Result<(), Ending> {
    telemetry::open_system_log(log).map_err(|error| Ending::new(Exit::Usage, Chain(&error)))?;
    // One thread: a worker process dies with the thread that started it, and this one stays to the end.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Ending::new(Exit::System, format!("failed to start: {error}")))?;
    let ended = runtime.block_on(async {
        let cancel = signals::stop_on_signal().map_err(|error| {
            Ending::new(Exit::System, format!("failed to listen for signals: {error}"))
        })?;
        // A mount through a tunnel has the same id in the log of its watchdog.
        Request::begin(command, None).run(work(cancel)).await
    });
    // Whoever still follows a path on a dead server in a thread is not waited for.
    runtime.shutdown_background();
    ended
}

/// The answer to a signal.
pub(super) fn interrupted() -> Ending {
    Ending::new(Exit::Interrupted, "interrupted; nothing was left behind")
}

/// mount(2) and umount2(2) need CAP_SYS_ADMIN; mount.nfs asks for root, and so do people's habits.
pub(super) fn require_root(command: &str) -> Result<(), Ending> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Ending::new(Exit::Usage, format!("only root can {command} (-f shows what would be done)")))
}

/// Every mount of this namespace.
pub(super) fn read_table(mounts: &dyn MountTable) -> Result<Vec<MountEntry>, Ending> {
    mounts.read().map_err(|error| {
        Ending::new(Exit::System, format!("failed to read the kernel's mount table: {error}"))
    })
}

/// Goes into another mount namespace, as mount(8) `-N` wants it of its helpers.
pub(super) fn enter_namespace(file: &Path) -> Result<(), Ending> {
    let enter = || -> std::io::Result<()> {
        let namespace = File::open(file)?;
        Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?)
    };
    enter().map_err(|error| {
        Ending::new(Exit::System, format!("failed to enter the mount namespace {file:?}: {error}"))
    })
}
