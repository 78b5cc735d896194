//! Directories and their quotas. A quota is told, not enforced: the folder knows nothing of it.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::openapi::Timing;
use crate::openapi::account::Account;
use crate::openapi::account::Asked;
use crate::openapi::answer::Outcome;
use crate::openapi::answer::Refusal;
use crate::openapi::answer::refusal;

/// "500 directories per file system, max depth 8 levels" (product-overview/limits).
const MOST_QUOTAS: usize = 500;

#[derive(Debug)]
pub(super) struct Quota {
    made: Instant,
    kind: String,
    /// In GiB.
    pub(super) size: Option<u64>,
    files: Option<u64>,
}

impl Account {
    pub(super) fn create_dir(&mut self, asked: Asked<'_>) -> Outcome {
        self.file_system(asked)?;
        let path = self.inside(asked, "RootDirectory")?;
        asked.required("OwnerUserId")?;
        asked.required("OwnerGroupId")?;
        let mode = u32::from_str_radix(asked.required("Permission")?, 8).map_err(|_| {
            refusal(400, "InvalidParameter.Permission", "The permission is not octal.")
        })?;
        let all = asked.optional("Recursion") != Some("false");
        if path.is_dir() {
            return Ok(json!({}));
        }
        fs::DirBuilder::new().recursive(all).mode(mode).create(&path).map_err(|_| {
            refusal(400, "InvalidParameter.DirPathNotExist", "The parent directory does not exist.")
        })?;
        Ok(json!({}))
    }

    pub(super) fn set_dir_quota(&mut self, asked: Asked<'_>) -> Outcome {
        self.file_system(asked)?;
        if !self.inside(asked, "Path")?.is_dir() {
            let message = "The specified directory does not exist.";
            return Err(refusal(400, "InvalidParameter.DirPathNotExist", message));
        }
        let kind = asked.required("QuotaType")?.to_owned();
        asked.required("UserType")?;
        let number = |name: &str| asked.optional(name).and_then(|text| text.parse().ok());
        let (size, files) = (number("SizeLimit"), number("FileCountLimit"));
        if kind == "Enforcement" && size.is_none() && files.is_none() {
            let message = "SizeLimit or FileCountLimit must be specified.";
            return Err(refusal(400, "InvalidParameter.SizeLimit", message));
        }
        let path = asked.required("Path")?;
        let quotas = &mut self.file_system(asked)?.quotas;
        if quotas.len() >= MOST_QUOTAS && !quotas.contains_key(path) {
            let message = "The number of directory quotas exceeds the limit.";
            return Err(refusal(403, "OperationDenied.QuotaCountsExceeded", message));
        }
        // One that is changed is in force at once: its files have been counted.
        let made = quotas.get(path).map_or_else(Instant::now, |known| known.made);
        quotas.insert(path.to_owned(), Quota { made, kind, size, files });
        Ok(json!({ "Success": true }))
    }

    pub(super) fn cancel_dir_quota(&mut self, asked: Asked<'_>) -> Outcome {
        asked.required("UserType")?;
        let path = asked.required("Path")?;
        self.file_system(asked)?.quotas.remove(path).ok_or_else(|| {
            let message = "The quota does not exist on the specified path.";
            refusal(400, "InvalidParameter.QuotaNotExistOnPath", message)
        })?;
        Ok(json!({ "Success": true }))
    }

    pub(super) fn describe_dir_quotas(&mut self, asked: Asked<'_>) -> Outcome {
        let (timing, wanted) = (self.timing, asked.optional("Path"));
        let root = self.root.join(asked.required("FileSystemId")?);
        let quotas = self.file_system(asked)?.quotas.iter();
        let found = quotas.filter(|(path, _)| wanted.is_none_or(|wanted| wanted == *path));
        let all = found.map(|(path, quota)| quota.described(&root, path, timing)).collect();
        let (page, number, size, total) = asked.page(all);
        Ok(json!({
            "DirQuotaInfos": page, "PageNumber": number, "PageSize": size, "TotalCount": total,
        }))
    }

    /// Where a path of the file system is, if it stays in there.
    pub(super) fn inside(&self, asked: Asked<'_>, name: &str) -> Result<PathBuf, Refusal> {
        let path = asked.required(name)?;
        let parts = path.strip_prefix('/').map(|rest| rest.split('/').collect::<Vec<_>>());
        let bad = |part: &&str| *part == "." || *part == "..";
        match parts {
            Some(parts) if !parts.iter().any(bad) => {
                let root = self.root.join(asked.required("FileSystemId")?);
                Ok(root.join(path.trim_start_matches('/')))
            }
            _ => {
                let code = format!("InvalidParameter.{name}");
                Err(refusal(400, &code, "The specified path is not valid."))
            }
        }
    }
}

impl Quota {
    /// One of size, which is new.
    pub(super) fn of(gibibytes: u64) -> Self {
        let kind = "Enforcement".to_owned();
        Self { made: Instant::now(), kind, size: Some(gibibytes), files: None }
    }

    fn described(&self, root: &Path, path: &str, timing: Timing) -> Value {
        let is_ready = self.made.elapsed() >= timing.initializing;
        let (files, bytes) = usage(&root.join(path.trim_start_matches('/')));
        let mut user = json!({
            "UserType": "AllUsers", "UserId": "", "QuotaType": self.kind, "FileCountReal": files,
            "SizeReal": bytes >> 30, "SizeRealInByte": bytes,
        });
        if let Some(fields) = user.as_object_mut() {
            self.size.map(|size| fields.insert("SizeLimit".to_owned(), size.into()));
            self.files.map(|files| fields.insert("FileCountLimit".to_owned(), files.into()));
        }
        json!({
            "Path": path, "DirInode": "1123", "Status": if is_ready { "Normal" } else { "Initializing" },
            "UserQuotaInfos": [user],
        })
    }
}

/// Files and bytes below a folder.
fn usage(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes, mut folders) = (0, 0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else { continue };
            files += 1;
            if facts.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += facts.len();
            }
        }
    }
    (files, bytes)
}
