//! What a volume asks of its TLS sessions, beyond the name that the certificate must carry.
//!
//! The default is the strict one. Each way to weaken it is called dangerous, here and wherever it is shown;
//! none of them turns encryption off.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::model::client_identity::ClientIdentity;
use crate::model::client_identity::IdentityError;

/// The policy of one tunnel. Part of its identity: another policy is another tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsPolicy {
    /// The oldest protocol version that is spoken.
    #[serde(skip_serializing_if = "is_default")]
    pub least_version: TlsVersion,
    /// Who may vouch for the server, where it is not who the node trusts.
    #[serde(skip_serializing_if = "is_default")]
    pub ca_bundle: Option<CaBundle>,
    /// What of the certificate is checked.
    #[serde(skip_serializing_if = "is_default")]
    pub check: CertificateCheck,
    /// Whether the certificate's issuer is asked if it has been revoked.
    #[serde(skip_serializing_if = "is_default")]
    pub revocation: RevocationCheck,
    /// Who speaks TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub backend: TlsBackend,
    /// What our own certificate says, beyond what the mount target's domain says.
    #[serde(skip_serializing_if = "is_default")]
    pub identity: Box<ClientIdentity>,
}

/// A version of the protocol.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// What of the server's certificate is checked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateCheck {
    /// The chain up to a trusted authority, the dates and the name.
    #[default]
    Full,
    /// Not the name: whoever has any certificate of a trusted authority can be the server.
    DangerousAnyName,
    /// Nothing: whoever is in the way can be the server.
    DangerousNone,
}

/// Whether revocation is looked into (RFC 6960).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationCheck {
    /// No, as browsers do.
    #[default]
    Off,
    /// Yes: the stapled answer, or else the responder that the certificate names.
    Ocsp,
}

/// Which library speaks TLS.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum TlsBackend {
    /// rustls, and OpenSSL once a server had nothing in common with rustls.
    #[default]
    Auto,
    /// rustls alone.
    Rustls,
    /// OpenSSL from the start.
    OpenSsl,
}

/// Certificates of authorities in PEM form, or the absolute path of a file or directory with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaBundle(Arc<str>);

/// A bundle taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaSource<'a> {
    /// The text itself.
    Text(&'a str),
    /// Where the text is.
    File(&'a Path),
}

/// Why a text is no part of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A word that is none of those expected.
    #[error("{word:?} is none of {expected}")]
    Word {
        /// What was given.
        word: String,
        /// What would do.
        expected: &'static str,
    },
    /// Neither a path nor PEM.
    #[error("it is neither an absolute path nor a text with \"-----BEGIN CERTIFICATE-----\"")]
    NoBundle,
    /// No identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A bundle that would not fit beside the rest of a PersistentVolume.
    #[error("it has {0} bytes; at most {MOST} are taken, put larger ones into a file", MOST = CaBundle::LONGEST)]
    LongBundle(usize),
}

impl TlsPolicy {
    /// Whether it is the strict one, so that nothing needs to be said about it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        is_default(self)
    }
}

impl TlsVersion {
    /// Reads `1.2` or `1.3`.
    ///
    /// # Errors
    /// When it is another word.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        match text {
            "1.2" => Ok(Self::V1_2),
            "1.3" => Ok(Self::V1_3),
            _ => Err(word(text, "1.2, 1.3")),
        }
    }
}

impl CertificateCheck {
    /// Reads the word of a setting.
    ///
    /// # Errors
    /// When it is another word.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        match text {
            "full" => Ok(Self::Full),
            "dangerous-any-name" => Ok(Self::DangerousAnyName),
            "dangerous-none" => Ok(Self::DangerousNone),
            _ => Err(word(text, "full, dangerous-any-name, dangerous-none")),
        }
    }

    /// What somebody could do who is in the way; `None` where nothing.
    #[must_use]
    pub fn danger(self) -> Option<&'static str> {
        match self {
            Self::Full => None,
            Self::DangerousAnyName => Some(
                "DANGEROUS: the name in the server's certificate is not checked, so any holder of a trusted \
                 certificate can read and change the data",
            ),
            Self::DangerousNone => Some(
                "DANGEROUS: the server's certificate is not checked, so anybody in the way can read and change \
                 the data",
            ),
        }
    }
}

impl TlsBackend {
    /// Reads the word of a setting.
    ///
    /// # Errors
    /// When it is another word.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        match text {
            "auto" => Ok(Self::Auto),
            "rustls" => Ok(Self::Rustls),
            "openssl" => Ok(Self::OpenSsl),
            _ => Err(word(text, "auto, rustls, openssl")),
        }
    }
}

impl CaBundle {
    /// An object of Kubernetes may have a mebibyte; a bundle is repeated in each volume and each record.
    const LONGEST: usize = 64 * 1024;

