//! From a mount target's name to a TLS session with it.
//!
//! ```text
//! resolve -> each known port -> each address -> rustls -> (nothing in common) -> OpenSSL
//! ```
//!
//! LONG: a quarter of it are tests; the order in which things are tried is one thought.
//!
//! What was found out is remembered, so that only the first dial pays for it: the port that speaks TLS, and
//! that a server needs the second backend. Plain text is nowhere among the things that are tried.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::model::RemotePort;
use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::model::tls_policy::TlsBackend;
use crate::model::tls_policy::TlsVersion;
use crate::tls::ClientCertificates;
use crate::tls::Negotiated;
use crate::tls::Session;
use crate::tls::TlsFault;
use crate::tls::Trust;
use crate::tls::client_certificate::Presenter;
use crate::tls::fips;
use crate::tls::session::Agreed;
use crate::tls::session::Beginning;
use crate::tls::session::Handshake;
use crate::tls::session::Library;
use crate::tunnel::connect::Untried;
use crate::tunnel::connect::connect;
pub use crate::tunnel::dial_fault::DialFault;
use crate::tunnel::ocsp;
use crate::tunnel::resolve::Addresses;
use crate::tunnel::resolve::Names;
use crate::tunnel::resolve::SystemNames;

pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// For all ports and addresses together.
pub(super) const DIAL_DEADLINE: Duration = Duration::from_secs(15);
/// After this a server that needed the second backend is tried with rustls again: it may have been renewed.
const SECOND_BACKEND_FOR: Duration = Duration::from_secs(3600);

/// Opens TLS sessions.
#[derive(Clone, Debug)]
pub struct Dialer {
    trust: Arc<Trust>,
    clients: Arc<ClientCertificates>,
    memory: Arc<Memory>,
}

/// How one dial is done.
#[derive(Clone, Copy, Debug)]
struct Attempt<'a> {
    beginning: Beginning,
    client: &'a Arc<Presenter>,
}

/// What earlier dials have found out.
#[derive(Debug)]
struct Memory {
    addresses: Addresses,
    ports: Mutex<HashMap<ServerName, u16>>,
    second_backend: Mutex<HashMap<TunnelSpec, Instant>>,
}

/// A session, and with whom.
#[derive(Debug)]
pub struct Dialled {
    /// Verified, ready for NFS.
    pub session: Session<TcpStream>,
    /// The address that answered.
    pub remote: SocketAddr,
    /// What was agreed on.
    pub negotiated: Negotiated,
    /// How long the handshake took.
    pub took: Duration,
}

impl Dialer {
    /// A dialler that trusts as `trust` does at the time of each dial.
    #[must_use]
    pub fn new(trust: Arc<Trust>) -> Self {
        Self::with_names(trust, Arc::new(SystemNames))
    }

    /// As [`Self::new`], with another resolver.
    #[must_use]
    pub fn with_names(trust: Arc<Trust>, names: Arc<dyn Names>) -> Self {
        let memory = Memory {
            addresses: Addresses::new(names),
            ports: Mutex::default(),
            second_backend: Mutex::default(),
        };
        Self { trust, clients: Arc::default(), memory: Arc::new(memory) }
    }

    /// The same dialler, with client certificates from elsewhere.
    #[must_use]
    pub fn with_clients(self, clients: Arc<ClientCertificates>) -> Self {
        Self { clients, ..self }
    }

    /// The client certificates that it shows.
    #[must_use]
    pub fn clients(&self) -> &ClientCertificates {
        &self.clients
    }

    /// Resolves, connects and shakes hands; a session is resumed where that is possible.
    ///
    /// # Errors
    /// The fault of the last address, where none would do.
    pub async fn dial(&self, spec: &TunnelSpec) -> Result<Dialled, DialFault> {
        self.dial_as(spec, Beginning::ResumeIfPossible).await
    }

    /// As [`Self::dial`], but the server is made to show its certificate.
    ///
    /// # Errors
    /// The fault of the last address, where none would do.
    pub async fn dial_anew(&self, spec: &TunnelSpec) -> Result<Dialled, DialFault> {
        self.dial_as(spec, Beginning::Anew).await
    }

    /// Forgets what earlier dials have found out about the server of `spec`.
    pub fn forget(&self, spec: &TunnelSpec) {
        self.memory.addresses.forget(&spec.host);
        self.memory.ports().remove(&spec.host);
        self.memory.second_backends().remove(spec);
    }

    async fn dial_as(&self, spec: &TunnelSpec, beginning: Beginning) -> Result<Dialled, DialFault> {
        let subject = spec.client();
        let unknown = |fault| DialFault::Client { target: spec.clone(), source: Box::new(fault) };
        let client = self.clients.at_hand(&subject).await.map_err(unknown)?;
        let outcome = self.dial_once(spec, Attempt { beginning, client: &client }).await;
        if !client.was_lacking() {
            return outcome;
        }
        // This server wants to know who we are. Even where it has let nobody in, we are somebody.
        drop(outcome);
        let client = self.clients.current(&subject).await.map_err(unknown)?;
        self.dial_once(spec, Attempt { beginning, client: &client }).await
    }

