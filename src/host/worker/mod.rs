//! System calls that can block on a dead server, run where they can be killed.
//!
//! mount(2), umount2(2) and statfs(2) on a server that does not answer ignore every signal but SIGKILL, and a
//! thread cannot be killed. So each [`Job`] runs in a child process that has nothing else to do meanwhile, and that is
//! killed at the job's deadline. A child that even SIGKILL does not end at once is left to be reaped in the background.
//! One that answers does the next job: to start a process costs more than most jobs.
//!
//! The child is this program again with the one argument [`ARGUMENT`]; [`child_main`] is its side.

mod child;
mod crew;
#[cfg(test)]
pub mod fake;
mod line;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::crew::Crew;
use self::crew::Process;
use self::crew::Program;
use crate::host::errno::errno_name;
use crate::host::errno::errno_text;

pub use child::child_main;

/// The hidden argument that makes this program a worker. Whoever reads the command line calls
/// [`child_main`] for it, before anything else runs.
pub const ARGUMENT: &str = "worker";

/// The name that a worker has in a list of processes.
const NAME: &str = "alinas-csi";

/// This program itself, also after its file was replaced.
const OURSELVES: &str = "/proc/self/exe";

/// What a child process is to do. Travels as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Job {
    /// Mounts an NFS file system at a directory that exists, and makes the mount shared, so that its bind
    /// mounts can be told by their peer group.
    MountNfs {
        /// `domain:/path`.
        source: String,
        /// Keys and values for the kernel, in order; a flag has no value.
        options: Vec<(String, Option<String>)>,
        /// Attributes of the mount: `ro`, `nosuid`, `nodev`, `noexec`, `noatime`, …
        attributes: Vec<String>,
        /// The directory.
        target: PathBuf,
    },
    /// Opens a directory as [`Job::MountNfs`] would open its target, and asks no server of ours for it.
    CheckTarget {
        /// The directory.
        target: PathBuf,
    },
    /// Looks for NFS mounts at a directory, also below what is mounted on top, and asks no server of ours for it.
    FindNfs {
        /// The directory.
        target: PathBuf,
    },
    /// Binds `from` to `to`, read-only for this mount alone where asked.
    Bind {
        /// A mounted directory.
        from: PathBuf,
        /// A directory that exists.
        to: PathBuf,
        /// MOUNT_ATTR_RDONLY.
        read_only: bool,
    },
    /// Unmounts what is on top at a path, without following a link.
    Unmount {
        /// The mount point.
        target: PathBuf,
        /// How hard.
        force: Unmounting,
    },
    /// Gives the mount on top at a path exactly these attributes.
    SetAttributes {
        /// The mount point.
        target: PathBuf,
        /// `ro`, `nosuid`, …
        attributes: Vec<String>,
    },
    /// Sets each option in a file system context of its own kind and lets go of it: no server is asked.
    ProbeOptions {
        /// Keys and values, as for [`Job::MountNfs`].
        options: Vec<(String, Option<String>)>,
    },
    /// Sets all options in one file system context and has the kernel check them together; there is nothing to
    /// mount in it, so that no server is asked.
    ProbeTogether {
        /// Keys and values, as for [`Job::MountNfs`].
        options: Vec<(String, Option<String>)>,
    },
    /// statfs(2).
    StatFs {
        /// Any path.
        path: PathBuf,
    },
}

/// How hard to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmounting {
    /// Waits for the server where the kernel wants to.
    Plain,
    /// MNT_FORCE: ends the requests under way.
    Forced,
    /// MNT_DETACH: takes the mount out of the tree at once.
    Lazy,
}

/// What a job that succeeded answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Nothing to say.
    Done,
    /// What statfs(2) said.
    StatFs(FsStats),
    /// The ids of the mounts that were found.
    Found(Vec<u64>),
    /// What the kernel said to each option, in order: nothing where it took it. Of [`Job::ProbeTogether`] it is
    /// one answer for all.
    Probed(Vec<Option<OptionRefusal>>),
}

/// Why a file system context did not take an option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionRefusal {
    /// The errno of fsconfig(2).
    pub errno: i32,
    /// What it said: `nfs: Unknown parameter 'x'`.
    pub kernel: Vec<String>,
}

