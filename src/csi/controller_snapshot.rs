//! Messages about snapshots, taken apart and put together.

use crate::controller::Origin;
use crate::controller::Snapshot;
use crate::controller::snapshot::Listing;
use crate::csi::controller_request as request;
use crate::csi::controller_request::ControllerRequestError;
use crate::csi::request::RequestError;
use crate::model::SnapshotHandle;
use crate::model::VolumeHandle;
use crate::model::attributes::SIDECAR_PREFIX;
use crate::proto::csi;
use crate::proto::csi::volume_content_source;

/// What a listing is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A snapshot.
    One(SnapshotHandle),
    /// Those of a volume, or all.
    Many {
        /// Whose.
        volume: Option<VolumeHandle>,
        /// At most; 0 for any number.
        most: usize,
    },
    /// Those of a volume that is none of ours, or a snapshot that is none: CSI 1.13 wants no error.
    None,
}

/// The volume that a snapshot is asked for of.
pub(super) fn create(
    message: &csi::CreateSnapshotRequest,
) -> Result<VolumeHandle, ControllerRequestError> {
    if message.name.is_empty() {
        return Err(RequestError::Missing("name").into());
    }
    if message.source_volume_id.is_empty() {
        return Err(RequestError::Missing("source_volume_id").into());
    }
    // A parameter of a VolumeSnapshotClass that says nothing to us would be a wish that is not fulfilled.
    if let Some(key) = message.parameters.keys().filter(|key| !is_kubernetes(key)).min() {
        return Err(ControllerRequestError::SnapshotParameter(key.clone()));
    }
    request::handle(&message.source_volume_id)
}

/// Added by the external-snapshotter with `--extra-create-metadata`.
fn is_kubernetes(key: &str) -> bool {
    key.starts_with(SIDECAR_PREFIX)
}

/// None: whatever that id is, our controller has not made it, so there is nothing to delete.
pub(super) fn delete(
    message: &csi::DeleteSnapshotRequest,
) -> Result<Option<SnapshotHandle>, ControllerRequestError> {
    match request::snapshot(&message.snapshot_id) {
        Ok(handle) => Ok(Some(handle)),
        Err(ControllerRequestError::NoSnapshot(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn list(message: &csi::ListSnapshotsRequest) -> Result<Asked, ControllerRequestError> {
    if !message.snapshot_id.is_empty() {
        let found = SnapshotHandle::parse(&message.snapshot_id);
        return Ok(found.map_or(Asked::None, Asked::One));
    }
    let most = request::most(message.max_entries)?;
    if message.source_volume_id.is_empty() {
        return Ok(Asked::Many { volume: None, most });
    }
    let volume = VolumeHandle::parse(&message.source_volume_id);
    Ok(volume.map_or(Asked::None, |volume| Asked::Many { volume: Some(volume), most }))
}

/// A listing as a message. Of a snapshot and a volume, both must be meant.
pub(super) fn listed(
    message: &csi::ListSnapshotsRequest,
    listing: Listing,
) -> csi::ListSnapshotsResponse {
    let of = &message.source_volume_id;
    let is_meant = |found: &Snapshot| of.is_empty() || found.record.volume == *of;
    let entry =
        |found| csi::list_snapshots_response::Entry { snapshot: Some(self::message(found)) };
    csi::ListSnapshotsResponse {
        entries: listing.snapshots.into_iter().filter(is_meant).map(entry).collect(),
        next_token: listing.next.unwrap_or_default(),
    }
}

/// The size is that of the volume: what a copy of the snapshot needs.
pub(super) fn message(snapshot: Snapshot) -> csi::Snapshot {
    let Snapshot { id, record, is_ready } = snapshot;
    csi::Snapshot {
        size_bytes: record.capacity,
        snapshot_id: id,
        source_volume_id: record.volume,
        creation_time: Some(prost_types::Timestamp { seconds: record.created, nanos: 0 }),
        ready_to_use: is_ready,
        ..csi::Snapshot::default()
    }
}

/// What a volume is a copy of, as messages have it.
pub(super) fn content_source(origin: &Origin) -> csi::VolumeContentSource {
    let source = match origin {
        Origin::Volume(id) => {
            let volume_id = id.clone();
            volume_content_source::Type::Volume(volume_content_source::VolumeSource { volume_id })
        }
        Origin::Snapshot(id) => {
            let snapshot_id = id.clone();
            let source = volume_content_source::SnapshotSource { snapshot_id };
            volume_content_source::Type::Snapshot(source)
        }
    };
    csi::VolumeContentSource { r#type: Some(source) }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const SNAPSHOT: &str = "s1:nas.corp:/:snapshot-1";
    const VOLUME: &str = "v1:nas.corp:/:pvc-1";

    fn create_message(name: &str, volume: &str) -> csi::CreateSnapshotRequest {
        let (name, source_volume_id) = (name.to_owned(), volume.to_owned());
        csi::CreateSnapshotRequest { name, source_volume_id, ..Default::default() }
    }

    #[test]
    fn each_thing_that_cannot_be_has_its_code() {
        assert!(create(&create_message("snapshot-1", VOLUME)).is_ok());
        let with = |key: &str| csi::CreateSnapshotRequest {
            parameters: [(key.to_owned(), "x".to_owned())].into(),
            ..create_message("snapshot-1", VOLUME)
        };
        assert!(create(&with("csi.storage.k8s.io/volumesnapshot/name")).is_ok());
        for (message, code) in [
            (create_message("", VOLUME), Code::InvalidArgument),
            (create_message("snapshot-1", ""), Code::InvalidArgument),
            (with("retention"), Code::InvalidArgument),
            (create_message("snapshot-1", "v1:nas.corp:/:.."), Code::NotFound),
            (create_message("snapshot-1", SNAPSHOT), Code::NotFound),
            (create_message("snapshot-1", "v2:x"), Code::FailedPrecondition),
        ] {
            let error = create(&message).unwrap_err();
            assert_eq!(request::code_of(&error), code, "{error}");
        }
    }

    #[test]
    fn an_id_of_nobody_has_nothing_to_delete_and_nothing_to_list() {
        let delete = |id: &str| {
            let snapshot_id = id.to_owned();
            super::delete(&csi::DeleteSnapshotRequest { snapshot_id, ..Default::default() })
        };
        assert!(delete(SNAPSHOT).unwrap().is_some());
        for id in [VOLUME, "s1:nas.corp:/:..", "../x", "non-existing-snapshot-id"] {
            assert_eq!(delete(id), Ok(None), "{id}");
        }
        assert_eq!(request::code_of(&delete("").unwrap_err()), Code::InvalidArgument);
        let list = |snapshot: &str, volume: &str, max_entries| {
            super::list(&csi::ListSnapshotsRequest {
                snapshot_id: snapshot.to_owned(),
                source_volume_id: volume.to_owned(),
                max_entries,
                ..Default::default()
            })
        };
        assert_eq!(list("x", "", 0), Ok(Asked::None));
        assert_eq!(list("", "x", 0), Ok(Asked::None));
        assert_eq!(list("", "", 3), Ok(Asked::Many { volume: None, most: 3 }));
        assert!(matches!(list(SNAPSHOT, VOLUME, 0), Ok(Asked::One(_))));
        assert!(list("", "", -1).is_err());
    }
}
