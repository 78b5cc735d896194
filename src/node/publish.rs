//! Publishes a staged volume to a pod: binds the staging path to the pod's target path.
//!
//! Stateless: the publications of a volume are those mounts that share the staging mount's peer group.

use std::path::Path;
use std::path::PathBuf;

use tokio::task::JoinError;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::topmost_at;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::model::VolumeId;
use crate::node::Node;
use crate::node::access::AccessMode;
use crate::node::deadline;
use crate::node::directory;
use crate::node::directory::DirectoryFault;
use crate::node::directory::Made;
use crate::node::key_at;
use crate::node::mounts;
use crate::node::mounts::ReadMounts;
use crate::node::place;
use crate::node::place::PathFault;
use crate::node::unmount;
use crate::node::unmount::UnmountError;
use crate::runtime::Chain;
use crate::runtime::FailurePoint;
use crate::runtime::in_flight::Busy;
use crate::runtime::request::carried;

/// A volume to publish.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The volume.
    pub volume: VolumeId,
    /// Where it is staged.
    pub staging_path: PathBuf,
    /// Where the pod wants it. Its parent exists.
    pub target_path: PathBuf,
    /// By how many it may be used.
    pub access: AccessMode,
    /// The pod asked for a read-only volume.
    pub read_only: bool,
}

/// What [`Node::publish`] found. Both are success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Nothing was there; now the volume is.
    Now,
    /// The volume was there, just so.
    Already,
}

/// Why a volume is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another operation on the volume is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// One of the paths cannot be worked on.
    #[error(transparent)]
    Path(#[from] PathFault),
    /// We could not look.
    #[error(transparent)]
    ReadMounts(#[from] ReadMounts),
    /// There is nothing to bind.
    #[error("the volume is not staged at {0:?}")]
    NotStaged(PathBuf),
    /// It is published there in another way.
    #[error("the volume is published at {path:?} already, but {held}; unpublish it first")]
    PublishedDifferently {
        /// Where.
        path: PathBuf,
        /// How.
        held: &'static str,
    },
    /// It is published elsewhere, and its access mode allows one place.
    #[error(
        "the volume is published at {at:?}, and its access mode allows one target path on a node"
    )]
    PublishedElsewhere {
        /// Where.
        at: PathBuf,
    },
    /// Another mount is in the way.
    #[error("{path:?} holds another mount ({held:?}, type {fs_type:?}); unmount it by hand")]
    TargetTaken {
        /// Where.
        path: PathBuf,
        /// Its source.
        held: String,
        /// Its type.
        fs_type: String,
    },
    /// The target path cannot be mounted on.
    #[error("target path: {0}")]
    Target(#[source] DirectoryFault),
    /// The kernel does not bind. Nothing is left behind.
    #[error("failed to bind {path:?}")]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        source: Failure,
    },
    /// The kernel does not bind, and what it left could not be undone yet.
    #[error("failed to bind {path:?}: {failure}; and failed to clean up after it: {}", Chain(.left.as_ref()))]
    NotUndone {
        /// Where.
        path: PathBuf,
        /// Why.
        failure: Failure,
        /// What is left.
        left: Box<UnmountError>,
    },
    /// A fault in this program.
    #[error("publishing ended unexpectedly")]
    Crashed(#[source] JoinError),
}

impl Node {
    /// Publishes a volume. Goes on to its end when the caller stops waiting.
    ///
    /// # Errors
    /// Says why the volume is not published; see [`PublishError::NotUndone`] for the one that leaves something.
    pub async fn publish(&self, request: PublishRequest) -> Result<Published, PublishError> {
        // The volume, because its publications are counted; the path, because unpublishing holds only that.
        let volume = self.in_flight.begin(request.volume.as_str())?;
        let path = self.in_flight.begin(&key_at(&request.volume, &request.target_path))?;
        let node = self.clone();
        let work = async move {
            let _until_done = (volume, path);
            node.publish_alone(&request).await
        };
        self.operations.spawn(carried(work)).await.map_err(PublishError::Crashed)?
    }

    async fn publish_alone(&self, request: &PublishRequest) -> Result<Published, PublishError> {
        let from = place::resolve(&request.staging_path).await?;
        let to = place::resolve(&request.target_path).await?;
        let table = mounts::read(&*self.mounts)?;
        let staged = topmost_at(&table, &from).filter(|entry| entry.is_nfs());
        let Some(staged) = staged.filter(|entry| entry.peer_group.is_some()) else {
            return Err(PublishError::NotStaged(from));
        };
        let read_only =
            request.read_only || request.access.is_reader_only() || staged.is_read_only();
        if let Some(top) = topmost_at(&table, &to) {
            return judge_occupant(top, staged, read_only);
        }
        if request.access.is_for_one_target() {
            refuse_second_target(&table, staged)?;
        }
        self.bind(from, to, read_only).await
    }

