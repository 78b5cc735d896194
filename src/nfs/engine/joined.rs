//! A network that is asked each question once by all mounts that have it at the same time.
//!
//! A storm of mounts from one server would else open as many connections as there are mounts, only to hear that it is
//! up: knfsd with eight threads closes the oldest beyond 220 (net/sunrpc/svc_xprt.c: svc_check_conn_limits), and its
//! queue of new ones is 64 long. Silence is never shared: each mount waits for its own limit.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::Network;
use crate::host::daemon::Daemon;
use crate::host::daemon::Presence;
use crate::host::resolve::ResolveFault;
use crate::host::resolve::ServerAddress;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Transport;
use crate::nfs::policy::RpcFault;
use crate::nfs::policy::Service;
use crate::nfs::probe::Export;
use crate::runtime::Together;

/// Hands questions on. An answer is everybody's who asked before it came.
#[derive(Debug)]
pub(super) struct Joined {
    network: Arc<dyn Network>,
    ports: Together<(ServerAddress, Service, Transport, Transport), Result<u16, RpcFault>>,
    pings: Together<(SocketAddr, Service, Transport), Result<(), RpcFault>>,
}

impl Joined {
    pub(super) fn new(network: Arc<dyn Network>) -> Self {
        Self { network, ports: Together::default(), pings: Together::default() }
    }
}

/// What the server said, or that it said nothing to this caller.
fn definite<T>(answer: Result<T, RpcFault>) -> Result<Result<T, RpcFault>, RpcFault> {
    match answer {
        Err(silence @ RpcFault::NoAnswer(_)) => Err(silence),
        said => Ok(said),
    }
}

async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<Result<T, RpcFault>, RpcFault>>,
) -> Result<T, RpcFault> {
    match timeout(limit, asked).await {
        Ok(answer) => answer.flatten(),
        Err(_) => Err(RpcFault::NoAnswer(limit)),
    }
}

#[async_trait]
impl Network for Joined {
    /// Not shared: each lookup has its own thread, which may hang, and the resolver keeps what it learnt.
    async fn resolve(
        &self,
        host: &str,
        family: Option<Family>,
        limit: Duration,
    ) -> Result<Vec<ServerAddress>, ResolveFault> {
        self.network.resolve(host, family, limit).await
    }

    fn locate(&self, destination: ServerAddress) -> io::Result<IpAddr> {
        self.network.locate(destination)
    }

    async fn ask_port(
        &self,
        server: ServerAddress,
        service: Service,
        transport: Transport,
        over: Transport,
        limit: Duration,
    ) -> Result<u16, RpcFault> {
        let ask =
            async || definite(self.network.ask_port(server, service, transport, over, limit).await);
        within(limit, self.ports.ask((server, service, transport, over), ask)).await
    }

    async fn ping(
        &self,
        server: SocketAddr,
        service: Service,
        transport: Transport,
        limit: Duration,
    ) -> Result<(), RpcFault> {
        let ask = async || definite(self.network.ping(server, service, transport, limit).await);
        within(limit, self.pings.ask((server, service, transport), ask)).await
    }

    /// Not shared: it is asked only where the kernel has refused a mount.
    async fn ask_export(
        &self,
        mountd: SocketAddr,
        transport: Transport,
        path: &str,
        limit: Duration,
    ) -> Result<Export, RpcFault> {
        self.network.ask_export(mountd, transport, path, limit).await
    }

    fn is_ours(&self, address: IpAddr) -> io::Result<bool> {
        self.network.is_ours(address)
    }

    async fn look_for(&self, daemon: Daemon) -> Presence {
        self.network.look_for(daemon).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::model::NfsVersion;
    use crate::nfs::engine::fake::FakeNetwork;

    const LIMIT: Duration = Duration::from_secs(10);

    fn joined(network: FakeNetwork) -> (Arc<FakeNetwork>, Joined) {
        let network = Arc::new(network);
        (Arc::clone(&network), Joined::new(network))
    }

    async fn ping(network: &Joined, host: u8, limit: Duration) -> Result<(), RpcFault> {
        let server = ([192, 0, 2, host], 2049).into();
        network.ping(server, Service::Nfs(NfsVersion::V42), Transport::Tcp, limit).await
    }

    async fn port(network: &Joined) -> Result<u16, RpcFault> {
        let server = IpAddr::from([192, 0, 2, 1]).into();
        network.ask_port(server, Service::Mount(3), Transport::Udp, Transport::Udp, LIMIT).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_question_of_many_mounts_is_asked_once() {
        let refused = Err(RpcFault::Refused);
        let (asked, network) = joined(FakeNetwork::late(Duration::from_secs(1), refused.clone()));
        let pings = async {
            tokio::join!(
                ping(&network, 1, LIMIT),
                ping(&network, 1, LIMIT),
                ping(&network, 2, LIMIT)
            )
        };
        let ports = async { tokio::join!(port(&network), port(&network)) };
        let (pings, ports) = tokio::join!(pings, ports);
        assert_eq!(pings, (refused.clone(), refused.clone(), refused));
        assert_eq!(ports, (Ok(2049), Ok(2049)));
        assert_eq!(asked.asked().len(), 3, "{:?}", asked.asked());
    }

    #[tokio::test(start_paused = true)]
    async fn each_mount_waits_for_its_own_limit_before_it_speaks_of_silence() {
        let (_, network) = joined(FakeNetwork::silent());
        let began = Instant::now();
        let short = async {
            let answer = ping(&network, 1, LIMIT / 2).await;
            (answer, began.elapsed())
        };
        let late = async {
            tokio::time::sleep(LIMIT / 4).await;
            let answer = ping(&network, 1, LIMIT).await;
            (answer, began.elapsed())
        };
        let (short, late) = tokio::join!(short, late);
        assert_eq!(short, (Err(RpcFault::NoAnswer(LIMIT / 2)), LIMIT / 2));
        assert_eq!(late, (Err(RpcFault::NoAnswer(LIMIT)), LIMIT / 4 + LIMIT));
    }
}
