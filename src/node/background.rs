//! Mounts that go on being tried after the call that asked for them was answered (`bg`, plain NFS only).
//!
//! ```text
//! NodeStageVolume ─> first try ─> mounted: OK         failed for good: the fault
//!                        │ failed for now
//!                        v
//!                   goes on here, until retry= is over or NodeUnstageVolume ends it;
//!                   each NodeStageVolume meanwhile is answered at once, with the last failure
//! ```
//!
//! It is kept in memory only: where the node plugin restarts, the kubelet's next call begins anew.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::model::VolumeId;
use crate::nfs::Engine;
use crate::nfs::MountFault;
use crate::nfs::MountRequest;
use crate::nfs::Progress;
use crate::node::deadline;
use crate::node::stage::StageError;
use crate::node::stage::Staged;
use crate::node::tunnels::TunnelUser;
use crate::runtime::request::carried;

/// Every mount that is, or was until lately, tried in the background. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Background(Arc<Mutex<HashMap<(VolumeId, PathBuf), Trying>>>);

#[derive(Clone, Debug)]
struct Trying {
    began: Instant,
    cancel: CancellationToken,
    news: watch::Receiver<News>,
}

#[derive(Clone, Debug)]
enum News {
    /// The first try is under way.
    Begun,
    /// It goes on being tried, after this failure.
    GoesOn(String),
    Ended(Result<(), Box<MountFault>>),
}

impl Background {
    /// Whether a mount is being tried, or was until lately.
    pub(super) fn is_trying(&self, user: &TunnelUser) -> bool {
        self.all().contains_key(&key(&user.volume, &user.staging_path))
    }

    /// What is known of a mount in the background. `None` where there is none, or none any more.
    pub(super) fn news_of(&self, user: &TunnelUser) -> Option<Result<Staged, StageError>> {
        let key = key(&user.volume, &user.staging_path);
        let trying = self.all().get(&key).cloned()?;
        let news = trying.news.borrow().clone();
        match news {
            News::Ended(outcome) => {
                self.all().remove(&key);
                // The mount table shows one that succeeded, unless somebody took it away since.
                outcome.err().map(|fault| Err(StageError::Mount(fault)))
            }
            _ if trying.news.has_changed().is_err() => {
                self.all().remove(&key);
                None
            }
            News::Begun => Some(Err(trying.goes_on("none yet".to_owned()))),
            News::GoesOn(last) => Some(Err(trying.goes_on(last))),
        }
    }

    /// How many are being tried.
    pub(super) fn being_tried(&self) -> usize {
        let goes_on = |trying: &&Trying| !matches!(*trying.news.borrow(), News::Ended(_));
        self.all().values().filter(goes_on).count()
    }

    /// Begins to mount, and waits for the first try.
    pub(super) async fn begin(
        &self,
        engine: &Engine,
        request: MountRequest,
        user: &TunnelUser,
    ) -> Result<Staged, StageError> {
        let key = key(&user.volume, &user.staging_path);
        let mut trying = begin(engine.clone(), request);
        self.all().insert(key.clone(), trying.clone());
        let first = trying.news.wait_for(|news| !matches!(news, News::Begun));
        let first = match timeout(deadline::PLAIN_MOUNT, first).await {
            Ok(Ok(news)) => news.clone(),
            Ok(Err(_)) | Err(_) => News::Begun,
        };
        match first {
            News::Begun => Err(trying.goes_on("no answer yet".to_owned())),
            News::GoesOn(last) => Err(trying.goes_on(last)),
            News::Ended(outcome) => {
                self.all().remove(&key);
                outcome.map(|()| Staged::Now).map_err(StageError::Mount)
            }
        }
    }

    /// Ends what is tried for a volume, and waits until nothing of it is left.
    pub(super) async fn end(&self, volume: &VolumeId, staging_path: &Path) {
        let trying = self.all().remove(&key(volume, staging_path));
        if let Some(trying) = trying {
            trying.end().await;
        }
    }

    /// Ends everything.
    pub(super) async fn end_all(&self) {
        let all = std::mem::take(&mut *self.all());
        all.values().for_each(|trying| trying.cancel.cancel());
        for trying in all.into_values() {
            trying.end().await;
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<(VolumeId, PathBuf), Trying>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trying {
    fn goes_on(&self, last: String) -> StageError {
        StageError::InBackground { tried: self.began.elapsed(), last }
    }

    async fn end(mut self) {
        self.cancel.cancel();
        // An error says that the task is gone, which is as good.
        let _ = self.news.wait_for(|news| matches!(news, News::Ended(_))).await;
    }
}

fn begin(engine: Engine, request: MountRequest) -> Trying {
    let (tell, news) = watch::channel(News::Begun);
    let cancel = CancellationToken::new();
    let trying = Trying { began: Instant::now(), cancel: cancel.clone(), news };
    let tell = Arc::new(tell);
    let progress = Arc::clone(&tell);
    // For the request that began it, also once that has its answer: later ones only ask for news.
    tokio::spawn(carried(async move {
        let mounted = engine.mount(request, cancel, move |news| note(&progress, news)).await;
        tell.send_replace(News::Ended(mounted.map(drop).map_err(Box::new)));
    }));
    trying
}

fn note(news: &watch::Sender<News>, progress: Progress) {
    match progress {
        Progress::Asking { .. } => {}
        Progress::InBackground(fault) => {
            news.send_replace(News::GoesOn(format!("{fault} [{}]", fault.id())));
        }
        Progress::Failed(why) => {
            news.send_if_modified(|news| match news {
                News::GoesOn(last) => {
                    *last = why;
                    true
                }
                News::Begun | News::Ended(_) => false,
            });
        }
    }
}

fn key(volume: &VolumeId, staging_path: &Path) -> (VolumeId, PathBuf) {
    (volume.clone(), staging_path.to_owned())
}
