//! Programs that are run to their end, always with a deadline.
//!
//! A program gets its own process group, so that all of it can be killed. It is killed when its deadline has
//! passed and when the caller stops waiting; it is reaped in the background, for a process that sleeps in the
//! kernel does not end at once.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process_group;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

/// More than this of an output stream is read and thrown away.
const LONGEST_OUTPUT: u64 = 64 * 1024;

/// SIGKILL ends a process that waits for an NFS server in 0.2 s (Linux 6.12); other sleeps may last longer.
pub const LAST_BREATH: Duration = Duration::from_millis(500);

/// The caller did not want to wait any more, and the program was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// A program to run once.
#[derive(Debug)]
pub struct Command {
    command: tokio::process::Command,
    input: Vec<u8>,
}

/// What a program left when it had ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// The beginning of its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
}

/// Why a program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("failed to start the program")]
    Start(#[source] io::Error),
    /// Its end could not be waited for.
    #[error("failed to talk to the program")]
    Talk(#[source] io::Error),
    /// It was killed at its deadline.
    #[error("the program did not end within {} s", .0.as_secs())]
    Deadline(Duration),
}

impl Command {
    /// A program with its arguments.
    #[expect(clippy::disallowed_methods, reason = "the place that forces a deadline")]
    pub fn new<'a>(program: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, input: Vec::new() }
    }

    /// The name that the program sees as its own.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.command.arg0(name);
        self
    }

    /// What the program reads from its standard input.
    #[must_use]
    pub fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// Starts the program with `conversation` as its standard input and output, and leaves it running. To be called
    /// within a runtime. Where the kernel is asked to kill the program with its parent, that is the calling thread.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(mut self, conversation: OwnedFd) -> io::Result<Running> {
        self.command.stdin(Stdio::from(conversation.try_clone()?));
        self.command.stdout(Stdio::from(conversation));
        self.command.spawn().map(Running)
    }

    /// Runs the program to its end, at most until `deadline` has passed.
    ///
    /// # Errors
    /// Says what went wrong; how the program itself ended is in [`Output::status`].
    pub async fn run(self, deadline: Duration) -> Result<Output, CommandError> {
        self.run_until(deadline, std::future::pending()).await.unwrap_or_else(|Stopped| {
            Err(CommandError::Talk(io::Error::other("it was stopped by nobody")))
        })
    }

    /// As [`Self::run`]; also kills the program once `stop` is ready.
    ///
    /// A program that is killed is given [`LAST_BREATH`] to be gone, so that what it was doing has happened by
    /// then or never will.
    ///
    /// # Errors
    /// [`Stopped`], or what [`Self::run`] says.
    pub async fn run_until(
        mut self,
        deadline: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Result<Output, CommandError>, Stopped> {
        let mut running = match self.command.spawn() {
            Ok(child) => Running(child),
            Err(error) => return Ok(Err(CommandError::Start(error))),
        };
        let answer = tokio::select! {
            biased;
            output = running.finish(&self.input) => return Ok(output.map_err(CommandError::Talk)),
            () = stop => Err(Stopped),
            () = tokio::time::sleep(deadline) => Ok(Err(CommandError::Deadline(deadline))),
        };
        running.end().await;
        answer
    }
}

