//! Messages to the controller taken apart: what leaves this file is complete and typed.

use std::collections::HashMap;

use tonic::Code;

use crate::controller::Origin;
use crate::controller::Wanted;
use crate::csi::request;
use crate::csi::request::RequestError;
use crate::model::ChangeError;
use crate::model::Changes;
use crate::model::ClassError;
use crate::model::SnapshotHandle;
use crate::model::StorageClass;
use crate::model::VolumeClass;
use crate::model::VolumeHandle;
use crate::model::VolumeId;
use crate::model::VolumeRef;
use crate::model::storage_class::METADATA_KEYS;
use crate::model::volume_id::VolumeIdError;
use crate::proto::csi;
use crate::proto::csi::volume_content_source;

/// Why a message is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerRequestError {
    /// A field that the node has, too.
    #[error(transparent)]
    Field(#[from] RequestError),
    /// The parameters.
    #[error("the StorageClass cannot be used: {0}")]
    Class(#[from] ClassError),
    /// A copy was asked for, of what is not said.
    #[error("the source of the volume is neither a volume nor a snapshot")]
    Source,
    /// A VolumeAttributesClass.
    #[error("the VolumeAttributesClass cannot be used: {0}")]
    Mutable(#[from] ChangeError),
    /// A parameter of a VolumeSnapshotClass.
    #[error("the VolumeSnapshotClass has the parameter {0:?}; it takes none")]
    SnapshotParameter(String),
    /// A list cannot have so many entries.
    #[error("max_entries is {0}; it must not be negative")]
    MaxEntries(i32),
    /// A size that is none.
    #[error("a capacity range from {least} to {most} bytes is not possible")]
    Range {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// The class binds volumes to a zone, and nobody says where nodes are.
    #[error(
        "parameter \"accessibility\" is \"zone\", and this driver says no zones: set topology.enabled in the chart \
         (--topology), or leave the parameter out"
    )]
    NoTopology,
    /// None of the class's servers is in a zone that the claim may use.
    #[error("the class has no server in {wanted}; add one there, or leave \"accessibility\" out")]
    NotInZone {
        /// The zones.
        wanted: String,
    },
    /// There is no such volume, and never was.
    #[error("there is no volume {0:?}")]
    NoVolume(String),
    /// There is no such snapshot, and never was.
    #[error("there is no snapshot {0:?}")]
    NoSnapshot(String),
    /// It is of a kind that cannot do this.
    #[error(
        "{0:?} is no volume of \"volumeAs: subpath\"; only these can be copied, made from a copy or changed"
    )]
    OnlyDirectories(String),
    /// Made by a later release, so that this one cannot know what it is.
    #[error(transparent)]
    Later(VolumeIdError),
}

/// The code of a malformed message.
pub(super) fn code_of(error: &ControllerRequestError) -> Code {
    match error {
        ControllerRequestError::Field(error) => request::code_of(error),
        ControllerRequestError::Class(_)
        | ControllerRequestError::Source
        | ControllerRequestError::SnapshotParameter(_)
        | ControllerRequestError::MaxEntries(_)
        | ControllerRequestError::OnlyDirectories(_)
        | ControllerRequestError::NoTopology
        | ControllerRequestError::Mutable(_) => Code::InvalidArgument,
        ControllerRequestError::Range { .. } => Code::OutOfRange,
        // CSI 1.13, CreateVolume: "Unable to provision in accessible_topology".
        ControllerRequestError::NotInZone { .. } => Code::ResourceExhausted,
        ControllerRequestError::NoVolume(_) | ControllerRequestError::NoSnapshot(_) => {
            Code::NotFound
        }
        ControllerRequestError::Later(_) => Code::FailedPrecondition,
    }
}

pub(super) fn create(message: &csi::CreateVolumeRequest) -> Result<Wanted, ControllerRequestError> {
    if message.name.is_empty() {
        return Err(RequestError::Missing("name").into());
    }
    let mount_flags = mount_flags(&message.volume_capabilities)?;
    let origin = message.volume_content_source.as_ref().map(origin).transpose()?;
    let Changes { on_delete } = Changes::parse(&message.mutable_parameters)?;
    let (least, most) = sizes(message.capacity_range.as_ref())?;
    let mut class = VolumeClass::parse(&message.parameters, &mount_flags, &message.name)?;
    match &mut class {
        // CSI 1.13, CreateVolume: mutable parameters take precedence.
        VolumeClass::Directory(class) => class.on_delete = on_delete.unwrap_or(class.on_delete),
        _ if origin.is_some() || on_delete.is_some() => {
            return Err(ControllerRequestError::OnlyDirectories(message.name.clone()));
        }
        _ => {}
    }
    Ok(Wanted { name: message.name.clone(), least, most, class, origin })
}