    async fn dial_once(
        &self,
        spec: &TunnelSpec,
        attempt: Attempt<'_>,
    ) -> Result<Dialled, DialFault> {
        timeout(DIAL_DEADLINE, self.try_ports(spec, attempt))
            .await
            .unwrap_or_else(|_| Err(DialFault::OutOfTime { target: spec.clone() }))
    }

    async fn try_ports(
        &self,
        spec: &TunnelSpec,
        attempt: Attempt<'_>,
    ) -> Result<Dialled, DialFault> {
        let mut ports = spec.port.candidates().to_vec();
        let remembered = self.memory.port(&spec.host);
        ports.sort_by_key(|port| remembered != Some(*port));
        let mut first = None;
        for port in ports {
            let fault = match self.try_addresses(spec, port, attempt).await {
                Ok(dialled) => {
                    self.memory.note_port(spec, port);
                    return Ok(dialled);
                }
                Err(fault) if spec.port == RemotePort::Known && fault.may_be_the_port() => fault,
                Err(fault) => return Err(fault),
            };
            first = match first {
                None => Some(fault),
                Some(first) => {
                    let (first, other) = (Box::new(first), Box::new(fault));
                    return Err(DialFault::NeitherPort { first, other });
                }
            };
        }
        Err(first.unwrap_or_else(|| DialFault::NoAddress { host: spec.host.clone() }))
    }

    async fn try_addresses(
        &self,
        spec: &TunnelSpec,
        port: u16,
        attempt: Attempt<'_>,
    ) -> Result<Dialled, DialFault> {
        let mut untried = Untried::new(&self.memory.addresses.of(&spec.host).await?, port);
        let mut refused = None;
        loop {
            // Somebody who answers and is not the server tells more than somebody who does not answer.
            let (stream, address) = match (untried.connect(spec).await, refused) {
                (Ok(connected), _) => connected,
                (Err(_), Some(fault)) | (Err(fault), None) => return Err(fault),
            };
            match self.secure(spec, address, stream, attempt).await {
                Ok(dialled) => return Ok(dialled),
                Err(fault) if untried.is_empty() => return Err(fault),
                Err(fault) => refused = Some(fault),
            }
        }
    }

    /// A session over a connection, or over a second one to the same address by the second backend.
    async fn secure(
        &self,
        spec: &TunnelSpec,
        address: SocketAddr,
        stream: TcpStream,
        attempt: Attempt<'_>,
    ) -> Result<Dialled, DialFault> {
        let library = self.memory.library(spec);
        let fault = match self.shake_hands(spec, address, stream, library, attempt).await {
            Ok(dialled) => return Ok(dialled),
            Err(fault) => fault,
        };
        let another = library == Library::Rustls
            && fault.nothing_in_common()
            && !fips::BUILT_IN
            && !attempt.client.was_lacking()
            && spec.policy.backend == TlsBackend::Auto
            && spec.policy.least_version == TlsVersion::V1_2;
        if !another {
            return Err(fault);
        }
        let stream = connect(spec, address).await?;
        match self.shake_hands(spec, address, stream, Library::OpenSsl, attempt).await {
            Ok(dialled) => {
                self.memory.note_second_backend(spec);
                Ok(dialled)
            }
            Err(second) if knows_the_certificate(&second) => Err(second),
            Err(_) => Err(fault),
        }
    }

    async fn shake_hands(
        &self,
        spec: &TunnelSpec,
        remote: SocketAddr,
        stream: TcpStream,
        library: Library,
        Attempt { beginning, client }: Attempt<'_>,
    ) -> Result<Dialled, DialFault> {
        let (policy, name) = (&spec.policy, &spec.server_name);
        let handshake = Handshake { policy, name, library, beginning, client };
        let began = Instant::now();
        let Agreed { session, mut negotiated, question } =
            self.agree(spec, remote, stream, handshake).await?;
        let took = began.elapsed();
        if let Some(question) = question {
            negotiated.revocation = ocsp::ask(question).await.map_err(|fault| DialFault::Tls {
                target: spec.clone(),
                address: remote,
                source: Box::new(fault),
            })?;
        }
        Ok(Dialled { session, remote, negotiated, took })
    }

    async fn agree<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        spec: &TunnelSpec,
        address: SocketAddr,
        stream: S,
        handshake: Handshake<'_>,
    ) -> Result<Agreed<S>, DialFault> {
        let target = spec.clone();
        match timeout(HANDSHAKE_DEADLINE, self.trust.shake_hands(handshake, stream)).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(fault)) => Err(DialFault::Tls { target, address, source: Box::new(fault) }),
            Err(_) => Err(DialFault::HandshakeTimeout { target, address }),
        }
    }
}

