//! One TLS session: the handshake by either backend, and what it led to.

use std::sync::Arc;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::client::Resumption;
use rustls::pki_types;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_openssl::SslStream;

use crate::model::ServerName;
use crate::model::TlsPolicy;
use crate::model::tls_policy::RevocationCheck;
use crate::tls::certificate::CertificateFacts;
use crate::tls::certificate::first_to_end;
use crate::tls::client_certificate::Presenter;
use crate::tls::fault::TlsFault;
use crate::tls::fips;
use crate::tls::handshake;
use crate::tls::handshake::Agreement;
use crate::tls::handshake::RecordSession;
use crate::tls::open_ssl;
use crate::tls::revocation::Known;
use crate::tls::revocation::Question;
use crate::tls::trust::Trust;

/// A verified session over a stream. Its bytes are carried by whoever knows the kind.
#[derive(Debug)]
pub enum Session<S> {
    /// By rustls, the rule: records are opened and sealed where they were read to.
    Rustls {
        /// What the records go over.
        stream: S,
        /// The records.
        records: RecordSession,
    },
    /// By OpenSSL, the exception: a stream of plain text, with OpenSSL's own buffers.
    OpenSsl(SslStream<S>),
}

/// Who speaks TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Library {
    /// The rule.
    #[default]
    Rustls,
    /// For servers that have nothing in common with rustls.
    OpenSsl,
}

/// Whether a session may go on where an earlier one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// With a ticket, where there is one: a certificate that was verified before is not asked for again.
    ResumeIfPossible,
    /// The server is to show its certificate.
    Anew,
}

/// What a handshake led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// The name of the IANA registry, `TLS13_…` for those of TLS 1.3.
    pub suite: String,
    /// Of the key exchange: `X25519MLKEM768`, `X25519`, …
    pub group: String,
    /// Who spoke.
    pub library: Library,
    /// The session went on where an earlier one was.
    pub resumed: bool,
    /// Of the chain, the certificate that ends first.
    pub first_to_end: Option<CertificateFacts>,
    /// The key exchange has no forward secrecy. See [`Weakness`](crate::tls::Weakness).
    pub static_rsa: bool,
    /// What is known about revocation; empty where it is not looked into.
    pub revocation: String,
    /// When our own certificate ends, seconds since the epoch, once a server has asked for one.
    pub client_not_after: Option<i64>,
}

/// A session that came about.
#[derive(Debug)]
pub struct Agreed<S> {
    /// Verified.
    pub session: Session<S>,
    /// What was agreed on.
    pub negotiated: Negotiated,
    /// What has to be asked before it may be used.
    pub question: Option<Question>,
}

/// What one handshake is to be.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// How it is secured.
    pub policy: &'a TlsPolicy,
    /// Whose certificate it must be.
    pub name: &'a ServerName,
    /// Who speaks.
    pub library: Library,
    /// Whether it may resume.
    pub beginning: Beginning,
    /// What the server is shown if it asks who we are.
    pub client: &'a Arc<Presenter>,
}

impl Trust {
    /// Shakes hands over a connected stream, under the roots of this moment.
    ///
    /// # Errors
    /// Says why there is no session. Nothing of the caller's was sent.
    pub async fn shake_hands<S>(
        &self,
        handshake: Handshake<'_>,
        stream: S,
    ) -> Result<Agreed<S>, TlsFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = certificate_name(handshake.name)?;
        let roots = self.roots(handshake.policy).await?;
        let (session, chain, mut negotiated) = match handshake.library {
            Library::Rustls => {
                let config = roots.config(handshake.policy)?;
                by_rustls(handshake, name, config, stream).await?
            }
            Library::OpenSsl if fips::BUILT_IN => {
                return Err(TlsFault::HandshakeFailed { why: fips::NO_OPENSSL.to_owned() });
            }
            Library::OpenSsl => {
                let verifier = roots.verifier(handshake.policy)?;
                open_ssl::shake_hands(handshake, name, verifier.as_ref(), stream).await?
            }
        };
        negotiated.client_not_after = handshake.client.not_after();
        let mut question = None;
        if handshake.policy.revocation == RevocationCheck::Ocsp {
            match roots.revocations.look(&chain, &roots.authorities)? {
                Known::Settled(text) => negotiated.revocation = text,
                Known::Ask(ask) => question = Some(ask),
            }
        }
        Ok(Agreed { session, negotiated, question })
    }
}

type Handshaken<S> = (Session<S>, Vec<CertificateDer<'static>>, Negotiated);

async fn by_rustls<S>(
    handshake: Handshake<'_>,
    name: pki_types::ServerName<'static>,
    mut config: Arc<ClientConfig>,
    mut stream: S,
) -> Result<Handshaken<S>, TlsFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let own = Arc::make_mut(&mut config);
    // rustls resumes a session only under the same presenter: never as somebody else.
    own.client_auth_cert_resolver = Arc::clone(handshake.client) as Arc<dyn ResolvesClientCert>;
    if handshake.beginning == Beginning::Anew {
        own.resumption = Resumption::disabled();
    }
    let (records, agreement) = handshake::shake_hands(config, name, &mut stream)
        .await
        .map_err(|error| TlsFault::explain(error, handshake.name))?;
    let negotiated = negotiated(&agreement);
    Ok((Session::Rustls { stream, records }, agreement.chain, negotiated))
}

fn negotiated(agreement: &Agreement) -> Negotiated {
    Negotiated {
        version: agreement.version.to_owned(),
        suite: agreement.suite.to_owned(),
        group: agreement.group.to_owned(),
        library: Library::Rustls,
        resumed: agreement.resumed,
        first_to_end: ending(&agreement.chain),
        static_rsa: false,
        revocation: String::new(),
        client_not_after: None,
    }
}

/// The certificate to watch in a chain.
pub(super) fn ending(chain: &[CertificateDer<'_>]) -> Option<CertificateFacts> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    first_to_end(chain, i64::try_from(now).unwrap_or(i64::MAX))
}

fn certificate_name(name: &ServerName) -> Result<pki_types::ServerName<'static>, TlsFault> {
    match name.address() {
        Some(address) => Ok(address.into()),
        None => pki_types::ServerName::try_from(name.as_str().to_owned())
            .map_err(|_| TlsFault::UnusableName(name.to_string())),
    }
}

impl Negotiated {
    /// What is the same for every session with an unchanged server.
    #[must_use]
    pub fn agreed(&self) -> (&str, &str, &str, Library, &str) {
        (&self.version, &self.suite, &self.group, self.library, &self.revocation)
    }
}

impl Library {
    /// Its name, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rustls => "rustls",
            Self::OpenSsl => "openssl",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_name_can_stand_in_a_certificate_and_digits_cannot() {
        for name in ["192.0.2.7", "2001:db8::7", "a.example"] {
            certificate_name(&ServerName::parse(name).unwrap()).unwrap();
        }
        let digits = ServerName::parse("1.2.3").unwrap();
        assert!(matches!(certificate_name(&digits), Err(TlsFault::UnusableName(_))));
    }
}
