//! The API server over the network. Every call has a deadline.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::CSINode;
use kube::Api;
use kube::Client;
use kube::api::ListParams;
use kube::api::Patch;
use kube::api::PatchParams;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::timeout;

use crate::kubernetes::fault::KubernetesFault;
use crate::kubernetes::own_node::OwnNode;
use crate::kubernetes::own_node::Untainted;
use crate::kubernetes::reporter::EventSink;
use crate::kubernetes::volumes::UsedVolume;
use crate::kubernetes::volumes::Volumes;
use crate::kubernetes::volumes::used;

/// For a call about one object.
pub const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// For a page of a list.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);
/// A PersistentVolume has some 2 KiB.
const PAGE: u32 = 250;
/// More than a cluster may have (150,000 pods); an end for a server that never comes to one.
const MOST_PAGES: usize = 1000;

/// An API server. A clone is the same one.
#[derive(Clone)]
pub struct Cluster(Client);

impl Cluster {
    /// Asks by `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// One of its nodes, the one that this process runs on.
    #[must_use]
    pub fn own_node(&self, name: &str) -> ClusterNode {
        ClusterNode { cluster: self.clone(), name: name.to_owned() }
    }

    fn events(&self, event: &Event) -> Api<Event> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.0.clone(), namespace)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

async fn within<T>(
    deadline: Duration,
    action: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, KubernetesFault> {
    match timeout(deadline, call).await {
        Ok(answer) => answer.map_err(|error| KubernetesFault::of(action, &error)),
        Err(_) => Err(KubernetesFault::Late { action, deadline }),
    }
}

#[async_trait]
impl EventSink for Cluster {
    async fn create(&self, event: &Event) -> Result<(), KubernetesFault> {
        let events = self.events(event);
        let parameters = PostParams::default();
        let call = events.create(&parameters, event);
        within(CALL_DEADLINE, "create an event", call).await.map(drop)
    }

    async fn repeat(&self, event: &Event) -> Result<(), KubernetesFault> {
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let Event { count, last_timestamp, message, .. } = event;
        let patch = Patch::Merge(json!({
            "count": count,
            "lastTimestamp": last_timestamp,
            "message": message,
        }));
        let events = self.events(event);
        let parameters = PatchParams::default();
        let call = events.patch(name, &parameters, &patch);
        within(CALL_DEADLINE, "update an event", call).await.map(drop)
    }
}

#[async_trait]
impl Volumes for Cluster {
    async fn of_driver(&self, driver: &str) -> Result<Vec<UsedVolume>, KubernetesFault> {
        let volumes: Api<PersistentVolume> = Api::all(self.0.clone());
        let mut parameters = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        for _ in 0..MOST_PAGES {
            let call = volumes.list(&parameters);
            let page = within(PAGE_DEADLINE, "list PersistentVolumes", call).await?;
            found.extend(page.items.into_iter().filter_map(|volume| used(volume, driver)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => break,
            }
        }
        Ok(found)
    }
}

/// A node of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterNode {
    cluster: Cluster,
    name: String,
}

impl ClusterNode {
    async fn read(&self) -> Result<Node, KubernetesFault> {
        let nodes: Api<Node> = Api::all(self.cluster.0.clone());
        within(CALL_DEADLINE, "read this node", nodes.get(&self.name)).await
    }
}

#[async_trait]
impl OwnNode for ClusterNode {
    async fn labels(&self) -> Result<BTreeMap<String, String>, KubernetesFault> {
        Ok(self.read().await?.metadata.labels.unwrap_or_default())
    }

    async fn drivers(&self) -> Result<Vec<String>, KubernetesFault> {
        let nodes: Api<CSINode> = Api::all(self.cluster.0.clone());
        let call = nodes.get_opt(&self.name);
        let found = within(CALL_DEADLINE, "read this node's CSINode", call).await?;
        let drivers = found.map(|node| node.spec.drivers).unwrap_or_default();
        Ok(drivers.into_iter().map(|driver| driver.name).collect())
    }

    async fn ensure_no_taint(&self, key: &str) -> Result<Untainted, KubernetesFault> {
        let node = self.read().await?;
        let mut taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let before = taints.len();
        taints.retain(|taint| taint.key != key);
        if taints.len() == before {
            return Ok(Untainted::Already);
        }
        // The version makes it a conflict where somebody else has changed the taints meanwhile.
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        }));
        let nodes: Api<Node> = Api::all(self.cluster.0.clone());
        let parameters = PatchParams::default();
        let call = nodes.patch(&self.name, &parameters, &patch);
        within(CALL_DEADLINE, "take the startup taint from this node", call).await?;
        Ok(Untainted::Now)
    }
}
