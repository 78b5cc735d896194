//! The real driver: watchdog and node plugin as processes, with a state directory of their own.
//!
//! LONG: a short door for each thing that a test does to them.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use alinas_csi::proto::tunnel;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use alinas_csi::runtime::FailurePoint;
use alinas_csi::runtime::failure_point;
use rustix::process::Pid;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::csi_client;
use crate::csi_client::CsiClient;
use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::lab;
use crate::process::Process;
use crate::process::log_tail;
use crate::process::run;
use crate::process::wait_until;

/// Where the tunnels listen, on every loopback address that they use.
pub const PROXY_PORT: u16 = 12049;

/// No test asks how fast a process starts: in the emulated guest of a busy machine one takes 20 s, and several fail first.
const START: Duration = Duration::from_secs(240);
const CALL: Duration = Duration::from_secs(10);
/// Sooner than a process that was just started comes to serve.
const KILL_EVERY: Duration = Duration::from_millis(30);
/// Short, so that a test can watch a tunnel close.
const UNMOUNT_GRACE_SECONDS: &str = "1";

/// One of the driver's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Carries the data.
    Tunnel,
    /// Keeps the tunnel process alive.
    Watchdog,
    /// Answers the kubelet.
    Node,
}

/// What a driver is told beside what it needs.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// A program with arguments that is started with the watchdog's command line behind them.
    pub around_watchdog: Vec<String>,
    /// More arguments of the watchdog.
    pub watchdog: Vec<String>,
    /// More arguments of the node plugin.
    pub node: Vec<String>,
    /// Of the environment of both.
    pub environment: Vec<(String, String)>,
}

/// The two processes. What they leave behind is unmounted when this is dropped.
#[derive(Debug)]
pub struct Driver {
    watchdog: Option<Process>,
    // Dropping a process ends its group with it; children that outlive a killed one are part of the test.
    former: Vec<Process>,
    node: Option<Process>,
    ca_file: PathBuf,
    told: Told,
    folder: TempDir,
}

impl Driver {
    /// Starts both with a fresh state directory.
    ///
    /// # Errors
    /// When the binary is missing or a socket does not appear; with the end of the log.
    pub fn start(ca_file: &Path) -> Result<Self> {
        Self::start_below(&std::env::temp_dir(), ca_file)
    }

