//! The command `mount`: mounts NFS as mount(8) with mount.nfs does, and through a tunnel with `-t alinas -o tls`.
//!
//! ```text
//! command line, nfsmount.conf ─> Asked ─> (tunnel) ─> nfs::Engine ─> utab
//! ```
//!
//! It waits, prints and remembers; every decision about the mount itself is the engine's. One line to the
//! caller, the whole story to the system log. Start with [`run`].
//!
//! LONG: nearly half of it are the arguments with their help, and their tests.

mod asked;
mod background;
mod dry_run;
mod record;
mod remount;
mod start;
mod tunnel;
#[cfg(test)]
mod vendor_options;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgAction;
use clap::ValueEnum;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::alinas_conf;
use crate::app::alinas_conf::AlinasConf;
use crate::app::command;
use crate::app::command::Caller;
use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::app::nfsmount_conf::Conf;
use crate::app::telemetry::LogArgs;
use crate::nfs::MountFault;
use crate::nfs::MountRequest;
use crate::nfs::Patience;
use crate::nfs::engine::Progress;
use crate::nfs::policy::Mounted;
use asked::Asked;
use asked::Files;

pub(super) use remount::set as set_attributes;
pub(super) use tunnel::give_back;

/// Following links asks no server but those that the way leads over.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);

/// How the command is called, by people and by mount(8).
#[derive(Clone, Debug, clap::Args)]
pub struct MountArgs {
    /// What to mount: HOST:PATH, an IPv6 address in brackets
    pub spec: String,

    /// The directory to mount at
    pub dir: PathBuf,

    /// nfs, nfs4 (version 4 only), or alinas (with -o tls through the tunnel, else with the vendor's defaults)
    #[arg(
        short = 't',
        long = "types",
        value_name = "TYPE",
        default_value = "nfs",
        overrides_with = "fs_type"
    )]
    pub fs_type: FsType,

    /// Mount options, separated by commas; may be repeated, and of two values for one option the last wins
    #[arg(short = 'o', long = "options", value_name = "OPTIONS")]
    pub options: Vec<String>,

    /// Do everything but the mount itself; with -v, show what the kernel would be told
    #[arg(short = 'f', long)]
    pub fake: bool,

    /// Show every attempt
    #[arg(short = 'v', long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Write nothing into /run/mount/utab
    #[arg(short = 'n', long = "no-mtab")]
    pub no_mtab: bool,

    /// Pass over options that nobody knows; the same as -o sloppy
    #[arg(short = 's', long)]
    pub sloppy: bool,

    /// Mount read-only, whatever -o says
    #[arg(short = 'r', long, overrides_with = "read_write")]
    pub read_only: bool,

    /// Mount read-write, whatever -o says
    #[arg(short = 'w', long, alias = "rw", overrides_with = "read_only")]
    pub read_write: bool,

    /// Mount in this mount namespace: a file such as /proc/PID/ns/mnt
    #[arg(short = 'N', long, value_name = "FILE")]
    pub namespace: Option<PathBuf>,

    /// Where a watchdog keeps its socket, for -t alinas -o tls
    #[arg(long, env = "ALINAS_CSI_STATE_DIR", default_value = "/run/alinas-csi")]
    pub state_dir: PathBuf,

    /// Settings of the vendor's client, for -t alinas
    #[arg(long, value_name = "FILE", env = "ALINAS_CSI_CONFIG", default_value = alinas_conf::FILE)]
    pub config: PathBuf,

    /// This process was started to go on in the background
    #[arg(long, hide = true)]
    pub in_background: bool,
}

/// The type of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FsType {
    /// The version is negotiated, or said by an option.
    Nfs,
    /// A version 4.
    Nfs4,
    /// The vendor's client.
    Alinas,
}

/// Runs the command.
#[must_use]
pub fn run(args: &MountArgs, log: &LogArgs) -> ExitCode {
    let caller = Caller { command: "mount", verbose: args.verbose > 0 };
    // Read before there is a log, which it has a word in.
    let vendor = match args.fs_type {
        FsType::Alinas => Some(AlinasConf::load(&args.config)),
        FsType::Nfs | FsType::Nfs4 => None,
    };
    command::run(
        caller,
        log.of(vendor.as_ref(), "mount.log"),
        || prepare(args),
        async |cancel| {
            let vendor = vendor.clone().unwrap_or_default();
            let mount = Mount { args, caller, log, vendor, cancel };
            mount.whole().await
        },
    )
}

/// What needs a process with one thread.
fn prepare(args: &MountArgs) -> Result<(), Ending> {
    if args.in_background {
        background::detach()?;
    }
    match &args.namespace {
        Some(file) => command::enter_namespace(file),
        None => Ok(()),
    }
}

