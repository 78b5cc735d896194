//! Messages to the controller taken apart: what leaves this file is complete and typed.

use std::collections::HashMap;

use tonic::Code;

use crate::controller::CreateRequest;
use crate::csi::request;
use crate::csi::request::RequestError;
use crate::model::ClassError;
use crate::model::StorageClass;
use crate::model::VolumeHandle;
use crate::model::VolumeId;
use crate::model::volume_id::VolumeIdError;
use crate::proto::csi;

/// Why a message is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerRequestError {
    /// A field that the node has, too.
    #[error(transparent)]
    Field(#[from] RequestError),
    /// The parameters.
    #[error("the StorageClass cannot be used: {0}")]
    Class(#[from] ClassError),
    /// A copy was asked for.
    #[error("volumes are made empty: snapshots and clones are not supported")]
    Source,
    /// A VolumeAttributesClass was given.
    #[error("parameter {0:?} cannot be changed later: there are no mutable parameters")]
    Mutable(String),
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
        | ControllerRequestError::NoTopology
        | ControllerRequestError::Mutable(_) => Code::InvalidArgument,
        ControllerRequestError::Range { .. } => Code::OutOfRange,
        // CSI 1.13, CreateVolume: "Unable to provision in accessible_topology".
        ControllerRequestError::NotInZone { .. } => Code::ResourceExhausted,
        ControllerRequestError::NoVolume(_) => Code::NotFound,
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
    if message.volume_content_source.is_some() {
        return Err(ControllerRequestError::Source);
    }
    if let Some(key) = message.mutable_parameters.keys().min() {
        return Err(ControllerRequestError::Mutable(key.clone()));
    }
    let (least, most) = sizes(message.capacity_range.as_ref())?;
    let class = StorageClass::parse(&message.parameters, &mount_flags, &message.name)?;
    Ok(CreateRequest { name: message.name.clone(), least, most, class })
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
