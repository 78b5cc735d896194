//! Directories and their quotas. General-purpose NAS alone has them.

use std::fmt;

use serde::Deserialize;

use crate::nas::action::Action;
use crate::nas::query::Query;
use crate::nas::types::FileSystemId;
use crate::nas::types::Listing;
use crate::nas::types::states;

/// Whole gibibytes, in which the API counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Gibibytes(pub u64);

impl Gibibytes {
    const BYTES: u64 = 1 << 30;

    /// The fewest that hold `bytes`.
    #[must_use]
    pub fn holding(bytes: u64) -> Self {
        Self(bytes.div_ceil(Self::BYTES))
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0.saturating_mul(Self::BYTES)
    }
}

impl fmt::Display for Gibibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A directory that is to be there, and those above it. One that is there stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateDir {
    /// On which file system.
    pub file_system_id: FileSystemId,
    /// From the file system's root, `/a/b`; no link, no `..`.
    pub path: String,
    /// Whose it is.
    pub owner_user_id: u32,
    /// Whose group's it is.
    pub owner_group_id: u32,
    /// The permission bits, 0o755.
    pub mode: u16,
}

impl CreateDir {
    pub(in crate::nas) fn query(&self) -> Query {
        Query::default()
            .with("FileSystemId", &self.file_system_id)
            .with("RootDirectory", &self.path)
            .with("OwnerUserId", self.owner_user_id)
            .with("OwnerGroupId", self.owner_group_id)
            .with("Permission", format!("{:04o}", self.mode))
            .with("Recursion", true)
    }
}

/// What a quota does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// It counts.
    Accounting,
    /// It counts, and refuses what is too much.
    Enforcement,
}

/// How much may be in a directory, of all users together. To set it again changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetDirQuota {
    /// On which file system.
    pub file_system_id: FileSystemId,
    /// A directory that is there, from the file system's root.
    pub path: String,
    /// To count or to refuse.
    pub kind: QuotaKind,
    /// Of all files together. One of the two limits is required to refuse.
    pub size_limit: Option<Gibibytes>,
    /// Files and directories.
    pub file_count_limit: Option<u64>,
}

impl SetDirQuota {
    pub(in crate::nas) fn query(&self) -> Query {
        let kind = match self.kind {
            QuotaKind::Accounting => "Accounting",
            QuotaKind::Enforcement => "Enforcement",
        };
        Query::default()
            .with("FileSystemId", &self.file_system_id)
            .with("Path", &self.path)
            .with("QuotaType", kind)
            .with("UserType", "AllUsers")
            .with_some("SizeLimit", self.size_limit)
            .with_some("FileCountLimit", self.file_count_limit)
    }
}

#[derive(Debug)]
pub(in crate::nas) struct CancelDirQuota<'a> {
    pub(in crate::nas) file_system_id: &'a FileSystemId,
    pub(in crate::nas) path: &'a str,
}

impl CancelDirQuota<'_> {
    pub(in crate::nas) fn query(&self) -> Query {
        Query::default()
            .with("FileSystemId", self.file_system_id)
            .with("Path", self.path)
            .with("UserType", "AllUsers")
    }
}

states! {
    /// Whether a quota is in force.
    QuotaStatus {
        /// Not yet: the service counts what is there.
        Initializing,
        /// It is.
        Normal,
    }
}

states! {
    /// Whom a quota is for.
    QuotaUser {
        /// One user.
        Uid,
        /// One group.
        Gid,
        /// Everybody together.
        AllUsers,
    }
}

/// The quotas of one directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DirQuota {
    /// Of which directory, from the file system's root.
    pub path: String,
    /// Whether it is in force.
    pub status: QuotaStatus,
    /// One for each kind of user.
    #[serde(default)]
    pub user_quota_infos: Vec<UserQuota>,
}

impl DirQuota {
    /// That of all users together.
    #[must_use]
    pub fn of_all_users(&self) -> Option<&UserQuota> {
        self.user_quota_infos.iter().find(|quota| quota.user_type == QuotaUser::AllUsers)
    }
}

/// A quota, and what counts against it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UserQuota {
    /// For whom.
    pub user_type: QuotaUser,
    /// `Accounting` or `Enforcement`.
    pub quota_type: String,
    /// How much is allowed.
    #[serde(default)]
    pub size_limit: Option<Gibibytes>,
    /// How many files are allowed.
    #[serde(default)]
    pub file_count_limit: Option<u64>,
    /// How many there are.
    #[serde(default)]
    pub file_count_real: Option<u64>,
    /// Bytes in use.
    #[serde(default)]
    pub size_real_in_byte: Option<u64>,
}

#[derive(Debug)]
pub(in crate::nas) struct DescribeDirQuotas<'a> {
    pub(in crate::nas) file_system_id: &'a FileSystemId,
    pub(in crate::nas) path: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::nas) struct DirQuotasPage {
    #[serde(default)]
    dir_quota_infos: Vec<DirQuota>,
    #[serde(default)]
    total_count: u64,
}

impl Listing for DescribeDirQuotas<'_> {
    const ACTION: Action = Action::DescribeDirQuotas;
    type Page = DirQuotasPage;
    type Item = DirQuota;

    fn query(&self) -> Query {
        Query::default().with("FileSystemId", self.file_system_id).with_some("Path", self.path)
    }

    fn items(page: DirQuotasPage) -> (Vec<DirQuota>, u64) {
        (page.dir_quota_infos, page.total_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_holds_every_byte_that_was_asked_for() {
        for (bytes, gibibytes) in
            [(0, 0), (1, 1), (1 << 30, 1), ((1 << 30) + 1, 2), (u64::MAX, 1 << 34)]
        {
            assert_eq!(Gibibytes::holding(bytes), Gibibytes(gibibytes), "{bytes}");
        }
        assert_eq!(Gibibytes(3).bytes(), 3 << 30);
        assert_eq!(Gibibytes(u64::MAX).bytes(), u64::MAX);
    }

    #[test]
    fn a_mode_is_four_octal_digits() {
        let file_system_id = FileSystemId::parse("1ca404").unwrap();
        let mode = |mode| {
            let (path, file_system_id) = ("/a".to_owned(), file_system_id.clone());
            CreateDir { file_system_id, path, owner_user_id: 0, owner_group_id: 0, mode }
                .query()
                .canonical()
        };
        assert!(mode(0o755).contains("Permission=0755"), "{}", mode(0o755));
        assert!(mode(0).contains("Permission=0000"), "{}", mode(0));
        assert!(mode(0o2775).contains("Permission=2775"), "{}", mode(0o2775));
    }
}
