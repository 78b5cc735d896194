//! File systems: made, described.

use std::fmt;

use serde::Deserialize;

use crate::nas::action::Action;
use crate::nas::query::Query;
use crate::nas::types::ClientToken;
use crate::nas::types::FileSystemId;
use crate::nas::types::Gibibytes;
use crate::nas::types::Listing;
use crate::nas::types::MountTarget;
use crate::nas::types::Tag;
use crate::nas::types::nested;
use crate::nas::types::states;

/// Which product it is. CPFS is none of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileSystemType {
    /// General-purpose NAS.
    #[default]
    Standard,
    /// Extreme NAS.
    Extreme,
}

impl fmt::Display for FileSystemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "standard",
            Self::Extreme => "extreme",
        })
    }
}

/// A file system that is to be made. NFS is said for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateFileSystem {
    /// The same for every attempt at one file system.
    pub client_token: ClientToken,
    /// General-purpose or Extreme.
    pub file_system_type: FileSystemType,
    /// Standard: `Performance`, `Capacity` or `Premium`; extreme: `standard` or `advance`.
    pub storage_type: String,
    /// Required for Extreme NAS, and only there.
    pub capacity: Option<Gibibytes>,
    /// Required for Extreme NAS, `cn-hangzhou-b`.
    pub zone_id: Option<String>,
    /// 2 to 128 characters, of which the first is a letter.
    pub description: Option<String>,
    /// 0: not encrypted, 1: with a key of NAS, 2: with one of KMS.
    pub encrypt_type: Option<u8>,
    /// For encryption with a key of KMS.
    pub kms_key_id: Option<String>,
    /// Of one's own rights and bills.
    pub resource_group_id: Option<String>,
    /// Extreme NAS is billed by its VPC.
    pub vpc_id: Option<String>,
    /// In the VPC.
    pub vswitch_id: Option<String>,
    /// At most 20.
    pub tags: Vec<Tag>,
}

impl CreateFileSystem {
    pub(in crate::nas) fn query(&self) -> Query {
        Query::default()
            .with("ClientToken", &self.client_token)
            .with("FileSystemType", self.file_system_type)
            .with("ProtocolType", "NFS")
            .with("StorageType", &self.storage_type)
            .with_some("Capacity", self.capacity)
            .with_some("ZoneId", self.zone_id.as_ref())
            .with_some("Description", self.description.as_ref())
            .with_some("EncryptType", self.encrypt_type)
            .with_some("KmsKeyId", self.kms_key_id.as_ref())
            .with_some("ResourceGroupId", self.resource_group_id.as_ref())
            .with_some("VpcId", self.vpc_id.as_ref())
            .with_some("VSwitchId", self.vswitch_id.as_ref())
            .with_tags(&self.tags)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct CreatedFileSystem {
    pub(in crate::nas) file_system_id: FileSystemId,
}

states! {
    /// Where a file system is in its life.
    FileSystemStatus {
        /// Being made.
        Pending,
        /// Usable.
        Running,
        /// Out of use.
        Stopped,
        /// Growing.
        Extending,
        /// On its way out of use.
        Stopping,
        /// On its way out.
        Deleting,
    }
}

/// A file system, as it is described.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FileSystem {
    /// Its id.
    pub file_system_id: FileSystemId,
    /// `standard`, `extreme`, `cpfs`, `cpfsse`.
    #[serde(default)]
    pub file_system_type: Option<String>,
    /// Where it is in its life. The service says it of every kind.
    #[serde(default)]
    pub status: Option<FileSystemStatus>,
    /// `Performance`, …
    #[serde(default)]
    pub storage_type: Option<String>,
    /// `NFS` or `SMB`.
    #[serde(default)]
    pub protocol_type: Option<String>,
    /// `cn-hangzhou-b`.
    #[serde(default)]
    pub zone_id: Option<String>,
    /// Of Extreme NAS: what was bought. Of General-purpose NAS: what it may grow to.
    #[serde(default)]
    pub capacity: Option<u64>,
    /// Bytes in use.
    #[serde(default)]
    pub metered_size: Option<u64>,
    /// In words of whoever made it.
    #[serde(default)]
    pub description: Option<String>,
    /// By which we know our own.
    #[serde(default, deserialize_with = "nested")]
    pub tags: Vec<Tag>,
    /// How it is reached.
    #[serde(default, deserialize_with = "nested")]
    pub mount_targets: Vec<MountTarget>,
}

#[derive(Debug)]
pub(in crate::nas) struct DescribeFileSystems<'a> {
    pub(in crate::nas) file_system_id: Option<&'a FileSystemId>,
    pub(in crate::nas) tags: &'a [Tag],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct FileSystemsPage {
    #[serde(default, deserialize_with = "nested")]
    file_systems: Vec<FileSystem>,
    #[serde(default)]
    total_count: u64,
}

impl Listing for DescribeFileSystems<'_> {
    const ACTION: Action = Action::DescribeFileSystems;
    type Page = FileSystemsPage;
    type Item = FileSystem;

    fn query(&self) -> Query {
        Query::default().with_some("FileSystemId", self.file_system_id).with_tags(self.tags)
    }

    fn items(page: FileSystemsPage) -> (Vec<FileSystem>, u64) {
        (page.file_systems, page.total_count)
    }
}
