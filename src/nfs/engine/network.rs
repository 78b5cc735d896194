//! What the policy asks about the network, with the fake beside it.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

use crate::host::daemon::Daemon;
use crate::host::daemon::Presence;
use crate::host::resolve;
use crate::host::resolve::ResolveFault;
use crate::host::resolve::ServerAddress;
use crate::host::route;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Transport;
use crate::nfs::policy::RpcFault;
use crate::nfs::policy::Service;

/// For one name.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);

/// Questions to the network and to this host. Each ends by its own deadline, and by being dropped.
#[async_trait]
pub trait Network: Send + Sync + std::fmt::Debug {
    /// The addresses of a host, in the order in which they are to be tried.
    async fn resolve(
        &self,
        host: &str,
        family: Option<Family>,
    ) -> Result<Vec<ServerAddress>, ResolveFault>;

    /// The address of this host that packets to `destination` leave from.
    fn locate(&self, destination: ServerAddress) -> io::Result<IpAddr>;

    /// The port of a service, from the server's rpcbind, asked over the same transport.
    async fn ask_port(
        &self,
        server: ServerAddress,
        service: Service,
        transport: Transport,
    ) -> Result<u16, RpcFault>;

    /// A NULL call.
    async fn ping(
        &self,
        server: SocketAddr,
        service: Service,
        transport: Transport,
    ) -> Result<(), RpcFault>;

    /// Whether a daemon of this host runs.
    async fn look_for(&self, daemon: Daemon) -> Presence;
}

/// The network that this process sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostNetwork;

#[async_trait]
impl Network for HostNetwork {
    async fn resolve(
        &self,
        host: &str,
        family: Option<Family>,
    ) -> Result<Vec<ServerAddress>, ResolveFault> {
        resolve::resolve(host, family, RESOLVE_DEADLINE).await
    }

    fn locate(&self, destination: ServerAddress) -> io::Result<IpAddr> {
        route::source_address_towards(destination.ip)
    }

    async fn ask_port(
        &self,
        _server: ServerAddress,
        _service: Service,
        _transport: Transport,
    ) -> Result<u16, RpcFault> {
        Err(RpcFault::NotRegistered)
    }

    async fn ping(
        &self,
        _server: SocketAddr,
        _service: Service,
        _transport: Transport,
    ) -> Result<(), RpcFault> {
        Ok(())
    }

    async fn look_for(&self, daemon: Daemon) -> Presence {
        Presence::Unknown(format!("{daemon:?} is not looked for yet"))
    }
}
