//! The ids of snapshots: where one is, in the grammar of a volume's id, and never one of those.
//!
//! ```text
//! s1:<server>:<path>[:<flag><value>]...:<key>
//! ```

use std::fmt;

use crate::model::volume_handle::Export;
use crate::model::volume_handle::HandleError;
use crate::model::volume_handle::VolumeHandle;
use crate::model::volume_handle::VolumeKey;

const PREFIX: &str = "s1:";
const PREFIX_OF_VOLUMES: &str = "v1:";

/// A snapshot that our controller has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHandle {
    /// Where.
    pub export: Export,
    /// Which: its directory in there.
    pub key: VolumeKey,
}

impl SnapshotHandle {
    /// The id of a snapshot.
    ///
    /// # Errors
    /// Where it would not fit: see [`VolumeHandle::id`].
    pub fn id(&self) -> Result<String, HandleError> {
        self.as_volume().id()?;
        Ok(self.to_string())
    }

    /// Reads an id; none where our controller has not made it.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let rest = id.strip_prefix(PREFIX)?;
        let VolumeHandle { export, key } =
            VolumeHandle::parse(&format!("{PREFIX_OF_VOLUMES}{rest}"))?;
        Some(Self { export, key })
    }

    fn as_volume(&self) -> VolumeHandle {
        VolumeHandle { export: self.export.clone(), key: self.key.clone() }
    }
}

impl fmt::Display for SnapshotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.as_volume().to_string();
        write!(f, "{PREFIX}{}", text.strip_prefix(PREFIX_OF_VOLUMES).unwrap_or(&text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_of_a_snapshot_is_none_of_a_volume_and_the_other_way_round() {
        let snapshot = SnapshotHandle::parse("s1:nas.corp:/a:p12049:snapshot-1").unwrap();
        assert_eq!(snapshot.id().unwrap(), "s1:nas.corp:/a:p12049:snapshot-1");
        assert_eq!(snapshot.key.as_str(), "snapshot-1");
        assert_eq!(VolumeHandle::parse("s1:nas.corp:/a:p12049:snapshot-1"), None);
        for id in [
            "v1:nas.corp:/a:b",
            "s1:nas.corp:/:..",
            "s1:nas.corp:/:a/b",
            "s2:nas.corp:/:a",
            "x",
            "",
        ] {
            assert_eq!(SnapshotHandle::parse(id), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_for_a_snapshot_is_spelled_as_we_spell_it_and_stays_in_its_directory(
            id in "s1:[a-z0-9.=:/_-]{0,60}",
        ) {
            if let Some(handle) = SnapshotHandle::parse(&id) {
                prop_assert_eq!(handle.to_string(), id);
                prop_assert!(!handle.key.as_str().contains('/'));
                prop_assert!(!handle.key.as_str().starts_with('.'));
            }
        }
    }
}
