//! Where a tunnel leads, whose name the server there must prove, and how.

use std::fmt;
use std::net::IpAddr;

use crate::model::client_identity::ClientIdentity;
use crate::model::client_identity::ClientSubject;
use crate::model::client_identity::IdentityError;
use crate::model::mount_target::MountTarget;
use crate::model::tls_policy::TlsPolicy;

/// A host name or address, as it is resolved and as a certificate carries it.
///
/// Never empty, at most 253 bytes, lower case, no port, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(Box<str>);

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
            return Ok(Self(address.to_string().into()));
        }
        if text.len() > 253 {
            return Err(ServerNameError::TooLong(text.to_owned()));
        }
        match text.split('.').find_map(label_fault) {
            Some(why) => Err(ServerNameError::Malformed { name: text.to_owned(), why }),
            None => Ok(Self(text.to_ascii_lowercase().into())),
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

/// The TCP port of the TLS listener of a mount target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RemotePort {
    /// Not said: whichever of [`RemotePort::KNOWN`] speaks TLS.
    #[default]
    Known,
    /// This one and no other.
    Only(u16),
}

impl RemotePort {
    /// Where mount targets speak TLS: the port of the vendor's present client, and that of its first one.
    pub const KNOWN: [u16; 2] = [2049, 12049];

    /// The ports to try, in this order.
    #[must_use]
    pub fn candidates(&self) -> &[u16] {
        match self {
            Self::Known => &Self::KNOWN,
            Self::Only(port) => std::slice::from_ref(port),
        }
    }

    /// As a number, 0 where it is not said.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Known => 0,
            Self::Only(port) => port,
        }
    }
}

/// The other way of [`RemotePort::number`].
impl From<u16> for RemotePort {
    fn from(number: u16) -> Self {
        if number == 0 { Self::Known } else { Self::Only(number) }
    }
}

/// What makes a tunnel one tunnel: equal specs share a loopback address, different ones never do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelSpec {
    /// The mount target, resolved again at every connect.
    pub host: ServerName,
    /// Where it speaks TLS.
    pub port: RemotePort,
    /// The name that the certificate must carry; also sent as SNI.
    pub server_name: ServerName,
    /// How its sessions are secured.
    pub policy: TlsPolicy,
}

impl TunnelSpec {
    /// The tunnel to a host that proves its own name, with the strict policy.
    #[must_use]
    pub fn to(host: ServerName, port: RemotePort) -> Self {
        Self { server_name: host.clone(), host, port, policy: TlsPolicy::default() }
    }

    /// The same tunnel for a client that says this of itself.
    ///
    /// # Errors
    /// When it contradicts the domain, or says what only the domain of a file system allows.
    pub fn identified(mut self, identity: ClientIdentity) -> Result<Self, IdentityError> {
        let of_domain = ClientIdentity { access_point: self.client().access_point, ram: None };
        let ClientIdentity { access_point, ram } = of_domain.clone().and(identity)?;
        // What the domain says need not be repeated: whoever does has the same tunnel.
        let access_point = access_point.filter(|_| of_domain.access_point.is_none());
        *self.policy.identity = ClientIdentity { access_point, ram };
        if self.policy.identity.ram.is_some() && self.client().file_system.is_none() {
            return Err(IdentityError::NoFileSystem);
        }
        Ok(self)
    }

    /// Whose certificate is presented to the server. The file system is the one of the host, or else of the
    /// name that the server must prove.
    #[must_use]
    pub fn client(&self) -> ClientSubject {
        let identity = &self.policy.identity;
        let vendor_s = |name: &ServerName| {
            let target = MountTarget::parse(name.as_str()).ok()?;
            target.file_system().map(|file_system| (file_system, target.access_point()))
        };
        let (file_system, of_domain) =
            vendor_s(&self.host).or_else(|| vendor_s(&self.server_name)).unzip();
        ClientSubject {
            file_system,
            access_point: identity.access_point.clone().or(of_domain.flatten()),
            ram: identity.ram.clone(),
        }
    }
}

