//! What the driver says to Kubernetes and asks it, by a real API server where one has been built: see e2e/src/api_server.rs.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alinas_csi::kubernetes::About;
use alinas_csi::kubernetes::Access;
use alinas_csi::kubernetes::Cluster;
use alinas_csi::kubernetes::KubernetesFault;
use alinas_csi::kubernetes::OwnNode;
use alinas_csi::kubernetes::Reason;
use alinas_csi::kubernetes::Report;
use alinas_csi::kubernetes::Reporter;
use alinas_csi::kubernetes::Volumes;
use alinas_csi::kubernetes::event::Source;
use alinas_csi::kubernetes::own_node::Untainted;
use alinas_csi::proto::csi;
use alinas_csi::proto::csi::node_client::NodeClient;
use alinas_csi::proto::csi::volume_capability::AccessMode;
use alinas_csi::proto::csi::volume_capability::AccessType;
use alinas_csi::proto::csi::volume_capability::MountVolume;
use alinas_csi::proto::csi::volume_capability::access_mode::Mode;
use alinas_csi::runtime::SystemClock;
use e2e::api_server::ApiServer;
use e2e::csi_client::channel;
use e2e::driver::binary;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::process::Process;
use e2e::process::run;
use serde_json::Value;
use serde_json::json;

const DRIVER: &str = "alinas.csi.alibabacloud.com";
const TAINT: &str = "alinas.csi.alibabacloud.com/agent-not-ready";
const PATIENCE: Duration = Duration::from_secs(60);

fn cluster(server: &ApiServer, who: &str) -> Result<Cluster> {
    let environment = server.environment();
    let look_up = |name: &str| {
        environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
    };
    let access = Access::look_up(look_up, &server.credentials(who)?);
    let access = access.ok_or_else(|| Failure::new("there is no access"))?;
    access.connect().during("failed to connect")
}

/// The rights of the chart with its defaults.
async fn grant(server: &ApiServer) -> Result<()> {
    grant_as(server, "alinas-csi", &[]).await
}

/// The roles that the chart renders for a release. Only the real server knows rights.
async fn grant_as(server: &ApiServer, release: &str, values: &[&str]) -> Result<()> {
    if !server.is_real {
        return Ok(());
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let helm = run(PATIENCE, &format!("{root}/e2e/tools/helm"), &[])?;
    let chart = format!("{root}/charts/alinas-csi");
    let mut arguments = vec!["template", release, chart.as_str(), "--namespace", "kube-system"];
    for template in ["templates/node-rbac.yaml", "templates/controller-rbac.yaml"] {
        arguments.extend(["--show-only", template]);
    }
    values.iter().for_each(|value| arguments.extend(["--set", *value]));
    let rendered = run(PATIENCE, helm.trim(), &arguments)?;
    for document in serde_saphyr::from_multiple::<Value>(&rendered).during("no YAML")? {
        let collection = match document["kind"].as_str() {
            Some("ClusterRole") => "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            Some("ClusterRoleBinding") => "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            _ => continue,
        };
        server.create(collection, &document).await?;
    }
    Ok(())
}

async fn make_node(server: &ApiServer, name: &str, is_registered: bool) -> Result<()> {
    let taint = |key: &str| json!({"key": key, "effect": "NoExecute"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "cn-hangzhou-b"}},
        "spec": {"taints": [taint(TAINT), taint("example.com/other")]},
    });
    server.create("/api/v1/nodes", &node).await?;
    let drivers = if is_registered { json!([{"name": DRIVER, "nodeID": name}]) } else { json!([]) };
    let csi_node = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
        "metadata": {"name": name}, "spec": {"drivers": drivers},
    });
    server.create("/apis/storage.k8s.io/v1/csinodes", &csi_node).await
}

async fn taints(server: &ApiServer, node: &str) -> Result<Vec<String>> {
    let node = server.read(&format!("/api/v1/nodes/{node}")).await?;
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    Ok(taints.iter().filter_map(|taint| Some(taint["key"].as_str()?.to_owned())).collect())
}

