//! What the policy asks about the network, with the fake beside it.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

use crate::host::daemon;
use crate::host::daemon::Daemon;
use crate::host::daemon::Presence;
use crate::host::local_address;
use crate::host::resolve;
use crate::host::resolve::ResolveFault;
use crate::host::resolve::ServerAddress;
use crate::host::route;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Transport;
use crate::nfs::policy::Export;
use crate::nfs::policy::RpcFault;
use crate::nfs::policy::Service;
use crate::nfs::rpc;
use crate::nfs::rpc::Program;
use crate::nfs::rpc::mountd;
use crate::nfs::rpc::rpcbind;

/// A daemon of this host is there at once or not at all.
const LOCAL_LIMIT: Duration = Duration::from_secs(2);

/// Questions to the network and to this host. Each ends at its limit, and by being dropped.
#[async_trait]
pub trait Network: Send + Sync + std::fmt::Debug {
    /// The addresses of a host, in the order in which they are to be tried.
    async fn resolve(
        &self,
        host: &str,
        family: Option<Family>,
        limit: Duration,
    ) -> Result<Vec<ServerAddress>, ResolveFault>;

    /// The address of this host that packets to `destination` leave from.
    fn locate(&self, destination: ServerAddress) -> io::Result<IpAddr>;

    /// The port of a service over `transport`, from the server's rpcbind, which is asked `over` another one only
    /// of IPv4.
    async fn ask_port(
        &self,
        server: ServerAddress,
        service: Service,
        transport: Transport,
        over: Transport,
        limit: Duration,
    ) -> Result<u16, RpcFault>;

    /// A NULL call.
    async fn ping(
        &self,
        server: SocketAddr,
        service: Service,
        transport: Transport,
        limit: Duration,
    ) -> Result<(), RpcFault>;

    /// What mountd says of an export.
    async fn ask_export(
        &self,
        mountd: SocketAddr,
        transport: Transport,
        path: &str,
        limit: Duration,
    ) -> Result<Export, RpcFault>;

    /// Whether an interface of this host has the address.
    fn is_ours(&self, address: IpAddr) -> io::Result<bool>;

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
        limit: Duration,
    ) -> Result<Vec<ServerAddress>, ResolveFault> {
        resolve::resolve(host, family, limit).await
    }

    fn locate(&self, destination: ServerAddress) -> io::Result<IpAddr> {
        route::source_address_towards(destination)
    }

    async fn ask_port(
        &self,
        server: ServerAddress,
        service: Service,
        transport: Transport,
        over: Transport,
        limit: Duration,
    ) -> Result<u16, RpcFault> {
        rpcbind::ask_port(server, service.into(), transport, over, limit).await
    }

    async fn ping(
        &self,
        server: SocketAddr,
        service: Service,
        transport: Transport,
        limit: Duration,
    ) -> Result<(), RpcFault> {
        rpc::null(server, service.into(), transport, limit).await
    }

    async fn ask_export(
        &self,
        mountd: SocketAddr,
        transport: Transport,
        path: &str,
        limit: Duration,
    ) -> Result<Export, RpcFault> {
        mountd::ask_export(mountd, transport, path, limit).await
    }

    fn is_ours(&self, address: IpAddr) -> io::Result<bool> {
        local_address::is_local(address)
    }

    async fn look_for(&self, daemon: Daemon) -> Presence {
        match daemon {
            Daemon::Statd => statd(asked_of_rpcbind().await),
            Daemon::Gssd => seen(daemon::gssd).await,
            Daemon::Tlshd => seen(daemon::tlshd).await,
        }
    }
}

async fn seen(look: fn() -> Presence) -> Presence {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|crashed| Presence::Unknown(crashed.to_string()))
}

/// As lockd does it: over TCP, at 127.0.0.1, by rpcbind (fs/lockd/mon.c: nsm_create).
async fn asked_of_rpcbind() -> Result<(), RpcFault> {
    let here = ServerAddress::from(IpAddr::from([127, 0, 0, 1]));
    let tcp = Transport::Tcp;
    let port = rpcbind::ask_port(here, Program::STATD, tcp, tcp, LOCAL_LIMIT).await?;
    rpc::null(here.at(port), Program::STATD, tcp, LOCAL_LIMIT).await
}

fn statd(asked: Result<(), RpcFault>) -> Presence {
    match asked {
        Ok(()) => Presence::Runs,
        Err(RpcFault::Refused) => {
            Presence::Missing("rpcbind or rpc.statd does not listen on 127.0.0.1".to_owned())
        }
        Err(RpcFault::NotRegistered | RpcFault::NoSuchProgram) => {
            Presence::Missing("rpcbind on 127.0.0.1 does not know it".to_owned())
        }
        Err(fault) => Presence::Unknown(format!("on 127.0.0.1: {fault}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statd_is_missing_only_where_somebody_said_so() {
        for (asked, expected) in [
            (Ok(()), "Runs"),
            (Err(RpcFault::Refused), "Missing"),
            (Err(RpcFault::NotRegistered), "Missing"),
            (Err(RpcFault::NoAnswer(LOCAL_LIMIT)), "Unknown"),
            (Err(RpcFault::Garbage("no RPC".to_owned())), "Unknown"),
        ] {
            let presence = statd(asked.clone());
            assert!(format!("{presence:?}").starts_with(expected), "{asked:?}: {presence:?}");
        }
    }
}
