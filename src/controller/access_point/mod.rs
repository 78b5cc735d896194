//! Volumes that are access points, each with a directory of its own behind it.
//!
//! The API makes the directory with its owner, and knows no token: so the list is looked at before one is made, and
//! ours is known by its name, which says which volume it is for, and by its tag, which says whose volume: another
//! install's of the same name is left alone. Removed is the access point; the directory stays with what is in it, for
//! nothing of the API removes one.

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
use crate::controller::quota::Bound;
use crate::controller::quota::size_of_quota;
use crate::model::AccessPointHandle;
use crate::model::ExportPath;
use crate::model::OnDelete;
use crate::model::VolumeKey;
use crate::model::VolumeRef;
use crate::model::volume_class::AccessPointClass;
use crate::nas::NasFault;
use crate::nas::types::AccessPoint;
use crate::nas::types::AccessPointRef;
use crate::nas::types::AccessPointStatus;
use crate::nas::types::CreateAccessPoint;
use crate::nas::types::FileSystemId;
use crate::nas::types::PosixUser;
use crate::nas::types::RootDirectory;
use crate::nas::types::Tag;
use crate::runtime::FailurePoint;

const NEED: Need = Need::AccessPoint;

impl Controller {
    /// Makes the access point of a volume, or makes sure of it.
    pub(super) async fn create_access_point(
        &self,
        name: &str,
        (least, most): (i64, i64),
        class: &AccessPointClass,
    ) -> Result<Provisioned, CreateError> {
        let key = VolumeKey::of_directory(name);
        let _operation = self.begin(&key)?;
        let cloud = self.cloud(NEED).map_err(before)?;
        cloud.ensure_region(class.site.region.as_deref()).map_err(before)?;
        let id =
            FileSystemId::parse(&class.file_system_id).map_err(|error| before(error.into()))?;
        let mut capacity = match class.has_quota {
            true => size_of_quota(least, most).map_err(CreateError::Size)?,
            false => least,
        };
        let named = cloud.access_points_named(&id, &key).await.map_err(before)?;
        match named.iter().find(|one| cloud.has_made(one)) {
            Some(found) => compare(found, name, class)?,
            None => {
                refuse_neighbour(&named, class).map_err(before)?;
                cloud.make_access_point(&id, &key, class).await?;
                FailurePoint::AccessPointMade.pass();
            }
        }
        let made = cloud.ensure_active(&id, &key).await.map_err(begun)?;
        FailurePoint::AccessPointActive.pass();
        if class.has_quota {
            let path = class.root_path.as_str().to_owned();
            let bound = Bound { file_system_id: id.clone(), path };
            let held = cloud.bound_of(&bound).await.map_err(begun)?;
            refuse_other_size(name, held, (least, most))?;
            capacity = held.unwrap_or(capacity);
            cloud.ensure_bound(&bound, capacity).await.map_err(begun)?;
        }
        let domain = made.domain_name.unwrap_or_default();
        let place = class.mounting.place(domain, ExportPath::root());
        let place = place.map_err(|error| begun(CloudFault::Mount(Box::new(error))))?;
        let context = class.mounting.volume_context(&place);
        let volume = VolumeRef::AccessPoint(AccessPointHandle {
            region: cloud.api.region().to_string(),
            file_system_id: id.to_string(),
            access_point_id: made.access_point_id,
            key,
        });
        Ok(Provisioned {
            id: volume.id()?,
            facts: Facts { capacity, context, is_whole: true, origin: None },
        })
    }

    /// Removes the access point of a volume.
    pub(super) async fn delete_access_point(
        &self,
        handle: &AccessPointHandle,
    ) -> Result<Removed, DeleteError> {
        let _operation = self.begin(&handle.key)?;
        let cloud = self.cloud(NEED)?;
        cloud.ensure_region(Some(&handle.region))?;
        let id = FileSystemId::parse(&handle.file_system_id).map_err(CloudFault::Name)?;
        // A lost answer may have left a second one of the same name.
        let found = cloud.access_points_of(&id, &handle.key).await?;
        if found.is_empty() {
            cloud.ensure_no_other(&id, handle).await?;
            return Ok(Removed::Already);
        }
        for one in &found {
            if let Some(path) = one.root_path.clone().filter(|path| path != "/") {
                let bound = Bound { file_system_id: id.clone(), path };
                if cloud.bound_of(&bound).await?.is_some() {
                    cloud.ensure_unbound(&bound).await?;
                }
            }
            FailurePoint::AccessPointUnbound.pass();
            let which =
                AccessPointRef { file_system_id: &id, access_point_id: &one.access_point_id };
            cloud.api.delete_access_point(which).await.map_err(failed)?;
            FailurePoint::AccessPointRemoved.pass();
        }
        Ok(Removed::Now(OnDelete::Retain))
    }

