//! The user's own kubectl: it knows the cluster, and who the user is to it.
//!
//! It is left in the foreground of the terminal, with its standard input: a way to log in may ask for a password there, and
//! an interrupt ends it with us.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::time::timeout;

/// Of one answer: the pods and the volumes of the largest clusters fit.
const LONGEST: u64 = 256 << 20;
/// Of what it says went wrong.
const LONGEST_WHY: usize = 600;

/// What to call it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) arguments: Vec<String>,
    pub(super) deadline: Duration,
    /// Its errors are written to our own standard error as they come, as the question for a password is.
    pub(super) errors_are_shown: bool,
}

/// What it has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// None where a signal has ended it.
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum KubectlError {
    #[error("failed to start {program:?}: {why}; install kubectl, or name it with --kubectl")]
    Start { program: PathBuf, why: io::Error },
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error("failed to read what kubectl says: {0}")]
    Talk(io::Error),
    #[error("{0}")]
    Refused(String),
}

/// Runs it.
#[async_trait]
pub(super) trait Kubectl: Send + Sync {
    /// To its end, at most until the deadline of the call.
    async fn run(&self, call: Call) -> Result<Answer, KubectlError>;

    /// In our place, with our streams; returns only where that fails.
    fn become_it(&self, arguments: &[String]) -> KubectlError;
}

impl Answer {
    /// What it wrote, where it has succeeded.
    pub(super) fn output(self) -> Result<Vec<u8>, KubectlError> {
        if self.code == Some(0) { Ok(self.stdout) } else { Err(KubectlError::Refused(self.why())) }
    }

    /// What went wrong, in one line.
    pub(super) fn why(&self) -> String {
        let said: Vec<_> = self.remarks().map(str::trim).filter(|line| !line.is_empty()).collect();
        let said: String = said.join("; ").chars().take(LONGEST_WHY).collect();
        match (said.is_empty(), self.code) {
            (false, _) => said,
            (true, Some(code)) => format!("kubectl ended with {code}"),
            (true, None) => "kubectl was ended by a signal".to_owned(),
        }
    }

    /// The lines of standard error that are not about how the command in the container was called or ended.
    pub(super) fn remarks(&self) -> impl Iterator<Item = &str> {
        self.stderr.lines().filter(|line| {
            !line.starts_with("command terminated with exit code")
                && !line.starts_with("Defaulted container")
        })
    }
}

/// The program of this name.
#[derive(Debug)]
pub(super) struct Program(pub(super) PathBuf);

#[async_trait]
impl Kubectl for Program {
    #[expect(clippy::disallowed_methods, reason = "it has a deadline, and stays in the foreground")]
    async fn run(&self, call: Call) -> Result<Answer, KubectlError> {
        let mut command = tokio::process::Command::new(&self.0);
        let errors = if call.errors_are_shown { Stdio::inherit() } else { Stdio::piped() };
        command.args(&call.arguments).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let child = command.spawn().map_err(|error| self.not_started(error))?;
        let answer = timeout(call.deadline, finish(child)).await;
        answer.map_err(|_| KubectlError::Deadline(call.deadline))?.map_err(KubectlError::Talk)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it takes our place: there is nobody left to wait"
    )]
    fn become_it(&self, arguments: &[String]) -> KubectlError {
        use std::os::unix::process::CommandExt;
        self.not_started(std::process::Command::new(&self.0).args(arguments).exec())
    }
}

impl Program {
    fn not_started(&self, why: io::Error) -> KubectlError {
        KubectlError::Start { program: self.0.clone(), why }
    }
}

async fn finish(mut child: Child) -> io::Result<Answer> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(all_of(stdout), all_of(stderr))?;
    let code = child.wait().await?.code();
    Ok(Answer { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

async fn all_of(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(LONGEST + 1).read_to_end(&mut bytes).await?;
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
        return Err(io::Error::other(format!("it is longer than {LONGEST} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod fake {
    use std::sync::Mutex;

    use super::*;

    type Say = Box<dyn Fn(&str) -> Answer + Send + Sync>;

    /// Answers by what it is called with, and remembers it. What it answers `code: None` to never ends.
    pub(in crate::app::plugin) struct FakeKubectl {
        say: Say,
        pub(in crate::app::plugin) calls: Mutex<Vec<String>>,
    }

    impl FakeKubectl {
        pub(in crate::app::plugin) fn new(
            say: impl Fn(&str) -> Answer + Send + Sync + 'static,
        ) -> Self {
            Self { say: Box::new(say), calls: Mutex::default() }
        }
    }

    pub(in crate::app::plugin) fn says(text: &str) -> Answer {
        Answer { code: Some(0), stdout: text.as_bytes().to_owned(), stderr: String::new() }
    }

    pub(in crate::app::plugin) fn fails(code: i32, why: &str) -> Answer {
        Answer { code: Some(code), stdout: Vec::new(), stderr: why.to_owned() }
    }

    #[async_trait]
    impl Kubectl for FakeKubectl {
        async fn run(&self, call: Call) -> Result<Answer, KubectlError> {
            let line = call.arguments.join(" ");
            let answer = (self.say)(&line);
            self.calls.lock().unwrap().push(line);
            if answer.code.is_none() {
                tokio::time::sleep(call.deadline).await;
                return Err(KubectlError::Deadline(call.deadline));
            }
            Ok(answer)
        }

        fn become_it(&self, arguments: &[String]) -> KubectlError {
            let line = arguments.join(" ");
            self.calls.lock().unwrap().push(line.clone());
            KubectlError::Refused(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Call {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Call { arguments, deadline: Duration::from_secs(60), errors_are_shown: false }
    }

    fn sh() -> Program {
        Program("/bin/sh".into())
    }

    #[tokio::test]
    async fn what_kubectl_says_and_why_it_failed_are_read() {
        let said = sh().run(shell("echo said; echo why >&2")).await.unwrap();
        assert_eq!((said.why(), said.output().unwrap()), ("why".to_owned(), b"said\n".to_vec()));
        for (script, why) in [
            ("echo a >&2; echo >&2; echo b >&2; exit 2", "a; b"),
            ("echo 'command terminated with exit code 3' >&2; exit 3", "kubectl ended with 3"),
            ("kill -9 $$", "kubectl was ended by a signal"),
        ] {
            let said = sh().run(shell(script)).await.unwrap();
            assert_eq!(said.output().unwrap_err().to_string(), why);
        }
    }

    #[tokio::test]
    async fn one_that_does_not_end_or_is_not_there_is_said_to_be_so() {
        let deadline = Duration::from_millis(50);
        let error = sh().run(Call { deadline, ..shell("sleep 60") }).await.unwrap_err();
        assert!(matches!(error, KubectlError::Deadline(_)), "{error}");
        let error = Program("/nowhere/kubectl".into()).run(shell("")).await.unwrap_err();
        assert!(error.to_string().contains("install kubectl"), "{error}");
    }
}
