//! The PersistentVolumes of this driver: which mount targets are in use, and whose data are on them.
//!
//! They are listed now and then, in pages. Nothing here is in a hurry, since a volume has been checked when it was made;
//! so there is no watch to keep open and to lose.

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::core::v1::PersistentVolume;

use crate::kubernetes::event::About;
use crate::kubernetes::fault::KubernetesFault;

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedVolume {
    /// Itself.
    pub about: About,
    /// The claim that it is bound to.
    pub claim: Option<About>,
    /// Its id, as the driver gave it or as an administrator chose it.
    pub handle: String,
    /// What it says about itself.
    pub attributes: HashMap<String, String>,
    /// Its mount options.
    pub mount_options: Vec<String>,
}

/// Lists volumes.
#[async_trait]
pub trait Volumes: Send + Sync + fmt::Debug {
    /// Every PersistentVolume of a driver.
    ///
    /// # Errors
    /// When the API server does not say.
    async fn of_driver(&self, driver: &str) -> Result<Vec<UsedVolume>, KubernetesFault>;
}

/// None where it is a volume of another driver.
pub(super) fn used(volume: PersistentVolume, driver: &str) -> Option<UsedVolume> {
    let spec = volume.spec?;
    let csi = spec.csi.filter(|csi| csi.driver == driver)?;
    let name = volume.metadata.name?;
    Some(UsedVolume {
        about: About::volume(&name, &volume.metadata.uid.unwrap_or_default()),
        claim: spec.claim_ref.as_ref().and_then(claim),
        handle: csi.volume_handle,
        attributes: csi.volume_attributes.unwrap_or_default().into_iter().collect(),
        mount_options: spec.mount_options.unwrap_or_default(),
    })
}

/// A claim that is only foreseen has no uid: it may not even exist.
fn claim(reference: &ObjectReference) -> Option<About> {
    let ObjectReference { namespace, name, uid, .. } = reference;
    Some(About::claim(namespace.as_deref()?, name.as_deref()?, uid.as_deref()?))
}

#[cfg(test)]
pub(crate) mod fake {
    use std::sync::Mutex;

    use super::*;

    /// A cluster whose PersistentVolumes have these handles; none where it does not answer.
    #[derive(Debug, Default)]
    pub(crate) struct FakeVolumes(Mutex<Option<Vec<String>>>);

    impl FakeVolumes {
        pub(crate) fn have(&self, handles: &[&str]) {
            let handles = handles.iter().map(ToString::to_string).collect();
            *self.0.lock().unwrap() = Some(handles);
        }
    }

    #[async_trait]
    impl Volumes for FakeVolumes {
        async fn of_driver(&self, _driver: &str) -> Result<Vec<UsedVolume>, KubernetesFault> {
            let handles = self.0.lock().unwrap().clone();
            let handles = handles.ok_or(KubernetesFault::Forbidden {
                action: "list PersistentVolumes",
                why: "no right".to_owned(),
            })?;
            let volume = |handle: String| UsedVolume {
                about: About::volume(&handle, "u"),
                claim: None,
                handle,
                attributes: HashMap::new(),
                mount_options: Vec::new(),
            };
            Ok(handles.into_iter().map(volume).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(json: serde_json::Value) -> PersistentVolume {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_volume_is_known_with_its_claim_and_one_of_another_driver_is_not() {
        let bound = volume(serde_json::json!({
            "metadata": {"name": "pv-1", "uid": "u-1"},
            "spec": {
                "mountOptions": ["hard"],
                "csi": {"driver": "d", "volumeHandle": "h", "volumeAttributes": {"server": "nas.corp"}},
                "claimRef": {"namespace": "shop", "name": "data", "uid": "u-2"},
            },
        }));
        let found = used(bound.clone(), "d").unwrap();
        assert_eq!(found.about, About::volume("pv-1", "u-1"));
        assert_eq!(found.claim, Some(About::claim("shop", "data", "u-2")));
        assert_eq!((found.handle.as_str(), found.attributes["server"].as_str()), ("h", "nas.corp"));
        assert_eq!(used(bound, "other"), None);
        let foreseen = volume(serde_json::json!({
            "metadata": {"name": "pv-1"},
            "spec": {"csi": {"driver": "d", "volumeHandle": "h"},
                     "claimRef": {"namespace": "shop", "name": "data"}},
        }));
        assert_eq!(used(foreseen, "d").unwrap().claim, None);
        let hostpath = volume(serde_json::json!({
            "metadata": {"name": "pv-1"}, "spec": {"hostPath": {"path": "/"}},
        }));
        assert_eq!(used(hostpath, "d"), None);
    }
}