struct Mount<'a> {
    args: &'a MountArgs,
    caller: Caller,
    log: &'a LogArgs,
    vendor: AlinasConf,
    cancel: CancellationToken,
}

/// What became of a mount.
enum Outcome {
    Mounted(Box<Mounted>),
    /// `bg`: it failed for now, in these words.
    GoOn(Box<MountFault>),
}

impl Mount<'_> {
    async fn whole(&self) -> Result<(), Ending> {
        // Nothing is changed with -f, so that anybody may look.
        if !self.args.fake {
            command::require_root("mount")?;
        }
        let target = self.target().await?;
        if self.args.options.iter().any(|text| remount::is_asked(text)) {
            return remount::run(self.args, &target).await;
        }
        let files = Files { nfsmount: Conf::load(), vendor: self.vendor.clone() };
        let asked = Asked::of(self.args, &target, &files)?;
        self.warn(&asked.warnings);
        for remark in &asked.remarks {
            tracing::info!("{remark}");
            self.caller.say_if_verbose(remark);
        }
        let tunnel = tunnel::open(self.args, &asked, &target, &self.cancel).await?;
        let request = MountRequest {
            device: asked.device.clone(),
            target: target.clone(),
            options: asked.options.clone(),
            way: tunnel.way(),
            start: asked.start,
            patience: Patience::AsOptionsSay,
        };
        match self.engine(request).await {
            Ok(Outcome::Mounted(mounted)) => self.remember(&asked, &target, &mounted).await,
            Ok(Outcome::GoOn(fault)) => self.go_on(&target, &fault).await,
            Err(ending) => {
                tunnel.give_back().await;
                Err(ending)
            }
        }
    }

    /// What the user may have to know is said, once: the process that goes on in the background says nothing.
    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            tracing::warn!("{warning}");
            if !self.args.in_background {
                self.caller.say(warning);
            }
        }
    }

    /// Runs the engine to its end, or until it is left to another process.
    async fn engine(&self, request: MountRequest) -> Result<Outcome, Ending> {
        // A part of it is ended for the background, and that is no interruption.
        let cancel = self.cancel.child_token();
        let (send, mut heard) = mpsc::unbounded_channel();
        // The receiver lives as long as the mount.
        let progress = move |progress| drop(send.send(progress));
        let engine = dry_run::engine(self.args.fake);
        let mounting = engine.mount(request, cancel.clone(), progress);
        tokio::pin!(mounting);
        let mut left_behind = None;
        // Also for the background the engine is waited for: only so is it sure that nothing is left, or that it
        // is mounted.
        let ended = loop {
            tokio::select! {
                biased;
                Some(progress) = heard.recv() => {
                    if let Some(fault) = self.show(progress) {
                        cancel.cancel();
                        left_behind = Some(fault);
                    }
                }
                ended = &mut mounting => break ended,
            }
        };
        while let Ok(progress) = heard.try_recv() {
            self.show(progress);
        }
        match (ended, left_behind) {
            (Ok(mounted), _) => Ok(Outcome::Mounted(Box::new(mounted))),
            (Err(_), _) if self.cancel.is_cancelled() => Err(command::interrupted()),
            (Err(_), Some(fault)) => Ok(Outcome::GoOn(fault)),
            (Err(fault), None) => Err(failed(&fault)),
        }
    }

    /// Says it, and answers a fault that another process is to go on after.
    fn show(&self, progress: Progress) -> Option<Box<MountFault>> {
        match progress {
            // The words of mount.nfs, so that the two can be compared line by line.
            Progress::Asking { options } => {
                tracing::info!(%options, target = %self.args.dir.display(), "asking the kernel to mount");
                self.caller.say_if_verbose(&format!("trying text-based options '{options}'"));
            }
            Progress::Failed(words) => {
                tracing::warn!("{words}");
                self.caller.say_if_verbose(&words);
            }
            Progress::InBackground(fault) => {
                tracing::warn!(error = %fault, "going on in the background");
                return (!self.args.in_background && !self.args.fake).then_some(fault);
            }
        }
        None
    }

    async fn remember(
        &self,
        asked: &Asked,
        target: &Path,
        mounted: &Mounted,
    ) -> Result<(), Ending> {
        // The engine has them in the log already.
        if !self.args.in_background {
            mounted.notes.iter().for_each(|note| self.caller.say(&note.to_string()));
        }
        if mounted.already {
            self.caller
                .say_if_verbose(&format!("{} is mounted at {target:?} already", asked.device));
        }
        if self.args.fake || self.args.no_mtab || mounted.already {
            return Ok(());
        }
        record::add(self.caller, asked, target, mounted).await
    }

    /// The parent's part of `bg`: another process takes over, and this one is done.
    async fn go_on(&self, target: &Path, fault: &MountFault) -> Result<(), Ending> {
        background::start(self.args, self.log, target).await?;
        self.caller.say(&fault.to_string());
        self.caller.say(&format!("backgrounding {:?}", self.args.spec));
        Ok(())
    }

    /// The directory as the kernel's mount table spells it. One that is not there is the engine's to judge: with
    /// `bg` it may come.
    async fn target(&self) -> Result<PathBuf, Ending> {
        let dir = self.args.dir.clone();
        let resolving = tokio::task::spawn_blocking(move || resolved(&dir));
        tokio::select! {
            () = self.cancel.cancelled() => Err(command::interrupted()),
            resolved = tokio::time::timeout(RESOLVE_DEADLINE, resolving) => match resolved {
                Ok(Ok(Ok(target))) => Ok(target),
                Ok(Ok(Err(error))) => Err(Ending::new(
                    Exit::Failure,
                    format!("failed to resolve the directory {:?}: {error}", self.args.dir),
                )),
                Ok(Err(panicked)) => Err(Ending::new(Exit::Internal, panicked)),
                Err(_) => Err(Ending::new(
                    Exit::Failure,
                    format!(
                        "the way to {:?} was not followed within {} s; a server on it does not answer",
                        self.args.dir,
                        RESOLVE_DEADLINE.as_secs()
                    ),
                )),
            },
        }
    }
}

