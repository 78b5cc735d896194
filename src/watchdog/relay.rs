//! What the watchdog asks of a tunnel process.
//!
//! [`Relay`] is the narrow door, [`GrpcRelay`] goes through the process's Unix socket. None of the calls has a
//! deadline of its own: who calls knows how long it may wait.

use std::fmt;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::host::parcel;
use crate::model::TunnelSpec;
use crate::proto::tunnel as proto;
use crate::proto::tunnel::TunnelFailure;
use crate::proto::tunnel::probe_response::Outcome;
use crate::proto::tunnel::relay_client::RelayClient;
use crate::runtime::one_connection;
use crate::runtime::request;
use crate::runtime::status_words;
use crate::tunnel::convert::spec_to_wire;

/// A tunnel process that can be talked to.
#[async_trait]
pub trait Relay: Send + Sync + fmt::Debug {
    /// Serves the endpoint, on `socket` or else on one that the process binds; success where the same tunnel is
    /// open already.
    async fn open(
        &self,
        spec: &TunnelSpec,
        endpoint: SocketAddrV4,
        socket: Option<OwnedFd>,
    ) -> Result<(), RelayError>;
    /// Stops serving the endpoint; success where it was not served.
    async fn close(&self, endpoint: SocketAddrV4) -> Result<(), RelayError>;
    /// Asks the mount target for one answer.
    async fn probe(&self, spec: &TunnelSpec) -> Result<proto::ProbeReport, RelayError>;
    /// The endpoints that are served.
    async fn status(&self) -> Result<Vec<SocketAddrV4>, RelayError>;
    /// All that the process knows about what it serves, for people.
    async fn report(&self) -> Result<proto::StatusResponse, RelayError>;
    /// Has the process forget what it has found out about the server.
    async fn refresh(&self, spec: &TunnelSpec) -> Result<(), RelayError>;
    /// Asks the process to end once its connections have, at the latest after `grace`.
    async fn shut_down(&self, grace: Duration) -> Result<(), RelayError>;
}

/// Why a call to the tunnel process has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The process did what it could, and says why it failed.
    #[error("{}", .0.message)]
    Refused(TunnelFailure),
    /// The process could not be asked.
    #[error("failed to ask the tunnel process: {}", status_words(.0))]
    Unavailable(tonic::Status),
    /// The process gave an answer that makes no sense.
    #[error("the tunnel process gave an answer without {0}")]
    Malformed(&'static str),
}

impl From<tonic::Status> for RelayError {
    fn from(status: tonic::Status) -> Self {
        Self::Unavailable(status)
    }
}

/// Sends along for which request a call is made.
type PassOn = fn(Request<()>) -> Result<Request<()>, Status>;
type WithRequest = InterceptedService<Channel, PassOn>;

fn client(channel: Channel) -> RelayClient<WithRequest> {
    let pass_on: PassOn = request::pass_on;
    RelayClient::with_interceptor(channel, pass_on)
}

/// A tunnel process behind its Unix socket.
#[derive(Clone)]
pub struct GrpcRelay {
    client: RelayClient<WithRequest>,
    /// The standard input of the process, which sockets go over.
    input: Option<Arc<UnixStream>>,
}

impl GrpcRelay {
    /// Talks to the process behind `socket`, connecting with the first call. Sockets go over `input`.
    ///
    /// # Errors
    /// When the path cannot be one of a socket.
    pub fn new(
        socket: &Path,
        input: Option<Arc<UnixStream>>,
    ) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("unix:{}", socket.display()))?.connect_lazy();
        Ok(Self { client: client(channel), input })
    }

    /// The same, and sockets go over `input`.
    #[must_use]
    pub fn giving_over(self, input: Arc<UnixStream>) -> Self {
        Self { input: Some(input), ..self }
    }

    /// Talks over one connection and never makes another: behind its name may be another process by then.
    #[must_use]
    pub fn over(connection: UnixStream) -> Self {
        Self { client: client(one_connection(connection)), input: None }
    }

    /// Has the process send its listening sockets to whoever listens on the Unix socket `path`, and answers how many.
    ///
    /// # Errors
    /// Where it could not, or is of a release that cannot.
    pub async fn hand_over(&self, path: &Path) -> Result<usize, RelayError> {
        let request = proto::HandOverRequest { path: path.display().to_string() };
        let answer = self.client.clone().hand_over(request).await?.into_inner();
        Ok(usize::try_from(answer.sockets).unwrap_or(usize::MAX))
    }

    /// Sends a socket, where there is one and a way. Answers whether it did.
    async fn give(&self, socket: Option<OwnedFd>) -> Result<bool, RelayError> {
        let (Some(socket), Some(input)) = (socket, &self.input) else { return Ok(false) };
        let sent = parcel::send(input, &[socket]).await;
        sent.map_err(|error| tonic::Status::from_error(error.into()))?;
        Ok(true)
    }
}

