//! Where a tunnel leads, and whose name the server there must prove.

use std::fmt;
use std::net::IpAddr;

/// A host name or address, as it is resolved and as a certificate carries it.
///
/// Never empty, at most 253 bytes, lower case, no port, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(String);

/// Why a text is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerNameError {
    /// Nothing was given.
    #[error("a host name must not be empty")]
    Empty,
    /// RFC 1035, section 2.3.4: at most 253 characters.
    #[error("host name {0:?} is longer than 253 characters")]
    TooLong(String),
    /// A label is empty, too long, or holds something other than letters, digits and `-`.
    #[error("{name:?} is no host name: {why}")]
    Malformed {
        /// What was given.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
}

impl ServerName {
    /// Reads a host name (RFC 1123, letters in any case) or an IPv4 or IPv6 address.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, ServerNameError> {
        if text.is_empty() {
            return Err(ServerNameError::Empty);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        if text.len() > 253 {
            return Err(ServerNameError::TooLong(text.to_owned()));
        }
        match text.split('.').find_map(label_fault) {
            Some(why) => Err(ServerNameError::Malformed { name: text.to_owned(), why }),
            None => Ok(Self(text.to_ascii_lowercase())),
        }
    }

    /// The text, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, where the name is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

/// RFC 1123, section 2.1: letters, digits and hyphens; a hyphen neither first nor last.
fn label_fault(label: &str) -> Option<&'static str> {
    if label.is_empty() {
        Some("a part between dots is empty")
    } else if label.len() > 63 {
        Some("a part between dots is longer than 63 characters")
    } else if label.starts_with('-') || label.ends_with('-') {
        Some("a part between dots begins or ends with a hyphen")
    } else if label.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-') {
        Some("it may hold only letters, digits, hyphens and dots")
    } else {
        None
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What makes a tunnel one tunnel: equal specs share a loopback address, different ones never do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelSpec {
    /// The mount target, resolved again at every connect.
    pub host: ServerName,
    /// The TCP port of the TLS listener there.
    pub port: u16,
    /// The name that the certificate must carry; also sent as SNI.
    pub server_name: ServerName,
}

impl fmt::Display for TunnelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.address() {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port)?,
            _ => write!(f, "{}:{}", self.host, self.port)?,
        }
        if self.server_name != self.host {
            write!(f, " (as {})", self.server_name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_and_addresses_are_read_in_their_canonical_form() {
        for (text, canonical) in [
            ("NAS.example.COM", "nas.example.com"),
            ("10.0.0.8", "10.0.0.8"),
            ("FE80::1", "fe80::1"),
            ("a", "a"),
        ] {
            assert_eq!(ServerName::parse(text).unwrap().as_str(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        let long = "a.".repeat(127) + "a";
        for text in ["", "a..b", "-a", "a-", "a b", "a/b", "a:1", "nas\n", "ä", long.as_str()] {
            assert!(ServerName::parse(text).is_err(), "{text:?}");
        }
    }
}
