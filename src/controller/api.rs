//! What the controller needs of the vendor's API, and why it did not get it.
//!
//! The narrow side of [`crate::nas`]: a test has an account in memory in its place. Without it every volume that is a
//! directory without a quota works as before; the others are refused in one sentence ([`CloudFault`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::controller::tree::ExportFault;
use crate::model::ClassError;
use crate::nas::Action;
use crate::nas::Deleted;
use crate::nas::NasCause;
use crate::nas::NasClient;
use crate::nas::NasFault;
use crate::nas::Region;
use crate::nas::types::AccessPoint;
use crate::nas::types::AccessPointRef;
use crate::nas::types::CreateAccessPoint;
use crate::nas::types::CreateFileSystem;
use crate::nas::types::CreateMountTarget;
use crate::nas::types::DirQuota;
use crate::nas::types::FileSystem;
use crate::nas::types::FileSystemId;
use crate::nas::types::IdError;
use crate::nas::types::MountTarget;
use crate::nas::types::RecycleBin;
use crate::nas::types::SetDirQuota;
use crate::nas::types::Tag;
use crate::nfs::client::NfsFault;

/// The tag that says which install has made something.
pub(super) const DRIVER_TAG: &str = "alinas-csi/driver";

/// For one thing to come about. A sidecar waits for 150 s, and a file system needs two of them.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The calls that are made for volumes. Each one is described at [`NasClient`].
#[async_trait]
#[expect(missing_docs, reason = "they are those of NasClient")]
pub trait NasApi: fmt::Debug + Send + Sync {
    fn region(&self) -> &Region;
    async fn file_system(&self, id: &FileSystemId) -> Result<Option<FileSystem>, NasFault>;
    async fn file_systems(&self, tags: &[Tag]) -> Result<Vec<FileSystem>, NasFault>;
    async fn create_file_system(&self, of: &CreateFileSystem) -> Result<FileSystemId, NasFault>;
    async fn delete_file_system(&self, id: &FileSystemId) -> Result<Deleted, NasFault>;
    async fn tag_file_system(&self, id: &FileSystemId, tags: &[Tag]) -> Result<(), NasFault>;
    async fn recycle_bin(&self, id: &FileSystemId) -> Result<RecycleBin, NasFault>;
    async fn mount_targets(&self, id: &FileSystemId) -> Result<Vec<MountTarget>, NasFault>;
    async fn create_mount_target(&self, of: &CreateMountTarget) -> Result<String, NasFault>;
    async fn delete_mount_target(
        &self,
        id: &FileSystemId,
        domain: &str,
    ) -> Result<Deleted, NasFault>;
    async fn dir_quota(&self, id: &FileSystemId, path: &str) -> Result<Option<DirQuota>, NasFault>;
    async fn set_dir_quota(&self, quota: &SetDirQuota) -> Result<(), NasFault>;
    async fn cancel_dir_quota(&self, id: &FileSystemId, path: &str) -> Result<Deleted, NasFault>;
    async fn access_points(&self, id: &FileSystemId) -> Result<Vec<AccessPoint>, NasFault>;
    async fn access_point(
        &self,
        which: AccessPointRef<'_>,
    ) -> Result<Option<AccessPoint>, NasFault>;
    async fn create_access_point(&self, of: &CreateAccessPoint) -> Result<(), NasFault>;
    async fn delete_access_point(&self, which: AccessPointRef<'_>) -> Result<Deleted, NasFault>;
}

/// The API with who asks it. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Cloud {
    pub(super) api: Arc<dyn NasApi>,
    /// The name of the driver, so that two installs in one account leave each other's things alone.
    pub(super) driver: String,
}

impl Cloud {
    /// What is made is marked as that of `driver`.
    #[must_use]
    pub fn new(api: Arc<dyn NasApi>, driver: String) -> Self {
        Self { api, driver }
    }