impl fmt::Display for TunnelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.address(), self.port) {
            (Some(IpAddr::V6(address)), RemotePort::Only(port)) => write!(f, "[{address}]:{port}")?,
            (_, RemotePort::Only(port)) => write!(f, "{}:{port}", self.host)?,
            (_, RemotePort::Known) => write!(f, "{}", self.host)?,
        }
        if self.server_name != self.host {
            write!(f, " (as {})", self.server_name)?;
        }
        if !self.policy.is_default() {
            write!(f, " ({})", self.policy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::model::client_identity::AccessPointId;
    use crate::model::client_identity::CredentialsPath;

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
    fn a_port_that_is_not_said_is_either_of_the_known_ones() {
        assert_eq!(RemotePort::Known.candidates(), [2049, 12049]);
        assert_eq!(RemotePort::Only(7).candidates(), [7]);
        for port in [RemotePort::Known, RemotePort::Only(2049)] {
            assert_eq!(RemotePort::from(port.number()), port);
        }
    }

    #[test]
    fn a_tunnel_shows_what_is_out_of_the_ordinary() {
        let host = ServerName::parse("nas.example.com").unwrap();
        let mut spec = TunnelSpec::to(host, RemotePort::Known);
        assert_eq!(spec.to_string(), "nas.example.com");
        spec.port = RemotePort::Only(12049);
        spec.policy.check = crate::model::tls_policy::CertificateCheck::DangerousNone;
        assert_eq!(spec.to_string(), "nas.example.com:12049 (dangerous-none)");
    }

    #[test]
    fn the_client_is_named_after_the_mount_target_or_the_name_that_it_proves() {
        let name = |text: &str| ServerName::parse(text).unwrap();
        let (general, access_point) =
            (name("0-a.cn-x.nas.aliyuncs.com"), name("ap-1.cn-y.nas.aliyuncs.com"));
        for (host, server_name, shown) in [
            (&general, &general, "alinas-0-a.cn-x"),
            (&access_point, &general, "alinas-ap-1.cn-y, access point ap-1"),
            (&name("10.0.0.8"), &access_point, "alinas-ap-1.cn-y, access point ap-1"),
            (&name("nas.corp"), &name("nas.corp"), "a file system of unknown name"),
        ] {
            let mut spec = TunnelSpec::to(host.clone(), RemotePort::Known);
            spec.server_name = server_name.clone();
            assert_eq!(spec.client().to_string(), shown);
        }
    }

    #[test]
    fn what_a_client_says_of_itself_must_fit_the_domain() {
        let spec = |host: &str| TunnelSpec::to(ServerName::parse(host).unwrap(), RemotePort::Known);
        let (general, access_point) = ("0-a.cn-x.nas.aliyuncs.com", "ap-1.cn-y.nas.aliyuncs.com");
        let said = |access_point: &str| ClientIdentity {
            access_point: Some(AccessPointId::parse(access_point).unwrap()),
            ram: None,
        };
        let other = spec(general).identified(said("ap-2")).unwrap();
        assert_eq!(other.client().to_string(), "alinas-0-a.cn-x, access point ap-2");
        let same = spec(access_point).identified(said("ap-1")).unwrap();
        assert_eq!(same, spec(access_point));
        let error = spec(access_point).identified(said("ap-2")).unwrap_err();
        assert!(matches!(error, IdentityError::Contradiction { .. }), "{error}");
        let ram = ClientIdentity { access_point: None, ram: Some(CredentialsPath::default()) };
        assert!(spec(general).identified(ram.clone()).unwrap().client().is_essential());
        let error = spec("nas.corp").identified(ram).unwrap_err();
        assert_eq!(error, IdentityError::NoFileSystem);
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        let long = "a.".repeat(127) + "a";
        for text in ["", "a..b", "-a", "a-", "a b", "a/b", "a:1", "nas\n", "ä", long.as_str()] {
            assert!(ServerName::parse(text).is_err(), "{text:?}");
        }
    }
}
