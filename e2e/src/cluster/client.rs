//! What a person would type: kubectl and helm.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::driver::binary;
use crate::failure::Failure;
use crate::failure::Result;
use crate::process::observe;

/// For one call. kubectl alone takes a second to start on an emulated processor.
const CALL: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(500);

/// kubectl and helm, as administrator of the cluster.
#[derive(Clone, Debug)]
pub struct Client {
    kubectl: OsString,
    helm: OsString,
    kubeconfig: PathBuf,
}

impl Client {
    /// The programs that `e2e/run-tests` names.
    ///
    /// # Errors
    /// When it names none.
    pub fn find(kubeconfig: &Path) -> Result<Self> {
        let program = |name: &str| {
            let missing = format!("{name} is not set: run this by `make cluster`");
            std::env::var_os(name).ok_or_else(|| Failure::new(missing))
        };
        Ok(Self {
            kubectl: program("ALINAS_CSI_KUBECTL")?,
            helm: program("ALINAS_CSI_HELM")?,
            kubeconfig: kubeconfig.to_owned(),
        })
    }

    /// The file that says where the cluster is, and who we are to it.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs kubectl and answers what it printed.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", &self.kubectl, arguments)
    }

    /// Runs kubectl with our plugin on its path, and answers what it printed.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub fn plugin(&self, arguments: &[&str]) -> Result<String> {
        let folder = tempfile::tempdir()?;
        symlink(binary()?, folder.path().join("kubectl-alinas"))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(&self.kubectl);
        command.env("PATH", format!("{}:{path}", folder.path().display()));
        command.env("ALINAS_CSI_KUBECTL", &self.kubectl);
        self.observed("kubectl", command, arguments)
    }

    /// Runs helm and answers what it printed.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.run("helm", &self.helm, arguments)
    }

    fn run(&self, name: &str, program: &OsString, arguments: &[&str]) -> Result<String> {
        self.observed(name, Command::new(program), arguments)
    }

    fn observed(&self, name: &str, mut command: Command, arguments: &[&str]) -> Result<String> {
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("HOME", "/tmp");
        let seen = observe(CALL, &mut command)?;
        if seen.code == Some(0) {
            return Ok(seen.output.trim_end().to_owned());
        }
        let shown = format!("{name} {}", arguments.join(" "));
        Err(Failure::new(format!("`{shown}` failed ({:?}): {}", seen.code, seen.output.trim())))
    }

    /// Applies objects that are written out here.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self, objects: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), objects)?;
        self.apply_file(file.path())
    }

    /// Applies the objects of a file.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply_file(&self, file: &Path) -> Result<()> {
        let file = file.display().to_string();
        self.kubectl(&["apply", "--filename", &file]).map(drop)
    }

    /// Waits until a condition holds. A call that fails is made again: the API server may be on its way.
    ///
    /// # Errors
    /// Names what was waited for and the last failure, when the deadline has passed.
    pub fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        condition: impl Fn(&Self) -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let outcome = condition(self);
            if matches!(outcome, Ok(true)) {
                return Ok(());
            }
            if start.elapsed() > deadline {
                let last = outcome.err().map_or_else(|| "no".to_owned(), |last| last.to_string());
                let seconds = deadline.as_secs();
                return Err(Failure::new(format!("waited {seconds} s in vain: {what}: {last}")));
            }
            thread::sleep(POLL);
        }
    }

    /// One field of an object, by kubectl's JSONPath: `field("pod/a", "{.status.phase}")`.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn field(&self, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["get", object, "--output", &format!("jsonpath={path}")])
    }

    /// Waits until a pod runs and is ready.
    ///
    /// # Errors
    /// When it does not; with its description.
    pub fn pod_is_ready(&self, pod: &str, deadline: Duration) -> Result<()> {
        let object = format!("pod/{pod}");
        let ready = "{.status.conditions[?(@.type=='Ready')].status}";
        let waited = self.wait_for(&format!("{pod} is ready"), deadline, |client| {
            Ok(client.field(&object, ready)? == "True")
        });
        waited.map_err(|failure| {
            let seen = self.kubectl(&["describe", &object]).unwrap_or_default();
            Failure::new(format!("{failure}\n{seen}"))
        })
    }

    /// Runs a shell's line in a pod and answers what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn in_pod(&self, pod: &str, line: &str) -> Result<String> {
        self.kubectl(&["exec", pod, "--", "sh", "-c", line])
    }
}