    async fn bind(
        &self,
        from: PathBuf,
        to: PathBuf,
        read_only: bool,
    ) -> Result<Published, PublishError> {
        let made = directory::ensure(&to).await.map_err(PublishError::Target)?;
        FailurePoint::PublishDirectory.pass();
        let job = Job::Bind { from, to: to.clone(), read_only };
        match self.worker.run(job, deadline::BIND).await {
            Ok(_) => {
                FailurePoint::PublishBound.pass();
                Ok(Published::Now)
            }
            Err(failure) => Err(self.undo_bind(to, made, failure).await),
        }
    }

    async fn undo_bind(&self, path: PathBuf, made: Made, failure: Failure) -> PublishError {
        if let Err(left) = self.ensure_unmounted(&path, unmount::FAILED).await {
            return PublishError::NotUndone { path, failure, left: Box::new(left) };
        }
        if made == Made::Now
            && let Err(error) = directory::remove(&path).await
        {
            // NodeUnpublishVolume removes it later, or says why it cannot.
            tracing::warn!(error = %Chain(&error), "an empty directory is left behind");
        }
        PublishError::Bind { path, source: failure }
    }
}

/// First two columns of CSI's table: the same target path again.
fn judge_occupant(
    top: &MountEntry,
    staged: &MountEntry,
    read_only: bool,
) -> Result<Published, PublishError> {
    let path = top.mount_point.clone();
    if !top.is_nfs() || !mounts::shows_the_same(top, staged) {
        let (held, fs_type) = (top.source.clone(), top.fs_type.clone());
        return Err(PublishError::TargetTaken { path, held, fs_type });
    }
    match (top.is_read_only(), read_only) {
        (true, true) | (false, false) => Ok(Published::Already),
        (true, false) => Err(PublishError::PublishedDifferently { path, held: "read-only" }),
        (false, true) => Err(PublishError::PublishedDifferently { path, held: "writable" }),
    }
}

