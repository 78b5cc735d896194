//! An account of the vendor's in memory, for tests: with states that take a few looks, and calls that break.
//!
//! Its mount targets lead to servers of [`Servers`](crate::controller::fake::Servers), one with an empty file system
//! for each.
//!
//! LONG: every call of the API that volumes need, in a few lines each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::json;

use crate::controller::Controller;
use crate::controller::api::Cloud;
use crate::controller::api::DRIVER_TAG;
use crate::controller::api::NasApi;
use crate::controller::fake::Carried;
use crate::controller::fake::Servers;
use crate::nas::Action;
use crate::nas::Deleted;
use crate::nas::Endpoint;
use crate::nas::HttpFault;
use crate::nas::NasCause;
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
use crate::nas::types::MountTarget;
use crate::nas::types::RecycleBin;
use crate::nas::types::SetDirQuota;
use crate::nas::types::Tag;

/// How often something is looked at before it is ready, or gone.
const LOOKS: u32 = 2;

/// An account. A clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct Account {
    region: Region,
    pub(super) servers: Servers,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    file_systems: BTreeMap<String, Held>,
    /// By client token, also of what is deleted.
    tokens: BTreeMap<String, String>,
    access_points: BTreeMap<String, (u32, Value)>,
    /// By file system and path, in GiB.
    quotas: BTreeMap<(String, String), (u32, u64)>,
    made: u32,
    calls: Vec<Action>,
    breaks: Option<(usize, Carried)>,
    ignores_tags: bool,
}

#[derive(Debug)]
struct Held {
    looks: u32,
    tags: BTreeMap<String, String>,
    storage: String,
    targets: BTreeMap<String, Target>,
}

#[derive(Debug)]
struct Target {
    looks: u32,
    vpc: String,
    vswitch: String,
    is_deleting: bool,
}

impl Account {
    pub(super) fn new(servers: Servers) -> Self {
        let region = Region::parse("cn-test").unwrap();
        Self { region, servers, state: Arc::default() }
    }

    /// With the name of an install.
    pub(super) fn controller_of(&self, driver: &str) -> Controller {
        self.servers.controller().with_cloud(Cloud::new(Arc::new(self.clone()), driver.to_owned()))
    }

    pub(super) fn controller(&self) -> Controller {
        self.controller_of("driver.test")
    }

    /// A call breaks, once.
    pub(super) fn break_at(&self, call: usize, carried: Carried) {
        self.state().breaks = Some((call, carried));
    }

    /// What is made has no tags yet.
    pub(super) fn ignore_tags(&self) {
        self.state().ignores_tags = true;
    }

    pub(super) fn has_broken(&self) -> bool {
        self.state().breaks.take().is_none()
    }

    pub(super) fn calls(&self) -> Vec<Action> {
        self.state().calls.clone()
    }

    /// File systems with their mount targets, which are not on their way out.
    pub(super) fn file_systems(&self) -> Vec<(String, usize)> {
        let state = self.state();
        state.file_systems.iter().map(|(id, held)| (id.clone(), held.targets.len())).collect()
    }

    pub(super) fn access_points_held(&self) -> Vec<String> {
        self.state().access_points.keys().cloned().collect()
    }

    pub(super) fn quotas(&self) -> Vec<(String, u64)> {
        let state = self.state();
        state.quotas.iter().map(|((_, path), (_, size))| (path.clone(), *size)).collect()
    }

    pub(super) fn tags(&self, id: &str) -> BTreeMap<String, String> {
        self.state().file_systems[id].tags.clone()
    }

    pub(super) fn set_tag(&self, id: &str, key: &str, value: Option<&str>) {
        let mut state = self.state();
        let tags = &mut state.file_systems.get_mut(id).unwrap().tags;
        match value {
            Some(value) => tags.insert(key.to_owned(), value.to_owned()),
            None => tags.remove(key),
        };
    }

