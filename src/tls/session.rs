//! One TLS session: the handshake by either backend, and what it led to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::ProtocolVersion;
use rustls::client::Resumption;
use rustls::pki_types;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio_openssl::SslStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::ServerName;
use crate::model::TlsPolicy;
use crate::model::tls_policy::RevocationCheck;
use crate::tls::certificate::CertificateFacts;
use crate::tls::certificate::first_to_end;
use crate::tls::fault::TlsFault;
use crate::tls::open_ssl;
use crate::tls::revocation::Known;
use crate::tls::revocation::Question;
use crate::tls::trust::Trust;

/// A verified session over a stream. Reads and writes are those of the plain text.
#[derive(Debug)]
pub enum Session<S> {
    /// By rustls: the rule.
    Rustls(Box<TlsStream<S>>),
    /// By OpenSSL: the exception.
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
    /// What this session does not protect from, where it could.
    pub weakness: Option<&'static str>,
    /// What is known about revocation; empty where it is not looked into.
    pub revocation: String,
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
            Library::OpenSsl => {
                let verifier = roots.verifier(handshake.policy)?;
                open_ssl::shake_hands(handshake, name, verifier.as_ref(), stream).await?
            }
        };
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
    stream: S,
) -> Result<Handshaken<S>, TlsFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if handshake.beginning == Beginning::Anew {
        Arc::make_mut(&mut config).resumption = Resumption::disabled();
    }
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| TlsFault::explain(error, handshake.name))?;
    let connection = stream.get_ref().1;
    let chain = connection.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let negotiated = negotiated(connection);
    Ok((Session::Rustls(Box::new(stream)), chain, negotiated))
}

fn negotiated(session: &rustls::ClientConnection) -> Negotiated {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        other => format!("{other:?}"),
    };
    let suite = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    let group = session.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
    Negotiated {
        version,
        suite: suite.unwrap_or("unknown").to_owned(),
        group: group.unwrap_or_default().to_owned(),
        library: Library::Rustls,
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        first_to_end: session.peer_certificates().and_then(ending),
        weakness: None,
        revocation: String::new(),
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Session<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::OpenSsl(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Session<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::OpenSsl(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_flush(context),
            Self::OpenSsl(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::OpenSsl(stream) => Pin::new(stream).poll_shutdown(context),
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
