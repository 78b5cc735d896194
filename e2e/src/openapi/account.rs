//! What the calls do: file systems and mount targets of one account in one region.
//!
//! A state is not kept but told from the time: what was made a while ago is ready.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::openapi::Timing;
use crate::openapi::access_points::AccessPoint;
use crate::openapi::answer::Outcome;
use crate::openapi::answer::Refusal;
use crate::openapi::answer::refusal;
use crate::openapi::directories::Quota;

/// "2 mount targets per file system" (product-overview/limits).
const MOST_MOUNT_TARGETS: usize = 2;

#[derive(Debug)]
pub(super) struct Account {
    pub(super) root: PathBuf,
    pub(super) timing: Timing,
    pub(super) names: Names,
    file_systems: BTreeMap<String, FileSystem>,
    /// From client token to file system.
    tokens: HashMap<String, String>,
    made: u32,
}

#[derive(Debug)]
pub(super) struct FileSystem {
    made: Instant,
    kind: String,
    storage: String,
    zone: String,
    description: String,
    tags: BTreeMap<String, String>,
    mount_targets: BTreeMap<String, MountTarget>,
    pub(super) quotas: BTreeMap<String, Quota>,
    pub(super) access_points: BTreeMap<String, AccessPoint>,
}

#[derive(Debug)]
struct MountTarget {
    made: Instant,
    deleted: Option<Instant>,
    access_group: String,
    vpc: String,
    vswitch: String,
}

/// Which domain leads to which folder, and where it is written down that the domain is at an address.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) hosts: Option<(PathBuf, IpAddr)>,
    roots: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn tell(&mut self, domain: &str, root: String) {
        self.roots.insert(domain.to_owned(), root);
        if let Some((file, address)) = &self.hosts
            && let Ok(mut hosts) = std::fs::OpenOptions::new().append(true).open(file)
        {
            // Who cannot find the name will say so.
            drop(writeln!(hosts, "{address} {domain}"));
        }
    }

    pub(super) fn root(&self, domain: &str) -> Option<String> {
        self.roots.get(domain).cloned()
    }
}

/// The parameters of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a>(pub(super) &'a HashMap<String, String>);

impl<'a> Asked<'a> {
    pub(super) fn optional(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// "Parameter `x` is mandatory for this action."
    pub(super) fn required(&self, name: &str) -> Result<&'a str, Refusal> {
        self.optional(name).ok_or_else(|| {
            let message = format!("Parameter `{name}` is mandatory for this action.");
            refusal(400, &format!("MissingParameter.{name}"), &message)
        })
    }

    pub(super) fn tags(&self) -> BTreeMap<String, String> {
        let keys = (1..=20).map_while(|n| Some((n, self.optional(&format!("Tag.{n}.Key"))?)));
        keys.map(|(n, key)| {
            let value = self.optional(&format!("Tag.{n}.Value")).unwrap_or_default();
            (key.to_owned(), value.to_owned())
        })
        .collect()
    }

    /// One page of `all`, and the fields that say which one.
    pub(super) fn page(&self, all: Vec<Value>) -> (Vec<Value>, usize, usize, usize) {
        let number = |name: &str, default| {
            self.optional(name).and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let (page, size, total) =
            (number("PageNumber", 1).max(1), number("PageSize", 10), all.len());
        (all.into_iter().skip((page - 1) * size).take(size).collect(), page, size, total)
    }
}

impl Account {
    pub(super) fn new(root: PathBuf, timing: Timing) -> Self {
        let (file_systems, tokens) = (BTreeMap::new(), HashMap::new());
        Self { root, timing, names: Names::default(), file_systems, tokens, made: 0 }
    }

    /// A file system that somebody has made elsewhere, and that runs.
    pub(super) fn adopt(&mut self, id: &str) {
        let made = Instant::now().checked_sub(self.timing.pending);
        let file_system = FileSystem {
            made: made.unwrap_or_else(Instant::now),
            kind: "standard".to_owned(),
            storage: "Performance".to_owned(),
            zone: "cn-test-a".to_owned(),
            description: String::new(),
            tags: BTreeMap::new(),
            mount_targets: BTreeMap::new(),
            quotas: BTreeMap::new(),
            access_points: BTreeMap::new(),
        };
        self.file_systems.insert(id.to_owned(), file_system);
    }