/// A refusal of the certificate says more than "nothing in common".
fn knows_the_certificate(fault: &DialFault) -> bool {
    let DialFault::Tls { source, .. } = fault else { return false };
    matches!(
        **source,
        TlsFault::Untrusted { .. }
            | TlsFault::WrongName { .. }
            | TlsFault::Expired { .. }
            | TlsFault::NotYetValid { .. }
            | TlsFault::BadCertificate { .. }
            | TlsFault::Revoked { .. }
    )
}

impl Memory {
    fn ports(&self) -> MutexGuard<'_, HashMap<ServerName, u16>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn second_backends(&self) -> MutexGuard<'_, HashMap<TunnelSpec, Instant>> {
        self.second_backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn port(&self, host: &ServerName) -> Option<u16> {
        self.ports().get(host).copied()
    }

    fn note_port(&self, spec: &TunnelSpec, port: u16) {
        if spec.port == RemotePort::Known
            && self.ports().insert(spec.host.clone(), port) != Some(port)
        {
            tracing::info!(tunnel.target = %spec, port, "this port of the mount target speaks TLS");
        }
    }

    fn library(&self, spec: &TunnelSpec) -> Library {
        match spec.policy.backend {
            TlsBackend::Rustls => Library::Rustls,
            TlsBackend::OpenSsl => Library::OpenSsl,
            TlsBackend::Auto => {
                let mut known = self.second_backends();
                known.retain(|_, since| since.elapsed() < SECOND_BACKEND_FOR);
                if known.contains_key(spec) { Library::OpenSsl } else { Library::Rustls }
            }
        }
    }

    fn note_second_backend(&self, spec: &TunnelSpec) {
        self.second_backends().insert(spec.clone(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use crate::proto::tunnel::tunnel_failure::Kind;

    use super::*;

    fn spec(host: &str, port: RemotePort) -> TunnelSpec {
        TunnelSpec::to(ServerName::parse(host).unwrap(), port)
    }

    fn dialer() -> Dialer {
        Dialer::new(Arc::new(Trust::new(None).unwrap()))
    }

    async fn greet(stream: tokio::io::DuplexStream) -> DialFault {
        let spec = spec("nas.example.com", RemotePort::Known);
        let handshake = Handshake {
            policy: &spec.policy,
            name: &spec.server_name,
            library: Library::Rustls,
            beginning: Beginning::Anew,
            client: &Arc::default(),
        };
        let address = ([192, 0, 2, 7], 2049).into();
        dialer().agree(&spec, address, stream, handshake).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_closed_port_is_said_to_refuse() {
        let fault = dialer().dial(&spec("127.99.99.99", RemotePort::Only(1))).await.unwrap_err();
        assert_eq!(fault.kind(), Kind::ConnectionRefused);
        let said = "failed to connect to 127.99.99.99:1 at 127.99.99.99:1: connection refused";
        assert!(fault.to_string().starts_with(said), "{fault}");
    }

    #[tokio::test]
    async fn both_known_ports_are_named_where_neither_is_open() {
        let fault = dialer().dial(&spec("127.99.99.98", RemotePort::Known)).await.unwrap_err();
        assert_eq!(fault.kind(), Kind::ConnectionRefused);
        let text = fault.to_string();
        assert!(
            text.contains("127.99.99.98:2049") && text.contains("127.99.99.98:12049"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_the_greeting_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(4096);
        let fault = greet(ours).await;
        assert!(matches!(fault, DialFault::HandshakeTimeout { .. }), "{fault}");
        assert_eq!(fault.kind(), Kind::ConnectTimeout);
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_on_the_greeting_is_taken_for_one_without_tls() {
        let (ours, theirs) = tokio::io::duplex(4096);
        drop(theirs);
        let fault = greet(ours).await;
        assert!(matches!(fault.kind(), Kind::NotTls | Kind::HandshakeLost), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_backend_is_remembered_for_an_hour_and_never_used_where_it_is_forbidden() {
        let dialer = dialer();
        let spec = spec("nas.example.com", RemotePort::Known);
        dialer.memory.note_second_backend(&spec);
        assert_eq!(dialer.memory.library(&spec), Library::OpenSsl);
        let mut strict = spec.clone();
        strict.policy.backend = TlsBackend::Rustls;
        assert_eq!(dialer.memory.library(&strict), Library::Rustls);
        tokio::time::advance(SECOND_BACKEND_FOR).await;
        assert_eq!(dialer.memory.library(&spec), Library::Rustls);
        dialer.memory.note_second_backend(&spec);
        dialer.memory.note_port(&spec, 12049);
        dialer.forget(&spec);
        let known = (dialer.memory.library(&spec), dialer.memory.port(&spec.host));
        assert_eq!(known, (Library::Rustls, None));
    }
}
