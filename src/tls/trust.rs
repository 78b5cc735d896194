//! The roots that we trust, and the configuration that follows from them.
//!
//! The CA file is looked at whenever a configuration is asked for, that is at every connect: a certificate
//! authority can be added or taken away while mounts are in use. A new set of roots brings a new
//! configuration with an empty session cache, because a resumed session is not verified again.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedCipherSuite;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject;

use crate::runtime::Chain;
use crate::tls::verify::ExplainingVerifier;

/// Whom we trust: the bundled Mozilla roots, and those of a file.
pub struct Trust {
    ca_file: Option<PathBuf>,
    current: Mutex<Loaded>,
}

/// What was last read, and what it led to.
struct Loaded {
    pem: Vec<u8>,
    config: Arc<ClientConfig>,
    /// The last complaint about the file, so that it is logged once.
    complaint: Option<String>,
}

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file is missing or may not be read.
    #[error("failed to read CA file {path:?}")]
    Unreadable {
        /// The setting.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error("CA file {0:?} holds no certificate; it must hold at least one in PEM form")]
    Empty(PathBuf),
    /// The file is no PEM.
    #[error("CA file {path:?} is broken: {why}")]
    Broken {
        /// The setting.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// rustls does not take the roots.
    #[error("the roots cannot be used: {0}")]
    Unusable(String),
}

impl Trust {
    /// Trusts the bundled roots and those of `ca_file`.
    ///
    /// # Errors
    /// When the file is missing, empty or broken, so that a wrong setting shows at start.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let pem = ca_file.map(read).transpose()?.unwrap_or_default();
        let config = config_for(ca_file, &pem)?;
        let current = Mutex::new(Loaded { pem, config, complaint: None });
        Ok(Self { ca_file: ca_file.map(Path::to_owned), current })
    }

    /// The configuration for the next session. Chain and host name are verified.
    ///
    /// A file that has become unusable leaves the last good configuration in force.
    #[must_use]
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut loaded = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.ca_file {
            loaded.refresh(path);
        }
        Arc::clone(&loaded.config)
    }
}

impl Loaded {
    fn refresh(&mut self, path: &Path) {
        match self.changed(path) {
            Ok(None) => self.complaint = None,
            Ok(Some(fresh)) => {
                tracing::info!(ca_file = %path.display(), "the CA file has changed and is in force");
                *self = fresh;
            }
            Err(error) => self.complain(&error),
        }
    }

    /// A few kilobytes, read whole: a time stamp would miss a file that was swapped within its grain.
    fn changed(&self, path: &Path) -> Result<Option<Self>, TrustError> {
        let pem = read(path)?;
        if pem == self.pem {
            return Ok(None);
        }
        let config = config_for(Some(path), &pem)?;
        Ok(Some(Self { pem, config, complaint: None }))
    }

    fn complain(&mut self, error: &TrustError) {
        let text = Chain(error).to_string();
        if self.complaint.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "the CA file cannot be used; the last good one stays in force");
            self.complaint = Some(text);
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    std::fs::read(path).map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })
}

fn config_for(path: Option<&Path>, pem: &[u8]) -> Result<Arc<ClientConfig>, TrustError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = path {
        add_roots(&mut roots, path, pem)?;
    }
    client_config(roots)
}

fn add_roots(roots: &mut RootCertStore, path: &Path, pem: &[u8]) -> Result<(), TrustError> {
    let broken = |why: String| TrustError::Broken { path: path.to_owned(), why };
    let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| broken(error.to_string()))?;
    if certificates.is_empty() {
        return Err(TrustError::Empty(path.to_owned()));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|error| broken(error.to_string()))?;
    }
    Ok(())
}

/// No roots is an error of the verifier's builder, never "trust all".
fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TrustError::Unusable(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| TrustError::Unusable(error.to_string()))?
        // "dangerous" is rustls' door to a verifier of one's own; ours only adds words to webpki's refusals.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ExplainingVerifier(verifier)))
        .with_no_client_auth();
    // To carry the records ourselves: see tls::record. The secrets never leave this process.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(cost);
    provider
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

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn aes_128_is_asked_for_first() {
        let config = Trust::new(None).unwrap().client_config();
        let first = config.crypto_provider().cipher_suites[0].suite();
        assert_eq!(first, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    }

    #[test]
    fn no_roots_is_an_error() {
        assert!(matches!(client_config(RootCertStore::empty()), Err(TrustError::Unusable(_))));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let missing = Path::new("/nonexistent/ca.pem");
        let broken = file("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
        let no_certificate = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let empty = file("");
        for (path, said) in [
            (missing, "failed to read"),
            (broken.path(), "broken"),
            (no_certificate.path(), "broken"),
            (empty.path(), "holds no certificate"),
        ] {
            let error = Trust::new(Some(path)).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_changed_file_brings_a_new_configuration_and_a_broken_one_keeps_the_last() {
        let file = file(&authority());
        let trust = Trust::new(Some(file.path())).unwrap();
        let first = trust.client_config();
        assert!(Arc::ptr_eq(&first, &trust.client_config()), "nothing has changed");
        std::fs::write(file.path(), authority()).unwrap();
        let second = trust.client_config();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(file.path(), "").unwrap();
        assert!(Arc::ptr_eq(&second, &trust.client_config()));
        std::fs::remove_file(file.path()).unwrap();
        assert!(Arc::ptr_eq(&second, &trust.client_config()));
    }
}