    /// Starts both, and tells them more.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_told(ca_file: &Path, told: Told) -> Result<Self> {
        Self::start_in(&std::env::temp_dir(), ca_file, told)
    }

    /// Starts both with a fresh state directory in a new folder below `parent`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_below(parent: &Path, ca_file: &Path) -> Result<Self> {
        Self::start_in(parent, ca_file, Told::default())
    }

    fn start_in(parent: &Path, ca_file: &Path, told: Told) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("alinas-csi-e2e.").tempdir_in(parent)?;
        let ca_file = ca_file.to_owned();
        let (watchdog, node, former) = (None, None, Vec::new());
        let mut driver = Self { watchdog, former, node, ca_file, told, folder };
        fs::create_dir(driver.state_dir())?;
        driver.start_watchdog()?;
        driver.start_node()?;
        Ok(driver)
    }

    /// Starts the watchdog and waits until its tunnel process runs.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn start_watchdog(&mut self) -> Result<()> {
        let socket = self.watchdog_socket();
        self.spawn_watchdog(None)?.wait_until("the tunnel process runs", START, || {
            list(&socket).is_ok_and(|answer| answer.process == "running")
        })
    }

    /// Starts the watchdog, which ends at a failure point if one is named, and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_watchdog(&mut self, fails_at: Option<FailurePoint>) -> Result<&mut Process> {
        let mut command = match self.told.around_watchdog.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary()?);
                command
            }
            None => Command::new(binary()?),
        };
        command.envs(fails_at.map(|point| (failure_point::VARIABLE, point.word())));
        command.envs(self.told.environment.clone());
        command.arg("watchdog").arg("--state-dir").arg(self.state_dir());
        command.arg("--ca-file").arg(&self.ca_file);
        command.args(["--unmount-grace", UNMOUNT_GRACE_SECONDS]);
        command.args(["--proxy-port", &PROXY_PORT.to_string()]).args(&self.told.watchdog);
        let watchdog = Process::start("watchdog", &mut command, &self.log("watchdog"))?;
        Ok(self.watchdog.insert(watchdog))
    }

    /// Starts the node plugin and waits for its socket.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn start_node(&mut self) -> Result<()> {
        self.start_node_that_fails(None)
    }

    /// Starts the node plugin, which ends at a failure point if one is named, and waits for its socket.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn start_node_that_fails(&mut self, at: Option<FailurePoint>) -> Result<()> {
        let socket = self.csi_socket();
        let mut command = Command::new(binary()?);
        command.envs(at.map(|point| (failure_point::VARIABLE, point.word())));
        command.arg("node").arg("--csi-endpoint").arg(format!("unix://{}", socket.display()));
        command.args(["--node-id", "lab-node", "--state-dir"]).arg(self.state_dir());
        command.args(&self.told.node).envs(self.told.environment.clone());
        let mut node = Process::start("node plugin", &mut command, &self.log("node"))?;
        node.wait_until("the CSI socket answers", START, || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })?;
        self.node = Some(node);
        Ok(())
    }

    /// A client of the node plugin.
    ///
    /// # Errors
    /// When no runtime can be started.
    pub fn client(&self) -> Result<CsiClient> {
        CsiClient::new(&self.csi_socket())
    }

    /// The watchdog's socket.
    #[must_use]
    pub fn watchdog_socket(&self) -> PathBuf {
        self.state_dir().join("watchdog.sock")
    }

    /// The node plugin's socket.
    #[must_use]
    pub fn csi_socket(&self) -> PathBuf {
        self.folder.path().join("csi.sock")
    }

    /// Where staging and target paths are made; a stand-in for /var/lib/kubelet.
    #[must_use]
    pub fn kubelet_dir(&self) -> PathBuf {
        self.folder.path().join("kubelet")
    }

    /// What `Tunnels.List` says.
    ///
    /// # Errors
    /// When the watchdog does not answer.
    pub fn tunnels(&self) -> Result<tunnel::ListResponse> {
        list(&self.state_dir().join("watchdog.sock"))
    }

    /// The loopback address of the only tunnel to a domain.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn address_of(&self, domain: &str) -> Result<String> {
        let tunnels = self.tunnels()?.tunnels;
        let leads_there = |tunnel: &&tunnel::TunnelState| {
            tunnel.spec.as_ref().is_some_and(|spec| spec.host == domain)
        };
        let found: Vec<_> = tunnels.iter().filter(leads_there).collect();
        match found.as_slice() {
            [only] => Ok(only.endpoint.clone().unwrap_or_default().address),
            _ => Err(Failure::new(format!("expected one tunnel to {domain}, found {found:?}"))),
        }
    }

    /// SIGKILLs the tunnel process and answers its id.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill_tunnel(&self) -> Result<u32> {
        let id = self.tunnels()?.process_id;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new("no tunnel process runs"))?;
        rustix::process::kill_process(pid, Signal::KILL).during("failed to kill the tunnel")?;
        Ok(id)
    }

    /// SIGKILLs every tunnel process as soon as it is there, until this is dropped.
    #[must_use]
    pub fn let_no_tunnel_live(&self) -> NoTunnelLives {
        let ended = Arc::<AtomicBool>::default();
        let (heard, folder) = (Arc::clone(&ended), self.folder.path().to_owned());
        let killing = thread::spawn(move || {
            while !heard.load(Ordering::Relaxed) {
                for process in lab::processes_naming(&folder) {
                    if role(process).is_some_and(|role| role == "tunnel") {
                        // It may have ended by itself.
                        let _ = rustix::process::kill_process(process, Signal::KILL);
                    }
                }
                thread::sleep(KILL_EVERY);
            }
        });
        NoTunnelLives { ended, killing: Some(killing) }
    }

    /// The process id of a part.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self, part: Part) -> Result<Pid> {
        let id = match part {
            Part::Tunnel => Some(self.tunnels()?.process_id),
            Part::Watchdog => self.watchdog.as_ref().map(Process::id),
            Part::Node => self.node.as_ref().map(Process::id),
        };
        let pid = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        pid.ok_or_else(|| Failure::new(format!("no {part:?} process runs")))
    }

    /// Waits until a part has ended by itself, killed by a signal of its own.
    ///
    /// # Errors
    /// When it has not at the deadline.
    pub fn wait_for_end_of(&mut self, part: Part) -> Result<()> {
        let process = match part {
            Part::Watchdog => self.watchdog.take(),
            Part::Node => self.node.take(),
            Part::Tunnel => return Err(Failure::new("the tunnel is the watchdog's child")),
        };
        let mut process =
            process.ok_or_else(|| Failure::new(format!("no {part:?} process runs")))?;
        let ended = process.wait_for_end(START);
        self.former.push(process);
        match ended {
            Err(failure) if failure.to_string().contains("failed (signal:") => Ok(()),
            Err(failure) => Err(failure),
            Ok(()) => Err(Failure::new(format!("the {part:?} process ended in peace"))),
        }
    }

    /// Waits until another tunnel process than `former` runs.
    ///
    /// # Errors
    /// When none does within the deadline.
    pub fn wait_for_another_tunnel(&self, former: u32) -> Result<()> {
        wait_until("another tunnel process runs", START, || {
            self.tunnels().is_ok_and(|now| now.process == "running" && now.process_id != former)
        })
    }

    /// SIGKILLs the watchdog.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_watchdog(&mut self) -> Result<()> {
        if let Some(mut watchdog) = self.watchdog.take() {
            watchdog.kill()?;
            self.former.push(watchdog);
        }
        Ok(())
    }

    /// SIGKILLs the node plugin.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_node(&mut self) -> Result<()> {
        self.node.as_mut().map_or(Ok(()), Process::kill)
    }

    /// SIGKILLs all of them. The watchdog goes first: else it would start another tunnel process.
    ///
    /// # Errors
    /// When no tunnel process runs, or one cannot be killed.
    pub fn kill_all(&mut self) -> Result<()> {
        let tunnel = self.process(Part::Tunnel)?;
        self.kill_watchdog()?;
        rustix::process::kill_process(tunnel, Signal::KILL)?;
        self.kill_node()
    }

    /// Starts both, after [`kill_all`](Self::kill_all).
    ///
    /// # Errors
    /// When they do not come up.
    pub fn start_all(&mut self) -> Result<()> {
        self.start_watchdog()?;
        self.start_node()
    }

    /// Makes sure that nothing of any volume is left: mounts, listeners, records, directories.
    ///
    /// # Errors
    /// Names what is left when the deadline has passed.
    pub fn nothing_is_left(&self, deadline: Duration) -> Result<()> {
        let mut left = String::new();
        let cleared = wait_until("nothing is left behind", deadline, || {
            left = self.leftovers().unwrap_or_else(|failure| failure.to_string());
            left.is_empty()
        });
        cleared.map_err(|failure| Failure::new(format!("{failure}; still there: {left}")))
    }

    fn leftovers(&self) -> Result<String> {
        let mut left = Vec::new();
        for mount in lab::mounts_below(self.folder.path())? {
            left.push(format!("the mount at {}", mount.point.display()));
        }
        for listener in lab::loopback_listeners(PROXY_PORT)? {
            left.push(format!("a listener on {listener}"));
        }
        for folder in ["tunnels", "plain"] {
            for record in entries(&self.state_dir().join(folder)) {
                left.push(format!("the record {}", record.display()));
            }
        }
        // The pod's own folder is the kubelet's; the target in it is ours to remove.
        for target in entries(&self.kubelet_dir().join("pods")).iter().flat_map(|pod| entries(pod))
        {
            left.push(format!("the target {}", target.display()));
        }
        // The kubelet owns the staging directories themselves; they must be empty, though.
        for staging in entries(&self.kubelet_dir().join("staging")) {
            left.extend(entries(&staging).iter().map(|path| path.display().to_string()));
        }
        Ok(left.join(", "))
    }

    /// The ends of both logs, for people.
    #[must_use]
    pub fn logs(&self) -> String {
        ["watchdog", "node"].map(|name| log_tail(&self.log(name))).join("\n")
    }

    /// Where its records are.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}