/// A program that was started. Its whole group is killed when this is dropped, unless the program has ended.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Kills the program and gives it [`LAST_BREATH`] to be gone.
    pub async fn end(mut self) {
        self.kill();
        if tokio::time::timeout(LAST_BREATH, self.0.wait()).await.is_err() {
            tracing::warn!(process = self.0.id(), "a program that was killed is still there");
        }
    }

    /// How a program ended that does not talk any more, with the beginning of its standard error; it is killed where
    /// it goes on for more than [`LAST_BREATH`].
    pub async fn last_words(mut self) -> String {
        let stderr = self.0.stderr.take();
        let ended = async { (self.0.wait().await, beginning_of(stderr).await.unwrap_or_default()) };
        match tokio::time::timeout(LAST_BREATH, ended).await {
            Ok((Ok(status), said)) => format!("{status} {}", String::from_utf8_lossy(&said).trim()),
            Ok((Err(error), _)) => error.to_string(),
            Err(_) => "no end".to_owned(),
        }
    }

    async fn finish(&mut self, input: &[u8]) -> io::Result<Output> {
        let (stdin, stdout, stderr) =
            (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program need not read all that it is given.
                let _ = stdin.write_all(input).await;
            }
        };
        let ((), stdout, stderr) = tokio::join!(feed, beginning_of(stdout), beginning_of(stderr));
        Ok(Output { status: self.0.wait().await?, stdout: stdout?, stderr: stderr? })
    }

    fn kill(&self) {
        // `id` is gone once the program was reaped, so that nobody else's group is hit.
        let leader = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(leader) = leader {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn beginning_of(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut beginning = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(LONGEST_OUTPUT).read_to_end(&mut beginning).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(beginning)
}

#[cfg(test)]
mod tests {
    use rustix::event::PollFd;
    use rustix::event::PollFlags;
    use rustix::event::Timespec;
    use rustix::event::poll;
    use rustix::io::retry_on_intr;
    use rustix::process::PidfdFlags;
    use rustix::process::pidfd_open;
    use tokio::io::AsyncBufReadExt;
    use tokio::io::BufReader;

    use super::*;

    const A_MINUTE: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        Command::new(Path::new("/bin/sh"), ["-c", script])
    }

    #[tokio::test]
    async fn a_program_reads_its_input_and_its_output_is_returned() {
        let script = "cat; echo said >&2; echo $0; exit 3";
        let command = shell(script).named("other").input(b"hello ".to_vec());
        let output = command.run(A_MINUTE).await.unwrap();
        assert_eq!(output.stdout, b"hello other\n");
        assert_eq!(output.stderr, b"said\n");
        assert_eq!(output.status.code(), Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_past_its_deadline_is_not_waited_for() {
        let error = shell("exec sleep 3600").run(A_MINUTE).await.unwrap_err();
        assert!(matches!(error, CommandError::Deadline(A_MINUTE)), "{error}");
    }

    #[tokio::test]
    async fn what_a_program_started_is_killed_with_it() {
        let mut command = shell("sleep 3600 & echo $!; wait");
        let mut running = Running(command.command.spawn().unwrap());
        let stdout = BufReader::new(running.0.stdout.take().unwrap());
        let grandchild = stdout.lines().next_line().await.unwrap().unwrap();
        let grandchild = Pid::from_raw(grandchild.parse().unwrap()).unwrap();
        let grandchild = pidfd_open(grandchild, PidfdFlags::empty()).unwrap();
        drop(running);
        let mut ended = [PollFd::new(&grandchild, PollFlags::IN)];
        let ten_seconds = Timespec { tv_sec: 10, tv_nsec: 0 };
        let number = retry_on_intr(|| poll(&mut ended, Some(&ten_seconds))).unwrap();
        assert_eq!(number, 1, "it did not end");
    }

    #[tokio::test]
    async fn a_program_that_is_stopped_is_gone_when_this_is_said() {
        let home = tempfile::tempdir().unwrap();
        let mark = home.path().join("mark");
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 3600", mark.display());
        let stop = async {
            while !mark.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let answer = shell(&script).run_until(A_MINUTE, stop).await;
        assert!(matches!(answer, Err(Stopped)));
        let process = std::fs::read_to_string(&mark).unwrap();
        assert!(!Path::new("/proc").join(process.trim()).exists(), "{process}");
    }

    #[tokio::test]
    async fn a_program_that_writes_more_than_is_kept_still_ends() {
        let output = shell("head -c 200000 /dev/zero").run(A_MINUTE).await.unwrap();
        assert_eq!(output.stdout.len() as u64, LONGEST_OUTPUT);
        assert!(output.status.success());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_of_starting() {
        let error = Command::new(Path::new("/nowhere"), []).run(A_MINUTE).await.unwrap_err();
        assert!(matches!(error, CommandError::Start(_)), "{error}");
    }
}
