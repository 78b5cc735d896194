//! The Controller service: one short handler for each call.

use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::async_trait;

use crate::controller::Controller;
use crate::controller::VolumeRecord;
use crate::csi::controller_code as code;
use crate::csi::controller_request as request;
use crate::csi::controller_topology;
use crate::csi::refusal::Call;
use crate::csi::refusal::OrRefuse;
use crate::csi::refusal::not_served;
use crate::csi::topology::TopologyKey;
use crate::proto::csi;
use crate::proto::csi::controller_service_capability;
use crate::proto::csi::controller_service_capability::rpc::Type;
use crate::proto::csi::validate_volume_capabilities_response::Confirmed;

/// What the sidecars may call. Only what truly works is here.
const CAPABILITIES: [Type; 4] =
    [Type::CreateDeleteVolume, Type::ExpandVolume, Type::GetVolume, Type::SingleNodeMultiWriter];

/// Serves `csi.v1.Controller`.
#[derive(Debug)]
pub struct ControllerService {
    controller: Controller,
    topology: Option<TopologyKey>,
}

impl ControllerService {
    /// Serves `controller`.
    #[must_use]
    pub fn new(controller: Controller) -> Self {
        Self { controller, topology: None }
    }

    /// Nodes say in which zone they are, by this key.
    #[must_use]
    pub fn with_topology(self, key: TopologyKey) -> Self {
        Self { topology: Some(key), ..self }
    }
}

/// Methods that are not served, in the form that `async_trait` gives a method.
macro_rules! not_served {
    ($($method:ident: $name:literal, $request:ident -> $response:ident;)*) => {
        $(fn $method<'service, 'async_trait>(
            &'service self,
            _request: Request<csi::$request>,
        ) -> std::pin::Pin<
            Box<dyn Future<Output = Result<Response<csi::$response>, Status>> + Send + 'async_trait>,
        >
        where
            'service: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(std::future::ready(Err(not_served($name))))
        })*
    };
}

