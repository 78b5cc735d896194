//! The chart's dashboard and alerts before a real Prometheus, which scrapes the driver at work.
//!
//! What is scraped: a watchdog with a tunnel that carries NFS NULL calls, a node plugin and a controller, which are
//! called all the time, each a process of its own. The kernel of this machine may have no NFS, so what it would count of mounts comes from a
//! second node plugin, in this process, that is shown a mount table and figures in memory. Grafana itself is not
//! asked: what is proven is that each expression is understood, finds data, and has the labels that its legend shows.
//!
//! LONG: three roles are set up.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alinas_csi::app::call_times::CallTimes;
use alinas_csi::app::metrics;
use alinas_csi::app::metrics::Scraped;
use alinas_csi::app::metrics::controller_family::CONTROLLER_FAMILIES;
use alinas_csi::app::metrics::family::FAMILIES;
use alinas_csi::app::metrics::family::Family;
use alinas_csi::app::metrics::family::Kind;
use alinas_csi::app::metrics::node_family::NODE_FAMILIES;
use alinas_csi::app::metrics::node_family::NodeScrape;
use alinas_csi::csi::Troubles;
use alinas_csi::host::mount_stats::MountStats;
use alinas_csi::host::mount_stats::NfsCounts;
use alinas_csi::host::mount_stats::OperationCounts;
use alinas_csi::host::mount_table;
use alinas_csi::host::mount_table::MountEntry;
use alinas_csi::host::mount_table::MountTable;
use alinas_csi::host::worker::ChildWorker;
use alinas_csi::nfs::engine::HostNetwork;
use alinas_csi::nfs::farewell::NetworkMountd;
use alinas_csi::node::Node;
use alinas_csi::node::PlainRecordFiles;
use alinas_csi::node::WatchdogTunnels;
use alinas_csi::proto::csi;
use alinas_csi::proto::csi::controller_client::ControllerClient;
use alinas_csi::proto::csi::node_client::NodeClient;
use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::acquire_response::Outcome;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use alinas_csi::tunnel::convert;
use e2e::api_server::ADMIN;
use e2e::api_server::ApiServer;
use e2e::cloud::KEY;
use e2e::cloud::file_system;
use e2e::csi_client::channel;
use e2e::driver::binary;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::openapi::Fault;
use e2e::openapi::Simulator;
use e2e::openapi::Timing;
use e2e::process::Process;
use e2e::process::run;
use e2e::prometheus::Endpoint;
use e2e::prometheus::Prometheus;
use e2e::prometheus::RATE_INTERVAL;
use e2e::prometheus::Sample;
use e2e::prometheus::lint;
use e2e::sidecar::claim;
use e2e::tls_lab::Lab;
use e2e::tls_lab::NAME;
use e2e::tls_lab::Stunnel;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::free_port;
use e2e::tls_lab::nfs;
use e2e::tls_lab::spec;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tonic::Response;

const DRIVER: &str = "alinas.csi.alibabacloud.com";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const FILE_SYSTEM: &str = "0123456789";
const SERVER: &str = "0123456789-abc12.cn-test.nas.aliyuncs.com";
const START: Duration = Duration::from_secs(60);
/// A new mount target is looked at within 20 seconds, and rates need two scrapes.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(200);

/// Two volumes with a superblock each, of which one is at a pod, and a mount that was cut.
const MOUNTINFO: &str = "\
50 20 0:50 / /k/plugins/kubernetes.io/csi/alinas.csi.alibabacloud.com/a/globalmount rw shared:7 - nfs nas.example.com:/a rw
51 20 0:50 / /k/pods/1/volumes/kubernetes.io~csi/pv-a/mount rw shared:7 - nfs nas.example.com:/a rw
52 20 0:51 / /k/plugins/kubernetes.io/csi/alinas.csi.alibabacloud.com/b/globalmount rw shared:8 - nfs4 nas.example.com:/b rw
53 20 0:52 / /k/plugins/kubernetes.io/csi/alinas.csi.alibabacloud.com/c/globalmount rw - nfs nas.example.com:/c rw
";

