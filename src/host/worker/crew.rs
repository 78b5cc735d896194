//! The processes that do jobs: each does one at a time, and the next one once it has answered.
//!
//! ```text
//! job ──> a process is idle? ──yes──────────────> it is asked ──> it answers ──> the next in line, or idle
//!               │ no                                   │
//!               └──> in line <── one becomes free      └── it is late, or not waited for: killed
//!                       ^─────── one is started, while somebody is in line
//! ```
//!
//! Processes are started by a thread of the crew's own: a start takes milliseconds, which no thread of the runtime
//! has, and a process is killed with the thread that started it (PR_SET_PDEATHSIG), which therefore stays.

use std::io;
use std::io::Read;
use std::os::unix::net::UnixStream as Socket;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvError;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use super::line::Line;
use super::line::Taken;
use crate::host::command::Command;
use crate::host::command::Running;

/// What a process says first, once it can be asked.
pub(super) const READY: &[u8] = b"ready\n";

/// A process that was started must be ready by then; it takes a millisecond or two.
const START: Duration = Duration::from_secs(30);
/// So long somebody stands in line. Starts go on meanwhile, so that this is the end of a machine out of breath.
const TURN: Duration = Duration::from_secs(60);
/// So long a process may have nothing to do: bursts of mounts are short, and an idle process holds memory.
const IDLE: Duration = Duration::from_secs(5);
/// No answer is longer, by far.
const LONGEST_ANSWER: u64 = 4 * 1024 * 1024;

/// Processes of one program. A clone is the same crew; with the last one, and all of its processes, it ends.
///
/// To be used within one runtime.
#[derive(Clone, Debug)]
pub(super) struct Crew(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: Program,
    line: Mutex<Line<Process>>,
    /// The thread that starts processes, once there is one.
    starter: Mutex<Option<Sender<Handle>>>,
}

/// What each process runs.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// The name that it has in a list of processes.
    pub(super) name: &'static str,
    pub(super) arguments: Vec<&'static str>,
}

/// A process that can be asked. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    running: Running,
    socket: UnixStream,
}

impl Crew {
    pub(super) fn new(program: Program) -> Self {
        Self(Arc::new(Shared { program, line: Mutex::default(), starter: Mutex::default() }))
    }

    /// A process that has nothing to do.
    ///
    /// # Errors
    /// Where none can be started, or none became free in [`TURN`].
    pub(super) async fn take(&self) -> io::Result<Process> {
        let taken = self.0.line().take();
        let turn = match taken {
            Taken::Now(process) => return Ok(process),
            Taken::Later(turn) => turn,
        };
        self.0.tell_starter()?;
        match tokio::time::timeout(TURN, turn).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(io::Error::other("the thread that starts it is gone")),
            Err(_) => Err(io::Error::other(format!(
                "none was free and none could be started within {} s",
                TURN.as_secs()
            ))),
        }
    }

    /// A process that has answered, for the next job.
    pub(super) fn give_back(&self, process: Process) {
        let is_first_idle = {
            let mut line = self.0.line();
            let had_idle = line.has_idle();
            line.free(process, Instant::now());
            line.has_idle() && !had_idle
        };
        if is_first_idle && let Err(error) = self.0.tell_starter() {
            tracing::debug!(%error, "idle worker processes stay for now");
        }
    }
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line<Process>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread that starts processes does.
impl Shared {
    /// Somebody is in line, or there is an idle process to be dismissed in time.
    fn tell_starter(self: &Arc<Self>) -> io::Result<()> {
        let mut starter = self.starter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = &*starter
            && told.send(Handle::current()).is_ok()
        {
            return Ok(());
        }
        let (tell, told) = channel();
        let crew = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("worker-starter".to_owned());
        thread.spawn(move || start_for(&crew, &told))?;
        // The thread has just begun to listen.
        let _ = tell.send(Handle::current());
        *starter = Some(tell);
        Ok(())
    }

    fn start_while_wanted(&self, runtime: &Handle) {
        loop {
            let wants = self.line().wants_start();
            if !wants {
                return;
            }
            let outcome = self.program.start(runtime);
            self.line().started(outcome, Instant::now());
        }
    }
}

