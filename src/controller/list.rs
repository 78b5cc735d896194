//! The volumes there are, in the order of their ids.
//!
//! Nobody keeps a list of them. The cluster says which volumes have a PersistentVolume, so on which exports there may be
//! others: those that were kept when their PersistentVolume went. The records on these exports say of each whether it
//! is there and what it is. A list is whole or it is refused: a volume that is missing from one would be taken for lost.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::controller::Condition;
use crate::controller::Controller;
use crate::controller::Facts;
use crate::controller::FindError;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::tree::ExportFault;
use crate::kubernetes::KubernetesFault;
use crate::kubernetes::Volumes;
use crate::model::Export;
use crate::model::VolumeHandle;
use crate::model::VolumeKey;
use crate::model::VolumeRef;
use crate::runtime::Chain;

/// Volumes in one answer: each is some hundred bytes, and a message has at most 4 MiB (gRPC's default).
const LONGEST: usize = 1000;
/// After a question that the cluster did not answer.
const AGAIN: Duration = Duration::from_secs(30);

/// The PersistentVolumes of one driver.
#[derive(Clone, Debug)]
pub struct InUse {
    volumes: Arc<dyn Volumes>,
    driver: String,
}

impl InUse {
    /// Those of `driver` among `volumes`.
    #[must_use]
    pub fn new(volumes: Arc<dyn Volumes>, driver: &str) -> Self {
        Self { volumes, driver: driver.to_owned() }
    }

    /// What an administrator has made by hand has an id that says nothing, and is left out.
    async fn refs(&self) -> Result<Vec<VolumeRef>, KubernetesFault> {
        let volumes = self.volumes.of_driver(&self.driver).await?;
        Ok(volumes.iter().filter_map(|volume| VolumeRef::parse(&volume.handle)).collect())
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// There is no cluster to ask.
    #[error(
        "volumes are listed by the PersistentVolumes of a cluster, and this controller asks none"
    )]
    NoCluster,
    /// It does not answer.
    #[error("failed to list volumes: {0}")]
    Cluster(#[from] KubernetesFault),
    /// A mount target does not say.
    #[error(transparent)]
    Find(#[from] FindError),
    /// What a listing was to go on from.
    #[error("there is no listing to go on with from {0:?}; list from the beginning")]
    Token(String),
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// What it holds.
    pub entries: Vec<(VolumeRef, T)>,
    /// Where the rest begins; none where there is none.
    pub next: Option<String>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: None }
    }
}

impl<T> Listed<T> {
    /// Asked while there are more: where there is no room for them, it is noted where they begin.
    fn is_full(&mut self, most: usize) -> bool {
        let most = if most == 0 { LONGEST } else { most.min(LONGEST) };
        let is_full = self.entries.len() >= most;
        if is_full {
            self.next = self.entries.last().map(|(last, _)| last.to_string());
        }
        is_full
    }

