//! Copies under way, in the background: of volumes and snapshots, into volumes and snapshots.
//!
//! Whoever wants a copy asks for it until it is there, and is told in between how far it is. There is no list of what
//! is wanted: a process that was started anew is asked again, and goes on with what is in the
//! [place of work](crate::controller::work). What is shown in its place is whole.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::controller::copy::Copy;
use crate::controller::copy::TreeFault;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::home::find_directory;
use crate::controller::home::unique_name;
use crate::controller::origin::Source;
use crate::controller::record::Origin;
use crate::controller::snapshot::DATA;
use crate::controller::snapshot::find_snapshot;
use crate::controller::tree::ExportFault;
use crate::controller::tree::Exports;
use crate::controller::tree::Tree;
use crate::controller::work;
use crate::controller::work::Work;
use crate::model::Export;
use crate::model::VolumeKey;
use crate::nfs::client::Handle;
use crate::nfs::client::Name;
use crate::nfs::client::NameError;
use crate::runtime::Clock;
use crate::runtime::FailurePoint;
use crate::runtime::request::carried;

/// Copies at the same time. Each has two connections, and an export has eight.
const AT_ONCE: usize = 2;
/// For a copy to end before whoever asks for it is told how far it is. A sidecar waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes copies. A clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct Copier {
    exports: Arc<dyn Exports>,
    clock: Arc<dyn Clock>,
    slots: Arc<Semaphore>,
    under_way: Arc<Mutex<HashMap<(Export, String), UnderWay>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What is to be copied, and where to.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Where the copy is to be.
    pub(super) export: Export,
    /// What it is to become there.
    pub(super) becomes: Becomes,
    /// What is copied.
    pub(super) origin: Origin,
}

/// What a copy becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    /// A volume, in this directory.
    Volume(VolumeKey, String),
    /// A snapshot.
    Snapshot(VolumeKey),
}

/// One copy.
#[derive(Clone, Debug)]
struct UnderWay {
    progress: Arc<Progress>,
    outcome: Arc<Mutex<Option<Result<(), CopyError>>>>,
    cancelled: CancellationToken,
    ended: CancellationToken,
}

/// How far a copy is, counted from where this attempt has begun.
#[derive(Debug, Default)]
pub(super) struct Progress {
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// Why there is no copy, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It takes longer.
    #[error(
        "it is being copied: {entries} files and {bytes} bytes so far; it goes on in the background"
    )]
    UnderWay {
        /// Files, directories and links.
        entries: u64,
        /// Of files.
        bytes: u64,
    },
    /// What is to be copied is not there.
    #[error("there is no {what} {id:?} to copy")]
    NoSource {
        /// "volume" or "snapshot".
        what: &'static str,
        /// Which.
        id: String,
    },
    /// A snapshot that is not whole.
    #[error("the snapshot {0:?} is not ready to be used yet")]
    NotReady(String),
    /// It went away.
    #[error("{what} {id:?} was deleted while it was copied")]
    SourceDeleted {
        /// "volume" or "snapshot".
        what: &'static str,
        /// Which.
        id: String,
    },
    /// A mount target cannot be used.
    #[error(transparent)]
    Export(Box<ExportFault>),
    /// Our own directory there, or something in it.
    #[error("{server}: {source}")]
    Home {
        /// The mount target.
        server: String,
        /// Why.
        source: HomeFault,
    },
    /// A file cannot be copied.
    #[error(
        "failed to copy {what} {id:?} to {server}: {source}; what is copied is kept, and it is tried again"
    )]
    Tree {
        /// "volume" or "snapshot".
        what: &'static str,
        /// Which.
        id: String,
        /// The mount target of the copy.
        server: String,
        /// Why.
        source: Box<CopyFault>,
    },
    /// The controller is ending.
    #[error("the copy was interrupted; it goes on when it is asked for again")]
    Interrupted,
}

/// What went wrong with one file.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CopyFault(TreeFault);

impl CopyFault {
    /// The server's or the connection's part in it, where it has one.
    #[must_use]
    pub fn nfs(&self) -> Option<&crate::nfs::client::NfsFault> {
        match &self.0 {
            TreeFault::Source(fault) | TreeFault::Target(fault) => Some(fault),
            TreeFault::Name(_) | TreeFault::Size { .. } | TreeFault::Stuck(_) => None,
        }
    }
}

impl CopyError {
    /// Nobody can make the copy any more: what was begun for it is undone, for whoever asked may forget it.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::NoSource { .. } | Self::SourceDeleted { .. } => true,
            Self::UnderWay { .. }
            | Self::NotReady(_)
            | Self::Export(_)
            | Self::Home { .. }
            | Self::Tree { .. }
            | Self::Interrupted => false,
        }
    }
}

impl Progress {
    pub(super) fn entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self, count: usize) {
        self.bytes.fetch_add(u64::try_from(count).unwrap_or_default(), Ordering::Relaxed);
    }

    fn so_far(&self) -> CopyError {
        CopyError::UnderWay {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Becomes {
    /// What its place of work is called.
    pub(super) fn work_name(&self) -> Result<Name, NameError> {
        match self {
            Self::Volume(key, _) => Name::parse(&format!("volume.{key}")),
            Self::Snapshot(key) => Name::parse(&format!("snapshot.{key}")),
        }
    }
}

impl fmt::Display for Becomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(key, _) => write!(f, "volume.{key}"),
            Self::Snapshot(key) => write!(f, "snapshot.{key}"),
        }
    }
}