    /// Mount targets that there are, also those on their way out.
    pub(super) fn mount_targets(&self) -> usize {
        self.file_systems.values().map(|one| one.mount_targets.len()).sum()
    }

    pub(super) fn access_points(&self) -> usize {
        self.file_systems.values().map(|one| one.access_points.len()).sum()
    }

    pub(super) fn limit(&mut self, id: &str, path: &str, gibibytes: u64) {
        if let Some(file_system) = self.file_systems.get_mut(id) {
            file_system.quotas.insert(path.to_owned(), Quota::of(gibibytes));
        }
    }

    /// Paths with the GiB that are allowed there.
    pub(super) fn quotas(&self) -> Vec<(String, Option<u64>)> {
        let all = self.file_systems.values().flat_map(|one| one.quotas.iter());
        all.map(|(path, quota)| (path.clone(), quota.size)).collect()
    }

    pub(super) fn file_systems(&self) -> usize {
        self.file_systems.len()
    }

    pub(super) fn call(&mut self, action: &str, parameters: &HashMap<String, String>) -> Outcome {
        let asked = Asked(parameters);
        asked.required("RegionId")?;
        match action {
            "CreateFileSystem" => self.create_file_system(asked),
            "DeleteFileSystem" => self.delete_file_system(asked),
            "DescribeFileSystems" => self.describe_file_systems(asked),
            "CreateMountTarget" => self.create_mount_target(asked),
            "DeleteMountTarget" => self.delete_mount_target(asked),
            "DescribeMountTargets" => self.describe_mount_targets(asked),
            "TagResources" => self.tag_resources(asked),
            "CreateDir" => self.create_dir(asked),
            "SetDirQuota" => self.set_dir_quota(asked),
            "CancelDirQuota" => self.cancel_dir_quota(asked),
            "DescribeDirQuotas" => self.describe_dir_quotas(asked),
            "CreateAccessPoint" => self.create_access_point(asked),
            "DescribeAccessPoint" => self.describe_access_point(asked),
            "DescribeAccessPoints" => self.describe_access_points(asked),
            "DeleteAccessPoint" => self.delete_access_point(asked),
            "GetRecycleBinAttribute" => self.recycle_bin(asked),
            _ => Err(refusal(404, "InvalidAction.NotFound", "The specified action is not found.")),
        }
    }

    pub(super) fn file_system(&mut self, asked: Asked<'_>) -> Result<&mut FileSystem, Refusal> {
        let id = asked.required("FileSystemId")?;
        self.file_systems.get_mut(id).ok_or_else(|| {
            refusal(404, "InvalidFileSystem.NotFound", "The specified file system does not exist.")
        })
    }

    /// Ids of the vendor are of ten hexadecimal digits.
    pub(super) fn next_id(&mut self) -> String {
        self.made += 1;
        format!("1ca4{:06x}", self.made)
    }

    fn create_file_system(&mut self, asked: Asked<'_>) -> Outcome {
        let storage = asked.required("StorageType")?;
        if !["Performance", "Capacity", "Premium", "standard", "advance"].contains(&storage) {
            let message = "Parameter `StorageType` is mandatory for this action.";
            return Err(refusal(400, "InvalidParameter.StorageType", message));
        }
        asked.required("ProtocolType")?;
        let token = asked.optional("ClientToken");
        if let Some(known) = token.and_then(|token| self.tokens.get(token)) {
            return Ok(json!({ "FileSystemId": known }));
        }
        let id = self.next_id();
        std::fs::create_dir(self.root.join(&id)).map_err(|error| {
            refusal(500, "InternalError", &format!("The simulator cannot make a folder: {error}"))
        })?;
        token.map(|token| self.tokens.insert(token.to_owned(), id.clone()));
        let text = |name: &str| asked.optional(name).unwrap_or_default().to_owned();
        let file_system = FileSystem {
            made: Instant::now(),
            kind: asked.optional("FileSystemType").unwrap_or("standard").to_owned(),
            storage: storage.to_owned(),
            zone: asked.optional("ZoneId").unwrap_or("cn-test-a").to_owned(),
            description: text("Description"),
            tags: asked.tags(),
            mount_targets: BTreeMap::new(),
            quotas: BTreeMap::new(),
            access_points: BTreeMap::new(),
        };
        self.file_systems.insert(id.clone(), file_system);
        Ok(json!({ "FileSystemId": id }))
    }

