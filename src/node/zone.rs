//! In which zone this node is: what was said, else the node's label, else what the ECS instance says of itself.
//!
//! Works on nodes that are none of ECS: nobody is asked who need not be there, and every question has a deadline.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::kubernetes::KubernetesFault;
use crate::kubernetes::OwnNode;
use crate::model::Zone;
use crate::nas::InstanceZone;
use crate::nas::instance_zone::MetadataFault;

/// The labels that say a node's zone: the one of today and that of Kubernetes before 1.17.
const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];

/// Where a zone may be known from.
#[derive(Debug, Default)]
pub struct ZoneSources {
    /// A setting.
    pub said: Option<Zone>,
    /// The node in the cluster.
    pub node: Option<Arc<dyn OwnNode>>,
    /// The instance.
    pub instance: Option<InstanceZone>,
    known: OnceCell<Zone>,
}

/// Why the zone is not known: what each source said.
#[derive(Debug, thiserror::Error)]
#[error(
    "the zone of this node is not known ({}); label the node with topology.kubernetes.io/zone", .0.join("; ")
)]
pub struct NoZone(Vec<String>);

impl ZoneSources {
    /// From these sources, in their order.
    #[must_use]
    pub fn new(
        said: Option<Zone>,
        node: Option<Arc<dyn OwnNode>>,
        instance: Option<InstanceZone>,
    ) -> Self {
        Self { said, node, instance, known: OnceCell::new() }
    }

    /// The zone. Once known it is not asked for again: a node does not move.
    ///
    /// # Errors
    /// Says what each source said.
    pub async fn zone(&self) -> Result<Zone, NoZone> {
        self.known.get_or_try_init(|| self.ask()).await.cloned()
    }

    async fn ask(&self) -> Result<Zone, NoZone> {
        if let Some(said) = &self.said {
            return Ok(said.clone());
        }
        let mut whys = Vec::new();
        match &self.node {
            Some(node) => match of_labels(node.as_ref()).await {
                Ok(zone) => return Ok(zone),
                Err(why) => whys.push(why),
            },
            None => whys.push("this process has no access to the cluster".to_owned()),
        }
        if let Some(instance) = &self.instance {
            match instance.zone().await {
                Ok(zone) => return Ok(zone),
                Err(fault) => whys.push(MetadataFault::to_string(&fault)),
            }
        }
        Err(NoZone(whys))
    }
}

async fn of_labels(node: &dyn OwnNode) -> Result<Zone, String> {
    let labels = node.labels().await.map_err(|fault| KubernetesFault::to_string(&fault))?;
    let label = LABELS.iter().find_map(|label| labels.get(*label));
    let text = label.ok_or_else(|| format!("the node has no label {}", LABELS[0]))?;
    Zone::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::own_node::fake::FakeNode;
    use crate::nas::instance_zone::tests::in_zone;

    fn node(labels: &[(&str, &str)]) -> Option<Arc<dyn OwnNode>> {
        let node = FakeNode::default();
        let owned = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        node.labels.lock().unwrap().extend(owned);
        Some(Arc::new(node))
    }

    #[tokio::test]
    async fn what_is_said_comes_before_the_label_and_the_label_before_the_instance() {
        let said = || Some(Zone::parse("said").unwrap());
        let labelled = || node(&[(LABELS[0], "new"), (LABELS[1], "old")]);
        let instance = || Some(in_zone("of-instance"));
        for (said, node, instance, zone) in [
            (said(), labelled(), instance(), "said"),
            (None, labelled(), instance(), "new"),
            (None, node(&[(LABELS[1], "old")]), instance(), "old"),
            (None, node(&[]), instance(), "of-instance"),
            (None, None, instance(), "of-instance"),
        ] {
            let sources = ZoneSources::new(said, node, instance);
            assert_eq!(sources.zone().await.unwrap().as_str(), zone);
            assert_eq!(sources.zone().await.unwrap().as_str(), zone, "asked twice");
        }
    }

    #[tokio::test]
    async fn a_node_whose_zone_nobody_knows_says_what_each_source_said() {
        let sources = ZoneSources::new(None, node(&[]), None);
        let said = sources.zone().await.unwrap_err().to_string();
        assert!(said.contains("no label topology.kubernetes.io/zone"), "{said}");
        let said = ZoneSources::default().zone().await.unwrap_err().to_string();
        assert!(said.contains("no access to the cluster"), "{said}");
    }
}
