//! The door for the node plugin: takes calls apart, puts answers together, decides nothing.
//!
//! The socket appears under its name only once it listens and belongs to us alone. One that an earlier watchdog
//! left behind is replaced in the same moment.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::host::net_namespace::NetNamespace;
use crate::model::TunnelSpec;
use crate::proto::tunnel as proto;
use crate::proto::tunnel::acquire_response::Outcome;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::proto::tunnel::tunnels_server::TunnelsServer;
use crate::runtime::Chain;
use crate::runtime::LogSwitch;
use crate::runtime::Requests;
use crate::runtime::request;
use crate::runtime::request::Field;
use crate::runtime::request_layer::SET_LOG;
use crate::runtime::request_layer::Weight;
use crate::tunnel::convert::spec_from_wire;
use crate::watchdog::record::User;
use crate::watchdog::relay::endpoint_to_wire;
use crate::watchdog::report;
use crate::watchdog::tunnels::AcquireError;
use crate::watchdog::tunnels::Acquired;
use crate::watchdog::tunnels::ReleaseError;
use crate::watchdog::tunnels::Tunnels;

/// At the end: how long calls that are under way may take.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Why the service could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket could not be made.
    #[error("failed to listen on {socket:?}")]
    Listen {
        /// Its path.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("failed to serve the tunnel service")]
    Serve(#[from] tonic::transport::Error),
}

/// Makes the socket. From here on callers may connect; they are answered by [`serve`].
///
/// # Errors
/// Names the socket.
pub fn listen(socket: &Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Listen { socket: socket.to_owned(), source };
    let unfinished = socket.with_extension("unfinished");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&unfinished).map_err(failed)?;
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o600))
        .map_err(failed)?;
    std::fs::rename(&unfinished, socket).map_err(failed)?;
    Ok(listener)
}

/// Serves until `stop`, then lets calls that are under way end, within [`DRAIN_DEADLINE`]. `log` is what this process
/// says.
///
/// # Errors
/// When the server ends by itself.
pub async fn serve(
    listener: UnixListener,
    tunnels: Arc<Tunnels>,
    log: LogSwitch,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let server = tonic::transport::Server::builder()
        .layer(Requests::by(rule))
        .add_service(TunnelsServer::new(Service { tunnels }))
        .add_service(log.service())
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
    let cut = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_DEADLINE).await;
    };
    tokio::select! {
        ended = server => Ok(ended?),
        () = cut => {
            tracing::warn!("calls were still under way at the end and were cut");
            Ok(())
        }
    }
}

/// What a call is called in the log, and how much it matters.
fn rule(path: &str) -> (&'static str, Weight) {
    match path {
        "/alinas.tunnel.v1.Tunnels/Acquire" => ("Acquire", Weight::Change),
        "/alinas.tunnel.v1.Tunnels/Release" => ("Release", Weight::Change),
        "/alinas.tunnel.v1.Tunnels/Yield" => ("Yield", Weight::Change),
        "/alinas.tunnel.v1.Tunnels/List" => ("List", Weight::Question),
        path if path == SET_LOG.0 => SET_LOG.1,
        _ => ("other", Weight::Question),
    }
}

#[derive(Debug)]
struct Service {
    tunnels: Arc<Tunnels>,
}

