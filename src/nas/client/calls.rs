//! The calls that there are.
//!
//! What may be gone already is deleted by an `ensure_…`, which says what it found. That something is not there is
//! an answer to who asks for it, and no failure; by which codes the service says so stands at each call.

use serde::Deserialize;

use crate::nas::action::Action;
use crate::nas::client::MOST_PAGES;
use crate::nas::client::NasClient;
use crate::nas::client::PAGE_SIZE;
use crate::nas::fault::NasFault;
use crate::nas::query::Query;
use crate::nas::types::AccessPoint;
use crate::nas::types::AccessPointRef;
use crate::nas::types::AccessPointsPage;
use crate::nas::types::CancelDirQuota;
use crate::nas::types::CreateAccessPoint;
use crate::nas::types::CreateDir;
use crate::nas::types::CreateFileSystem;
use crate::nas::types::CreateMountTarget;
use crate::nas::types::CreatedAccessPoint;
use crate::nas::types::CreatedAccessPointAnswer;
use crate::nas::types::CreatedFileSystem;
use crate::nas::types::CreatedMountTarget;
use crate::nas::types::DescribeDirQuotas;
use crate::nas::types::DescribeFileSystems;
use crate::nas::types::DescribeMountTargets;
use crate::nas::types::DescribedAccessPoint;
use crate::nas::types::DirQuota;
use crate::nas::types::FileSystem;
use crate::nas::types::FileSystemId;
use crate::nas::types::Listing;
use crate::nas::types::MountTarget;
use crate::nas::types::RecycleBin;
use crate::nas::types::RecycleBinAnswer;
use crate::nas::types::SetDirQuota;
use crate::nas::types::Tag;

/// What a deletion found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It was there, and is on its way out.
    Now,
    /// It was not there.
    Already,
}

const ACCESS_POINT_GONE: [&str; 4] = [
    "InvalidAccessPoint.NotFound",
    "InvalidAccessPointId.NotFound",
    "InvalidFileSystem.NotFound",
    "NotFound",
];

/// The answer to an order. The quota calls say that they have failed by a word of their own, too.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Order {
    #[serde(default, rename = "Success", deserialize_with = "not_false")]
    _success: (),
}

fn not_false<'de, D: serde::Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    match Option::<bool>::deserialize(from)? {
        Some(false) => Err(serde::de::Error::custom("it says that the request has failed")),
        Some(true) | None => Ok(()),
    }
}