/// Last two columns of CSI's table: another target path, where the access mode allows one.
fn refuse_second_target(table: &[MountEntry], staged: &MountEntry) -> Result<(), PublishError> {
    let staging_path: &Path = &staged.mount_point;
    let publication = table
        .iter()
        .find(|entry| mounts::is_bind_of(entry, staged) && entry.mount_point != staging_path);
    match publication {
        Some(entry) => Err(PublishError::PublishedElsewhere { at: entry.mount_point.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::fake::Answer;
    use crate::node::fake::World;
    use crate::node::fake::entry;
    use crate::node::fake::refused;

    const STAGE: &str = "/nowhere/stage";

    struct Pods(tempfile::TempDir);

    impl Pods {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, pod: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(pod)
        }

        fn request(&self, pod: &str, access: AccessMode, read_only: bool) -> PublishRequest {
            PublishRequest {
                volume: VolumeId::parse("vol").unwrap(),
                staging_path: PathBuf::from(STAGE),
                target_path: self.path(pod),
                access,
                read_only,
            }
        }

        fn shared(&self, pod: &str) -> PublishRequest {
            self.request(pod, AccessMode::MultiNodeMultiWriter, false)
        }
    }

    fn staged() -> World {
        World::default().mounted(entry(1, STAGE, "nas:/"))
    }

    /// What a second call answers.
    #[derive(Debug, PartialEq, Eq)]
    enum Second {
        Ok,
        Exists,
        Refused,
    }

    fn seen(result: &Result<Published, PublishError>) -> Second {
        match result {
            Ok(_) => Second::Ok,
            Err(PublishError::PublishedDifferently { .. }) => Second::Exists,
            Err(PublishError::PublishedElsewhere { .. }) => Second::Refused,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_publication_is_answered_as_the_table_of_csi_says() {
        use AccessMode::*;
        use Second::*;
        // For each mode: same target and arguments; same target, other arguments; other target, same
        // arguments; other target, other arguments.
        for (access, row) in [
            (MultiNodeMultiWriter, [Ok, Exists, Ok, Ok]),
            (MultiNodeSingleWriter, [Ok, Exists, Ok, Ok]),
            (SingleNodeWriter, [Ok, Exists, Refused, Refused]),
            (SingleNodeMultiWriter, [Ok, Exists, Ok, Ok]),
            (SingleNodeSingleWriter, [Ok, Exists, Refused, Refused]),
        ] {
            let again = [("one", false), ("one", true), ("two", false), ("two", true)];
            for ((pod, read_only), expected) in again.into_iter().zip(row) {
                let (pods, world) = (Pods::new(), staged());
                let node = world.node();
                node.publish(pods.request("one", access, false)).await.unwrap();
                let second = node.publish(pods.request(pod, access, read_only)).await;
                assert_eq!(seen(&second), expected, "{access:?} {pod} read_only={read_only}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reader_only_modes_are_always_read_only() {
        for access in [AccessMode::SingleNodeReaderOnly, AccessMode::MultiNodeReaderOnly] {
            let (pods, world) = (Pods::new(), staged());
            let node = world.node();
            node.publish(pods.request("one", access, false)).await.unwrap();
            assert!(world.mounts()[1].is_read_only());
            let again = node.publish(pods.request("one", access, true)).await.unwrap();
            assert_eq!(again, Published::Already);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_staged_read_only_is_published_read_only_again_and_again() {
        let pods = Pods::new();
        let staging = MountEntry { options: vec!["ro".to_owned()], ..entry(1, STAGE, "nas:/") };
        let node = World::default().mounted(staging).node();
        assert_eq!(node.publish(pods.shared("one")).await.unwrap(), Published::Now);
        assert_eq!(node.publish(pods.shared("one")).await.unwrap(), Published::Already);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sub_path_of_the_kubelet_is_no_second_target() {
        let pods = Pods::new();
        let sub_path = MountEntry { root: "/sub".to_owned(), ..entry(2, "/pods/sub", "nas:/") };
        let node = staged().mounted(sub_path).node();
        let request = pods.request("one", AccessMode::SingleNodeSingleWriter, false);
        assert_eq!(node.publish(request).await.unwrap(), Published::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_behind_when_binding_fails() {
        for answer in
            [Answer::Fail(refused()), Answer::FailButDo(refused()), Answer::Hang, Answer::HangButDo]
        {
            let (pods, world) = (Pods::new(), staged());
            world.answer(0, answer);
            let error = world.node().publish(pods.shared("one")).await.unwrap_err();
            assert!(matches!(error, PublishError::Bind { .. }), "{error}");
            assert_eq!(world.mounts().len(), 1);
            assert!(!pods.path("one").exists());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_was_there_before_stays_when_binding_fails() {
        let (pods, world) = (Pods::new(), staged());
        std::fs::create_dir(pods.path("one")).unwrap();
        world.answer(0, Answer::Fail(refused()));
        world.node().publish(pods.shared("one")).await.unwrap_err();
        assert!(pods.path("one").is_dir());
    }

    #[tokio::test(start_paused = true)]
    async fn a_bind_that_cannot_be_taken_back_is_told() {
        let (pods, world) = (Pods::new(), staged());
        world.answer(0, Answer::HangButDo);
        world.answer(1, Answer::Hang);
        let error = world.node().publish(pods.shared("one")).await.unwrap_err();
        assert!(matches!(error, PublishError::NotUndone { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_that_is_not_staged_is_not_published() {
        let unshared = MountEntry { peer_group: None, ..entry(1, STAGE, "nas:/") };
        let tmpfs = MountEntry { fs_type: "tmpfs".to_owned(), ..entry(1, STAGE, "tmpfs") };
        for world in
            [World::default(), World::default().mounted(unshared), World::default().mounted(tmpfs)]
        {
            let pods = Pods::new();
            let error = world.node().publish(pods.shared("one")).await.unwrap_err();
            assert!(matches!(error, PublishError::NotStaged(_)), "{error}");
            assert!(!pods.path("one").exists());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_the_way_is_left_alone_and_named() {
        let pods = Pods::new();
        let other = MountEntry {
            device: "0:1".to_owned(),
            peer_group: Some(8),
            ..entry(2, &pods.path("one").to_string_lossy(), "other:/")
        };
        let error = staged().mounted(other).node().publish(pods.shared("one")).await.unwrap_err();
        assert!(matches!(error, PublishError::TargetTaken { .. }), "{error}");

        std::fs::write(pods.path("two"), "").unwrap();
        let error = staged().node().publish(pods.shared("two")).await.unwrap_err();
        assert!(matches!(error, PublishError::Target(DirectoryFault::NotADirectory(_))), "{error}");
        let error = staged().node().publish(pods.shared("none/three")).await.unwrap_err();
        assert!(matches!(error, PublishError::Target(DirectoryFault::ParentMissing(_))), "{error}");
    }
}
