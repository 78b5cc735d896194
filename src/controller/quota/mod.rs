//! The size of a directory as a quota, which the service enforces.
//!
//! A quota is set after its directory was made, and believed when the service shows it: the call is answered before
//! that. It counts in whole GiB, so a size is rounded up, and that is the capacity that is reported. What is used of it
//! is asked by [`usage`].

pub mod usage;

use crate::controller::Controller;
use crate::controller::VolumeRecord;
use crate::controller::api::Cloud;
use crate::controller::api::CloudFault;
use crate::controller::api::Need;
use crate::controller::api::Waiting;
use crate::model::Export;
use crate::nas::Kind;
use crate::nas::NasFault;
use crate::nas::types::FileSystemId;
use crate::nas::types::Gibibytes;
use crate::nas::types::QuotaKind;
use crate::nas::types::QuotaStatus;
use crate::nas::types::SetDirQuota;
use crate::runtime::FailurePoint;

const NEED: Need = Need::Quota;

/// Why a size is no quota.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Nothing was asked for.
    #[error("volumeCapacity \"true\" makes a quota of the size of the claim, and none was given")]
    Missing,
    /// Between the two there is no whole GiB.
    #[error(
        "a quota is of whole GiB: {rounded} bytes are the least that hold {least}, and at most {most} are asked for"
    )]
    NoGibibyte {
        /// The least that was asked for.
        least: i64,
        /// The most.
        most: i64,
        /// The quota that would do.
        rounded: i64,
    },
}

/// What a quota is set on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) file_system_id: FileSystemId,
    /// From the root of the file system.
    pub(super) path: String,
}

/// The size of the quota that holds `least` bytes.
pub(super) fn size_of_quota(least: i64, most: i64) -> Result<i64, SizeError> {
    let wanted = u64::try_from(least).ok().filter(|least| *least > 0).ok_or(SizeError::Missing)?;
    let rounded = i64::try_from(Gibibytes::holding(wanted).bytes()).unwrap_or(i64::MAX);
    if most > 0 && rounded > most {
        return Err(SizeError::NoGibibyte { least, most, rounded });
    }
    Ok(rounded)
}

/// The quota of a volume's directory, where it has one. The path follows from the id and not from what a record says.
fn bound_of_record(export: &Export, record: &VolumeRecord) -> Result<Option<Bound>, CloudFault> {
    let Some(id) = &record.quota_on else { return Ok(None) };
    let base = export.path.as_str().trim_end_matches('/');
    let path = format!("{base}/{}", record.directory);
    Ok(Some(Bound { file_system_id: FileSystemId::parse(id)?, path }))
}

impl Controller {
    /// Makes sure of the quota of a volume's directory, where it has one.
    pub(super) async fn ensure_quota(
        &self,
        export: &Export,
        record: &VolumeRecord,
        size: i64,
    ) -> Result<(), CloudFault> {
        match bound_of_record(export, record)? {
            Some(bound) => self.cloud(NEED)?.ensure_bound(&bound, size).await,
            None => Ok(()),
        }
    }

    /// Makes sure that nothing bounds a volume's directory any more.
    pub(super) async fn ensure_no_quota(
        &self,
        export: &Export,
        record: &VolumeRecord,
    ) -> Result<(), CloudFault> {
        match bound_of_record(export, record)? {
            Some(bound) => self.cloud(NEED)?.ensure_unbound(&bound).await,
            None => Ok(()),
        }
    }
}

fn gibibytes(size: i64) -> Gibibytes {
    Gibibytes::holding(u64::try_from(size).unwrap_or_default())
}

impl Cloud {
    /// What the service lets into a directory, in bytes.
    pub(super) async fn bound_of(&self, bound: &Bound) -> Result<Option<i64>, CloudFault> {
        let found = match self.api.dir_quota(&bound.file_system_id, &bound.path).await {
            // A directory that is not there has no quota.
            Err(fault) if fault.kind() == Some(Kind::NotFound) => None,
            found => found.map_err(failed)?,
        };
        let ours = found.as_ref().and_then(|quota| quota.of_all_users());
        let limit = ours.filter(|ours| ours.quota_type == "Enforcement");
        let limit = limit.and_then(|limit| limit.size_limit);
        Ok(limit.map(|limit| i64::try_from(limit.bytes()).unwrap_or(i64::MAX)))
    }

    /// Sets a quota, where the service does not show it already, and waits until it does.
    pub(super) async fn ensure_bound(&self, bound: &Bound, size: i64) -> Result<(), CloudFault> {
        let mut waiting = Waiting::begin();
        let mut is_asked = false;
        loop {
            if self.bound_of(bound).await? == Some(size) {
                self.note_if_not_in_force(bound).await;
                return Ok(());
            }
            if !is_asked {
                let quota = SetDirQuota {
                    file_system_id: bound.file_system_id.clone(),
                    path: bound.path.clone(),
                    kind: QuotaKind::Enforcement,
                    size_limit: Some(gibibytes(size)),
                    file_count_limit: None,
                };
                self.api.set_dir_quota(&quota).await.map_err(failed)?;
                is_asked = true;
                FailurePoint::QuotaSet.pass();
            }
            let Bound { file_system_id, path } = bound;
            let what = || format!("the quota of {path} on file system {file_system_id}");
            waiting.again(what, || format!("not {} GiB", gibibytes(size))).await?;
        }
    }

    /// The directory of a new volume is empty, so there is nothing to count and nothing to wait for.
    async fn note_if_not_in_force(&self, bound: &Bound) {
        let Bound { file_system_id, path } = bound;
        match self.api.dir_quota(file_system_id, path).await {
            Ok(Some(quota)) if quota.status != QuotaStatus::Normal => tracing::info!(
                file_system.id = %file_system_id, directory = path, status = ?quota.status,
                "the quota is set; the service counts what is there before it enforces it"
            ),
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes a quota away. A directory that is gone has none.
    pub(super) async fn ensure_unbound(&self, bound: &Bound) -> Result<(), CloudFault> {
        match self.api.cancel_dir_quota(&bound.file_system_id, &bound.path).await {
            Err(fault) if fault.kind() == Some(Kind::NotFound) => Ok(()),
            cancelled => {
                cancelled.map_err(failed)?;
                FailurePoint::QuotaCancelled.pass();
                Ok(())
            }
        }
    }
}

fn failed(fault: NasFault) -> CloudFault {
    NEED.failed(fault)
}

#[cfg(test)]
mod tests;
