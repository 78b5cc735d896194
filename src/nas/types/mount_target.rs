//! Mount targets: made, described.

use serde::Deserialize;

use crate::nas::action::Action;
use crate::nas::query::Query;
use crate::nas::types::FileSystemId;
use crate::nas::types::Listing;
use crate::nas::types::nested;
use crate::nas::types::states;

/// A mount target in a VPC that is to be made. The API knows no token for it: after a lost answer look first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateMountTarget {
    /// Of which file system.
    pub file_system_id: FileSystemId,
    /// `DEFAULT_VPC_GROUP_NAME` lets everybody of the VPC in.
    pub access_group_name: String,
    /// In which VPC.
    pub vpc_id: String,
    /// In which of its switches.
    pub vswitch_id: String,
    /// Who may reach it.
    pub security_group_id: Option<String>,
}

impl CreateMountTarget {
    pub(in crate::nas) fn query(&self) -> Query {
        Query::default()
            .with("FileSystemId", &self.file_system_id)
            .with("AccessGroupName", &self.access_group_name)
            .with("NetworkType", "Vpc")
            .with("VpcId", &self.vpc_id)
            .with("VSwitchId", &self.vswitch_id)
            .with_some("SecurityGroupId", self.security_group_id.as_ref())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct CreatedMountTarget {
    pub(in crate::nas) mount_target_domain: String,
}

states! {
    /// Whether it can be mounted.
    MountTargetStatus {
        /// It can.
        Active,
        /// Somebody has switched it off.
        Inactive,
        /// Being made or changed.
        Pending,
        /// On its way out.
        Deleting,
        /// On its way to sleep.
        Hibernating,
        /// Asleep.
        Hibernated,
    }
}

/// A mount target, as it is described.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountTarget {
    /// Under which name it is mounted.
    pub mount_target_domain: String,
    /// Whether it can be mounted.
    #[serde(default)]
    pub status: Option<MountTargetStatus>,
    /// Who is let in. The two calls that describe a mount target call it differently.
    #[serde(default, alias = "AccessGroupName")]
    pub access_group: Option<String>,
    /// `Vpc` or `Classic`.
    #[serde(default)]
    pub network_type: Option<String>,
    /// In which VPC.
    #[serde(default)]
    pub vpc_id: Option<String>,
    /// In which of its switches.
    #[serde(default, rename = "VswId")]
    pub vswitch_id: Option<String>,
    /// Only access points of it are let in.
    #[serde(default)]
    pub access_point_access_only: Option<bool>,
}

#[derive(Debug)]
pub(in crate::nas) struct DescribeMountTargets<'a> {
    pub(in crate::nas) file_system_id: &'a FileSystemId,
    pub(in crate::nas) domain: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct MountTargetsPage {
    #[serde(default, deserialize_with = "nested")]
    mount_targets: Vec<MountTarget>,
    #[serde(default)]
    total_count: u64,
}

impl Listing for DescribeMountTargets<'_> {
    const ACTION: Action = Action::DescribeMountTargets;
    type Page = MountTargetsPage;
    type Item = MountTarget;

    fn query(&self) -> Query {
        Query::default()
            .with("FileSystemId", self.file_system_id)
            .with_some("MountTargetDomain", self.domain)
    }

    fn items(page: MountTargetsPage) -> (Vec<MountTarget>, u64) {
        (page.mount_targets, page.total_count)
    }
}
