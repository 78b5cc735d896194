//! System calls that can block on a dead server, run where they can be killed.
//!
//! mount(2), umount2(2) and statfs(2) on a server that does not answer ignore every signal but SIGKILL, and a
//! thread cannot be killed. So each [`Job`] runs in a child process of its own, which is killed at its deadline.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde::Serialize;

/// What a child process is to do. Travels as JSON on its standard input.
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
}

/// STAND-IN: the lead merges the real one over this file.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChildWorker;

#[async_trait]
impl Worker for ChildWorker {
    async fn run(&self, _job: Job, _deadline: Duration) -> Result<Done, Failure> {
        Err(Failure::Worker("stand-in".to_owned()))
    }
}
