//! The real watchdog and its tunnel process under a client that never pauses: whatever is killed, stopped or
//! replaced, no connection is refused, no call is lost, and each test prints the longest pause.
//!
//! The client does what the kernel's does: one connection, a call until it is answered, and when it is cut, the same
//! call again over a new connection at once. It runs outside the lab, so its times mean something.
//!
//! LONG: a third of it is the client, which every accident needs.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::acquire_response::Outcome;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use alinas_csi::tunnel::convert;
use e2e::csi_client::channel;
use e2e::driver::binary;
use e2e::process::Process;
use e2e::process::log_tail;
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
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// What a hand-over may cost here, on a machine that does much else besides; alone it is below half a second, and
/// `--nocapture` prints it.
const HAND_OVER: Duration = Duration::from_secs(2);
/// What a process that has to be started may cost, on a machine that does much else besides.
const RESTART: Duration = Duration::from_secs(5);
/// Until a process that is stuck is found and replaced.
const STUCK: Duration = Duration::from_secs(10);
/// Time to carry calls in, before an accident and after it.
const A_WHILE: Duration = Duration::from_millis(500);
/// The longest that a process that was replaced lets its connections go on: 5 s, and some more for a busy machine.
const DRAINED: Duration = Duration::from_secs(8);

/// One at a time: their times are measured.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A node with one tunnel to a TLS server that is not ours.
struct Node {
    watchdog: Process,
    port: u32,
    lab: Lab,
    /// How often the server saw each call.
    served: Arc<Mutex<BTreeMap<u32, u32>>>,
    nas: Stunnel,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

impl Node {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(flags: &[&str]) -> Self {
        let _alone = ALONE.lock().await;
        let lab = Lab::new();
        let served = Arc::default();
        let nas = lab.server(TLS_1_3, counting_nfs(Arc::clone(&served)).await);
        let port = free_port();
        let node = Self { watchdog: watchdog(&lab, port, flags), port, lab, served, nas, _alone };
        node.until_running(0).await;
        node
    }

    fn client(&self) -> TunnelsClient<Channel> {
        TunnelsClient::new(channel(&self.lab.folder.path().join("state/watchdog.sock")).unwrap())
    }

    async fn acquire(&self) -> SocketAddrV4 {
        acquire_at(&mut self.client(), self.nas.port).await
    }

    async fn list(&self) -> Option<wire::ListResponse> {
        Some(self.client().list(wire::ListRequest::default()).await.ok()?.into_inner())
    }

