//! Volumes that are file systems of their own.
//!
//! ```text
//! made      file system, by a token from the volume's name -> Running -> mount target -> Active -> owner of its root
//! removed   mount targets -> gone -> file system
//! ```
//!
//! There is no database: tags on the file system say whose it is, how large it is said to be and what becomes of it.
//! Each call may be the last one of this process. Asked again it finds what was made by the tags, and what has no
//! tag by the token; a mount target has neither, so the list is looked at before one is made.
//!
//! A file system without our tags and this volume's is never removed, whatever an id says.
//!
//! LONG: one life, with each step that is looked at before it is taken.

use crate::controller::Controller;
use crate::controller::CreateError;
use crate::controller::DeleteError;
use crate::controller::FindError;
use crate::controller::api::Cloud;
use crate::controller::api::CloudFault;
use crate::controller::api::DRIVER_TAG;
use crate::controller::api::Need;
use crate::controller::api::Waiting;
use crate::controller::cloud::Facts;
use crate::controller::cloud::Provisioned;
use crate::controller::cloud::Removed;
use crate::controller::cloud::before;
use crate::controller::cloud::begun;
use crate::controller::cloud::not_made;
use crate::model::ExportPath;
use crate::model::FileSystemHandle;
use crate::model::OnDelete;
use crate::model::VolumeKey;
use crate::model::VolumeRef;
use crate::model::storage_class::Place;
use crate::model::volume_class::FileSystemClass;
use crate::model::volume_class::Owner;
use crate::model::volume_class::Site;
use crate::nas::Kind;
use crate::nas::NasFault;
use crate::nas::types::ClientToken;
use crate::nas::types::CreateFileSystem;
use crate::nas::types::CreateMountTarget;
use crate::nas::types::FileSystem;
use crate::nas::types::FileSystemId;
use crate::nas::types::FileSystemStatus;
use crate::nas::types::FileSystemType;
use crate::nas::types::MountTarget;
use crate::nas::types::MountTargetStatus;
use crate::nas::types::RecycleBinStatus;
use crate::nas::types::Tag;
use crate::nfs::client::Name;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Ownership;
use crate::runtime::FailurePoint;

const NEED: Need = Need::FileSystem;
/// For which volume.
const VOLUME: &str = "alinas-csi/volume";
/// The size that was asked for, in bytes. Nothing bounds a file system.
const CAPACITY: &str = "alinas-csi/capacity";
/// `delete` or `retain`.
const ON_DELETE: &str = "alinas-csi/on-delete";
/// The volume has been deleted, and the file system retained.
const RELEASED: &str = "alinas-csi/released";
/// The vendor's longest description.
const LONGEST_DESCRIPTION: usize = 128;

impl Controller {
    /// Makes the file system of a volume, or makes sure of it.
    pub(super) async fn create_file_system(
        &self,
        name: &str,
        size: (i64, i64),
        class: &FileSystemClass,
    ) -> Result<Provisioned, CreateError> {
        let key = VolumeKey::of_directory(name);
        let _operation = self.begin(&key)?;
        let cloud = self.cloud(NEED).map_err(before)?;
        cloud.ensure_region(class.site.region.as_deref()).map_err(before)?;
        let found = cloud.file_system_of(&key).await.map_err(before)?;
        let (id, capacity) = match found {
            Some(found) => (found.file_system_id.clone(), compare(&found, name, size, class)?),
            None => {
                let made = cloud.make_file_system(name, &key, size.0, class).await?;
                FailurePoint::FileSystemMade.pass();
                (made, size.0)
            }
        };
        let tags = cloud.tags(&key, capacity, class).map_err(begun)?;
        let place = self.finish_file_system(cloud, &id, (&key, &tags), class).await;
        let place = place.map_err(begun)?;
        FailurePoint::FileSystemOwned.pass();
        let region = cloud.api.region().to_string();
        let handle = FileSystemHandle { region, file_system_id: id.to_string(), key };
        let context = class.mounting.volume_context(&place);
        let facts = Facts { capacity, context, is_whole: true, origin: None };
        Ok(Provisioned { id: VolumeRef::FileSystem(handle).id()?, facts })
    }

    async fn finish_file_system(
        &self,
        cloud: &Cloud,
        id: &FileSystemId,
        (key, tags): (&VolumeKey, &[Tag]),
        class: &FileSystemClass,
    ) -> Result<Place, CloudFault> {
        let found = cloud.ensure_running(id).await?;
        cloud.ensure_tagged(&found, key, tags).await?;
        let domain = cloud.ensure_mount_target(id, &class.site).await?;
        let place = class.mounting.place(domain, ExportPath::root());
        let place = place.map_err(|error| CloudFault::Mount(Box::new(error)))?;
        self.ensure_owner_of_root(&place, class.root).await?;
        Ok(place)
    }

