//! The controller in a process of its own, as nobody and without any capability.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::failure::Result;
use crate::process::Process;

/// Nobody of Debian.
const NOBODY: u32 = 65534;
const START: Duration = Duration::from_secs(30);

/// Ends when dropped.
#[derive(Debug)]
pub struct Controller {
    /// The process.
    pub process: Process,
    /// Where it is called.
    pub socket: PathBuf,
    /// What it says.
    pub log: PathBuf,
}

impl Controller {
    /// Starts `program`, which is the driver or leads to it, in a new folder `name` of `parent`.
    ///
    /// # Errors
    /// When nobody listens at its socket in time; with the end of its log.
    pub fn start(program: Command, parent: &Path, name: &str, ca_file: &Path) -> Result<Self> {
        // Nobody makes his socket in a folder of his own.
        let folder = parent.join(name);
        fs::create_dir(&folder)?;
        std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY))?;
        let (socket, log) = (folder.join("csi.sock"), parent.join(format!("{name}.log")));
        let mut command = program;
        command.args(["controller", "--csi-endpoint"]);
        command.arg(format!("unix://{}", socket.display())).arg("--ca-file").arg(ca_file);
        let mut process = Process::start("controller", &mut command, &log)?;
        // It is there a moment before anybody listens.
        let is_served = || UnixStream::connect(&socket).is_ok();
        process.wait_until("the socket is served", START, is_served)?;
        Ok(Self { process, socket, log })
    }
}

/// A program as nobody, without any capability; it stays the process that was started.
#[must_use]
pub fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(arguments()).arg(program);
    command
}

/// What setpriv is told.
#[must_use]
pub fn arguments() -> Vec<String> {
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let less = ["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"];
    user.into_iter().chain(less.map(str::to_owned)).collect()
}