    /// What is known about the access point of a volume, after its quota was made larger, where it has one.
    pub(super) async fn find_access_point(
        &self,
        handle: &AccessPointHandle,
        size: Option<i64>,
    ) -> Result<Facts, FindError> {
        let missing = || FindError::NotFound(VolumeRef::AccessPoint(handle.clone()).to_string());
        let cloud = self.cloud(NEED)?;
        cloud.ensure_region(Some(&handle.region))?;
        let id = FileSystemId::parse(&handle.file_system_id).map_err(CloudFault::Name)?;
        let found = cloud.access_points_of(&id, &handle.key).await?;
        let found = found.into_iter().find(|one| one.access_point_id == handle.access_point_id);
        let found = found.ok_or_else(missing)?;
        let path = found.root_path.clone().unwrap_or_default();
        let bound = Bound { file_system_id: id, path };
        let held = cloud.bound_of(&bound).await?;
        let capacity = match (held, size) {
            (Some(held), Some(size)) if size > held => {
                let size = size_of_quota(size, 0).map_err(FindError::Size)?;
                cloud.ensure_bound(&bound, size).await?;
                size
            }
            (Some(held), _) => held,
            // Nothing bounds it, so there is room for any size.
            (None, size) => size.unwrap_or_default(),
        };
        Ok(Facts::of_root(capacity, found.domain_name))
    }
}

impl Cloud {
    /// Those of a volume, in order, without what is on its way out.
    async fn access_points_of(
        &self,
        id: &FileSystemId,
        key: &VolumeKey,
    ) -> Result<Vec<AccessPoint>, CloudFault> {
        let mut found = self.access_points_named(id, key).await?;
        found.retain(|one| self.has_made(one));
        Ok(found)
    }

    /// Those that carry the name of a volume, whoever has made them. The list has no tags, so each one is looked at.
    async fn access_points_named(
        &self,
        id: &FileSystemId,
        key: &VolumeKey,
    ) -> Result<Vec<AccessPoint>, CloudFault> {
        let (name, mut named) = (name_of(key), Vec::new());
        for one in self.api.access_points(id).await.map_err(failed)? {
            if one.access_point_name.as_ref() == Some(&name) {
                let access_point_id = &one.access_point_id;
                let which = AccessPointRef { file_system_id: id, access_point_id };
                named.extend(self.api.access_point(which).await.map_err(failed)?);
            }
        }
        named.retain(|one| one.status != AccessPointStatus::Deleting);
        named.sort_by(|one, other| one.access_point_id.cmp(&other.access_point_id));
        Ok(named)
    }

    /// Whether this install has made it.
    fn has_made(&self, one: &AccessPoint) -> bool {
        driver_of(one) == Some(&self.driver)
    }

    /// An id that leads to somebody else's access point is said, and nothing is done.
    async fn ensure_no_other(
        &self,
        id: &FileSystemId,
        handle: &AccessPointHandle,
    ) -> Result<(), CloudFault> {
        let all = self.api.access_points(id).await.map_err(failed)?;
        let is_it = |one: &AccessPoint| one.access_point_id == handle.access_point_id;
        match all.iter().find(|one| is_it(one)) {
            Some(one) if one.status != AccessPointStatus::Deleting => Err(CloudFault::Foreign {
                what: format!("access point {} of file system {id}", one.access_point_id),
                why: format!(
                    "it is not both called {} and tagged {DRIVER_TAG}={}",
                    name_of(&handle.key),
                    self.driver
                ),
            }),
            _ => Ok(()),
        }
    }