#[derive(Debug)]
struct Mounted;

impl MountTable for Mounted {
    fn read(&self) -> io::Result<Vec<MountEntry>> {
        mount_table::parse(MOUNTINFO)
    }
}

/// Grows with each look.
#[derive(Debug, Default)]
struct Growing(AtomicU64);

impl MountStats for Growing {
    fn read(&self, at: &HashSet<PathBuf>) -> io::Result<HashMap<PathBuf, NfsCounts>> {
        let looks = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let operation = OperationCounts {
            calls: 10 * looks,
            retransmissions: looks,
            timeouts: looks,
            round_trips: Duration::from_millis(40 * looks),
        };
        let operations = [operation; 6];
        let counts = NfsCounts { bytes_read: 7 * looks, bytes_written: 9 * looks, operations };
        Ok(at.iter().map(|place| (place.clone(), counts.clone())).collect())
    }
}

/// Everything that is scraped, and who scrapes it.
struct Scene {
    prometheus: Prometheus,
    endpoints: Vec<Endpoint>,
    // What ends when dropped.
    _processes: [Process; 3],
    _simulator: Simulator,
    _cluster: ApiServer,
    _server: Stunnel,
    lab: Lab,
}

impl Scene {
    async fn start() -> Result<Self> {
        let lab = Lab::new();
        let (watchdog, watched, server) = watchdog(&lab).await?;
        let (node, plugin) = node_plugin(lab.folder.path())?;
        let mounted = serve_metrics(Arc::new(node_with_mounts(lab.folder.path()))).await?;
        let cluster = ApiServer::start_stand_in().await?;
        let simulator = simulator().await?;
        for (name, attributes) in [
            (
                "pv-a",
                json!({
                    "server": "127.0.0.1", "tlsPort": server.port.to_string(), "tlsServerName": NAME,
                }),
            ),
            // Without TLS, so that nobody looks for this name.
            ("pv-b", json!({"server": SERVER, "path": "/pv-b", "mountProtocol": "nfs"})),
        ] {
            let volume = json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"},
                    "csi": {"driver": DRIVER, "volumeHandle": name, "volumeAttributes": attributes},
                },
            });
            cluster.create("/api/v1/persistentvolumes", &volume).await?;
        }
        let (controller, served) = controller(&lab, &cluster, &simulator)?;
        let on_the_node = Some("node-1");
        let endpoints = vec![
            Endpoint { job: "watchdog", address: watched, node: on_the_node },
            Endpoint { job: "node", address: plugin, node: on_the_node },
            Endpoint { job: "mounts", address: mounted, node: on_the_node },
            Endpoint { job: "controller", address: served, node: None },
        ];
        let prometheus =
            tokio::task::block_in_place(|| Prometheus::start(lab.folder.path(), &endpoints))?;
        Ok(Self {
            prometheus,
            endpoints,
            _processes: [watchdog, node, controller],
            _simulator: simulator,
            _cluster: cluster,
            _server: server,
            lab,
        })
    }

    /// Asks until each question has found something.
    async fn ask_all(&self, questions: Vec<Question>) -> Result<()> {
        let (by, mut open) = (Instant::now() + PATIENCE, questions);
        while !open.is_empty() {
            let mut without = Vec::new();
            for question in open {
                if !self.finds(&question).await? {
                    without.push(question);
                }
            }
            open = without;
            let left: Vec<_> = open.iter().map(Question::to_string).collect();
            ensure(Instant::now() < by, format!("nothing was found for\n{}", left.join("\n")))?;
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn finds(&self, question: &Question) -> Result<bool> {
        let found = self.prometheus.ask(&question.expression).await;
        let found: Vec<Sample> = found.during(question.to_string())?;
        let Some(best) = found.iter().filter(|sample| sample.value.is_finite()).max_by(by_value)
        else {
            return Ok(false);
        };
        println!("{question}: {} series, at most {} of {:?}", found.len(), best.value, best.labels);
        for sample in &found {
            let missing = question.legend.iter().find(|label| !sample.labels.contains_key(*label));
            let words =
                || format!("{question}: the legend shows {missing:?}, found {:?}", sample.labels);
            ensure(missing.is_none(), words())?;
        }
        Ok(true)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The tunnel process has a group of its own.
        self.lab.clear();
    }
}

fn by_value(one: &&Sample, other: &&Sample) -> std::cmp::Ordering {
    one.value.total_cmp(&other.value)
}

/// A watchdog and its tunnel, which has failed to reach its server once. It is used for a moment again and again.
async fn watchdog(lab: &Lab) -> Result<(Process, SocketAddr, Stunnel)> {
    let asks = format!("{TLS_1_3}requireCert = yes\nverifyChain = no\n");
    let backend = nfs().await;
    let server = lab.server(&asks, backend);
    let (port, metrics) = (server.port, free_address()?);
    let mut command = Command::new(binary()?);
    command.arg("watchdog").arg("--state-dir").arg(lab.folder.path().join("state"));
    command.arg("--ca-file").arg(&lab.ca_file).arg("--dangerous-admit-any");
    command.args(["--proxy-port", &free_port().to_string()]);
    command.args(["--metrics-listen", &metrics.to_string()]);
    let process = Process::start("watchdog", &mut command, &lab.folder.path().join("log"))?;
    let tunnel = timeout(START, acquire(lab, port)).await.during("no tunnel")??;
    drop(server);
    let mut waiting = TcpStream::connect(tunnel).await?;
    waiting.write_all(&[0]).await?;
    let failed = async {
        while !scrape(metrics).await?.contains("alinas_csi_tunnel_dial_failures_total{") {
            sleep(PAUSE).await;
        }
        Ok::<_, Failure>(())
    };
    timeout(START, failed).await.during("no dial has failed")??;
    drop(waiting);
    let server = lab.server_at(port, &asks, backend);
    tokio::spawn(async move {
        loop {
            // How it ends is counted by the tunnel.
            drop(null_call(tunnel).await);
            sleep(PAUSE).await;
        }
    });
    Ok((process, metrics, server))
}

/// Asks the watchdog for a tunnel until it is there to be asked.
async fn acquire(lab: &Lab, port: u16) -> Result<SocketAddrV4> {
    let socket = lab.folder.path().join("state/watchdog.sock");
    let user = wire::TunnelUser {
        volume_id: "pv-a".to_owned(),
        staging_path: "/stage/pv-a".to_owned(),
        ..wire::TunnelUser::default()
    };
    let spec = Some(convert::spec_to_wire(&spec(port)));
    let request = wire::AcquireRequest { spec, user: Some(user) };
    loop {
        let mut client = TunnelsClient::new(channel(&socket)?);
        let outcome = client.acquire(request.clone()).await.ok().map(Response::into_inner);
        if let Some(Outcome::Acquired(acquired)) = outcome.and_then(|answer| answer.outcome) {
            return convert::endpoint_from_wire(acquired.endpoint).during("no address");
        }
        sleep(PAUSE).await;
    }
}

/// One NFS NULL call and its answer, over a connection of its own.
async fn null_call(address: SocketAddrV4) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let mut null = vec![0x80, 0, 0, 40];
    null.resize(44, 0);
    stream.write_all(&null).await?;
    stream.read_exact(&mut [0; 28]).await.map(drop)
}

