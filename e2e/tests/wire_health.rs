//! The real watchdog and its tunnel process in front of a server that answers everybody, nobody, or everybody but one
//! process: what is down is said to be down, what is broken is repaired, and what flows is not asked.
//!
//! The server is stunnel; before it stands a gate that the test opens and closes.

use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::acquire_response::Outcome;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use alinas_csi::tunnel::convert;
use e2e::csi_client::channel;
use e2e::driver::binary;
use e2e::process::Process;
use e2e::tls_lab;
use e2e::tls_lab::ANY_PORT;
use e2e::tls_lab::Lab;
use e2e::tls_lab::Stunnel;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::free_port;
use e2e::tls_lab::spec;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;
use tonic::transport::Channel;

/// For what is found by calls some seconds apart, several of them, on a busy machine.
const FOUND: Duration = Duration::from_secs(90);

/// Whom the gate lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lets {
    Everybody,
    Nobody,
    EverybodyBut { process: u32 },
}

/// A node with one tunnel to a server behind a gate.
struct Node {
    watchdog: Process,
    lab: Lab,
    lets: Arc<Mutex<Lets>>,
    dialled: Arc<Mutex<u32>>,
    gate: u16,
    _nas: Stunnel,
}

impl Node {
    async fn new() -> Self {
        let lab = Lab::new();
        let nas = lab.server(TLS_1_3, tls_lab::nfs().await);
        let (lets, dialled) = (Arc::new(Mutex::new(Lets::Everybody)), Arc::default());
        let gate = gate(nas.port, Arc::clone(&lets), Arc::clone(&dialled)).await;
        let mut command = Command::new(binary().unwrap());
        command.arg("watchdog").arg("--state-dir").arg(lab.folder.path().join("state"));
        command.arg("--ca-file").arg(&lab.ca_file).arg("--dangerous-admit-any");
        command.args(["--proxy-port", &free_port().to_string()]);
        let log = lab.folder.path().join("log");
        let watchdog = Process::start("watchdog", &mut command, &log).unwrap();
        let node = Self { watchdog, lab, lets, dialled, gate, _nas: nas };
        node.until("a tunnel process runs", |list| list.process == "running").await;
        node
    }

    fn client(&self) -> TunnelsClient<Channel> {
        TunnelsClient::new(channel(&self.lab.folder.path().join("state/watchdog.sock")).unwrap())
    }

    async fn acquire(&self) -> SocketAddrV4 {
        let user = wire::TunnelUser {
            volume_id: "volume".into(),
            staging_path: "/staging".into(),
            ..wire::TunnelUser::default()
        };
        let spec = Some(convert::spec_to_wire(&spec(self.gate)));
        let request = wire::AcquireRequest { spec, user: Some(user) };
        let answer = self.client().acquire(request).await.unwrap().into_inner();
        let Some(Outcome::Acquired(acquired)) = answer.outcome else { panic!("{answer:?}") };
        convert::endpoint_from_wire(acquired.endpoint).unwrap()
    }

    async fn until(
        &self,
        what: &str,
        condition: impl Fn(&wire::ListResponse) -> bool,
    ) -> wire::ListResponse {
        let met = async {
            loop {
                let list = self.client().list(wire::ListRequest::default()).await;
                match list.map(tonic::Response::into_inner) {
                    Ok(list) if condition(&list) => return list,
                    _ => sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(FOUND, met).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
    }

    fn lets(&self, whom: Lets) {
        *self.lets.lock().unwrap() = whom;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        self.lab.clear();
    }
}

/// Counts who comes, and closes the door at once on whom it does not let through.
async fn gate(behind: u16, lets: Arc<Mutex<Lets>>, dialled: Arc<Mutex<u32>>) -> u16 {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut outer, peer)) = listener.accept().await {
            *dialled.lock().unwrap() += 1;
            let lets = *lets.lock().unwrap();
            tokio::spawn(async move {
                let enters = match lets {
                    Lets::Everybody => true,
                    Lets::Nobody => false,
                    Lets::EverybodyBut { process } => !has_socket(process, peer),
                };
                if enters && let Ok(mut inner) = TcpStream::connect(("127.0.0.1", behind)).await {
                    let _ended = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                }
            });
        }
    });
    port
}

