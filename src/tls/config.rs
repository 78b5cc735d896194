//! From roots and a policy to rustls' configuration.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedCipherSuite;
use rustls::SupportedProtocolVersion;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;

use crate::model::TlsPolicy;
use crate::model::tls_policy::CertificateCheck;
use crate::model::tls_policy::TlsVersion;
use crate::tls::fips;
use crate::tls::roots::TrustError;
use crate::tls::verify::DangerousAnyName;
use crate::tls::verify::DangerousNone;
use crate::tls::verify::ExplainingVerifier;

/// Names with sessions to resume: more than a node has mount targets.
const RESUMABLE: usize = 1024;

/// Sessions under a policy, with a verifier that the policy asks for.
pub(super) fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    policy: &TlsPolicy,
) -> Result<ClientConfig, TrustError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(versions(policy.least_version))
        .map_err(|error| TrustError::Unusable(error.to_string()))?
        // "dangerous" is rustls' door to a verifier of one's own. What is behind it for CertificateCheck::Full
        // only adds words to webpki's refusals.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(RESUMABLE);
    // To carry the records ourselves: see tls::record. The secrets never leave this process.
    config.enable_secret_extraction = true;
    if fips::BUILT_IN && !config.fips() {
        return Err(TrustError::Unusable("a setting of rustls is not one of FIPS mode".to_owned()));
    }
    Ok(config)
}

/// Who looks at the server's certificate. The second backend asks the same one.
///
/// No roots is an error of webpki's builder, never "trust all".
pub(super) fn verifier(
    roots: &Arc<RootCertStore>,
    check: CertificateCheck,
) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
    let provider = Arc::new(provider());
    let algorithms = provider.signature_verification_algorithms;
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider)
        .build()
        .map_err(|error| TrustError::Unusable(error.to_string()))?;
    Ok(match check {
        CertificateCheck::Full => Arc::new(ExplainingVerifier(webpki)),
        CertificateCheck::DangerousAnyName => {
            let roots = Arc::clone(roots);
            let chain_alone = DangerousAnyName { webpki, roots, algorithms };
            Arc::new(ExplainingVerifier(Arc::new(chain_alone)))
        }
        CertificateCheck::DangerousNone => Arc::new(DangerousNone(webpki)),
    })
}

/// The algorithms, in our order. The first key exchange is X25519MLKEM768: what is recorded today stays closed
/// to a quantum computer (rustls' feature `prefer-post-quantum`).
pub(super) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(cost);
    provider
}

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_1_2: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    match least {
        TlsVersion::V1_2 => &FROM_1_2,
        TlsVersion::V1_3 => &FROM_1_2[..1],
    }
}

/// AES-256 costs 6 % more processor time than AES-128, ChaCha20 twice as much.
fn cost(suite: &SupportedCipherSuite) -> u8 {
    match suite.suite().as_str() {
        Some(name) if name.contains("AES_128_GCM") => 0,
        Some(name) if name.contains("AES_256_GCM") => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_128_is_asked_for_first() {
        let first = provider().cipher_suites[0].suite();
        assert_eq!(first, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    }

    #[test]
    fn a_key_exchange_that_a_quantum_computer_does_not_break_is_offered_first() {
        assert_eq!(provider().kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn no_roots_is_an_error() {
        for check in [CertificateCheck::Full, CertificateCheck::DangerousAnyName] {
            let verifier = verifier(&Arc::new(RootCertStore::empty()), check);
            assert!(matches!(verifier, Err(TrustError::Unusable(_))));
        }
    }
}
