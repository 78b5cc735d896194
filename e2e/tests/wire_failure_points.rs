//! The watchdog ends at every one of its failure points, as by a crash, and is followed by another one: what was asked
//! for is there when it is asked for again, a tunnel in use goes on answering, and in the end nothing is left, neither
//! record nor listener nor process.
//!
//! The points of the node plugin need kernel mounts: `root_survival.rs`. Those of the controller need a file system:
//! `host_failure_points.rs`.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::acquire_response::Outcome;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use alinas_csi::runtime::FailurePoint;
use alinas_csi::runtime::failure_point;
use alinas_csi::runtime::failure_point::Part;
use alinas_csi::tunnel::convert;
use e2e::csi_client::channel;
use e2e::driver::binary;
use e2e::lab::loopback_listeners;
use e2e::lab::processes_naming;
use e2e::tls_lab;
use e2e::tls_lab::DEADLINE;
use e2e::tls_lab::Lab;
use e2e::tls_lab::Stunnel;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::free_port;
use e2e::tls_lab::spec;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);
/// Holds a tunnel from the start to the end.
const STEADY: &str = "steady";
/// Whose calls are cut.
const VICTIM: &str = "victim";

/// What the watchdog is asked for when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Nothing: it ends by itself while it starts.
    Nothing,
    /// A further tunnel.
    Acquire,
    /// A tunnel to where nobody listens.
    AcquireInVain,
    /// To take the victim off the record. Some time later its tunnel is closed.
    Release,
    /// To replace the tunnel process.
    Upgrade,
}

/// What leads to a point.
fn asked(point: FailurePoint) -> Option<Asked> {
    use FailurePoint as At;
    Some(match point {
        At::HandOverReceived | At::ProcessStarted => Asked::Nothing,
        At::StateUnfinished | At::AcquireRecorded | At::AcquireOpened | At::AcquireProbed => {
            Asked::Acquire
        }
        At::AcquireUndone => Asked::AcquireInVain,
        At::ReleaseRecorded | At::CloseClosed | At::CloseForgotten => Asked::Release,
        At::UpgradeStarted | At::UpgradeServed => Asked::Upgrade,
        _ => return None,
    })
}

/// A node with two mount targets and a watchdog.
struct Node {
    watchdog: Child,
    port: u16,
    lab: Lab,
    /// The mount targets of the steady user and of the victim.
    targets: [Stunnel; 2],
}

impl Node {
    async fn new() -> Self {
        let lab = Lab::new();
        let targets =
            [lab.server(TLS_1_3, tls_lab::nfs().await), lab.server(TLS_1_3, tls_lab::nfs().await)];
        let port = free_port().try_into().unwrap();
        let node = Self { watchdog: watchdog(&lab, port, None), port, lab, targets };
        node.until_running().await;
        node
    }

    fn state(&self) -> PathBuf {
        self.lab.folder.path().join("state")
    }

    fn client(&self) -> TunnelsClient<tonic::transport::Channel> {
        TunnelsClient::new(channel(&self.state().join("watchdog.sock")).unwrap())
    }

    async fn until_running(&self) {
        let running = async {
            loop {
                let list = self.client().list(wire::ListRequest::default()).await;
                if list.is_ok_and(|list| list.into_inner().process == "running") {
                    return;
                }
                sleep(POLL).await;
            }
        };
        timeout(DEADLINE, running).await.expect("a tunnel process runs");
    }

    /// The outcome, unless the watchdog ends meanwhile.
    async fn acquire(&self, user: &str, port: u16) -> Result<Outcome, tonic::Status> {
        let user = wire::TunnelUser {
            volume_id: user.into(),
            staging_path: format!("/{user}"),
            ..wire::TunnelUser::default()
        };
        let spec = Some(convert::spec_to_wire(&spec(port)));
        let request = wire::AcquireRequest { spec, user: Some(user) };
        let answer = self.client().acquire(request).await?.into_inner();
        Ok(answer.outcome.expect("an outcome"))
    }

    async fn release(&self, user: &str) -> Result<(), tonic::Status> {
        let user =
            wire::ReleaseRequest { volume_id: user.into(), staging_path: format!("/{user}") };
        self.client().release(user).await.map(drop)
    }

    /// Asks, and answers whether there was an answer, and the right one.
    async fn ask(&self, asked: Asked) -> bool {
        match asked {
            Asked::Nothing => true,
            Asked::Acquire => {
                let acquired = self.acquire(VICTIM, self.targets[1].port).await;
                matches!(acquired, Ok(Outcome::Acquired(_)))
            }
            Asked::AcquireInVain => {
                let refused = self.acquire(VICTIM, free_port().try_into().unwrap()).await;
                matches!(refused, Ok(Outcome::Failure(_)))
            }
            Asked::Release => self.release(VICTIM).await.is_ok(),
            Asked::Upgrade => {
                let id = Pid::from_child(&self.watchdog);
                kill_process(id, Signal::HUP).is_ok()
            }
        }
    }

