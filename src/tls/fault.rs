//! Why a TLS session did not come about, in words that say what to do.

use std::io;

use rustls::AlertDescription;
use rustls::CertificateError;
use rustls::Error;

use crate::model::ServerName;
use crate::tls::certificate::CertificateFacts;
use crate::tls::certificate::date;
use crate::tls::roots::TrustError;
use crate::tls::verify::RefusedCertificate;

/// Why a handshake failed. The caller adds with whom.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// The first bytes were no TLS.
    #[error(
        "the server answered, but not with TLS; check that the port is the one with encryption in transit"
    )]
    NotTls,
    /// End of file where an answer was due: what a plain NFS server does with a TLS greeting.
    #[error(
        "the server closed the connection during the TLS handshake; check that the port is the one with \
         encryption in transit, and that the mount target's permission group lets this node in"
    )]
    Closed,
    /// The server has no cipher suite in common with us, says its alert.
    #[error(
        "the TLS handshake failed (alert HandshakeFailure); the server must offer TLS 1.3, or TLS 1.2 with ECDHE \
         and AES-GCM"
    )]
    NothingInCommon,
    /// No common version or key exchange, or the server wants what we do not have.
    #[error(
        "the TLS handshake failed ({why}); the server must offer TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM"
    )]
    HandshakeFailed {
        /// The alert, or what rustls missed.
        why: String,
    },
    /// The server refused us: it wants another client certificate.
    #[error(
        "the server refused this client ({alert}): our client certificate is not accepted; check the access point, \
         its RAM credentials, and that this node's clock is right"
    )]
    ClientRefused {
        /// The alert.
        alert: String,
    },
    /// There is no client certificate yet; the caller makes one and tries again.
    #[error("there is no client certificate yet")]
    ClientUnknown,
    /// Nobody we trust vouches for the certificate.
    #[error(
        "the certificate of {subject:?} was issued by {issuer:?}, which is not trusted; if that is right, add \
         the issuer's certificate to the CA file"
    )]
    Untrusted {
        /// Whose certificate.
        subject: String,
        /// Who signed it.
        issuer: String,
    },
    /// A good certificate of somebody else.
    #[error(
        "the certificate is not for {expected:?} but for {}; check the mount target's name, or set the TLS \
         server name if it goes by another", list(.presented)
    )]
    WrongName {
        /// The name that we asked for.
        expected: String,
        /// The names that it carries.
        presented: Vec<String>,
    },
    /// Too old.
    #[error(
        "the certificate of {subject:?} expired at {}; the server needs a new one (is this node's clock right?)",
        date(*.not_after)
    )]
    Expired {
        /// Whose certificate.
        subject: String,
        /// Seconds since the epoch.
        not_after: i64,
    },
    /// Too new.
    #[error(
        "the certificate of {subject:?} is not valid before {}; is this node's clock right?",
        date(*.not_before)
    )]
    NotYetValid {
        /// Whose certificate.
        subject: String,
        /// Seconds since the epoch.
        not_before: i64,
    },
    /// Any other fault of the certificate.
    #[error("the certificate of {subject:?} cannot be used ({why}); the server needs another one")]
    BadCertificate {
        /// Whose certificate.
        subject: String,
        /// webpki's words.
        why: String,
    },
    /// The policy's roots cannot be had.
    #[error("{0}; set caBundle to something that can be read, or leave it out")]
    NoRoots(#[from] TrustError),
    /// The certificate has been revoked, or nobody says that it has not.
    #[error("the certificate of {subject:?} is not proved to be valid: {why}")]
    Revoked {
        /// Whose certificate.
        subject: String,
        /// What the responder said, or why it could not be asked.
        why: String,
    },
    /// The name cannot stand in a certificate.
    #[error("{0:?} cannot be a name in a certificate; set the TLS server name")]
    UnusableName(String),
    /// The connection broke; some plain NFS servers break it when a TLS greeting comes.
    #[error(
        "the connection was lost during the TLS handshake: {0}; try again, and if it stays so, check that the \
         port is the one with encryption in transit"
    )]
    Lost(#[source] io::Error),
}

impl TlsFault {
    /// Reads what `tls::handshake` says of a handshake for `expected`.
    #[must_use]
    pub fn explain(error: io::Error, expected: &ServerName) -> Self {
        if let Some(fault) =
            error.get_ref().and_then(|inner| inner.downcast_ref()).map(|inner| of(inner, expected))
        {
            return fault;
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Lost(error),
        }
    }
}

pub(super) fn of(error: &Error, expected: &ServerName) -> TlsFault {
    match error {
        Error::InvalidMessage(_) => TlsFault::NotTls,
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<RefusedCertificate>() {
                Some(refused) => of_certificate(refused, expected),
                None => TlsFault::HandshakeFailed { why: other.to_string() },
            }
        }
        other => TlsFault::HandshakeFailed { why: other.to_string() },
    }
}

fn of_alert(alert: AlertDescription) -> TlsFault {
    let text = format!("alert {alert:?}");
    match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => TlsFault::ClientRefused { alert: text },
        AlertDescription::HandshakeFailure => TlsFault::NothingInCommon,
        _ => TlsFault::HandshakeFailed { why: text },
    }
}

fn of_certificate(refused: &RefusedCertificate, expected: &ServerName) -> TlsFault {
    let CertificateFacts { subject, issuer, names, not_before, not_after } =
        CertificateFacts::read(&refused.certificate).unwrap_or_default();
    let issued_itself = subject == issuer;
    match &refused.why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsFault::Untrusted { subject, issuer }
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::WrongName { expected: expected.to_string(), presented: names }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            TlsFault::Expired { subject, not_after }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFault::NotYetValid { subject, not_before }
        }
        CertificateError::Revoked => TlsFault::Revoked {
            subject,
            why: "it has been revoked, says the stapled answer".into(),
        },
        // rustls: CaUsedAsEndEntity, the usual fault of a certificate made by hand.
        CertificateError::Other(_) if issued_itself => TlsFault::Untrusted { subject, issuer },
        why => TlsFault::BadCertificate { subject, why: why.to_string() },
    }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names.len() {
        0 => "nobody (it has no subjectAltName)".to_owned(),
        count if count > SHOWN => {
            format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN)
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(error: Error) -> TlsFault {
        let name = ServerName::parse("nas.example.com").unwrap();
        TlsFault::explain(io::Error::new(io::ErrorKind::InvalidData, error), &name)
    }

    #[test]
    fn each_answer_that_is_no_handshake_has_its_reason() {
        for (error, said) in [
            (Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "not with TLS"),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "HandshakeFailure"),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), "must offer TLS 1.3"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "client certificate"),
        ] {
            let fault = explain(error).to_string();
            assert!(fault.contains(said), "{fault}");
        }
    }

    #[test]
    fn an_end_of_file_is_told_from_a_lost_connection() {
        let name = ServerName::parse("nas.example.com").unwrap();
        let closed = TlsFault::explain(io::ErrorKind::UnexpectedEof.into(), &name);
        assert!(matches!(closed, TlsFault::Closed));
        let reset = TlsFault::explain(io::ErrorKind::ConnectionReset.into(), &name);
        assert!(matches!(reset, TlsFault::Lost(_)));
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names: Vec<String> = (0..9).map(|number| format!("n{number}")).collect();
        assert_eq!(list(&names), "n0, n1, n2, n3 and 5 more");
    }
}
