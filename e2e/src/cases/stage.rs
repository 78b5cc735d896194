//! What a test gets: a world, our program, and a way to run it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::cases::program::Program;
use crate::failure::Failure;
use crate::failure::Result;
use crate::lab;
use crate::lab::Mount;
use crate::plain::Etc;
use crate::plain::Lane;
use crate::plain::Plain;
use crate::process::Observed;
use crate::process::observe;

/// Generous: the machine is emulated.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The world and the program under test, in a lane of their own.
#[derive(Debug)]
pub struct Stage {
    /// The server, with its faults.
    pub world: Plain,
    /// Ours.
    pub program: Program,
    lane: Lane,
}

impl Stage {
    /// Starts the lane's server, and shows our program beside it.
    ///
    /// # Errors
    /// When the server does not come up, or our program is not built.
    pub fn start(lane: Lane, etc: &Arc<Etc>) -> Result<Self> {
        let world = lane.serve(etc)?;
        let program = Program::ours(&world)?;
        Ok(Self { world, program, lane })
    }

    /// Runs steps in the lane's network.
    ///
    /// # Errors
    /// What the steps answer.
    pub fn perform<T: Send>(
        &mut self,
        steps: impl FnOnce(&mut Self) -> Result<T> + Send,
    ) -> Result<T> {
        let network = self.lane.network();
        lab::inside_network(&network, || steps(self))
    }

    /// A new directory to mount at.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn target(&self, name: &str) -> Result<PathBuf> {
        let target = self.world.folder().join("targets").join(name);
        fs::create_dir_all(&target)?;
        Ok(target)
    }

    /// A command line of ours.
    ///
    /// # Errors
    /// When this stage has another program.
    pub fn command(&self, arguments: &[&dyn AsRef<OsStr>]) -> Result<Command> {
        let Program::Ours(path) = &self.program else {
            return Err(Failure::new("the stage runs our own program"));
        };
        let mut command = Command::new(path);
        command.args(arguments.iter().map(AsRef::as_ref));
        Ok(command)
    }

    /// Mounts, and answers how it ended.
    ///
    /// # Errors
    /// When the program cannot be started; never because of what it does.
    pub fn mount(&self, options: &str, spec: &str, target: &Path) -> Result<Observed> {
        observe(
            PATIENCE,
            &mut self.command(&[&"mount", &"-t", &"nfs", &"-o", &options, &spec, &target])?,
        )
    }

    /// Unmounts, and answers how it ended.
    ///
    /// # Errors
    /// When the program cannot be started; never because of what it does.
    pub fn unmount(&self, flags: &[&str], target: &Path) -> Result<Observed> {
        let mut command = self.command(&[&"umount"])?;
        observe(PATIENCE, command.args(flags).arg(target))
    }
}

/// Succeeds where a program did.
///
/// # Errors
/// What was observed of one that failed.
pub fn succeeded(observed: &Observed) -> Result<()> {
    crate::failure::ensure(observed.code == Some(0), format!("{observed:?}"))
}

/// The one mount at a path.
///
/// # Errors
/// What is mounted there, where it is not exactly one.
pub fn only_mount(target: &Path) -> Result<Mount> {
    match lab::mounts_below(target)?.as_slice() {
        [mount] => Ok(mount.clone()),
        other => Err(Failure::new(format!("expected one mount, found {other:?}"))),
    }
}
