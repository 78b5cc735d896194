//! System calls that can block on a dead server, run where they can be killed.
//!
//! mount(2), umount2(2) and statfs(2) on a server that does not answer ignore every signal but SIGKILL, and a
//! thread cannot be killed. So each [`Job`] runs in a child process of its own, which is killed at its deadline.
//! A child that even SIGKILL does not end at once is left to be reaped in the background.
//!
//! The child is this program again with the one argument [`ARGUMENT`]; [`child_main`] is its side.

#[cfg(test)]
pub mod fake;

use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::process::set_parent_process_death_signal;
use serde::Deserialize;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::host::command::Command;
use crate::host::command::CommandError;
use crate::host::command::Output;
use crate::host::command::Stopped;
use crate::host::errno::errno_name;
use crate::host::errno::errno_text;
use crate::host::mount_syscalls;

/// The hidden argument that makes this program a worker. Whoever reads the command line calls
/// [`child_main`] for it, before anything else runs.
pub const ARGUMENT: &str = "worker";

/// The name that a worker has in a list of processes.
const NAME: &str = "alinas-csi";

/// This program itself, also after its file was replaced.
const OURSELVES: &str = "/proc/self/exe";

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
    /// Opens a directory as [`Job::MountNfs`] would open its target, and asks no server of ours for it.
    CheckTarget {
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

/// Runs each job in a process of its own.
///
/// To be used from a runtime's own threads: a worker dies with the thread that started it (PR_SET_PDEATHSIG),
/// so that none outlives the program.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChildWorker;

#[async_trait]
impl Worker for ChildWorker {
    async fn run(&self, job: Job, deadline: Duration) -> Result<Done, Failure> {
        answer_of(command_for(&job)?.run(deadline).await)
    }

    /// Returns within [`crate::host::command::LAST_BREATH`] of the cancellation, and most often when the child
    /// has ended.
    async fn run_until(
        &self,
        job: Job,
        deadline: Duration,
        cancel: &CancellationToken,
    ) -> Option<Result<Done, Failure>> {
        let command = match command_for(&job) {
            Ok(command) => command,
            Err(failure) => return Some(Err(failure)),
        };
        match command.run_until(deadline, cancel.cancelled()).await {
            Ok(output) => Some(answer_of(output)),
            Err(Stopped) => None,
        }
    }
}

fn command_for(job: &Job) -> Result<Command, Failure> {
    let input = serde_json::to_vec(job).map_err(|error| Failure::Worker(error.to_string()))?;
    Ok(Command::new(Path::new(OURSELVES), [ARGUMENT]).named(NAME).input(input))
}

fn answer_of(output: Result<Output, CommandError>) -> Result<Done, Failure> {
    match output {
        Ok(output) => read_answer(&output),
        Err(CommandError::Deadline(deadline)) => Err(Failure::Deadline(deadline)),
        Err(CommandError::Start(error) | CommandError::Talk(error)) => {
            Err(Failure::Worker(error.to_string()))
        }
    }
}

fn read_answer(output: &Output) -> Result<Done, Failure> {
    let remarks = String::from_utf8_lossy(&output.stderr);
    if !remarks.trim().is_empty() {
        tracing::warn!(remarks = %remarks.trim(), "a worker process had something to say");
    }
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        Err(Failure::Worker(format!("it ended with {} and without an answer", output.status)))
    })
}

/// The child's side: reads one job from standard input, does it, and writes one line to standard output.
#[must_use]
pub fn child_main() -> ExitCode {
    let answer = die_with_parent().and_then(|()| read_job(io::stdin().lock()));
    let answer = match answer {
        Ok(job) => mount_syscalls::perform(&job),
        Err(error) => Err(Failure::Worker(error.to_string())),
    };
    match write_answer(&answer, io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Where the parent has ended already, standard input ends before there is a job.
fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

fn read_job(mut input: impl Read) -> io::Result<Job> {
    let mut text = Vec::new();
    input.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn write_answer(answer: &Result<Done, Failure>, mut output: impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut output, answer)?;
    output.write_all(b"\n")?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

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

    fn output(status: i32, stdout: &[u8]) -> Output {
        let status = ExitStatus::from_raw(status);
        Output { status, stdout: stdout.to_owned(), stderr: Vec::new() }
    }

    #[test]
    fn every_job_and_every_answer_survives_the_pipe() {
        let unmount = Job::Unmount { target: "/a".into(), force: Unmounting::Lazy };
        let check = Job::CheckTarget { target: "/a".into() };
        let set = Job::SetAttributes { target: "/a".into(), attributes: vec!["ro".to_owned()] };
        let together = Job::ProbeTogether { options: vec![("udp".to_owned(), None)] };
        let stat = Job::StatFs { path: "/a".into() };
        for job in [mount(), check, bind(), unmount, set, together, stat] {
            assert_eq!(read_job(serde_json::to_vec(&job).unwrap().as_slice()).unwrap(), job);
        }
        let stats = FsStats { total_bytes: u64::MAX, ..FsStats::default() };
        for answer in [
            Ok(Done::Done),
            Ok(Done::StatFs(stats)),
            Err(Failure::refused("fsmount", Errno::PERM, vec!["a\nb".to_owned()])),
            Err(Failure::Deadline(Duration::from_millis(1500))),
            Err(Failure::Worker("gone".to_owned())),
        ] {
            let mut line = Vec::new();
            write_answer(&answer, &mut line).unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(read_answer(&output(0, &line)), answer);
        }
    }

    #[test]
    fn a_child_that_ends_without_an_answer_is_a_failure_of_the_worker() {
        let failure = read_answer(&output(9, b"")).unwrap_err();
        assert!(failure.to_string().contains("signal: 9"), "{failure}");
        assert!(read_job(&b"{}"[..]).is_err());
        assert!(read_job(&b""[..]).is_err());
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
