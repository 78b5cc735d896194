//! Which mounts of this driver there are on the node, for whoever counts them.
//!
//! From the kernel's mount table and the paths that the kubelet gives to volumes: nothing has to be remembered, so it is
//! right after a restart, too. Whoever stages at other paths than the kubelet is not counted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::node::Node;

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
}

impl Census {
    /// Reads the table for `driver`.
    #[must_use]
    pub fn of(driver: &str, table: &[MountEntry]) -> Self {
        let mut published: HashMap<u64, u64> = HashMap::new();
        for entry in table.iter().filter(|entry| persistent_volume_at(&entry.mount_point).is_some())
        {
            if let Some(group) = entry.peer_group.filter(|_| entry.is_nfs()) {
                *published.entry(group).or_default() += 1;
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
            census.staged.push(StagedVolume {
                staging_path: entry.mount_point.clone(),
                published: published.get(&group).copied().unwrap_or_default(),
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
    /// What is mounted for `driver`. None where the kernel does not say within [`DEADLINE`].
    pub async fn census(&self, driver: &str) -> Option<Census> {
        let (mounts, driver): (Arc<dyn MountTable>, _) =
            (Arc::clone(&self.mounts), driver.to_owned());
        let take = move || Some(Census::of(&driver, &mounts.read().ok()?));
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
            .mounted(in_group(Some(2), entry(4, &staging("b"), "nas:/b")))
            .mounted(in_group(None, entry(5, &staging("c"), "nas:/c")))
            .mounted(in_group(Some(3), entry(6, &of_another, "nas:/d")))
            .mounted(in_group(Some(3), entry(7, &pod("3", "pv-d"), "nas:/d")))
            .mounted(in_group(Some(4), entry(8, "/mnt", "nas:/e")))
            .mounted(MountEntry {
                fs_type: "tmpfs".to_owned(),
                ..entry(9, &staging("f"), "tmpfs")
            });
        let census = world.node().census(DRIVER).await.unwrap();
        let staged: Vec<_> = census.staged.iter().map(|volume| volume.published).collect();
        assert_eq!((staged, census.half_made), (vec![2, 0], 1));
        assert_eq!(census.staged[0].staging_path, Path::new(&staging("a")));
        world.hide_mounts();
        assert_eq!(world.node().census(DRIVER).await, None);
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