    /// By the way that a mount will go, so a name that does not resolve or a wrong certificate is said here.
    async fn ensure_owner_of_root(&self, place: &Place, owner: Owner) -> Result<(), CloudFault> {
        let opened = self.exports.open(&place.export).await;
        let mut tree = opened.map_err(|fault| CloudFault::Export(Box::new(fault)))?;
        let failed = |source| CloudFault::Nfs { server: place.server.clone(), source };
        // It stands in messages alone.
        let name = Name::parse("the root directory").map_err(|source| {
            failed(NfsFault::Name { action: "name the root directory".to_owned(), source })
        })?;
        let Owner { mode, uid, gid } = owner;
        let root = tree.root();
        tree.set_ownership(&root, &name, Ownership { mode, uid, gid }).await.map_err(failed)
    }

    /// Removes the file system of a volume.
    pub(super) async fn delete_file_system(
        &self,
        handle: &FileSystemHandle,
    ) -> Result<Removed, DeleteError> {
        let _operation = self.begin(&handle.key)?;
        let cloud = self.cloud(NEED)?;
        let Some(found) = cloud.file_system_at(handle).await? else { return Ok(Removed::Already) };
        let id = &found.file_system_id;
        match tag(&found, ON_DELETE) {
            _ if tag(&found, RELEASED).is_some() => return Ok(Removed::Already),
            Some("retain") => {
                let released = Tag::parse(RELEASED, "true").map_err(CloudFault::Name)?;
                let tagged = cloud.api.tag_file_system(id, &[released]).await;
                tagged.map_err(failed)?;
                FailurePoint::FileSystemReleased.pass();
                return Ok(Removed::Now(OnDelete::Retain));
            }
            Some("delete") => {}
            _ => {
                return Err(
                    foreign(id, format!("it has no tag {ON_DELETE} that can be read")).into()
                );
            }
        }
        cloud.note_recycle_bin(id).await;
        cloud.ensure_no_mount_target(id).await?;
        FailurePoint::FileSystemClosed.pass();
        cloud.api.delete_file_system(id).await.map_err(failed)?;
        FailurePoint::FileSystemRemoved.pass();
        Ok(Removed::Now(OnDelete::Delete))
    }

    /// What is known about the file system of a volume, after a larger size was noted on it.
    pub(super) async fn find_file_system(
        &self,
        handle: &FileSystemHandle,
        size: Option<i64>,
    ) -> Result<Facts, FindError> {
        let missing = || FindError::NotFound(VolumeRef::FileSystem(handle.clone()).to_string());
        let cloud = self.cloud(NEED)?;
        let found = cloud.file_system_at(handle).await?.ok_or_else(missing)?;
        if tag(&found, RELEASED).is_some() {
            return Err(missing());
        }
        let mut capacity = capacity(&found);
        if let Some(size) = size.filter(|size| *size > capacity) {
            let larger = Tag::parse(CAPACITY, &size.to_string()).map_err(CloudFault::Name)?;
            cloud.api.tag_file_system(&found.file_system_id, &[larger]).await.map_err(failed)?;
            FailurePoint::FileSystemNoted.pass();
            capacity = size;
        }
        let target = usable(&found.mount_targets).map(|target| target.mount_target_domain.clone());
        Ok(Facts::of_root(capacity, target))
    }
}

impl Cloud {
    /// The file system that was made for a volume before.
    async fn file_system_of(&self, key: &VolumeKey) -> Result<Option<FileSystem>, CloudFault> {
        let tags = [Tag::parse(DRIVER_TAG, &self.driver)?, Tag::parse(VOLUME, key.as_str())?];
        let mut found = self.api.file_systems(&tags).await.map_err(failed)?;
        found.retain(|one| self.owns(one, key) && one.status != Some(FileSystemStatus::Deleting));
        // Two of them, where a token was forgotten before the tags could be seen: always the same one.
        found.sort_by(|one, other| one.file_system_id.as_str().cmp(other.file_system_id.as_str()));
        if let [first, second, ..] = &found[..] {
            tracing::warn!(
                volume.key = %key, used = %first.file_system_id, left = %second.file_system_id,
                "two file systems carry the tags of one volume; look at the second and delete it"
            );
        }
        Ok(found.into_iter().next())
    }

    /// The file system that an id names, if it is still there, and ours.
    async fn file_system_at(
        &self,
        handle: &FileSystemHandle,
    ) -> Result<Option<FileSystem>, CloudFault> {
        self.ensure_region(Some(&handle.region))?;
        let id = FileSystemId::parse(&handle.file_system_id)?;
        let found = self.api.file_system(&id).await.map_err(failed)?;
        let Some(found) = found else { return Ok(None) };
        if !self.owns(&found, &handle.key) {
            let (driver, key) = (&self.driver, &handle.key);
            let why =
                format!("it does not carry the tags {DRIVER_TAG}={driver} and {VOLUME}={key}");
            return Err(foreign(&id, why));
        }
        Ok(Some(found).filter(|found| found.status != Some(FileSystemStatus::Deleting)))
    }

