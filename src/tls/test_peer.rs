//! rustls' own server at the other end of a session, for tests.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt;

use crate::tls::RecordSession;
use crate::tls::handshake::shake_hands;
use crate::tls::record::Records;

pub(crate) const NAME: &str = "nas.example.com";

/// One of each kind: sealed in place or by rustls, with and without an explicit nonce. FIPS knows no ChaCha20.
pub(crate) const SUITES: [CipherSuite; if cfg!(feature = "fips") { 3 } else { 5 }] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    #[cfg(not(feature = "fips"))]
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    #[cfg(not(feature = "fips"))]
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Both ends of a session.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) records: Box<Records>,
    /// What the server has sent behind the handshake: its tickets.
    pub(crate) received: Vec<u8>,
    pub(crate) server: ServerConnection,
}

/// The configurations of two ends that trust each other.
#[derive(Clone, Debug)]
pub(crate) struct Configs {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

pub(crate) fn configs(suite: CipherSuite) -> Configs {
    let issued = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = issued.cert.der().clone();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    let provider = Arc::new(provider);
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    Configs { client: client(provider, certificate), server: Arc::new(server) }
}

fn client(provider: Arc<CryptoProvider>, root: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    Arc::new(client)
}

/// A fresh session with that suite.
pub(crate) fn pair(suite: CipherSuite) -> Pair {
    let mut pair = pair_with(&configs(suite));
    // The tickets, so that the next record is the test's.
    let mut tickets = std::mem::take(&mut pair.received);
    let mut rest = tickets.as_mut_slice();
    while let crate::tls::record::Opened::Control { length } = pair.records.open(rest).unwrap() {
        rest = &mut rest[length..];
    }
    assert!(rest.is_empty());
    pair
}

pub(crate) fn pair_with(configs: &Configs) -> Pair {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut ours, theirs) = tokio::io::duplex(1 << 16);
        let name = NAME.try_into().unwrap();
        let (session, accepted) = tokio::join!(
            shake_hands(Arc::clone(&configs.client), name, &mut ours),
            tokio_rustls::TlsAcceptor::from(Arc::clone(&configs.server)).accept(theirs)
        );
        let (RecordSession { records, mut received, .. }, _) = session.unwrap();
        let (theirs, server) = accepted.unwrap().into_inner();
        drop(theirs);
        ours.read_to_end(&mut received).await.unwrap();
        Pair { records, received, server }
    })
}