fn origin(source: &csi::VolumeContentSource) -> Result<Origin, ControllerRequestError> {
    match &source.r#type {
        Some(volume_content_source::Type::Volume(source)) => {
            Ok(Origin::Volume(handle(&source.volume_id)?.to_string()))
        }
        Some(volume_content_source::Type::Snapshot(source)) => {
            Ok(Origin::Snapshot(snapshot(&source.snapshot_id)?.to_string()))
        }
        None => Err(ControllerRequestError::Source),
    }
}

/// A snapshot by its id.
pub(super) fn snapshot(id: &str) -> Result<SnapshotHandle, ControllerRequestError> {
    if id.is_empty() {
        return Err(RequestError::Missing("snapshot_id").into());
    }
    SnapshotHandle::parse(id).ok_or_else(|| ControllerRequestError::NoSnapshot(id.to_owned()))
}

/// What is to be changed of which volume.
pub(super) fn modify(
    message: &csi::ControllerModifyVolumeRequest,
) -> Result<(VolumeHandle, Changes), ControllerRequestError> {
    let handle = handle(&message.volume_id)?;
    Ok((handle, Changes::parse(&message.mutable_parameters)?))
}

/// Where room is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// No class is given, so nowhere.
    Nowhere,
    /// On the mount targets of a class.
    On(StorageClass),
    /// What is made there grows as it is written to.
    Unbounded,
}

/// Where room is asked for.
pub(super) fn capacity(message: &csi::GetCapacityRequest) -> Result<Room, ControllerRequestError> {
    if message.parameters.is_empty() {
        return Ok(Room::Nowhere);
    }
    let flags = match &message.volume_capabilities[..] {
        [] => Vec::new(),
        capabilities => mount_flags(capabilities)?,
    };
    // There is no volume yet to name a directory after.
    let mut parameters = message.parameters.clone();
    for key in METADATA_KEYS {
        parameters.entry(key.to_owned()).or_insert_with(|| "volume".to_owned());
    }
    Ok(match VolumeClass::parse(&parameters, &flags, "volume")? {
        VolumeClass::Directory(class) => Room::On(class),
        VolumeClass::Shared(_) | VolumeClass::FileSystem(_) | VolumeClass::AccessPoint(_) => {
            Room::Unbounded
        }
    })
}

