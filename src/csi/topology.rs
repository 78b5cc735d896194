//! Zones, as CSI carries them: segments with one key, which is the driver's own.
//!
//! The kubelet makes a label of it on the node, so a key of Kubernetes itself would be overwritten.

use std::fmt;

use crate::csi::identity::DriverName;
use crate::model::Zone;
use crate::proto::csi;

/// `topology.<driver>/zone`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyKey(String);

impl TopologyKey {
    /// The key of a driver.
    #[must_use]
    pub fn of(driver: &DriverName) -> Self {
        Self(format!("topology.{driver}/zone"))
    }

    /// What is in a zone.
    pub(super) fn topology(&self, zone: &Zone) -> csi::Topology {
        csi::Topology { segments: [(self.0.clone(), zone.to_string())].into() }
    }

    /// The zones of a requirement, the best first. One of another driver's key is none.
    pub(super) fn zones(&self, requirement: Option<&csi::TopologyRequirement>) -> Vec<Zone> {
        let Some(requirement) = requirement else { return Vec::new() };
        let mut zones = Vec::new();
        for topology in requirement.preferred.iter().chain(&requirement.requisite) {
            let zone = topology.segments.get(&self.0).and_then(|zone| Zone::parse(zone).ok());
            zones.extend(zone.filter(|zone| !zones.contains(zone)));
        }
        zones
    }
}

impl fmt::Display for TopologyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferred_zones_come_first_and_each_once() {
        let key = TopologyKey::of(&DriverName::parse("alinas.csi.alibabacloud.com").unwrap());
        assert_eq!(key.to_string(), "topology.alinas.csi.alibabacloud.com/zone");
        let zone = |text: &str| Zone::parse(text).unwrap();
        let at = |text: &str| key.topology(&zone(text));
        let foreign = csi::Topology { segments: [("other/zone".into(), "x".into())].into() };
        let requirement = csi::TopologyRequirement {
            requisite: vec![at("a"), at("b"), at("c"), foreign],
            preferred: vec![at("b"), at("a")],
        };
        assert_eq!(key.zones(Some(&requirement)), [zone("b"), zone("a"), zone("c")]);
        assert!(key.zones(None).is_empty());
    }
}