/// The text of an endpoint.
async fn scrape(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let text = answer.split_once("\r\n\r\n").map(|(_, text)| text.to_owned());
    text.ok_or_else(|| Failure::new(format!("no answer of HTTP: {answer:?}")))
}

/// Serves somebody's metrics at any port, and says where.
async fn serve_metrics(scraped: Arc<dyn Scraped>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(metrics::serve(listener, scraped));
    Ok(address)
}

/// A node plugin without a watchdog, which is asked for volumes that it cannot have: with TLS, and with the kernel's own, for
/// which tlshd does not run.
fn node_plugin(folder: &Path) -> Result<(Process, SocketAddr)> {
    let (socket, address) = (folder.join("csi.sock"), free_address()?);
    let mut command = Command::new(binary()?);
    command.args(["node", "--node-id", "node-1", "--csi-endpoint", &at(&socket)]);
    command.args(["--metrics-listen", &address.to_string(), "--state-dir"]);
    command.arg(folder.join("none"));
    let mut process = Process::start("node plugin", &mut command, &folder.join("node.log"))?;
    process
        .wait_until("the CSI socket is served", START, || UnixStream::connect(&socket).is_ok())?;
    let staging = folder.join("stage");
    fs::create_dir(&staging)?;
    let mut client = NodeClient::new(channel(&socket)?);
    let request = |context: &[(&str, &str)]| csi::NodeStageVolumeRequest {
        volume_id: "pv-a".to_owned(),
        staging_target_path: staging.display().to_string(),
        volume_capability: claim("", &[]).volume_capabilities.pop(),
        volume_context: claim("", context).parameters,
        ..csi::NodeStageVolumeRequest::default()
    };
    let plain =
        [("server", "127.0.0.1"), ("mountProtocol", "nfs"), ("options", "vers=4.2,xprtsec=tls")];
    let requests = [request(&[("server", "nas.example.com")]), request(&plain)];
    tokio::spawn(async move {
        loop {
            for request in requests.clone() {
                let refused = client.node_stage_volume(request).await;
                assert!(refused.is_err(), "a volume was staged");
            }
            sleep(PAUSE).await;
        }
    });
    Ok((process, address))
}