/// The engine has it in the log already, with all that was tried.
fn failed(fault: &MountFault) -> Ending {
    let exit = Exit::of_code(fault.exit_code());
    Ending::new(exit, fault)
}

/// Links are followed as far as there is something.
fn resolved(dir: &Path) -> std::io::Result<PathBuf> {
    match std::fs::canonicalize(dir) {
        Ok(path) => Ok(path),
        Err(_) => {
            let path = std::path::absolute(dir)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Ok(path);
            };
            Ok(std::fs::canonicalize(parent).map_or(path.clone(), |parent| parent.join(name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        mount: MountArgs,
    }

    pub(super) fn args(line: &str) -> MountArgs {
        let words = std::iter::once("mount").chain(line.split(' ').filter(|word| !word.is_empty()));
        Line::try_parse_from(words).unwrap().mount
    }

    fn refused(line: &str) -> bool {
        let words = std::iter::once("mount").chain(line.split(' '));
        Line::try_parse_from(words).is_err()
    }

    #[test]
    fn flags_stand_anywhere_and_together_as_mount_passes_them_to_a_helper() {
        for line in [
            "nas:/a /mnt -o rw,vers=3 -v -f -n -s",
            "-vfns nas:/a /mnt -o rw,vers=3",
            "-f nas:/a -o rw,vers=3 /mnt -v -n -s",
            "nas:/a /mnt -sfnv -o rw,vers=3",
            "nas:/a /mnt -t nfs -sfnv --options rw,vers=3",
        ] {
            let args = args(line);
            assert_eq!(
                (args.spec.as_str(), &args.dir),
                ("nas:/a", &PathBuf::from("/mnt")),
                "{line}"
            );
            assert_eq!(args.options, ["rw,vers=3"], "{line}");
            assert_eq!((args.fake, args.verbose, args.no_mtab, args.sloppy), (true, 1, true, true));
        }
        assert_eq!(args("a:/ /b -o x -o y,z").options, ["x", "y,z"]);
        assert_eq!(args("a:/ /b -N /proc/1/ns/mnt").namespace, Some("/proc/1/ns/mnt".into()));
        assert_eq!(args("-vv a:/ /b").verbose, 2);
    }

    #[test]
    fn the_last_of_a_type_and_of_read_only_and_read_write_wins() {
        assert_eq!(args("-t nfs4 a:/ /b -t nfs").fs_type, FsType::Nfs);
        assert_eq!(args("a:/ /b").fs_type, FsType::Nfs);
        let read_only = |line| (args(line).read_only, args(line).read_write);
        assert_eq!(read_only("-r a:/ /b -w"), (false, true));
        assert_eq!(read_only("--rw a:/ /b -r"), (true, false));
    }

    #[test]
    fn what_mount_would_not_take_is_refused() {
        for line in ["a:/", "a:/ /b /c", "-t ext4 a:/ /b", "a:/ /b -o", "-x a:/ /b", "a:/ /b -N"] {
            assert!(refused(line), "{line}");
        }
    }

    #[test]
    fn a_directory_is_spelled_without_links_as_far_as_it_is_there() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("real")).unwrap();
        std::os::unix::fs::symlink("real", home.join("link")).unwrap();
        assert_eq!(resolved(&home.join("link")).unwrap(), home.join("real"));
        assert_eq!(resolved(&home.join("link/missing")).unwrap(), home.join("real/missing"));
        assert_eq!(resolved(&home.join("a/b")).unwrap(), home.join("a/b"));
        assert_eq!(resolved(&home.join("link/../real/")).unwrap(), home.join("real"));
    }
}