    /// An access point of file system `31a8e4` that an install has made, or somebody else.
    pub(super) fn plant_access_point(&self, id: &str, name: &str, path: &str, by: Option<&str>) {
        let tags = by.map(|driver| json!({ "Key": DRIVER_TAG, "Value": driver }));
        let described = json!({
            "AccessPointId": id, "FileSystemId": "31a8e4", "AccessPointName": name, "RootPath": path,
            "DomainName": format!("{id}.cn-test.nas.aliyuncs.com"), "Status": "Active",
            "Tags": tags.into_iter().collect::<Vec<_>>(),
        });
        self.state().access_points.insert(id.to_owned(), (LOOKS, described));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn call<T>(
        &self,
        action: Action,
        work: impl FnOnce(&mut State) -> Result<T, NasFault>,
    ) -> Result<T, NasFault> {
        let mut state = self.state();
        state.calls.push(action);
        match state.breaks {
            Some((0, carried)) => {
                state.breaks = None;
                if carried == Carried::Out {
                    drop(work(&mut state));
                }
                let why = "cut".to_owned();
                let broken = HttpFault::Broken { why: why.clone() };
                let cause = match carried {
                    Carried::Out => NasCause::Unanswered(broken),
                    Carried::Not => NasCause::Unreached(HttpFault::Unreached { why }),
                };
                return Err(fault(action, cause));
            }
            Some((calls, carried)) => state.breaks = Some((calls - 1, carried)),
            None => {}
        }
        work(&mut state)
    }
}

pub(in crate::controller) fn fault(action: Action, cause: NasCause) -> NasFault {
    let endpoint = Endpoint::parse("nas.test").unwrap();
    NasFault { action, endpoint, attempts: 1, cause }
}

fn refused(action: Action, code: &str) -> NasFault {
    let body = json!({ "Code": code, "Message": "no", "RequestId": "R" }).to_string();
    fault(action, NasCause::refused(action, 400, &body))
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

impl State {
    fn next(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn held(&mut self, action: Action, id: &FileSystemId) -> Result<&mut Held, NasFault> {
        let held = self.file_systems.get_mut(id.as_str());
        held.ok_or_else(|| refused(action, "InvalidFileSystem.NotFound"))
    }
}

impl Held {
    fn described(&mut self, id: &str) -> FileSystem {
        self.looks += 1;
        let status = if self.looks > LOOKS { "Running" } else { "Pending" };
        let tags = self.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
        let tags: Vec<_> = tags.collect();
        let targets: Vec<_> = self.targets.iter().map(|(name, one)| one.value(name)).collect();
        read(&json!({
            "FileSystemId": id, "Status": status, "StorageType": self.storage, "Tags": { "Tag": tags },
            "MountTargets": { "MountTarget": targets },
        }))
    }
}

impl Target {
    fn value(&self, domain: &str) -> Value {
        let status = match (self.is_deleting, self.looks > LOOKS) {
            (true, _) => "Deleting",
            (false, true) => "Active",
            (false, false) => "Pending",
        };
        json!({
            "MountTargetDomain": domain, "Status": status, "VpcId": self.vpc, "VswId": self.vswitch,
        })
    }
}

#[async_trait]
impl NasApi for Account {
    fn region(&self) -> &Region {
        &self.region
    }

    async fn file_system(&self, id: &FileSystemId) -> Result<Option<FileSystem>, NasFault> {
        self.call(Action::DescribeFileSystems, |state| {
            Ok(state.file_systems.get_mut(id.as_str()).map(|held| held.described(id.as_str())))
        })
    }

    async fn file_systems(&self, tags: &[Tag]) -> Result<Vec<FileSystem>, NasFault> {
        let has = |held: &Held, tag: &Tag| {
            held.tags.get(tag.key()).map(String::as_str) == Some(tag.value())
        };
        self.call(Action::DescribeFileSystems, |state| {
            let all = state.file_systems.iter_mut();
            let found = all.filter(|(_, held)| tags.iter().all(|tag| has(held, tag)));
            Ok(found.map(|(id, held)| held.described(id)).collect())
        })
    }

    async fn create_file_system(&self, of: &CreateFileSystem) -> Result<FileSystemId, NasFault> {
        let made = self.call(Action::CreateFileSystem, |state| {
            if let Some(known) = state.tokens.get(&of.client_token.to_string()) {
                return Ok(known.clone());
            }
            let id = format!("1ca4{:02x}", state.next());
            state.tokens.insert(of.client_token.to_string(), id.clone());
            let known = if state.ignores_tags { &[][..] } else { &of.tags[..] };
            let tags = known.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()));
            let held = Held {
                looks: 0,
                tags: tags.collect(),
                storage: of.storage_type.clone(),
                targets: BTreeMap::new(),
            };
            state.file_systems.insert(id.clone(), held);
            Ok(id)
        });
        made.map(|id| FileSystemId::parse(&id).unwrap())
    }

    async fn delete_file_system(&self, id: &FileSystemId) -> Result<Deleted, NasFault> {
        let action = Action::DeleteFileSystem;
        self.call(action, |state| match state.file_systems.get(id.as_str()) {
            None => Ok(Deleted::Already),
            Some(held) if !held.targets.is_empty() => {
                Err(refused(action, "Instance.IncorrectStatus"))
            }
            Some(_) => {
                state.file_systems.remove(id.as_str());
                Ok(Deleted::Now)
            }
        })
    }

    async fn tag_file_system(&self, id: &FileSystemId, tags: &[Tag]) -> Result<(), NasFault> {
        let action = Action::TagResources;
        self.call(action, |state| {
            let tags = tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()));
            state.held(action, id)?.tags.extend(tags);
            Ok(())
        })
    }

    async fn recycle_bin(&self, _: &FileSystemId) -> Result<RecycleBin, NasFault> {
        self.call(Action::GetRecycleBinAttribute, |_| Ok(read(&json!({ "Status": "Disable" }))))
    }

    async fn mount_targets(&self, id: &FileSystemId) -> Result<Vec<MountTarget>, NasFault> {
        let action = Action::DescribeMountTargets;
        self.call(action, |state| {
            let targets = &mut state.held(action, id)?.targets;
            targets.values_mut().for_each(|target| target.looks += 1);
            targets.retain(|_, target| !target.is_deleting || target.looks <= LOOKS);
            Ok(targets.iter().map(|(domain, target)| read(&target.value(domain))).collect())
        })
    }

    async fn create_mount_target(&self, of: &CreateMountTarget) -> Result<String, NasFault> {
        let action = Action::CreateMountTarget;
        self.call(action, |state| {
            let (number, id) = (state.next(), &of.file_system_id);
            let held = state.held(action, id)?;
            if held.looks <= LOOKS {
                return Err(refused(action, "Instance.IncorrectStatus"));
            }
            let domain = format!("{id}-abc{number:02x}.cn-test.nas.aliyuncs.com");
            let (vpc, vswitch) = (of.vpc_id.clone(), of.vswitch_id.clone());
            let target = Target { looks: 0, vpc, vswitch, is_deleting: false };
            held.targets.insert(domain.clone(), target);
            drop(self.servers.clone().with(&domain));
            Ok(domain)
        })
    }

    async fn delete_mount_target(
        &self,
        id: &FileSystemId,
        domain: &str,
    ) -> Result<Deleted, NasFault> {
        let action = Action::DeleteMountTarget;
        self.call(action, |state| match state.held(action, id)?.targets.get_mut(domain) {
            Some(target) => {
                (target.looks, target.is_deleting) = (0, true);
                Ok(Deleted::Now)
            }
            None => Ok(Deleted::Already),
        })
    }

    async fn dir_quota(&self, id: &FileSystemId, path: &str) -> Result<Option<DirQuota>, NasFault> {
        self.call(Action::DescribeDirQuotas, |state| {
            let quota = state.quotas.get_mut(&(id.to_string(), path.to_owned()));
            Ok(quota.and_then(|(looks, size)| {
                *looks += 1;
                let limit = json!({
                    "UserType": "AllUsers", "QuotaType": "Enforcement", "SizeLimit": size,
                });
                (*looks > LOOKS).then(|| {
                    read(&json!({ "Path": path, "Status": "Normal", "UserQuotaInfos": [limit] }))
                })
            }))
        })
    }

    async fn set_dir_quota(&self, quota: &SetDirQuota) -> Result<(), NasFault> {
        self.call(Action::SetDirQuota, |state| {
            let key = (quota.file_system_id.to_string(), quota.path.clone());
            state.quotas.insert(key, (0, quota.size_limit.unwrap().0));
            Ok(())
        })
    }

    async fn cancel_dir_quota(&self, id: &FileSystemId, path: &str) -> Result<Deleted, NasFault> {
        self.call(Action::CancelDirQuota, |state| {
            Ok(match state.quotas.remove(&(id.to_string(), path.to_owned())) {
                Some(_) => Deleted::Now,
                None => Deleted::Already,
            })
        })
    }

    async fn access_points(&self, id: &FileSystemId) -> Result<Vec<AccessPoint>, NasFault> {
        self.call(Action::DescribeAccessPoints, |state| {
            let all = state.access_points.values_mut();
            let found = all.filter(|(_, one)| one["FileSystemId"] == id.as_str());
            Ok(found
                .map(|(looks, one)| {
                    *looks += 1;
                    if *looks > LOOKS {
                        one["Status"] = "Active".into();
                    }
                    // The list has no tags.
                    AccessPoint { tags: Vec::new(), ..read(one) }
                })
                .collect())
        })
    }

    async fn access_point(
        &self,
        which: AccessPointRef<'_>,
    ) -> Result<Option<AccessPoint>, NasFault> {
        self.call(Action::DescribeAccessPoint, |state| {
            Ok(state.access_points.get(which.access_point_id).map(|(_, one)| read(one)))
        })
    }

    async fn create_access_point(&self, of: &CreateAccessPoint) -> Result<(), NasFault> {
        self.call(Action::CreateAccessPoint, |state| {
            let id = format!("ap-{:02x}", state.next());
            let tags = of.tags.iter().map(|tag| json!({ "Key": tag.key(), "Value": tag.value() }));
            let described = json!({
                "AccessPointId": id, "FileSystemId": of.file_system_id.as_str(), "AccessPointName": of.name,
                "RootPath": of.root_directory, "Status": "Pending", "EnabledRam": of.enabled_ram,
                "DomainName": format!("{id}.{}.cn-test.nas.aliyuncs.com", of.file_system_id),
                "Tags": tags.collect::<Vec<_>>(),
            });
            state.access_points.insert(id, (0, described));
            Ok(())
        })
    }

    async fn delete_access_point(&self, which: AccessPointRef<'_>) -> Result<Deleted, NasFault> {
        self.call(Action::DeleteAccessPoint, |state| {
            Ok(match state.access_points.remove(which.access_point_id) {
                Some(_) => Deleted::Now,
                None => Deleted::Already,
            })
        })
    }
}
