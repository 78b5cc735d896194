//! What is known about a volume, in a small file beside it.
//!
//! Written by this process for this process, but it lies on a file system that others can mount: what is read is
//! checked as if a stranger had written it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::model::OnDelete;
use crate::model::VolumeKey;
use crate::model::storage_class::directory_fault;

/// The latest format. Every released one stands in `e2e/records`. A volume that needs nothing of it, a quota or an origin,
/// is written in the first one, which an earlier release reads, too.
const VERSION: u32 = 2;
const FIRST_VERSION: u32 = 1;

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeRecord {
    pub(super) version: u32,
    /// The name that the volume was asked for by.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// The size in bytes: that of the quota, or what was asked for where nothing enforces it.
    pub capacity: i64,
    /// What becomes of it.
    pub on_delete: OnDelete,
    /// The permission bits that the directory was given.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The volume's attributes.
    pub context: BTreeMap<String, String>,
    /// The id of the file system on which the directory has a quota. Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_on: Option<String>,
    /// What it was copied from. Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What a volume or snapshot is a copy of, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A volume.
    Volume(String),
    /// A snapshot.
    Snapshot(String),
}

/// Why a file is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a later release.
    #[error(
        "it has version {0}, and this release knows {FIRST_VERSION} to {VERSION}; upgrade the driver"
    )]
    Later(u32),
    /// Not what we write.
    #[error("it cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A quota, and the version of one without.
    #[error(
        "it has version {FIRST_VERSION}, which has no quota, and names the file system {0:?} of one"
    )]
    Quota(String),
    /// Its directory is none of a volume.
    #[error("it names the directory {directory:?}: {why}")]
    Directory {
        /// What it names.
        directory: String,
        /// Which rule that breaks.
        why: &'static str,
    },
    /// The file of another volume.
    #[error("it is the record of the directory {0:?}, which has another file")]
    Elsewhere(String),
}

impl VolumeRecord {
    /// A volume of the format of this release.
    #[must_use]
    pub fn new(name: String, directory: String, on_delete: OnDelete) -> Self {
        Self {
            version: FIRST_VERSION,
            name,
            directory,
            capacity: 0,
            on_delete,
            mode: 0,
            uid: 0,
            gid: 0,
            context: BTreeMap::new(),
            quota_on: None,
            origin: None,
        }
    }

    /// The same, with a quota on a file system, where it has one.
    #[must_use]
    pub fn with_quota(self, file_system_id: Option<String>) -> Self {
        let version = if file_system_id.is_some() { VERSION } else { self.version };
        Self { version, quota_on: file_system_id, ..self }
    }

    /// As a copy of something, where it is one.
    #[must_use]
    pub fn copied_from(self, origin: Option<Origin>) -> Self {
        let version = if origin.is_some() { VERSION } else { self.version };
        Self { version, origin, ..self }
    }

    /// The file's content.
    ///
    /// # Errors
    /// Never: every field can be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads the file of a key.
    ///
    /// # Errors
    /// Says why it cannot be believed.
    pub fn from_bytes(bytes: &[u8], key: &VolumeKey) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(RecordError::Later(version));
        }
        let record: Self = serde_json::from_slice(bytes)?;
        if let (FIRST_VERSION, Some(id)) = (version, &record.quota_on) {
            return Err(RecordError::Quota(id.clone()));
        }
        if let Some(why) = directory_fault(&record.directory) {
            return Err(RecordError::Directory { directory: record.directory, why });
        }
        // Else a changed record would have another volume's directory deleted.
        if VolumeKey::of_directory(&record.directory) != *key {
            return Err(RecordError::Elsewhere(record.directory));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RELEASED: &[u8] = include_bytes!("../../e2e/records/volume-v1/pvc-1.json");
    const WITH_QUOTA: &[u8] = include_bytes!("../../e2e/records/volume-v2/pvc-1.json");
    const SECOND: &[u8] = include_bytes!("../../e2e/records/volume-v2/pvc-2.json");

    fn key() -> VolumeKey {
        VolumeKey::of_directory("pvc-1")
    }

    #[test]
    fn every_record_of_a_released_format_is_read_and_written_back_as_it_was() {
        let record = VolumeRecord::from_bytes(RELEASED, &key()).unwrap();
        assert_eq!(record.name, "pvc-1");
        assert_eq!(record.on_delete, OnDelete::Archive);
        assert_eq!(record.to_bytes().unwrap(), RELEASED.trim_ascii_end());
        let record = VolumeRecord::from_bytes(WITH_QUOTA, &key()).unwrap();
        assert_eq!(record.quota_on.as_deref(), Some("0123456789"));
        assert_eq!(record.to_bytes().unwrap(), WITH_QUOTA.trim_ascii_end());
        let second = VolumeRecord::from_bytes(SECOND, &VolumeKey::of_directory("pvc-2")).unwrap();
        assert_eq!(second.origin, Some(Origin::Snapshot("s1:nas.corp:/:snapshot-1".to_owned())));
        assert_eq!(second.to_bytes().unwrap(), SECOND.trim_ascii_end());
    }

    #[test]
    fn a_record_that_was_changed_by_somebody_is_not_believed() {
        let text = std::str::from_utf8(RELEASED).unwrap();
        for (from, to, said) in [
            ("\"version\":1", "\"version\":3", "upgrade"),
            ("\"version\":1", "\"version\":1,\"quotaOn\":\"31a8e4\"", "has no quota"),
            ("\"directory\":\"pvc-1\"", "\"directory\":\"../other\"", "one directory"),
            ("\"directory\":\"pvc-1\"", "\"directory\":\".alinas-csi\"", "hidden"),
            ("\"directory\":\"pvc-1\"", "\"directory\":\"pvc-2\"", "another file"),
            ("\"uid\"", "\"uuid\"", "cannot be read"),
            ("archive", "burn", "cannot be read"),
        ] {
            assert!(text.contains(from), "{from}");
            let changed = text.replacen(from, to, 1);
            let error = VolumeRecord::from_bytes(changed.as_bytes(), &key()).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(VolumeRecord::from_bytes(b"", &key()).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_record_says_it_leads_to_its_own_directory_alone(directory in "\\PC{0,40}") {
            let record = VolumeRecord::new("n".to_owned(), directory.clone(), OnDelete::Delete);
            let bytes = record.to_bytes().unwrap();
            let own = VolumeKey::of_directory(&directory);
            if VolumeRecord::from_bytes(&bytes, &own).is_ok() {
                prop_assert!(!directory.contains('/') && !directory.starts_with('.'));
            }
            if own != key() {
                prop_assert!(VolumeRecord::from_bytes(&bytes, &key()).is_err());
            }
        }
    }
}