/// Whether a process has the socket that is bound there: by its inode, proc(5).
fn has_socket(process: u32, address: SocketAddr) -> bool {
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own_end =
        |line: &&str| line.split_whitespace().nth(1).is_some_and(|own| own.ends_with(&port));
    let inode = table.lines().find(own_end).and_then(|line| line.split_whitespace().nth(9));
    let Some(inode) = inode else { return false };
    let link = format!("socket:[{inode}]");
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten();
    descriptors.flatten().any(|descriptor| {
        std::fs::read_link(descriptor.path()).is_ok_and(|to| to.to_str() == Some(&link))
    })
}

fn health(list: &wire::ListResponse) -> &str {
    list.tunnels[0].health.as_ref().map_or("", |health| health.state.as_str())
}

fn repairs(list: &wire::ListResponse) -> Vec<(&str, u64)> {
    list.repairs.iter().map(|repairs| (repairs.repair.as_str(), repairs.count)).collect()
}

/// One NFS NULL call and its answer.
async fn call(stream: &mut TcpStream) {
    let mut null = vec![0x80, 0, 0, 40];
    null.resize(44, 0);
    stream.write_all(&null).await.unwrap();
    timeout(FOUND, stream.read_exact(&mut [0; 28])).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_said_to_be_and_nothing_is_repaired() {
    let node = Node::new().await;
    node.acquire().await;
    let before = node.until("its server has answered", |list| health(list) == "healthy").await;
    assert!(before.tunnels[0].health.as_ref().unwrap().round_trip_micros > 0);
    node.lets(Lets::Nobody);
    let down = node.until("it is known to be down", |list| health(list) == "server-down").await;
    let found = down.tunnels[0].health.as_ref().unwrap();
    assert!(found.why.contains("127.0.0.1"), "{found:?}");
    assert_eq!(repairs(&down), [("refresh", 0), ("replace", 0)]);
    node.lets(Lets::Everybody);
    let back = node.until("it is known to be back", |list| health(list) == "healthy").await;
    assert_eq!((back.process_id, back.restarts), (before.process_id, 0));
    assert_eq!(repairs(&back), [("refresh", 0), ("replace", 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_reach_a_server_that_answers_others_is_replaced() {
    let node = Node::new().await;
    node.acquire().await;
    let before = node.until("its server has answered", |list| health(list) == "healthy").await;
    node.lets(Lets::EverybodyBut { process: before.process_id });
    node.until("it is found to be broken", |list| health(list) == "broken").await;
    let repaired = node
        .until("another process serves", |list| {
            list.process_id != before.process_id && health(list) == "healthy"
        })
        .await;
    assert_eq!(repairs(&repaired), [("refresh", 2), ("replace", 1)]);
    assert_eq!(repaired.restarts, 0, "nothing has failed");
}

/// How many connections were open at once to a server that closes each after a while.
#[derive(Default)]
struct Crowd {
    now: u32,
    most: u32,
    all: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_connections_are_dialled_for_in_turns() {
    const EACH: usize = 60;
    let crowd = Arc::<Mutex<Crowd>>::default();
    let counted = Arc::clone(&crowd);
    let server = tls_lab::backend(move |stream: TcpStream| {
        let crowd = Arc::clone(&counted);
        async move {
            {
                let mut crowd = crowd.lock().unwrap();
                crowd.now += 1;
                crowd.all += 1;
                crowd.most = crowd.most.max(crowd.now);
            }
            sleep(Duration::from_millis(100)).await;
            crowd.lock().unwrap().now -= 1;
            drop(stream);
        }
    })
    .await;
    let lab = Lab::new();
    let process = lab.process();
    let mut kernel = Vec::new();
    for _ in 0..2 {
        let address = tls_lab::open(&process, &spec(server));
        for _ in 0..EACH {
            kernel.push(TcpStream::connect(address).await.unwrap());
        }
    }
    let everybody = async {
        while (crowd.lock().unwrap().all as usize) < 2 * EACH {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(FOUND, everybody).await.expect("everybody has a turn");
    let most = crowd.lock().unwrap().most;
    // 32, and a few more where this machine is slow.
    assert!((16..=80).contains(&most), "{most} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_carries_is_healthy_without_a_call() {
    let node = Node::new().await;
    let mut stream = TcpStream::connect(node.acquire().await).await.unwrap();
    call(&mut stream).await;
    let dialled = *node.dialled.lock().unwrap();
    // Longer than two looks at an idle tunnel are apart.
    for _ in 0..30 {
        call(&mut stream).await;
        sleep(Duration::from_millis(500)).await;
    }
    node.until("it is healthy", |list| health(list) == "healthy").await;
    // The first look has nothing to compare with.
    assert!(*node.dialled.lock().unwrap() <= dialled + 1, "it was asked though it carries");
}
