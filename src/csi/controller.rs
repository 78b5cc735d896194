//! The Controller service: one short handler for each call.
//!
//! LONG: as many calls as CSI has.

use std::collections::HashMap;

use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::async_trait;

use crate::controller::Condition;
use crate::controller::Controller;
use crate::controller::Facts;
use crate::controller::Listed;
use crate::controller::SnapshotError;
use crate::controller::snapshot::Listing;
use crate::csi::controller_code as code;
use crate::csi::controller_request as request;
use crate::csi::controller_request::Room;
use crate::csi::controller_snapshot as snapshot;
use crate::csi::controller_snapshot::Asked;
use crate::csi::controller_topology;
use crate::csi::refusal::Call;
use crate::csi::refusal::OrRefuse;
use crate::csi::refusal::not_served;
use crate::csi::topology::TopologyKey;
use crate::model::VolumeRef;
use crate::model::attributes::SIDECAR_PREFIX;
use crate::proto::csi;
use crate::proto::csi::VolumeHealthErrorType;
use crate::proto::csi::controller_service_capability;
use crate::proto::csi::controller_service_capability::rpc::Type;
use crate::proto::csi::validate_volume_capabilities_response::Confirmed;
use crate::proto::csi::volume_health::VolumeHealthEntry;
use crate::runtime::request::Field;
use crate::runtime::request::note;

/// What the sidecars may call. Only what truly works is here.
const CAPABILITIES: [Type; 11] = [
    Type::CreateDeleteVolume,
    Type::ExpandVolume,
    Type::GetVolume,
    Type::SingleNodeMultiWriter,
    Type::GetCapacity,
    Type::ModifyVolume,
    Type::CloneVolume,
    Type::CreateDeleteSnapshot,
    Type::ListSnapshots,
    Type::GetSnapshot,
    Type::GetVolumeHealth,
];