/// See [`Driver::let_no_tunnel_live`].
#[derive(Debug)]
pub struct NoTunnelLives {
    ended: Arc<AtomicBool>,
    killing: Option<JoinHandle<()>>,
}

impl Drop for NoTunnelLives {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(killing) = self.killing.take() {
            drop(killing.join());
        }
    }
}

/// The first argument of a process.
fn role(process: Pid) -> Option<String> {
    let line = fs::read(format!("/proc/{}/cmdline", process.as_raw_nonzero())).ok()?;
    let role = line.split(|byte| *byte == 0).nth(1)?;
    Some(String::from_utf8_lossy(role).into_owned())
}

impl Drop for Driver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        drop(self.node.take());
        for mount in lab::mounts_below(self.folder.path()).unwrap_or_default().iter().rev() {
            let point = mount.point.display().to_string();
            let _ = run(CALL, "umount", &["-f", "-l", &point]);
        }
        drop(self.watchdog.take());
        // The tunnel has a process group of its own. The folder's name is ours alone.
        let _ = wait_until("the driver's last process ends", CALL, || {
            let left = lab::processes_naming(self.folder.path());
            for pid in &left {
                let _ = rustix::process::kill_process(*pid, Signal::KILL);
            }
            left.is_empty()
        });
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder).into_iter().flatten();
    listing.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn list(socket: &Path) -> Result<tunnel::ListResponse> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = TunnelsClient::new(csi_client::channel(socket)?);
        let answer = tokio::time::timeout(CALL, client.list(tunnel::ListRequest::default())).await;
        let answer = answer.map_err(|_| Failure::new("the watchdog does not answer"))?;
        Ok(answer?.into_inner())
    })
}

/// The driver's binary: `ALINAS_CSI_BINARY`, or the one that was built beside this program.
///
/// # Errors
/// When it is not there.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ALINAS_CSI_BINARY") {
        return Ok(path.into());
    }
    let this = std::env::current_exe()?;
    // target/debug/demo, target/debug/deps/root_path-0123
    let beside = this.ancestors().skip(1).take(2).map(|folder| folder.join("alinas-csi"));
    beside.filter(|path| path.is_file()).last().ok_or_else(|| {
        Failure::new("the driver is not built: run `cargo build`, or set ALINAS_CSI_BINARY")
    })
}