    /// What a class or an id says must be where this API is.
    pub(super) fn ensure_region(&self, wanted: Option<&str>) -> Result<(), CloudFault> {
        let own = self.api.region().as_str();
        match wanted {
            Some(wanted) if wanted != own => {
                Err(CloudFault::Region { wanted: wanted.to_owned(), own: own.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// What the API is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `volumeAs: filesystem`.
    FileSystem,
    /// `volumeAs: accesspoint`.
    AccessPoint,
    /// `volumeCapacity: "true"`.
    Quota,
}

impl Need {
    fn actions(self) -> &'static [Action] {
        match self {
            Self::FileSystem => &[
                Action::CreateFileSystem,
                Action::CreateMountTarget,
                Action::DeleteFileSystem,
                Action::DeleteMountTarget,
                Action::DescribeFileSystems,
                Action::DescribeMountTargets,
                Action::GetRecycleBinAttribute,
                Action::TagResources,
            ],
            Self::AccessPoint => &[
                Action::CreateAccessPoint,
                Action::DeleteAccessPoint,
                Action::DescribeAccessPoint,
                Action::DescribeAccessPoints,
            ],
            Self::Quota => {
                &[Action::CancelDirQuota, Action::DescribeDirQuotas, Action::SetDirQuota]
            }
        }
    }

    fn permissions(self) -> String {
        self.actions().iter().map(|action| action.permission()).collect::<Vec<_>>().join(", ")
    }

    /// Who has no credentials at all is told everything that is missing at once.
    pub(super) fn failed(self, fault: NasFault) -> CloudFault {
        let fault = Box::new(fault);
        match &fault.cause {
            NasCause::Credentials(_) => CloudFault::NoCredentials { need: self, fault },
            _ => CloudFault::Call(fault),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FileSystem => "volumeAs \"filesystem\"",
            Self::AccessPoint => "volumeAs \"accesspoint\"",
            Self::Quota => "volumeCapacity \"true\"",
        })
    }
}

/// Why the API has not made, changed or removed something.
#[derive(Debug, thiserror::Error)]
pub enum CloudFault {
    /// It is not set up.
    #[error(
        "{need} needs the API of NAS, and the controller has no region: set --nas-region, and give it credentials of a \
         RAM user or role that is granted {} (deploy/ram-policy.json)",
        .need.permissions()
    )]
    NoApi {
        /// What for.
        need: Need,
    },
    /// Nobody has said who we are to it.
    #[error(
        "{need} needs the API of NAS: {fault}; grant their owner {} (deploy/ram-policy.json)",
        .need.permissions()
    )]
    NoCredentials {
        /// What for.
        need: Need,
        /// Where they were looked for. Its text is part of ours.
        fault: Box<NasFault>,
    },
    /// A call has failed.
    #[error("{0}")]
    Call(Box<NasFault>),
    /// Something is not ready yet.
    #[error("{what} is {state} after {} s; asked again, this goes on from there", .waited.as_secs())]
    Late {
        /// What.
        what: String,
        /// In the words of the API.
        state: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// What is there is not what we have made.
    #[error("{what} is left alone: {why}")]
    Foreign {
        /// What.
        what: String,
        /// What it lacks.
        why: String,
    },
    /// Another region.
    #[error(
        "this is about region {wanted}, and the controller makes and removes things in {own} alone (--nas-region)"
    )]
    Region {
        /// Of the class or the volume.
        wanted: String,
        /// Ours.
        own: String,
    },
    /// A name that the API does not take, or has not given.
    #[error("{0}")]
    Name(#[from] IdError),
    /// What was made cannot be mounted as the class says.
    #[error("{0}")]
    Mount(Box<ClassError>),
    /// What was made cannot be reached.
    #[error("{0}")]
    Export(Box<ExportFault>),
    /// What was made cannot be used.
    #[error("{server}: {source}")]
    Nfs {
        /// The mount target.
        server: String,
        /// Why.
        source: NfsFault,
    },
}

/// How long something has been waited for.
#[derive(Debug)]
pub(super) struct Waiting {
    since: Instant,
    pause: Duration,
}

impl Waiting {
    pub(super) fn begin() -> Self {
        Self { since: Instant::now(), pause: FIRST_PAUSE }
    }

    /// Pauses before the next look, longer each time.
    pub(super) async fn again(
        &mut self,
        what: impl FnOnce() -> String,
        state: impl FnOnce() -> String,
    ) -> Result<(), CloudFault> {
        let waited = self.since.elapsed();
        if waited >= PATIENCE {
            return Err(CloudFault::Late { what: what(), state: state(), waited });
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

#[async_trait]
impl NasApi for NasClient {
    fn region(&self) -> &Region {
        Self::region(self)
    }

    async fn file_system(&self, id: &FileSystemId) -> Result<Option<FileSystem>, NasFault> {
        Self::file_system(self, id).await
    }

    async fn file_systems(&self, tags: &[Tag]) -> Result<Vec<FileSystem>, NasFault> {
        Self::file_systems(self, tags).await
    }

    async fn create_file_system(&self, of: &CreateFileSystem) -> Result<FileSystemId, NasFault> {
        Self::create_file_system(self, of).await
    }

    async fn delete_file_system(&self, id: &FileSystemId) -> Result<Deleted, NasFault> {
        self.ensure_file_system_deleted(id).await
    }

    async fn tag_file_system(&self, id: &FileSystemId, tags: &[Tag]) -> Result<(), NasFault> {
        Self::tag_file_system(self, id, tags).await
    }

    async fn recycle_bin(&self, id: &FileSystemId) -> Result<RecycleBin, NasFault> {
        Self::recycle_bin(self, id).await
    }

    async fn mount_targets(&self, id: &FileSystemId) -> Result<Vec<MountTarget>, NasFault> {
        Self::mount_targets(self, id).await
    }

    async fn create_mount_target(&self, of: &CreateMountTarget) -> Result<String, NasFault> {
        Self::create_mount_target(self, of).await
    }

    async fn delete_mount_target(
        &self,
        id: &FileSystemId,
        domain: &str,
    ) -> Result<Deleted, NasFault> {
        self.ensure_mount_target_deleted(id, domain).await
    }

    async fn dir_quota(&self, id: &FileSystemId, path: &str) -> Result<Option<DirQuota>, NasFault> {
        Self::dir_quota(self, id, path).await
    }

    async fn set_dir_quota(&self, quota: &SetDirQuota) -> Result<(), NasFault> {
        Self::set_dir_quota(self, quota).await
    }

    async fn cancel_dir_quota(&self, id: &FileSystemId, path: &str) -> Result<Deleted, NasFault> {
        self.ensure_dir_quota_cancelled(id, path).await
    }

    async fn access_points(&self, id: &FileSystemId) -> Result<Vec<AccessPoint>, NasFault> {
        Self::access_points(self, id).await
    }

    async fn access_point(
        &self,
        which: AccessPointRef<'_>,
    ) -> Result<Option<AccessPoint>, NasFault> {
        Self::access_point(self, which).await
    }

    async fn create_access_point(&self, of: &CreateAccessPoint) -> Result<(), NasFault> {
        Self::create_access_point(self, of).await.map(drop)
    }

    async fn delete_access_point(&self, which: AccessPointRef<'_>) -> Result<Deleted, NasFault> {
        self.ensure_access_point_deleted(which).await
    }
}
