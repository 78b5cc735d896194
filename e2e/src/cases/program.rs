//! Which program mounts: ours, or the mount.nfs(8) that it is compared with.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::cases::Caller;
use crate::cases::Case;
use crate::driver;
use crate::failure::Result;
use crate::plain::Plain;
use crate::process::run;

/// A program that mounts and unmounts NFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// `alinas-csi mount` and `umount`, at this path.
    Ours(PathBuf),
    /// mount.nfs(8) and umount.nfs(8) of nfs-utils.
    Reference,
}

const NOBODY: &str = "65534";

impl Program {
    /// Ours, shown in the world's folder, where every user can start it.
    ///
    /// # Errors
    /// When it is not built.
    pub fn ours(world: &Plain) -> Result<Self> {
        let shown = world.folder().join("alinas-csi");
        fs::write(&shown, "")?;
        let (from, to) = (driver::binary()?.display().to_string(), shown.display().to_string());
        run(Duration::from_secs(20), "mount", &["--bind", &from, &to])?;
        Ok(Self::Ours(shown))
    }

    /// The command line for a case.
    #[must_use]
    pub fn mount(&self, case: &Case, target: &Path) -> Command {
        let options: &[&str] = if case.options.is_empty() { &[] } else { &["-o", &case.options] };
        match self {
            Self::Ours(path) => {
                let mut command = called_by(case.caller, &path.display().to_string());
                command.args(["mount", "-t", case.fs_type]).args(case.flags).args(options);
                command.arg(&case.spec).arg(target);
                command
            }
            Self::Reference => {
                let mut command = called_by(case.caller, &format!("/sbin/mount.{}", case.fs_type));
                command.arg(&case.spec).arg(target).args(case.flags).args(options);
                command
            }
        }
    }

    /// The command line that takes a mount down.
    #[must_use]
    pub fn unmount(&self, target: &Path) -> Command {
        let mut command = match self {
            Self::Ours(path) => {
                let mut command = Command::new(path);
                command.arg("umount");
                command
            }
            Self::Reference => Command::new("/sbin/umount.nfs"),
        };
        command.arg(target);
        command
    }
}

fn called_by(caller: Caller, program: &str) -> Command {
    match caller {
        Caller::Root => Command::new(program),
        Caller::Nobody => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
            command.args(["--inh-caps=-all", program]);
            command
        }
    }
}
