//! What the kubelet would call, one line each.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use alinas_csi::proto::csi;
use alinas_csi::proto::csi::node_client::NodeClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::failure::Result;

/// The kubelet gives up on a call after two minutes; we must have answered before.
const CALL_DEADLINE: Duration = Duration::from_secs(120);

/// A volume, as a PersistentVolume would describe it.
#[derive(Clone, Debug)]
pub struct Volume {
    /// volumeHandle.
    pub id: String,
    /// volumeAttributes.
    pub attributes: HashMap<String, String>,
    /// mountOptions.
    pub mount_options: Vec<String>,
    /// Where it is staged.
    pub staging: PathBuf,
}

impl Volume {
    /// A volume that is the root of a mount target, staged below `folder`.
    #[must_use]
    pub fn new(folder: &Path, id: &str, server: &str, vers: &str) -> Self {
        let attributes = [("server", server), ("path", "/"), ("vers", vers)];
        Self {
            id: id.to_owned(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            mount_options: Vec::new(),
            staging: folder.join("staging").join(id),
        }
    }

    /// The same with one attribute more, or another value for it.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same with one mount option more.
    #[must_use]
    pub fn with_option(mut self, option: &str) -> Self {
        self.mount_options.push(option.to_owned());
        self
    }

    fn capability(&self) -> csi::VolumeCapability {
        use csi::volume_capability::AccessMode;
        use csi::volume_capability::AccessType;
        use csi::volume_capability::MountVolume;
        use csi::volume_capability::access_mode::Mode;
        csi::VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() }),
            access_type: Some(AccessType::Mount(MountVolume {
                mount_flags: self.mount_options.clone(),
                ..MountVolume::default()
            })),
        }
    }
}

/// Whether a pod may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    ReadWrite,
    /// It may not.
    ReadOnly,
}

/// A connection to the node plugin's socket. Calls block.
#[derive(Debug)]
pub struct CsiClient {
    runtime: Runtime,
    node: NodeClient<Channel>,
}

/// Connects to a Unix socket by the first call.
///
/// # Errors
/// Never for a well-formed endpoint.
pub fn channel(socket: &Path) -> Result<Channel> {
    let socket = socket.to_owned();
    // The address is not used: the connector knows the socket.
    let endpoint = Endpoint::try_from("http://unix.invalid")?.timeout(CALL_DEADLINE);
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    })))
}

impl CsiClient {
    /// A client of the socket. Connects by itself, again after a restart of the plugin too.
    ///
    /// # Errors
    /// When no runtime can be started.
    pub fn new(socket: &Path) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let node = {
            let _entered = runtime.enter();
            NodeClient::new(channel(socket)?)
        };
        Ok(Self { runtime, node })
    }

    /// NodeStageVolume. Makes the staging directory first, as the kubelet does.
    ///
    /// # Errors
    /// The plugin's.
    pub fn stage(&self, volume: &Volume) -> Result<(), Status> {
        std::fs::create_dir_all(&volume.staging)?;
        self.stage_only(volume)
    }

    /// NodeStageVolume at a staging path as it is.
    ///
    /// # Errors
    /// The plugin's.
    pub fn stage_only(&self, volume: &Volume) -> Result<(), Status> {
        let request = csi::NodeStageVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: text(&volume.staging),
            volume_capability: Some(volume.capability()),
            volume_context: volume.attributes.clone(),
            ..csi::NodeStageVolumeRequest::default()
        };
        let mut node = self.node.clone();
        self.runtime.block_on(node.node_stage_volume(request)).map(drop)
    }

    /// NodeUnstageVolume.
    ///
    /// # Errors
    /// The plugin's.
    pub fn unstage(&self, volume: &Volume) -> Result<(), Status> {
        let request = csi::NodeUnstageVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: text(&volume.staging),
        };
        let mut node = self.node.clone();
        self.runtime.block_on(node.node_unstage_volume(request)).map(drop)
    }

    /// NodePublishVolume. Makes the parent of the target first, as the kubelet does.
    ///
    /// # Errors
    /// The plugin's.
    pub fn publish(&self, volume: &Volume, target: &Path, access: Access) -> Result<(), Status> {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let request = csi::NodePublishVolumeRequest {
            volume_id: volume.id.clone(),
            staging_target_path: text(&volume.staging),
            target_path: text(target),
            volume_capability: Some(volume.capability()),
            readonly: access == Access::ReadOnly,
            volume_context: volume.attributes.clone(),
            ..csi::NodePublishVolumeRequest::default()
        };
        let mut node = self.node.clone();
        self.runtime.block_on(node.node_publish_volume(request)).map(drop)
    }

    /// NodeUnpublishVolume.
    ///
    /// # Errors
    /// The plugin's.
    pub fn unpublish(&self, volume: &Volume, target: &Path) -> Result<(), Status> {
        let request = csi::NodeUnpublishVolumeRequest {
            volume_id: volume.id.clone(),
            target_path: text(target),
        };
        let mut node = self.node.clone();
        self.runtime.block_on(node.node_unpublish_volume(request)).map(drop)
    }

    /// NodeGetVolumeStats.
    ///
    /// # Errors
    /// The plugin's.
    pub fn stats(&self, volume: &Volume, path: &Path) -> Result<Vec<csi::VolumeUsage>, Status> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: text(path),
            staging_target_path: text(&volume.staging),
        };
        let mut node = self.node.clone();
        let answer = self.runtime.block_on(node.node_get_volume_stats(request))?;
        Ok(answer.into_inner().usage)
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
