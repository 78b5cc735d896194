//! Takes down one NFS mount: politely first, then harder, each step with a deadline.
//!
//! MNT_FORCE ends the requests of the whole superblock, other mounts' included, even where it then answers
//! "busy". So a ladder can hold it back where another mount of the superblock is left.
//!
//! Used by the node plugin and by the command line; each brings its own ladder.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::host::mount_table::has_other_of_device;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::host::worker::Unmounting;
use crate::host::worker::Worker;

/// The steps, in order.
pub type Ladder = &'static [(Unmounting, Duration)];

/// What is done to mounts that share the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// MNT_FORCE is left out while there are any.
    Spare,
    /// Their requests are ended too: whoever asked said so.
    Disturb,
}

/// Why something is still mounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountFault {
    /// We could not look.
    #[error("failed to read the kernel's mount table")]
    ReadMounts(#[source] io::Error),
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

/// Goes up the ladder until `mount`, which must be on top at its place, is gone; at most until `until`.
///
/// # Errors
/// Says what the last step met.
pub async fn unmount(
    mounts: &dyn MountTable,
    worker: &dyn Worker,
    mount: &MountEntry,
    (ladder, others): (Ladder, Others),
    until: Instant,
) -> Result<(), UnmountFault> {
    let table = mounts.read().map_err(UnmountFault::ReadMounts)?;
    let spared = others == Others::Spare && has_other_of_device(&table, mount);
    let mut said = Ok(());
    for (force, deadline) in ladder {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || (*force == Unmounting::Forced && spared) {
            continue;
        }
        let job = Job::Unmount { target: mount.mount_point.clone(), force: *force };
        said = worker.run(job, (*deadline).min(left)).await.map(|_| ());
        // The table decides, not the answer: a step cut at its deadline may have done it all the same.
        let table = mounts.read().map_err(UnmountFault::ReadMounts)?;
        // The kernel gives the id of a mount that is gone to the next one, wherever that is.
        let still =
            |entry: &MountEntry| entry.id == mount.id && entry.mount_point == mount.mount_point;
        if !table.iter().any(still) {
            return Ok(());
        }
    }
    let path = mount.mount_point.clone();
    match said {
        Ok(()) => Err(UnmountFault::StillThere(path)),
        Err(source) => Err(UnmountFault::Failed { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::mount_table::fake::FakeMountTable;
    use crate::host::mount_table::fake::nfs_mount;
    use crate::host::worker::fake::Answer;
    use crate::host::worker::fake::FakeWorker;

    const LADDER: Ladder = &[
        (Unmounting::Plain, Duration::from_secs(20)),
        (Unmounting::Forced, Duration::from_secs(10)),
        (Unmounting::Lazy, Duration::from_secs(10)),
    ];

    async fn steps(others: Others, second_mount: bool, answers: &[Answer]) -> Vec<Unmounting> {
        let table = FakeMountTable::default();
        table.add(nfs_mount("nas:/", Path::new("/mnt")));
        if second_mount {
            table.add(nfs_mount("nas:/", Path::new("/other")));
        }
        let worker = FakeWorker::acting_on(table.clone());
        worker.answers(answers.to_vec());
        let mount = table.entries().remove(0);
        let until = Instant::now() + Duration::from_secs(60);
        unmount(&table, &worker, &mount, (LADDER, others), until).await.unwrap();
        let force = |job| match job {
            Job::Unmount { force, .. } => force,
            other => panic!("{other:?}"),
        };
        worker.jobs().into_iter().map(force).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn force_is_held_back_while_another_mount_shares_the_superblock_unless_asked_for() {
        use Unmounting::{Forced, Lazy, Plain};
        assert_eq!(steps(Others::Spare, false, &[]).await, [Plain]);
        assert_eq!(steps(Others::Spare, false, &[Answer::Hang]).await, [Plain, Forced]);
        assert_eq!(steps(Others::Spare, true, &[Answer::Hang]).await, [Plain, Lazy]);
        assert_eq!(steps(Others::Disturb, true, &[Answer::Hang]).await, [Plain, Forced]);
        assert_eq!(steps(Others::Spare, false, &[Answer::HangAndSucceed]).await, [Plain]);
    }

    /// A table where the next mount has the id of the one that is gone.
    #[derive(Debug)]
    struct IdUsedAgain(FakeMountTable);

    impl MountTable for IdUsedAgain {
        fn read(&self) -> io::Result<Vec<MountEntry>> {
            let mut entries = self.0.read()?;
            if entries.is_empty() {
                entries.push(MountEntry { id: 1, ..nfs_mount("nas:/", Path::new("/other")) });
            }
            Ok(entries)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_mount_that_got_the_id_of_the_one_that_is_gone_is_not_taken_for_it() {
        let table = FakeMountTable::default();
        table.add(nfs_mount("nas:/", Path::new("/mnt")));
        let (worker, mount) = (FakeWorker::acting_on(table.clone()), table.entries().remove(0));
        let until = Instant::now() + Duration::from_secs(60);
        let steps = (LADDER, Others::Spare);
        unmount(&IdUsedAgain(table), &worker, &mount, steps, until).await.unwrap();
        assert_eq!(worker.jobs().len(), 1);
    }
}
