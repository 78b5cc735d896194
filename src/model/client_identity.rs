//! Who a client says that it is: what its certificate carries, and what it is signed with.
//!
//! The certificate itself is made by [`crate::tls`]; here are the words that a user may say about it.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::model::mount_target::FileSystemName;

/// What a volume says about its client certificate. Nothing, mostly: a certificate is presented anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientIdentity {
    /// The access point, where the domain does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_point: Option<AccessPointId>,
    /// Where the credentials of a RAM user or role are, which the certificate is to be signed with, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram: Option<CredentialsPath>,
}

/// Whose certificate it is: equal subjects share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientSubject {
    /// Nothing where the domain is not the vendor's.
    pub file_system: Option<FileSystemName>,
    /// The access point, whether the domain says it or the user.
    pub access_point: Option<AccessPointId>,
    /// Where the credentials are.
    pub ram: Option<CredentialsPath>,
}

/// `ap-` and an id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccessPointId(String);

/// The absolute path of a file with RAM credentials, or of a directory such as a mounted Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialsPath(String);

/// Why a text is no part of an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an access point.
    #[error("{0:?} is no access point; expected its id, ap- and then letters, digits and hyphens")]
    AccessPoint(String),
    /// A path that depends on where a process stands.
    #[error("{0:?} is no absolute path of a credentials file or directory")]
    Credentials(String),
    /// Said twice, in different words.
    #[error("{what} is said to be {one} and to be {other}; leave one of them out")]
    Contradiction {
        /// Of what.
        what: &'static str,
        /// At one place.
        one: String,
        /// At another, or by the domain.
        other: String,
    },
    /// RAM signs for a file system.
    #[error(
        "RAM credentials sign for a file system of a region, which the name of the server does not say; mount by \
         the mount target's domain, or give that as tlsServerName"
    )]
    NoFileSystem,
}

impl ClientIdentity {
    /// What is said here and there.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn and(self, other: Self) -> Result<Self, IdentityError> {
        Ok(Self {
            access_point: agreed("the access point", self.access_point, other.access_point)?,
            ram: agreed("the place of the RAM credentials", self.ram, other.ram)?,
        })
    }
}

fn agreed<T: PartialEq + Into<String>>(
    what: &'static str,
    one: Option<T>,
    other: Option<T>,
) -> Result<Option<T>, IdentityError> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            Err(IdentityError::Contradiction { what, one: one.into(), other: other.into() })
        }
        (one, other) => Ok(one.or(other)),
    }
}

impl ClientSubject {
    /// Whether a certificate must be there before the first handshake: without it there is no access, or that
    /// of somebody else.
    #[must_use]
    pub fn is_essential(&self) -> bool {
        self.access_point.is_some() || self.ram.is_some()
    }
}

impl AccessPointId {
    /// Longer than any that the vendor gives.
    const LONGEST: usize = 63;

    /// Reads an id.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match text.strip_prefix("ap-") {
            Some(id) if !id.is_empty() && text.len() <= Self::LONGEST && id.bytes().all(fine) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(IdentityError::AccessPoint(text.to_owned())),
        }
    }

    /// The id, with its `ap-`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CredentialsPath {
    /// Where the vendor's client has them (aliyun-alinas-utils 2.2).
    pub const USUAL: &str = "/etc/aliyun/alinas/.credentials";

    /// Reads a path.
    ///
    /// # Errors
    /// When it is not absolute, or holds a control character.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        if Path::new(text).is_absolute() && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentityError::Credentials(text.to_owned()))
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The text from which [`Self::parse`] makes it again.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CredentialsPath {
    fn default() -> Self {
        Self(Self::USUAL.to_owned())
    }
}

impl TryFrom<String> for AccessPointId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        Self::parse(&text)
    }
}

impl From<AccessPointId> for String {
    fn from(id: AccessPointId) -> Self {
        id.0
    }
}

impl TryFrom<String> for CredentialsPath {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        Self::parse(&text)
    }
}

impl From<CredentialsPath> for String {
    fn from(path: CredentialsPath) -> Self {
        path.0
    }
}

impl fmt::Display for AccessPointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ClientSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file_system {
            Some(file_system) => f.write_str(&file_system.id)?,
            None => f.write_str("a file system of unknown name")?,
        }
        if let Some(access_point) = &self.access_point {
            write!(f, ", access point {access_point}")?;
        }
        if let Some(ram) = &self.ram {
            write!(f, ", RAM credentials of {}", ram.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_point_is_its_id_and_nothing_else() {
        assert_eq!(AccessPointId::parse("ap-0A1b").unwrap().as_str(), "ap-0A1b");
        let long = format!("ap-{}", "a".repeat(61));
        for text in ["", "ap-", "ap", "xp-1", "ap-1.cn-x.nas.aliyuncs.com", "ap-1\n", "ap-ä", &long]
        {
            assert!(AccessPointId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_at_an_absolute_path() {
        assert_eq!(CredentialsPath::parse("/a/b").unwrap().path(), Path::new("/a/b"));
        for text in ["", "a", "./a", "/a\nb"] {
            assert!(CredentialsPath::parse(text).is_err(), "{text}");
        }
        assert_eq!(CredentialsPath::default().as_str(), CredentialsPath::USUAL);
    }

    #[test]
    fn what_is_said_at_two_places_must_be_the_same() {
        let said = |access_point: &str| ClientIdentity {
            access_point: Some(AccessPointId::parse(access_point).unwrap()),
            ram: None,
        };
        let ram = ClientIdentity { access_point: None, ram: Some(CredentialsPath::default()) };
        let both = said("ap-1").and(ram.clone()).unwrap();
        assert_eq!(both.clone().and(said("ap-1")).unwrap(), both);
        let error = both.and(said("ap-2")).unwrap_err().to_string();
        assert!(error.contains("to be ap-1 and to be ap-2"), "{error}");
        let elsewhere = CredentialsPath::parse("/c").unwrap();
        assert!(ram.and(ClientIdentity { access_point: None, ram: Some(elsewhere) }).is_err());
    }

    #[test]
    fn an_identity_on_disk_is_read_again_and_checked() {
        let identity = ClientIdentity {
            access_point: Some(AccessPointId::parse("ap-1").unwrap()),
            ram: Some(CredentialsPath::default()),
        };
        let text = serde_json::to_string(&identity).unwrap();
        assert_eq!(serde_json::from_str::<ClientIdentity>(&text).unwrap(), identity);
        assert!(serde_json::from_str::<ClientIdentity>(r#"{"access_point":"x"}"#).is_err());
        assert_eq!(serde_json::to_string(&ClientIdentity::default()).unwrap(), "{}");
    }
}
