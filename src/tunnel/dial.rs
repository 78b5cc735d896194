//! From a mount target's name to a TLS session with it.
//!
//! The name is resolved at every dial, so that a mount target that moves is followed. Its addresses are tried in
//! the order of the resolver, one after the other.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::host::resolve;
use crate::host::resolve::ResolveFault;
use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::tls::Session;
use crate::tls::TlsFault;
use crate::tls::Trust;
use crate::tls::shake_hands;
use crate::tunnel::socket;

const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// For all addresses together.
const DIAL_DEADLINE: Duration = Duration::from_secs(15);

/// Opens TLS sessions.
#[derive(Clone, Debug)]
pub struct Dialer {
    trust: Arc<Trust>,
}

/// A session, and with whom.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TcpStream,
    /// The session on it: verified, ready for NFS.
    pub session: Session,
    /// The address that answered.
    pub remote: SocketAddr,
}

/// Why there is no session. The text says what was tried, on what, why it failed and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DialFault {
    /// The resolver says that there is no such name.
    #[error(
        "failed to resolve {host}: {source}; check the mount target's domain, and that this node's DNS \
         knows it (mount targets resolve only inside their VPC)"
    )]
    NameNotFound {
        /// The name.
        host: ServerName,
        /// The resolver's words.
        source: ResolveFault,
    },
    /// The name has no address.
    #[error("failed to resolve {host}: it has no address; check the mount target's domain")]
    NoAddress {
        /// The name.
        host: ServerName,
    },
    /// The resolver cannot say it now.
    #[error("failed to resolve {host}: {why}; check this node's DNS")]
    ResolverSilent {
        /// The name.
        host: ServerName,
        /// Its words, or that it has none.
        why: String,
    },
    /// Nobody listens there.
    #[error(
        "failed to connect to {target} at {address}: connection refused; check that the mount target is \
         active and that the port is right"
    )]
    Refused {
        /// The tunnel.
        target: TunnelSpec,
        /// The address.
        address: SocketAddr,
    },
    /// Nobody answers there.
    #[error(
        "failed to connect to {target} at {address} within {} s; check security groups, the mount target's \
         permission group, and that this node is in its VPC", CONNECT_DEADLINE.as_secs()
    )]
    Timeout {
        /// The tunnel.
        target: TunnelSpec,
        /// The address.
        address: SocketAddr,
    },
    /// The network says that it cannot be reached, or another errno.
    #[error(
        "failed to connect to {target} at {address}: {source}; check this node's routes to the mount target"
    )]
    NoRoute {
        /// The tunnel.
        target: TunnelSpec,
        /// The address.
        address: SocketAddr,
        /// The errno.
        source: io::Error,
    },
    /// Connected, but no session.
    #[error("failed to set up TLS with {target} at {address}: {source}")]
    Tls {
        /// The tunnel.
        target: TunnelSpec,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: Box<TlsFault>,
    },
    /// Connected, but the server does not answer the greeting.
    #[error(
        "failed to set up TLS with {target} at {address}: no answer within {} s; the server is overloaded, or \
         the port is not the one with encryption in transit", HANDSHAKE_DEADLINE.as_secs()
    )]
    HandshakeTimeout {
        /// The tunnel.
        target: TunnelSpec,
        /// The address.
        address: SocketAddr,
    },
    /// So many addresses that time ran out before all were tried.
    #[error("failed to reach {target} at any of its addresses within {} s", DIAL_DEADLINE.as_secs())]
    OutOfTime {
        /// The tunnel.
        target: TunnelSpec,
    },
}

impl DialFault {
    /// The word for it on the wire.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NameNotFound { .. } | Self::NoAddress { .. } | Self::ResolverSilent { .. } => {
                Kind::NameNotFound
            }
            Self::Refused { .. } => Kind::ConnectionRefused,
            Self::Timeout { .. } | Self::HandshakeTimeout { .. } | Self::OutOfTime { .. } => {
                Kind::ConnectTimeout
            }
            Self::NoRoute { .. } => Kind::NoRoute,
            Self::Tls { source, .. } => tls_kind(source),
        }
    }
}

fn tls_kind(fault: &TlsFault) -> Kind {
    match fault {
        TlsFault::NotTls | TlsFault::Closed => Kind::NotTls,
        TlsFault::HandshakeFailed { .. }
        | TlsFault::ClientRefused { .. }
        | TlsFault::UnusableName(_) => Kind::HandshakeFailed,
        TlsFault::Untrusted { .. } | TlsFault::BadCertificate { .. } => Kind::CertificateUntrusted,
        TlsFault::WrongName { .. } => Kind::CertificateWrongName,
        TlsFault::Expired { .. } => Kind::CertificateExpired,
        TlsFault::NotYetValid { .. } => Kind::CertificateNotYetValid,
        TlsFault::Lost(_) => Kind::ConnectionLost,
    }
}

impl Dialer {
    /// A dialler that trusts as `trust` does at the time of each dial.
    #[must_use]
    pub fn new(trust: Arc<Trust>) -> Self {
        Self { trust }
    }

