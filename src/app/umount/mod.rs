//! The command `umount`: takes an NFS mount down as umount(8) with umount.nfs does, and gives its tunnel back.
//!
//! What to do comes from the kernel's mount table and from utab, which say what finally worked; nothing is
//! negotiated again. No step waits for a dead server longer than its deadline, and mountd is told only when the
//! mount is gone. Start with [`Umount::take_down`].

mod place;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgAction;
use rustix::io::Errno;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::command;
use crate::app::command::Caller;
use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::app::mount::give_back;
use crate::app::mount::set_attributes;
use crate::app::telemetry::LogArgs;
use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::host::mount_table::ProcMountTable;
use crate::host::utab::Utab;
use crate::host::utab::UtabError;
use crate::host::worker::ChildWorker;
use crate::host::worker::Failure;
use crate::host::worker::Unmounting;
use crate::host::worker::Worker;
use crate::nfs::farewell;
use crate::nfs::farewell::Farewell;
use crate::nfs::farewell::Mountd;
use crate::nfs::farewell::NetworkMountd;
use crate::nfs::unmount;
use crate::nfs::unmount::Ladder;
use crate::nfs::unmount::Others;
use crate::nfs::unmount::UnmountFault;
use crate::runtime::Chain;

/// Without a flag: a mount that is in use stays, and a server that does not answer is not waited for.
const PLAIN: Ladder = &[(Unmounting::Plain, Duration::from_secs(20))];
/// `-f`: the first ends the requests under way; whoever waited for them then lets go.
const FORCED: Ladder =
    &[(Unmounting::Forced, Duration::from_secs(10)), (Unmounting::Forced, Duration::from_secs(5))];
/// `-l`.
const LAZY: Ladder = &[(Unmounting::Lazy, Duration::from_secs(10))];
/// `-f -l`.
const FORCED_THEN_LAZY: Ladder =
    &[(Unmounting::Forced, Duration::from_secs(10)), (Unmounting::Lazy, Duration::from_secs(10))];
/// More than the longest of them.
const ALL: Duration = Duration::from_secs(30);
/// mountd has this long to take note before the command ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the command is called, by people and by umount(8).
#[derive(Clone, Debug, clap::Args)]
pub struct UmountArgs {
    /// Where it is mounted, or what is mounted (HOST:PATH) if it is mounted at one place
    pub place: PathBuf,

    /// End requests that wait for the server, those of other mounts of the same file system included
    #[arg(short = 'f', long)]
    pub force: bool,

    /// Take the mount out of the tree at once; what uses it keeps it until it lets go
    #[arg(short = 'l', long)]
    pub lazy: bool,

    /// Leave /run/mount/utab alone
    #[arg(short = 'n', long = "no-mtab")]
    pub no_mtab: bool,

    /// Say what is done
    #[arg(short = 'v', long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Where it cannot be unmounted, make it read-only instead
    #[arg(short = 'r', long)]
    pub read_only: bool,

    /// Unmount in this mount namespace: a file such as /proc/PID/ns/mnt
    #[arg(short = 'N', long, value_name = "FILE")]
    pub namespace: Option<PathBuf>,

    /// What umount(8) passes on; the kernel knows better
    #[arg(short = 't', long = "types", hide = true)]
    pub fs_type: Option<String>,

    /// Where a watchdog keeps its socket, for mounts through a tunnel
    #[arg(long, env = "ALINAS_CSI_STATE_DIR", default_value = "/run/alinas-csi")]
    pub state_dir: PathBuf,
}

/// Runs the command.
#[must_use]
pub fn run(args: &UmountArgs, log: &LogArgs) -> ExitCode {
    let caller = Caller { command: "umount", verbose: args.verbose > 0 };
    let prepare = || args.namespace.as_deref().map_or(Ok(()), command::enter_namespace);
    command::run(caller, log.of(None, "mount.log"), prepare, async |cancel| {
        command::require_root("umount")?;
        let umount = Umount {
            args,
            caller,
            mounts: Arc::new(ProcMountTable),
            worker: Arc::new(ChildWorker::default()),
            mountd: Arc::new(NetworkMountd),
            utab: Utab::system(),
        };
        umount.unless(cancel).await
    })
}

struct Umount<'a> {
    args: &'a UmountArgs,
    caller: Caller,
    mounts: Arc<dyn MountTable>,
    worker: Arc<dyn Worker>,
    mountd: Arc<dyn Mountd>,
    utab: Utab,
}

