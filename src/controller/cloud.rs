//! Volumes of every kind: which one a call is about, and who does it.
//!
//! | volume | made | removed |
//! | --- | --- | --- |
//! | directory | [`create`](crate::controller::create) | [`delete`](crate::controller::delete) |
//! | file system | `file_system` | there, too |
//! | access point | `access_point` | there, too |
//! | shared directory | nothing: it must be there | nothing |

use std::collections::BTreeMap;

use crate::controller::Controller;
use crate::controller::CreateError;
use crate::controller::CreateRequest;
use crate::controller::DeleteError;
use crate::controller::FindError;
use crate::controller::VolumeRecord;
use crate::controller::api::Cloud;
use crate::controller::api::CloudFault;
use crate::controller::api::Need;
use crate::controller::record::Origin;
use crate::controller::tree::ExportFault;
use crate::model::OnDelete;
use crate::model::VolumeClass;
use crate::model::VolumeHandle;
use crate::model::VolumeId;
use crate::model::VolumeKey;
use crate::model::VolumeRef;
use crate::model::volume_class::SharedClass;
use crate::nas::NasFault;

/// A volume that is wanted, of whichever kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name: whoever asks for the same name asks for the same volume.
    pub name: String,
    /// The least size in bytes, 0 for any.
    pub least: i64,
    /// The most, 0 for any.
    pub most: i64,
    /// What the class says.
    pub class: VolumeClass,
    /// What it is to be a copy of, which only a directory can be.
    pub origin: Option<Origin>,
}

/// A volume that was made, or was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// Its id.
    pub id: VolumeId,
    /// What is known about it.
    pub facts: Facts,
}

/// What is known about a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its size in bytes: what a quota allows, or what was asked for where nothing bounds it. 0: nobody knows.
    pub capacity: i64,
    /// Its attributes.
    pub context: BTreeMap<String, String>,
    /// Whether these are all of them. The API does not keep how a volume is to be mounted, a record does.
    pub is_whole: bool,
    /// What it was copied from.
    pub origin: Option<Origin>,
}

/// What became of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// This.
    Now(OnDelete),
    /// It was not there.
    Already,
    /// Nothing: it was never more than a name.
    Shared,
}

impl Facts {
    /// As much as the API keeps of a volume that is the root of what it has made.
    pub(super) fn of_root(capacity: i64, server: Option<String>) -> Self {
        let server = server.map(|domain| ("server".to_owned(), domain));
        let path = Some(("path".to_owned(), "/".to_owned()));
        let context = server.into_iter().chain(path).collect();
        Self { capacity, context, is_whole: false, origin: None }
    }
}

impl From<VolumeRecord> for Facts {
    fn from(record: VolumeRecord) -> Self {
        let VolumeRecord { capacity, context, origin, .. } = record;
        Self { capacity, context, is_whole: true, origin }
    }
}

impl Controller {
    /// Makes a volume, or makes sure of it.
    ///
    /// # Errors
    /// Says what is wrong with the class, and why nothing was made or what has begun to be.
    pub async fn provision(&self, wanted: Wanted) -> Result<Provisioned, CreateError> {
        let Wanted { name, least, most, class, origin } = wanted;
        match class {
            VolumeClass::Directory(class) => {
                let request = CreateRequest { name, least, most, class, origin };
                let created = Box::pin(self.create(request)).await?;
                Ok(Provisioned { id: created.id, facts: created.record.into() })
            }
            VolumeClass::Shared(class) => self.share(&name, least, &class).await,
            VolumeClass::FileSystem(class) => {
                Box::pin(self.create_file_system(&name, (least, most), &class)).await
            }
            VolumeClass::AccessPoint(class) => {
                Box::pin(self.create_access_point(&name, (least, most), &class)).await
            }
        }
    }

    /// Removes a volume. One that is not there has been removed.
    ///
    /// # Errors
    /// Says why it is still there; to be called again.
    pub async fn remove(&self, volume: &VolumeRef) -> Result<Removed, DeleteError> {
        match volume {
            VolumeRef::Directory(handle) => Ok(match Box::pin(self.delete(handle)).await? {
                crate::controller::delete::Deleted::Now(on_delete) => Removed::Now(on_delete),
                crate::controller::delete::Deleted::Already => Removed::Already,
            }),
            VolumeRef::Shared(_) => Ok(Removed::Shared),
            VolumeRef::FileSystem(handle) => Box::pin(self.delete_file_system(handle)).await,
            VolumeRef::AccessPoint(handle) => Box::pin(self.delete_access_point(handle)).await,
        }
    }

    /// What is known about a volume.
    ///
    /// # Errors
    /// When there is none, or nobody says.
    pub async fn facts(&self, volume: &VolumeRef) -> Result<Facts, FindError> {
        match volume {
            VolumeRef::Directory(handle) => Ok(self.find(handle).await?.into()),
            VolumeRef::Shared(handle) => self.find_shared(handle).await,
            VolumeRef::FileSystem(handle) => Box::pin(self.find_file_system(handle, None)).await,
            VolumeRef::AccessPoint(handle) => Box::pin(self.find_access_point(handle, None)).await,
        }
    }

