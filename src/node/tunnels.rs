//! Tunnels, as a node plugin sees them: something at the other end of a Unix socket that opens them.
//!
//! Which tunnels there are, and for whom, is the watchdog's to remember. Every call may be repeated.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tonic::transport::Uri;

use crate::host::net_namespace::NetNamespace;
use crate::model::TunnelSpec;
use crate::model::VolumeId;
use crate::node::deadline;
use crate::proto::tunnel as wire;
use crate::proto::tunnel::acquire_response::Outcome;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::proto::tunnel::tunnels_client::TunnelsClient;
use crate::runtime::request;
use crate::runtime::status_words;
use crate::tunnel::convert::kind_word;
use crate::tunnel::convert::spec_to_wire;

/// Opens tunnels and keeps them open for as long as somebody uses them.
#[async_trait]
pub trait Tunnels: Send + Sync + std::fmt::Debug {
    /// Has a tunnel opened for a user, and the mount target answer through it.
    ///
    /// # Errors
    /// Says why the mount target cannot be used. See [`TunnelFault::leaves_doubt`].
    async fn acquire(&self, spec: &TunnelSpec, user: &TunnelUser) -> Result<Acquired, TunnelFault>;

    /// Ends a use. One that is not known has ended.
    ///
    /// # Errors
    /// When the watchdog did not take note.
    async fn release(&self, volume: &VolumeId, staging_path: &Path) -> Result<(), TunnelFault>;

    /// Whether somebody is there, at once.
    ///
    /// # Errors
    /// When nobody is.
    async fn answers(&self) -> Result<(), TunnelFault>;
}

/// Who holds a tunnel open, and what for: a volume is in use the same way, or it is another use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelUser {
    /// The volume.
    pub volume: VolumeId,
    /// Where it is staged, as the kernel's mount table spells it.
    pub staging_path: PathBuf,
    /// The mount's source: `domain:/path`.
    pub source: String,
    /// The mount's options in canonical form.
    pub options: String,
}

/// An open tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// Where the kernel connects to.
    pub endpoint: SocketAddr,
    /// The address of the mount target that answered, where it is known.
    pub remote: Option<IpAddr>,
    /// The user held this tunnel before.
    pub already: bool,
}

/// Why there is no tunnel, or no answer about one.
#[derive(Debug, thiserror::Error)]
pub enum TunnelFault {
    /// The watchdog is not there, or ended the call.
    #[error(
        "the watchdog does not serve {socket:?} ({why}); check that the watchdog container of this pod runs and \
         shares the state directory"
    )]
    NoWatchdog {
        /// Where we called.
        socket: PathBuf,
        /// What the transport said.
        why: String,
    },
    /// The watchdog is there and silent.
    #[error(
        "the watchdog on {socket:?} did not answer within {} s; see the log of the watchdog container of this pod",
        .waited.as_secs()
    )]
    NoAnswer {
        /// Where we called.
        socket: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// A mount would not find its tunnels.
    #[error(
        "the watchdog on {socket:?} is in the network namespace {theirs} and this process in {ours}: a mount would not \
         find its tunnel; run both in the host's (hostNetwork: true in a pod)"
    )]
    OtherNetwork {
        /// Where we called.
        socket: PathBuf,
        /// The watchdog's.
        theirs: String,
        /// This process's.
        ours: String,
    },
    /// The watchdog answered what makes no sense.
    #[error("the watchdog answered {0}; the containers of this pod may be of different releases")]
    Senseless(String),
    /// The watchdog said why not. Its words are whole: what was tried, on what, and what to do.
    #[error("{message}")]
    Refused {
        /// What the caller's next move depends on.
        kind: Kind,
        /// For people.
        message: String,
    },
}

impl TunnelFault {
    /// Whether the call may have had an effect all the same.
    #[must_use]
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::NoWatchdog { .. }
            | Self::NoAnswer { .. }
            | Self::Senseless(_)
            | Self::OtherNetwork { .. } => true,
            Self::Refused { .. } => false,
        }
    }

    /// Its name in docs/messages.md, which never changes; none where it has none there.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        match self {
            Self::NoWatchdog { .. } | Self::NoAnswer { .. } | Self::Senseless(_) => {
                Some(kind_word(Kind::TunnelUnavailable))
            }
            Self::OtherNetwork { .. } | Self::Refused { kind: Kind::Unspecified, .. } => None,
            Self::Refused { kind, .. } => Some(kind_word(*kind)),
        }
    }
}

/// Sends along for which request a call is made.
type PassOn = fn(Request<()>) -> Result<Request<()>, Status>;
type WithRequest = InterceptedService<Channel, PassOn>;

/// The watchdog, called over its Unix socket. Connects when first needed, and again after it went away.
#[derive(Clone, Debug)]
pub struct WatchdogTunnels {
    socket: PathBuf,
    client: TunnelsClient<WithRequest>,
}

impl WatchdogTunnels {
    /// Does not connect yet, so it does not matter which container of the pod starts first. Must be called
    /// within a tokio runtime.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        let path = socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The URI is a form that HTTP/2 wants; the connector above decides where to.
        let channel = Endpoint::from_static("http://watchdog").connect_with_connector_lazy(connect);
        let pass_on: PassOn = request::pass_on;
        Self { socket, client: TunnelsClient::with_interceptor(channel, pass_on) }
    }

    /// Where either side does not know its namespace, nothing is concluded.
    fn same_network(&self, theirs: &str) -> Result<(), TunnelFault> {
        match NetNamespace::own() {
            Ok(ours) if !theirs.is_empty() && ours.as_str() != theirs => {
                let (theirs, ours) = (theirs.to_owned(), ours.to_string());
                Err(TunnelFault::OtherNetwork { socket: self.socket.clone(), theirs, ours })
            }
            _ => Ok(()),
        }
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
    ) -> Result<T, TunnelFault> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(TunnelFault::NoWatchdog {
                socket: self.socket.clone(),
                why: status_words(&status),
            }),
            Err(_) => Err(TunnelFault::NoAnswer { socket: self.socket.clone(), waited: deadline }),
        }
    }
}