impl Umount<'_> {
    async fn unless(&self, cancel: CancellationToken) -> Result<(), Ending> {
        tokio::select! {
            done = self.take_down() => done,
            // The worker is killed: the mount is there or not, as the kernel has it.
            () = cancel.cancelled() => {
                Err(Ending::new(Exit::Interrupted, "interrupted; findmnt shows whether it is still mounted"))
            }
        }
    }

    async fn take_down(&self) -> Result<(), Ending> {
        let table = command::read_table(&*self.mounts)?;
        let mount = place::find(&self.args.place, &table).await?;
        if !mount.is_nfs() {
            return Err(Ending::new(
                Exit::Failure,
                format!(
                    "{:?} holds a mount of type {:?}; use umount(8) for it",
                    mount.mount_point, mount.fs_type
                ),
            ));
        }
        let recorded = self.utab.last_at(&mount.mount_point).ok().flatten().unwrap_or_default();
        let farewell = Farewell::of(&mount, &table, &recorded.attributes);
        let until = Instant::now() + ALL;
        let steps = (self.ladder(), Others::Disturb);
        let unmounted = unmount::unmount(&*self.mounts, &*self.worker, &mount, steps, until).await;
        match unmounted {
            Ok(()) => self.clean_up(&mount, farewell).await,
            Err(fault) if self.args.read_only => self.make_read_only(&mount, &fault).await,
            Err(fault) => Err(failed(&fault)),
        }
    }

    fn ladder(&self) -> Ladder {
        match (self.args.force, self.args.lazy) {
            (false, false) => PLAIN,
            (true, false) => FORCED,
            (false, true) => LAZY,
            (true, true) => FORCED_THEN_LAZY,
        }
    }

    /// After the mount is gone: mountd, the tunnel and utab, each beside the other.
    async fn clean_up(&self, mount: &MountEntry, farewell: Option<Farewell>) -> Result<(), Ending> {
        let place = mount.mount_point.display();
        tracing::info!(source = %mount.source, target = %place, "unmounted");
        self.caller.say_if_verbose(&format!("{place} ({}) unmounted", mount.source));
        // A lazy unmount may still be in use.
        let farewell = farewell.filter(|_| !self.args.lazy);
        let say = async {
            if let Some(farewell) = farewell {
                // What it is cut off from is good manners.
                let _ = tokio::time::timeout(FAREWELL, farewell.say(&*self.mountd)).await;
            }
        };
        let ((), (), forgotten) =
            tokio::join!(say, self.give_tunnel_back(mount), self.forget(mount));
        forgotten
    }

    async fn give_tunnel_back(&self, mount: &MountEntry) {
        let address = mount.super_option("addr").and_then(|address| address.parse().ok());
        if !address.is_some_and(farewell::is_tunnel) {
            return;
        }
        if let Err(error) = give_back(&self.args.state_dir, &mount.mount_point).await {
            tracing::warn!(error = %Chain(&error), "the tunnel was not given back");
            self.caller
                .say_if_verbose(&format!("the tunnel was not given back: {}", Chain(&error)));
        }
    }

    async fn forget(&self, mount: &MountEntry) -> Result<(), Ending> {
        if self.args.no_mtab {
            return Ok(());
        }
        match self.utab.remove_last(&mount.mount_point).await {
            Ok(_) => Ok(()),
            Err(error @ UtabError::NotWritable { .. }) => {
                tracing::warn!(error = %Chain(&error), "utab still names the mount");
                Ok(())
            }
            Err(error) => {
                Err(Ending::new(Exit::Table, format!("unmounted; but {}", Chain(&error))))
            }
        }
    }

    async fn make_read_only(&self, mount: &MountEntry, fault: &UnmountFault) -> Result<(), Ending> {
        let known =
            ["nosuid", "nodev", "noexec", "nosymfollow", "noatime", "strictatime", "nodiratime"];
        let mut attributes = mount.options.clone();
        attributes.retain(|word| known.contains(&word.as_str()));
        attributes.push("ro".to_owned());
        set_attributes(&*self.worker, &mount.mount_point, attributes).await?;
        self.caller.say(&format!("{}; it is read-only now", Chain(fault)));
        Ok(())
    }
}