    fn put(&mut self, volume: VolumeRef, found: Result<T, FindError>) -> Result<(), FindError> {
        match found {
            Ok(found) => self.entries.push((volume, found)),
            Err(FindError::NotFound(id)) => tracing::debug!(volume.id = id, "not there any more"),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What becomes of a list where a mount target does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silent {
    IsAnError,
    /// Of the volumes that have a PersistentVolume. Nobody uses the others.
    IsACondition,
}

/// One directory may be reached in several ways, and is one volume all the same.
type Whereabouts = (String, String, VolumeKey);

impl Controller {
    /// The same, which knows of the volumes of a cluster.
    #[must_use]
    pub fn with_volumes(self, in_use: InUse) -> Self {
        Self { in_use: Some(in_use), ..self }
    }

    /// Whether there is a cluster to ask which volumes there are.
    #[must_use]
    pub fn knows_volumes(&self) -> bool {
        self.in_use.is_some()
    }

    /// Looks once into the trash of every export in use: what an earlier process left there is removed now, and not when
    /// the next call comes. Ends when that has begun, or with `stop`.
    pub async fn resume(self, stop: CancellationToken) {
        let Some(in_use) = &self.in_use else { return };
        let noticed = async {
            loop {
                match in_use.refs().await {
                    Ok(refs) => {
                        return exports(&refs).for_each(|one| self.sweeper.notice_once(one));
                    }
                    Err(fault) => {
                        tracing::warn!(error = %Chain(&fault), "trash is not looked for yet");
                        sleep(AGAIN).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(noticed).await;
    }

    /// Volumes behind `after`, at most `most` of them, 0 for as many as fit into an answer.
    ///
    /// # Errors
    /// When the cluster or a mount target does not say, or `after` is no id of a volume.
    pub async fn list_volumes(&self, after: &str, most: usize) -> Result<Listed<Facts>, ListError> {
        let mut listed = Listed::default();
        for volume in self.behind(after, Silent::IsAnError).await? {
            if listed.is_full(most) {
                break;
            }
            let found = self.facts(&volume).await;
            listed.put(volume, found)?;
        }
        Ok(listed)
    }

    /// How volumes fare, as [`list_volumes`](Self::list_volumes). A mount target that does not answer is a condition of its
    /// volumes that have a PersistentVolume.
    ///
    /// # Errors
    /// As there.
    pub async fn list_conditions(
        &self,
        after: &str,
        most: usize,
    ) -> Result<Listed<Condition>, ListError> {
        let mut listed = Listed::default();
        for volume in self.behind(after, Silent::IsACondition).await? {
            if listed.is_full(most) {
                break;
            }
            let found = self.condition(&volume).await;
            listed.put(volume, found)?;
        }
        Ok(listed)
    }

    /// The volumes whose ids come behind `after`, in their order.
    async fn behind(&self, after: &str, silent: Silent) -> Result<Vec<VolumeRef>, ListError> {
        if !after.is_empty() && VolumeRef::parse(after).is_none() {
            return Err(ListError::Token(after.to_owned()));
        }
        let mut volumes = self.volumes(silent).await?;
        volumes.retain(|id, _| id.as_str() > after);
        Ok(volumes.into_values().collect())
    }

    /// Every volume that has a PersistentVolume, and every other one on the same exports.
    async fn volumes(&self, silent: Silent) -> Result<BTreeMap<String, VolumeRef>, ListError> {
        let refs = self.in_use.as_ref().ok_or(ListError::NoCluster)?.refs().await?;
        let mut places: HashSet<Export> = exports(&refs).cloned().collect();
        places.extend(self.sweeper.exports());
        let mut directories: HashMap<Whereabouts, VolumeHandle> = HashMap::new();
        let mut others = Vec::new();
        for volume in refs {
            match volume {
                VolumeRef::Directory(handle) => {
                    directories.insert(whereabouts(&handle), handle);
                }
                other => others.push(other),
            }
        }
        let mut on_record = Vec::new();
        for export in places {
            let keys = match self.keys_on(&export).await {
                Err(FindError::Export(_)) if silent == Silent::IsACondition => continue,
                keys => keys?,
            };
            let handle = |key| VolumeHandle { export: export.clone(), key };
            on_record.extend(keys.into_iter().map(handle));
        }
        on_record.sort_by_cached_key(ToString::to_string);
        for handle in on_record {
            directories.entry(whereabouts(&handle)).or_insert(handle);
        }
        let volumes = directories.into_values().map(VolumeRef::Directory).chain(others);
        Ok(volumes.map(|volume| (volume.to_string(), volume)).collect())
    }

    async fn keys_on(&self, export: &Export) -> Result<Vec<VolumeKey>, FindError> {
        let mut tree = match self.exports.open(export).await {
            Ok(tree) => tree,
            Err(ExportFault::NoSuchPath { .. }) => return Ok(Vec::new()),
            Err(fault) => return Err(FindError::Export(Box::new(fault))),
        };
        let keys = async {
            match Home::find(tree.as_mut()).await? {
                Some(home) => home.keys(tree.as_mut()).await,
                None => Ok(Vec::new()),
            }
        };
        let server = || export.spec.host.to_string();
        keys.await.map_err(|source: HomeFault| FindError::Home { server: server(), source })
    }
}

/// Where volumes are directories, or were: each export as often as it has volumes.
fn exports(volumes: &[VolumeRef]) -> impl Iterator<Item = &Export> {
    volumes.iter().filter_map(|volume| match volume {
        VolumeRef::Directory(handle) => Some(&handle.export),
        VolumeRef::Shared(_) | VolumeRef::FileSystem(_) | VolumeRef::AccessPoint(_) => None,
    })
}

fn whereabouts(handle: &VolumeHandle) -> Whereabouts {
    let VolumeHandle { export, key } = handle;
    (export.spec.host.to_string(), export.path.as_str().to_owned(), key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::create::tests::request;
    use crate::controller::fake::Servers;
    use crate::kubernetes::volumes::fake::FakeVolumes;
    use crate::nfs::client::Kind;

    /// A controller that begins anew, and what the cluster says to it.
    fn started(servers: &Servers) -> (Controller, Arc<FakeVolumes>) {
        let volumes = Arc::new(FakeVolumes::default());
        let in_use = InUse::new(Arc::<FakeVolumes>::clone(&volumes), "d");
        (servers.controller().with_volumes(in_use), volumes)
    }

    async fn ids(
        controller: &Controller,
        after: &str,
        most: usize,
    ) -> (Vec<String>, Option<String>) {
        let Listed { entries, next } = controller.list_volumes(after, most).await.unwrap();
        (entries.iter().map(|(id, _)| id.to_string()).collect(), next)
    }

    async fn make(servers: &Servers, names: &[&str]) {
        let earlier = servers.controller();
        for name in names {
            earlier.create(request(name, &[])).await.unwrap();
        }
        earlier.sweeper.idle().await;
    }

    #[tokio::test]
    async fn one_persistent_volume_leads_to_every_volume_beside_it_and_pages_lose_none() {
        let servers = Servers::default().with("a.test").with("b.test");
        make(&servers, &["pvc-1", "pvc-2", "pvc-3", "pvc-4"]).await;
        let (controller, cluster) = started(&servers);
        // Of these one is known by another way to the same directory, one is gone, and one was made by hand.
        cluster.have(&["v1:a.test:/:pvc-2", "v1:a.test:/:pvc-9", "by-hand"]);
        let all = ["pvc-1", "pvc-2", "pvc-3", "pvc-4"].map(|key| format!("v1:a.test:/:{key}"));
        assert_eq!(ids(&controller, "", 0).await, (all.to_vec(), None));
        let (first, next) = ids(&controller, "", 3).await;
        assert_eq!(first, all[..3]);
        assert_eq!(next.as_deref(), Some(all[2].as_str()));
        assert_eq!(ids(&controller, &next.unwrap(), 3).await, (all[3..].to_vec(), None));
    }

    #[tokio::test]
    async fn a_directory_that_two_classes_reach_differently_is_one_volume_by_its_own_id() {
        let servers = Servers::default().with("a.test");
        make(&servers, &["pvc-1", "pvc-2"]).await;
        let (controller, cluster) = started(&servers);
        // By TLS 1.3 alone.
        cluster.have(&["v1:a.test:/:pvc-1", "v1:a.test:/:s:pvc-2"]);
        let (found, _) = ids(&controller, "", 0).await;
        assert_eq!(found, ["v1:a.test:/:pvc-1", "v1:a.test:/:s:pvc-2"]);
    }

    #[tokio::test]
    async fn a_list_that_would_be_short_is_refused_and_a_token_of_no_list_too() {
        let servers = Servers::default().with("a.test");
        make(&servers, &["pvc-1"]).await;
        let lone = servers.controller().list_volumes("", 0).await;
        assert!(matches!(lone, Err(ListError::NoCluster)));
        let (controller, cluster) = started(&servers);
        let unanswered = controller.list_volumes("", 0).await;
        assert!(matches!(unanswered, Err(ListError::Cluster(_))), "{unanswered:?}");
        cluster.have(&["v1:a.test:/:pvc-1"]);
        let strange = controller.list_volumes("by-hand", 0).await;
        assert!(matches!(strange, Err(ListError::Token(_))), "{strange:?}");
        servers.silence("a.test");
        let silent = controller.list_volumes("", 0).await;
        assert!(matches!(silent, Err(ListError::Find(FindError::Export(_)))), "{silent:?}");
        let conditions = controller.list_conditions("", 0).await.unwrap().entries;
        assert!(matches!(&conditions[..], [(_, Condition::OutOfReach(_))]), "{conditions:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_process_left_in_the_trash_goes_once_the_cluster_answers() {
        let servers = Servers::default().with("a.test");
        make(&servers, &["pvc-1", "pvc-2"]).await;
        servers.plant("a.test", ".alinas-csi/trash/left", Kind::File);
        let is_left = || servers.paths("a.test").iter().any(|path| path.ends_with("/left"));
        assert!(is_left());
        let (controller, cluster) = started(&servers);
        let resuming = tokio::spawn(controller.clone().resume(CancellationToken::new()));
        sleep(AGAIN / 2).await;
        assert!(is_left(), "nobody has said yet where to look");
        cluster.have(&["v1:a.test:/:pvc-1"]);
        resuming.await.unwrap();
        controller.sweeper.idle().await;
        assert!(!is_left());
    }
}