fn node_with_mounts(folder: &Path) -> NodeScrape {
    let node = Node::new(
        Arc::new(Mounted),
        Arc::new(ChildWorker::default()),
        Arc::new(WatchdogTunnels::at(folder.join("none.sock"))),
        Arc::new(HostNetwork),
        Arc::new(PlainRecordFiles::below(folder)),
        Arc::new(NetworkMountd),
    );
    let (stats, calls) = (Arc::new(Growing::default()), CallTimes::default());
    let troubles = Troubles::default();
    NodeScrape { node, stats, driver: DRIVER.to_owned(), calls, troubles }
}

/// An account with a file system, of which a directory has a quota, where one call comes too often.
async fn simulator() -> Result<Simulator> {
    let simulator = Simulator::start(Timing::default()).await?;
    simulator.add_user(KEY.0, KEY.1);
    simulator.fail("CreateFileSystem", 1, Fault::throttled());
    simulator.adopt(FILE_SYSTEM);
    let directory = simulator.root_of(FILE_SYSTEM).join("pv-b");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("data"), "words")?;
    simulator.limit(FILE_SYSTEM, "/pv-b", 1);
    Ok(simulator)
}

/// It makes a file system and removes it, again and again.
fn controller(
    lab: &Lab,
    cluster: &ApiServer,
    simulator: &Simulator,
) -> Result<(Process, SocketAddr)> {
    let folder = lab.folder.path();
    let (socket, address) = (folder.join("controller.sock"), free_address()?);
    let trust = folder.join("trust");
    fs::create_dir(&trust)?;
    fs::copy(&lab.ca_file, trust.join("lab.pem"))?;
    fs::copy(&simulator.ca_file, trust.join("api.pem"))?;
    let mut command = Command::new(binary()?);
    command.args(["controller", "--csi-endpoint", &at(&socket), "--events"]);
    command.args(["--watch-mount-targets", "--metrics-listen", &address.to_string()]);
    command.args(["--nas-region", "cn-test", "--nas-endpoint", &simulator.endpoint]);
    command.arg("--ca-file").arg(trust);
    command.arg("--kubernetes-credentials").arg(cluster.credentials(ADMIN)?);
    command.envs(cluster.environment());
    command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY.0);
    command.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY.1);
    command.env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    let mut process = Process::start("controller", &mut command, &folder.join("controller.log"))?;
    process
        .wait_until("the CSI socket is served", START, || UnixStream::connect(&socket).is_ok())?;
    let mut client = ControllerClient::new(channel(&socket)?);
    tokio::spawn(async move {
        loop {
            // Refused or not: it is called.
            let made = client.create_volume(file_system("pvc-1", &[])).await;
            let volume = made.ok().and_then(|made| made.into_inner().volume);
            let volume_id = volume.map(|volume| volume.volume_id).unwrap_or_default();
            let request = csi::DeleteVolumeRequest { volume_id, ..Default::default() };
            drop(client.delete_volume(request).await);
            sleep(PAUSE).await;
        }
    });
    Ok((process, address))
}

