//! A shell inside the server's namespaces that stays open: a change of the world costs no `nsenter`, and
//! most changes no process at all.

use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::process::kill_group;
use crate::process::log_tail;

/// What the shell prints when commands are done, with their exit status.
const DONE: &str = "@done ";

/// The shell; it and all that it started end when this is dropped.
#[derive(Debug)]
pub(super) struct Console {
    shell: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Console {
    /// A shell in a network namespace, in a mount namespace of its own.
    pub(super) fn open(network: &Path, log: &Path) -> Result<Self> {
        let mut shell = Command::new("nsenter")
            .arg(format!("--net={}", network.display()))
            .args(["unshare", "--mount", "--propagation", "private", "bash", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log)?)
            .process_group(0)
            .spawn()
            .during("failed to start the server's shell")?;
        let missing = || Failure::new("the server's shell has no pipe");
        let input = shell.stdin.take().ok_or_else(missing)?;
        let output = shell.stdout.take().ok_or_else(missing)?;
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            for read in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                if line.send(read).is_err() {
                    break;
                }
            }
        });
        Ok(Self { shell, input, lines, log: log.to_owned() })
    }

    /// Gives later commands a variable. What they set themselves ends with them.
    pub(super) fn define(&mut self, name: &str, value: &str) -> Result<()> {
        Ok(self.input.write_all(format!("{name}='{value}'\n").as_bytes())?)
    }

    /// Runs commands of bash; the first that fails ends them. Answers what they printed.
    ///
    /// # Errors
    /// When one fails or they do not end within the deadline; with the end of the log.
    pub(super) fn run(&mut self, deadline: Duration, commands: &str) -> Result<String> {
        // In a subshell: `set -e` ends the commands and not the shell. What they leave running must not
        // hold the pipe.
        let script = format!("( set -eu\n{commands}\n) </dev/null\nprintf '\\n{DONE}%s\\n' $?\n");
        self.input.write_all(script.as_bytes())?;
        self.input.flush()?;
        let mut output = String::new();
        loop {
            let line = self.lines.recv_timeout(deadline).map_err(|_| {
                self.failure(&format!("did not end in {} s: {commands}", deadline.as_secs()))
            })?;
            match line.strip_prefix(DONE) {
                Some("0") => return Ok(output),
                Some(code) => return Err(self.failure(&format!("exit {code}: {commands}"))),
                None => output += &(line + "\n"),
            }
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("the server's shell: {what}\n{}", log_tail(&self.log)))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        kill_group(&self.shell);
        let _ = self.shell.wait();
    }
}