#[async_trait]
impl Tunnels for WatchdogTunnels {
    async fn acquire(&self, spec: &TunnelSpec, user: &TunnelUser) -> Result<Acquired, TunnelFault> {
        let request =
            wire::AcquireRequest { spec: Some(spec_to_wire(spec)), user: Some(user_on_wire(user)) };
        let mut client = self.client.clone();
        let answer = self.within(deadline::ACQUIRE, client.acquire(request)).await?;
        match answer.outcome {
            Some(Outcome::Acquired(acquired)) => {
                self.same_network(&acquired.network_namespace)?;
                acquired_from_wire(&acquired)
            }
            Some(Outcome::Failure(failure)) => Err(TunnelFault::Refused {
                kind: failure.kind(),
                message: said(failure.message, failure.kind),
            }),
            None => Err(TunnelFault::Senseless("neither a tunnel nor a failure".to_owned())),
        }
    }

    async fn release(&self, volume: &VolumeId, staging_path: &Path) -> Result<(), TunnelFault> {
        let request = wire::ReleaseRequest {
            volume_id: volume.to_string(),
            staging_path: staging_path.display().to_string(),
        };
        let mut client = self.client.clone();
        self.within(deadline::RELEASE, client.release(request)).await.map(|_| ())
    }

    async fn answers(&self) -> Result<(), TunnelFault> {
        let mut client = self.client.clone();
        let listed =
            self.within(deadline::PROBE, client.list(wire::ListRequest::default())).await?;
        self.same_network(&listed.network_namespace)
    }
}

fn user_on_wire(user: &TunnelUser) -> wire::TunnelUser {
    wire::TunnelUser {
        volume_id: user.volume.to_string(),
        staging_path: user.staging_path.display().to_string(),
        source: user.source.clone(),
        options: user.options.clone(),
    }
}

/// The kernel is told to connect to nothing but a loopback address: anything else would go out in the clear.
fn acquired_from_wire(acquired: &wire::Acquired) -> Result<Acquired, TunnelFault> {
    let endpoint = acquired.endpoint.clone().unwrap_or_default();
    let address: Option<IpAddr> = endpoint.address.parse().ok().filter(IpAddr::is_loopback);
    let port = u16::try_from(endpoint.port).ok().filter(|port| *port != 0);
    let (Some(address), Some(port)) = (address, port) else {
        return Err(TunnelFault::Senseless(format!(
            "{}:{} as the local end of a tunnel",
            endpoint.address, endpoint.port
        )));
    };
    let remote = acquired.report.as_ref().and_then(|report| report.remote_address.parse().ok());
    Ok(Acquired {
        endpoint: SocketAddr::new(address, port),
        remote: remote.map(|remote: SocketAddr| remote.ip()),
        already: acquired.already,
    })
}

fn said(message: String, kind: i32) -> String {
    if message.is_empty() { format!("the watchdog refused (kind {kind})") } else { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquired(address: &str, port: u32) -> wire::Acquired {
        let endpoint = Some(wire::LocalEndpoint { address: address.to_owned(), port });
        let report = Some(wire::ProbeReport {
            remote_address: "192.0.2.7:2049".to_owned(),
            ..wire::ProbeReport::default()
        });
        wire::Acquired { endpoint, report, already: true, ..wire::Acquired::default() }
    }

    #[tokio::test]
    async fn a_watchdog_that_is_not_there_is_named_with_its_socket_and_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let tunnels = WatchdogTunnels::at(home.path().join("watchdog.sock"));
        let fault = tunnels.answers().await.unwrap_err();
        assert!(fault.leaves_doubt());
        let text = fault.to_string();
        for words in ["watchdog.sock", "No such file or directory", "container"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_that_is_silent_is_left_at_the_deadline() {
        let tunnels = WatchdogTunnels::at(PathBuf::from("/x.sock"));
        let fault =
            tunnels.within::<()>(deadline::ACQUIRE, std::future::pending()).await.unwrap_err();
        assert_eq!(
            fault.to_string(),
            "the watchdog on \"/x.sock\" did not answer within 30 s; see the log of the watchdog container of this pod"
        );
    }

    #[tokio::test]
    async fn a_watchdog_in_another_network_namespace_is_refused_by_its_name() {
        let tunnels = WatchdogTunnels::at(PathBuf::from("/x.sock"));
        let own = NetNamespace::own().unwrap();
        for theirs in ["", own.as_str()] {
            tunnels.same_network(theirs).unwrap();
        }
        let fault = tunnels.same_network("net:[1]").unwrap_err();
        assert!(fault.leaves_doubt(), "the tunnel is held");
        let text = fault.to_string();
        assert!(text.contains("net:[1]") && text.contains(own.as_str()), "{text}");
    }

    #[test]
    fn an_open_tunnel_is_read_with_the_address_that_answered() {
        let read = acquired_from_wire(&acquired("127.0.1.1", 12049)).unwrap();
        assert_eq!(read.endpoint.to_string(), "127.0.1.1:12049");
        assert_eq!(read.remote, Some("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn a_local_end_that_is_not_local_is_never_mounted() {
        for (address, port) in
            [("192.0.2.7", 2049), ("", 1), ("127.0.1.1", 0), ("127.0.1.1", 65536)]
        {
            let fault = acquired_from_wire(&acquired(address, port)).unwrap_err();
            assert!(matches!(fault, TunnelFault::Senseless(_)), "{address}:{port}");
        }
    }
}
