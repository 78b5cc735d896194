//! The `Relay` service on its Unix socket: what the watchdog asks of a tunnel process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Server;

use crate::host::parcel;
use crate::proto::tunnel::CloseRequest;
use crate::proto::tunnel::CloseResponse;
use crate::proto::tunnel::HandOverRequest;
use crate::proto::tunnel::HandOverResponse;
use crate::proto::tunnel::OpenRequest;
use crate::proto::tunnel::OpenResponse;
use crate::proto::tunnel::ProbeRequest;
use crate::proto::tunnel::ProbeResponse;
use crate::proto::tunnel::RefreshRequest;
use crate::proto::tunnel::RefreshResponse;
use crate::proto::tunnel::ShutdownRequest;
use crate::proto::tunnel::ShutdownResponse;
use crate::proto::tunnel::StatusRequest;
use crate::proto::tunnel::StatusResponse;
use crate::proto::tunnel::TunnelFailure;
use crate::proto::tunnel::probe_response::Outcome;
use crate::proto::tunnel::relay_server::Relay;
use crate::proto::tunnel::relay_server::RelayServer;
use crate::runtime::LogSwitch;
use crate::runtime::Requests;
use crate::runtime::request;
use crate::runtime::request::Field;
use crate::runtime::request_layer::SET_LOG;
use crate::runtime::request_layer::Weight;
use crate::tls::fips;
use crate::tunnel::convert::WireError;
use crate::tunnel::convert::endpoint_from_wire;
use crate::tunnel::convert::spec_from_wire;
use crate::tunnel::door::Door;
use crate::tunnel::process::OpenFault;
use crate::tunnel::process::TunnelProcess;

/// For a socket that was sent before the call that needs it.
const GIVEN_DEADLINE: Duration = Duration::from_secs(2);
/// For all sockets, to a watchdog that is waiting for them.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);

/// Answers for a tunnel process.
#[derive(Debug)]
pub struct RelayService {
    process: Arc<TunnelProcess>,
    /// The grace that a caller of Shutdown gave.
    shutdown: watch::Sender<Option<Duration>>,
}

impl RelayService {
    /// A service, and the news of a call to Shutdown.
    #[must_use]
    pub fn new(process: Arc<TunnelProcess>) -> (Self, watch::Receiver<Option<Duration>>) {
        let (shutdown, asked) = watch::channel(None);
        (Self { process, shutdown }, asked)
    }

    /// Serves whoever comes in at `door`, until dropped. `log` is what the process says.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn serve(self, door: Door, log: LogSwitch) -> Result<(), tonic::transport::Error> {
        Server::builder()
            .layer(Requests::by(rule))
            .add_service(RelayServer::new(self))
            .add_service(log.service())
            .serve_with_incoming(door.connections())
            .await
    }
}

/// What a call is called in the log, and how much it matters.
fn rule(path: &str) -> (&'static str, Weight) {
    match path {
        "/alinas.tunnel.v1.Relay/Open" => ("Open", Weight::Change),
        "/alinas.tunnel.v1.Relay/Close" => ("Close", Weight::Change),
        "/alinas.tunnel.v1.Relay/Refresh" => ("Refresh", Weight::Change),
        "/alinas.tunnel.v1.Relay/Shutdown" => ("Shutdown", Weight::Change),
        "/alinas.tunnel.v1.Relay/HandOver" => ("HandOver", Weight::Change),
        "/alinas.tunnel.v1.Relay/Probe" => ("Probe", Weight::Question),
        "/alinas.tunnel.v1.Relay/Status" => ("Status", Weight::Heartbeat),
        path if path == SET_LOG.0 => SET_LOG.1,
        _ => ("other", Weight::Question),
    }
}

impl RelayService {
    /// The search for who has an address keeps no other call waiting.
    async fn named(&self, fault: OpenFault) -> Result<TunnelFailure, Status> {
        let process = Arc::clone(&self.process);
        let naming = tokio::task::spawn_blocking(move || process.named(fault));
        let fault = naming.await.map_err(|panicked| Status::internal(panicked.to_string()))?;
        Ok(TunnelFailure::from(&fault))
    }
}

#[tonic::async_trait]
impl Relay for RelayService {
    async fn open(&self, request: Request<OpenRequest>) -> Result<Response<OpenResponse>, Status> {
        let request = request.into_inner();
        let spec = spec_from_wire(request.spec).map_err(refused)?;
        let address = endpoint_from_wire(request.endpoint).map_err(refused)?;
        request::note(Field::TunnelTarget, &spec.to_string());
        request::note(Field::TunnelAddress, &address.ip().to_string());
        if request.socket_given && !self.process.given().arrival(address, GIVEN_DEADLINE).await {
            let why = format!("the socket for {address} did not come; try again");
            return Err(Status::unavailable(why));
        }
        let failure = match self.process.ensure_open(&spec, address) {
            Ok(_) => None,
            Err(fault) => Some(self.named(fault).await?),
        };
        Ok(Response::new(OpenResponse { failure }))
    }

    async fn close(
        &self,
        request: Request<CloseRequest>,
    ) -> Result<Response<CloseResponse>, Status> {
        let address = endpoint_from_wire(request.into_inner().endpoint).map_err(refused)?;
        request::note(Field::TunnelAddress, &address.ip().to_string());
        self.process.ensure_closed(address).await;
        Ok(Response::new(CloseResponse {}))
    }

    async fn probe(
        &self,
        request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        let spec = spec_from_wire(request.into_inner().spec).map_err(refused)?;
        request::note(Field::TunnelTarget, &spec.to_string());
        let outcome = match self.process.dialer().probe(&spec).await {
            Ok(report) => {
                tracing::debug!(
                    remote = report.remote_address,
                    ms = report.total_micros / 1000,
                    "answered"
                );
                Outcome::Report(report)
            }
            Err(fault) => {
                tracing::debug!(error = %fault, "no answer");
                Outcome::Failure(TunnelFailure::from(&fault))
            }
        };
        Ok(Response::new(ProbeResponse { outcome: Some(outcome) }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let fips = fips::in_force();
        let buffer_bytes = self.process.buffers().bytes() as u64;
        let listeners = self.process.status();
        Ok(Response::new(StatusResponse { listeners, fips, buffer_bytes }))
    }

    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> Result<Response<RefreshResponse>, Status> {
        let spec = spec_from_wire(request.into_inner().spec).map_err(refused)?;
        request::note(Field::TunnelTarget, &spec.to_string());
        self.process.dialer().forget(&spec);
        Ok(Response::new(RefreshResponse {}))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        self.process.stop_listening().await;
        let grace = Duration::from_millis(request.into_inner().grace_millis);
        self.shutdown.send_replace(Some(grace));
        Ok(Response::new(ShutdownResponse {}))
    }

    async fn hand_over(
        &self,
        request: Request<HandOverRequest>,
    ) -> Result<Response<HandOverResponse>, Status> {
        let path = request.into_inner().path;
        let sockets = async {
            let sockets = self.process.listening_sockets()?;
            parcel::send(&UnixStream::connect(&path).await?, &sockets).await?;
            io::Result::Ok(sockets.len())
        };
        let sent = timeout(HAND_OVER_DEADLINE, sockets).await.map_err(io::Error::from).flatten();
        let sent =
            sent.map_err(|error| Status::internal(format!("failed to send sockets: {error}")))?;
        tracing::info!(sockets = sent, "another watchdog has descriptors of the sockets now");
        Ok(Response::new(HandOverResponse { sockets: u32::try_from(sent).unwrap_or(u32::MAX) }))
    }
}

fn refused(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}