#[tonic::async_trait]
impl proto::tunnels_server::Tunnels for Service {
    async fn acquire(
        &self,
        request: Request<proto::AcquireRequest>,
    ) -> Result<Response<proto::AcquireResponse>, Status> {
        let (spec, user) = acquire_request(request.into_inner())?;
        request::note(Field::VolumeId, &user.volume_id);
        request::note(Field::MountSource, &user.source);
        request::note(Field::MountTarget, &user.staging_path);
        request::note(Field::TunnelTarget, &spec.to_string());
        let tunnels = Arc::clone(&self.tunnels);
        // In a task of its own: a caller that hangs up must not leave half a tunnel behind.
        let work = async move { tunnels.acquire(spec, user).await };
        let work = tokio::spawn(request::carried(work));
        let outcome = match work.await.map_err(|error| Status::internal(error.to_string()))? {
            Ok(acquired) => {
                request::note(Field::TunnelAddress, &acquired.endpoint.ip().to_string());
                Outcome::Acquired(acquired_to_wire(acquired))
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "Acquire failed");
                Outcome::Failure(acquire_failed(error)?)
            }
        };
        Ok(Response::new(proto::AcquireResponse { outcome: Some(outcome) }))
    }

    async fn release(
        &self,
        request: Request<proto::ReleaseRequest>,
    ) -> Result<Response<proto::ReleaseResponse>, Status> {
        let proto::ReleaseRequest { volume_id, staging_path } = request.into_inner();
        request::note(Field::VolumeId, &volume_id);
        request::note(Field::MountTarget, &staging_path);
        let released = self.tunnels.release(&volume_id, &staging_path);
        released.map_err(|error| {
            tracing::warn!(error = %Chain(&error), "Release failed");
            release_failed(&error)
        })?;
        Ok(Response::new(proto::ReleaseResponse {}))
    }

    async fn r#yield(
        &self,
        _: Request<proto::YieldRequest>,
    ) -> Result<Response<proto::YieldResponse>, Status> {
        Ok(Response::new(proto::YieldResponse { agreed: self.tunnels.make_way() }))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        Ok(Response::new(match request.into_inner().listeners {
            true => report::with_listeners(&self.tunnels).await,
            false => report::recorded(&self.tunnels),
        }))
    }
}

fn acquire_request(request: proto::AcquireRequest) -> Result<(TunnelSpec, User), Status> {
    let spec = request.spec.ok_or_else(|| Status::invalid_argument("spec is missing"))?;
    let user = request.user.ok_or_else(|| Status::invalid_argument("user is missing"))?;
    if user.volume_id.is_empty() || user.staging_path.is_empty() {
        return Err(Status::invalid_argument("user must have a volume_id and a staging_path"));
    }
    let spec =
        spec_from_wire(Some(spec)).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let proto::TunnelUser { volume_id, staging_path, source, options } = user;
    Ok((spec, User { volume_id, staging_path, source, options }))
}

fn acquired_to_wire(acquired: Acquired) -> proto::Acquired {
    proto::Acquired {
        endpoint: Some(endpoint_to_wire(acquired.endpoint)),
        report: Some(acquired.report),
        already: acquired.already,
        network_namespace: NetNamespace::own().map(|own| own.to_string()).unwrap_or_default(),
    }
}

/// A failure that the caller is told in the answer, or a status where the call itself should be made again.
fn acquire_failed(error: AcquireError) -> Result<proto::TunnelFailure, Status> {
    let kind = match &error {
        AcquireError::Busy(_) => return Err(Status::aborted(error.to_string())),
        AcquireError::Refused(failure) => return Ok(failure.clone()),
        AcquireError::UserDiffers { .. } => Kind::UserDiffers,
        AcquireError::OutOfAddresses => Kind::OutOfAddresses,
        AcquireError::Unwritable { .. } => Kind::StateUnwritable,
        AcquireError::KernelUnreadable(_)
        | AcquireError::Unavailable { .. }
        | AcquireError::NoAnswer(_) => Kind::TunnelUnavailable,
    };
    Ok(proto::TunnelFailure { kind: kind.into(), message: Chain(&error).to_string() })
}

