//! Unpublishes a volume from a pod: unmounts the target path, then removes the directory.

use std::path::PathBuf;

use tokio::task::JoinError;

use crate::model::VolumeId;
use crate::node::Node;
use crate::node::directory;
use crate::node::directory::DirectoryFault;
use crate::node::key_at;
use crate::node::place;
use crate::node::place::PathFault;
use crate::node::unmount;
use crate::node::unmount::UnmountError;
use crate::runtime::FailurePoint;
use crate::runtime::in_flight::Busy;
use crate::runtime::request::carried;

/// A publication to end.
#[derive(Clone, Debug)]
pub struct UnpublishRequest {
    /// The volume.
    pub volume: VolumeId,
    /// Where it was published.
    pub target_path: PathBuf,
}

/// Why a volume is still published.
#[derive(Debug, thiserror::Error)]
pub enum UnpublishError {
    /// Another operation on the path is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The target path cannot be worked on.
    #[error("target path: {0}")]
    Path(#[source] PathFault),
    /// It is still mounted.
    #[error(transparent)]
    Unmount(#[from] UnmountError),
    /// It is unmounted, and the directory is still there.
    #[error("target path: {0}")]
    Directory(#[source] DirectoryFault),
    /// A fault in this program.
    #[error("unpublishing ended unexpectedly")]
    Crashed(#[source] JoinError),
}

impl Node {
    /// Unpublishes a volume; one that is not published is success. Goes on to its end when the caller stops
    /// waiting. Several target paths of a volume may be unpublished at once.
    ///
    /// # Errors
    /// Says what is left.
    pub async fn unpublish(&self, request: UnpublishRequest) -> Result<(), UnpublishError> {
        let operation = self.in_flight.begin(&key_at(&request.volume, &request.target_path))?;
        let node = self.clone();
        let work = async move {
            let _until_done = operation;
            let path = place::resolve(&request.target_path).await.map_err(UnpublishError::Path)?;
            node.ensure_unmounted(&path, unmount::PUBLISHED).await?;
            FailurePoint::UnpublishUnmounted.pass();
            directory::remove(&path).await.map_err(UnpublishError::Directory)?;
            FailurePoint::UnpublishRemoved.pass();
            Ok(())
        };
        self.operations.spawn(carried(work)).await.map_err(UnpublishError::Crashed)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mount_table::MountEntry;
    use crate::node::fake::Answer;
    use crate::node::fake::World;
    use crate::node::fake::entry;
    use crate::node::fake::refused;

    fn target() -> (tempfile::TempDir, UnpublishRequest) {
        let home = tempfile::tempdir().unwrap();
        let target_path = home.path().canonicalize().unwrap().join("mount");
        std::fs::create_dir(&target_path).unwrap();
        (home, UnpublishRequest { volume: VolumeId::parse("vol").unwrap(), target_path })
    }

    fn published(request: &UnpublishRequest) -> MountEntry {
        entry(1, &request.target_path.to_string_lossy(), "nas:/")
    }

    #[tokio::test(start_paused = true)]
    async fn the_mount_and_the_directory_go_and_both_may_be_repeated() {
        let (_home, request) = target();
        let world = World::default().mounted(published(&request));
        world.node().unpublish(request.clone()).await.unwrap();
        assert!(world.mounts().is_empty() && !request.target_path.exists());
        world.node().unpublish(request).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_server_never_needs_force_that_other_pods_would_feel() {
        let (_home, request) = target();
        let world = World::default().mounted(published(&request));
        world.answer(0, Answer::Hang);
        world.node().unpublish(request).await.unwrap();
        assert!(world.journal()[1].starts_with("unmount Lazy"), "{:?}", world.journal());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mount_that_is_not_nfs_and_its_directory_stay() {
        let (_home, request) = target();
        let tmpfs = MountEntry { fs_type: "tmpfs".to_owned(), ..published(&request) };
        let world = World::default().mounted(tmpfs);
        let error = world.node().unpublish(request.clone()).await.unwrap_err();
        assert!(matches!(error, UnpublishError::Unmount(UnmountError::NotNfs { .. })), "{error}");
        assert!(request.target_path.is_dir());
    }

    #[tokio::test(start_paused = true)]
    async fn data_that_somebody_wrote_under_the_mount_is_kept() {
        let (_home, request) = target();
        std::fs::write(request.target_path.join("data"), "precious").unwrap();
        let error = World::default().node().unpublish(request.clone()).await.unwrap_err();
        assert!(matches!(error, UnpublishError::Directory(DirectoryFault::NotEmpty(_))), "{error}");
        assert!(request.target_path.join("data").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn the_directory_is_not_touched_while_something_is_mounted_on_it() {
        let (_home, request) = target();
        let world = World::default().mounted(published(&request));
        (0..2).for_each(|step| world.answer(step, Answer::Fail(refused())));
        let error = world.node().unpublish(request.clone()).await.unwrap_err();
        assert!(matches!(error, UnpublishError::Unmount(_)), "{error}");
        assert!(request.target_path.is_dir());
    }
}