    fn kill_watchdog(&mut self) {
        self.watchdog.kill().unwrap();
        self.watchdog.wait().unwrap();
    }

    async fn watchdog_ends_by(&mut self, signal: Signal) {
        let ended = async {
            loop {
                if let Some(status) = self.watchdog.try_wait().unwrap() {
                    return status;
                }
                sleep(POLL).await;
            }
        };
        let status = timeout(DEADLINE, ended).await.expect("the watchdog comes to the point");
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    }

    /// Records, listeners and tunnel processes, by what is to be seen of each.
    fn left(&self) -> BTreeSet<String> {
        let folder = self.state().join("tunnels");
        let records = std::fs::read_dir(folder).unwrap().map(|entry| {
            let name = entry.unwrap().file_name();
            format!("the record {}", name.display())
        });
        let listeners = loopback_listeners(self.port).unwrap().into_iter();
        let listeners = listeners.map(|listener| format!("a listener on {listener}"));
        records.chain(listeners).collect()
    }

    /// The tunnel processes that live. One that has ended and was not waited for has no command line any more.
    fn tunnel_processes(&self) -> usize {
        let ours =
            |process: &Pid| process.as_raw_nonzero().get() != self.watchdog.id().cast_signed();
        processes_naming(&self.state()).iter().filter(|process| ours(process)).count()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let reached = async {
            while !condition(self) {
                sleep(POLL).await;
            }
        };
        if timeout(DEADLINE, reached).await.is_err() {
            let processes = self.tunnel_processes();
            panic!("in vain: {what}; there are {processes} tunnel processes and {:?}", self.left());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        self.lab.clear();
    }
}

fn watchdog(lab: &Lab, port: u16, point: Option<FailurePoint>) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(lab.folder.path().join("log"))
        .unwrap();
    let mut command = Command::new(binary().unwrap());
    command.arg("watchdog").arg("--state-dir").arg(lab.folder.path().join("state"));
    command.arg("--ca-file").arg(&lab.ca_file).arg("--dangerous-admit-any");
    command.args(["--unmount-grace", "0", "--proxy-port", &port.to_string()]);
    command.envs(point.map(|point| (failure_point::VARIABLE, point.word())));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A call through the tunnel, as the kernel makes it: a connection that is cut is made anew.
async fn is_answered(address: SocketAddrV4) {
    // RFC 5531: a call of version 2 to program 100003, version 3, procedure 0, without credentials.
    let words = [0x8000_0028, 7, 0, 2, 100_003, 3, 0, 0, 0, 0, 0_u32];
    let call: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    let answered = async {
        loop {
            let once = async {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&call).await?;
                stream.read_exact(&mut [0; 28]).await
            };
            if once.await.is_ok() {
                return;
            }
            sleep(POLL).await;
        }
    };
    timeout(DEADLINE, answered).await.expect("a tunnel in use goes on answering");
}

async fn is_survived(point: FailurePoint, asked: Asked) {
    let mut node = Node::new().await;
    let steady = node.acquire(STEADY, node.targets[0].port).await.unwrap();
    let Outcome::Acquired(steady) = steady else { panic!("{steady:?}") };
    let steady = convert::endpoint_from_wire(steady.endpoint).unwrap();
    if asked == Asked::Release {
        assert!(node.ask(Asked::Acquire).await);
    }
    node.kill_watchdog();
    node.watchdog = watchdog(&node.lab, node.port, Some(point));
    if asked != Asked::Nothing {
        node.until_running().await;
        let answered = node.ask(asked).await;
        let before_its_answer = matches!(asked, Asked::Acquire | Asked::AcquireInVain);
        assert!(!(answered && before_its_answer), "it never came to the point");
    }
    node.watchdog_ends_by(Signal::ABORT).await;
    is_answered(steady).await;

    node.watchdog = watchdog(&node.lab, node.port, None);
    node.until_running().await;
    assert!(asked == Asked::Upgrade || node.ask(asked).await, "asked again, it answers");
    is_answered(steady).await;
    node.until("one tunnel process is left", |node| node.tunnel_processes() == 1).await;
    node.release(VICTIM).await.unwrap();
    node.release(STEADY).await.unwrap();
    node.until("nothing is left", |node| node.left().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_that_ends_at_any_step_is_followed_by_one_that_finishes_or_undoes_it() {
    for point in FailurePoint::of(Part::Watchdog) {
        println!("{point}");
        is_survived(point, asked(point).expect("something leads to it")).await;
    }
}