#[async_trait]
impl Relay for GrpcRelay {
    async fn open(
        &self,
        spec: &TunnelSpec,
        endpoint: SocketAddrV4,
        socket: Option<OwnedFd>,
    ) -> Result<(), RelayError> {
        let request = proto::OpenRequest {
            spec: Some(spec_to_wire(spec)),
            endpoint: Some(endpoint_to_wire(endpoint)),
            socket_given: self.give(socket).await?,
        };
        match self.client.clone().open(request).await?.into_inner().failure {
            None => Ok(()),
            Some(failure) => Err(RelayError::Refused(failure)),
        }
    }

    async fn close(&self, endpoint: SocketAddrV4) -> Result<(), RelayError> {
        let request = proto::CloseRequest { endpoint: Some(endpoint_to_wire(endpoint)) };
        self.client.clone().close(request).await?;
        Ok(())
    }

    async fn probe(&self, spec: &TunnelSpec) -> Result<proto::ProbeReport, RelayError> {
        let request = proto::ProbeRequest { spec: Some(spec_to_wire(spec)) };
        match self.client.clone().probe(request).await?.into_inner().outcome {
            Some(Outcome::Report(report)) => Ok(report),
            Some(Outcome::Failure(failure)) => Err(RelayError::Refused(failure)),
            None => Err(RelayError::Malformed("an outcome")),
        }
    }

    async fn status(&self) -> Result<Vec<SocketAddrV4>, RelayError> {
        let status = self.client.clone().status(proto::StatusRequest {}).await?.into_inner();
        status
            .listeners
            .into_iter()
            .map(|listener| {
                let endpoint = listener.endpoint.as_ref().and_then(endpoint_from_wire);
                endpoint.ok_or(RelayError::Malformed("an endpoint"))
            })
            .collect()
    }

    async fn report(&self) -> Result<proto::StatusResponse, RelayError> {
        Ok(self.client.clone().status(proto::StatusRequest {}).await?.into_inner())
    }

    async fn refresh(&self, spec: &TunnelSpec) -> Result<(), RelayError> {
        let request = proto::RefreshRequest { spec: Some(spec_to_wire(spec)) };
        self.client.clone().refresh(request).await?;
        Ok(())
    }

    async fn shut_down(&self, grace: Duration) -> Result<(), RelayError> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.client.clone().shutdown(proto::ShutdownRequest { grace_millis }).await?;
        Ok(())
    }
}

impl fmt::Debug for GrpcRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrpcRelay")
    }
}

/// An endpoint as it travels.
#[must_use]
pub fn endpoint_to_wire(endpoint: SocketAddrV4) -> proto::LocalEndpoint {
    proto::LocalEndpoint { address: endpoint.ip().to_string(), port: endpoint.port().into() }
}

fn endpoint_from_wire(endpoint: &proto::LocalEndpoint) -> Option<SocketAddrV4> {
    let address = endpoint.address.parse().ok()?;
    Some(SocketAddrV4::new(address, u16::try_from(endpoint.port).ok()?))
}

/// A relay served over a socket, answering every call in its way.
#[cfg(test)]
pub(super) mod served {
    use super::*;
    use std::path::PathBuf;
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::UnixListenerStream;
    use tokio_util::sync::CancellationToken;
    use tonic::Response;

