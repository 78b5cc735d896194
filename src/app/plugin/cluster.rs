//! Asks the nodes of a cluster: a few at a time, each with a deadline, and whatever one does the others are shown.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::app::plugin::PluginError;
use crate::app::plugin::kubectl::Call;
use crate::app::plugin::kubectl::Kubectl;
use crate::app::plugin::kubectl::KubectlError;
use crate::app::plugin::names;
use crate::app::plugin::names::Names;
use crate::app::plugin::pods;
use crate::app::plugin::pods::NodePod;
use crate::app::plugin::pods::WATCHDOG;

/// For a list. Whoever has to log in has this time.
const LIST_DEADLINE: Duration = Duration::from_secs(120);
/// Each is a process on this machine, and a call of the API server.
const AT_A_TIME: usize = 16;
/// Where the image has it.
pub(super) const BINARY: &str = "/alinas-csi";

/// A cluster, as the user reaches it.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) kubectl: Arc<dyn Kubectl>,
    /// How kubectl gets there.
    pub(super) flags: Vec<String>,
    /// Where the driver is; without, anywhere.
    pub(super) namespace: Option<String>,
}

/// What became of the question to a node.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) pod: NodePod,
    /// As the node says it, or why it does not.
    pub(super) status: Result<Value, String>,
}

impl Cluster {
    /// The pods of the node plugin, or of these nodes alone.
    pub(super) async fn pods(&self, nodes: &[String]) -> Result<Vec<NodePod>, PluginError> {
        let listed = self.list("pods", &["--selector", pods::SELECTOR, "--output", "json"], true);
        let all = listed.await.and_then(|answer| pods::read(&answer)).map_err(PluginError::Pods)?;
        if all.is_empty() {
            let place = self.namespace.as_ref().map_or_else(
                || "any namespace".to_owned(),
                |namespace| format!("the namespace {namespace}"),
            );
            return Err(PluginError::NoPods { place });
        }
        if let Some(asked) = nodes.iter().find(|name| !all.iter().any(|pod| pod.node == **name)) {
            return Err(PluginError::NoSuchNode { asked: asked.clone(), there: nodes_of(&all) });
        }
        let is_asked = |pod: &NodePod| nodes.is_empty() || nodes.contains(&pod.node);
        Ok(all.into_iter().filter(is_asked).collect())
    }

    /// The pod of a node; without a name, of the only one.
    pub(super) async fn pod(&self, node: Option<&str>) -> Result<NodePod, PluginError> {
        let mut pods = self.pods(node.map(str::to_owned).as_slice()).await?;
        match pods.pop() {
            Some(pod) if pods.is_empty() => Ok(pod),
            last => {
                pods.extend(last);
                Err(PluginError::WhichNode { there: nodes_of(&pods) })
            }
        }
    }

    /// What the cluster knows of volumes, and what of that it does not say.
    pub(super) async fn names(&self, with_pods: bool) -> (Names, Vec<String>) {
        let (mut names, mut notices) = (Names::default(), Vec::new());
        match self.list("persistentvolumes", &["--output", names::VOLUMES], false).await {
            Ok(lines) => names.read_volumes(&String::from_utf8_lossy(&lines)),
            Err(why) => notices.push(format!("claims are not known: {why}")),
        }
        if with_pods {
            let anywhere = Self { namespace: None, ..self.clone() };
            match anywhere.list("pods", &["--output", names::PODS], false).await {
                Ok(lines) => names.read_pods(&String::from_utf8_lossy(&lines)),
                Err(why) => notices.push(format!("pods are not known: {why}")),
            }
        }
        (names, notices)
    }

    /// Asks every pod for the status of its node.
    pub(super) async fn ask(
        &self,
        pods: Vec<NodePod>,
        rate: bool,
        deadline: Duration,
    ) -> Vec<Seen> {
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        let mut questions = JoinSet::new();
        for (number, pod) in pods.into_iter().enumerate() {
            let (cluster, turns) = (self.clone(), Arc::clone(&turns));
            questions.spawn(async move {
                let _turn = turns.acquire().await;
                let status = cluster.status_of(&pod, rate, deadline).await;
                (number, Seen { pod, status })
            });
        }
        let mut all = Vec::new();
        while let Some(asked) = questions.join_next().await {
            all.extend(asked);
        }
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, seen)| seen).collect()
    }

    async fn status_of(
        &self,
        pod: &NodePod,
        rate: bool,
        deadline: Duration,
    ) -> Result<Value, String> {
        if let Some(problem) = &pod.problem {
            return Err(format!(
                "{problem}; see kubectl -n {} describe pod {}",
                pod.namespace, pod.name
            ));
        }
        let words = ["status", "--output", "json"].into_iter().chain(rate.then_some("--rate"));
        let arguments = self.exec(pod, WATCHDOG, words.map(str::to_owned));
        let call = Call { arguments, deadline, errors_are_shown: false };
        let answer = self.kubectl.run(call).await.and_then(|answer| answer.output());
        let answer = answer.map_err(|error| error.to_string())?;
        match serde_json::from_slice(&answer) {
            Ok(status @ Value::Object(_)) => Ok(status),
            Ok(_) => Err("its answer is no status".to_owned()),
            Err(error) => Err(format!("its answer is no status: {error}")),
        }
    }

    /// `kubectl exec` of this program in a pod.
    pub(super) fn exec(
        &self,
        pod: &NodePod,
        container: &str,
        words: impl IntoIterator<Item = String>,
    ) -> Vec<String> {
        let front = ["exec", "--namespace", &pod.namespace, &pod.name, "--container", container];
        let front = front.map(str::to_owned).into_iter().chain(self.flags.clone());
        front.chain(["--", BINARY].map(str::to_owned)).chain(words).collect()
    }

    async fn list(
        &self,
        what: &str,
        how: &[&str],
        errors_are_shown: bool,
    ) -> Result<Vec<u8>, KubectlError> {
        let place = match &self.namespace {
            Some(namespace) => format!("--namespace={namespace}"),
            None => "--all-namespaces".to_owned(),
        };
        let words = ["get", what, &place].into_iter().chain(how.iter().copied());
        let arguments = words.map(str::to_owned).chain(self.flags.clone()).collect();
        let call = Call { arguments, deadline: LIST_DEADLINE, errors_are_shown };
        self.kubectl.run(call).await?.output()
    }
}

fn nodes_of(pods: &[NodePod]) -> String {
    let nodes: Vec<_> =
        pods.iter().map(|pod| pod.node.as_str()).filter(|node| !node.is_empty()).collect();
    if nodes.is_empty() { "no node".to_owned() } else { nodes.join(", ") }
}
