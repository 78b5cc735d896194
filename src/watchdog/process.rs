//! The tunnel process itself: starting it, hearing that it is ready, killing it.
//!
//! The child is this same binary. It gets its listeners as one line of JSON on its standard input, so that it
//! binds them before anything else, and says `ready` on its standard output once it has.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;

use crate::model::TlsPolicy;
use crate::watchdog::predecessor;
use crate::watchdog::record::Record;
use crate::watchdog::relay::GrpcRelay;
use crate::watchdog::relay::Relay;

/// The binary that we are, also after an upgrade has replaced its file.
const OURSELVES: &str = "/proc/self/exe";
/// After SIGKILL a process is gone as soon as the kernel gets to it.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// A listener as the tunnel process is told about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// The mount target.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The name that its certificate must carry.
    pub server_name: String,
    /// How its sessions are secured.
    #[serde(skip_serializing_if = "TlsPolicy::is_default")]
    pub policy: TlsPolicy,
    /// The loopback address to bind.
    pub address: Ipv4Addr,
    /// The port to bind.
    pub local_port: u16,
}

impl From<&Record> for Listener {
    fn from(record: &Record) -> Self {
        Self {
            host: record.spec.host.to_string(),
            port: record.spec.port.number(),
            server_name: record.spec.server_name.to_string(),
            policy: record.spec.policy.clone(),
            address: *record.endpoint.ip(),
            local_port: record.endpoint.port(),
        }
    }
}

/// Starts tunnel processes.
#[async_trait]
pub trait Launcher: Send + Sync + fmt::Debug {
    /// Ends a tunnel process that an earlier watchdog left behind: it holds the addresses.
    async fn end_predecessor(&self);
    /// Starts a process. It is to bind these listeners before anything else.
    fn launch(&self, listeners: &[Listener]) -> io::Result<Box<dyn TunnelProcess>>;
}

/// A tunnel process that was started. Dropping it leaves it running.
#[async_trait]
pub trait TunnelProcess: Send + fmt::Debug {
    /// Its process id.
    fn id(&self) -> u32;
    /// Waits until it says that its listeners are bound.
    async fn ready(&mut self) -> io::Result<()>;
    /// Waits until it has ended, and says how.
    async fn exited(&mut self) -> String;
    /// Ends it, without asking.
    async fn kill(&mut self);
    /// How to talk to it.
    fn relay(&self) -> io::Result<Arc<dyn Relay>>;
}

/// Starts this binary in the role `tunnel`.
#[derive(Clone, Debug)]
pub struct SelfLauncher {
    /// Where the process serves the relay.
    pub socket: PathBuf,
    /// More trusted certificates.
    pub ca_file: Option<PathBuf>,
    binary: PathBuf,
}

impl SelfLauncher {
    /// Starts processes that serve `socket` and trust what `ca_file` holds besides.
    #[must_use]
    pub fn new(socket: PathBuf, ca_file: Option<PathBuf>) -> Self {
        Self { socket, ca_file, binary: PathBuf::from(OURSELVES) }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["tunnel", "--managed", "--admit", "kernel", "--socket"].map(OsString::from).into();
        arguments.push(self.socket.clone().into());
        if let Some(file) = &self.ca_file {
            arguments.extend(["--ca-file".into(), file.clone().into()]);
        }
        arguments
    }
}

#[async_trait]
impl Launcher for SelfLauncher {
    async fn end_predecessor(&self) {
        predecessor::end(&self.socket).await;
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this child is meant to outlive every deadline: the driver watches and kills it"
    )]
    fn launch(&self, listeners: &[Listener]) -> io::Result<Box<dyn TunnelProcess>> {
        let mut child = Command::new(&self.binary)
            // The name decides about the role of this binary.
            .arg0("alinas-csi")
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C at a terminal is for the watchdog, which ends the tunnel last.
            .process_group(0)
            .spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        Ok(Box::new(SelfProcess {
            id: child.id().unwrap_or_default(),
            child,
            output: BufReader::new(output),
            listeners: serde_json::to_string(listeners)? + "\n",
            socket: self.socket.clone(),
        }))
    }
}

/// A child process. Its standard output stays open for as long as it lives, or a late word would kill it.
#[derive(Debug)]
struct SelfProcess {
    id: u32,
    child: Child,
    output: BufReader<ChildStdout>,
    listeners: String,
    socket: PathBuf,
}

