//! Certificates for the NAS: good ones, and every kind that must be refused.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use time::Duration;
use time::OffsetDateTime;

use crate::failure::During;
use crate::failure::Result;

/// Signs certificates for as long as it lives; its own certificate is in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

/// When a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// From yesterday until the day after tomorrow.
    Now,
    /// Until yesterday.
    Expired,
    /// From tomorrow.
    NotYet,
}

impl Authority {
    /// Makes a new authority; its certificate is written to `<folder>/<name>.pem`.
    ///
    /// # Errors
    /// When no key can be made or no file written.
    pub fn create(folder: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("alinas-csi lab {name}"));
        let certificate = params.self_signed(&key)?;
        let authority = Self {
            issuer: Issuer::new(params, key),
            folder: folder.to_owned(),
            name: name.to_owned(),
        };
        fs::write(authority.file(), certificate.pem()).during("failed to write the CA")?;
        Ok(authority)
    }

    /// Where its certificate is.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// Signs a server certificate for one host name. The file holds the certificate, then its key.
    ///
    /// # Errors
    /// When no key can be made or no file written.
    pub fn sign(&self, label: &str, host_name: &str, validity: Validity) -> Result<PathBuf> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host_name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host_name);
        (params.not_before, params.not_after) = validity.limits();
        let certificate = params.signed_by(&key, &self.issuer)?;
        let file = self.folder.join(format!("{label}.pem"));
        fs::write(&file, certificate.pem() + &key.serialize_pem())
            .during("failed to write a server certificate")?;
        Ok(file)
    }
}

impl Validity {
    fn limits(self) -> (OffsetDateTime, OffsetDateTime) {
        let now = OffsetDateTime::now_utc();
        let (from, to) = match self {
            Self::Now => (-1, 2),
            Self::Expired => (-10, -1),
            Self::NotYet => (1, 10),
        };
        (now + Duration::days(from), now + Duration::days(to))
    }
}
