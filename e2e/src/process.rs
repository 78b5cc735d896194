//! External programs: with a deadline, or alive until dropped.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;

const POLL: Duration = Duration::from_millis(30);

/// Waits until a condition holds.
///
/// # Errors
/// Names what was waited for when the deadline has passed.
pub fn wait_until(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > deadline {
            return Err(Failure::new(format!("waited {} s in vain: {what}", deadline.as_secs())));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Runs a program and answers what it printed on standard output.
///
/// # Errors
/// When it cannot be started, fails, or is still running at the deadline; then it has been killed.
pub fn run(deadline: Duration, program: &str, arguments: &[&str]) -> Result<String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let mut output = tempfile::tempfile()?;
    let mut errors = tempfile::tempfile()?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(errors.try_clone()?)
        .spawn()
        .during(format!("failed to start `{shown}`"))?;
    let mut status = None;
    let ended = wait_until(&format!("`{shown}` ends"), deadline, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if ended.is_err() {
        child.kill()?;
    }
    ended?;
    if status.is_some_and(|status| status.success()) {
        return contents(&mut output);
    }
    Err(Failure::new(format!("`{shown}` failed: {}", contents(&mut errors)?.trim())))
}

/// What became of a program that may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its exit code; none when it was killed, by us or by anybody.
    pub code: Option<i32>,
    /// Whether it was still running at the deadline, and was killed with its whole group.
    pub overdue: bool,
    /// What it printed, on both outputs.
    pub output: String,
    /// How long it ran.
    pub took: Duration,
}

/// Runs a program whose failure is a result like any other. What it leaves in the background goes on.
///
/// # Errors
/// When it cannot be started.
pub fn observe(deadline: Duration, command: &mut Command) -> Result<Observed> {
    let mut output = tempfile::tempfile()?;
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()
        .during(format!("failed to start {command:?}"))?;
    let mut status = None;
    let ended = wait_until("the program ends", deadline, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    let took = start.elapsed();
    if ended.is_err() {
        kill_group(&child);
        child.wait()?;
    }
    let code = status.and_then(|status| status.code());
    Ok(Observed { code, overdue: ended.is_err(), output: contents(&mut output)?, took })
}

/// Kills a child with its whole group.
pub(crate) fn kill_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

fn contents(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A program that runs until this is dropped. Both of its outputs go to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in a process group of its own; output is added to `log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .during(format!("failed to start {name} ({command:?})"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a condition while the program runs.
    ///
    /// # Errors
    /// When the program ends first or the deadline passes, with the end of its log.
    pub fn wait_until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        let mut ended = None;
        let waited = wait_until(what, deadline, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || condition()
        });
        let trouble = match (ended, waited) {
            (None, Ok(())) => return Ok(()),
            (Some(status), _) => format!("{} ended ({status}) before: {what}", self.name),
            (None, Err(failure)) => format!("{}: {failure}", self.name),
        };
        Err(Failure::new(format!("{trouble}\n{}", log_tail(&self.log))))
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    /// When it fails or is still running at the deadline.
    pub fn wait_for_end(&mut self, deadline: Duration) -> Result<()> {
        let mut ended = None;
        wait_until(&format!("{} ends", self.name), deadline, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        })?;
        match ended {
            Some(status) if !status.success() => {
                Err(Failure::new(format!("{} failed ({status})", self.name)))
            }
            _ => Ok(()),
        }
    }

    /// Kills this process alone, as an out-of-memory killer would, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn interrupt(&mut self, deadline: Duration) -> Result<()> {
        if let Some(group) = self.group() {
            rustix::process::kill_process_group(group, Signal::INT)?;
        }
        let child = &mut self.child;
        wait_until(&format!("{} ends", self.name), deadline, || {
            !matches!(child.try_wait(), Ok(None))
        })
    }

    fn group(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group outlives its leader: what the program started ends with it.
        kill_group(&self.child);
        let _ = self.child.wait();
    }
}

/// The last lines of a log file, for people.
#[must_use]
pub fn log_tail(log: &Path) -> String {
    const LINES: usize = 25;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
    format!("  the end of {}:\n  {tail}", log.display())
}
