//! What an operator sees of a tunnel: a scrape of its metrics, `alinas-csi status`, and `kubectl alinas` by way of a kubectl
//! that is none.
//!
//! The tunnel process and its watchdog are the driver's own, in this process, so that a test may connect where
//! only the kernel may; the server is stunnel.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use alinas_csi::app::metrics;
use alinas_csi::app::metrics::Scraped;
use alinas_csi::app::metrics::family::FAMILIES;
use alinas_csi::app::metrics::family::Kind;
use alinas_csi::host::mount_table::ProcMountTable;
use alinas_csi::host::neighbours::NodeNeighbours;
use alinas_csi::host::nfs_clients::KernelNfsClients;
use alinas_csi::host::state_dir::StateDir;
use alinas_csi::runtime::LogSwitch;
use alinas_csi::tunnel::TunnelProcess;
use alinas_csi::tunnel::door::Door;
use alinas_csi::tunnel::service::RelayService;
use alinas_csi::watchdog::address::KernelView;
use alinas_csi::watchdog::driver::Life;
use alinas_csi::watchdog::record::RecordStore;
use alinas_csi::watchdog::record::User;
use alinas_csi::watchdog::relay::GrpcRelay;
use alinas_csi::watchdog::service;
use alinas_csi::watchdog::sockets::Bind;
use alinas_csi::watchdog::sockets::Sockets;
use alinas_csi::watchdog::tunnels::LocalPort;
use alinas_csi::watchdog::tunnels::TunnelSettings;
use alinas_csi::watchdog::tunnels::Tunnels;
use e2e::driver::binary;
use e2e::tls_lab::ANY_PORT;
use e2e::tls_lab::DEADLINE;
use e2e::tls_lab::Lab;
use e2e::tls_lab::STATIC_RSA;
use e2e::tls_lab::Stunnel;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::free_port;
use e2e::tls_lab::nfs;
use e2e::tls_lab::spec;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A watchdog with one tunnel that leads to a server.
struct Node {
    metrics: SocketAddr,
    tunnel: SocketAddrV4,
    process: Arc<TunnelProcess>,
    life: watch::Sender<Life>,
}

impl Node {
    async fn with_tunnel_to(lab: &Lab, server: &Stunnel) -> Self {
        let process = lab.process();
        let relay = serve_relay(&process, &lab.folder.path().join("tunnel.sock"));
        let (life, shown) = watch::channel(Life { relay: Some(relay), ..Life::default() });
        let tunnels = load(lab.folder.path(), shown);
        let user = User {
            volume_id: "pv-1".to_owned(),
            staging_path: "/stage/pv-1".to_owned(),
            source: "nas.example.com:/".to_owned(),
            options: "vers=3".to_owned(),
        };
        let acquired = tunnels.acquire(spec(server.port), user).await.unwrap();

        let scraped = TcpListener::bind(ANY_PORT).await.unwrap();
        let metrics = scraped.local_addr().unwrap();
        let seen: Arc<dyn Scraped> = Arc::<Tunnels>::clone(&tunnels);
        tokio::spawn(metrics::serve(scraped, seen));
        let socket = service::listen(&lab.folder.path().join("watchdog.sock")).unwrap();
        let log = LogSwitch::fixed("watchdog");
        tokio::spawn(service::serve(socket, tunnels, log, CancellationToken::new()));
        Self { metrics, tunnel: acquired.endpoint, process, life }
    }

