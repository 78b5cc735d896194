//! Messages taken apart: what leaves this file is complete and typed.
//!
//! Fields are checked in the order in which csi-sanity expects them named: volume id, path, capability.

use std::path::PathBuf;

use tonic::Code;

use crate::model::AttributeError;
use crate::model::VolumeAttributes;
use crate::model::VolumeId;
use crate::model::volume_id::VolumeIdError;
use crate::node::AccessMode;
use crate::node::PublishRequest;
use crate::node::StageRequest;
use crate::node::StatsRequest;
use crate::node::UnpublishRequest;
use crate::node::UnstageRequest;
use crate::proto::csi;
use crate::proto::csi::volume_capability::AccessType;
use crate::proto::csi::volume_capability::access_mode::Mode;

/// What `fsType` may say. Kubernetes sends the text of the PersistentVolume, most often none.
const FILE_SYSTEM_TYPES: [&str; 3] = ["", "nfs", "alinas"];

/// Why a message is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// `volume_id`.
    #[error(transparent)]
    VolumeId(#[from] VolumeIdError),
    /// A required field.
    #[error("{0} is required")]
    Missing(&'static str),
    /// CSI has a code of its own for this one.
    #[error("staging_target_path is required: volumes are staged before they are published")]
    NotStaged,
    /// A raw device was asked for.
    #[error(
        "volumeMode Block is not possible: NFS has files, no blocks; use volumeMode Filesystem"
    )]
    Block,
    /// A file system that NFS is not.
    #[error("fsType {0:?} is not possible; leave it out, or use \"nfs\"")]
    FileSystemType(String),
    /// We do not announce `VOLUME_MOUNT_GROUP`.
    #[error("volume_mount_group {0:?} is not supported; the kubelet applies fsGroup by itself")]
    MountGroup(String),
    /// An access mode of a later specification, or none.
    #[error("access mode {0} is unknown")]
    AccessMode(i32),
    /// `volume_context` or the mount options.
    #[error(transparent)]
    Attributes(#[from] AttributeError),
}

/// The code of a malformed message.
pub(super) fn code_of(error: &RequestError) -> Code {
    match error {
        RequestError::NotStaged => Code::FailedPrecondition,
        RequestError::VolumeId(_)
        | RequestError::Missing(_)
        | RequestError::Block
        | RequestError::FileSystemType(_)
        | RequestError::MountGroup(_)
        | RequestError::AccessMode(_)
        | RequestError::Attributes(_) => Code::InvalidArgument,
    }
}

pub(super) fn stage(message: &csi::NodeStageVolumeRequest) -> Result<StageRequest, RequestError> {
    let volume = VolumeId::parse(&message.volume_id)?;
    let staging_path = path("staging_target_path", &message.staging_target_path)?;
    let capability = capability(message.volume_capability.as_ref())?;
    let mut flags = capability.mount_flags.to_vec();
    if capability.access.is_reader_only() {
        flags.push("ro".to_owned());
    }
    let attributes = VolumeAttributes::parse(&message.volume_context, &flags)?;
    Ok(StageRequest { volume, staging_path, attributes })
}

pub(super) fn unstage(
    message: &csi::NodeUnstageVolumeRequest,
) -> Result<UnstageRequest, RequestError> {
    let volume = VolumeId::parse(&message.volume_id)?;
    let staging_path = path("staging_target_path", &message.staging_target_path)?;
    Ok(UnstageRequest { volume, staging_path })
}

pub(super) fn publish(
    message: &csi::NodePublishVolumeRequest,
) -> Result<PublishRequest, RequestError> {
    let volume = VolumeId::parse(&message.volume_id)?;
    let target_path = path("target_path", &message.target_path)?;
    let access = capability(message.volume_capability.as_ref())?.access;
    let staging_path = path("staging_target_path", &message.staging_target_path)
        .map_err(|_| RequestError::NotStaged)?;
    let read_only = message.readonly;
    Ok(PublishRequest { volume, staging_path, target_path, access, read_only })
}

pub(super) fn unpublish(
    message: &csi::NodeUnpublishVolumeRequest,
) -> Result<UnpublishRequest, RequestError> {
    let volume = VolumeId::parse(&message.volume_id)?;
    let target_path = path("target_path", &message.target_path)?;
    Ok(UnpublishRequest { volume, target_path })
}

pub(super) fn stats(
    message: &csi::NodeGetVolumeStatsRequest,
) -> Result<StatsRequest, RequestError> {
    let volume = VolumeId::parse(&message.volume_id)?;
    let volume_path = path("volume_path", &message.volume_path)?;
    let staging_path = path("staging_target_path", &message.staging_target_path).ok();
    Ok(StatsRequest { volume, volume_path, staging_path })
}

fn path(field: &'static str, text: &str) -> Result<PathBuf, RequestError> {
    if text.is_empty() { Err(RequestError::Missing(field)) } else { Ok(PathBuf::from(text)) }
}

/// How a volume is to be used.
pub(super) struct Capability<'a> {
    /// By how many, and whether they may write.
    pub(super) access: AccessMode,
    /// The mount options.
    pub(super) mount_flags: &'a [String],
}

pub(super) fn capability(
    message: Option<&csi::VolumeCapability>,
) -> Result<Capability<'_>, RequestError> {
    let message = message.ok_or(RequestError::Missing("volume_capability"))?;
    let mount = match &message.access_type {
        Some(AccessType::Mount(mount)) => mount,
        Some(AccessType::Block(_)) => return Err(RequestError::Block),
        None => return Err(RequestError::Missing("volume_capability.access_type")),
    };
    if !FILE_SYSTEM_TYPES.contains(&mount.fs_type.as_str()) {
        return Err(RequestError::FileSystemType(mount.fs_type.clone()));
    }
    if !mount.volume_mount_group.is_empty() {
        return Err(RequestError::MountGroup(mount.volume_mount_group.clone()));
    }
    let mode = message
        .access_mode
        .as_ref()
        .ok_or(RequestError::Missing("volume_capability.access_mode"))?
        .mode;
    Ok(Capability { access: access_mode(mode)?, mount_flags: &mount.mount_flags })
}

