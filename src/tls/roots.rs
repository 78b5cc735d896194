//! Roots: where they come from, and everything that is made of one set of them.
//!
//! Blocking: whoever calls [`RootSource::read`] on an async thread stops it for as long as the file system
//! likes.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject;

use crate::model::TlsPolicy;
use crate::model::tls_policy::CaBundle;
use crate::model::tls_policy::CaSource;
use crate::model::tls_policy::RevocationCheck;
use crate::tls::config;
use crate::tls::revocation::Revocations;
use crate::tls::verify::StapleVerifier;

/// A file of all authorities of the world has a quarter of a mebibyte.
const LONGEST_FILE: u64 = 16 * 1024 * 1024;

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file or directory is missing or may not be read.
    #[error("failed to read CA file {path:?}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate in it.
    #[error("CA file {0:?} holds no certificate; it must hold at least one in PEM form")]
    Empty(PathBuf),
    /// It is no PEM.
    #[error("CA file {path:?} is broken: {why}")]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// rustls does not take the roots.
    #[error("the roots cannot be used: {0}")]
    Unusable(String),
}

/// Where a set of roots comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RootSource {
    /// The bundled Mozilla roots, those of the system that we run on, and those of a file or directory.
    Node(Option<PathBuf>),
    /// Those of a volume's own bundle alone.
    Bundle(CaBundle),
}

/// What was read of a source: equal contents are equal roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents(Vec<(PathBuf, Vec<u8>)>);

/// One set of roots and the configurations made of it.
///
/// A configuration holds the sessions that can be resumed, and a resumed session is not verified again. So
/// sessions end with the roots that they were verified with.
#[derive(Debug)]
pub(super) struct RootSet {
    pub(super) contents: Contents,
    store: Arc<RootCertStore>,
    /// The certificates of the file, which say more than the store keeps.
    pub(super) authorities: Arc<[CertificateDer<'static>]>,
    pub(super) revocations: Arc<Revocations>,
    configs: Mutex<HashMap<TlsPolicy, Arc<ClientConfig>>>,
}

impl RootSource {
    /// The file that may change.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Node(path) => path.as_deref(),
            Self::Bundle(bundle) => match bundle.source() {
                CaSource::File(path) => Some(path),
                CaSource::Text(_) => None,
            },
        }
    }

    /// Reads what there is now.
    pub(super) fn read(&self) -> Result<Contents, TrustError> {
        match self {
            Self::Node(None) => Ok(Contents(Vec::new())),
            Self::Node(Some(path)) => read(path),
            Self::Bundle(bundle) => match bundle.source() {
                CaSource::File(path) => read(path),
                CaSource::Text(text) => {
                    Ok(Contents(vec![(PathBuf::from("caBundle"), text.as_bytes().to_vec())]))
                }
            },
        }
    }

    /// Makes roots of what was read.
    pub(super) fn roots(&self, contents: Contents) -> Result<RootSet, TrustError> {
        let mut store = RootCertStore::empty();
        if matches!(self, Self::Node(_)) {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            // An image without a system has none; what cannot be parsed there is not ours to mend.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let authorities = contents.add_to(&mut store)?;
        if let Some(path) = self.path().filter(|_| authorities.is_empty()) {
            return Err(TrustError::Empty(path.to_owned()));
        }
        let roots = RootSet {
            contents,
            store: Arc::new(store),
            authorities: authorities.into_iter().collect(),
            revocations: Arc::default(),
            configs: Mutex::default(),
        };
        // Whatever makes roots unusable shows now, not at the first connect.
        roots.config(&TlsPolicy::default())?;
        Ok(roots)
    }
}

impl RootSet {
    /// The configuration for sessions under a policy.
    pub(super) fn config(&self, policy: &TlsPolicy) -> Result<Arc<ClientConfig>, TrustError> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(policy) {
            return Ok(Arc::clone(config));
        }
        let verifier = self.verifier(policy)?;
        let config = Arc::new(config::client_config(verifier, policy)?);
        configs.insert(policy.clone(), Arc::clone(&config));
        Ok(config)
    }

    /// Who looks at the certificates of sessions under a policy.
    pub(super) fn verifier(
        &self,
        policy: &TlsPolicy,
    ) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
        let inner = config::verifier(&self.store, policy.check)?;
        if policy.revocation == RevocationCheck::Off {
            return Ok(inner);
        }
        let (revocations, authorities) =
            (Arc::clone(&self.revocations), Arc::clone(&self.authorities));
        Ok(Arc::new(StapleVerifier { inner, revocations, authorities }))
    }
}

impl Contents {
    fn add_to(
        &self,
        store: &mut RootCertStore,
    ) -> Result<HashSet<CertificateDer<'static>>, TrustError> {
        // A directory of a system holds each certificate several times, under several names.
        let mut known = HashSet::new();
        for (path, bytes) in &self.0 {
            let broken = |why: String| TrustError::Broken { path: path.clone(), why };
            let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(bytes)
                .collect::<Result<_, pem::Error>>()
                .map_err(|error| broken(error.to_string()))?;
            for certificate in certificates {
                if known.insert(certificate.clone()) {
                    store.add(certificate).map_err(|error| broken(error.to_string()))?;
                }
            }
        }
        Ok(known)
    }
}

/// A file, or the files of a directory that are not hidden. In a mounted ConfigMap these are symbolic links
/// through `..data`, which is swapped at once; so every read follows them anew.
fn read(path: &Path) -> Result<Contents, TrustError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| TrustError::Unreadable { path, source }
    };
    if !fs::metadata(path).map_err(unreadable(path))?.is_dir() {
        let bytes = read_file(path).map_err(unreadable(path))?;
        return Ok(Contents(vec![(path.to_owned(), bytes)]));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable(path))? {
        let entry = entry.map_err(unreadable(path))?;
        let file = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && fs::metadata(&file).map_err(unreadable(&file))?.is_file() {
            let bytes = read_file(&file).map_err(unreadable(&file))?;
            files.push((file, bytes));
        }
    }
    files.sort();
    Ok(Contents(files))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if length as u64 > LONGEST_FILE {
        return Err(io::Error::other(format!("it has more than {LONGEST_FILE} bytes")));
    }
    Ok(bytes)
}
