//! A worker that runs nothing, but changes a fake mount table as the kernel would.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;

use super::Done;
use super::Failure;
use super::FsStats;
use super::Job;
use super::Worker;
use crate::host::mount_table::MountEntry;
use crate::host::mount_table::fake::FakeMountTable;
use crate::host::mount_table::fake::nfs_mount;
use crate::host::mount_table::topmost_at;

/// Records jobs and answers from its script; a job beyond the script succeeds and shows in the table.
#[derive(Debug, Default)]
pub struct FakeWorker {
    table: FakeMountTable,
    script: Mutex<VecDeque<Answer>>,
    jobs: Mutex<Vec<Job>>,
    slow: AtomicBool,
}

/// One answer of the script.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Succeeds, and shows in the table.
    Succeed,
    /// Says this, and changes nothing.
    Say(Result<Done, Failure>),
    /// Blocks until the deadline, and changes nothing.
    Hang,
    /// Blocks until the deadline, and yet shows in the table.
    HangAndSucceed,
    /// Shows in the table, and yet blocks until the deadline.
    SucceedAndHang,
}

impl FakeWorker {
    /// A worker whose jobs show in `table`.
    #[must_use]
    pub fn acting_on(table: FakeMountTable) -> Self {
        Self { table, ..Self::default() }
    }

    /// Adds to the script.
    pub fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.script).extend(answers);
    }

    /// From now on, other tasks have a turn before each answer.
    pub fn answers_slowly(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    /// Every job so far.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        lock(&self.jobs).clone()
    }

    fn perform(&self, job: &Job) -> Result<Done, Failure> {
        match job {
            Job::MountNfs { source, attributes, target, .. } => {
                self.mount(source, attributes, target)
            }
            Job::CheckTarget { .. } | Job::SetAttributes { .. } => {}
            Job::Bind { from, to, read_only } => self.bind(from, to, *read_only)?,
            Job::Unmount { target, .. } if self.table.remove_top(target) => {}
            Job::Unmount { .. } => {
                return Err(Failure::refused("umount", Errno::INVAL, Vec::new()));
            }
            Job::FindNfs { target } => return Ok(Done::Found(self.nfs_at(target))),
            Job::StatFs { .. } => return Ok(Done::StatFs(FsStats::default())),
            Job::ProbeOptions { options } => return Ok(Done::Probed(vec![None; options.len()])),
            Job::ProbeTogether { .. } => return Ok(Done::Probed(vec![None])),
        }
        Ok(Done::Done)
    }

    fn nfs_at(&self, target: &Path) -> Vec<u64> {
        let there = |entry: &&MountEntry| entry.mount_point == target && entry.is_nfs();
        self.table.entries().iter().filter(there).map(|entry| entry.id).collect()
    }

    fn mount(&self, source: &str, attributes: &[String], target: &Path) {
        let group = self.table.entries().len() as u64 + 100;
        let mut entry = MountEntry { peer_group: Some(group), ..nfs_mount(source, target) };
        set_read_only(&mut entry, attributes.iter().any(|attribute| attribute == "ro"));
        self.table.add(entry);
    }

    fn bind(&self, from: &Path, to: &Path, read_only: bool) -> Result<(), Failure> {
        let entries = self.table.entries();
        let bound = topmost_at(&entries, from).cloned();
        let mut entry = bound.ok_or_else(|| Failure::refused("bind", Errno::INVAL, Vec::new()))?;
        let read_only = read_only || entry.is_read_only();
        set_read_only(&mut entry, read_only);
        self.table.add(MountEntry { id: 0, mount_point: to.to_owned(), ..entry });
        Ok(())
    }
}

fn set_read_only(entry: &mut MountEntry, read_only: bool) {
    let word = if read_only { "ro" } else { "rw" };
    entry.options = vec![word.to_owned(), "relatime".to_owned()];
}

#[async_trait]
impl Worker for FakeWorker {
    async fn run(&self, job: Job, deadline: Duration) -> Result<Done, Failure> {
        // Goes before every mount, changes nothing, and is no part of the script.
        if matches!(job, Job::FindNfs { .. }) {
            return self.perform(&job);
        }
        lock(&self.jobs).push(job.clone());
        if self.slow.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        let answer = lock(&self.script).pop_front().unwrap_or(Answer::Succeed);
        match answer {
            Answer::Succeed => self.perform(&job),
            Answer::Say(answer) => answer,
            Answer::Hang => {
                tokio::time::sleep(deadline).await;
                Err(Failure::Deadline(deadline))
            }
            Answer::SucceedAndHang => {
                self.perform(&job)?;
                tokio::time::sleep(deadline).await;
                Err(Failure::Deadline(deadline))
            }
            Answer::HangAndSucceed => {
                tokio::time::sleep(deadline).await;
                self.perform(&job)?;
                Err(Failure::Deadline(deadline))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