fn failed(fault: &UnmountFault) -> Ending {
    let remedy = match fault {
        UnmountFault::Failed { source: Failure::Refused { errno, .. }, path }
            if *errno == Errno::BUSY.raw_os_error() =>
        {
            format!("; it is in use: see \"fuser -vm {}\", or take it away with -l", path.display())
        }
        UnmountFault::Failed { source: Failure::Deadline(_), .. } => {
            "; the server does not answer: -f ends what waits for it, -l takes the mount away at once".to_owned()
        }
        _ => String::new(),
    };
    let message = format!("{}{remedy}", Chain(fault));
    tracing::error!("{message}");
    Ending::new(Exit::Failure, message)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::host::mount_table::fake::FakeMountTable;
    use crate::host::mount_table::fake::nfs_mount;
    use crate::host::utab::UtabEntry;
    use crate::host::worker::Job;
    use crate::host::worker::fake::Answer;
    use crate::host::worker::fake::FakeWorker;
    use crate::nfs::farewell::fake::FakeMountd;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        umount: UmountArgs,
    }

    struct World {
        home: tempfile::TempDir,
        table: FakeMountTable,
        worker: Arc<FakeWorker>,
        mountd: Arc<FakeMountd>,
    }

    impl World {
        fn with(mounts: &[(&str, &str)]) -> Self {
            let table = FakeMountTable::default();
            for (source, place) in mounts {
                let super_options = ["vers=3", "addr=192.0.2.1", "mountport=9"].map(str::to_owned);
                let mount = nfs_mount(source, Path::new(place));
                table.add(MountEntry { super_options: super_options.into(), ..mount });
            }
            let worker = Arc::new(FakeWorker::acting_on(table.clone()));
            let home = tempfile::tempdir().unwrap();
            Self { home, table, worker, mountd: Arc::default() }
        }

        fn utab(&self) -> Utab {
            Utab::at(self.home.path().join("utab"))
        }

        async fn umount(&self, line: &str) -> Result<(), Ending> {
            let words = std::iter::once("umount").chain(line.split(' '));
            let args = Line::try_parse_from(words).unwrap().umount;
            let umount = Umount {
                args: &args,
                caller: Caller { command: "umount", verbose: false },
                mounts: Arc::new(self.table.clone()),
                worker: self.worker.clone(),
                mountd: self.mountd.clone(),
                utab: self.utab(),
            };
            umount.take_down().await
        }

        fn told(&self) -> usize {
            self.mountd.told.lock().unwrap().len()
        }

        fn forces(&self) -> Vec<Unmounting> {
            let force = |job: Job| match job {
                Job::Unmount { force, .. } => Some(force),
                _ => None,
            };
            self.worker.jobs().into_iter().filter_map(force).collect()
        }
    }

    #[tokio::test]
    async fn a_mount_goes_with_its_line_in_utab_and_mountd_is_told() {
        let world = World::with(&[("nas:/a", "/mnt")]);
        let entry = UtabEntry { target: "/mnt".into(), ..UtabEntry::default() };
        world.utab().add(&entry).await.unwrap();
        world.umount("/mnt").await.unwrap();
        assert!(world.table.entries().is_empty() && world.utab().entries().unwrap().is_empty());
        assert_eq!(world.told(), 1);
    }

    #[tokio::test]
    async fn n_leaves_utab_alone_and_l_does_not_tell_mountd() {
        let world = World::with(&[("nas:/a", "/mnt")]);
        let entry = UtabEntry { target: "/mnt".into(), ..UtabEntry::default() };
        world.utab().add(&entry).await.unwrap();
        world.umount("-n -l /mnt").await.unwrap();
        assert_eq!((world.utab().entries().unwrap().len(), world.told()), (1, 0));
        assert_eq!(world.forces(), [Unmounting::Lazy]);
    }

    #[tokio::test]
    async fn of_stacked_mounts_only_that_on_top_goes() {
        let world = World::with(&[("nas:/a", "/mnt"), ("nas:/b", "/mnt")]);
        world.umount("/mnt").await.unwrap();
        let left: Vec<_> = world.table.entries().into_iter().map(|mount| mount.source).collect();
        assert_eq!(left, ["nas:/a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn how_hard_it_is_tried_is_what_was_asked_for() {
        use Unmounting::{Forced, Lazy, Plain};
        for (line, steps, message) in [
            ("/mnt", &[Plain][..], "the server does not answer"),
            ("-f /mnt", &[Forced, Forced], "the server does not answer"),
            ("-f -l /mnt", &[Forced, Lazy], "the server does not answer"),
        ] {
            let world = World::with(&[("nas:/a", "/mnt"), ("nas:/a", "/other")]);
            world.worker.answers([Answer::Hang, Answer::Hang]);
            let start = Instant::now();
            let ending = world.umount(line).await.unwrap_err();
            assert!(start.elapsed() < ALL && ending.exit == Exit::Failure);
            assert!(ending.message.contains(message), "{}", ending.message);
            assert_eq!((world.forces(), world.told()), (steps.to_vec(), 0), "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_mountd_holds_nobody_up() {
        let mut world = World::with(&[("nas:/a", "/mnt")]);
        world.mountd = Arc::new(FakeMountd { silent: true, ..FakeMountd::default() });
        let start = Instant::now();
        world.umount("/mnt").await.unwrap();
        assert_eq!((start.elapsed(), world.told()), (FAREWELL, 1));
    }

    #[tokio::test]
    async fn what_is_in_use_stays_and_r_makes_it_read_only() {
        let busy = || {
            let world = World::with(&[("nas:/a", "/mnt")]);
            let refused = Failure::refused("umount", Errno::BUSY, Vec::new());
            world.worker.answers([Answer::Say(Err(refused))]);
            world
        };
        let ending = busy().umount("/mnt").await.unwrap_err();
        assert!(ending.message.contains("EBUSY") && ending.message.contains("fuser -vm /mnt"));
        let world = busy();
        world.umount("-r /mnt").await.unwrap();
        assert!(matches!(
            world.worker.jobs().pop(),
            Some(Job::SetAttributes { attributes, .. }) if attributes == ["ro"]
        ));
    }

    #[tokio::test]
    async fn a_mount_of_another_type_is_left_to_another_program() {
        let world = World::with(&[]);
        let tmpfs = MountEntry { fs_type: "tmpfs".to_owned(), ..nfs_mount("t", Path::new("/mnt")) };
        world.table.add(tmpfs);
        let ending = world.umount("/mnt").await.unwrap_err();
        assert!(ending.message.contains("umount(8)"), "{}", ending.message);
        assert!(world.worker.jobs().is_empty());
    }
}
