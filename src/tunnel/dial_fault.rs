//! Why a mount target cannot be reached, in words that say what to do.

use std::io;
use std::net::SocketAddr;

use crate::host::resolve::ResolveFault;
use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::tls::TlsFault;
use crate::tls::client_certificate::CertificateFault;
use crate::tunnel::connect;
use crate::tunnel::dial::DIAL_DEADLINE;
use crate::tunnel::dial::HANDSHAKE_DEADLINE;

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
         permission group, and that this node is in its VPC", connect::DEADLINE.as_secs()
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
    /// A client certificate is needed and cannot be made.
    #[error("failed to make the client certificate for {target}: {source}")]
    Client {
        /// The tunnel.
        target: TunnelSpec,
        /// Why.
        source: Box<CertificateFault>,
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
    /// The port is not said, and neither of those that it could be will do.
    #[error("{first}; the other known port was tried too: {other}")]
    NeitherPort {
        /// Of the port that is tried first.
        first: Box<DialFault>,
        /// Of the other one.
        other: Box<DialFault>,
    },
    /// So many addresses that time ran out before all were tried.
    #[error(
        "failed to reach {target} at any of its addresses within {} s; check security groups, the mount target's \
         permission group, and that this node is in its VPC", DIAL_DEADLINE.as_secs()
    )]
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
            Self::Client { .. } => Kind::ClientCertificate,
            Self::NeitherPort { first, .. } => first.kind(),
        }
    }

    /// Whether another port of the same server could fare better.
    pub(super) fn may_be_the_port(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Timeout { .. } | Self::HandshakeTimeout { .. } => true,
            Self::Tls { source, .. } => {
                matches!(**source, TlsFault::NotTls | TlsFault::Closed | TlsFault::Lost(_))
            }
            Self::NameNotFound { .. }
            | Self::NoAddress { .. }
            | Self::ResolverSilent { .. }
            | Self::NoRoute { .. }
            | Self::Client { .. }
            | Self::NeitherPort { .. }
            | Self::OutOfTime { .. } => false,
        }
    }

    /// Whether the server took part in a handshake and found nothing that both can do.
    pub(super) fn nothing_in_common(&self) -> bool {
        matches!(self, Self::Tls { source, .. } if matches!(**source, TlsFault::NothingInCommon))
    }
}

fn tls_kind(fault: &TlsFault) -> Kind {
    match fault {
        TlsFault::NotTls | TlsFault::Closed => Kind::NotTls,
        TlsFault::NothingInCommon
        | TlsFault::HandshakeFailed { .. }
        | TlsFault::ClientRefused { .. }
        | TlsFault::UnusableName(_) => Kind::HandshakeFailed,
        TlsFault::ClientUnknown => Kind::ClientCertificate,
        TlsFault::Untrusted { .. }
        | TlsFault::BadCertificate { .. }
        | TlsFault::NoRoots(_)
        | TlsFault::Revoked { .. } => Kind::CertificateUntrusted,
        TlsFault::WrongName { .. } => Kind::CertificateWrongName,
        TlsFault::Expired { .. } => Kind::CertificateExpired,
        TlsFault::NotYetValid { .. } => Kind::CertificateNotYetValid,
        TlsFault::Lost(_) => Kind::HandshakeLost,
    }
}