    fn owns(&self, found: &FileSystem, key: &VolumeKey) -> bool {
        tag(found, DRIVER_TAG) == Some(&self.driver) && tag(found, VOLUME) == Some(key.as_str())
    }

    async fn make_file_system(
        &self,
        name: &str,
        key: &VolumeKey,
        least: i64,
        class: &FileSystemClass,
    ) -> Result<FileSystemId, CreateError> {
        let order = self.order(name, key, least, class).map_err(before)?;
        let made = self.api.create_file_system(&order).await;
        made.map_err(|fault| not_made(NEED, fault))
    }

    fn order(
        &self,
        name: &str,
        key: &VolumeKey,
        least: i64,
        class: &FileSystemClass,
    ) -> Result<CreateFileSystem, CloudFault> {
        let described = || format!("volume {name}").chars().take(LONGEST_DESCRIPTION).collect();
        Ok(CreateFileSystem {
            client_token: self.token(key)?,
            file_system_type: FileSystemType::Standard,
            storage_type: class.storage_type.clone(),
            capacity: None,
            zone_id: class.zone_id.clone(),
            description: Some(class.description.clone().unwrap_or_else(described)),
            encrypt_type: class.encrypt_type,
            kms_key_id: class.kms_key_id.clone(),
            resource_group_id: None,
            vpc_id: None,
            vswitch_id: None,
            tags: self.tags(key, least, class)?,
        })
    }

    /// Another install's volume of the same name has another one.
    fn token(&self, key: &VolumeKey) -> Result<ClientToken, CloudFault> {
        let digest = VolumeKey::of_directory(&format!("{}/{key}", self.driver));
        Ok(ClientToken::parse(&format!("alinas-csi-{digest}"))?)
    }

    /// All that is remembered of a volume.
    fn tags(
        &self,
        key: &VolumeKey,
        least: i64,
        class: &FileSystemClass,
    ) -> Result<Vec<Tag>, CloudFault> {
        let on_delete = match class.on_delete {
            OnDelete::Delete => "delete",
            // The class has refused to archive it.
            OnDelete::Retain | OnDelete::Archive => "retain",
        };
        Ok(vec![
            Tag::parse(DRIVER_TAG, &self.driver)?,
            Tag::parse(VOLUME, key.as_str())?,
            Tag::parse(CAPACITY, &least.to_string())?,
            Tag::parse(ON_DELETE, on_delete)?,
        ])
    }

    /// It was found by its tags or by our token. What the token alone knows gets the tags that deletion asks for.
    async fn ensure_tagged(
        &self,
        found: &FileSystem,
        key: &VolumeKey,
        tags: &[Tag],
    ) -> Result<(), CloudFault> {
        if self.owns(found, key) {
            return Ok(());
        }
        self.api.tag_file_system(&found.file_system_id, tags).await.map_err(failed)
    }

    /// One that was made a moment ago may not be seen yet.
    async fn ensure_running(&self, id: &FileSystemId) -> Result<FileSystem, CloudFault> {
        let mut waiting = Waiting::begin();
        loop {
            let found = self.api.file_system(id).await.map_err(failed)?;
            let status = found.as_ref().and_then(|found| found.status.as_ref());
            if let (Some(found), Some(FileSystemStatus::Running)) = (&found, status) {
                return Ok(found.clone());
            }
            let state = || match (&found, status) {
                (None, _) => "not there".to_owned(),
                (Some(_), Some(status)) => format!("{status:?}"),
                (Some(_), None) => "without a state".to_owned(),
            };
            waiting.again(|| format!("file system {id}"), state).await?;
        }
    }

    /// The domain of an active mount target. The API knows no token for one, so we look before we ask.
    async fn ensure_mount_target(
        &self,
        id: &FileSystemId,
        site: &Site,
    ) -> Result<String, CloudFault> {
        let mut waiting = Waiting::begin();
        let mut asked = None;
        loop {
            let targets = self.api.mount_targets(id).await.map_err(failed)?;
            let found = targets.iter().filter(|target| is_in(target, site));
            let found = found.min_by_key(|target| target.mount_target_domain.as_str());
            match (found, &asked) {
                (Some(target), _) if target.status == Some(MountTargetStatus::Active) => {
                    return Ok(target.mount_target_domain.clone());
                }
                (None, None) => {
                    let made = self.api.create_mount_target(&target_of(id, site)).await;
                    asked = Some(made.map_err(failed)?);
                    FailurePoint::FileSystemTarget.pass();
                }
                _ => {}
            }
            let domain = found.map(|target| target.mount_target_domain.as_str());
            let what = || {
                let domain = domain.or(asked.as_deref()).unwrap_or_default();
                format!("mount target {domain} of file system {id}")
            };
            let state = || match found.and_then(|target| target.status.as_ref()) {
                Some(status) => format!("{status:?}"),
                None => "not there".to_owned(),
            };
            waiting.again(what, state).await?;
        }
    }