fn at(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// An address that nobody listens at now.
fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// What is asked of Prometheus.
struct Question {
    about: String,
    expression: String,
    /// Labels that each answer must have.
    legend: Vec<String>,
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.about, self.expression)
    }
}

/// What the chart makes with everything switched on.
fn rendered() -> Result<Vec<Value>> {
    let helm = run(START, &format!("{ROOT}/e2e/tools/helm"), &[])?;
    let chart = format!("{ROOT}/charts/alinas-csi");
    let values = format!("{chart}/cases/everything-set.yaml");
    let arguments = ["template", "alinas-csi", &chart, "--values", &values, "--show-only"];
    let arguments = [&arguments[..], &["templates/monitoring.yaml"]].concat();
    let manifests = run(START, helm.trim(), &arguments)?;
    serde_saphyr::from_multiple(&manifests).during("no YAML")
}

fn of_kind<'a>(manifests: &'a [Value], kind: &str) -> Result<&'a Value> {
    let found = manifests.iter().find(|manifest| manifest["kind"] == kind);
    found.ok_or_else(|| Failure::new(format!("the chart has no {kind}")))
}

fn dashboard(manifests: &[Value]) -> Result<Value> {
    let text = of_kind(manifests, "ConfigMap")?["data"]["alinas-csi.json"].as_str();
    Ok(serde_json::from_str(text.unwrap_or_default())?)
}

/// Each expression of each panel, with what Grafana would put for its variables.
fn of_panels(dashboard: &Value, node: &str) -> Vec<Question> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let questions = panels.flat_map(|panel| {
        let about = format!("panel {}", panel["title"]);
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| {
            let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
            let filled =
                text("expr").replace("$node", node).replace("$__rate_interval", RATE_INTERVAL);
            let legend = text("legendFormat");
            let labels = legend.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
            let legend = labels.map(|(label, _)| label.to_owned()).collect();
            Question { about: about.clone(), expression: measured(&filled).to_owned(), legend }
        })
    });
    questions.collect()
}

/// What each alert of the chart compares. All is well here, so the alert itself must find nothing.
fn of_alerts(manifests: &[Value]) -> Result<Vec<Question>> {
    let groups = of_kind(manifests, "PrometheusRule")?["spec"]["groups"].as_array();
    let rules =
        groups.into_iter().flatten().filter_map(|group| group["rules"].as_array()).flatten();
    let question = |rule: &Value| Question {
        about: format!("alert {}", rule["alert"]),
        expression: measured(rule["expr"].as_str().unwrap_or_default()).to_owned(),
        legend: of_words(&rule["annotations"]),
    };
    Ok(rules.map(question).collect())
}

/// The labels that the words of an alert show.
fn of_words(annotations: &Value) -> Vec<String> {
    let words = annotations.to_string();
    let labels = words.split("$labels.").skip(1);
    labels.filter_map(|part| Some(part.split_once(' ')?.0.to_owned())).collect()
}

/// What docs/metrics.md calls worth an alert.
fn of_the_document() -> Vec<Question> {
    let page = include_str!("../../docs/metrics.md");
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    let question = |line: &str| {
        let expression = line.split('#').next().unwrap_or_default().trim();
        let expression = measured(expression).to_owned();
        Question { about: "docs/metrics.md".to_owned(), expression, legend: Vec::new() }
    };
    lines.map(question).collect()
}