    /// Resolves, connects and shakes hands.
    ///
    /// # Errors
    /// The fault of the last address, where none would do.
    pub async fn dial(&self, spec: &TunnelSpec) -> Result<Dialled, DialFault> {
        let addresses = addresses_of(spec).await?;
        let attempts = self.try_each(spec, &addresses);
        timeout(DIAL_DEADLINE, attempts)
            .await
            .unwrap_or_else(|_| Err(DialFault::OutOfTime { target: spec.clone() }))
    }

    async fn try_each(
        &self,
        spec: &TunnelSpec,
        addresses: &[SocketAddr],
    ) -> Result<Dialled, DialFault> {
        let mut last = DialFault::NoAddress { host: spec.host.clone() };
        for &address in addresses {
            match self.try_one(spec, address).await {
                Ok(dialled) => return Ok(dialled),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn try_one(&self, spec: &TunnelSpec, address: SocketAddr) -> Result<Dialled, DialFault> {
        let mut stream = connect(spec, address).await?;
        let session = self.shake_hands(spec, address, &mut stream).await?;
        Ok(Dialled { stream, session, remote: address })
    }

    async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        spec: &TunnelSpec,
        address: SocketAddr,
        stream: &mut S,
    ) -> Result<Session, DialFault> {
        let target = || spec.clone();
        let tls = |fault| DialFault::Tls { target: target(), address, source: Box::new(fault) };
        let name = certificate_name(&spec.server_name).map_err(tls)?;
        let handshake = shake_hands(self.trust.client_config(), name, stream);
        match timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(tls(TlsFault::explain(error, &spec.server_name))),
            Err(_) => Err(DialFault::HandshakeTimeout { target: target(), address }),
        }
    }
}

async fn addresses_of(spec: &TunnelSpec) -> Result<Vec<SocketAddr>, DialFault> {
    let host = spec.host.clone();
    match resolve::resolve(host.as_str(), None, RESOLVE_DEADLINE).await {
        Ok(addresses) => Ok(addresses.into_iter().map(|address| address.at(spec.port)).collect()),
        Err(ResolveFault::TryAgain(why)) => Err(DialFault::ResolverSilent { host, why }),
        Err(source) => Err(DialFault::NameNotFound { host, source }),
    }
}

async fn connect(spec: &TunnelSpec, address: SocketAddr) -> Result<TcpStream, DialFault> {
    let target = || spec.clone();
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        socket::prepare(&stream)?;
        Ok::<_, io::Error>(stream)
    };
    match timeout(CONNECT_DEADLINE, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => DialFault::Refused { target: target(), address },
            io::ErrorKind::TimedOut => DialFault::Timeout { target: target(), address },
            _ => DialFault::NoRoute { target: target(), address, source: error },
        }),
        Err(_) => Err(DialFault::Timeout { target: target(), address }),
    }
}

fn certificate_name(name: &ServerName) -> Result<pki_types::ServerName<'static>, TlsFault> {
    match name.address() {
        Some(IpAddr::V4(address)) => Ok(IpAddr::V4(address).into()),
        Some(IpAddr::V6(address)) => Ok(IpAddr::V6(address).into()),
        None => pki_types::ServerName::try_from(name.as_str().to_owned())
            .map_err(|_| TlsFault::UnusableName(name.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(host: &str, port: u16) -> TunnelSpec {
        let host = ServerName::parse(host).unwrap();
        TunnelSpec { server_name: host.clone(), host, port }
    }

    fn dialer() -> Dialer {
        Dialer::new(Arc::new(Trust::new(None).unwrap()))
    }

    #[tokio::test]
    async fn a_closed_port_is_said_to_refuse() {
        let fault = dialer().dial(&spec("127.99.99.99", 1)).await.unwrap_err();
        assert_eq!(fault.kind(), Kind::ConnectionRefused);
        let said = "failed to connect to 127.99.99.99:1 at 127.99.99.99:1: connection refused";
        assert!(fault.to_string().starts_with(said), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_the_greeting_is_given_up() {
        let (mut ours, _theirs) = tokio::io::duplex(4096);
        let address = ([192, 0, 2, 7], 2049).into();
        let spec = spec("nas.example.com", 2049);
        let fault = dialer().shake_hands(&spec, address, &mut ours).await.unwrap_err();
        assert!(matches!(fault, DialFault::HandshakeTimeout { .. }), "{fault}");
        assert_eq!(fault.kind(), Kind::ConnectTimeout);
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_on_the_greeting_is_taken_for_one_without_tls() {
        let (mut ours, theirs) = tokio::io::duplex(4096);
        drop(theirs);
        let address = ([192, 0, 2, 7], 2049).into();
        let spec = spec("nas.example.com", 2049);
        let fault = dialer().shake_hands(&spec, address, &mut ours).await.unwrap_err();
        assert!(matches!(fault.kind(), Kind::NotTls | Kind::ConnectionLost), "{fault}");
    }

    #[test]
    fn an_address_and_a_name_can_stand_in_a_certificate_and_digits_cannot() {
        for (name, usable) in [("192.0.2.7", true), ("2001:db8::7", true), ("a.example", true)] {
            let name = ServerName::parse(name).unwrap();
            assert_eq!(certificate_name(&name).is_ok(), usable, "{name}");
        }
        let digits = ServerName::parse("1.2.3").unwrap();
        assert!(matches!(certificate_name(&digits), Err(TlsFault::UnusableName(_))));
    }
}
