//! The pods of the node plugin: who is asked about which node.

use serde_json::Value;

use crate::app::plugin::kubectl::KubectlError;

/// What the chart puts on the pods of its DaemonSet.
pub(super) const SELECTOR: &str =
    "app.kubernetes.io/name=alinas-csi,app.kubernetes.io/component=node";
/// The container that is asked.
pub(super) const WATCHDOG: &str = "watchdog";
/// The driver's name where the pod does not say it.
const USUAL_DRIVER: &str = "alinas.csi.alibabacloud.com";

/// A pod of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodePod {
    /// Empty where it has not come to one.
    pub(super) node: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The driver's name.
    pub(super) driver: String,
    /// Which install it is of.
    instance: String,
    /// Why it cannot be asked.
    pub(super) problem: Option<String>,
    is_leaving: bool,
}

impl NodePod {
    /// As people name it.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn read(pod: &Value) -> Self {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
        Self {
            node: text("/spec/nodeName").to_owned(),
            namespace: text("/metadata/namespace").to_owned(),
            name: text("/metadata/name").to_owned(),
            driver: driver(pod).unwrap_or(USUAL_DRIVER).to_owned(),
            instance: text("/metadata/labels/app.kubernetes.io~1instance").to_owned(),
            problem: problem(pod, text("/status/phase")),
            is_leaving: pod.pointer("/metadata/deletionTimestamp").is_some(),
        }
    }
}

/// The pods in an answer of `kubectl get pods -o json`, by node; of those of one install on a node, the one that works.
pub(super) fn read(answer: &[u8]) -> Result<Vec<NodePod>, KubectlError> {
    let answer: Value = serde_json::from_slice(answer)
        .map_err(|error| KubectlError::Refused(format!("kubectl answered no JSON: {error}")))?;
    let mut pods: Vec<_> = list(&answer, "/items").map(NodePod::read).collect();
    pods.sort_by_cached_key(|pod| {
        let whose = (pod.node.clone(), pod.namespace.clone(), pod.instance.clone());
        (whose, pod.problem.is_some(), pod.is_leaving, pod.name.clone())
    });
    pods.dedup_by(|next, kept| {
        let whose = |pod: &NodePod| [&pod.node, &pod.namespace, &pod.instance].map(String::clone);
        !next.node.is_empty() && whose(next) == whose(kept)
    });
    Ok(pods)
}

fn list<'a>(of: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    of.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn problem(pod: &Value, phase: &str) -> Option<String> {
    if phase != "Running" {
        let phase = if phase.is_empty() { "in no phase" } else { phase };
        return Some(format!("its pod is {phase}"));
    }
    let mut containers = list(pod, "/status/containerStatuses");
    let watchdog = containers.find(|container| container["name"] == WATCHDOG)?;
    let reason = |state: &str| watchdog.pointer(&format!("/state/{state}/reason"))?.as_str();
    let (state, reason) =
        ["waiting", "terminated"].into_iter().find_map(|state| Some((state, reason(state)?)))?;
    Some(format!("its container {WATCHDOG} is {state}: {reason}"))
}

fn driver(pod: &Value) -> Option<&str> {
    let arguments = list(pod, "/spec/containers").flat_map(|container| list(container, "/args"));
    arguments.filter_map(Value::as_str).find_map(|one| one.strip_prefix("--driver-name="))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::app::plugin) fn pod(name: &str, node: &str) -> Value {
        json!({
            "metadata": {
                "name": name,
                "namespace": "kube-system",
                "labels": {"app.kubernetes.io/instance": "alinas-csi"},
            },
            "spec": {"nodeName": node, "containers": [{"name": "node", "args": ["node"]}]},
            "status": {"phase": "Running"},
        })
    }

    pub(in crate::app::plugin) fn pods(pods: &[Value]) -> String {
        json!({"kind": "List", "items": pods}).to_string()
    }

    fn named(all: &[Value]) -> Vec<String> {
        let read = read(pods(all).as_bytes()).unwrap();
        let shown = read.iter().map(|pod| {
            let problem = pod.problem.as_deref().unwrap_or("-");
            format!("{} {} {problem}", pod.node, pod.full_name())
        });
        shown.collect()
    }

    #[test]
    fn of_a_node_the_pod_that_works_is_asked() {
        let mut leaving = pod("a-old", "a");
        leaving["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
        let mut evicted = pod("a-evicted", "a");
        evicted["status"]["phase"] = json!("Failed");
        let mut pending = pod("x", "");
        pending["status"]["phase"] = json!("Pending");
        let mut another = pod("y", "");
        another["status"] = json!({});
        let mut second_install = pod("b-too", "b");
        second_install["metadata"]["labels"] = json!({"app.kubernetes.io/instance": "other"});
        let all = [leaving, pod("b", "b"), evicted, pod("a-new", "a"), pending, another];
        let all = [&all[..], &[second_install]].concat();
        assert_eq!(
            named(&all),
            [
                " kube-system/x its pod is Pending",
                " kube-system/y its pod is in no phase",
                "a kube-system/a-new -",
                "b kube-system/b -",
                "b kube-system/b-too -",
            ]
        );
    }

    #[test]
    fn a_container_that_does_not_run_is_named_with_why() {
        let mut crashing = pod("a", "a");
        crashing["status"]["containerStatuses"] = json!([
            {"name": "node", "state": {"running": {}}},
            {"name": "watchdog", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        ]);
        let said = named(&[crashing]);
        assert_eq!(said, ["a kube-system/a its container watchdog is waiting: CrashLoopBackOff"]);
    }

    #[test]
    fn the_driver_s_name_is_that_of_the_install() {
        let mut own = pod("a", "a");
        own["spec"]["containers"][0]["args"] = json!(["node", "--driver-name=nas.example.com"]);
        let read = read(pods(&[own, pod("b", "b")]).as_bytes()).unwrap();
        assert_eq!(read[0].driver, "nas.example.com");
        assert_eq!(read[1].driver, "alinas.csi.alibabacloud.com");
        assert!(super::read(b"no json").is_err());
    }
}
