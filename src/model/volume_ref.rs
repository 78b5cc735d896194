//! Every id that our controller makes, by what the volume is.
//!
//! ```text
//! v1:<server>:<path>[:<flag><value>]...:<key>            a directory (`volume_handle`)
//! v1:sharepath:<server>:<path>[:<flag><value>]...:<key>  a directory that other volumes share
//! v1:filesystem:<region>:<file system>:<key>             a file system
//! v1:accesspoint:<region>:<file system>:<id>:<key>       an access point
//! ```
//!
//! No id can be read as two of them: a directory's path begins with a slash, and what stands in its place in the
//! other forms does not. The key says whose the thing is: before anything is removed it is compared with what the
//! vendor's API has kept with the thing.

use std::fmt;

use crate::model::volume_handle::HandleError;
use crate::model::volume_handle::VolumeHandle;
use crate::model::volume_handle::VolumeKey;
use crate::model::volume_id::VolumeId;
use crate::model::volume_id::VolumeIdError;

const PREFIX: &str = "v1:";
const SHARED: &str = "sharepath";
const FILE_SYSTEM: &str = "filesystem";
const ACCESS_POINT: &str = "accesspoint";
/// A region is no longer, by the rule of `nas::Region`.
const LONGEST_REGION: usize = 40;
/// The vendor's ids have ten to twenty characters.
const LONGEST_VENDOR_ID: usize = 32;

/// A volume that our controller has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeRef {
    /// A directory of its own.
    Directory(VolumeHandle),
    /// A directory that others have, too. Its key tells the volumes apart.
    Shared(VolumeHandle),
    /// A file system.
    FileSystem(FileSystemHandle),
    /// An access point.
    AccessPoint(AccessPointHandle),
}

/// A file system that our controller has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystemHandle {
    /// Where.
    pub region: String,
    /// Which.
    pub file_system_id: String,
    /// For which volume.
    pub key: VolumeKey,
}

/// An access point that our controller has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPointHandle {
    /// Where.
    pub region: String,
    /// Of which file system.
    pub file_system_id: String,
    /// `ap-…`
    pub access_point_id: String,
    /// For which volume.
    pub key: VolumeKey,
}

impl VolumeRef {
    /// Reads an id; none where our controller has not made it.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let rest = id.strip_prefix(PREFIX)?;
        let (kind, behind) = rest.split_once(':')?;
        let found = match kind {
            SHARED if !behind.starts_with('/') => {
                Self::Shared(VolumeHandle::parse(&format!("{PREFIX}{behind}"))?)
            }
            FILE_SYSTEM if !behind.starts_with('/') => {
                Self::FileSystem(FileSystemHandle::parse(behind)?)
            }
            ACCESS_POINT if !behind.starts_with('/') => {
                Self::AccessPoint(AccessPointHandle::parse(behind)?)
            }
            _ => Self::Directory(VolumeHandle::parse(id)?),
        };
        (found.to_string() == id).then_some(found)
    }

    /// The id of a volume.
    ///
    /// # Errors
    /// Where it has no room for what deletion needs to know.
    pub fn id(&self) -> Result<VolumeId, HandleError> {
        match self {
            Self::Directory(handle) => handle.id(),
            Self::Shared(handle) => {
                handle.id()?;
                of_text(&self.to_string())
            }
            Self::FileSystem(_) | Self::AccessPoint(_) => of_text(&self.to_string()),
        }
    }

    /// Which volume, among those of its kind and place.
    #[must_use]
    pub fn key(&self) -> &VolumeKey {
        match self {
            Self::Directory(handle) | Self::Shared(handle) => &handle.key,
            Self::FileSystem(handle) => &handle.key,
            Self::AccessPoint(handle) => &handle.key,
        }
    }
}

fn of_text(text: &str) -> Result<VolumeId, HandleError> {
    VolumeId::parse(text).map_err(|error| match error {
        VolumeIdError::TooLong(length) => HandleError::TooLong(length),
        // What is written here holds to the grammar; a test of many says so.
        VolumeIdError::Empty
        | VolumeIdError::Character { .. }
        | VolumeIdError::PathLike(_)
        | VolumeIdError::Later(_) => HandleError::TooLong(text.len()),
    })
}

impl FileSystemHandle {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':');
        let (region, id, key) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() || !is_region(region) || !is_vendor_id(id) {
            return None;
        }
        let key = VolumeKey::parse(key)?;
        Some(Self { region: region.to_owned(), file_system_id: id.to_owned(), key })
    }
}

impl AccessPointHandle {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':');
        let (region, file_system) = (fields.next()?, fields.next()?);
        let (id, key) = (fields.next()?, fields.next()?);
        let is_access_point = id.strip_prefix("ap-").is_some_and(is_vendor_id) && is_vendor_id(id);
        let is_whole = is_region(region) && is_vendor_id(file_system) && is_access_point;
        if fields.next().is_some() || !is_whole {
            return None;
        }
        let key = VolumeKey::parse(key)?;
        let (region, file_system_id) = (region.to_owned(), file_system.to_owned());
        Some(Self { region, file_system_id, access_point_id: id.to_owned(), key })
    }
}

fn is_region(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_REGION).contains(&text.len()) && text.bytes().all(fits)
}

fn is_vendor_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=LONGEST_VENDOR_ID).contains(&text.len()) && text.bytes().all(fits)
}

