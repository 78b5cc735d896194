//! The tunnel process itself: starting it, hearing that it is ready, killing it.
//!
//! The child is this same binary, or after an upgrade the one that is installed now. Its standard input is a Unix
//! socket: over it go the listening sockets, its listeners as one line of JSON, and later the sockets of further
//! tunnels. It says `ready` on its standard output once it serves, and is asked at its socket; where it could not make
//! that, it says so, and is asked over a connection that was among the sockets.
//!
//! LONG: a third of it are tests.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde::Serialize;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::time::timeout;

use crate::host::parcel;
use crate::model::TlsPolicy;
use crate::tunnel::initial::READY;
use crate::tunnel::initial::READY_UNNAMED;
use crate::watchdog::predecessor;
use crate::watchdog::record::Record;
use crate::watchdog::relay::GrpcRelay;
use crate::watchdog::relay::Relay;

/// The binary that we are, also after an upgrade has replaced its file.
const OURSELVES: &str = "/proc/self/exe";
/// For a process that another one replaces. It gives its connections 5 s, and cuts what is left.
const RETIRE_DEADLINE: Duration = Duration::from_secs(10);
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

/// What a tunnel process is to serve from its start.
#[derive(Debug, Default)]
pub struct Bindings {
    /// Every tunnel.
    pub listeners: Vec<Listener>,
    /// Their sockets. The process binds those that are missing.
    pub sockets: Vec<OwnedFd>,
}

/// Which binary a process is started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The watchdog's own, which is known to work.
    Ours,
    /// The file that is installed now.
    Installed,
}

/// The end of a process, once it is awaited: it is asked, and killed if it does not follow.
pub type Farewell = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an earlier watchdog's tunnel process leaves to us.
pub struct Inheritance {
    /// Sockets that listen.
    pub sockets: Vec<OwnedFd>,
    /// The end of the process, where it still serves. For when another one does.
    pub farewell: Option<Farewell>,
}

impl fmt::Debug for Inheritance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inheritance").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}

/// Starts tunnel processes.
#[async_trait]
pub trait Launcher: Send + Sync + fmt::Debug {
    /// Takes over from a tunnel process that an earlier watchdog left behind. One that does not hand its addresses
    /// over is ended: they must be bound again.
    async fn take_over(&self) -> Inheritance;
    /// Starts a process. It is to serve this before anything else.
    fn launch(&self, bindings: Bindings, version: Version) -> io::Result<Box<dyn TunnelProcess>>;
}

/// A tunnel process that was started. Dropping it leaves it running.
#[async_trait]
pub trait TunnelProcess: Send + fmt::Debug {
    /// Its process id.
    fn id(&self) -> u32;
    /// Waits until it says that it serves. May be dropped and called again.
    async fn ready(&mut self) -> io::Result<()>;
    /// Waits until it has ended, and says how.
    async fn exited(&mut self) -> String;
    /// Ends it, without asking.
    async fn kill(&mut self);
    /// Ends it now that another process serves: it stops listening and lets its connections finish.
    fn retire(self: Box<Self>) -> Farewell;
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
    /// Lets any local process in. For tests, whose client is no kernel.
    pub admit_any: bool,
    /// What else it is told.
    pub more: Vec<OsString>,
    /// [`Version::Ours`].
    binary: PathBuf,
    /// [`Version::Installed`]: the name that we were started by, whatever lies there by then.
    installed: PathBuf,
}

impl SelfLauncher {
    /// Starts processes that serve `socket` and trust what `ca_file` holds besides.
    #[must_use]
    pub fn new(socket: PathBuf, ca_file: Option<PathBuf>) -> Self {
        let installed = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(OURSELVES));
        Self {
            socket,
            ca_file,
            admit_any: false,
            more: Vec::new(),
            binary: PathBuf::from(OURSELVES),
            installed,
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let admit = if self.admit_any { "any" } else { "kernel" };
        let mut arguments: Vec<OsString> =
            ["tunnel", "--managed", "--admit", admit, "--socket"].map(OsString::from).into();
        arguments.push(self.socket.clone().into());
        if let Some(file) = &self.ca_file {
            arguments.extend(["--ca-file".into(), file.clone().into()]);
        }
        arguments.extend(self.more.iter().cloned());
        arguments
    }
}