    async fn make_access_point(
        &self,
        id: &FileSystemId,
        key: &VolumeKey,
        class: &AccessPointClass,
    ) -> Result<(), CreateError> {
        let order = self.order_of_access_point(id, key, class).map_err(before)?;
        self.api.create_access_point(&order).await.map_err(|fault| not_made(NEED, fault))
    }

    fn order_of_access_point(
        &self,
        id: &FileSystemId,
        key: &VolumeKey,
        class: &AccessPointClass,
    ) -> Result<CreateAccessPoint, CloudFault> {
        let mode = u16::try_from(class.root.mode & 0o7777).unwrap_or(0o777);
        Ok(CreateAccessPoint {
            file_system_id: id.clone(),
            access_group: class.site.access_group.clone(),
            name: Some(name_of(key)),
            vpc_id: class.site.vpc_id.clone(),
            vswitch_id: class.site.vswitch_id.clone(),
            root_directory: class.root_path.as_str().to_owned(),
            root: Some(RootDirectory {
                owner_user_id: class.root.uid,
                owner_group_id: class.root.gid,
                mode,
            }),
            posix_user: class.user.as_ref().map(|user| PosixUser {
                posix_user_id: user.uid,
                posix_group_id: user.gid,
                posix_secondary_group_ids: user.groups.clone(),
            }),
            enabled_ram: class.ram,
            tags: vec![Tag::parse(DRIVER_TAG, &self.driver)?],
        })
    }

    async fn ensure_active(
        &self,
        id: &FileSystemId,
        key: &VolumeKey,
    ) -> Result<AccessPoint, CloudFault> {
        let mut waiting = Waiting::begin();
        loop {
            let found = self.access_points_of(id, key).await?.into_iter().next();
            match found {
                Some(found)
                    if found.status == AccessPointStatus::Active && found.domain_name.is_some() =>
                {
                    return Ok(found);
                }
                found => {
                    let what = || format!("access point {} of file system {id}", name_of(key));
                    let state = || match &found {
                        Some(found) => format!("{:?}", found.status),
                        None => "not there".to_owned(),
                    };
                    waiting.again(what, state).await?;
                }
            }
        }
    }
}

fn failed(fault: NasFault) -> CloudFault {
    NEED.failed(fault)
}

/// What an access point is called that is made for a volume.
fn name_of(key: &VolumeKey) -> String {
    format!("alinas-csi-{key}")
}

/// The name of the install that has made one.
fn driver_of(one: &AccessPoint) -> Option<&str> {
    one.tags.iter().find(|tag| tag.key() == DRIVER_TAG).map(Tag::value)
}

/// Another install's volume of the same name is another volume, which the data of ours must not be mixed with. One
/// that says of no install may be ours, with tags that are not seen yet.
fn refuse_neighbour(named: &[AccessPoint], class: &AccessPointClass) -> Result<(), CloudFault> {
    let path = class.root_path.as_str();
    for one in named.iter().filter(|one| one.root_path.as_deref() == Some(path)) {
        if let Some(driver) = driver_of(one) {
            return Err(CloudFault::Foreign {
                what: format!("directory {path} of file system {}", one.file_system_id),
                why: format!(
                    "access point {} of the driver {driver} leads there; give the class another path or nameTemplate",
                    one.access_point_id
                ),
            });
        }
    }
    Ok(())
}

fn compare(found: &AccessPoint, name: &str, class: &AccessPointClass) -> Result<(), CreateError> {
    let held = found.root_path.clone().unwrap_or_default();
    let wanted = class.root_path.as_str();
    if held != wanted {
        let (name, wanted) = (name.to_owned(), wanted.to_owned());
        return Err(CreateError::Different { name, what: "directory", held, wanted });
    }
    Ok(())
}

fn refuse_other_size(
    name: &str,
    held: Option<i64>,
    (least, most): (i64, i64),
) -> Result<(), CreateError> {
    match held {
        Some(held) if held < least || (most > 0 && held > most) => Err(CreateError::Different {
            name: name.to_owned(),
            what: "size",
            held: format!("{held} bytes"),
            wanted: format!("{least} bytes"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