#[async_trait]
impl TunnelProcess for SelfProcess {
    fn id(&self) -> u32 {
        self.id
    }

    async fn ready(&mut self) -> io::Result<()> {
        if let Some(mut input) = self.child.stdin.take() {
            input.write_all(self.listeners.as_bytes()).await?;
            input.shutdown().await?;
        }
        let mut word = String::new();
        self.output.read_line(&mut word).await?;
        match word.trim_end() {
            "ready" => Ok(()),
            "" => Err(io::Error::other("it ended before it was ready")),
            other => Err(io::Error::other(format!("it said {other:?} instead of \"ready\""))),
        }
    }

    async fn exited(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("unknown how: {error}"),
        }
    }

    async fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::warn!(process.id = self.id, %error, "failed to kill the tunnel process");
        }
        if tokio::time::timeout(KILL_DEADLINE, self.child.wait()).await.is_err() {
            tracing::error!(
                process.id = self.id,
                "the tunnel process does not end, although killed"
            );
        }
    }

    fn relay(&self) -> io::Result<Arc<dyn Relay>> {
        Ok(Arc::new(GrpcRelay::new(&self.socket).map_err(io::Error::other)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tokio::time::timeout;

    #[test]
    fn the_tunnel_role_is_told_its_socket_its_trust_and_whom_to_admit() {
        let launcher = |ca_file: Option<&str>| {
            SelfLauncher::new("/run/alinas-csi/tunnel.sock".into(), ca_file.map(PathBuf::from))
        };
        let plain = "tunnel --managed --admit kernel --socket /run/alinas-csi/tunnel.sock";
        for (ca_file, expected) in
            [(None, plain.to_owned()), (Some("/ca.pem"), format!("{plain} --ca-file /ca.pem"))]
        {
            let arguments = launcher(ca_file).arguments().join(std::ffi::OsStr::new(" "));
            assert_eq!(arguments.to_str().unwrap(), expected);
        }
    }

    #[test]
    fn a_listener_travels_under_the_names_that_the_tunnel_role_reads() {
        let listener = Listener {
            host: "nas".to_owned(),
            port: 2049,
            server_name: "nas".to_owned(),
            policy: TlsPolicy::default(),
            address: Ipv4Addr::new(127, 0, 1, 1),
            local_port: 12049,
        };
        assert_eq!(
            serde_json::to_string(&[listener]).unwrap(),
            r#"[{"host":"nas","port":2049,"server_name":"nas","address":"127.0.1.1","local_port":12049}]"#
        );
    }

    /// A process that runs this script in place of the tunnel role.
    fn launch(dir: &tempfile::TempDir, script: &str) -> Box<dyn TunnelProcess> {
        let binary = dir.path().join("script");
        std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o700)).unwrap();
        let launcher = SelfLauncher { binary, ..SelfLauncher::new(dir.path().join("sock"), None) };
        // A process that another test forks holds the script open for writing until it executes.
        let busy = |error: &io::Error| error.kind() == io::ErrorKind::ExecutableFileBusy;
        loop {
            match launcher.launch(&[]) {
                Err(error) if busy(&error) => std::thread::yield_now(),
                launched => return launched.unwrap(),
            }
        }
    }

    #[tokio::test]
    async fn a_process_hears_its_listeners_says_ready_and_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let heard = dir.path().join("heard");
        let script =
            format!("read line; echo \"$line\" > {}; echo ready; exec sleep 60", heard.display());
        let mut process = launch(&dir, &script);
        timeout(KILL_DEADLINE, process.ready()).await.unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(heard).unwrap(), "[]\n");
        process.kill().await;
        let how = timeout(KILL_DEADLINE, process.exited()).await.unwrap();
        assert!(how.contains("signal: 9"), "{how}");
    }

    #[tokio::test]
    async fn a_process_that_ends_or_says_something_else_is_not_ready() {
        for (script, words) in [("read line", "ended before"), ("read line; echo hello", "hello")] {
            let dir = tempfile::tempdir().unwrap();
            let mut process = launch(&dir, script);
            let error = timeout(KILL_DEADLINE, process.ready()).await.unwrap().unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            process.kill().await;
        }
    }
}
