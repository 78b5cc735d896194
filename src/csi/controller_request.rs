//! Messages to the controller taken apart: what leaves this file is complete and typed.

use std::collections::HashMap;

use tonic::Code;

use crate::controller::CreateRequest;
use crate::controller::Origin;
use crate::csi::request;
use crate::csi::request::RequestError;
use crate::model::ChangeError;
use crate::model::Changes;
use crate::model::ClassError;
use crate::model::SnapshotHandle;
use crate::model::StorageClass;
use crate::model::VolumeHandle;
use crate::model::VolumeId;
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
    /// There is no such volume, and never was.
    #[error("there is no volume {0:?}")]
    NoVolume(String),
    /// There is no such snapshot, and never was.
    #[error("there is no snapshot {0:?}")]
    NoSnapshot(String),
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
        | ControllerRequestError::Mutable(_) => Code::InvalidArgument,
        ControllerRequestError::Range { .. } => Code::OutOfRange,
        ControllerRequestError::NoVolume(_) | ControllerRequestError::NoSnapshot(_) => {
            Code::NotFound
        }
        ControllerRequestError::Later(_) => Code::FailedPrecondition,
    }
}

pub(super) fn create(
    message: &csi::CreateVolumeRequest,
) -> Result<CreateRequest, ControllerRequestError> {
    if message.name.is_empty() {
        return Err(RequestError::Missing("name").into());
    }
    let mount_flags = mount_flags(&message.volume_capabilities)?;
    let origin = message.volume_content_source.as_ref().map(origin).transpose()?;
    let Changes { on_delete } = Changes::parse(&message.mutable_parameters)?;
    let (least, most) = sizes(message.capacity_range.as_ref())?;
    let mut class = StorageClass::parse(&message.parameters, &mount_flags, &message.name)?;
    // CSI 1.13, CreateVolume: mutable parameters take precedence.
    class.on_delete = on_delete.unwrap_or(class.on_delete);
    Ok(CreateRequest { name: message.name.clone(), least, most, class, origin })
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

/// The class whose room is asked for; none where no class is given.
pub(super) fn capacity(
    message: &csi::GetCapacityRequest,
) -> Result<Option<StorageClass>, ControllerRequestError> {
    if message.parameters.is_empty() {
        return Ok(None);
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
    Ok(Some(StorageClass::parse(&parameters, &flags, "volume")?))
}

/// None: whatever that id is, our controller has not made it, so there is nothing to delete.
pub(super) fn delete(
    message: &csi::DeleteVolumeRequest,
) -> Result<Option<VolumeHandle>, ControllerRequestError> {
    match handle(&message.volume_id) {
        Ok(handle) => Ok(Some(handle)),
        Err(ControllerRequestError::NoVolume(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn validate(
    message: &csi::ValidateVolumeCapabilitiesRequest,
) -> Result<VolumeHandle, ControllerRequestError> {
    if message.volume_capabilities.is_empty() {
        ensure_id(&message.volume_id)?;
        return Err(RequestError::Missing("volume_capabilities").into());
    }
    handle(&message.volume_id)
}

/// What is asked of a volume and it cannot do.
pub(super) fn unsupported(
    message: &csi::ValidateVolumeCapabilitiesRequest,
) -> Result<(), ControllerRequestError> {
    let flags = mount_flags(&message.volume_capabilities)?;
    if !message.parameters.is_empty() {
        StorageClass::parse(&message.parameters, &flags, "volume")?;
    }
    Ok(())
}

pub(super) fn expand(
    message: &csi::ControllerExpandVolumeRequest,
) -> Result<(VolumeHandle, i64), ControllerRequestError> {
    ensure_id(&message.volume_id)?;
    let range = message.capacity_range.as_ref();
    let range = range.ok_or(RequestError::Missing("capacity_range"))?;
    let (least, _) = sizes(Some(range))?;
    Ok((handle(&message.volume_id)?, least))
}

pub(super) fn handle(id: &str) -> Result<VolumeHandle, ControllerRequestError> {
    ensure_id(id)?;
    if let Err(later @ VolumeIdError::Later(_)) = VolumeId::parse(id) {
        return Err(ControllerRequestError::Later(later));
    }
    VolumeHandle::parse(id).ok_or_else(|| ControllerRequestError::NoVolume(id.to_owned()))
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

/// A most of 0 is none. A size is written down and not enforced, so every one is possible.
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
        assert_eq!(request.class.directory, "pvc-1");
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
        assert!(delete("v1:nas.corp:/:pvc-1").unwrap().is_some());
        for id in ["fake-vol-id", "v1:nas.corp:/:..", "a b", "../x"] {
            assert_eq!(delete(id), Ok(None), "{id}");
        }
        assert_eq!(code_of(&delete("").unwrap_err()), Code::InvalidArgument);
        assert_eq!(code_of(&delete("v2:x").unwrap_err()), Code::FailedPrecondition);
    }
}