#[async_trait]
impl Launcher for SelfLauncher {
    async fn take_over(&self) -> Inheritance {
        let (sockets, former) = predecessor::take_over(&self.socket).await;
        let farewell = former.map(|former| Box::pin(former.end()) as Farewell);
        Inheritance { sockets, farewell }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this child is meant to outlive every deadline: the driver watches and kills it"
    )]
    fn launch(
        &self,
        mut bindings: Bindings,
        version: Version,
    ) -> io::Result<Box<dyn TunnelProcess>> {
        let binary = match version {
            Version::Ours => &self.binary,
            Version::Installed => &self.installed,
        };
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        let (direct, given) = UnixStream::pair()?;
        bindings.sockets.push(given.into_std()?.into());
        let mut child = Command::new(binary)
            // The name decides about the role of this binary.
            .arg0("alinas-csi")
            .args(self.arguments())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            // Ctrl-C at a terminal is for the watchdog, which ends the tunnel last.
            .process_group(0)
            .spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let input = Arc::new(ours);
        let direct = GrpcRelay::over(direct).giving_over(Arc::clone(&input));
        tokio::spawn(tell(Arc::clone(&input), bindings));
        Ok(Box::new(SelfProcess {
            id: child.id().unwrap_or_default(),
            child,
            input,
            output: BufReader::new(output),
            word: String::new(),
            socket: self.socket.clone(),
            direct,
            unnamed: false,
        }))
    }
}

/// In a task of its own: a process that does not read keeps nobody waiting. It will not be ready in time.
async fn tell(input: Arc<UnixStream>, bindings: Bindings) {
    let told = async {
        let line = serde_json::to_string(&bindings.listeners)? + "\n";
        parcel::send(&input, &bindings.sockets).await?;
        parcel::send_text(&input, line.as_bytes()).await
    };
    if let Err(error) = told.await {
        tracing::error!(%error, "failed to tell the tunnel process what to serve");
    }
}

/// A child process. Its standard output stays open for as long as it lives, or a late word would kill it.
#[derive(Debug)]
struct SelfProcess {
    id: u32,
    child: Child,
    input: Arc<UnixStream>,
    output: BufReader<ChildStdout>,
    /// What it has said so far.
    word: String,
    socket: PathBuf,
    /// Over a connection of our own.
    direct: GrpcRelay,
    /// It could not make its socket.
    unnamed: bool,
}

#[async_trait]
impl TunnelProcess for SelfProcess {
    fn id(&self) -> u32 {
        self.id
    }

    async fn ready(&mut self) -> io::Result<()> {
        self.output.read_line(&mut self.word).await?;
        self.unnamed = self.word.trim_end() == READY_UNNAMED;
        match self.word.trim_end() {
            READY | READY_UNNAMED => Ok(()),
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
        if timeout(KILL_DEADLINE, self.child.wait()).await.is_err() {
            tracing::error!(
                process.id = self.id,
                "the tunnel process does not end, although killed"
            );
        }
    }

    fn retire(mut self: Box<Self>) -> Farewell {
        Box::pin(async move {
            // Not over its socket, which the next process has taken the name of. The id is ours until it is reaped.
            let id = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
            if let Some(Err(error)) = id.map(|id| kill_process(id, Signal::TERM)) {
                tracing::warn!(process.id = self.id, %error, "failed to ask a tunnel process to end");
            }
            match timeout(RETIRE_DEADLINE, self.exited()).await {
                Ok(how) => {
                    tracing::info!(process.id = self.id, how, "replaced tunnel process ended")
                }
                Err(_) => self.kill().await,
            }
        })
    }

    fn relay(&self) -> io::Result<Arc<dyn Relay>> {
        if self.unnamed {
            return Ok(Arc::new(self.direct.clone()));
        }
        let input = Some(Arc::clone(&self.input));
        Ok(Arc::new(GrpcRelay::new(&self.socket, input).map_err(io::Error::other)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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
            match launcher.launch(Bindings::default(), Version::Ours) {
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

    #[tokio::test]
    async fn a_replaced_process_is_asked_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!(
            "trap 'touch {}; exit' TERM; read line; echo ready; while :; do sleep 0.01; done",
            mark.display()
        );
        let mut process = launch(&dir, &script);
        timeout(KILL_DEADLINE, process.ready()).await.unwrap().unwrap();
        timeout(KILL_DEADLINE, process.retire()).await.unwrap();
        assert!(mark.exists());
    }
}