    async fn scrape(&self) -> String {
        let answer = request(self.metrics, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"));
        answer
    }
}

fn serve_relay(process: &Arc<TunnelProcess>, socket: &Path) -> Arc<GrpcRelay> {
    let (relay, _) = RelayService::new(Arc::clone(process));
    let log = LogSwitch::fixed("tunnel");
    tokio::spawn(relay.serve(Door::open(socket, None).unwrap(), log));
    Arc::new(GrpcRelay::new(socket, None).unwrap())
}

/// No socket travels inside of one process.
#[derive(Debug)]
struct LeftToTheTunnel;

impl Bind for LeftToTheTunnel {
    fn bind(&self, _: SocketAddrV4) -> io::Result<std::net::TcpListener> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn load(folder: &Path, life: watch::Receiver<Life>) -> Arc<Tunnels> {
    let port = u16::try_from(free_port()).unwrap();
    let port = LocalPort::fixed(port);
    let settings = TunnelSettings { port, unmount_grace: Duration::from_secs(30) };
    let records = RecordStore::new(StateDir::open(folder.join("tunnels")).unwrap());
    let clients = Arc::new(KernelNfsClients::default());
    let neighbours = Arc::new(NodeNeighbours::default());
    let kernel = KernelView { clients, mounts: Arc::new(ProcMountTable), neighbours };
    let sockets = Sockets::new(LeftToTheTunnel);
    Arc::new(Tunnels::load(settings, records, kernel, sockets, life).unwrap())
}

async fn request(address: SocketAddr, line: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{line} HTTP/1.1\r\nhost: node\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(DEADLINE, exchange).await.unwrap()
}

/// One NFS NULL call and its answer.
async fn call(address: SocketAddrV4) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut null = vec![0x80, 0, 0, 40];
    null.resize(44, 0);
    stream.write_all(&null).await.unwrap();
    timeout(DEADLINE, stream.read_exact(&mut [0; 28])).await.unwrap().unwrap();
    stream
}

async fn status(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(binary().unwrap());
    command.arg("status").arg("--state-dir").arg(folder).args(more);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn shown(folder: &Path, more: &[&str]) -> String {
    let output = status(folder, more).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_table_is_in_a_scrape_of_a_tunnel_with_a_connection() {
    let lab = Lab::new();
    let asks = format!("{TLS_1_3}requireCert = yes\nverifyChain = no\n");
    let backend = nfs().await;
    let server = lab.server(&asks, backend);
    let port = server.port;
    let node = Node::with_tunnel_to(&lab, &server).await;

    // A failure to reach it, so that there is one to count.
    drop(server);
    let mut waiting = TcpStream::connect(node.tunnel).await.unwrap();
    waiting.write_all(&[0]).await.unwrap();
    let failed = async {
        while node.process.status()[0].dial_failures.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, failed).await.unwrap();
    drop(waiting);
    let _server = lab.server_at(port, &asks, backend);
    let _open = call(node.tunnel).await;
    // Whoever hung up while it waited is let go with the next attempt.
    let alone = async {
        while node.process.status()[0].connections_open != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, alone).await.unwrap();

    let scraped = node.scrape().await;
    for family in &FAMILIES {
        let more = if family.kind == Kind::Histogram { "_count" } else { "" };
        let series = |line: &str| {
            let rest = line.strip_prefix(family.name).and_then(|rest| rest.strip_prefix(more));
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        assert!(scraped.lines().any(series), "{} is missing in {scraped}", family.name);
    }
    let tunnel = format!("target=\"127.0.0.1\",address=\"{}\"", node.tunnel.ip());
    for line in [
        "alinas_csi_tunnel_up 1".to_owned(),
        "alinas_csi_tunnels{state=\"reachable\"} 1".to_owned(),
        format!("alinas_csi_tunnel_open_connections{{{tunnel}}} 1"),
        format!("alinas_csi_tunnel_handshake_duration_seconds_count{{{tunnel}}} 1"),
        format!("alinas_csi_tunnel_address_changes_total{{{tunnel}}} 0"),
        format!("alinas_csi_tunnel_bytes_total{{{tunnel},direction=\"to_server\"}} 44"),
        format!("alinas_csi_tunnel_session_weak{{{tunnel},reason=\"static-rsa\"}} 0"),
    ] {
        assert!(scraped.lines().any(|one| one == line), "{line} is missing in {scraped}");
    }
    assert!(
        scraped.contains("version=\"TLSv1.3\",cipher=\"TLS13_AES_128_GCM_SHA256\""),
        "{scraped}"
    );
    assert!(scraped.contains("kind=\"connection-refused\"} "), "{scraped}");
    assert!(!scraped.contains("pv-1"), "a volume is in a label: {scraped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_says_that_the_tunnel_is_down_and_anything_else_is_refused() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, nfs().await);
    let node = Node::with_tunnel_to(&lab, &server).await;
    node.life.send_modify(|life| life.relay = None);
    let scraped = node.scrape().await;
    assert!(scraped.contains("\nalinas_csi_tunnel_up 0\n"), "{scraped}");
    assert!(scraped.contains("\nalinas_csi_tunnels{state=\"unknown\"} 1\n"), "{scraped}");
    assert!(request(node.metrics, "GET /").await.starts_with("HTTP/1.1 404"));
    assert!(request(node.metrics, "POST /metrics").await.starts_with("HTTP/1.1 405"));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_a_weak_session_in_a_column_and_in_words() {
    let lab = Lab::new();
    let certificate = lab.rsa_certificate(|_| {});
    let server = lab.server_on(ANY_PORT, &certificate, STATIC_RSA, nfs().await);
    let node = Node::with_tunnel_to(&lab, &server).await;
    let _open = call(node.tunnel).await;
    let folder = lab.folder.path();

    let table = shown(folder, &[]).await;
    let row = table.lines().find(|line| line.starts_with("pv-1 ")).unwrap();
    for word in
        ["reachable", "TLSv1.2", "static RSA", "openssl", "static-rsa,openssl-fallback", "44B"]
    {
        assert!(row.contains(word), "{word} is missing in {row}");
    }
    assert!(table.contains(&format!("\n{}: WEAKER: static RSA", node.tunnel)), "{table}");

    let json = shown(folder, &["-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let tunnel = &json["tunnels"][0];
    assert_eq!(tunnel["session"]["cipherSuite"], "TLS_RSA_WITH_AES_256_GCM_SHA384");
    assert_eq!(tunnel["remoteAddress"], format!("127.0.0.1:{}", server.port));
    assert_eq!(tunnel["volumes"][0]["id"], "pv-1");
    assert!(tunnel["session"]["certificate"]["daysLeft"].as_i64().unwrap() > 10_000, "{json}");
    let yaml = shown(folder, &["-o", "yaml"]).await;
    assert!(yaml.contains("keyExchange: static RSA\n"), "{yaml}");
}

/// A link by which the program is the plugin, and a kubectl that knows two nodes: this machine, and one that never
/// answers.
fn plugin_in(folder: &Path) {
    let pod = |node: &str| {
        serde_json::json!({
            "metadata": {"namespace": "kube-system", "name": format!("alinas-csi-{node}")},
            "spec": {"nodeName": node},
            "status": {"phase": "Running"},
        })
    };
    let pods = serde_json::json!({"items": [pod("node-a"), pod("node-b")]});
    fs::write(folder.join("pods.json"), pods.to_string()).unwrap();
    let (binary, here) = (binary().unwrap(), folder.display());
    let script = format!(
        "#!/bin/sh\n\
         case \"$*\" in\n\
         'get pods '*) exec cat {here}/pods.json ;;\n\
         'get persistentvolumes '*)\n\
         \x20   printf 'alinas.csi.alibabacloud.com\\tpv-1\\tpvc-0a1b\\tdefault/data\\n' ;;\n\
         *' alinas-csi-node-b '*) exec sleep 600 ;;\n\
         'exec '*)\n\
         \x20   while [ \"$1\" != -- ]; do shift; done\n\
         \x20   shift 2\n\
         \x20   exec {} \"$@\" --state-dir {here} ;;\n\
         *) echo \"no such call: $*\" >&2; exit 1 ;;\n\
         esac\n",
        binary.display()
    );
    fs::write(folder.join("kubectl"), script).unwrap();
    fs::set_permissions(folder.join("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(binary, folder.join("kubectl-alinas")).unwrap();
}

async fn plugin(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(folder.join("kubectl-alinas"));
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    command.args(words).env("PATH", path).env_remove("ALINAS_CSI_KUBECTL");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_alinas_shows_all_nodes_also_where_one_does_not_answer() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, nfs().await);
    let node = Node::with_tunnel_to(&lab, &server).await;
    let _open = call(node.tunnel).await;
    let folder = lab.folder.path();
    plugin_in(folder);

    let output = plugin(folder, &["status", "--timeout", "2", "--context", "here"]).await;
    let table = String::from_utf8(output.stdout).unwrap();
    println!("{table}");
    assert_eq!(output.status.code(), Some(1), "{table}");
    let row = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(table.starts_with("1 of 2 nodes answered; 1 volume\n"), "{table}");
    assert!(row("node-a  pv-1    default/data  127.0.0.1 ").contains(" TLSv1.3 "), "{table}");
    assert!(row("node-b  -").ends_with("no answer within 2 s"), "{table}");

    let words = ["status", "-o", "json", "--rate", "--claim", "data", "--node", "node-a"];
    let output = plugin(folder, &words).await;
    assert!(output.status.success(), "{output:?}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let tunnel = &said["nodes"][0]["status"]["tunnels"][0];
    assert_eq!(tunnel["volumes"][0]["persistentVolume"], "pvc-0a1b");
    assert_eq!(tunnel["throughput"]["toServerPerSecond"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_alinas_fetches_the_support_archive_of_a_node() {
    let folder = tempfile::tempdir().unwrap();
    plugin_in(folder.path());
    let file = folder.path().join("bundle.tar");
    let bundle = file.display().to_string();
    let words = ["doctor", "--node", "node-a", "--bundle", &bundle];
    let output = plugin(folder.path(), &words).await;
    let (said, remark) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    let said = String::from_utf8(said).unwrap();
    // It ends as doctor does; what is wrong with this machine is its own affair.
    let is_failed = said.lines().any(|line| line.starts_with("failed"));
    assert_eq!(output.status.code(), Some(i32::from(is_failed)), "{said}{remark}");
    assert!(
        said.contains("failed to ask the watchdog") && remark.contains("wrote "),
        "{said}{remark}"
    );
    let archive = fs::read(&file).unwrap();
    assert!(archive.starts_with(b"alinas-csi-bundle/about.json"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let output = plugin(folder.path(), &["doctor", "--node", "node-a", "-o", "json"]).await;
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"findings\": ["));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_without_a_watchdog_fails_and_says_where_it_has_looked() {
    let folder = tempfile::tempdir().unwrap();
    let output = status(folder.path(), &[]).await;
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("alinas-csi: failed to ask the watchdog at "), "{said}");
    assert!(said.trim_end().ends_with("is it running on this node?"), "{said}");
}