/// The figures of statfs(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsStats {
    /// Bytes.
    pub total_bytes: u64,
    /// Bytes that an unprivileged user may still write.
    pub available_bytes: u64,
    /// Bytes.
    pub free_bytes: u64,
    /// Inodes; 0 where the server counts none.
    pub total_inodes: u64,
    /// Inodes.
    pub free_inodes: u64,
}

/// Why a job did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The kernel refused.
    #[error("{call} failed: {errno_text}{}", kernel_words(.kernel))]
    Refused {
        /// The system call, with what it was called for: `fsconfig(create)`.
        call: String,
        /// Its errno.
        errno: i32,
        /// The text of the errno.
        errno_text: String,
        /// What the kernel said in the file system context (errors and warnings, in order).
        kernel: Vec<String>,
    },
    /// It was still blocked at its deadline and was killed.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The child could not be started or did not answer.
    #[error("the worker process failed: {0}")]
    Worker(String),
}

fn kernel_words(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!(" (kernel: {})", words.join("; ")) }
}

/// Runs jobs.
#[async_trait]
pub trait Worker: Send + Sync + std::fmt::Debug {
    /// Runs a job and waits for it, at most until `deadline` has passed.
    ///
    /// # Errors
    /// Says why the job did not succeed. After [`Failure::Deadline`] its effect may still show.
    async fn run(&self, job: Job, deadline: Duration) -> Result<Done, Failure>;

    /// As [`Self::run`], but the job is killed as soon as `cancel` is cancelled; then there is no answer, and
    /// its effect may still show.
    async fn run_until(
        &self,
        job: Job,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> Option<Result<Done, Failure>> {
        cancel.run_until_cancelled(self.run(job, deadline)).await
    }
}

impl Failure {
    /// The kernel's refusal of `call`, with what it said about it.
    #[must_use]
    pub fn refused(call: &str, errno: Errno, kernel: Vec<String>) -> Self {
        let errno = errno.raw_os_error();
        let errno_text = format!("{} ({})", errno_name(errno), errno_text(errno));
        Self::Refused { call: call.to_owned(), errno, errno_text, kernel }
    }
}

/// Runs each job in a process that does nothing else meanwhile. A clone shares its processes.
///
/// To be used within one runtime. No process outlives the program, nor the last clone.
#[derive(Clone, Debug)]
pub struct ChildWorker(Crew);

impl Default for ChildWorker {
    fn default() -> Self {
        Self(Crew::new(Program { path: OURSELVES.into(), name: NAME, arguments: vec![ARGUMENT] }))
    }
}

/// What a child says to a job. Travels as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    answer: Result<Done, Failure>,
    /// What the kernel remarked on a mount that succeeded.
    remarks: Vec<String>,
}

#[async_trait]
impl Worker for ChildWorker {
    async fn run(&self, job: Job, deadline: Duration) -> Result<Done, Failure> {
        let never = CancellationToken::new();
        let answer = self.run_until(job, deadline, &never).await;
        answer.unwrap_or_else(|| Err(Failure::Worker("it was stopped by nobody".to_owned())))
    }

    /// Returns within [`crate::host::command::LAST_BREATH`] of the cancellation, and most often when the child
    /// has ended. The deadline counts from the moment when there is a process for the job.
    async fn run_until(
        &self,
        job: Job,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> Option<Result<Done, Failure>> {
        let question = match serde_json::to_vec(&job) {
            Ok(question) => question,
            Err(error) => return Some(Err(Failure::Worker(error.to_string()))),
        };
        match cancel.run_until_cancelled(self.0.take()).await? {
            Ok(process) => self.ask(process, &question, deadline, cancel).await,
            Err(error) => Some(Err(Failure::Worker(error.to_string()))),
        }
    }
}

impl ChildWorker {
    async fn ask(
        &self,
        mut process: Process,
        question: &[u8],
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> Option<Result<Done, Failure>> {
        let stopped = tokio::select! {
            biased;
            answer = process.ask(question) => {
                return Some(match answer {
                    Ok(answer) => self.take_in(process, &answer),
                    Err(_) => Err(gone(&process.last_words().await)),
                });
            }
            () = cancel.cancelled() => None,
            () = tokio::time::sleep(deadline) => Some(Err(Failure::Deadline(deadline))),
        };
        process.end().await;
        stopped
    }

    /// One that talks nonsense is not asked again.
    fn take_in(&self, process: Process, answer: &[u8]) -> Result<Done, Failure> {
        let said: Said = serde_json::from_slice(answer)
            .map_err(|error| Failure::Worker(format!("it gave no answer to its job: {error}")))?;
        self.0.give_back(process);
        for remark in &said.remarks {
            tracing::warn!(%remark, "the kernel remarked on a mount that succeeded");
        }
        said.answer
    }
}

fn gone(last_words: &str) -> Failure {
    Failure::Worker(format!("it ended with {last_words} and without an answer"))
}

#[cfg(test)]
mod tests {
    use super::fake::Answer;
    use super::fake::FakeWorker;
    use super::*;
    use crate::host::mount_table::fake::FakeMountTable;