    /// Whoever has one mounted hangs, but the cluster has unstaged the volume everywhere before it is deleted.
    async fn ensure_no_mount_target(&self, id: &FileSystemId) -> Result<(), CloudFault> {
        let mut waiting = Waiting::begin();
        loop {
            let targets = match self.api.mount_targets(id).await {
                // Then there are none.
                Err(fault) if fault.kind() == Some(Kind::NotFound) => return Ok(()),
                targets => targets.map_err(failed)?,
            };
            let Some(first) = targets.first() else { return Ok(()) };
            for target in targets.iter().filter(|target| !is_deleting(target)) {
                let domain = &target.mount_target_domain;
                self.api.delete_mount_target(id, domain).await.map_err(failed)?;
            }
            let what = || format!("mount target {} of file system {id}", first.mount_target_domain);
            waiting.again(what, || "still there".to_owned()).await?;
        }
    }

    /// The bin belongs to the file system: what is in it goes with it, and whoever thinks otherwise should read it.
    async fn note_recycle_bin(&self, id: &FileSystemId) {
        match self.api.recycle_bin(id).await {
            Ok(bin) if bin.status == RecycleBinStatus::Enable => tracing::warn!(
                file_system.id = %id, bin.days = bin.reserved_days, bin.bytes = bin.size,
                "the recycle bin of a file system is deleted with it"
            ),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(file_system.id = %id, %error, "nothing known of a recycle bin")
            }
        }
    }
}

fn failed(fault: NasFault) -> CloudFault {
    NEED.failed(fault)
}

fn foreign(id: &FileSystemId, why: String) -> CloudFault {
    CloudFault::Foreign { what: format!("file system {id}"), why }
}

fn tag<'a>(found: &'a FileSystem, key: &str) -> Option<&'a str> {
    found.tags.iter().find(|tag| tag.key() == key).map(Tag::value)
}

/// What was noted; nothing where somebody has taken the note away.
fn capacity(found: &FileSystem) -> i64 {
    tag(found, CAPACITY).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn is_deleting(target: &MountTarget) -> bool {
    target.status == Some(MountTargetStatus::Deleting)
}

fn usable(targets: &[MountTarget]) -> Option<&MountTarget> {
    let found = targets.iter().filter(|target| !is_deleting(target));
    found.min_by_key(|target| target.mount_target_domain.as_str())
}

/// One that is there for the class. What the API does not say cannot be another.
fn is_in(target: &MountTarget, site: &Site) -> bool {
    let is =
        |said: &Option<String>, wanted: &str| said.as_deref().is_none_or(|said| said == wanted);
    !is_deleting(target)
        && is(&target.vpc_id, &site.vpc_id)
        && is(&target.vswitch_id, &site.vswitch_id)
}

fn target_of(id: &FileSystemId, site: &Site) -> CreateMountTarget {
    CreateMountTarget {
        file_system_id: id.clone(),
        access_group_name: site.access_group.clone(),
        vpc_id: site.vpc_id.clone(),
        vswitch_id: site.vswitch_id.clone(),
        security_group_id: None,
    }
}

/// The size that it has, if it is what is asked for.
fn compare(
    found: &FileSystem,
    name: &str,
    (least, most): (i64, i64),
    class: &FileSystemClass,
) -> Result<i64, CreateError> {
    let differs = |what, held: String, wanted: String| {
        Err(CreateError::Different { name: name.to_owned(), what, held, wanted })
    };
    if tag(found, RELEASED).is_some() {
        let held = format!("file system {}, which was retained", found.file_system_id);
        return differs("file system", held, "a new one".to_owned());
    }
    let capacity = capacity(found);
    if capacity < least || (most > 0 && capacity > most) {
        let wanted = if most > 0 { format!("{least} to {most}") } else { least.to_string() };
        return differs("size", format!("{capacity} bytes"), format!("{wanted} bytes"));
    }
    let held = found.storage_type.clone().unwrap_or_default();
    if !held.is_empty() && !held.eq_ignore_ascii_case(&class.storage_type) {
        return differs("storageType", held, class.storage_type.clone());
    }
    Ok(capacity)
}

#[cfg(test)]
mod tests;
