//! Which mounts of this driver there are on the node, for whoever counts them.
//!
//! From the kernel's own tables and the paths that the kubelet gives to volumes: nothing has to be remembered, so it is
//! right after a restart, too. Whoever stages at other paths than the kubelet is not counted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::host::kubelet;
use crate::host::mount_stats::MountStats;
use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::node::Node;
use crate::node::accounts::Account;
use crate::node::accounts::Volumes;

/// For the kernel to write its tables down. It asks no server for that, but waits while another mount comes or goes.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// What is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Volumes at their staging paths.
    pub staged: Vec<StagedVolume>,
    /// What is at a staging path and was cut before it was a volume.
    pub half_made: u64,
}

/// A volume at its staging path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedVolume {
    /// Where.
    pub staging_path: PathBuf,
    /// Pods that it is published to.
    pub published: u64,
    /// Its PersistentVolume, which the kubelet's path at a pod has; until it is published its id, or the kubelet's
    /// name for its folder.
    pub name: String,
    /// The mount target.
    pub target: String,
    /// Its superblock.
    pub device: String,
}

/// What is mounted, and what the kernel has counted of it.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What is mounted.
    pub census: Census,
    /// The same, in the order of names.
    pub volumes: Volumes,
    /// What is counted.
    pub accounts: Vec<Account>,
}

impl Census {
    /// Reads the table for `driver`. A volume at no pod is named by `id_of` its staging path.
    #[must_use]
    pub fn of(driver: &str, table: &[MountEntry], id_of: impl Fn(&Path) -> Option<String>) -> Self {
        let mut published: HashMap<u64, (u64, &str)> = HashMap::new();
        for entry in table.iter().filter(|entry| entry.is_nfs()) {
            let volume = persistent_volume_at(&entry.mount_point);
            if let Some((group, volume)) = entry.peer_group.zip(volume) {
                published.entry(group).or_insert((0, volume)).0 += 1;
            }
        }
        let mut census = Self::default();
        let ours =
            |entry: &&MountEntry| entry.is_nfs() && is_staging_path(&entry.mount_point, driver);
        for entry in table.iter().filter(ours) {
            let Some(group) = entry.peer_group else {
                census.half_made += 1;
                continue;
            };
            let path = &entry.mount_point;
            let (published, name) = match published.get(&group) {
                Some((pods, volume)) => (*pods, (*volume).to_owned()),
                None => (0, id_of(path).unwrap_or_else(|| folder(path))),
            };
            census.staged.push(StagedVolume {
                staging_path: path.clone(),
                published,
                name,
                target: target(&entry.source),
                device: entry.device.clone(),
            });
        }
        census
    }
}

/// `…/plugins/kubernetes.io/csi/DRIVER/HASH/globalmount`, since Kubernetes 1.24.
fn is_staging_path(path: &Path, driver: &str) -> bool {
    let mut from_the_end = path.iter().rev();
    from_the_end.next() == Some(OsStr::new("globalmount"))
        && from_the_end.nth(1) == Some(OsStr::new(driver))
        && from_the_end.next() == Some(OsStr::new("csi"))
        && from_the_end.next() == Some(OsStr::new("kubernetes.io"))
}

/// What the kubelet makes of a volume's id.
fn folder(staging_path: &Path) -> String {
    let folder = staging_path.parent().and_then(Path::file_name);
    folder.unwrap_or_default().to_string_lossy().into_owned()
}

/// The host of `HOST:/PATH`.
fn target(source: &str) -> String {
    source.split_once(":/").map_or(source, |(host, _)| host).to_owned()
}

/// The PersistentVolume of `…/pods/UID/volumes/kubernetes.io~csi/NAME/mount`.
fn persistent_volume_at(path: &Path) -> Option<&str> {
    let mut from_the_end = path.iter().rev();
    let is_mount = from_the_end.next()? == OsStr::new("mount");
    let name = from_the_end.next()?.to_str()?;
    let is_of_csi = from_the_end.next()? == OsStr::new("kubernetes.io~csi");
    (is_mount && is_of_csi).then_some(name)
}

/// Reads what the kernel knows, away from everything else and one at a time: where the kernel keeps one reader waiting,
/// no further thread waits with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading(Arc<Mutex<()>>);

impl Reading {
    /// None where the kernel does not answer in time, or has not answered the one before.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let alone = Arc::clone(&self.0).try_lock_owned().ok()?;
        let work = tokio::task::spawn_blocking(move || {
            let _alone = alone;
            read()
        });
        timeout(DEADLINE, work).await.ok()?.ok()
    }
}