/// And these where there is a cluster to ask which volumes there are. An id says where its volume is, and nobody else
/// knows of all of them: a list that is short after a restart would be taken for volumes that are gone.
const LISTS: [Type; 2] = [Type::ListVolumes, Type::ListVolumeHealth];

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
        let call = Call::about(Field::VolumeName, "CreateVolume", &message.name);
        let mut wanted = request::create(&message).or_refuse(call, request::code_of)?;
        let requirement = message.accessibility_requirements.as_ref();
        let key = self.topology.as_ref();
        let zones = controller_topology::place(&mut wanted.class, key, requirement)
            .or_refuse(call, request::code_of)?;
        let created = self.controller.provision(wanted).await.or_refuse(call, code::create)?;
        note(Field::VolumeId, &created.id.to_string());
        tracing::info!("created");
        let mut volume = volume(created.id.to_string(), &created.facts);
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
        let call = Call::on("DeleteVolume", &message.volume_id);
        match request::delete(&message).or_refuse(call, request::code_of)? {
            Some(volume) => {
                let found = self.controller.remove(&volume).await.or_refuse(call, code::delete)?;
                tracing::info!(?found, "deleted");
            }
            None => tracing::info!("no volume of this driver"),
        }
        Ok(Response::new(csi::DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<csi::ValidateVolumeCapabilitiesResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("ValidateVolumeCapabilities", &message.volume_id);
        let volume = request::validate(&message).or_refuse(call, request::code_of)?;
        let facts = self.controller.facts(&volume).await.or_refuse(call, code::find)?;
        Ok(Response::new(validated(message, &facts)))
    }

    async fn controller_get_volume(
        &self,
        request: Request<csi::ControllerGetVolumeRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("ControllerGetVolume", &message.volume_id);
        let found = request::volume(&message.volume_id).or_refuse(call, request::code_of)?;
        let facts = self.controller.facts(&found).await.or_refuse(call, code::find)?;
        let volume = Some(volume(message.volume_id, &facts));
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
        let call = Call::on("ControllerExpandVolume", &message.volume_id);
        let (volume, size) = request::expand(&message).or_refuse(call, request::code_of)?;
        let facts = self.controller.grow(&volume, size).await.or_refuse(call, code::find)?;
        tracing::info!(bytes = facts.capacity, "size in force, or noted");
        Ok(Response::new(csi::ControllerExpandVolumeResponse {
            capacity_bytes: facts.capacity,
            node_expansion_required: false,
        }))
    }

    async fn controller_get_capabilities(
        &self,
        _request: Request<csi::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<csi::ControllerGetCapabilitiesResponse>, Status> {
        let lists: &[Type] = if self.controller.knows_volumes() { &LISTS } else { &[] };
        let capabilities = CAPABILITIES.iter().chain(lists);
        let capabilities = capabilities.copied().map(controller_capability).collect();
        Ok(Response::new(csi::ControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn controller_modify_volume(
        &self,
        request: Request<csi::ControllerModifyVolumeRequest>,
    ) -> Result<Response<csi::ControllerModifyVolumeResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("ControllerModifyVolume", &message.volume_id);
        let (handle, changes) = request::modify(&message).or_refuse(call, request::code_of)?;
        let record = self.controller.modify(&handle, changes).await.or_refuse(call, code::find)?;
        tracing::info!(on_delete = ?record.on_delete, "modified");
        Ok(Response::new(csi::ControllerModifyVolumeResponse {}))
    }

    /// Without a class there is nowhere to make a volume, so no room for one.
    async fn get_capacity(
        &self,
        request: Request<csi::GetCapacityRequest>,
    ) -> Result<Response<csi::GetCapacityResponse>, Status> {
        let call = Call::on("GetCapacity", "");
        let message = request.into_inner();
        let near = message.accessible_topology.as_ref();
        let free = match request::capacity(&message).or_refuse(call, request::code_of)? {
            Room::On(mut class) => {
                let narrowed =
                    controller_topology::narrow(&mut class, self.topology.as_ref(), near);
                match narrowed.or_refuse(call, request::code_of)? {
                    true => {
                        self.controller.free_bytes(&class).await.or_refuse(call, code::capacity)?
                    }
                    false => 0,
                }
            }
            Room::Nowhere => 0,
            Room::Unbounded => u64::MAX,
        };
        let available_capacity = i64::try_from(free).unwrap_or(i64::MAX);
        Ok(Response::new(csi::GetCapacityResponse { available_capacity, ..Default::default() }))
    }

    async fn controller_get_volume_health(
        &self,
        request: Request<csi::ControllerGetVolumeHealthRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeHealthResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("ControllerGetVolumeHealth", &message.volume_id);
        let found = request::volume(&message.volume_id).or_refuse(call, request::code_of)?;
        let condition = self.controller.condition(&found).await.or_refuse(call, code::find)?;
        let volume_health = Some(health(message.volume_id, condition));
        Ok(Response::new(csi::ControllerGetVolumeHealthResponse { volume_health }))
    }

    async fn list_volumes(
        &self,
        request: Request<csi::ListVolumesRequest>,
    ) -> Result<Response<csi::ListVolumesResponse>, Status> {
        let call = Call::on("ListVolumes", "");
        let csi::ListVolumesRequest { max_entries, starting_token } = request.into_inner();
        let most = request::most(max_entries).or_refuse(call, request::code_of)?;
        let listed = self.controller.list_volumes(&starting_token, most).await;
        let Listed { entries, next } = listed.or_refuse(call, code::list)?;
        let entry = |(id, facts): (VolumeRef, Facts)| csi::list_volumes_response::Entry {
            volume: Some(volume(id.to_string(), &facts)),
            status: Some(csi::list_volumes_response::VolumeStatus::default()),
        };
        Ok(Response::new(csi::ListVolumesResponse {
            entries: entries.into_iter().map(entry).collect(),
            next_token: next.unwrap_or_default(),
        }))
    }

    async fn controller_list_volume_health(
        &self,
        request: Request<csi::ControllerListVolumeHealthRequest>,
    ) -> Result<Response<csi::ControllerListVolumeHealthResponse>, Status> {
        let call = Call::on("ControllerListVolumeHealth", "");
        let message = request.into_inner();
        let most = request::most(message.max_entries).or_refuse(call, request::code_of)?;
        let listed = self.controller.list_conditions(&message.starting_token, most).await;
        let Listed { entries, next } = listed.or_refuse(call, code::list)?;
        let entry = |(id, condition): (VolumeRef, Condition)| health(id.to_string(), condition);
        Ok(Response::new(csi::ControllerListVolumeHealthResponse {
            entries: entries.into_iter().map(entry).collect(),
            next_token: next.unwrap_or_default(),
        }))
    }

    async fn create_snapshot(
        &self,
        request: Request<csi::CreateSnapshotRequest>,
    ) -> Result<Response<csi::CreateSnapshotResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("CreateSnapshot", &message.source_volume_id);
        note(Field::SnapshotName, &message.name);
        let volume = snapshot::create(&message).or_refuse(call, request::code_of)?;
        let made = self.controller.create_snapshot(&message.name, &volume).await;
        let made = made.or_refuse(call, code::snapshot)?;
        tracing::info!(snapshot.id = %made.id, made.is_ready, "snapshot");
        let snapshot = Some(snapshot::message(made));
        Ok(Response::new(csi::CreateSnapshotResponse { snapshot }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<csi::DeleteSnapshotRequest>,
    ) -> Result<Response<csi::DeleteSnapshotResponse>, Status> {
        let message = request.into_inner();
        let call = Call::about(Field::SnapshotId, "DeleteSnapshot", &message.snapshot_id);
        if let Some(handle) = snapshot::delete(&message).or_refuse(call, request::code_of)? {
            self.controller.delete_snapshot(&handle).await.or_refuse(call, code::snapshot)?;
            tracing::info!("snapshot deleted");
        }
        Ok(Response::new(csi::DeleteSnapshotResponse {}))
    }

    async fn get_snapshot(
        &self,
        request: Request<csi::GetSnapshotRequest>,
    ) -> Result<Response<csi::GetSnapshotResponse>, Status> {
        let message = request.into_inner();
        let call = Call::about(Field::SnapshotId, "GetSnapshot", &message.snapshot_id);
        let handle = request::snapshot(&message.snapshot_id).or_refuse(call, request::code_of)?;
        let found = self.controller.snapshot(&handle).await.or_refuse(call, code::snapshot)?;
        let snapshot = Some(snapshot::message(found));
        Ok(Response::new(csi::GetSnapshotResponse { snapshot }))
    }

    async fn list_snapshots(
        &self,
        request: Request<csi::ListSnapshotsRequest>,
    ) -> Result<Response<csi::ListSnapshotsResponse>, Status> {
        let message = request.into_inner();
        let call = Call::on("ListSnapshots", &message.source_volume_id);
        let listing = match snapshot::list(&message).or_refuse(call, request::code_of)? {
            Asked::One(handle) => match self.controller.snapshot(&handle).await {
                Err(SnapshotError::NotFound(_)) => Listing::default(),
                found => {
                    let found = found.or_refuse(call, code::snapshot)?;
                    Listing { snapshots: vec![found], next: None }
                }
            },
            Asked::Many { volume, most } => {
                let after = &message.starting_token;
                let listed = self.controller.list_snapshots(volume.as_ref(), after, most).await;
                listed.or_refuse(call, code::snapshot)?
            }
            Asked::None => Listing::default(),
        };
        Ok(Response::new(snapshot::listed(&message, listing)))
    }

    not_served! {
        controller_publish_volume: "ControllerPublishVolume",
            ControllerPublishVolumeRequest -> ControllerPublishVolumeResponse;
        controller_unpublish_volume: "ControllerUnpublishVolume",
            ControllerUnpublishVolumeRequest -> ControllerUnpublishVolumeResponse;
    }
}

fn controller_capability(capability: Type) -> csi::ControllerServiceCapability {
    let rpc = controller_service_capability::Rpc { r#type: capability.into() };
    csi::ControllerServiceCapability { r#type: Some(controller_service_capability::Type::Rpc(rpc)) }
}

fn volume(volume_id: String, facts: &Facts) -> csi::Volume {
    // Half of the attributes would be another volume's.
    let context = if facts.is_whole { request::context(&facts.context) } else { HashMap::new() };
    csi::Volume {
        volume_id,
        capacity_bytes: facts.capacity,
        volume_context: context,
        content_source: facts.origin.as_ref().map(snapshot::content_source),
        ..csi::Volume::default()
    }
}

fn health(volume_id: String, condition: Condition) -> csi::VolumeHealth {
    let complaint = |status: VolumeHealthErrorType, reason: &str, message| VolumeHealthEntry {
        status: status.into(),
        reason: reason.to_owned(),
        message,
    };
    let health_statuses = match condition {
        Condition::Well => Vec::new(),
        Condition::Lost(why) => {
            vec![complaint(VolumeHealthErrorType::DataLoss, "DirectoryLost", why)]
        }
        Condition::OutOfReach(why) => {
            vec![complaint(VolumeHealthErrorType::Inaccessible, "MountTargetOutOfReach", why)]
        }
    };
    csi::VolumeHealth { volume_id, health_statuses }
}

/// CSI 1.13, ValidateVolumeCapabilities: what is not supported is answered OK, unconfirmed, with the reason.
fn validated(
    message: csi::ValidateVolumeCapabilitiesRequest,
    facts: &Facts,
) -> csi::ValidateVolumeCapabilitiesResponse {
    let unconfirmed =
        |message| csi::ValidateVolumeCapabilitiesResponse { confirmed: None, message };
    if let Err(error) = request::unsupported(&message) {
        return unconfirmed(error.to_string());
    }
    let held = request::context(&facts.context);
    let mut asked = message.volume_context.clone();
    // What Kubernetes adds, and we for it, is no part of the volume.
    asked.retain(|key, _| !key.starts_with(SIDECAR_PREFIX));
    let is_so = match facts.is_whole {
        true => asked == held,
        false => held.iter().all(|(key, value)| asked.get(key) == Some(value)),
    };
    if !asked.is_empty() && !is_so {
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
