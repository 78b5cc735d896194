//! Takes down what is mounted at a path of a volume: which steps there are, and for which mount.
//!
//! How one mount is taken down is [`crate::nfs::unmount`].

use std::path::Path;
use std::path::PathBuf;

use tokio::time::Instant;

use crate::host::mount_table::topmost_at;
use crate::host::worker::Failure;
use crate::host::worker::Unmounting;
use crate::nfs::unmount;
use crate::nfs::unmount::Ladder;
use crate::nfs::unmount::Others;
use crate::nfs::unmount::UnmountFault;
use crate::node::Node;
use crate::node::deadline;
use crate::node::mounts;
use crate::node::mounts::ReadMounts;

/// For a volume's own mount.
pub(super) const STAGED: Ladder = &[
    (Unmounting::Plain, deadline::UNMOUNT_PLAIN),
    (Unmounting::Forced, deadline::UNMOUNT_FORCED),
    (Unmounting::Lazy, deadline::UNMOUNT_LAZY),
];

/// For a bind mount, which others may share the superblock with.
pub(super) const PUBLISHED: Ladder =
    &[(Unmounting::Plain, deadline::UNMOUNT_PLAIN), (Unmounting::Lazy, deadline::UNMOUNT_LAZY)];

/// For a mount that just failed: nobody uses it, and its server is known not to answer.
pub(super) const FAILED: Ladder = &[(Unmounting::Lazy, deadline::UNMOUNT_LAZY)];

/// Why something is still mounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// We could not look.
    #[error(transparent)]
    ReadMounts(#[from] ReadMounts),
    /// Not ours to unmount.
    #[error(
        "{path:?} holds a mount of type {fs_type:?}, which this driver did not make; unmount it by hand"
    )]
    NotNfs {
        /// Where.
        path: PathBuf,
        /// What.
        fs_type: String,
    },
    /// No step helped.
    #[error("failed to unmount {path:?}")]
    Failed {
        /// Where.
        path: PathBuf,
        /// What the last step said.
        source: Failure,
    },
    /// The steps said that they helped, or there was no time for one, and it is still there.
    #[error("{0:?} is still mounted; it is safe to try again")]
    StillThere(PathBuf),
}

/// What [`Node::ensure_unmounted`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmounted {
    /// At least one mount.
    Now,
    /// Nothing.
    Already,
}

impl Node {
    /// Unmounts every NFS mount that is stacked at `path`.
    pub(super) async fn ensure_unmounted(
        &self,
        path: &Path,
        ladder: Ladder,
    ) -> Result<Unmounted, UnmountError> {
        let until = Instant::now() + deadline::UNMOUNT_ALL;
        let mut found = Unmounted::Already;
        loop {
            let table = mounts::read(&*self.mounts)?;
            let Some(top) = topmost_at(&table, path) else { return Ok(found) };
            if !top.is_nfs() {
                let fs_type = top.fs_type.clone();
                return Err(UnmountError::NotNfs { path: path.to_owned(), fs_type });
            }
            let steps = (ladder, Others::Spare);
            unmount::unmount(&*self.mounts, &*self.worker, top, steps, until).await?;
            found = Unmounted::Now;
        }
    }
}

impl From<UnmountFault> for UnmountError {
    fn from(fault: UnmountFault) -> Self {
        match fault {
            UnmountFault::ReadMounts(source) => Self::ReadMounts(ReadMounts::from(source)),
            UnmountFault::Failed { path, source } => Self::Failed { path, source },
            UnmountFault::StillThere(path) => Self::StillThere(path),
        }
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

    const PATH: &str = "/stage";

    async fn unmount(world: &World, ladder: Ladder) -> Result<Unmounted, UnmountError> {
        world.node().ensure_unmounted(Path::new(PATH), ladder).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_is_unmounted_politely() {
        let world = World::default().mounted(entry(1, PATH, "nas:/"));
        assert_eq!(unmount(&world, STAGED).await.unwrap(), Unmounted::Now);
        assert_eq!(unmount(&world, STAGED).await.unwrap(), Unmounted::Already);
        assert_eq!(world.journal(), ["unmount Plain /stage"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_server_is_unmounted_with_more_and_more_force_within_the_deadlines() {
        let world = World::default().mounted(entry(1, PATH, "nas:/"));
        world.answer(0, Answer::Hang);
        world.answer(1, Answer::Fail(refused()));
        let start = Instant::now();
        unmount(&world, STAGED).await.unwrap();
        assert_eq!(
            world.journal(),
            ["unmount Plain /stage", "unmount Forced /stage", "unmount Lazy /stage"]
        );
        assert_eq!(start.elapsed(), deadline::UNMOUNT_PLAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn force_is_never_used_while_another_mount_shares_the_superblock() {
        let world =
            World::default().mounted(entry(1, PATH, "nas:/")).mounted(entry(2, "/other", "nas:/"));
        world.answer(0, Answer::Hang);
        unmount(&world, STAGED).await.unwrap();
        assert_eq!(world.journal(), ["unmount Plain /stage", "unmount Lazy /stage"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_worked_after_its_deadline_has_worked() {
        let world = World::default().mounted(entry(1, PATH, "nas:/"));
        world.answer(0, Answer::HangButDo);
        unmount(&world, STAGED).await.unwrap();
        assert_eq!(world.journal(), ["unmount Plain /stage"]);
    }

    #[tokio::test(start_paused = true)]
    async fn stacked_mounts_all_go() {
        let world =
            World::default().mounted(entry(1, PATH, "nas:/")).mounted(entry(2, PATH, "nas:/"));
        unmount(&world, STAGED).await.unwrap();
        assert!(world.mounts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mount_that_is_not_nfs_stays() {
        let tmpfs = MountEntry { fs_type: "tmpfs".to_owned(), ..entry(1, PATH, "tmpfs") };
        let world = World::default().mounted(tmpfs);
        assert!(matches!(unmount(&world, STAGED).await, Err(UnmountError::NotNfs { .. })));
        assert!(world.journal().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn when_nothing_helps_there_is_an_answer_in_time() {
        let world = World::default().mounted(entry(1, PATH, "nas:/"));
        (0..3).for_each(|step| world.answer(step, Answer::Hang));
        let start = Instant::now();
        assert!(matches!(
            unmount(&world, STAGED).await,
            Err(UnmountError::Failed { source: Failure::Deadline(_), .. })
        ));
        assert!(start.elapsed() < deadline::UNMOUNT_ALL);
    }
}