/// None: whatever that id is, our controller has not made it, so there is nothing to delete.
pub(super) fn delete(
    message: &csi::DeleteVolumeRequest,
) -> Result<Option<VolumeRef>, ControllerRequestError> {
    match volume(&message.volume_id) {
        Ok(volume) => Ok(Some(volume)),
        Err(ControllerRequestError::NoVolume(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn validate(
    message: &csi::ValidateVolumeCapabilitiesRequest,
) -> Result<VolumeRef, ControllerRequestError> {
    if message.volume_capabilities.is_empty() {
        ensure_id(&message.volume_id)?;
        return Err(RequestError::Missing("volume_capabilities").into());
    }
    volume(&message.volume_id)
}

/// What is asked of a volume and it cannot do.
pub(super) fn unsupported(
    message: &csi::ValidateVolumeCapabilitiesRequest,
) -> Result<(), ControllerRequestError> {
    let flags = mount_flags(&message.volume_capabilities)?;
    if !message.parameters.is_empty() {
        VolumeClass::parse(&message.parameters, &flags, "volume")?;
    }
    Ok(())
}

pub(super) fn expand(
    message: &csi::ControllerExpandVolumeRequest,
) -> Result<(VolumeRef, i64), ControllerRequestError> {
    ensure_id(&message.volume_id)?;
    let range = message.capacity_range.as_ref();
    let range = range.ok_or(RequestError::Missing("capacity_range"))?;
    let (least, _) = sizes(Some(range))?;
    Ok((volume(&message.volume_id)?, least))
}

pub(super) fn volume(id: &str) -> Result<VolumeRef, ControllerRequestError> {
    ensure_id(id)?;
    if let Err(later @ VolumeIdError::Later(_)) = VolumeId::parse(id) {
        return Err(ControllerRequestError::Later(later));
    }
    VolumeRef::parse(id).ok_or_else(|| ControllerRequestError::NoVolume(id.to_owned()))
}

/// How many entries a list may have; 0 for any number.
pub(super) fn most(max_entries: i32) -> Result<usize, ControllerRequestError> {
    usize::try_from(max_entries).map_err(|_| ControllerRequestError::MaxEntries(max_entries))
}

/// As [`volume`], where it has to be a directory of its own.
pub(super) fn handle(id: &str) -> Result<VolumeHandle, ControllerRequestError> {
    match volume(id)? {
        VolumeRef::Directory(handle) => Ok(handle),
        _ => Err(ControllerRequestError::OnlyDirectories(id.to_owned())),
    }
}

fn ensure_id(id: &str) -> Result<(), RequestError> {
    if id.is_empty() { Err(RequestError::VolumeId(VolumeIdError::Empty)) } else { Ok(()) }
}

fn mount_flags(
    capabilities: &[csi::VolumeCapability],
) -> Result<Vec<Vec<String>>, ControllerRequestError> {
    if capabilities.is_empty() {
        return Err(RequestError::Missing("volume_capabilities").into());
    }
    let flags = |message| Ok(request::capability(Some(message))?.mount_flags.to_vec());
    capabilities.iter().map(flags).collect()
}

/// A most of 0 is none. Whether a size is possible depends on what bounds the volume.
fn sizes(range: Option<&csi::CapacityRange>) -> Result<(i64, i64), ControllerRequestError> {
    let (least, most) = range.map_or((0, 0), |range| (range.required_bytes, range.limit_bytes));
    if least < 0 || most < 0 || (most > 0 && least > most) {
        return Err(ControllerRequestError::Range { least, most });
    }
    Ok((least, most))
}

/// A map as messages have it.
pub(super) fn context(
    context: &std::collections::BTreeMap<String, String>,
) -> HashMap<String, String> {
    context.clone().into_iter().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::csi::request::tests::shared;
    use crate::proto::csi::volume_capability::AccessType;
    use crate::proto::csi::volume_capability::BlockVolume;

    pub(in crate::csi) fn create_message() -> csi::CreateVolumeRequest {
        csi::CreateVolumeRequest {
            name: "pvc-1".to_owned(),
            volume_capabilities: vec![shared()],
            parameters: [("server".to_owned(), "nas.example.com".to_owned())].into(),
            ..csi::CreateVolumeRequest::default()
        }
    }

    fn range(required_bytes: i64, limit_bytes: i64) -> Option<csi::CapacityRange> {
        Some(csi::CapacityRange { required_bytes, limit_bytes })
    }

    #[test]
    fn a_complete_message_is_a_request() {
        let message = csi::CreateVolumeRequest { capacity_range: range(5, 10), ..create_message() };
        let request = create(&message).unwrap();
        assert_eq!((request.name.as_str(), request.least, request.most), ("pvc-1", 5, 10));
        let VolumeClass::Directory(class) = request.class else { panic!("another kind") };
        assert_eq!(class.directory, "pvc-1");
    }

    #[test]
    fn each_thing_that_cannot_be_has_its_code() {
        let block = csi::VolumeCapability {
            access_type: Some(AccessType::Block(BlockVolume {})),
            ..shared()
        };
        let key = |key: &str| [(key.to_owned(), "x".to_owned())].into();
        let whole = create_message;
        for (message, code) in [
            (csi::CreateVolumeRequest { name: String::new(), ..whole() }, Code::InvalidArgument),
            (
                csi::CreateVolumeRequest { volume_capabilities: vec![], ..whole() },
                Code::InvalidArgument,
            ),
            (
                csi::CreateVolumeRequest { volume_capabilities: vec![shared(), block], ..whole() },
                Code::InvalidArgument,
            ),
            (
                csi::CreateVolumeRequest { parameters: key("sever"), ..whole() },
                Code::InvalidArgument,
            ),
            (
                csi::CreateVolumeRequest { mutable_parameters: key("quota"), ..whole() },
                Code::InvalidArgument,
            ),
            (
                csi::CreateVolumeRequest {
                    volume_content_source: Some(csi::VolumeContentSource::default()),
                    ..whole()
                },
                Code::InvalidArgument,
            ),
            (csi::CreateVolumeRequest { capacity_range: range(2, 1), ..whole() }, Code::OutOfRange),
            (
                csi::CreateVolumeRequest { capacity_range: range(-1, 0), ..whole() },
                Code::OutOfRange,
            ),
        ] {
            let error = create(&message).unwrap_err();
            assert_eq!(code_of(&error), code, "{error}");
        }
    }

    #[test]
    fn an_id_of_nobody_has_nothing_to_delete_and_one_of_a_later_release_is_left_alone() {
        let delete = |id: &str| {
            let message =
                csi::DeleteVolumeRequest { volume_id: id.to_owned(), ..Default::default() };
            super::delete(&message)
        };
        for id in ["v1:nas.corp:/:pvc-1", "v1:filesystem:cn-hangzhou:31a8e4:pvc-1"] {
            assert!(delete(id).unwrap().is_some(), "{id}");
        }
        for id in ["fake-vol-id", "v1:nas.corp:/:..", "a b", "../x"] {
            assert_eq!(delete(id), Ok(None), "{id}");
        }
        assert_eq!(code_of(&delete("").unwrap_err()), Code::InvalidArgument);
        assert_eq!(code_of(&delete("v2:x").unwrap_err()), Code::FailedPrecondition);
    }
}
