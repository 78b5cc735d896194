//! Questions to the kernel's mount table. Pure, but for reading it.

use std::io;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;

/// The mount table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the kernel's mount table")]
pub struct ReadMounts {
    source: io::Error,
}

impl From<io::Error> for ReadMounts {
    fn from(source: io::Error) -> Self {
        Self { source }
    }
}

/// Reads the table. Never blocks, whatever state the mounts in it are in.
pub(super) fn read(table: &dyn MountTable) -> Result<Vec<MountEntry>, ReadMounts> {
    table.read().map_err(ReadMounts::from)
}

/// Whether both show the same directory, so that one does for the other.
pub(super) fn shows_the_same(one: &MountEntry, other: &MountEntry) -> bool {
    is_bind_of(one, other) || (one.device == other.device && one.root == other.root)
}

/// Whether `bind` was bound from `origin` as a whole. A subPath of Kubernetes has another root.
///
/// Device and root would not tell: two volumes of one file system share them, but never the peer group.
pub(super) fn is_bind_of(bind: &MountEntry, origin: &MountEntry) -> bool {
    bind.peer_group.is_some() && bind.peer_group == origin.peer_group && bind.root == origin.root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::fake::entry;

    #[test]
    fn another_volume_of_the_same_file_system_is_no_bind() {
        let staging = entry(1, "/a", "nas:/");
        let other_volume = MountEntry { peer_group: Some(99), ..entry(2, "/b", "nas:/") };
        let unshared = MountEntry { peer_group: None, ..entry(3, "/c", "nas:/") };
        let sub_path = MountEntry { root: "/sub".to_owned(), ..staging.clone() };
        assert!(is_bind_of(&staging, &staging));
        for not_a_bind in [&other_volume, &unshared, &sub_path] {
            assert!(!is_bind_of(not_a_bind, &staging), "{not_a_bind:?}");
            assert!(!is_bind_of(&staging, not_a_bind), "{not_a_bind:?}");
        }
        assert!(!is_bind_of(&unshared, &unshared));
    }
}