    type Answer<T> = Result<Response<T>, Status>;

    /// Of which release a process is.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(in crate::watchdog) enum Release {
        /// It hands sockets over.
        This,
        /// It knows of none.
        Before,
    }

    /// Refuses to open, and ends when it is asked to.
    struct Refusing(CancellationToken, Release);

    #[async_trait]
    impl proto::relay_server::Relay for Refusing {
        async fn open(&self, _: Request<proto::OpenRequest>) -> Answer<proto::OpenResponse> {
            let failure = TunnelFailure { kind: 12, message: "address taken".to_owned() };
            Ok(Response::new(proto::OpenResponse { failure: Some(failure) }))
        }

        async fn close(&self, _: Request<proto::CloseRequest>) -> Answer<proto::CloseResponse> {
            Ok(Response::new(proto::CloseResponse {}))
        }

        async fn probe(&self, _: Request<proto::ProbeRequest>) -> Answer<proto::ProbeResponse> {
            Ok(Response::new(proto::ProbeResponse { outcome: None }))
        }

        async fn status(&self, _: Request<proto::StatusRequest>) -> Answer<proto::StatusResponse> {
            let endpoint = SocketAddrV4::new([127, 0, 1, 1].into(), 12049);
            let listener = proto::ListenerStatus {
                endpoint: Some(endpoint_to_wire(endpoint)),
                ..proto::ListenerStatus::default()
            };
            Ok(Response::new(proto::StatusResponse {
                listeners: vec![listener],
                ..proto::StatusResponse::default()
            }))
        }

        async fn refresh(
            &self,
            _: Request<proto::RefreshRequest>,
        ) -> Answer<proto::RefreshResponse> {
            Ok(Response::new(proto::RefreshResponse {}))
        }

        async fn shutdown(
            &self,
            _: Request<proto::ShutdownRequest>,
        ) -> Answer<proto::ShutdownResponse> {
            self.0.cancel();
            Ok(Response::new(proto::ShutdownResponse {}))
        }

        async fn hand_over(
            &self,
            request: Request<proto::HandOverRequest>,
        ) -> Answer<proto::HandOverResponse> {
            if self.1 == Release::Before {
                return Err(Status::unimplemented("HandOver"));
            }
            let to = UnixStream::connect(request.into_inner().path).await?;
            let sockets =
                [0; 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().into());
            parcel::send(&to, &sockets).await?;
            Ok(Response::new(proto::HandOverResponse { sockets: 2 }))
        }
    }

    /// Serves until it is asked to shut down.
    pub(in crate::watchdog) fn serve(dir: &tempfile::TempDir, release: Release) -> PathBuf {
        let socket = dir.path().join("tunnel.sock");
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let stop = CancellationToken::new();
        let relay = proto::relay_server::RelayServer::new(Refusing(stop.clone(), release));
        let server = tonic::transport::Server::builder().add_service(relay);
        tokio::spawn(server.serve_with_incoming_shutdown(listener, stop.cancelled_owned()));
        socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::fake::spec;

    #[tokio::test]
    async fn what_the_process_answers_arrives_and_what_it_leaves_out_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let relay = GrpcRelay::new(&served::serve(&dir, served::Release::This), None).unwrap();
        let endpoint = SocketAddrV4::new([127, 0, 1, 1].into(), 12049);
        assert_eq!(relay.status().await.unwrap(), [endpoint]);
        let refusal = relay.open(&spec("nas"), endpoint, None).await.unwrap_err();
        assert_eq!(refusal.to_string(), "address taken");
        relay.close(endpoint).await.unwrap();
        assert!(matches!(relay.probe(&spec("nas")).await, Err(RelayError::Malformed(_))));
    }

    #[tokio::test]
    async fn a_process_that_is_not_there_is_unavailable() {
        let relay = GrpcRelay::new(Path::new("/nonexistent/tunnel.sock"), None).unwrap();
        assert!(matches!(relay.status().await, Err(RelayError::Unavailable(_))));
    }
}
