//! `-f`: an engine that does everything but the mount.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::host::mount_table::ProcMountTable;
use crate::host::worker::ChildWorker;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::host::worker::Worker;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Transport;
use crate::nfs::engine::Engine;
use crate::nfs::engine::HostNetwork;
use crate::nfs::engine::Network;
use crate::nfs::policy::Daemon;
use crate::nfs::policy::Export;
use crate::nfs::policy::Presence;
use crate::nfs::policy::ResolveFault;
use crate::nfs::policy::RpcFault;
use crate::nfs::policy::ServerAddress;
use crate::nfs::policy::Service;

/// The engine of this host, or one that only says what it would do.
pub(super) fn engine(fake: bool) -> Engine {
    if fake {
        Engine::new(Arc::new(DryNetwork), Arc::new(DryWorker::default()), Arc::new(ProcMountTable))
    } else {
        Engine::of_this_host()
    }
}

/// A worker whose mounts succeed and do not happen.
#[derive(Debug, Default)]
struct DryWorker(ChildWorker);

#[async_trait]
impl Worker for DryWorker {
    async fn run(&self, job: Job, deadline: Duration) -> Result<Done, Failure> {
        match job {
            Job::MountNfs { .. }
            | Job::Bind { .. }
            | Job::Unmount { .. }
            | Job::SetAttributes { .. } => Ok(Done::Done),
            harmless => self.0.run(harmless, deadline).await,
        }
    }
}

/// The network of this host, but for the call that only proves that a version 4 server is there: as with
/// mount.nfs, what would be told to the kernel can be seen without one.
#[derive(Debug)]
struct DryNetwork;

#[async_trait]
impl Network for DryNetwork {
    async fn resolve(
        &self,
        host: &str,
        family: Option<Family>,
        limit: Duration,
    ) -> Result<Vec<ServerAddress>, ResolveFault> {
        HostNetwork.resolve(host, family, limit).await
    }

    fn locate(&self, destination: ServerAddress) -> std::io::Result<IpAddr> {
        HostNetwork.locate(destination)
    }

    async fn ask_port(
        &self,
        server: ServerAddress,
        service: Service,
        transport: Transport,
        over: Transport,
        limit: Duration,
    ) -> Result<u16, RpcFault> {
        HostNetwork.ask_port(server, service, transport, over, limit).await
    }

    async fn ping(
        &self,
        server: SocketAddr,
        service: Service,
        transport: Transport,
        limit: Duration,
    ) -> Result<(), RpcFault> {
        match service {
            Service::Nfs(version) if version.is_4() => Ok(()),
            service => HostNetwork.ping(server, service, transport, limit).await,
        }
    }

    async fn ask_export(
        &self,
        mountd: SocketAddr,
        transport: Transport,
        path: &str,
        limit: Duration,
    ) -> Result<Export, RpcFault> {
        HostNetwork.ask_export(mountd, transport, path, limit).await
    }

    fn is_ours(&self, address: IpAddr) -> std::io::Result<bool> {
        HostNetwork.is_ours(address)
    }

    async fn look_for(&self, daemon: Daemon) -> Presence {
        HostNetwork.look_for(daemon).await
    }
}