    fn delete_file_system(&mut self, asked: Asked<'_>) -> Outcome {
        let timing = self.timing;
        let file_system = self.file_system(asked)?;
        file_system.forget_deleted(timing);
        if !file_system.mount_targets.is_empty() {
            // The page says only that there must be none; the code is the general one for a wrong state.
            let message = "The specified instance is in an incorrect status.";
            return Err(refusal(403, "Instance.IncorrectStatus", message));
        }
        let id = asked.required("FileSystemId")?;
        self.file_systems.remove(id);
        drop(std::fs::remove_dir_all(self.root.join(id)));
        Ok(json!({}))
    }

    fn describe_file_systems(&mut self, asked: Asked<'_>) -> Outcome {
        if asked.optional("FileSystemId").is_some() {
            self.file_system(asked)?;
        }
        let (wanted, timing) = (asked.tags(), self.timing);
        self.file_systems.values_mut().for_each(|one| one.forget_deleted(timing));
        let of_id = |id: &str| asked.optional("FileSystemId").is_none_or(|wanted| wanted == id);
        let found = self.file_systems.iter().filter(|(id, one)| {
            of_id(id) && wanted.iter().all(|(key, value)| one.tags.get(key) == Some(value))
        });
        let all = found.map(|(id, one)| one.described(id, timing)).collect();
        let (page, number, size, total) = asked.page(all);
        Ok(json!({
            "FileSystems": { "FileSystem": page },
            "PageNumber": number, "PageSize": size, "TotalCount": total,
        }))
    }

    fn create_mount_target(&mut self, asked: Asked<'_>) -> Outcome {
        let timing = self.timing;
        let number = self.next_id();
        let region = asked.required("RegionId")?;
        let (access_group, vpc, vswitch) = (
            asked.required("AccessGroupName")?.to_owned(),
            asked.required("VpcId")?.to_owned(),
            asked.required("VSwitchId")?.to_owned(),
        );
        let id = asked.required("FileSystemId")?;
        let file_system = self.file_system(asked)?;
        file_system.forget_deleted(timing);
        if file_system.made.elapsed() < timing.pending {
            let message = "The specified instance is in an incorrect status.";
            return Err(refusal(403, "Instance.IncorrectStatus", message));
        }
        if file_system.mount_targets.len() >= MOST_MOUNT_TARGETS {
            let message = "The number of mount targets exceeds the limit.";
            return Err(refusal(403, "OperationDenied.MountTargetCountsExceeded", message));
        }
        let domain = format!("{id}-{}.{region}.nas.aliyuncs.com", &number[number.len() - 5..]);
        let (made, deleted) = (Instant::now(), None);
        let target = MountTarget { made, deleted, access_group, vpc, vswitch };
        file_system.mount_targets.insert(domain.clone(), target);
        self.names.tell(&domain, format!("/{id}"));
        Ok(json!({ "MountTargetDomain": domain, "MountTargetExtra": {} }))
    }

    fn delete_mount_target(&mut self, asked: Asked<'_>) -> Outcome {
        let timing = self.timing;
        let domain = asked.required("MountTargetDomain")?;
        let file_system = self.file_system(asked)?;
        file_system.forget_deleted(timing);
        let target = file_system.mount_targets.get_mut(domain).ok_or_else(no_mount_target)?;
        target.deleted.get_or_insert_with(Instant::now);
        Ok(json!({}))
    }

