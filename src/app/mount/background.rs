//! `bg`: another process goes on where the command ends.
//!
//! It is this program again, with the same arguments and `--in-background`. Nothing forks: a process with
//! threads that does is left with locks that nobody will open. The parent waits until the child has left the
//! terminal, so that a terminal which closes at once does not take it along.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::FsType;
use super::MountArgs;
use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::app::telemetry::LogArgs;

/// This program itself, also after its file was replaced.
const OURSELVES: &str = "/proc/self/exe";
/// What the child says when it is on its own.
const DETACHED: &[u8] = b"detached\n";
const DETACH_DEADLINE: Duration = Duration::from_secs(5);

/// The child's side, before anything else: a session of its own, the root directory, no terminal.
pub(super) fn detach() -> Result<(), Ending> {
    let detach = || -> io::Result<()> {
        rustix::process::setsid()?;
        std::env::set_current_dir("/")?;
        io::stdout().write_all(DETACHED)?;
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&nothing)?;
        Ok(())
    };
    detach().map_err(|error| {
        Ending::new(Exit::System, format!("failed to go to the background: {error}"))
    })
}

/// The parent's side: starts the child and sees it detached.
pub(super) async fn start(args: &MountArgs, log: &LogArgs, target: &Path) -> Result<(), Ending> {
    let failed = |why: String| {
        Ending::new(Exit::System, format!("failed to go on in the background: {why}"))
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "it outlives us on purpose; its deadline is retry="
    )]
    let mut command = tokio::process::Command::new(OURSELVES);
    command.args(arguments(args, log, target)).arg0("alinas-csi");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let mut said = Vec::new();
    let hear = async {
        if let Some(output) = child.stdout.take() {
            output.take(DETACHED.len() as u64).read_to_end(&mut said).await?;
        }
        io::Result::Ok(())
    };
    match tokio::time::timeout(DETACH_DEADLINE, hear).await {
        Ok(Ok(())) if said == DETACHED => Ok(()),
        Ok(Ok(())) => Err(failed("the process ended; see the system log".to_owned())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no sign of it within {} s", DETACH_DEADLINE.as_secs()))),
    }
}

/// Everything but the namespace, which the child is in already, and `-v`, which nobody would see.
fn arguments(args: &MountArgs, log: &LogArgs, target: &Path) -> Vec<OsString> {
    let fs_type = match args.fs_type {
        FsType::Nfs => "nfs",
        FsType::Nfs4 => "nfs4",
        FsType::Alinas => "alinas",
    };
    let mut arguments: Vec<OsString> =
        ["mount", "--in-background", "-t", fs_type].map(OsString::from).into();
    if let Some(filter) = &log.log {
        arguments.extend(["--log".into(), filter.into()]);
    }
    if let Some(folder) = &log.log_dir {
        arguments.extend(["--log-dir".into(), folder.into()]);
    }
    for options in &args.options {
        arguments.extend(["-o".into(), options.into()]);
    }
    let flags = [
        (args.no_mtab, "-n"),
        (args.sloppy, "-s"),
        (args.read_only, "-r"),
        (args.read_write, "-w"),
    ];
    arguments.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| OsString::from(flag)));
    arguments.extend(["--state-dir".into(), args.state_dir.clone().into()]);
    arguments.extend(["--config".into(), args.config.clone().into()]);
    arguments.extend(["--".into(), args.spec.clone().into(), target.into()]);
    arguments
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::tests::args;
    use super::*;
    use crate::app::Command;
    use crate::app::CommandLine;
    use crate::app::Mounting;

    #[test]
    fn the_child_is_asked_for_the_same_mount() {
        let given = args("nas:/a rel -t nfs4 -o bg,retry=5 -o x=\"-y\" -n -s -r -v --state-dir /s");
        let log =
            CommandLine::try_parse_from(["x", "--log", "debug", "--log-dir", "/l", "watchdog"]);
        let words = arguments(&given, &log.unwrap().log, Path::new("/abs/rel"));
        let line = CommandLine::try_parse_from(std::iter::once(OsString::from("x")).chain(words));
        let CommandLine { log, command } = line.unwrap();
        assert_eq!((log.log, log.log_dir), (Some("debug".to_owned()), Some("/l".into())));
        let Command::Mounting(Mounting::Mount(child)) = command else { panic!("no mount") };
        assert!(child.in_background && child.no_mtab && child.sloppy && child.read_only);
        assert_eq!((child.fs_type, &child.options), (given.fs_type, &given.options));
        assert_eq!((child.dir, child.state_dir), ("/abs/rel".into(), "/s".into()));
        assert_eq!((child.spec, child.fake, child.verbose), (given.spec, false, 0));
    }
}