#[async_trait]
impl csi::controller_server::Controller for ControllerService {
    async fn create_volume(
        &self,
        request: Request<csi::CreateVolumeRequest>,
    ) -> Result<Response<csi::CreateVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call { name: "CreateVolume", volume: &message.name };
        let mut wanted = request::create(&message).or_refuse(call, request::code_of)?;
        let requirement = message.accessibility_requirements.as_ref();
        let key = self.topology.as_ref();
        let zones = controller_topology::place(&mut wanted.class, key, requirement)
            .or_refuse(call, request::code_of)?;
        let created = self.controller.create(wanted).await.or_refuse(call, code::create)?;
        tracing::info!(volume.id = %created.id, volume.name = call.volume, "created");
        let mut volume = volume(created.id.to_string(), &created.record);
        volume.accessible_topology = zones.of(&volume.volume_context);
        // By this the node knows whose volume it is, and says there what is wrong with it.
        volume.volume_context.extend(controller_topology::claim(&message.parameters));
        Ok(Response::new(csi::CreateVolumeResponse { volume: Some(volume) }))
    }

    async fn delete_volume(
        &self,
        request: Request<csi::DeleteVolumeRequest>,
    ) -> Result<Response<csi::DeleteVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call { name: "DeleteVolume", volume: &message.volume_id };
        match request::delete(&message).or_refuse(call, request::code_of)? {
            Some(handle) => {
                let found = self.controller.delete(&handle).await.or_refuse(call, code::delete)?;
                tracing::info!(volume.id = call.volume, ?found, "deleted");
            }
            None => tracing::info!(volume.id = call.volume, "no volume of this driver"),
        }
        Ok(Response::new(csi::DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<csi::ValidateVolumeCapabilitiesResponse>, Status> {
        let message = request.into_inner();
        let call = Call { name: "ValidateVolumeCapabilities", volume: &message.volume_id };
        let handle = request::validate(&message).or_refuse(call, request::code_of)?;
        let record = self.controller.find(&handle).await.or_refuse(call, code::find)?;
        Ok(Response::new(validated(message, &record)))
    }

    async fn controller_get_volume(
        &self,
        request: Request<csi::ControllerGetVolumeRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call { name: "ControllerGetVolume", volume: &message.volume_id };
        let handle = request::handle(&message.volume_id).or_refuse(call, request::code_of)?;
        let record = self.controller.find(&handle).await.or_refuse(call, code::find)?;
        let volume = Some(volume(message.volume_id, &record));
        Ok(Response::new(csi::ControllerGetVolumeResponse {
            volume,
            // Volumes are not attached, so nobody knows of nodes here.
            status: Some(csi::controller_get_volume_response::VolumeStatus::default()),
        }))
    }

    /// Says so where a size is written down that nothing enforces: see the documents.
    async fn controller_expand_volume(
        &self,
        request: Request<csi::ControllerExpandVolumeRequest>,
    ) -> Result<Response<csi::ControllerExpandVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call { name: "ControllerExpandVolume", volume: &message.volume_id };
        let (handle, size) = request::expand(&message).or_refuse(call, request::code_of)?;
        let record = self.controller.expand(&handle, size).await.or_refuse(call, code::find)?;
        tracing::info!(volume.id = call.volume, bytes = record.capacity, "size noted");
        Ok(Response::new(csi::ControllerExpandVolumeResponse {
            capacity_bytes: record.capacity,
            node_expansion_required: false,
        }))
    }

    async fn controller_get_capabilities(
        &self,
        _request: Request<csi::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<csi::ControllerGetCapabilitiesResponse>, Status> {
        let capabilities = CAPABILITIES.map(controller_capability).into();
        Ok(Response::new(csi::ControllerGetCapabilitiesResponse { capabilities }))
    }

    not_served! {
        controller_publish_volume: "ControllerPublishVolume",
            ControllerPublishVolumeRequest -> ControllerPublishVolumeResponse;
        controller_unpublish_volume: "ControllerUnpublishVolume",
            ControllerUnpublishVolumeRequest -> ControllerUnpublishVolumeResponse;
        list_volumes: "ListVolumes", ListVolumesRequest -> ListVolumesResponse;
        controller_list_volume_health: "ControllerListVolumeHealth",
            ControllerListVolumeHealthRequest -> ControllerListVolumeHealthResponse;
        controller_get_volume_health: "ControllerGetVolumeHealth",
            ControllerGetVolumeHealthRequest -> ControllerGetVolumeHealthResponse;
        get_capacity: "GetCapacity", GetCapacityRequest -> GetCapacityResponse;
        create_snapshot: "CreateSnapshot", CreateSnapshotRequest -> CreateSnapshotResponse;
        delete_snapshot: "DeleteSnapshot", DeleteSnapshotRequest -> DeleteSnapshotResponse;
        list_snapshots: "ListSnapshots", ListSnapshotsRequest -> ListSnapshotsResponse;
        get_snapshot: "GetSnapshot", GetSnapshotRequest -> GetSnapshotResponse;
        controller_modify_volume: "ControllerModifyVolume",
            ControllerModifyVolumeRequest -> ControllerModifyVolumeResponse;
    }
}

fn controller_capability(capability: Type) -> csi::ControllerServiceCapability {
    let rpc = controller_service_capability::Rpc { r#type: capability.into() };
    csi::ControllerServiceCapability { r#type: Some(controller_service_capability::Type::Rpc(rpc)) }
}

fn volume(volume_id: String, record: &VolumeRecord) -> csi::Volume {
    csi::Volume {
        volume_id,
        capacity_bytes: record.capacity,
        volume_context: request::context(&record.context),
        ..csi::Volume::default()
    }
}

/// CSI 1.13, ValidateVolumeCapabilities: what is not supported is answered OK, unconfirmed, with the reason.
fn validated(
    message: csi::ValidateVolumeCapabilitiesRequest,
    record: &VolumeRecord,
) -> csi::ValidateVolumeCapabilitiesResponse {
    let unconfirmed =
        |message| csi::ValidateVolumeCapabilitiesResponse { confirmed: None, message };
    if let Err(error) = request::unsupported(&message) {
        return unconfirmed(error.to_string());
    }
    let held = request::context(&record.context);
    let mut given = message.volume_context.clone();
    // What Kubernetes adds, and we for it, is no part of the volume.
    given.retain(|key, _| !key.starts_with(controller_topology::KUBERNETES));
    if !given.is_empty() && given != held {
        return unconfirmed("the volume has another volume context".to_owned());
    }
    csi::ValidateVolumeCapabilitiesResponse {
        confirmed: Some(Confirmed {
            volume_context: message.volume_context,
            volume_capabilities: message.volume_capabilities,
            parameters: message.parameters,
            mutable_parameters: message.mutable_parameters,
        }),
        message: String::new(),
    }
}
