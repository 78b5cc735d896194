//! How full a volume is: one statfs(2), which the server answers, so it has a deadline.

use std::path::PathBuf;

use tokio::task::JoinError;

use crate::host::mount_table::topmost_at;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::FsStats;
use crate::host::worker::Job;
use crate::model::VolumeId;
use crate::node::Node;
use crate::node::deadline;
use crate::node::mounts;
use crate::node::mounts::ReadMounts;
use crate::node::place;
use crate::node::place::PathFault;
use crate::runtime::in_flight::Busy;
use crate::runtime::request::carried;

/// A volume to look at.
#[derive(Clone, Debug)]
pub struct StatsRequest {
    /// The volume.
    pub volume: VolumeId,
    /// Where it is published, or staged.
    pub volume_path: PathBuf,
    /// Where it is staged, where the caller says so.
    pub staging_path: Option<PathBuf>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The last question has no answer yet.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// No volume can be there.
    #[error(transparent)]
    Path(#[from] PathFault),
    /// We could not look.
    #[error(transparent)]
    ReadMounts(#[from] ReadMounts),
    /// No volume is there.
    #[error("no volume of this driver is mounted at {0:?}")]
    NotMounted(PathBuf),
    /// Another volume is there.
    #[error("{path:?} holds another volume than {staging_path:?}")]
    AnotherVolume {
        /// Where we looked.
        path: PathBuf,
        /// Where the volume is staged.
        staging_path: PathBuf,
    },
    /// statfs(2) has no answer.
    #[error("failed to ask the NFS server of {path:?} for its figures")]
    Ask {
        /// Where we looked.
        path: PathBuf,
        /// Why.
        source: Failure,
    },
    /// The worker did something else.
    #[error("the worker process answered {0:?} to statfs")]
    Senseless(Done),
    /// A fault in this program.
    #[error("reading the figures ended unexpectedly")]
    Crashed(#[source] JoinError),
}

impl Node {
    /// Reads the figures of a volume. Never more than one question for a path at a time, so that a dead server
    /// does not gather worker processes.
    ///
    /// # Errors
    /// Says why there are no figures.
    pub async fn stats(&self, request: StatsRequest) -> Result<FsStats, StatsError> {
        let path = place::resolve(&request.volume_path).await?;
        let key = format!("{} (figures of {})", request.volume, path.display());
        let operation = self.in_flight.begin(&key)?;
        let node = self.clone();
        let work = async move {
            let _until_done = operation;
            node.stats_alone(path, request.staging_path).await
        };
        self.operations.spawn(carried(work)).await.map_err(StatsError::Crashed)?
    }

    async fn stats_alone(
        &self,
        path: PathBuf,
        staging_path: Option<PathBuf>,
    ) -> Result<FsStats, StatsError> {
        let table = mounts::read(&*self.mounts)?;
        let volume = topmost_at(&table, &path).filter(|entry| entry.is_nfs());
        let Some(volume) = volume else { return Err(StatsError::NotMounted(path)) };
        if let Some(staging_path) = staging_path {
            let staged = place::resolve(&staging_path).await?;
            match topmost_at(&table, &staged) {
                Some(staged) if mounts::shows_the_same(volume, staged) => {}
                Some(_) => return Err(StatsError::AnotherVolume { path, staging_path }),
                None => return Err(StatsError::NotMounted(staging_path)),
            }
        }
        match self.worker.run(Job::StatFs { path: path.clone() }, deadline::STATFS).await {
            Ok(Done::StatFs(stats)) => Ok(stats),
            Ok(other) => Err(StatsError::Senseless(other)),
            Err(source) => Err(StatsError::Ask { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::host::mount_table::MountEntry;
    use crate::node::fake::Answer;
    use crate::node::fake::World;
    use crate::node::fake::entry;

    fn request(path: &str, staging_path: Option<&str>) -> StatsRequest {
        StatsRequest {
            volume: VolumeId::parse("vol").unwrap(),
            volume_path: PathBuf::from(path),
            staging_path: staging_path.map(PathBuf::from),
        }
    }

    fn published() -> World {
        World::default().mounted(entry(1, "/nowhere/stage", "nas:/")).mounted(entry(
            2,
            "/nowhere/pod",
            "nas:/",
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_asked_where_the_volume_is_published_or_staged() {
        for request in [
            request("/nowhere/pod", None),
            request("/nowhere/pod", Some("/nowhere/stage")),
            request("/nowhere/stage", Some("/nowhere/stage")),
        ] {
            assert_eq!(published().node().stats(request).await.unwrap().total_bytes, 1000);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_is_no_mount_point_of_the_volume_is_never_asked() {
        let other = MountEntry {
            device: "0:1".to_owned(),
            peer_group: Some(8),
            ..entry(3, "/nowhere/other", "other:/")
        };
        let tmpfs = MountEntry { fs_type: "tmpfs".to_owned(), ..entry(4, "/nowhere/tmp", "tmpfs") };
        let world = published().mounted(other).mounted(tmpfs);
        for request in [
            request("/nowhere/pod/inside", None),
            request("/nowhere/tmp", None),
            request("some/path", None),
            request("/nowhere/other", Some("/nowhere/stage")),
            request("/nowhere/pod", Some("/nowhere/unknown")),
        ] {
            world.node().stats(request).await.unwrap_err();
        }
        assert!(world.journal().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_server_is_asked_once_at_a_time_and_given_up_at_the_deadline() {
        let world = published();
        world.answer(0, Answer::Hang);
        let node = world.node();
        let start = Instant::now();
        let first = tokio::spawn({
            let node = node.clone();
            async move { node.stats(request("/nowhere/pod", None)).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = node.stats(request("/nowhere/pod", None)).await.unwrap_err();
        assert!(matches!(second, StatsError::Busy(_)));
        let error = first.await.unwrap().unwrap_err();
        assert!(matches!(error, StatsError::Ask { source: Failure::Deadline(_), .. }));
        assert_eq!(start.elapsed(), deadline::STATFS);
    }
}