/// The starter's life: it ends with the crew.
fn start_for(crew: &Weak<Shared>, wanted: &Receiver<Handle>) {
    let mut has_idle = false;
    loop {
        let runtime = if has_idle {
            wanted.recv_timeout(IDLE)
        } else {
            wanted.recv().map_err(|RecvError| RecvTimeoutError::Disconnected)
        };
        let Some(crew) = crew.upgrade() else { return };
        match runtime {
            Ok(runtime) => crew.start_while_wanted(&runtime),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // What is dismissed is killed as it is dropped: not while the line is held.
        let dismissed = crew.line().dismiss(IDLE, Instant::now());
        drop(dismissed);
        has_idle = crew.line().has_idle();
    }
}

impl Program {
    /// Blocks until the process is ready.
    fn start(&self, runtime: &Handle) -> io::Result<Process> {
        let (ours, its) = Socket::pair()?;
        let arguments = self.arguments.iter().copied();
        let command = Command::new(&self.path, arguments).named(self.name);
        let _within = runtime.enter();
        let running = command.start(its.into())?;
        await_ready(&ours)?;
        ours.set_nonblocking(true)?;
        Ok(Process { running, socket: UnixStream::from_std(ours)? })
    }
}

fn await_ready(mut socket: &Socket) -> io::Result<()> {
    let mut said = [0; READY.len()];
    socket.set_read_timeout(Some(START))?;
    let read = socket.read_exact(&mut said);
    match read {
        Ok(()) if said == READY => Ok(()),
        Ok(()) => Err(io::Error::other(format!("it began with {}", said.escape_ascii()))),
        Err(error) => Err(io::Error::new(error.kind(), format!("it did not get ready: {error}"))),
    }
}

impl Process {
    /// Asks, and waits for the answer, however long it takes: a line each.
    ///
    /// # Errors
    /// Where the process has ended, or said what is no line.
    pub(super) async fn ask(&mut self, question: &[u8]) -> io::Result<Vec<u8>> {
        self.socket.write_all(question).await?;
        self.socket.write_all(b"\n").await?;
        let mut answer = Vec::new();
        let mut limited = BufReader::new((&mut self.socket).take(LONGEST_ANSWER));
        limited.read_until(b'\n', &mut answer).await?;
        if answer.ends_with(b"\n") { Ok(answer) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Kills it, and gives it [`crate::host::command::LAST_BREATH`] to be gone.
    pub(super) async fn end(self) {
        self.running.end().await;
    }

    /// How it ended, of one that does not talk any more.
    pub(super) async fn last_words(self) -> String {
        drop(self.socket);
        self.running.last_words().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says its process and the question for each question; ends at `end`, and never answers to `hang`.
    const ECHO: &str = "echo ready; while read -r line; do case $line in \
        end) echo farewell >&2; exit 3;; hang) exec sleep 3600;; *) echo $$ $line;; esac; done";

    fn crew(script: &'static str) -> Crew {
        let arguments = vec!["-c", script];
        Crew::new(Program { path: "/bin/sh".into(), name: "sh", arguments })
    }

    /// The number of the process that answered.
    async fn asked(crew: &Crew) -> u32 {
        let mut process = crew.take().await.unwrap();
        let answer = String::from_utf8(process.ask(b"do it").await.unwrap()).unwrap();
        crew.give_back(process);
        let (number, echo) = answer.split_once(' ').unwrap();
        assert_eq!(echo, "do it\n");
        number.parse().unwrap()
    }

    #[tokio::test]
    async fn a_process_that_has_answered_does_the_next_job_too() {
        let crew = crew(ECHO);
        let first = asked(&crew).await;
        assert_eq!(asked(&crew).await, first);
        // It is free again before another one has started, or not.
        let (one, other) = tokio::join!(asked(&crew), asked(&crew));
        assert!(one == first || other == first, "{first} was free: {one}, {other}");
    }

    #[tokio::test]
    async fn a_process_that_was_not_waited_for_does_no_other_job() {
        let crew = crew(ECHO);
        let first = asked(&crew).await;
        let mut hanging = crew.take().await.unwrap();
        let soon = Duration::from_millis(20);
        tokio::time::timeout(soon, hanging.ask(b"hang")).await.unwrap_err();
        hanging.end().await;
        assert!(!PathBuf::from(format!("/proc/{first}")).exists());
        assert_ne!(asked(&crew).await, first);
    }

    #[tokio::test]
    async fn what_a_process_said_at_its_end_is_told() {
        let crew = crew(ECHO);
        let mut process = crew.take().await.unwrap();
        let error = process.ask(b"end").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(process.last_words().await, "exit status: 3 farewell");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_does_not_get_ready_is_an_error() {
        let missing = Program { path: "/nowhere".into(), name: "x", arguments: Vec::new() };
        assert!(Crew::new(missing).take().await.is_err());
        for (script, said) in [("exit 1", "did not get ready"), ("echo hello", "began with hello")]
        {
            let error = crew(script).take().await.unwrap_err();
            assert!(error.to_string().contains(said), "{script}: {error}");
        }
    }

    #[tokio::test]
    async fn the_processes_end_with_the_crew() {
        let crew = crew(ECHO);
        let process = PathBuf::from(format!("/proc/{}/cmdline", asked(&crew).await));
        drop(crew);
        let ended = async {
            // A zombie has none.
            while std::fs::read(&process).is_ok_and(|line| !line.is_empty()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(START, ended).await.unwrap();
    }
}
