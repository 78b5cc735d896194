//! The plugin with a kubectl that is none: what becomes of nodes that answer, and of those that do not.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use serde_json::json;

use super::PluginCommand;
use super::PluginError;
use super::PluginLine;
use super::cluster::Cluster;
use super::doctor;
use super::kubectl::Answer;
use super::kubectl::fake::FakeKubectl;
use super::kubectl::fake::fails;
use super::kubectl::fake::says;
use super::pods::tests::pod;
use super::pods::tests::pods;
use super::status;
use super::status::Known;
use super::view::Lasts;
use super::view::View;
use crate::app::status::report;
use crate::app::status::report::Report;

const VOLUMES: &str = "alinas.csi.alibabacloud.com\tpv-1\tpvc-0a1b\tdefault/data\n\
                       other.example.com\tpv-2\tnobody\tdefault/wrong\n\
                       of-another-kind\tdefault/local\n\
                       alinas.csi.alibabacloud.com\tpv-9\tfree\t\n";
const PODS: &str = "a\tdefault/writer\tdefault/data\n\
                    a\tdefault/reader\tdefault/more\tdefault/data\n\
                    b\tdefault/elsewhere\tdefault/data\n\
                    \tdefault/pending\tdefault/data\n\
                    a\tkube-system/none\n";

fn status_of_a_node() -> Value {
    serde_json::to_value(Report::read(report::example(), report::EXAMPLE_NOW)).unwrap()
}

