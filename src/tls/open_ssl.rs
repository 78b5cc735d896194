//! The second backend: OpenSSL, for servers that rustls has no cipher suite in common with.
//!
//! The vendor's client asks for TLS 1.2 with `AES256-GCM-SHA384`, whose key exchange is static RSA (RFC 5246,
//! section 7.4.7.1), and a server may accept nothing else. rustls has none and will have none: such traffic is
//! readable by whoever records it and gets the server's key later. So this backend is asked only where rustls
//! was refused, or where it is set.
//!
//! - It offers everything that is better, too, and static RSA last. Who forges an alert to get us here gains
//!   nothing where the server goes by our order, and no more than the server's own order elsewhere.
//! - The certificate is verified by the same verifier with the same roots as in rustls, after OpenSSL's handshake
//!   and before a byte of the caller's is sent. With static RSA the server has by then proved that it has the
//!   certificate's key: nobody else could have read the secret that its Finished message is made of.
//! - No session is resumed, and renegotiation is refused.
//!
//! Why OpenSSL: AWS-LC, which is in the binary already, has static RSA too, but its TLS part is C++ without a
//! safe interface, and neither goes into a static binary for musl. OpenSSL builds there with perl and make,
//! and its bindings need no unsafe code of ours.

use std::io;
use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::ErrorCode;
use openssl::ssl::Ssl;
use openssl::ssl::SslContext;
use openssl::ssl::SslMethod;
use openssl::ssl::SslMode;
use openssl::ssl::SslOptions;
use openssl::ssl::SslRef;
use openssl::ssl::SslSessionCacheMode;
use openssl::ssl::SslVerifyMode;
use openssl::ssl::SslVersion;
use openssl::ssl::StatusType;
use openssl::x509::X509;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_openssl::SslStream;

use crate::model::tls_policy::TlsVersion;
use crate::tls::client_certificate::presenter::ForOpenSsl;
use crate::tls::fault;
use crate::tls::fault::TlsFault;
use crate::tls::session::Handshake;
use crate::tls::session::Library;
use crate::tls::session::Negotiated;
use crate::tls::session::Session;
use crate::tls::session::ending;

/// What rustls offers for TLS 1.2, in the same order, and static RSA after it. OpenSSL passes over a word that
/// it does not know.
const SUITES: &str = "ECDHE+AES128+AESGCM:ECDHE+AES256+AESGCM:ECDHE+CHACHA20:\
                      AES256-GCM-SHA384:AES128-GCM-SHA256";

/// Shakes hands, and only then shows the certificate to `verifier`.
pub(super) async fn shake_hands<S>(
    handshake: Handshake<'_>,
    name: ServerName<'static>,
    verifier: &dyn ServerCertVerifier,
    stream: S,
) -> Result<(Session<S>, Vec<CertificateDer<'static>>, Negotiated), TlsFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // The dialler has one made and comes again.
    let client = handshake.client.for_open_ssl().ok_or(TlsFault::ClientUnknown)?;
    let ssl = prepare(handshake.policy.least_version, &name, client).map_err(unusable)?;
    let mut stream = SslStream::new(ssl, stream).map_err(unusable)?;
    Pin::new(&mut stream).connect().await.map_err(explain)?;
    let chain = chain(stream.ssl()).map_err(unusable)?;
    let (certificate, intermediates) = chain.split_first().ok_or_else(no_certificate)?;
    let stapled = stream.ssl().ocsp_status().unwrap_or_default();
    verifier
        .verify_server_cert(certificate, intermediates, &name, stapled, UnixTime::now())
        .map_err(|error| fault::of(&error, handshake.name))?;
    let negotiated = negotiated(stream.ssl(), &chain);
    Ok((Session::OpenSsl(stream), chain, negotiated))
}

fn prepare(
    least: TlsVersion,
    name: &ServerName<'_>,
    client: ForOpenSsl<'_>,
) -> Result<Ssl, ErrorStack> {
    let context = context(least)?;
    let mut ssl = Ssl::new(&context)?;
    ssl.set_certificate(X509::from_der(client.certificate)?.as_ref())?;
    ssl.set_private_key(PKey::private_key_from_pkcs8(client.pkcs8)?.as_ref())?;
    // RFC 6066, section 3: an address is no server name.
    if let ServerName::DnsName(name) = name {
        ssl.set_hostname(name.as_ref())?;
    }
    ssl.set_status_type(StatusType::OCSP)?;
    Ok(ssl)
}

#[expect(clippy::disallowed_methods, reason = "shake_hands asks the verifier of rustls instead")]
fn context(least: TlsVersion) -> Result<SslContext, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_min_proto_version(Some(match least {
        TlsVersion::V1_2 => SslVersion::TLS1_2,
        TlsVersion::V1_3 => SslVersion::TLS1_3,
    }))?;
    context.set_cipher_list(SUITES)?;
    context.set_options(
        SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET | SslOptions::NO_COMPRESSION,
    );
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_mode(SslMode::RELEASE_BUFFERS);
    // Not "trust all": `shake_hands` asks the verifier that rustls would have asked, before it returns.
    context.set_verify(SslVerifyMode::NONE);
    Ok(context.build())
}

fn chain(ssl: &SslRef) -> Result<Vec<CertificateDer<'static>>, ErrorStack> {
    let Some(chain) = ssl.peer_cert_chain() else { return Ok(Vec::new()) };
    chain.iter().map(|certificate| certificate.to_der().map(CertificateDer::from)).collect()
}

fn negotiated(ssl: &SslRef, chain: &[CertificateDer<'_>]) -> Negotiated {
    let cipher = ssl.current_cipher();
    // OpenSSL's own names of the suites tell: those with static RSA have no key exchange in front.
    let static_rsa = cipher.is_some_and(|cipher| cipher.name().starts_with("AES"));
    Negotiated {
        version: ssl.version_str().to_owned(),
        suite: cipher.and_then(|cipher| cipher.standard_name()).unwrap_or("unknown").to_owned(),
        group: if static_rsa { "static RSA" } else { "" }.to_owned(),
        library: Library::OpenSsl,
        resumed: false,
        first_to_end: ending(chain),
        static_rsa,
        revocation: String::new(),
        client_not_after: None,
    }
}

fn explain(error: openssl::ssl::Error) -> TlsFault {
    if let Some(stack) = error.ssl_error() {
        let reason = stack.errors().first().and_then(|error| error.reason()).unwrap_or("no reason");
        return TlsFault::HandshakeFailed { why: format!("OpenSSL says: {reason}") };
    }
    match (error.code(), error.into_io_error()) {
        (ErrorCode::ZERO_RETURN, _) => TlsFault::Closed,
        (_, Ok(error)) if error.kind() == io::ErrorKind::UnexpectedEof => TlsFault::Closed,
        (_, Ok(error)) => TlsFault::Lost(error),
        // OpenSSL shows a sudden end as an error without a cause.
        (_, Err(_)) => TlsFault::Closed,
    }
}

fn unusable(error: ErrorStack) -> TlsFault {
    TlsFault::HandshakeFailed { why: format!("OpenSSL cannot be used: {error}") }
}

fn no_certificate() -> TlsFault {
    TlsFault::HandshakeFailed { why: "the server has shown no certificate".to_owned() }
}
