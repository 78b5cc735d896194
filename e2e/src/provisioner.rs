//! A test double of the volume factory: makes directories on the NAS's own disk.
//!
//! csi-sanity's Node specs need volumes to exist before a real controller does. This one never talks to
//! the NAS over the network, and serves only what those specs call. They also ask the plugin whether it
//! has a controller at all; so one socket shows the plugin as it will be: this Identity and Controller, and
//! the driver's own Node service, to which every call is passed on.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;

use alinas_csi::proto::csi;
use alinas_csi::proto::csi::controller_server::Controller;
use alinas_csi::proto::csi::controller_server::ControllerServer;
use alinas_csi::proto::csi::identity_server::Identity;
use alinas_csi::proto::csi::identity_server::IdentityServer;
use alinas_csi::proto::csi::node_client::NodeClient;
use alinas_csi::proto::csi::node_server::Node;
use alinas_csi::proto::csi::node_server::NodeServer;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Channel;

use crate::csi_client;
use crate::failure::During;
use crate::failure::Result;

/// Serves the plugin with a controller on a Unix socket until dropped.
#[derive(Debug)]
pub struct Provisioner {
    _runtime: Runtime,
}

impl Provisioner {
    /// Starts to serve. `disk` is what a client of `server` sees as `/`; `driver` is the real socket.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(
        socket: &Path,
        driver: &Path,
        disk: PathBuf,
        server: &str,
        vers: &str,
    ) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let double = Directories { disk, server: server.to_owned(), vers: vers.to_owned() };
        let (listener, node) = {
            let _entered = runtime.enter();
            let listener = UnixListener::bind(socket).during("failed to serve the provisioner")?;
            (listener, NodeClient::new(csi_client::channel(driver)?))
        };
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(ControllerServer::new(double))
                .add_service(IdentityServer::new(TestDouble))
                .add_service(NodeServer::new(PassedOn(node)))
                .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener)),
        );
        Ok(Self { _runtime: runtime })
    }
}

struct Directories {
    disk: PathBuf,
    server: String,
    vers: String,
}

impl Directories {
    /// The directory of a volume. Ids are single names here, so nothing can lie outside the disk.
    fn place(&self, volume_id: &str) -> Result<PathBuf, Status> {
        let simple = !volume_id.contains('/') && volume_id != "." && volume_id != "..";
        if volume_id.is_empty() || !simple {
            return Err(Status::invalid_argument("a volume id or name is required, without /"));
        }
        Ok(self.disk.join(volume_id))
    }

    fn volume(&self, id: &str) -> csi::Volume {
        let context = [
            ("server", self.server.clone()),
            ("path", format!("/{id}")),
            ("vers", self.vers.clone()),
        ];
        csi::Volume {
            volume_id: id.to_owned(),
            volume_context: context.map(|(key, value)| (key.to_owned(), value)).into(),
            ..csi::Volume::default()
        }
    }
}

/// The driver's Node service, by its real socket.
struct PassedOn(NodeClient<Channel>);