/// A cluster of the nodes a to d, by what each says to `exec`.
fn cluster(exec: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (Cluster, Arc<FakeKubectl>) {
    let nodes = ["a", "b", "c", "d"].map(|node| pod(&format!("alinas-csi-node-{node}"), node));
    let kubectl = Arc::new(FakeKubectl::new(move |line| match line {
        _ if line.starts_with("get pods") && line.contains("go-template") => says(PODS),
        _ if line.starts_with("get pods") => says(&pods(&nodes)),
        _ if line.starts_with("get persistentvolumes") => says(VOLUMES),
        _ => exec(line),
    }));
    let flags = vec!["--context=there".to_owned()];
    let shared = Arc::clone(&kubectl);
    (Cluster { kubectl: shared, flags, namespace: None }, kubectl)
}

/// Node a answers, b has nothing to show, c fails and d never answers.
fn mixed(line: &str) -> Answer {
    let node = line.split_whitespace().find_map(|word| word.strip_prefix("alinas-csi-node-"));
    match node.unwrap() {
        "a" => says(&status_of_a_node().to_string()),
        "b" => says(&json!({"process": {"state": "running"}, "tunnels": []}).to_string()),
        "c" => fails(
            1,
            "alinas-csi: failed to ask the watchdog\ncommand terminated with exit code 1\n",
        ),
        _ => Answer::default(),
    }
}

fn status_line(words: &str) -> status::StatusArgs {
    let line = ["kubectl-alinas", "status"].into_iter().chain(words.split_whitespace());
    match PluginLine::try_parse_from(line).unwrap().command {
        PluginCommand::Status(arguments) => arguments,
        other => panic!("{other:?}"),
    }
}

fn doctor_line(words: &str) -> doctor::DoctorArgs {
    let line = ["kubectl-alinas", "doctor"].into_iter().chain(words.split_whitespace());
    match PluginLine::try_parse_from(line).unwrap().command {
        PluginCommand::Doctor(arguments) => arguments,
        other => panic!("{other:?}"),
    }
}

async fn look(cluster: &Cluster, words: &str) -> Result<View, PluginError> {
    status::look(cluster, &status_line(words), &mut Known::default(), None).await
}

fn words_of(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn every_node_has_its_lines_also_one_that_does_not_answer() {
    let (cluster, kubectl) = cluster(mixed);
    let view = look(&cluster, "--timeout 20").await.unwrap();
    assert!(!view.is_whole());
    let table = view.table();
    println!("{table}");
    let lines: Vec<_> = table.lines().map(words_of).collect();
    assert_eq!(lines[0], "2 of 4 nodes answered; 2 volumes");
    assert!(lines[2].starts_with("NODE VOLUME CLAIM MOUNT TARGET LOCAL ADDRESS "), "{}", lines[2]);
    assert!(lines[3].starts_with("a pv-1 default/data a.nas.example.com 127.0.1.1:12049 "));
    // Another driver's volume has the same handle.
    assert!(lines[4].starts_with("a pv-2 - a.nas.example.com "), "{}", lines[4]);
    assert!(lines[5].starts_with("a - - b.nas.example.com "), "{}", lines[5]);
    assert!(lines[6].starts_with("c - - - - - no-answer "), "{}", lines[6]);
    assert!(lines[6].ends_with(" alinas-csi: failed to ask the watchdog"), "{}", lines[6]);
    assert!(lines[7].starts_with("d - ") && lines[7].ends_with(" no answer within 20 s"));
    assert!(lines.contains(&"a: 127.0.1.1:12049: WEAKER: static RSA".to_owned()), "{table}");
    assert!(
        lines.iter().any(|line| line.starts_with("a: tunnel process: running for 2d7h, pid 42"))
    );
    assert_eq!(lines.last().unwrap(), "no tunnels: b");
    let calls = kubectl.calls.lock().unwrap();
    for expected in [
        "get pods --all-namespaces --selector \
         app.kubernetes.io/name=alinas-csi,app.kubernetes.io/component=node --output json --context=there",
        "exec --namespace kube-system alinas-csi-node-a --container watchdog --context=there -- /alinas-csi \
         status --output json",
    ] {
        assert!(calls.iter().any(|call| call == expected), "{expected}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn machines_are_told_what_each_node_says_and_whose_its_volumes_are() {
    let (cluster, _) = cluster(|line| match mixed(line) {
        answer if line.contains("node-a") => {
            let mut said: Value = serde_json::from_slice(&answer.stdout).unwrap();
            said["ofALaterRelease"] = json!(1);
            says(&said.to_string())
        }
        answer => answer,
    });
    let said = look(&cluster, "--pods -o json").await.unwrap().json();
    let node = &said["nodes"][0];
    assert_eq!(
        (&node["node"], &node["pod"]),
        (&json!("a"), &json!("kube-system/alinas-csi-node-a"))
    );
    assert_eq!((&node["problem"], &node["status"]["ofALaterRelease"]), (&Value::Null, &json!(1)));
    let volumes = &node["status"]["tunnels"][0]["volumes"];
    assert_eq!(volumes[0]["persistentVolume"], "pvc-0a1b");
    assert_eq!(volumes[0]["claim"], "default/data");
    assert_eq!(volumes[0]["pods"], json!(["default/writer", "default/reader"]));
    assert_eq!((&volumes[1]["claim"], volumes[1].get("pods")), (&Value::Null, None));
    assert_eq!(said["nodes"][2]["status"], Value::Null);
    assert_eq!(said["nodes"][3]["problem"], "no answer within 15 s");
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_found_by_its_id_its_name_or_its_claim() {
    let (cluster, kubectl) = cluster(mixed);
    for (words, volumes) in [
        ("--volume pv-2", "pv-2"),
        ("--volume pvc-0a1b", "pv-1"),
        ("--claim data", "pv-1"),
        ("--claim default/data", "pv-1"),
        ("--claim other/data", ""),
        ("--claim data --volume pv-2", ""),
    ] {
        let view = look(&cluster, &format!("{words} --node a --node b")).await.unwrap();
        let said = view.json();
        let tunnels = said["nodes"][0]["status"]["tunnels"].as_array().unwrap();
        let found: Vec<_> =
            tunnels.iter().flat_map(|tunnel| tunnel["volumes"].as_array().unwrap()).collect();
        let found: Vec<_> = found.iter().map(|volume| volume["id"].as_str().unwrap()).collect();
        assert_eq!(found.join(" "), volumes, "{words}");
        assert!(view.is_whole() && !view.table().contains("no tunnels"), "{}", view.table());
    }
    assert!(!kubectl.calls.lock().unwrap().iter().any(|call| call.contains("node-c")));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_list_volumes_is_shown_the_nodes_all_the_same() {
    let kubectl = FakeKubectl::new(|line| match line {
        _ if line.starts_with("get pods") => says(&pods(&[pod("alinas-csi-node-a", "a")])),
        _ if line.starts_with("get persistentvolumes") => fails(1, "Error from server (Forbidden)"),
        _ => mixed(line),
    });
    let cluster = Cluster { kubectl: Arc::new(kubectl), flags: Vec::new(), namespace: None };
    let view = look(&cluster, "").await.unwrap();
    assert!(view.is_whole());
    assert!(view.table().ends_with("NOTE: claims are not known: Error from server (Forbidden)\n"));
    assert_eq!(view.json()["notices"][0], "claims are not known: Error from server (Forbidden)");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_is_a_line_and_not_the_end() {
    let (cluster, _) = cluster(|line| match line {
        _ if line.contains("node-a") => says("panic"),
        _ if line.contains("node-b") => says("[]"),
        _ if line.contains("node-c") => says(r#"{"tunnels": "several"}"#),
        _ => says("{}"),
    });
    let said = look(&cluster, "").await.unwrap().json();
    for (node, problem) in
        [(0, "its answer is no status: expected value"), (1, "its answer is no status")]
    {
        assert!(said["nodes"][node]["problem"].as_str().unwrap().starts_with(problem), "{said}");
    }
    let problem = said["nodes"][2]["problem"].as_str().unwrap();
    assert!(problem.contains("invalid type: string"), "{problem}");
    assert_eq!(said["nodes"][3]["problem"], Value::Null, "an empty answer has nothing wrong in it");
}

#[tokio::test(start_paused = true)]
async fn what_was_carried_between_two_looks_is_said_node_by_node() {
    let (cluster, _) = cluster(mixed);
    let arguments = status_line("--watch --node a");
    let (mut known, mut lasts) = (Known::default(), Lasts::default());
    let first = status::look(&cluster, &arguments, &mut known, Some(&mut lasts)).await.unwrap();
    let throughput =
        |view: &View| view.json()["nodes"][0]["status"]["tunnels"][0]["throughput"].clone();
    assert_eq!(throughput(&first), Value::Null);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let second = status::look(&cluster, &arguments, &mut known, Some(&mut lasts)).await.unwrap();
    assert_eq!(throughput(&second), json!({"toServerPerSecond": 0, "toKernelPerSecond": 0}));
    assert!(second.table().contains("TO SERVER NOW"), "{}", second.table());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_driver_and_a_node_that_is_not_there_are_named() {
    let (there, _) = cluster(mixed);
    let error = look(&there, "--node e").await.unwrap_err().to_string();
    assert_eq!(error, "no pod of the node plugin is on e; there is one on a, b, c, d");
    let error = there.pod(None).await.unwrap_err().to_string();
    assert_eq!(error, "which node is meant? --node NAME, with one of a, b, c, d");
    let kubectl: Arc<FakeKubectl> = Arc::new(FakeKubectl::new(|_| says(&pods(&[]))));
    let empty = Cluster { kubectl, flags: Vec::new(), namespace: Some("x".to_owned()) };
    let error = look(&empty, "").await.unwrap_err().to_string();
    assert!(
        error.starts_with("no pod of the node plugin is in the namespace x (kubectl get pods -l ")
    );
}

#[test]
fn doctor_looks_from_the_node_that_is_named_and_its_archive_arrives_whole_or_not_at_all() {
    let archive = [b"tar".as_slice(), &[0; 1024]].concat();
    let whole = archive.clone();
    let (there, kubectl) = cluster(move |line| Answer {
        code: Some(1),
        stdout: if line.contains("node-a") { whole.clone() } else { whole[..700].to_vec() },
        stderr: "clock: wrong\n  mend it\ncommand terminated with exit code 1\n".to_owned(),
    });
    let error = doctor::run(&there, &doctor_line("--node b nas:/x --tls-port 7")).unwrap_err();
    let line = "exec --namespace kube-system alinas-csi-node-b --container watchdog --context=there -- \
                /alinas-csi doctor --tls-port=7 -- nas:/x";
    assert_eq!(error.to_string(), line);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.tar");
    let bundle = |node: &str| {
        let words = format!("--node {node} -o json --bundle {}", file.display());
        doctor::run(&there, &doctor_line(&words))
    };
    let error = bundle("b").unwrap_err().to_string();
    assert_eq!(error, "failed to ask b: the archive was cut: clock: wrong; mend it");
    assert!(!file.exists());
    bundle("a").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), archive);
    let last = kubectl.calls.lock().unwrap().last().unwrap().clone();
    assert!(last.ends_with("/alinas-csi doctor --bundle=- --output=json"), "{last}");
}

#[test]
fn a_log_is_that_of_all_containers_or_of_one() {
    let (there, _) = cluster(mixed);
    for (words, expected) in [
        ("", "--all-containers --prefix --tail=100"),
        ("-c watchdog --tail 5 -f -p", "--container=watchdog --tail=5 --follow --previous"),
    ] {
        let line = format!("kubectl-alinas logs --node c {words}");
        let PluginCommand::Logs(arguments) =
            PluginLine::try_parse_from(line.split_whitespace()).unwrap().command
        else {
            panic!("another command")
        };
        let said = doctor::logs(&there, &arguments).unwrap_err().to_string();
        assert_eq!(
            said,
            format!("logs --namespace kube-system alinas-csi-node-c {expected} --context=there")
        );
    }
}
