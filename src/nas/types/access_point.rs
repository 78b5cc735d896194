//! Access points: made, described. General-purpose NAS with NFS alone has them.

use serde::Deserialize;

use crate::nas::query::Query;
use crate::nas::types::FileSystemId;
use crate::nas::types::Tag;
use crate::nas::types::states;

/// Which one.
#[derive(Clone, Copy, Debug)]
pub struct AccessPointRef<'a> {
    /// Of which file system.
    pub file_system_id: &'a FileSystemId,
    /// `ap-ie15yd`.
    pub access_point_id: &'a str,
}

impl AccessPointRef<'_> {
    pub(in crate::nas) fn query(&self) -> Query {
        Query::default()
            .with("FileSystemId", self.file_system_id)
            .with("AccessPointId", self.access_point_id)
    }
}

/// What an access point's root is made with where it is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootDirectory {
    /// Whose it is.
    pub owner_user_id: u32,
    /// Whose group's it is.
    pub owner_group_id: u32,
    /// The permission bits, 0o755.
    pub mode: u16,
}

/// An access point that is to be made. The API knows no token for it: after a lost answer look first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateAccessPoint {
    /// Of which file system.
    pub file_system_id: FileSystemId,
    /// `DEFAULT_VPC_GROUP_NAME` lets everybody of the VPC in.
    pub access_group: String,
    /// For people.
    pub name: Option<String>,
    /// In which VPC.
    pub vpc_id: String,
    /// In which of its switches.
    pub vswitch_id: String,
    /// From the file system's root.
    pub root_directory: String,
    /// Required where the root is not there yet.
    pub root: Option<RootDirectory>,
    /// As whom everybody comes.
    pub posix_user: Option<PosixUser>,
    /// Whether RAM decides who may mount it.
    pub enabled_ram: bool,
    /// By which we know our own.
    pub tags: Vec<Tag>,
}

impl CreateAccessPoint {
    pub(in crate::nas) fn query(&self) -> Query {
        let (root, user) = (self.root, self.posix_user.as_ref());
        let groups = user.map(|user| user.posix_secondary_group_ids.as_slice());
        let groups = groups
            .filter(|groups| !groups.is_empty())
            .map(|groups| groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
        Query::default()
            .with("FileSystemId", &self.file_system_id)
            .with("AccessGroup", &self.access_group)
            .with_some("AccessPointName", self.name.as_ref())
            .with("VpcId", &self.vpc_id)
            .with("VswId", &self.vswitch_id)
            .with("RootDirectory", &self.root_directory)
            .with_some("OwnerUserId", root.map(|root| root.owner_user_id))
            .with_some("OwnerGroupId", root.map(|root| root.owner_group_id))
            .with_some("Permission", root.map(|root| format!("{:04o}", root.mode)))
            .with_some("PosixUserId", user.map(|user| user.posix_user_id))
            .with_some("PosixGroupId", user.map(|user| user.posix_group_id))
            .with_some("PosixSecondaryGroupIds", groups)
            .with("EnabledRam", self.enabled_ram)
            .with_tags(&self.tags)
    }
}

/// What was made. It is [`AccessPointStatus::Pending`] for a while.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreatedAccessPoint {
    /// `ap-ie15yd`.
    pub access_point_id: String,
    /// Under which name it is mounted.
    pub access_point_domain: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct CreatedAccessPointAnswer {
    pub(in crate::nas) access_point: CreatedAccessPoint,
}

states! {
    /// Whether it can be mounted.
    AccessPointStatus {
        /// It can.
        Active,
        /// It cannot.
        Inactive,
        /// Being made.
        Pending,
        /// On its way out.
        Deleting,
    }
}

/// As whom everybody comes who comes by an access point.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PosixUser {
    /// The user.
    pub posix_user_id: u32,
    /// The group.
    pub posix_group_id: u32,
    /// Further groups.
    #[serde(default)]
    pub posix_secondary_group_ids: Vec<u32>,
}

/// An access point, as it is described.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AccessPoint {
    /// `ap-ie15yd`.
    pub access_point_id: String,
    /// Of which file system.
    pub file_system_id: FileSystemId,
    /// Under which name it is mounted.
    #[serde(default)]
    pub domain_name: Option<String>,
    /// Whether it can be mounted.
    pub status: AccessPointStatus,
    /// From the file system's root.
    #[serde(default)]
    pub root_path: Option<String>,
    /// 0: unknown, 1: not there, 2: there.
    #[serde(default)]
    pub root_path_status: Option<String>,
    /// Who is let in.
    #[serde(default)]
    pub access_group: Option<String>,
    /// For people.
    #[serde(default)]
    pub access_point_name: Option<String>,
    /// Whether RAM decides who may mount it.
    #[serde(default)]
    pub enabled_ram: Option<bool>,
    /// In which VPC.
    #[serde(default)]
    pub vpc_id: Option<String>,
    /// In which of its switches.
    #[serde(default, rename = "VSwitchId")]
    pub vswitch_id: Option<String>,
    /// By which we know our own.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct DescribedAccessPoint {
    pub(in crate::nas) access_point: AccessPoint,
}

/// A page of the list. This call counts by a token where all others count pages.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct AccessPointsPage {
    #[serde(default)]
    pub(in crate::nas) access_points: Vec<AccessPoint>,
    /// Where the next page begins; nothing behind the last one.
    #[serde(default)]
    pub(in crate::nas) next_token: Option<String>,
}