impl Copier {
    pub(super) fn new(exports: Arc<dyn Exports>, clock: Arc<dyn Clock>) -> Self {
        Self {
            exports,
            clock,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            under_way: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Waits for a copy, which it begins where none is under way.
    pub(super) async fn ensure(&self, job: Job) -> Result<(), CopyError> {
        let key = (job.export.clone(), job.becomes.to_string());
        let under_way = {
            let mut all = self.all();
            let new = || self.begin(job);
            all.entry(key.clone()).or_insert_with(new).clone()
        };
        if timeout(PATIENCE, under_way.ended.cancelled()).await.is_err() {
            return Err(under_way.progress.so_far());
        }
        self.all().remove(&key);
        let mut outcome = under_way.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        // Where it was taken away before it could say anything.
        outcome.take().unwrap_or(Err(CopyError::Interrupted))
    }

    /// Ends a copy, if it is under way. Nothing is done for it any more afterwards.
    pub(super) async fn cancel(&self, export: &Export, becomes: &Becomes) {
        let found = self.all().remove(&(export.clone(), becomes.to_string()));
        if let Some(under_way) = found {
            under_way.cancelled.cancel();
            under_way.ended.cancelled().await;
        }
    }

    /// Ends every copy. The places of work keep what was done.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn begin(&self, job: Job) -> UnderWay {
        let under_way = UnderWay {
            progress: Arc::default(),
            outcome: Arc::default(),
            cancelled: self.stop.child_token(),
            ended: CancellationToken::new(),
        };
        let (copier, told) = (self.clone(), under_way.clone());
        // For the request that began it; others wait for it.
        self.tasks.spawn(carried(async move {
            let _ended = told.ended.clone().drop_guard();
            let outcome = tokio::select! {
                () = told.cancelled.cancelled() => Err(CopyError::Interrupted),
                // On the heap: it is large, and there are few.
                outcome = Box::pin(copier.copy(&job, &told.progress)) => outcome,
            };
            match &outcome {
                Ok(()) => tracing::info!(copy = %job.becomes, from = ?job.origin, "copied"),
                Err(error) => {
                    tracing::warn!(copy = %job.becomes, from = ?job.origin, %error, "not copied");
                }
            }
            *told.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        }));
        under_way
    }

    async fn copy(&self, job: &Job, progress: &Progress) -> Result<(), CopyError> {
        // Never closed.
        let _slot = self.slots.acquire().await;
        let mut source = Source::open(&*self.exports, &job.origin).await?;
        let export = &job.export;
        let server = export.spec.host.to_string();
        let broken = |source| CopyError::Home { server: server.clone(), source };
        let opened = self.exports.open(export).await;
        let mut target = opened.map_err(|fault| CopyError::Export(Box::new(fault)))?;
        let target = target.as_mut();
        let (home, work) = self.work(target, job).await.map_err(broken)?;
        FailurePoint::CopyBegun.pass();
        let mut copy = Copy { source: source.tree.as_mut(), target, work: &work, progress };
        let copied = copy.run(&source.directory, source.attributes).await;
        let (what, id) = job.origin.words();
        copied.map_err(|fault| CopyError::Tree {
            what,
            id: id.to_owned(),
            server: server.clone(),
            source: Box::new(CopyFault(fault)),
        })?;
        source.ensure_still_there(&job.origin).await?;
        FailurePoint::CopyWhole.pass();
        self.show(target, job, &home, &work).await.map_err(broken)
    }

    async fn work(&self, target: &mut dyn Tree, job: &Job) -> Result<(Home, Work), HomeFault> {
        let home = Home::ensure(target).await?;
        let token = unique_name("process")?;
        let work = Work::begin(target, &home, &job.becomes.work_name()?, &token).await?;
        Ok((home, work))
    }

    async fn show(
        &self,
        target: &mut dyn Tree,
        job: &Job,
        home: &Home,
        work: &Work,
    ) -> Result<(), HomeFault> {
        let (directory, name): (Handle, Name) = match &job.becomes {
            Becomes::Volume(_, directory) => (target.root(), Name::parse(directory)?),
            Becomes::Snapshot(key) => {
                let found = find_snapshot(target, home, key).await?;
                (found.ok_or(HomeFault::Gone(Name::parse(key.as_str())?))?, Name::parse(DATA)?)
            }
        };
        // An empty directory would be replaced, and somebody's link or file is not to be.
        if find_directory(target, &directory, &name).await?.is_none() {
            work.show(target, (&directory, &name)).await?;
        }
        FailurePoint::CopyShown.pass();
        self.discard(target, home, &job.becomes).await.map(drop)
    }

    /// Keeps every copy from beginning.
    #[cfg(test)]
    pub(super) async fn slots_taken(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(AT_ONCE).unwrap_or_default();
        Arc::clone(&self.slots).acquire_many_owned(all).await.unwrap()
    }

    /// Throws away a place of work. `true`: there was one.
    pub(super) async fn discard(
        &self,
        tree: &mut dyn Tree,
        home: &Home,
        becomes: &Becomes,
    ) -> Result<bool, HomeFault> {
        let mark = format!("{:x}", self.clock.now().wall.as_millis());
        work::discard(tree, home, &becomes.work_name()?, &mark).await
    }

    fn all(&self) -> MutexGuard<'_, HashMap<(Export, String), UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