    fn describe_mount_targets(&mut self, asked: Asked<'_>) -> Outcome {
        let timing = self.timing;
        let wanted = asked.optional("MountTargetDomain");
        let file_system = self.file_system(asked)?;
        file_system.forget_deleted(timing);
        let targets = file_system.mount_targets.iter();
        let found: Vec<_> = targets
            .filter(|(domain, _)| wanted.is_none_or(|wanted| wanted == *domain))
            .map(|(domain, target)| target.described(domain, "AccessGroup", timing))
            .collect();
        if wanted.is_some() && found.is_empty() {
            return Err(no_mount_target());
        }
        let (page, number, size, total) = asked.page(found);
        Ok(json!({
            "MountTargets": { "MountTarget": page },
            "PageNumber": number, "PageSize": size, "TotalCount": total,
        }))
    }

    fn tag_resources(&mut self, asked: Asked<'_>) -> Outcome {
        if asked.required("ResourceType")? != "filesystem" {
            return Err(refusal(
                400,
                "InvalidParameter.ResourceType",
                "The resource type is not valid.",
            ));
        }
        asked.required("Tag.1.Key")?;
        let id = asked.required("ResourceId.1")?;
        let file_system = self.file_systems.get_mut(id).ok_or_else(|| {
            refusal(404, "InvalidResourceId.NotFound", "The specified resource does not exist.")
        })?;
        file_system.tags.extend(asked.tags());
        Ok(json!({}))
    }

    fn recycle_bin(&mut self, asked: Asked<'_>) -> Outcome {
        self.file_system(asked)?;
        Ok(json!({ "RecycleBinAttribute": {
            "Status": "Disable", "ReservedDays": 0, "Size": 0, "SecondarySize": 0, "ArchiveSize": 0, "EnableTime": "",
        } }))
    }
}

fn no_mount_target() -> Refusal {
    let message = "The specified mount target domain does not exist.";
    refusal(404, "InvalidParam.MountTargetDomain", message)
}

impl FileSystem {
    fn forget_deleted(&mut self, timing: Timing) {
        let gone = |target: &MountTarget| {
            target.deleted.is_some_and(|deleted| deleted.elapsed() >= timing.deleting)
        };
        self.mount_targets.retain(|_, target| !gone(target));
    }

    fn described(&self, id: &str, timing: Timing) -> Value {
        let status = if self.made.elapsed() < timing.pending { "Pending" } else { "Running" };
        let tags: Vec<_> =
            self.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
        let targets = self.mount_targets.iter();
        let targets: Vec<_> = targets
            .map(|(domain, target)| target.described(domain, "AccessGroupName", timing))
            .collect();
        json!({
            "FileSystemId": id, "FileSystemType": self.kind, "Status": status, "StorageType": self.storage,
            "ProtocolType": "NFS", "ZoneId": self.zone, "RegionId": "cn-test", "ChargeType": "PayAsYouGo",
            "CreateTime": "2026-01-02T03:04:05CST", "Description": self.description, "EncryptType": 0,
            "Capacity": 10_995_116_277_760_u64, "MeteredSize": 0, "MeteredIASize": 0, "Version": "1",
            "Tags": { "Tag": tags },
            "MountTargets": { "MountTarget": targets },
            "Packages": { "Package": [] },
            "SupportedFeatures": { "SupportedFeature": [] },
        })
    }
}

impl MountTarget {
    fn described(&self, domain: &str, group: &str, timing: Timing) -> Value {
        let status = match self.deleted {
            Some(_) => "Deleting",
            None if self.made.elapsed() < timing.pending => "Pending",
            None => "Active",
        };
        json!({
            "MountTargetDomain": domain, "Status": status, "NetworkType": "Vpc", "VpcId": self.vpc,
            "VswId": self.vswitch, group: self.access_group, "ClientMasterNodes": { "ClientMasterNode": [] },
        })
    }
}