    /// Makes a volume larger, where something bounds it, or takes note of its size. It never becomes smaller.
    ///
    /// # Errors
    /// When there is none, or it cannot be done.
    pub async fn grow(&self, volume: &VolumeRef, size: i64) -> Result<Facts, FindError> {
        match volume {
            VolumeRef::Directory(handle) => Ok(Box::pin(self.expand(handle, size)).await?.into()),
            VolumeRef::Shared(handle) => {
                // Nothing bounds it, so there is room for any size.
                let facts = self.find_shared(handle).await?;
                Ok(Facts { capacity: size, ..facts })
            }
            VolumeRef::FileSystem(handle) => {
                let _operation = self.begin(&handle.key)?;
                Box::pin(self.find_file_system(handle, Some(size))).await
            }
            VolumeRef::AccessPoint(handle) => {
                let _operation = self.begin(&handle.key)?;
                Box::pin(self.find_access_point(handle, Some(size))).await
            }
        }
    }

    /// The API, where it is set up.
    pub(super) fn cloud(&self, need: Need) -> Result<&Cloud, CloudFault> {
        self.cloud.as_ref().ok_or(CloudFault::NoApi { need })
    }

    /// A shared directory is only looked at: whether it is there, and can be reached.
    async fn share(
        &self,
        name: &str,
        least: i64,
        class: &SharedClass,
    ) -> Result<Provisioned, CreateError> {
        let key = VolumeKey::of_directory(name);
        let export = class.place.export.clone();
        let id = VolumeRef::Shared(VolumeHandle { export: export.clone(), key }).id()?;
        let opened = self.exports.open(&export).await;
        opened.map_err(|fault| CreateError::Export(Box::new(fault)))?;
        let context = class.volume_context();
        Ok(Provisioned {
            id,
            facts: Facts { capacity: least, context, is_whole: true, origin: None },
        })
    }

    async fn find_shared(&self, handle: &VolumeHandle) -> Result<Facts, FindError> {
        let export = &handle.export;
        match self.exports.open(export).await {
            Ok(_) => {}
            Err(ExportFault::NoSuchPath { .. }) => {
                return Err(FindError::NotFound(VolumeRef::Shared(handle.clone()).to_string()));
            }
            Err(fault) => return Err(FindError::Export(Box::new(fault))),
        }
        let context = [("path".to_owned(), export.path.as_str().to_owned())].into();
        Ok(Facts { capacity: 0, context, is_whole: false, origin: None })
    }
}

/// Nothing has been made yet: the next one may ask for something else.
pub(super) fn before(source: CloudFault) -> CreateError {
    CreateError::Cloud { source, is_begun: false }
}

/// It was asked for, and may have been made all the same.
pub(super) fn not_made(need: Need, fault: NasFault) -> CreateError {
    let is_begun = fault.may_have_been_done();
    CreateError::Cloud { source: need.failed(fault), is_begun }
}

/// Something has been made: it is asked for again until it is whole, or deleted.
pub(super) fn begun(source: CloudFault) -> CreateError {
    CreateError::Cloud { source, is_begun: true }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::controller::fake::Servers;
    use crate::nfs::client::Kind;

    pub(in crate::controller) fn wanted(name: &str, parameters: &[(&str, &str)]) -> Wanted {
        let all = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let class = VolumeClass::parse(&all.collect(), &[], name).unwrap();
        Wanted { name: name.to_owned(), least: 10, most: 0, class, origin: None }
    }

    #[tokio::test]
    async fn a_shared_directory_is_left_as_it_is_and_tells_its_volumes_apart() {
        let servers = Servers::default().with("a.test");
        servers.plant("a.test", "precious", Kind::File);
        let controller = servers.controller();
        let share = [("volumeAs", "sharepath"), ("server", "a.test"), ("options", "hard")];
        let first = controller.provision(wanted("pvc-1", &share)).await.unwrap();
        let second = controller.provision(wanted("pvc-2", &share)).await.unwrap();
        assert_eq!(first.id.as_str(), "v1:sharepath:a.test:/:pvc-1");
        assert_eq!((first.facts.context["path"].as_str(), first.facts.capacity), ("/", 10));
        assert_eq!(first.facts.context, second.facts.context);
        let volume = VolumeRef::parse(first.id.as_str()).unwrap();
        assert_eq!(controller.grow(&volume, 20).await.unwrap().capacity, 20);
        assert_eq!(controller.remove(&volume).await.unwrap(), Removed::Shared);
        assert_eq!(servers.paths("a.test"), ["precious"]);
        let elsewhere = [("volumeAs", "sharepath"), ("server", "b.test")];
        let error = controller.provision(wanted("pvc-1", &elsewhere)).await.unwrap_err();
        assert!(matches!(error, CreateError::Export(_)), "{error}");
    }

    #[tokio::test]
    async fn without_the_api_directories_work_and_the_rest_is_refused_with_what_is_missing() {
        let servers = Servers::default().with("a.test");
        let controller = servers.controller();
        controller.provision(wanted("pvc-1", &[("server", "a.test")])).await.unwrap();
        let network = [("vpcId", "vpc-1"), ("vSwitchId", "vsw-1")];
        let file_system = [&[("volumeAs", "filesystem")], &network[..]].concat();
        let access_point =
            [&[("volumeAs", "accesspoint"), ("fileSystemId", "31a8e4")], &network[..]].concat();
        let quota = vec![("server", "a.test"), ("volumeCapacity", "true"), ("fileSystemId", "1a")];
        for (parameters, permission) in [
            (file_system, "nas:CreateFileSystem"),
            (access_point, "nas:DescribeAccessPoints"),
            (quota, "nas:SetDirQuota"),
        ] {
            let error = controller.provision(wanted("pvc-2", &parameters)).await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, CreateError::Cloud { is_begun: false, .. }), "{text}");
            for said in [permission, "--nas-region", "deploy/ram-policy.json"] {
                assert!(text.contains(said) && !text.contains('\n'), "{said}: {text}");
            }
        }
    }
}