fn release_failed(error: &ReleaseError) -> Status {
    match error {
        ReleaseError::Busy(_) => Status::aborted(error.to_string()),
        ReleaseError::Unwritable(_) => Status::internal(Chain(error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tunnel::tunnels_client::TunnelsClient;
    use crate::runtime::InFlight;
    use crate::tunnel::convert::spec_to_wire;
    use crate::watchdog::fake::Node;
    use crate::watchdog::fake::spec;
    use crate::watchdog::fake::user;
    use tokio::time::timeout;

    #[test]
    fn each_error_of_acquire_has_its_kind() {
        let boxed = || Box::new(spec("nas"));
        let refusal = proto::TunnelFailure { kind: Kind::NotTls.into(), message: "no".to_owned() };
        let differs = AcquireError::UserDiffers {
            held: boxed(),
            held_by: Box::new(user(1)),
            wanted: boxed(),
            wanted_by: Box::new(user(1)),
        };
        let source = || io::Error::other("because");
        for (error, kind) in [
            (differs, Kind::UserDiffers),
            (AcquireError::KernelUnreadable(source()), Kind::TunnelUnavailable),
            (AcquireError::OutOfAddresses, Kind::OutOfAddresses),
            (
                AcquireError::Unwritable { file: "/f".into(), source: source() },
                Kind::StateUnwritable,
            ),
            (AcquireError::Refused(refusal), Kind::NotTls),
            (AcquireError::Unavailable { spec: boxed(), last: None }, Kind::TunnelUnavailable),
            (AcquireError::NoAnswer(boxed()), Kind::TunnelUnavailable),
        ] {
            assert_eq!(acquire_failed(error).unwrap().kind(), kind);
        }
    }

    #[test]
    fn a_busy_user_is_told_to_try_again() {
        let in_flight = InFlight::default();
        let _first = in_flight.begin("user").unwrap();
        let busy = || in_flight.begin("user").unwrap_err();
        assert_eq!(acquire_failed(busy().into()).unwrap_err().code(), tonic::Code::Aborted);
        assert_eq!(release_failed(&busy().into()).code(), tonic::Code::Aborted);
    }

    #[test]
    fn a_request_that_lacks_something_is_refused_by_its_name() {
        let good = || proto::AcquireRequest {
            spec: Some(spec_to_wire(&spec("nas"))),
            user: Some(proto::TunnelUser {
                volume_id: "v".to_owned(),
                staging_path: "/s".to_owned(),
                source: "nas:/".to_owned(),
                options: String::new(),
            }),
        };
        assert!(acquire_request(good()).is_ok());
        type Change = fn(&mut proto::AcquireRequest);
        let changes: [(Change, &str); 5] = [
            (|request| request.spec = None, "spec"),
            (|request| request.user = None, "user"),
            (|request| request.user.as_mut().unwrap().volume_id.clear(), "volume_id"),
            (|request| request.spec.as_mut().unwrap().port = 65536, "port"),
            (|request| request.spec.as_mut().unwrap().host.clear(), "host name"),
        ];
        for (change, word) in changes {
            let mut request = good();
            change(&mut request);
            let refusal = acquire_request(request).unwrap_err();
            assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
            assert!(refusal.message().contains(word), "{refusal}");
        }
    }

    #[tokio::test]
    async fn the_socket_is_ours_alone_and_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("watchdog.sock");
        drop(listen(&socket).unwrap());
        assert!(socket.exists());
        let _listener = listen(&socket).unwrap();
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        timeout(Duration::from_secs(1), tokio::net::UnixStream::connect(&socket))
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn a_node_plugin_acquires_lists_and_releases_over_the_socket() {
        let node = Node::new();
        let socket = node.dir.path().join("watchdog.sock");
        let stop = CancellationToken::new();
        let (tunnels, log) = (Arc::clone(&node.tunnels), LogSwitch::fixed("watchdog"));
        let served = tokio::spawn(serve(listen(&socket).unwrap(), tunnels, log, stop.clone()));
        let endpoint = format!("unix:{}", socket.display());
        let mut client = TunnelsClient::connect(endpoint).await.unwrap();

        let request = proto::AcquireRequest {
            spec: Some(spec_to_wire(&spec("nas"))),
            user: Some(proto::TunnelUser {
                volume_id: "v".to_owned(),
                staging_path: "/s".to_owned(),
                ..proto::TunnelUser::default()
            }),
        };
        let outcome = client.acquire(request).await.unwrap().into_inner().outcome;
        let Some(Outcome::Acquired(acquired)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(acquired.endpoint.unwrap().address, "127.0.1.1");

        let release =
            || proto::ReleaseRequest { volume_id: "v".to_owned(), staging_path: "/s".to_owned() };
        for life in ["open", "closing"] {
            let listed = client.list(proto::ListRequest::default()).await.unwrap().into_inner();
            assert_eq!(listed.tunnels[0].life, life);
            client.release(release()).await.unwrap();
        }
        stop.cancel();
        timeout(DRAIN_DEADLINE, served).await.unwrap().unwrap().unwrap();
    }
}