/// The events of a namespace as `reason kind name: message`.
async fn events(server: &ApiServer, namespace: &str) -> Result<Vec<String>> {
    let list = server.read(&format!("/api/v1/namespaces/{namespace}/events")).await?;
    let line = |event: &Value| {
        let text = |pointer: &str| {
            event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        format!(
            "{} {} {}: {}",
            text("/reason"),
            text("/involvedObject/kind"),
            text("/involvedObject/name"),
            text("/message")
        )
    };
    Ok(list["items"].as_array().into_iter().flatten().map(line).collect())
}

async fn wait_for_events(server: &ApiServer, namespace: &str, count: usize) -> Result<Vec<String>> {
    let by = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = events(server, namespace).await?;
        if found.len() >= count || tokio::time::Instant::now() > by {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn reporter(cluster: &Cluster, instance: &str) -> Reporter {
    let source = Source { component: DRIVER.to_owned(), instance: instance.to_owned() };
    let (reporter, speaking) =
        Reporter::to(Arc::new(cluster.clone()), source, Arc::new(SystemClock));
    tokio::spawn(speaking);
    reporter
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_there_once_however_many_replicas_say_it() -> Result<()> {
    let server = ApiServer::start().await?;
    grant(&server).await?;
    let controller = cluster(&server, "the-controller")?;
    let claim = Report {
        about: About::claim("default", "data", "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"),
        reason: Reason::MountTargetDeleted,
        message: "mount target nas.example.com: it is gone".to_owned(),
    };
    let volume = Report { about: About::volume("pv-1", "u-1"), ..claim.clone() };
    for _ in 0..2 {
        let replica = reporter(&controller, "");
        for report in [&claim, &volume, &claim] {
            replica.report(report.clone());
        }
        let by = tokio::time::Instant::now() + PATIENCE;
        let all = [("said", 2), ("repeated", 1), ("dropped", 0)];
        while replica.counts().by_outcome() != all && tokio::time::Instant::now() < by {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(replica.counts().by_outcome(), all);
    }
    let mut found = events(&server, "default").await?;
    found.retain(|event| event.starts_with("MountTarget"));
    found.sort();
    assert_eq!(
        found,
        [
            "MountTargetDeleted PersistentVolume pv-1: mount target nas.example.com: it is gone",
            "MountTargetDeleted PersistentVolumeClaim data: mount target nas.example.com: it is gone",
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_volumes_of_the_driver_are_found_among_all() -> Result<()> {
    let server = ApiServer::start().await?;
    grant(&server).await?;
    for (name, driver) in [("pv-1", DRIVER), ("pv-2", "other.example.com"), ("pv-3", DRIVER)] {
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"},
                "csi": {"driver": driver, "volumeHandle": name,
                        "volumeAttributes": {"server": "nas.example.com"}},
            },
        });
        server.create("/api/v1/persistentvolumes", &volume).await?;
    }
    let found = cluster(&server, "the-controller")?.of_driver(DRIVER).await?;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].attributes["server"], "nas.example.com");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_plugin_has_the_rights_that_its_values_ask_for_and_no_other() -> Result<()> {
    let server = ApiServer::start().await?;
    grant(&server).await?;
    make_node(&server, "node-1", true).await?;
    let own_node = cluster(&server, "the-node")?.own_node("node-1");
    if server.is_real {
        for refused in [
            own_node.labels().await.map(drop),
            own_node.drivers().await.map(drop),
            own_node.ensure_no_taint(TAINT).await.map(drop),
            cluster(&server, "the-node")?.of_driver(DRIVER).await.map(drop),
        ] {
            let fault = refused.err();
            let fault =
                fault.ok_or_else(|| Failure::new("it has a right that nobody asked for"))?;
            ensure(matches!(fault, KubernetesFault::Forbidden { .. }), format!("{fault}"))?;
            println!("refused: {fault}");
        }
    }
    // Another install beside the first one, for the same account: rights add up.
    let taint = format!("node.startupTaint={TAINT}");
    let account = "serviceAccount.name=alinas-csi-node";
    grant_as(&server, "second", &[taint.as_str(), "topology.enabled=true", account]).await?;
    let labels = own_node.labels().await?;
    assert_eq!(labels["topology.kubernetes.io/zone"], "cn-hangzhou-b");
    assert_eq!(own_node.drivers().await?, [DRIVER]);
    assert_eq!(own_node.ensure_no_taint(TAINT).await?, Untainted::Now);
    assert_eq!(own_node.ensure_no_taint(TAINT).await?, Untainted::Already);
    let left = taints(&server, "node-1").await?;
    assert!(left.contains(&"example.com/other".to_owned()) && !left.contains(&TAINT.to_owned()));
    Ok(())
}

fn stage_message(folder: &std::path::Path) -> csi::NodeStageVolumeRequest {
    let context = [
        ("server", "nas.example.com"),
        ("csi.storage.k8s.io/pvc/namespace", "default"),
        ("csi.storage.k8s.io/pvc/name", "data"),
    ];
    csi::NodeStageVolumeRequest {
        volume_id: "vol-1".to_owned(),
        staging_target_path: folder.join("stage").to_string_lossy().into_owned(),
        volume_capability: Some(csi::VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() }),
            access_type: Some(AccessType::Mount(MountVolume::default())),
        }),
        volume_context: context.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..csi::NodeStageVolumeRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_plugin_says_its_zone_and_its_troubles_and_lifts_its_taint_once_registered()
-> Result<()> {
    let server = ApiServer::start().await?;
    let taint = format!("node.startupTaint={TAINT}");
    grant_as(&server, "alinas-csi", &[taint.as_str(), "topology.enabled=true"]).await?;
    make_node(&server, "node-1", true).await?;
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("stage"))?;
    let socket = folder.path().join("csi.sock");
    let mut command = Command::new(binary()?);
    command.args(["node", "--node-id", "node-1", "--topology", "--events"]);
    command.args(["--startup-taint", TAINT, "--max-volumes-per-node", "42"]);
    command.arg("--csi-endpoint").arg(format!("unix://{}", socket.display()));
    command.arg("--state-dir").arg(folder.path().join("state"));
    command.arg("--kubernetes-credentials").arg(server.credentials("the-node")?);
    command.envs(server.environment());
    let mut node = Process::start("node plugin", &mut command, &folder.path().join("node.log"))?;
    let is_served = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
    node.wait_until("the CSI socket is served", PATIENCE, is_served)?;
    let mut client = NodeClient::new(channel(&socket)?);
    assert!(taints(&server, "node-1").await?.contains(&TAINT.to_owned()), "nobody has asked yet");
    let info = client.node_get_info(csi::NodeGetInfoRequest {}).await?.into_inner();
    let segments = info.accessible_topology.unwrap_or_default().segments;
    assert_eq!(segments[&format!("topology.{DRIVER}/zone")], "cn-hangzhou-b");
    assert_eq!(info.max_volumes_per_node, 42);
    // There is no watchdog: that is the node's trouble, whichever volume meets it.
    client.node_stage_volume(stage_message(folder.path())).await.unwrap_err();
    // What a claim asks for wrongly is the claim's.
    let mut wrong = stage_message(folder.path());
    wrong.volume_context.insert("sever".to_owned(), "x".to_owned());
    client.node_stage_volume(wrong).await.unwrap_err();
    let mut found = wait_for_events(&server, "default", 3).await?;
    found.sort();
    println!("{}", found.join("\n"));
    let begins = [
        "MountOptionRefused PersistentVolumeClaim data: ",
        "StartupTaintRemoved Node node-1: ",
        "TunnelUnavailable Node node-1: ",
    ];
    assert_eq!(found.len(), begins.len(), "{found:?}");
    for (event, begin) in found.iter().zip(begins) {
        ensure(event.starts_with(begin), event.as_str())?;
    }
    assert!(!taints(&server, "node-1").await?.contains(&TAINT.to_owned()));
    Ok(())
}