fn access_mode(mode: i32) -> Result<AccessMode, RequestError> {
    match Mode::try_from(mode) {
        Ok(Mode::SingleNodeWriter) => Ok(AccessMode::SingleNodeWriter),
        Ok(Mode::SingleNodeReaderOnly) => Ok(AccessMode::SingleNodeReaderOnly),
        Ok(Mode::SingleNodeSingleWriter) => Ok(AccessMode::SingleNodeSingleWriter),
        Ok(Mode::SingleNodeMultiWriter) => Ok(AccessMode::SingleNodeMultiWriter),
        Ok(Mode::MultiNodeReaderOnly) => Ok(AccessMode::MultiNodeReaderOnly),
        Ok(Mode::MultiNodeSingleWriter) => Ok(AccessMode::MultiNodeSingleWriter),
        Ok(Mode::MultiNodeMultiWriter) => Ok(AccessMode::MultiNodeMultiWriter),
        Ok(Mode::Unknown) | Err(_) => Err(RequestError::AccessMode(mode)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::proto::csi::volume_capability::AccessMode as WireAccessMode;
    use crate::proto::csi::volume_capability::BlockVolume;
    use crate::proto::csi::volume_capability::MountVolume;

    pub(in crate::csi) fn shared() -> csi::VolumeCapability {
        csi::VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume::default())),
            access_mode: Some(WireAccessMode { mode: Mode::MultiNodeMultiWriter.into() }),
        }
    }

    pub(crate) fn stage_message() -> csi::NodeStageVolumeRequest {
        csi::NodeStageVolumeRequest {
            volume_id: "fake-vol-id-0123456789".to_owned(),
            staging_target_path: "/stage".to_owned(),
            volume_capability: Some(shared()),
            volume_context: [("server".to_owned(), "nas.example.com".to_owned())].into(),
            ..csi::NodeStageVolumeRequest::default()
        }
    }

    pub(in crate::csi) fn publish_message() -> csi::NodePublishVolumeRequest {
        csi::NodePublishVolumeRequest {
            volume_id: "fake-vol-id-0123456789".to_owned(),
            staging_target_path: "/stage".to_owned(),
            target_path: "/target".to_owned(),
            volume_capability: Some(shared()),
            ..csi::NodePublishVolumeRequest::default()
        }
    }

    fn mount(mount: MountVolume) -> Option<csi::VolumeCapability> {
        Some(csi::VolumeCapability { access_type: Some(AccessType::Mount(mount)), ..shared() })
    }

    #[test]
    fn complete_messages_are_requests() {
        let staged = stage(&stage_message()).unwrap();
        assert_eq!(staged.attributes.source(), "nas.example.com:/");
        let published = publish(&publish_message()).unwrap();
        assert_eq!(published.access, AccessMode::MultiNodeMultiWriter);
        assert!(!published.read_only);
    }

    #[test]
    fn the_first_missing_field_is_the_one_that_is_named() {
        let mut message = csi::NodePublishVolumeRequest::default();
        let named = |message: &_| publish(message).unwrap_err();
        assert_eq!(named(&message), RequestError::VolumeId(VolumeIdError::Empty));
        message.volume_id = "vol".to_owned();
        assert_eq!(named(&message), RequestError::Missing("target_path"));
        message.target_path = "/target".to_owned();
        assert_eq!(named(&message), RequestError::Missing("volume_capability"));
        message.volume_capability = Some(shared());
        assert_eq!(named(&message), RequestError::NotStaged);
        assert_eq!(code_of(&RequestError::NotStaged), Code::FailedPrecondition);
    }

    #[test]
    fn a_capability_that_nfs_does_not_have_is_an_invalid_argument() {
        let text = str::to_owned;
        let block = AccessType::Block(BlockVolume {});
        for capability in [
            None,
            Some(csi::VolumeCapability { access_type: None, ..shared() }),
            Some(csi::VolumeCapability { access_type: Some(block), ..shared() }),
            Some(csi::VolumeCapability { access_mode: None, ..shared() }),
            Some(csi::VolumeCapability {
                access_mode: Some(WireAccessMode { mode: 0 }),
                ..shared()
            }),
            Some(csi::VolumeCapability {
                access_mode: Some(WireAccessMode { mode: 99 }),
                ..shared()
            }),
            mount(MountVolume { fs_type: text("ext4"), ..MountVolume::default() }),
            mount(MountVolume { volume_mount_group: text("1000"), ..MountVolume::default() }),
        ] {
            let message =
                csi::NodeStageVolumeRequest { volume_capability: capability, ..stage_message() };
            let error = stage(&message).unwrap_err();
            assert_eq!(code_of(&error), Code::InvalidArgument, "{error}");
        }
    }

    #[test]
    fn every_access_mode_of_the_specification_is_known() {
        for mode in 1..=7 {
            access_mode(mode).unwrap();
        }
    }

    #[test]
    fn stats_need_no_staging_path() {
        let message = csi::NodeGetVolumeStatsRequest {
            volume_id: "vol".to_owned(),
            volume_path: "some/path".to_owned(),
            staging_target_path: String::new(),
        };
        assert_eq!(stats(&message).unwrap().staging_path, None);
    }
}