    /// Reads a bundle. What is between the certificates (comments, keys of others) is left out, so that equal
    /// certificates are equal bundles.
    ///
    /// # Errors
    /// When it is neither a path nor PEM, or too long.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > Self::LONGEST {
            return Err(PolicyError::LongBundle(text.len()));
        }
        let text = text.trim();
        if Path::new(text).is_absolute() && !text.contains('\n') {
            return Ok(Self(text.into()));
        }
        let certificates: String = certificate_lines(text).flat_map(|line| [line, "\n"]).collect();
        if certificates.is_empty() {
            Err(PolicyError::NoBundle)
        } else {
            Ok(Self(certificates.into()))
        }
    }

    /// What it is.
    #[must_use]
    pub fn source(&self) -> CaSource<'_> {
        if self.0.starts_with('/') {
            CaSource::File(Path::new(&*self.0))
        } else {
            CaSource::Text(&self.0)
        }
    }

    /// The text from which [`Self::parse`] makes it again.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CaBundle {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        Self::parse(&text)
    }
}

impl From<CaBundle> for String {
    fn from(bundle: CaBundle) -> Self {
        bundle.0.as_ref().to_owned()
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

impl fmt::Display for CertificateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::DangerousAnyName => "dangerous-any-name",
            Self::DangerousNone => "dangerous-none",
        })
    }
}

impl fmt::Display for TlsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Rustls => "rustls",
            Self::OpenSsl => "openssl",
        })
    }
}

/// What differs from the default, for people.
impl fmt::Display for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.least_version == TlsVersion::V1_3 {
            parts.push("TLS 1.3 only".to_owned());
        }
        match self.ca_bundle.as_ref().map(CaBundle::source) {
            Some(CaSource::File(path)) => parts.push(format!("trusting {}", path.display())),
            Some(CaSource::Text(_)) => parts.push("trusting its caBundle".to_owned()),
            None => {}
        }
        if self.check != CertificateCheck::Full {
            parts.push(self.check.to_string());
        }
        if self.revocation == RevocationCheck::Ocsp {
            parts.push("revocation checked".to_owned());
        }
        if self.backend != TlsBackend::Auto {
            parts.push(format!("by {}", self.backend));
        }
        if let Some(access_point) = &self.identity.access_point {
            parts.push(format!("access point {access_point}"));
        }
        if let Some(ram) = &self.identity.ram {
            parts.push(format!("RAM credentials of {}", ram.as_str()));
        }
        f.write_str(&parts.join(", "))
    }
}

fn certificate_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().map(str::trim).filter(move |line| {
        let begins = *line == "-----BEGIN CERTIFICATE-----";
        let ends = *line == "-----END CERTIFICATE-----";
        let kept = inside || begins;
        inside = (inside || begins) && !ends;
        kept && !line.is_empty()
    })
}

fn word(text: &str, expected: &'static str) -> PolicyError {
    PolicyError::Word { word: text.to_owned(), expected }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use crate::model::client_identity::AccessPointId;
    use crate::model::client_identity::CredentialsPath;

    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn the_words_of_settings_are_read_and_shown_again() {
        for word in ["1.2", "1.3"] {
            assert_eq!(TlsVersion::parse(word).unwrap().to_string(), word);
        }
        for word in ["full", "dangerous-any-name", "dangerous-none"] {
            assert_eq!(CertificateCheck::parse(word).unwrap().to_string(), word);
        }
        for word in ["auto", "rustls", "openssl"] {
            assert_eq!(TlsBackend::parse(word).unwrap().to_string(), word);
        }
        assert!(TlsVersion::parse("1.1").unwrap_err().to_string().contains("1.2, 1.3"));
    }

    #[test]
    fn a_bundle_is_a_path_or_the_certificates_of_a_text() {
        let comment = format!("# our own\r\n{}  # end", PEM.replace('\n', "\r\n"));
        assert_eq!(CaBundle::parse(&comment), CaBundle::parse(PEM));
        assert_eq!(CaBundle::parse(PEM).unwrap().source(), CaSource::Text(PEM));
        let path = CaBundle::parse("/etc/ca").unwrap();
        assert_eq!(path.source(), CaSource::File(Path::new("/etc/ca")));
        let long = PEM.repeat(2000);
        for text in ["", "ca.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n", &long] {
            assert!(CaBundle::parse(text).is_err(), "{text:.20}");
        }
    }

    #[test]
    fn only_what_differs_from_the_default_is_written_and_it_is_read_again() {
        assert_eq!(serde_json::to_string(&TlsPolicy::default()).unwrap(), "{}");
        let policy = TlsPolicy {
            least_version: TlsVersion::V1_3,
            ca_bundle: Some(CaBundle::parse("/ca").unwrap()),
            check: CertificateCheck::DangerousAnyName,
            revocation: RevocationCheck::Ocsp,
            backend: TlsBackend::OpenSsl,
            identity: Box::new(ClientIdentity {
                access_point: Some(AccessPointId::parse("ap-1").unwrap()),
                ram: Some(CredentialsPath::parse("/c").unwrap()),
            }),
        };
        let text = serde_json::to_string(&policy).unwrap();
        let written = r#"{"least_version":"1.3","ca_bundle":"/ca","check":"dangerous-any-name","revocation":"ocsp","backend":"openssl","identity":{"access_point":"ap-1","ram":"/c"}}"#;
        assert_eq!(text, written);
        assert_eq!(serde_json::from_str::<TlsPolicy>(&text).unwrap(), policy);
        let shown = "TLS 1.3 only, trusting /ca, dangerous-any-name, revocation checked, by openssl, access point ap-1, \
             RAM credentials of /c";
        assert_eq!(policy.to_string(), shown);
        assert!(serde_json::from_str::<TlsPolicy>(r#"{"chek":"full"}"#).is_err());
    }
}
