//! What the tests of this program share: one world, our program, and a way to run it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::cases::program::Program;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::lab;
use e2e::lab::Mount;
use e2e::plain::Plain;
use e2e::process::Observed;
use e2e::process::observe;

/// Generous: the machine is emulated.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The world and the program under test.
pub(crate) struct Stage {
    pub(crate) world: Plain,
    pub(crate) program: Program,
}

impl Stage {
    pub(crate) fn start() -> Result<Self> {
        let world = Plain::start()?;
        let program = Program::ours(&world)?;
        Ok(Self { world, program })
    }

    /// A new directory to mount at.
    pub(crate) fn target(&self, name: &str) -> Result<PathBuf> {
        let target = self.world.folder().join("targets").join(name);
        fs::create_dir_all(&target)?;
        Ok(target)
    }

    /// A command line of ours.
    pub(crate) fn command(&self, arguments: &[&dyn AsRef<OsStr>]) -> Result<Command> {
        let Program::Ours(path) = &self.program else {
            return Err(Failure::new("the stage runs our own program"));
        };
        let mut command = Command::new(path);
        command.args(arguments.iter().map(AsRef::as_ref));
        Ok(command)
    }

    /// Mounts, and answers how it ended.
    pub(crate) fn mount(&self, options: &str, spec: &str, target: &Path) -> Result<Observed> {
        observe(
            PATIENCE,
            &mut self.command(&[&"mount", &"-t", &"nfs", &"-o", &options, &spec, &target])?,
        )
    }

    /// Unmounts, and answers how it ended.
    pub(crate) fn unmount(&self, flags: &[&str], target: &Path) -> Result<Observed> {
        let mut command = self.command(&[&"umount"])?;
        observe(PATIENCE, command.args(flags).arg(target))
    }
}

/// Succeeds where a program did.
pub(crate) fn succeeded(observed: &Observed) -> Result<()> {
    e2e::failure::ensure(observed.code == Some(0), format!("{observed:?}"))
}

/// The one mount at a path.
pub(crate) fn only_mount(target: &Path) -> Result<Mount> {
    match lab::mounts_below(target)?.as_slice() {
        [mount] => Ok(mount.clone()),
        other => Err(Failure::new(format!("expected one mount, found {other:?}"))),
    }
}
