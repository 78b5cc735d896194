//! A network of answers that a test sets, and of questions that it reads.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use crate::host::daemon::Daemon;
use crate::host::daemon::Presence;
use crate::host::resolve::ResolveFault;
use crate::host::resolve::ServerAddress;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Transport;
use crate::nfs::engine::Network;
use crate::nfs::policy::Export;
use crate::nfs::policy::Flavour;
use crate::nfs::policy::RpcFault;
use crate::nfs::policy::Service;

/// Every name is one server, which has every service on port 2049 and every daemon runs, until told otherwise.
#[derive(Debug)]
pub(crate) struct FakeNetwork {
    pub(crate) addresses: Result<Vec<ServerAddress>, ResolveFault>,
    pub(crate) port: Result<u16, RpcFault>,
    pub(crate) ping: Result<(), RpcFault>,
    pub(crate) presence: Presence,
    /// This host's only address.
    pub(crate) own: IpAddr,
    /// Nothing is ever answered.
    pub(crate) silent: bool,
    /// So long after the question.
    pub(crate) late: Duration,
    asked: Mutex<Vec<String>>,
}

impl Default for FakeNetwork {
    fn default() -> Self {
        Self {
            addresses: Ok(vec![IpAddr::from([192, 0, 2, 1]).into()]),
            port: Ok(2049),
            ping: Ok(()),
            presence: Presence::Runs,
            own: [192, 0, 2, 200].into(),
            silent: false,
            late: Duration::ZERO,
            asked: Mutex::default(),
        }
    }
}

impl FakeNetwork {
    /// A network in which nothing answers.
    pub(crate) fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// A network whose servers take so long, and answer NULL calls so.
    pub(crate) fn late(late: Duration, ping: Result<(), RpcFault>) -> Self {
        Self { late, ping, ..Self::default() }
    }

    /// Every question so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn answer<T: Clone>(&self, question: String, answer: &T) -> T {
        self.asked.lock().unwrap().push(question);
        if self.silent {
            pending::<()>().await;
        }
        if !self.late.is_zero() {
            tokio::time::sleep(self.late).await;
        }
        answer.clone()
    }

    async fn answer_within<T: Clone>(
        &self,
        limit: Duration,
        question: String,
        answer: &Result<T, RpcFault>,
    ) -> Result<T, RpcFault> {
        let answer = tokio::time::timeout(limit, self.answer(question, answer)).await;
        answer.unwrap_or(Err(RpcFault::NoAnswer(limit)))
    }
}

#[async_trait]
impl Network for FakeNetwork {
    async fn resolve(
        &self,
        host: &str,
        family: Option<Family>,
        limit: Duration,
    ) -> Result<Vec<ServerAddress>, ResolveFault> {
        let question = format!("resolve {host} {family:?}");
        let answer = tokio::time::timeout(limit, self.answer(question, &self.addresses)).await;
        answer.unwrap_or_else(|_| Err(ResolveFault::TryAgain("no answer".to_owned())))
    }

    fn locate(&self, _destination: ServerAddress) -> io::Result<IpAddr> {
        Ok(self.own)
    }

    async fn ask_port(
        &self,
        server: ServerAddress,
        service: Service,
        transport: Transport,
        over: Transport,
        limit: Duration,
    ) -> Result<u16, RpcFault> {
        let question = format!("port {server} {service:?} {transport:?} over {over:?}");
        self.answer_within(limit, question, &self.port).await
    }

    async fn ping(
        &self,
        server: SocketAddr,
        service: Service,
        transport: Transport,
        limit: Duration,
    ) -> Result<(), RpcFault> {
        let question = format!("ping {server} {service:?} {transport:?}");
        self.answer_within(limit, question, &self.ping).await
    }

    async fn ask_export(
        &self,
        mountd: SocketAddr,
        transport: Transport,
        path: &str,
        limit: Duration,
    ) -> Result<Export, RpcFault> {
        let question = format!("export {path} {mountd} {transport:?}");
        self.answer_within(limit, question, &Ok(Export::Flavours(vec![Flavour::SYS]))).await
    }

    fn is_ours(&self, address: IpAddr) -> io::Result<bool> {
        Ok(address == self.own)
    }

    async fn look_for(&self, daemon: Daemon) -> Presence {
        self.answer(format!("look for {daemon:?}"), &self.presence).await
    }
}