/// An expression without the number that it is compared with at its end, if it is.
fn measured(expression: &str) -> &str {
    let is_number =
        |text: &str| text.chars().all(|char| char.is_ascii_digit() || " *.".contains(char));
    let compared =
        [" == ", " > ", " < "].into_iter().filter_map(|word| expression.rsplit_once(word));
    compared
        .filter(|(_, right)| is_number(right))
        .map(|(left, _)| left)
        .next()
        .unwrap_or(expression)
}

fn of_families<R>(families: &[Family<R>]) -> Vec<Question> {
    let question = |family: &Family<R>| {
        let more = if family.kind == Kind::Histogram { "_count" } else { "" };
        let expression = format!("{}{more}", family.name);
        let legend = family.labels.iter().map(|label| (*label).to_owned()).collect();
        Question { about: "a metric".to_owned(), expression, legend }
    };
    families.iter().map(question).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_panel_and_alert_finds_what_the_driver_says_and_promtool_has_no_fault_to_find()
-> Result<()> {
    let scene = Scene::start().await?;
    let manifests = rendered()?;
    let mut questions = of_families(&FAMILIES);
    questions.extend(of_families(&NODE_FAMILIES));
    questions.extend(of_families(&CONTROLLER_FAMILIES));
    let dashboard = dashboard(&manifests)?;
    let panels = of_panels(&dashboard, "(node-1)");
    let of_all = [of_alerts(&manifests)?, of_the_document()];
    ensure(
        panels.len() > 20 && of_all.iter().all(|all| all.len() > 10),
        "questions were not read",
    )?;
    let unfilled = panels.iter().find(|panel| panel.expression.contains('$'));
    ensure(unfilled.is_none(), "a variable that nobody fills in")?;
    questions.extend(panels.into_iter().chain(of_all.into_iter().flatten()));
    scene.ask_all(questions).await?;

    // Counted before Prometheus had looked for the first time, and not since then.
    let dials = of_panels(&dashboard, "node-1");
    let dials = dials.iter().find(|panel| panel.about.contains("Failed dials"));
    let dials = dials.map(|panel| format!("max_over_time(({})[5m:1s])", panel.expression));
    let dials = scene.prometheus.ask(&dials.unwrap_or_default()).await?;
    let is_shown = dials.iter().any(|one| one.value >= 1.0);
    ensure(is_shown, format!("the failed dial is not shown: {dials:?}"))?;

    let variable =
        dashboard["templating"]["list"][1]["query"]["query"].as_str().unwrap_or_default();
    let names = variable.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    let names = names.and_then(|names| names.split_once(", "));
    let (metric, label) = names.ok_or_else(|| Failure::new(variable))?;
    let nodes = scene.prometheus.values(metric, label).await?;
    ensure(nodes == ["node-1"], format!("the variable has {nodes:?}"))?;

    let served: BTreeSet<_> = scene.endpoints.iter().map(|one| (one.job, one.address)).collect();
    for (job, address) in served {
        let text = scrape(address).await?;
        let found = tokio::task::block_in_place(|| lint(scene.lab.folder.path(), &text))?;
        ensure(found.is_empty(), format!("promtool check metrics, {job}:\n{found}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_an_expression_is_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scraped = serve_metrics(Arc::new(node_with_mounts(folder.path()))).await?;
    let endpoint = Endpoint { job: "mounts", address: scraped, node: None };
    let prometheus = tokio::task::block_in_place(|| Prometheus::start(folder.path(), &[endpoint]))?;
    let refused = prometheus.ask("sum by (target (alinas_csi_node_mounts)").await;
    ensure(
        refused.is_err_and(|said| said.to_string().contains("parse error")),
        "it was understood",
    )?;
    let found = lint(folder.path(), "# TYPE a_milliseconds gauge\na_milliseconds 1\n")?;
    ensure(found.contains("no help text"), found)
}
