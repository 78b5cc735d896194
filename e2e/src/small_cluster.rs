//! As much of a cluster as the controller asks: an API server beside a NAS, and PersistentVolumes.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::api_server::ADMIN;
use crate::api_server::ApiServer;
use crate::driver::binary;
use crate::failure::Failure;
use crate::failure::Result;
use crate::ganesha::Ganesha;
use crate::lab::inside_network;
use crate::sidecar::Sidecar;

/// Ends when dropped.
#[derive(Debug)]
pub struct SmallCluster {
    server: ApiServer,
    runtime: Runtime,
}

impl SmallCluster {
    /// Starts one that is seen from the network of a NAS.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn beside(nas: &Ganesha) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let server = runtime.block_on(async {
            let server = ApiServer::start().await?;
            show(server.address(), &nas.network())?;
            Ok::<_, Failure>(server)
        })?;
        Ok(Self { server, runtime })
    }

    /// A controller that asks it which volumes there are.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn controller(&self, nas: &Ganesha, name: &str) -> Result<Sidecar> {
        let credentials = self.server.credentials(ADMIN)?;
        // The controller is nobody.
        for folder in credentials.ancestors().take(2) {
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
        }
        let mut program = nas.enter(&binary()?);
        program.env("ALINAS_CSI_WATCH_MOUNT_TARGETS", "true");
        program.env("ALINAS_CSI_KUBERNETES_CREDENTIALS", credentials);
        program.envs(self.server.environment());
        Sidecar::of(program, nas.folder(), name, nas.ca_file())
    }

    /// Makes a PersistentVolume.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub fn bind(&self, name: &str, driver: &str, volume: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"},
                "csi": {"driver": driver, "volumeHandle": volume},
            },
        });
        self.runtime.block_on(self.server.create("/api/v1/persistentvolumes", &object))
    }
}

/// Has what listens at an address of this network listen there in another network, too.
fn show(address: SocketAddr, network: &Path) -> Result<()> {
    let listener = inside_network(network, || Ok(std::net::TcpListener::bind(address)?))?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(address).await else { return };
                // How a connection ends is the affair of its two ends.
                drop(copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    Ok(())
}
