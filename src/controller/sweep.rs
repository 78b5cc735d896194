//! The trash of exports, emptied in the background.
//!
//! The trash is the queue: what is in it is still to be removed, by this process or by the next one. A tree is not
//! walked but taken apart: a directory that is found within one of the trash is renamed into the trash itself. So
//! nothing is remembered but one page of one directory, however deep or wide a tree is, and no step leads out of
//! the trash.
//!
//! Each export is looked at when a volume of it was deleted, and once when it is first used, for what an earlier
//! process left.
//!
//! LONG: a third of it are tests.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::tree::ExportFault;
use crate::controller::tree::Exports;
use crate::controller::tree::Tree;
use crate::model::Export;
use crate::nfs::client::Entry;
use crate::nfs::client::Handle;
use crate::nfs::client::Kind;
use crate::nfs::client::Name;
use crate::nfs::client::NameError;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Place;
use crate::runtime::FailurePoint;

/// Exports that are swept at the same time.
const AT_ONCE: usize = 4;
/// After a failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// No longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Empties trash. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Sweeper {
    exports: Arc<dyn Exports>,
    slots: Arc<Semaphore>,
    known: Arc<Mutex<Known>>,
    counts: Arc<Counts>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Which exports have been looked at, and which are being swept.
#[derive(Debug, Default)]
struct Known {
    seen: HashSet<Export>,
    swept: HashMap<Export, Again>,
}

#[derive(Debug, Default)]
struct Counts {
    removed: AtomicU64,
    failures: AtomicU64,
}

/// What is known about the trash of all exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Exports whose trash is being emptied, or is to be tried again.
    pub under_way: u64,
    /// Files, directories and links that were removed.
    pub removed: u64,
    /// How often emptying the trash of an export has failed.
    pub failures: u64,
}

/// Whether something came into the trash since a sweep began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Needed,
    NotNeeded,
}