impl fmt::Display for VolumeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(handle) => handle.fmt(f),
            Self::Shared(handle) => {
                let text = handle.to_string();
                let rest = text.strip_prefix(PREFIX).unwrap_or(&text);
                write!(f, "{PREFIX}{SHARED}:{rest}")
            }
            Self::FileSystem(FileSystemHandle { region, file_system_id, key }) => {
                write!(f, "{PREFIX}{FILE_SYSTEM}:{region}:{file_system_id}:{key}")
            }
            Self::AccessPoint(handle) => {
                let AccessPointHandle { region, file_system_id, access_point_id, key } = handle;
                write!(
                    f,
                    "{PREFIX}{ACCESS_POINT}:{region}:{file_system_id}:{access_point_id}:{key}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::export_path::ExportPath;
    use crate::model::tunnel_spec::RemotePort;
    use crate::model::tunnel_spec::ServerName;
    use crate::model::tunnel_spec::TunnelSpec;
    use crate::model::volume_handle::Export;

    fn directory(host: &str) -> VolumeHandle {
        let spec = TunnelSpec::to(ServerName::parse(host).unwrap(), RemotePort::Known);
        let path = ExportPath::parse("/all").unwrap();
        VolumeHandle { export: Export { spec, path }, key: VolumeKey::of_directory("pvc-1") }
    }

    fn file_system(id: &str, name: &str) -> VolumeRef {
        VolumeRef::FileSystem(FileSystemHandle {
            region: "cn-hangzhou".to_owned(),
            file_system_id: id.to_owned(),
            key: VolumeKey::of_directory(name),
        })
    }

    fn access_point(id: &str, name: &str) -> VolumeRef {
        VolumeRef::AccessPoint(AccessPointHandle {
            region: "cn-hangzhou".to_owned(),
            file_system_id: "31a8e4".to_owned(),
            access_point_id: id.to_owned(),
            key: VolumeKey::of_directory(name),
        })
    }

    #[test]
    fn each_kind_has_an_id_of_its_own_form() {
        for (volume, id) in [
            (VolumeRef::Directory(directory("nas.corp")), "v1:nas.corp:/all:pvc-1"),
            (VolumeRef::Shared(directory("nas.corp")), "v1:sharepath:nas.corp:/all:pvc-1"),
            (VolumeRef::Directory(directory("sharepath")), "v1:sharepath:/all:pvc-1"),
            (VolumeRef::Shared(directory("sharepath")), "v1:sharepath:sharepath:/all:pvc-1"),
            (VolumeRef::Directory(directory("filesystem")), "v1:filesystem:/all:pvc-1"),
            (file_system("31a8e4", "pvc-1"), "v1:filesystem:cn-hangzhou:31a8e4:pvc-1"),
            (access_point("ap-ie15yd", "a"), "v1:accesspoint:cn-hangzhou:31a8e4:ap-ie15yd:a"),
        ] {
            assert_eq!(volume.id().unwrap().as_str(), id);
            assert_eq!(VolumeRef::parse(id), Some(volume));
        }
    }

    #[test]
    fn the_longest_that_there_may_be_fits() {
        let uuid = "pvc-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f";
        let longest = FileSystemHandle {
            region: "r".repeat(LONGEST_REGION),
            file_system_id: "1".repeat(LONGEST_VENDOR_ID),
            key: VolumeKey::of_directory(uuid),
        };
        let id = VolumeRef::FileSystem(longest).id().unwrap();
        assert_eq!(id.as_str().len(), 128);
        assert!(access_point("ap-ie15ydanoz012345", uuid).id().is_ok());
    }

    #[test]
    fn a_second_spelling_of_an_id_is_no_id() {
        for id in [
            "v1:filesystem:cn-hangzhou:31a8e4",
            "v1:filesystem:cn-hangzhou:31a8e4:pvc-1:x",
            "v1:filesystem:CN-hangzhou:31a8e4:pvc-1",
            "v1:filesystem::31a8e4:pvc-1",
            "v1:filesystem:cn-hangzhou:31=61:pvc-1",
            "v1:filesystem:cn-hangzhou:../x:pvc-1",
            "v1:filesystem:cn-hangzhou:31a8e4:..",
            "v1:filesystem:cn-hangzhou:31a8e4:",
            "v1:accesspoint:cn-hangzhou:31a8e4:xp-1:pvc-1",
            "v1:accesspoint:cn-hangzhou:31a8e4:ap-:pvc-1",
            "v1:accesspoint:cn-hangzhou:31a8e4:pvc-1",
            "v1:sharepath:nas.corp:pvc-1",
            "v1:sharepath:v1:nas.corp:/all:pvc-1",
            "v1:filesystems:cn-hangzhou:31a8e4:pvc-1",
        ] {
            assert_eq!(VolumeRef::parse(id), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_for_a_volume_is_spelled_as_we_spell_it_and_of_one_kind(
            id in "v1:(sharepath|filesystem|accesspoint|nas.corp)(:[a-z0-9.=/_-]{0,20}){1,5}",
        ) {
            if let Some(found) = VolumeRef::parse(&id) {
                prop_assert_eq!(found.to_string(), id.clone());
                let is_directory = matches!(found, VolumeRef::Directory(_));
                prop_assert_eq!(VolumeHandle::parse(&id).is_some(), is_directory);
            }
        }

        #[test]
        fn an_id_is_read_back_as_the_volume_that_it_was_made_for(
            id in "[0-9a-z]{1,12}",
            name in "\\PC{0,60}",
        ) {
            for volume in [file_system(&id, &name), access_point(&format!("ap-{id}"), &name)] {
                let text = volume.id().unwrap();
                prop_assert_eq!(VolumeRef::parse(text.as_str()), Some(volume));
            }
        }
    }
}