impl Node {
    /// What is mounted for `driver`, and what the kernel has counted of it. None where the kernel does not say within
    /// [`DEADLINE`].
    pub async fn survey(&self, driver: &str, stats: Arc<dyn MountStats>) -> Option<Survey> {
        let mounts: Arc<dyn MountTable> = Arc::clone(&self.mounts);
        let driver = driver.to_owned();
        let take = move || {
            let census = Census::of(&driver, &mounts.read().ok()?, kubelet::volume_handle);
            let volumes = Volumes::of(&census.staged);
            let accounts = volumes.accounts(&stats.read(&volumes.places()).ok()?);
            Some(Survey { census, volumes, accounts })
        };
        self.reading.read(take).await.flatten()
    }

    /// Mounts that are tried in the background at this moment.
    #[must_use]
    pub fn mounts_being_tried(&self) -> usize {
        self.background.being_tried()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mount_stats::NfsCounts;
    use crate::host::mount_stats::fake::FakeMountStats;
    use crate::node::fake::World;
    use crate::node::fake::entry;

    const DRIVER: &str = "alinas.csi.alibabacloud.com";

    fn staging(hash: &str) -> String {
        format!("/var/lib/kubelet/plugins/kubernetes.io/csi/{DRIVER}/{hash}/globalmount")
    }

    fn pod(uid: &str, volume: &str) -> String {
        format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/{volume}/mount")
    }

    fn in_group(group: Option<u64>, entry: MountEntry) -> MountEntry {
        MountEntry { peer_group: group, ..entry }
    }

    #[tokio::test]
    async fn volumes_are_counted_by_where_the_kubelet_has_them_and_others_are_not() {
        let of_another = staging("a").replace("alinas", "nfs");
        let world = World::default()
            .mounted(in_group(Some(1), entry(1, &staging("a"), "nas:/a")))
            .mounted(in_group(Some(1), entry(2, &pod("1", "pv-a"), "nas:/a")))
            .mounted(in_group(Some(1), entry(3, &pod("2", "pv-a"), "nas:/a")))
            .mounted(MountEntry {
                device: "0:2".to_owned(),
                ..in_group(Some(2), entry(4, &staging("b"), "nas:/b"))
            })
            .mounted(in_group(None, entry(5, &staging("c"), "nas:/c")))
            .mounted(in_group(Some(3), entry(6, &of_another, "nas:/d")))
            .mounted(in_group(Some(3), entry(7, &pod("3", "pv-d"), "nas:/d")))
            .mounted(in_group(Some(4), entry(8, "/mnt", "nas:/e")))
            .mounted(MountEntry {
                fs_type: "tmpfs".to_owned(),
                ..entry(9, &staging("f"), "tmpfs")
            });
        let counts = NfsCounts { bytes_read: 7, ..NfsCounts::default() };
        let at = |hash: &str| PathBuf::from(staging(hash));
        let stats = FakeMountStats([(at("a"), counts.clone()), (at("c"), counts)].into());
        let survey = world.node().survey(DRIVER, Arc::new(stats.clone())).await.unwrap();
        let staged = survey.census.staged.iter();
        let staged: Vec<_> = staged.map(|one| (one.name.as_str(), one.published)).collect();
        assert_eq!((staged, survey.census.half_made), (vec![("pv-a", 2), ("b", 0)], 1));
        let accounts = survey.accounts.iter();
        let accounts: Vec<_> = accounts
            .map(|one| (one.target.as_str(), one.volume.as_str(), one.counts.bytes_read))
            .collect();
        assert_eq!(accounts, [("nas", "pv-a", 7)]);
        world.hide_mounts();
        assert!(world.node().survey(DRIVER, Arc::new(stats)).await.is_none());
    }

    #[test]
    fn a_volume_at_no_pod_has_its_id_for_a_name() {
        let table = [entry(1, &staging("a"), "[fd00::1]:/x")];
        let named = |id: Option<&str>| {
            let census = Census::of(DRIVER, &table, |_| id.map(str::to_owned));
            (census.staged[0].name.clone(), census.staged[0].target.clone())
        };
        assert_eq!(named(Some("vol-1")), ("vol-1".to_owned(), "[fd00::1]".to_owned()));
        assert_eq!(named(None).0, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kernel_that_does_not_answer_keeps_one_thread_and_nobody_else() {
        let reading = Reading::default();
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let reading = reading.clone();
            async move { reading.read(move || held.recv().is_ok()).await }
        });
        while reading.0.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(reading.read(|| true).await, None);
        let_go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Some(true));
        assert_eq!(reading.read(|| true).await, Some(true));
    }
}