/// Why trash is still there.
#[derive(Debug, thiserror::Error)]
enum SweepFault {
    #[error(transparent)]
    Export(#[from] ExportFault),
    #[error(transparent)]
    Home(#[from] HomeFault),
    #[error(transparent)]
    Nfs(#[from] NfsFault),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Sweeper {
    pub(super) fn new(exports: Arc<dyn Exports>) -> Self {
        Self {
            exports,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            known: Arc::default(),
            counts: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Sweeps an export that has not been looked at by this process.
    pub(super) fn notice_once(&self, export: &Export) {
        if !self.known().seen.contains(export) {
            self.notice(export);
        }
    }

    /// Sweeps an export: something may have come into its trash.
    pub(super) fn notice(&self, export: &Export) {
        let mut known = self.known();
        known.seen.insert(export.clone());
        if let Some(again) = known.swept.get_mut(export) {
            *again = Again::Needed;
            return;
        }
        known.swept.insert(export.clone(), Again::NotNeeded);
        drop(known);
        let (sweeper, export) = (self.clone(), export.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = sweeper.stop.cancelled() => {}
                () = sweeper.sweep(&export) => {}
            }
        });
    }

    /// Every export that this process has used.
    pub(super) fn exports(&self) -> Vec<Export> {
        self.known().seen.iter().cloned().collect()
    }

    /// How it goes.
    pub(super) fn report(&self) -> SweepReport {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SweepReport {
            under_way: self.known().swept.len() as u64,
            removed: of(&self.counts.removed),
            failures: of(&self.counts.failures),
        }
    }

    /// Ends every sweep. The trash keeps what was left.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns once no sweep is under way.
    #[cfg(test)]
    pub(super) async fn idle(&self) {
        while !self.known().swept.is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Until nothing is left and nothing has come since.
    async fn sweep(&self, export: &Export) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.sweep_once(export).await {
                Ok(removed) => {
                    if removed > 0 {
                        tracing::info!(server = %export.spec.host, path = %export.path, removed, "trash is empty");
                    }
                    if self.is_done(export) {
                        return;
                    }
                    pause = FIRST_PAUSE;
                }
                Err(fault) => {
                    self.counts.failures.fetch_add(1, Ordering::Relaxed);
                    let (server, path) = (&export.spec.host, &export.path);
                    tracing::warn!(%server, %path, error = %fault, pause.seconds = pause.as_secs(), "failed to empty trash; it is tried again");
                    sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn sweep_once(&self, export: &Export) -> Result<u64, SweepFault> {
        // Never closed.
        let _slot = self.slots.acquire().await;
        let mut tree = match self.exports.open(export).await {
            Ok(tree) => tree,
            Err(ExportFault::NoSuchPath { .. }) => return Ok(0),
            Err(fault) => return Err(fault.into()),
        };
        let Some(home) = Home::find(tree.as_mut()).await? else { return Ok(0) };
        let total = &self.counts.removed;
        let mut sweep = Sweep { tree: tree.as_mut(), trash: &home.trash, removed: 0, total };
        sweep.empty(&home.trash, &Name::parse("trash")?, Depth::Trash).await?;
        Ok(sweep.removed)
    }

    fn is_done(&self, export: &Export) -> bool {
        let mut known = self.known();
        match known.swept.get_mut(export) {
            Some(again @ Again::Needed) => {
                *again = Again::NotNeeded;
                false
            }
            Some(Again::NotNeeded) | None => {
                known.swept.remove(export);
                true
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One look at the trash.
struct Sweep<'a> {
    tree: &'a mut dyn Tree,
    trash: &'a Handle,
    removed: u64,
    /// Of all sweeps.
    total: &'a AtomicU64,
}

/// Where a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// It is the trash: a directory in it is emptied where it is.
    Trash,
    /// It is in the trash: a directory in it is renamed into the trash.
    Within,
}

impl Sweep<'_> {
    /// Empties a directory. What cannot be removed is passed over, and the first such fault is the answer once
    /// nothing else is left.
    async fn empty(
        &mut self,
        directory: &Handle,
        name: &Name,
        depth: Depth,
    ) -> Result<(), SweepFault> {
        loop {
            let (mut from, mut is_changed, mut first_fault) = (Some(Place::default()), false, None);
            while let Some(place) = from {
                let page = self.tree.read_directory(directory, name, place).await?;
                for entry in &page.entries {
                    match self.take_away(directory, entry, depth).await {
                        Ok(()) => is_changed = true,
                        Err(fault) if is_refusal(&fault) => {
                            first_fault = first_fault.or(Some(fault))
                        }
                        Err(fault) => return Err(fault),
                    }
                }
                from = page.next;
            }
            match (is_changed, first_fault) {
                // What was removed while it was read may have hidden something: read it once more.
                (true, _) => {}
                (false, Some(fault)) => return Err(fault),
                (false, None) => return Ok(()),
            }
        }
    }

    fn count(&mut self) {
        self.removed += 1;
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    async fn take_away(
        &mut self,
        directory: &Handle,
        entry: &Entry,
        depth: Depth,
    ) -> Result<(), SweepFault> {
        let name = &entry.name;
        let kind = match entry.kind {
            Some(kind) => kind,
            None => match self.tree.look_up(directory, name).await? {
                Some((_, attributes)) => attributes.kind,
                None => return Ok(()),
            },
        };
        match (kind, depth) {
            (Kind::Directory, Depth::Within) => {
                // A number that nothing else on the file system has.
                let free = Name::parse(&format!("d.{:x}", entry.number))?;
                self.tree.rename((directory, name), (self.trash, &free)).await?;
                FailurePoint::SweepLifted.pass();
            }
            (Kind::Directory, Depth::Trash) => {
                if let Some((handle, _)) = self.tree.look_up(directory, name).await? {
                    Box::pin(self.empty(&handle, name, Depth::Within)).await?;
                }
                self.tree.remove_directory(directory, name).await?;
                self.count();
            }
            (Kind::File | Kind::Link | Kind::Other, _) => {
                self.tree.remove_file(directory, name).await?;
                FailurePoint::SweepRemoved.pass();
                self.count();
            }
        }
        Ok(())
    }
}

/// The server's word about one entry says nothing about the others.
fn is_refusal(fault: &SweepFault) -> bool {
    match fault {
        SweepFault::Nfs(fault) => fault.status().is_some(),
        SweepFault::Export(_) | SweepFault::Home(_) | SweepFault::Name(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fake::Carried;
    use crate::controller::fake::Servers;
    use crate::model::VolumeHandle;

    const TRASH: &str = ".alinas-csi/trash";

    fn export() -> Export {
        VolumeHandle::parse("v1:a.test:/:x").unwrap().export
    }

    fn with_trash() -> Servers {
        let servers = Servers::default().with("a.test");
        servers.plant("a.test", ".alinas-csi/volumes", Kind::Directory);
        servers.plant("a.test", "outside/precious", Kind::File);
        for path in ["v.1/a", "v.1/b/c/d/e/f", "v.1/b/c/d/g", "v.2/h", "i"] {
            servers.plant("a.test", &format!("{TRASH}/{path}"), Kind::File);
        }
        for path in ["v.1/link", "v.1/b/link", "link"] {
            servers.plant("a.test", &format!("{TRASH}/{path}"), Kind::Link);
        }
        servers.plant("a.test", &format!("{TRASH}/v.1/b/empty"), Kind::Directory);
        for number in 0..10 {
            servers.plant("a.test", &format!("{TRASH}/v.2/wide/{number}"), Kind::File);
        }
        servers
    }

    fn left(servers: &Servers) -> Vec<String> {
        servers.paths("a.test")
    }

    const CLEAN: [&str; 5] = [
        ".alinas-csi/",
        ".alinas-csi/trash/",
        ".alinas-csi/volumes/",
        "outside/",
        "outside/precious",
    ];

    #[tokio::test]
    async fn a_tree_goes_whole_and_nothing_beside_it() {
        let servers = with_trash();
        let sweeper = Sweeper::new(Arc::new(servers.clone()));
        sweeper.notice(&export());
        assert_eq!(sweeper.report().under_way, 1);
        sweeper.idle().await;
        assert_eq!(left(&servers), CLEAN);
        // 15 files, 3 links and 8 directories.
        assert_eq!(sweeper.report(), SweepReport { under_way: 0, removed: 26, failures: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn wherever_a_sweep_is_cut_the_next_one_ends_it() {
        for carried in [Carried::Out, Carried::Not] {
            for call in 0.. {
                let servers = with_trash();
                servers.break_at("a.test", call, carried);
                let first = Sweeper::new(Arc::new(servers.clone()));
                let cut = first.sweep_once(&export()).await;
                if !servers.has_broken("a.test") {
                    assert!(cut.is_ok() && call > 40, "only {call} calls");
                    break;
                }
                assert!(cut.is_err());
                let next = Sweeper::new(Arc::new(servers.clone()));
                next.notice(&export());
                next.idle().await;
                assert_eq!(left(&servers), CLEAN, "call {call}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_is_asked_again_later() {
        let servers = with_trash();
        servers.silence("a.test");
        let sweeper = Sweeper::new(Arc::new(servers.clone()));
        sweeper.notice(&export());
        sleep(Duration::from_secs(20)).await;
        assert!(left(&servers).len() > CLEAN.len());
        let report = sweeper.report();
        assert!(report.under_way == 1 && report.failures > 0, "{report:?}");
        servers.speak("a.test");
        sweeper.idle().await;
        assert_eq!(left(&servers), CLEAN);
    }

    #[tokio::test]
    async fn an_export_is_looked_at_once_unless_something_was_deleted() {
        let servers = with_trash();
        let sweeper = Sweeper::new(Arc::new(servers.clone()));
        sweeper.notice_once(&export());
        sweeper.idle().await;
        let calls = servers.calls("a.test");
        sweeper.notice_once(&export());
        sweeper.idle().await;
        assert_eq!(servers.calls("a.test"), calls);
        sweeper.notice(&export());
        sweeper.idle().await;
        assert!(servers.calls("a.test") > calls);
    }
}