    fn bind() -> Job {
        Job::Bind { from: "/a".into(), to: "/b".into(), read_only: true }
    }

    fn mount() -> Job {
        Job::MountNfs {
            source: "nas:/".to_owned(),
            options: vec![("vers".to_owned(), Some("3".to_owned())), ("hard".to_owned(), None)],
            attributes: vec!["nosuid".to_owned()],
            target: "/a".into(),
        }
    }

    #[test]
    fn every_job_and_every_answer_survives_the_pipe() {
        let unmount = Job::Unmount { target: "/a".into(), force: Unmounting::Lazy };
        let check = Job::CheckTarget { target: "/a".into() };
        let set = Job::SetAttributes { target: "/a".into(), attributes: vec!["ro".to_owned()] };
        let find = Job::FindNfs { target: "/a".into() };
        let together = Job::ProbeTogether { options: vec![("udp".to_owned(), None)] };
        let stat = Job::StatFs { path: "/a".into() };
        for job in [mount(), check, find, bind(), unmount, set, together, stat] {
            let line = serde_json::to_string(&job).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Job>(&line).unwrap(), job);
        }
        let stats = FsStats { total_bytes: u64::MAX, ..FsStats::default() };
        for answer in [
            Ok(Done::Done),
            Ok(Done::StatFs(stats)),
            Ok(Done::Found(vec![7])),
            Err(Failure::refused("fsmount", Errno::PERM, vec!["a\nb".to_owned()])),
            Err(Failure::Deadline(Duration::from_millis(1500))),
            Err(Failure::Worker("gone".to_owned())),
        ] {
            let said = Said { answer: answer.clone(), remarks: vec!["a\nb".to_owned()] };
            let line = serde_json::to_string(&said).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Said>(&line).unwrap().answer, answer);
        }
    }

    #[test]
    fn a_child_that_ends_without_an_answer_is_a_failure_of_the_worker() {
        assert_eq!(
            gone("signal: 9 (SIGKILL)").to_string(),
            "the worker process failed: it ended with signal: 9 (SIGKILL) and without an answer"
        );
    }

    #[test]
    fn a_refusal_names_the_call_the_errno_and_the_kernels_words() {
        let kernel = vec!["NFS: Version unavailable".to_owned()];
        assert_eq!(
            Failure::refused("fsconfig(create)", Errno::PROTONOSUPPORT, kernel).to_string(),
            "fsconfig(create) failed: EPROTONOSUPPORT (Protocol not supported) \
             (kernel: NFS: Version unavailable)"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_fake_mounts_binds_and_unmounts_as_the_kernel_does() {
        let table = FakeMountTable::default();
        let worker = FakeWorker::acting_on(table.clone());
        let deadline = Duration::from_secs(5);
        worker.answers([Answer::Hang]);
        assert_eq!(worker.run(mount(), deadline).await, Err(Failure::Deadline(deadline)));
        worker.run(mount(), deadline).await.unwrap();
        worker.run(bind(), deadline).await.unwrap();
        let entries = table.entries();
        assert_eq!(entries[0].peer_group, entries[1].peer_group);
        assert!(!entries[0].is_read_only() && entries[1].is_read_only());
        let unmount = Job::Unmount { target: "/b".into(), force: Unmounting::Plain };
        worker.run(unmount.clone(), deadline).await.unwrap();
        assert!(worker.run(unmount, deadline).await.is_err());
        assert_eq!(worker.jobs().len(), 5);
    }
}