    /// Waits until another tunnel process than `former` runs, and answers its id.
    async fn until_running(&self, former: u32) -> u32 {
        let running = async {
            loop {
                match self.list().await {
                    Some(list) if list.process == "running" && list.process_id != former => {
                        return list.process_id;
                    }
                    _ => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(DEADLINE, running).await.expect("a tunnel process runs")
    }

    /// How many calls have reached the server.
    fn served(&self) -> usize {
        self.served.lock().unwrap().len()
    }

    async fn tunnel(&self) -> u32 {
        self.list().await.unwrap().process_id
    }

    /// That every call reached the server, and again only where a connection was cut before its answer.
    fn nothing_was_doubled(&self, told: &Told) {
        let served = self.served.lock().unwrap();
        assert!((1..=told.calls).all(|call| served.contains_key(&call)), "a call was lost");
        let again: u32 = served.range(..=told.calls).map(|(_, times)| times - 1).sum();
        assert!(again <= told.cuts, "{again} calls again after {} cuts", told.cuts);
    }
}

async fn acquire_at(client: &mut TunnelsClient<Channel>, port: u16) -> SocketAddrV4 {
    let user = wire::TunnelUser {
        volume_id: "volume".into(),
        staging_path: "/staging".into(),
        ..wire::TunnelUser::default()
    };
    let spec = Some(convert::spec_to_wire(&spec(port)));
    let request = wire::AcquireRequest { spec, user: Some(user) };
    let answer = client.acquire(request).await.unwrap().into_inner();
    let Some(Outcome::Acquired(acquired)) = answer.outcome else { panic!("{answer:?}") };
    convert::endpoint_from_wire(acquired.endpoint).unwrap()
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        self.lab.clear();
    }
}

fn watchdog(lab: &Lab, port: u32, flags: &[&str]) -> Process {
    watchdog_in("state", lab, port, flags)
}

fn watchdog_in(state: &str, lab: &Lab, port: u32, flags: &[&str]) -> Process {
    let mut command = Command::new(binary().unwrap());
    command.arg("watchdog").arg("--state-dir").arg(lab.folder.path().join(state)).args(flags);
    command.arg("--ca-file").arg(&lab.ca_file).arg("--dangerous-admit-any");
    command.args(["--unmount-grace", "0", "--proxy-port", &port.to_string()]);
    Process::start("watchdog", &mut command, &lab.folder.path().join("log")).unwrap()
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// Answers each NULL call of 44 bytes, and counts it.
async fn counting_nfs(served: Arc<Mutex<BTreeMap<u32, u32>>>) -> u16 {
    tls_lab::backend(move |mut stream: TcpStream| {
        let served = Arc::clone(&served);
        async move {
            let mut call = [0; 44];
            while stream.read_exact(&mut call).await.is_ok() {
                let number = u32::from_be_bytes(call[4..8].try_into().unwrap());
                *served.lock().unwrap().entry(number).or_default() += 1;
                let _ = stream.write_all(&tls_lab::null_reply(&call)).await;
            }
        }
    })
    .await
}

/// What a client has lived through.
#[derive(Debug, Default)]
struct Told {
    calls: u32,
    /// Connections that ended under it.
    cuts: u32,
    /// Connections that nobody listened for.
    refused: u32,
    longest: Duration,
}

struct Caller {
    stop: CancellationToken,
    calling: JoinHandle<Told>,
}

impl Caller {
    /// Calls without a pause until stopped.
    fn start(address: SocketAddrV4) -> Self {
        let stop = CancellationToken::new();
        let calling = tokio::spawn(call_until(stop.clone(), address));
        Self { stop, calling }
    }

    async fn stop(self) -> Told {
        self.stop.cancel();
        timeout(DEADLINE, self.calling).await.expect("the last call is answered").unwrap()
    }
}

async fn call_until(stop: CancellationToken, address: SocketAddrV4) -> Told {
    let mut told = Told::default();
    let mut stream = connected(address, &mut told).await;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let number = told.calls + 1;
        while let Err(_cut) = answered(&mut stream, number).await {
            told.cuts += 1;
            stream = connected(address, &mut told).await;
        }
        told.calls = number;
        told.longest = told.longest.max(began.elapsed());
    }
    told
}

async fn connected(address: SocketAddrV4, told: &mut Told) -> TcpStream {
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).unwrap();
                return stream;
            }
            Err(_refused) => {
                told.refused += 1;
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

async fn answered(stream: &mut TcpStream, number: u32) -> std::io::Result<()> {
    // RFC 5531: a call of version 2 to program 100003, version 3, procedure 0, without credentials.
    let mut call = vec![0x80, 0, 0, 40];
    for word in [number, 0, 2, 100_003, 3, 0, 0, 0, 0, 0] {
        call.extend(word.to_be_bytes());
    }
    stream.write_all(&call).await?;
    let mut reply = [0; 28];
    stream.read_exact(&mut reply).await?;
    assert_eq!(reply[4..8], number.to_be_bytes(), "the answer to another call");
    Ok(())
}

/// Carries calls while `accident` happens, and for a while after.
async fn under_calls(node: &mut Node, accident: impl AsyncFnOnce(&mut Node)) -> Told {
    let address = node.acquire().await;
    let caller = Caller::start(address);
    sleep(A_WHILE).await;
    accident(node).await;
    sleep(A_WHILE).await;
    let told = caller.stop().await;
    println!("{told:?}");
    assert_eq!(told.refused, 0, "nobody listened for a moment: {told:?}");
    node.nothing_was_doubled(&told);
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_tunnel_refuses_nobody_and_loses_no_call() {
    let mut node = Node::new().await;
    let told = under_calls(&mut node, async |node| {
        for _ in 0..3 {
            let former = node.tunnel().await;
            signal(former, Signal::KILL);
            node.until_running(former).await;
            sleep(A_WHILE).await;
        }
    })
    .await;
    assert!(told.cuts >= 3, "{told:?}");
    assert!(told.longest < RESTART, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_started_again_also_where_its_socket_cannot_be_made() {
    let mut node = Node::new().await;
    let told = under_calls(&mut node, async |node| {
        let former = node.tunnel().await;
        let (state, away) = ["state", "away"].map(|name| node.lab.folder.path().join(name)).into();
        // As one that is read-only: nothing can be made in it, and what is connected stays.
        std::fs::rename(&state, &away).unwrap();
        let before = node.served();
        signal(former, Signal::KILL);
        let goes_on = async {
            while node.served() < before + 100 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, goes_on).await.expect("another process carries the calls");
        std::fs::rename(&away, &state).unwrap();
        let next = node.until_running(former).await;
        let socket = state.join("tunnel.sock");
        let named = async {
            while UnixStream::connect(&socket).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(DEADLINE, named).await.expect("it makes its socket once it can");
        // The next watchdog finds it there.
        node.watchdog.kill().unwrap();
        node.watchdog = watchdog(&node.lab, node.port, &[]);
        node.until_running(next).await;
        until_gone(next).await;
    })
    .await;
    assert!(told.longest < RESTART, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_stuck_is_replaced_within_10_s() {
    let mut node = Node::new().await;
    let told = under_calls(&mut node, async |node| {
        let former = node.tunnel().await;
        let stopped = Instant::now();
        signal(former, Signal::STOP);
        node.until_running(former).await;
        assert!(stopped.elapsed() < STUCK, "it took {:?}", stopped.elapsed());
    })
    .await;
    assert!(told.longest < STUCK, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_replaced_on_request_without_a_pause() {
    let mut node = Node::new().await;
    let told = under_calls(&mut node, async |node| {
        let former = node.tunnel().await;
        signal(node.watchdog.id(), Signal::HUP);
        node.until_running(former).await;
        until_gone(former).await;
        assert_eq!(node.list().await.unwrap().restarts, 0);
    })
    .await;
    assert!(told.cuts >= 1, "it never went over to the new process: {told:?}");
    assert!(told.longest < HAND_OVER, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_that_was_killed_is_followed_by_one_that_takes_the_sockets_over() {
    let mut node = Node::new().await;
    let told = under_calls(&mut node, async |node| {
        let former = node.tunnel().await;
        node.watchdog.kill().unwrap();
        sleep(A_WHILE).await;
        node.watchdog = watchdog(&node.lab, node.port, &[]);
        node.until_running(former).await;
        until_gone(former).await;
    })
    .await;
    assert!(told.longest < HAND_OVER, "{told:?}");
    // Of all three processes that had it, none keeps the socket.
    release(&node).await;
}

const LEAVES: &[&str] = &["--leave-tunnel"];

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_that_is_restarted_leaves_its_tunnel_to_the_next_one_and_nobody_waits() {
    let mut node = Node::with(LEAVES).await;
    let told = under_calls(&mut node, async |node| {
        let former = node.tunnel().await;
        signal(node.watchdog.id(), Signal::TERM);
        node.watchdog.wait_for_end(DEADLINE).unwrap();
        sleep(A_WHILE).await;
        node.watchdog = watchdog(&node.lab, node.port, LEAVES);
        node.until_running(former).await;
        until_gone(former).await;
    })
    .await;
    assert!(told.longest < HAND_OVER, "{told:?}");
    release(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_takes_over_from_one_that_still_lives_and_agrees() {
    let mut node = Node::with(LEAVES).await;
    let told = under_calls(&mut node, async |node| {
        let former = node.tunnel().await;
        let next = watchdog(&node.lab, node.port, LEAVES);
        let mut before = std::mem::replace(&mut node.watchdog, next);
        before.wait_for_end(DEADLINE).unwrap();
        node.until_running(former).await;
        until_gone(former).await;
    })
    .await;
    assert!(told.longest < HAND_OVER, "{told:?}");
    release(&node).await;
}

const MAKES_WAY: &[&str] = &["--make-way"];

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pod_takes_over_while_the_former_one_lives_and_nobody_waits() {
    let mut node = Node::with(MAKES_WAY).await;
    let mut before = None;
    let told = under_calls(&mut node, async |node| {
        let former = node.tunnel().await;
        let next = watchdog(&node.lab, node.port, MAKES_WAY);
        before = Some(std::mem::replace(&mut node.watchdog, next));
        node.until_running(former).await;
        until_gone(former).await;
    })
    .await;
    assert!(told.longest < HAND_OVER, "{told:?}");
    let mut before = before.unwrap();
    assert!(!before.has_ended(), "the kubelet would start it again, and it would take over");
    signal(before.id(), Signal::TERM);
    before.wait_for_end(DEADLINE).unwrap();
    release(&node).await;
    // Without a next one, the tunnel process ends first.
    let last = node.tunnel().await;
    signal(node.watchdog.id(), Signal::TERM);
    node.watchdog.wait_for_end(DEADLINE).unwrap();
    until_gone(last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_that_made_way_serves_again_where_the_next_one_dies() {
    let node = Node::with(MAKES_WAY).await;
    let address = node.acquire().await;
    let former = node.tunnel().await;
    let mut next = watchdog(&node.lab, node.port, MAKES_WAY);
    let second = node.until_running(former).await;
    // One that dies in a pod takes its tunnel process with it.
    next.kill().unwrap();
    signal(second, Signal::KILL);
    until_gone(second).await;
    node.until_running(second).await;
    let caller = Caller::start(address);
    sleep(A_WHILE).await;
    let told = caller.stop().await;
    assert!(told.calls > 0 && told.refused == 0, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_that_does_not_agree_keeps_its_directory_and_is_named() {
    let mut node = Node::new().await;
    let told = under_calls(&mut node, async |node| {
        let mut second = watchdog(&node.lab, node.port, LEAVES);
        let refused = second.wait_for_end(DEADLINE).unwrap_err().to_string();
        assert!(refused.contains("failed (exit status: 1)"), "{refused}");
        let log = log_tail(&node.lab.folder.path().join("log"));
        let named = format!("pid {}, since ", node.watchdog.id());
        assert!(log.contains(&named), "{named:?} is missing in {log}");
    })
    .await;
    assert_eq!(told.cuts, 0, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_install_is_named_and_gives_out_other_addresses() {
    let node = Node::new().await;
    let first = node.acquire().await;
    let mut second = watchdog_in("other", &node.lab, node.port, &[]);
    let socket = node.lab.folder.path().join("other/watchdog.sock");
    let mut client = TunnelsClient::new(channel(&socket).unwrap());
    let named = async {
        loop {
            let list = client.list(wire::ListRequest::default()).await;
            match list.map(tonic::Response::into_inner) {
                Ok(list) if !list.notices.is_empty() && list.process == "running" => {
                    return list.notices;
                }
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let notices = timeout(DEADLINE, named).await.expect("the first one is named");
    // Another test may have the name at the moment: it is one for the whole network namespace.
    assert!(
        notices[0].starts_with("another watchdog runs in this network namespace (pid "),
        "{notices:?}"
    );
    let other = acquire_at(&mut client, node.nas.port).await;
    assert_ne!(first.ip(), other.ip());
    second.kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_nobody_uses_gives_its_address_back() {
    let node = Node::new().await;
    node.acquire().await;
    release(&node).await;
}

/// Releases the tunnel, and waits until its address is free.
async fn release(node: &Node) {
    let address = node.acquire().await;
    let user = wire::ReleaseRequest { volume_id: "volume".into(), staging_path: "/staging".into() };
    node.client().release(user).await.unwrap();
    let free = async {
        while std::net::TcpListener::bind(address).is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, free).await.expect("nobody listens there any more");
}

async fn until_gone(process: u32) {
    let gone = async {
        while std::path::Path::new("/proc").join(process.to_string()).exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DRAINED, gone).await.expect("the former process ends");
}
