//! One certificate as a handshake shows it, or that there is none yet.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::tls::client_certificate::key::ClientKey;
use crate::tls::client_certificate::x509::AFTER;

/// What servers are shown that ask who we are. Each certificate has one of its own, and rustls resumes a session
/// only under the same: with a new certificate every handshake is a whole one.
#[derive(Debug, Default)]
pub struct Presenter {
    certificate: Option<Presented>,
    asked: AtomicBool,
}

#[derive(Debug)]
struct Presented {
    certified: Arc<CertifiedKey>,
    key: Arc<ClientKey>,
    not_after: Duration,
}

/// A certificate and its key, for OpenSSL.
#[derive(Clone, Copy)]
pub(in crate::tls) struct ForOpenSsl<'a> {
    pub(in crate::tls) certificate: &'a [u8],
    pub(in crate::tls) pkcs8: &'a [u8],
}

impl Presenter {
    /// Of a certificate that was made at `wall`, since the epoch.
    pub(super) fn new(certificate: Vec<u8>, key: Arc<ClientKey>, wall: Duration) -> Self {
        let chain = vec![CertificateDer::from(certificate)];
        let certified = Arc::new(CertifiedKey::new(chain, key.signing()));
        let presented = Presented { certified, key, not_after: wall + AFTER };
        Self { certificate: Some(presented), asked: AtomicBool::new(false) }
    }

    /// Whether a server has asked and there was nothing to show: the handshake has to be done again with one.
    #[must_use]
    pub fn was_lacking(&self) -> bool {
        self.certificate.is_none() && self.asked.load(Ordering::Relaxed)
    }

    /// When the certificate ends, in seconds since the epoch; `None` where there is none.
    #[must_use]
    pub fn not_after(&self) -> Option<i64> {
        let presented = self.certificate.as_ref()?;
        i64::try_from(presented.not_after.as_secs()).ok()
    }

    /// OpenSSL cannot tell us when a server asks, so there must be one before.
    pub(in crate::tls) fn for_open_ssl(&self) -> Option<ForOpenSsl<'_>> {
        self.asked.store(true, Ordering::Relaxed);
        let presented = self.certificate.as_ref()?;
        let certificate = presented.certified.cert.first()?;
        Some(ForOpenSsl { certificate, pkcs8: presented.key.pkcs8() })
    }
}

impl ResolvesClientCert for Presenter {
    /// The authorities that a server names are not looked at: ours is self-signed, and servers know.
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certificate.as_ref().map(|presented| Arc::clone(&presented.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