/// Methods that pass a call on; in the form that `async_trait` gives a method.
macro_rules! passed_on {
    ($($method:ident: $request:ident -> $response:ident,)*) => {
        $(fn $method<'service, 'async_trait>(
            &'service self,
            request: Request<csi::$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<csi::$response>, Status>> + Send + 'async_trait>>
        where
            'service: 'async_trait,
            Self: 'async_trait,
        {
            let mut driver = self.0.clone();
            Box::pin(async move { driver.$method(request.into_inner()).await })
        })*
    };
}

#[tonic::async_trait]
impl Node for PassedOn {
    passed_on! {
        node_stage_volume: NodeStageVolumeRequest -> NodeStageVolumeResponse,
        node_unstage_volume: NodeUnstageVolumeRequest -> NodeUnstageVolumeResponse,
        node_publish_volume: NodePublishVolumeRequest -> NodePublishVolumeResponse,
        node_unpublish_volume: NodeUnpublishVolumeRequest -> NodeUnpublishVolumeResponse,
        node_get_volume_stats: NodeGetVolumeStatsRequest -> NodeGetVolumeStatsResponse,
        node_get_volume_health: NodeGetVolumeHealthRequest -> NodeGetVolumeHealthResponse,
        node_get_storage_health: NodeGetStorageHealthRequest -> NodeGetStorageHealthResponse,
        node_expand_volume: NodeExpandVolumeRequest -> NodeExpandVolumeResponse,
        node_get_capabilities: NodeGetCapabilitiesRequest -> NodeGetCapabilitiesResponse,
        node_get_info: NodeGetInfoRequest -> NodeGetInfoResponse,
    }
}

/// Says that there is a controller.
struct TestDouble;

#[tonic::async_trait]
impl Identity for TestDouble {
    async fn get_plugin_info(
        &self,
        _: Request<csi::GetPluginInfoRequest>,
    ) -> Result<Response<csi::GetPluginInfoResponse>, Status> {
        Ok(Response::new(csi::GetPluginInfoResponse {
            name: "provisioner.test".to_owned(),
            vendor_version: "0".to_owned(),
            ..Default::default()
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<csi::GetPluginCapabilitiesResponse>, Status> {
        use csi::plugin_capability::Service;
        use csi::plugin_capability::Type;
        use csi::plugin_capability::service::Type as Kind;
        let controller = Type::Service(Service { r#type: Kind::ControllerService.into() });
        let capabilities = vec![csi::PluginCapability { r#type: Some(controller) }];
        Ok(Response::new(csi::GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(
        &self,
        _: Request<csi::ProbeRequest>,
    ) -> Result<Response<csi::ProbeResponse>, Status> {
        Ok(Response::new(csi::ProbeResponse { ready: Some(true) }))
    }
}

/// The rest of the Controller, which no Node spec calls.
macro_rules! unserved {
    ($($method:ident: $request:ident -> $response:ident,)*) => {
        $(fn $method<'service, 'async_trait>(
            &'service self,
            _: Request<csi::$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<csi::$response>, Status>> + Send + 'async_trait>>
        where
            'service: 'async_trait,
            Self: 'async_trait,
        {
            let why = "the test provisioner only makes and deletes directories";
            Box::pin(async move { Err(Status::unimplemented(why)) })
        })*
    };
}

#[tonic::async_trait]
impl Controller for Directories {
    async fn create_volume(
        &self,
        request: Request<csi::CreateVolumeRequest>,
    ) -> Result<Response<csi::CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        let place = self.place(&request.name)?;
        if request.volume_capabilities.is_empty() {
            return Err(Status::invalid_argument("volume capabilities are required"));
        }
        fs::create_dir_all(place)?;
        let volume = Some(self.volume(&request.name));
        Ok(Response::new(csi::CreateVolumeResponse { volume }))
    }

    async fn delete_volume(
        &self,
        request: Request<csi::DeleteVolumeRequest>,
    ) -> Result<Response<csi::DeleteVolumeResponse>, Status> {
        let place = self.place(&request.into_inner().volume_id)?;
        if place.is_dir() {
            fs::remove_dir_all(place)?;
        }
        Ok(Response::new(csi::DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<csi::ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        if !self.place(&request.volume_id)?.is_dir() {
            return Err(Status::not_found(format!("there is no volume {}", request.volume_id)));
        }
        if request.volume_capabilities.is_empty() {
            return Err(Status::invalid_argument("volume capabilities are required"));
        }
        let confirmed = csi::validate_volume_capabilities_response::Confirmed {
            volume_capabilities: request.volume_capabilities,
            volume_context: request.volume_context,
            parameters: request.parameters,
            ..Default::default()
        };
        Ok(Response::new(csi::ValidateVolumeCapabilitiesResponse {
            confirmed: Some(confirmed),
            message: String::new(),
        }))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<csi::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<csi::ControllerGetCapabilitiesResponse>, Status> {
        use csi::controller_service_capability::Rpc;
        use csi::controller_service_capability::Type;
        use csi::controller_service_capability::rpc::Type as Call;
        let create = Rpc { r#type: Call::CreateDeleteVolume.into() };
        Ok(Response::new(csi::ControllerGetCapabilitiesResponse {
            capabilities: vec![csi::ControllerServiceCapability {
                r#type: Some(Type::Rpc(create)),
            }],
        }))
    }

    unserved! {
        controller_publish_volume: ControllerPublishVolumeRequest -> ControllerPublishVolumeResponse,
        controller_unpublish_volume:
            ControllerUnpublishVolumeRequest -> ControllerUnpublishVolumeResponse,
        list_volumes: ListVolumesRequest -> ListVolumesResponse,
        controller_list_volume_health:
            ControllerListVolumeHealthRequest -> ControllerListVolumeHealthResponse,
        controller_get_volume_health:
            ControllerGetVolumeHealthRequest -> ControllerGetVolumeHealthResponse,
        get_capacity: GetCapacityRequest -> GetCapacityResponse,
        create_snapshot: CreateSnapshotRequest -> CreateSnapshotResponse,
        delete_snapshot: DeleteSnapshotRequest -> DeleteSnapshotResponse,
        list_snapshots: ListSnapshotsRequest -> ListSnapshotsResponse,
        get_snapshot: GetSnapshotRequest -> GetSnapshotResponse,
        controller_expand_volume: ControllerExpandVolumeRequest -> ControllerExpandVolumeResponse,
        controller_get_volume: ControllerGetVolumeRequest -> ControllerGetVolumeResponse,
        controller_modify_volume: ControllerModifyVolumeRequest -> ControllerModifyVolumeResponse,
    }
}