impl NasClient {
    /// Makes a file system, or finds the one that was made with the same token. It is pending for a while.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn create_file_system(
        &self,
        request: &CreateFileSystem,
    ) -> Result<FileSystemId, NasFault> {
        let answer: CreatedFileSystem =
            self.call(Action::CreateFileSystem, request.query()).await?;
        Ok(answer.file_system_id)
    }

    /// Deletes a file system, with all that is in it. It must have no mount target.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn ensure_file_system_deleted(&self, id: &FileSystemId) -> Result<Deleted, NasFault> {
        let query = Query::default().with("FileSystemId", id);
        let codes = ["InvalidFileSystem.NotFound", "Forbidden.NasNotFound", "Resource.NotFound"];
        deleted(self.order(Action::DeleteFileSystem, query).await, &codes)
    }

    /// A file system, if it is there.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn file_system(&self, id: &FileSystemId) -> Result<Option<FileSystem>, NasFault> {
        let request = DescribeFileSystems { file_system_id: Some(id), tags: &[] };
        let codes = ["InvalidFileSystem.NotFound", "Resource.NotFound"];
        let found = present(self.all(&request).await, &codes)?.unwrap_or_default();
        Ok(found.into_iter().find(|file_system| file_system.file_system_id == *id))
    }

    /// The file systems of the region that have all of these tags.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn file_systems(&self, tags: &[Tag]) -> Result<Vec<FileSystem>, NasFault> {
        self.all(&DescribeFileSystems { file_system_id: None, tags }).await
    }

    /// How many file systems the region has: the smallest question, which asks for nothing but the right to read.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn number_of_file_systems(&self) -> Result<u64, NasFault> {
        let request = DescribeFileSystems { file_system_id: None, tags: &[] };
        let query = request.query().with("PageNumber", 1).with("PageSize", 1);
        let page = self.call(Action::DescribeFileSystems, query).await?;
        Ok(DescribeFileSystems::items(page).1)
    }

    /// Makes a mount target; its domain cannot be mounted before it is active.
    ///
    /// # Errors
    /// See [`NasFault`]. Where it may have been done, look for it before it is asked for again.
    pub async fn create_mount_target(
        &self,
        request: &CreateMountTarget,
    ) -> Result<String, NasFault> {
        let answer: CreatedMountTarget =
            self.call(Action::CreateMountTarget, request.query()).await?;
        Ok(answer.mount_target_domain)
    }

    /// Deletes a mount target. Whoever has it mounted hangs.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn ensure_mount_target_deleted(
        &self,
        file_system_id: &FileSystemId,
        domain: &str,
    ) -> Result<Deleted, NasFault> {
        let query = Query::default().with("FileSystemId", file_system_id);
        let query = query.with("MountTargetDomain", domain);
        let codes = [
            "InvalidMountTarget.NotFound",
            "InvalidParam.MountTargetDomain",
            "InvalidFileSystem.NotFound",
            "Forbidden.NasNotFound",
        ];
        deleted(self.order(Action::DeleteMountTarget, query).await, &codes)
    }

    /// The mount targets of a file system.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn mount_targets(
        &self,
        file_system_id: &FileSystemId,
    ) -> Result<Vec<MountTarget>, NasFault> {
        self.all(&DescribeMountTargets { file_system_id, domain: None }).await
    }

    /// A mount target, if it is there.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn mount_target(
        &self,
        file_system_id: &FileSystemId,
        domain: &str,
    ) -> Result<Option<MountTarget>, NasFault> {
        let request = DescribeMountTargets { file_system_id, domain: Some(domain) };
        let codes = [
            "InvalidMountTarget.NotFound",
            "InvalidParam.MountTargetDomain",
            "InvalidFileSystem.NotFound",
        ];
        let found = present(self.all(&request).await, &codes)?.unwrap_or_default();
        Ok(found.into_iter().find(|target| target.mount_target_domain == domain))
    }

    /// Puts tags on a file system.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn tag_file_system(&self, id: &FileSystemId, tags: &[Tag]) -> Result<(), NasFault> {
        let query = Query::default().with("ResourceType", "filesystem");
        let query = query.with_list("ResourceId", [id]).with_tags(tags);
        self.order(Action::TagResources, query).await
    }

    /// Makes a directory, and those above it. One that is there stays as it is.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn ensure_dir(&self, request: &CreateDir) -> Result<(), NasFault> {
        self.order(Action::CreateDir, request.query()).await
    }

    /// Sets or changes a directory's quota. It is in force some time later: see [`NasClient::dir_quota`].
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn set_dir_quota(&self, request: &SetDirQuota) -> Result<(), NasFault> {
        self.order(Action::SetDirQuota, request.query()).await
    }

    /// Takes a directory's quota away.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn ensure_dir_quota_cancelled(
        &self,
        file_system_id: &FileSystemId,
        path: &str,
    ) -> Result<Deleted, NasFault> {
        let request = CancelDirQuota { file_system_id, path };
        let codes = ["InvalidParameter.QuotaNotExistOnPath"];
        deleted(self.order(Action::CancelDirQuota, request.query()).await, &codes)
    }

    /// The quotas of a directory, if it has any.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn dir_quota(
        &self,
        file_system_id: &FileSystemId,
        path: &str,
    ) -> Result<Option<DirQuota>, NasFault> {
        let request = DescribeDirQuotas { file_system_id, path: Some(path) };
        let codes = ["InvalidParameter.QuotaNotExistOnPath"];
        let found = present(self.all(&request).await, &codes)?.unwrap_or_default();
        Ok(found.into_iter().find(|quota| quota.path == path))
    }

    /// The quotas of a file system, of which there may be 500.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn dir_quotas(
        &self,
        file_system_id: &FileSystemId,
    ) -> Result<Vec<DirQuota>, NasFault> {
        self.all(&DescribeDirQuotas { file_system_id, path: None }).await
    }

    /// Makes an access point. It is pending for a while.
    ///
    /// # Errors
    /// See [`NasFault`]. Where it may have been done, look for it before it is asked for again.
    pub async fn create_access_point(
        &self,
        request: &CreateAccessPoint,
    ) -> Result<CreatedAccessPoint, NasFault> {
        let answer: CreatedAccessPointAnswer =
            self.call(Action::CreateAccessPoint, request.query()).await?;
        Ok(answer.access_point)
    }

    /// An access point, if it is there.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn access_point(
        &self,
        which: AccessPointRef<'_>,
    ) -> Result<Option<AccessPoint>, NasFault> {
        let answer = self.call(Action::DescribeAccessPoint, which.query()).await;
        let answer: Option<DescribedAccessPoint> = present(answer, &ACCESS_POINT_GONE)?;
        Ok(answer.map(|answer| answer.access_point))
    }

    /// The access points of a file system, of which there may be 1000.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn access_points(
        &self,
        file_system_id: &FileSystemId,
    ) -> Result<Vec<AccessPoint>, NasFault> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let query = Query::default().with("FileSystemId", file_system_id);
            let query = query.with("MaxResults", PAGE_SIZE).with_some("NextToken", token);
            let page = self.call(Action::DescribeAccessPoints, query).await;
            let page: Option<AccessPointsPage> = present(page, &ACCESS_POINT_GONE)?;
            let Some(page) = page else { break };
            found.extend(page.access_points);
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Deletes an access point. The directory behind it stays.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn ensure_access_point_deleted(
        &self,
        which: AccessPointRef<'_>,
    ) -> Result<Deleted, NasFault> {
        deleted(self.order(Action::DeleteAccessPoint, which.query()).await, &ACCESS_POINT_GONE)
    }

    /// Whether what is deleted on a file system can be had back.
    ///
    /// # Errors
    /// See [`NasFault`].
    pub async fn recycle_bin(&self, id: &FileSystemId) -> Result<RecycleBin, NasFault> {
        let query = Query::default().with("FileSystemId", id);
        let answer: RecycleBinAnswer = self.call(Action::GetRecycleBinAttribute, query).await?;
        Ok(answer.recycle_bin_attribute)
    }

    /// A call of whose answer nothing is needed.
    async fn order(&self, action: Action, query: Query) -> Result<(), NasFault> {
        self.call::<Order>(action, query).await?;
        Ok(())
    }
}

fn deleted(answer: Result<(), NasFault>, gone: &[&str]) -> Result<Deleted, NasFault> {
    Ok(present(answer, gone)?.map_or(Deleted::Already, |()| Deleted::Now))
}

/// That something is not there is no failure of a call that asks for it.
fn present<T>(answer: Result<T, NasFault>, gone: &[&str]) -> Result<Option<T>, NasFault> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(fault) if fault.has_code(gone) => Ok(None),
        Err(fault) => Err(fault),
    }
}
