//! Whose a volume is in the cluster: its PersistentVolume, its claim, and the pods that use it.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::json;

use crate::app::plugin::pods::NodePod;

/// A line for each volume of CSI: driver, handle, its name, and its claim.
pub(super) const VOLUMES: &str = "go-template={{range .items}}{{with .spec.csi}}{{.driver}}\t{{.volumeHandle}}\t{{end}}\
                                  {{.metadata.name}}\t{{with .spec.claimRef}}{{.namespace}}/{{.name}}{{end}}\n{{end}}";

/// A line for each pod: its node, its name, and its claims.
pub(super) const PODS: &str = "go-template={{range .items}}{{$namespace := .metadata.namespace}}{{with .spec.nodeName}}\
                               {{.}}{{end}}\t{{$namespace}}/{{.metadata.name}}{{range .spec.volumes}}\
                               {{with .persistentVolumeClaim}}\t{{$namespace}}/{{.claimName}}{{end}}{{end}}\n{{end}}";

/// What the cluster knows.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By driver and handle: the volume's name and its claim.
    volumes: HashMap<(String, String), (String, Option<String>)>,
    /// By node and claim. None where they were not asked for.
    pods: Option<HashMap<(String, String), Vec<String>>>,
}

impl Names {
    /// Takes up the lines of [`VOLUMES`].
    pub(super) fn read_volumes(&mut self, lines: &str) {
        for line in lines.lines() {
            // One of another kind has but its name and its claim.
            let &[driver, handle, name, claim] = line.split('\t').collect::<Vec<_>>().as_slice()
            else {
                continue;
            };
            let claim = (!claim.is_empty()).then(|| claim.to_owned());
            self.volumes.insert((driver.to_owned(), handle.to_owned()), (name.to_owned(), claim));
        }
    }

    /// Takes up the lines of [`PODS`].
    pub(super) fn read_pods(&mut self, lines: &str) {
        let pods = self.pods.get_or_insert_default();
        for line in lines.lines() {
            let mut cells = line.split('\t');
            let (Some(node), Some(pod)) = (cells.next(), cells.next()) else { continue };
            for claim in cells {
                let of_claim = pods.entry((node.to_owned(), claim.to_owned())).or_default();
                of_claim.push(pod.to_owned());
            }
        }
    }

    /// Puts what is known of a volume of a status into it.
    pub(super) fn add_to(&self, volume: &mut Value, of: &NodePod) {
        let id = volume["id"].as_str().unwrap_or_default().to_owned();
        let Some((name, claim)) = self.volumes.get(&(of.driver.clone(), id)) else { return };
        volume["persistentVolume"] = json!(name);
        let Some(claim) = claim else { return };
        volume["claim"] = json!(claim);
        if let Some(pods) = &self.pods {
            let used_by = pods.get(&(of.node.clone(), claim.clone()));
            volume["pods"] = json!(used_by.map(Vec::as_slice).unwrap_or_default());
        }
    }
}
