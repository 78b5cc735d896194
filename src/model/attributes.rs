//! Volume attributes: what a PersistentVolume or a StorageClass says about a volume.
//!
//! [`KEYS`] is the one table of them: the parser, the error messages and the documents read it.
//!
//! LONG: one table of keys, one door for their values, a row for each way to get one wrong, and a test for each way
//! in which encryption can be asked for and not asked for.

use std::collections::HashMap;

use crate::model::client_identity::AccessPointId;
use crate::model::client_identity::ClientIdentity;
use crate::model::client_identity::CredentialsPath;
use crate::model::client_identity::IdentityError;
use crate::model::device_name::DeviceName;
use crate::model::export_path::ExportPath;
use crate::model::export_path::ExportPathError;
use crate::model::mount_target::MountTarget;
use crate::model::mount_target::MountTargetError;
use crate::model::nearest::did_you_mean;
use crate::model::nfs_option::MountOptions;
use crate::model::nfs_option::Note;
use crate::model::nfs_option::OptionError;
use crate::model::nfs_option::Rules;
use crate::model::tls_policy::CaBundle;
use crate::model::tls_policy::CertificateCheck;
use crate::model::tls_policy::PolicyError;
use crate::model::tls_policy::RevocationCheck;
use crate::model::tls_policy::TlsBackend;
use crate::model::tls_policy::TlsPolicy;
use crate::model::tls_policy::TlsVersion;
use crate::model::tunnel_spec::RemotePort;
use crate::model::tunnel_spec::ServerName;
use crate::model::tunnel_spec::ServerNameError;
use crate::model::tunnel_spec::TunnelSpec;

/// One key of the volume attributes.
#[derive(Debug)]
pub struct Key {
    /// The key as it is documented; any case is accepted.
    pub name: &'static str,
    /// What it means when it is left out, or why it must not be.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
}

/// Every key that a volume may carry.
pub const KEYS: &[Key] = &[
    Key {
        name: "server",
        default: "required",
        help: "The mount target domain of the file system, or a private name or address for it.",
    },
    Key {
        name: "path",
        default: "/",
        help: "The directory of the file system that the volume is.",
    },
    Key {
        name: "mountProtocol",
        default: "alinas",
        help: "\"alinas\" mounts through a TLS tunnel; \"nfs\" mounts without encryption.",
    },
    Key {
        name: "vers",
        default: "3; negotiated with plain NFS",
        help: "The NFS version: 3 or 4.0, and 4.1 or 4.2 with plain NFS. The mount option vers= says the same.",
    },
    Key {
        name: "options",
        default: "",
        help: "Text mount options, added to those of mountOptions, as in \"rsize=65536,nconnect=4\".",
    },
    Key {
        name: "tls",
        default: "true",
        help: "Encryption in transit. \"false\" mounts without it, as mountProtocol \"nfs\" does.",
    },
    Key {
        name: "allowMixedEncryption",
        default: "false",
        help: "\"true\" mounts the volume although the node has the same server mounted with TLS and this volume goes \
               without, or the other way round.",
    },
    Key {
        name: "tlsPort",
        default: "2049, or else 12049",
        help: "The TCP port on which the mount target speaks TLS; where it is given, no other is tried.",
    },
    Key {
        name: "tlsServerName",
        default: "the server",
        help: "The name that the certificate must carry; required where server is an address.",
    },
    Key {
        name: "tlsMinVersion",
        default: "1.2",
        help: "The oldest TLS version that is spoken, 1.2 or 1.3.",
    },
    Key {
        name: "caBundle",
        default: "what the node trusts",
        help: "Certificates of authorities in PEM form, or an absolute path to them in the watchdog's container; trusted for \
               this volume instead of those that the node trusts.",
    },
    Key {
        name: "tlsCheck",
        default: "full",
        help: "What of the server's certificate is checked. \"dangerous-any-name\" and \"dangerous-none\" let somebody \
               in the way read and change the data.",
    },
    Key {
        name: "stunnel_check_cert_hostname",
        default: "true",
        help: "The vendor's word: \"false\" is tlsCheck=dangerous-any-name.",
    },
    Key {
        name: "stunnel_check_cert_validity",
        default: "false",
        help: "Whether the issuer of the server's certificate is asked if it has been revoked (OCSP).",
    },
    Key {
        name: "tlsBackend",
        default: "auto",
        help: "Who speaks TLS: \"rustls\", \"openssl\", or the first, and the second for a server that has nothing in \
               common with it.",
    },
    Key {
        name: "accesspoint",
        default: "what the server says",
        help: "The access point: its id, or its domain, which then may stand for the server.",
    },
    Key {
        name: "accesspointId",
        default: "what the server says",
        help: "The vendor's word for the id of the access point.",
    },
    Key {
        name: "ram",
        default: "false",
        help: "Whether the client certificate is signed with the credentials of a RAM user or role, too.",
    },
    Key { name: "accesspointEnableRam", default: "false", help: "The vendor's word for ram." },
    Key {
        name: "ramConfigFile",
        default: "/etc/aliyun/alinas/.credentials",
        help: "The absolute path of these credentials in the watchdog's container: the vendor's file, or a mounted \
               Secret with accessKeyID, accessKeySecret and securityToken; \"ram\" need not be said.",
    },
];

/// Keys that say how a tunnel is secured; plain NFS has none.
const TUNNEL_KEYS: [&str; 13] = [
    "tlsPort",
    "tlsServerName",
    "tlsMinVersion",
    "caBundle",
    "tlsCheck",
    "stunnel_check_cert_hostname",
    "stunnel_check_cert_validity",
    "tlsBackend",
    "accesspoint",
    "accesspointId",
    "ram",
    "accesspointEnableRam",
    "ramConfigFile",
];

/// How keys begin that Kubernetes' sidecars and its kubelet add, and that are meant for them.
pub const SIDECAR_PREFIX: &str = "csi.storage.k8s.io/";
/// Keys that Kubernetes adds to the volume context by itself; they say nothing to us.
pub(super) const KUBERNETES_PREFIXES: [&str; 2] = [SIDECAR_PREFIX, "storage.kubernetes.io/"];

/// What a volume's attributes say, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeAttributes {
    /// The mount target.
    pub server: MountTarget,
    /// The directory there.
    pub path: ExportPath,
    /// How it is mounted.
    pub protocol: MountProtocol,
    /// Whether it may be mounted beside mounts of the server that are encrypted where this one is not, or not
    /// encrypted where this one is.
    pub mixed_encryption: bool,
    /// The text mount options: those of the attributes `vers` and `options`, then the mount flags.
    pub options: MountOptions,
    /// Which of them do not do all that they say, and why.
    pub notes: Vec<Note>,
}

/// How a volume is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountProtocol {
    /// NFS through a TLS tunnel, which leads there.
    Alinas(TunnelSpec),
    /// Plain NFS. Only because the user said so: there is no way from a tunnel that fails to here.
    Nfs,
}

/// Why attributes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// A key that we do not know; a slip of the hand must not mean "default".
    #[error("unknown volume attribute {0:?}{hint}", hint = did_you_mean(.0, KEYS.iter().map(|key| key.name)))]
    Unknown(String),
    /// The same key twice, in different case.
    #[error("volume attribute {0:?} is given twice")]
    Twice(&'static str),
    /// A required key is missing.
    #[error("volume attribute {0:?} is required")]
    Missing(&'static str),
    /// `server` is no usable mount target.
    #[error("volume attribute \"server\": {0}")]
    Server(#[from] MountTargetError),
    /// `path` is no path.
    #[error("volume attribute \"path\": {0}")]
    Path(#[from] ExportPathError),
    /// `tlsServerName` is no name.
    #[error("volume attribute \"tlsServerName\": {0}")]
    ServerName(#[from] ServerNameError),
    /// A value of the TLS policy is none.
    #[error("volume attribute {key:?}: {source}")]
    Policy {
        /// The key.
        key: &'static str,
        /// Which rule it breaks.
        source: PolicyError,
    },
    /// What the client is to say of itself does not fit.
    #[error("the client certificate: {0}")]
    Identity(#[from] IdentityError),
    /// An address proves no name.
    #[error(
        "volume attribute \"server\" is the address {0}, which a certificate does not carry; give the name that it \
         carries as \"tlsServerName\""
    )]
    AddressWithoutName(String),
    /// A value outside its range.
    #[error("volume attribute {key:?} is {value:?}; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// Two attributes exclude each other.
    #[error("volume attribute {key:?} is {value:?}, but {other:?} is {other_value:?}: {remedy}")]
    Contradiction {
        /// The key that cannot be.
        key: &'static str,
        /// Its value.
        value: String,
        /// The key that it meets.
        other: &'static str,
        /// The value of that.
        other_value: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A mount option cannot be used.
    #[error("{0}")]
    Option(#[from] OptionError),
}

impl VolumeAttributes {
    /// Reads the attributes of a volume together with the mount flags of its capability.
    ///
    /// # Errors
    /// Names the first key or option that cannot be used, and the nearest known one.
    pub fn parse(
        attributes: &HashMap<String, String>,
        mount_flags: &[String],
    ) -> Result<Self, AttributeError> {
        let given = Given::sort(attributes)?;
        let server = mount_target(&given)?;
        let path = ExportPath::parse(given.get("path").unwrap_or_default())?;
        let mut protocol = mount_protocol(&server, &given)?;
        let mixed_encryption = given.flag("allowMixedEncryption")?.unwrap_or_default();
        let (options, notes) = MountOptions::parse_with_notes(
            protocol.rules(),
            given
                .get("vers")
                .map(|version| format!("vers={version}"))
                .iter()
                .map(String::as_str)
                .chain(given.get("options"))
                .chain(mount_flags.iter().map(String::as_str)),
        )?;
        if let MountProtocol::Alinas(tunnel) = protocol {
            let identity = identity(&given)?.and(options.identity()?)?;
            protocol = MountProtocol::Alinas(tunnel.identified(identity)?);
        }
        Ok(Self { server, path, protocol, mixed_encryption, options, notes })
    }

    /// What is mounted.
    #[must_use]
    pub fn device(&self) -> DeviceName {
        DeviceName::of_volume(&self.server, &self.path)
    }

    /// The source of the mount as the kernel and `mount -l` show it: `domain:/path`.
    #[must_use]
    pub fn source(&self) -> String {
        self.device().to_string()
    }
}

impl MountProtocol {
    fn rules(&self) -> Rules {
        match self {
            Self::Alinas(_) => Rules::Tunnel,
            Self::Nfs => Rules::Direct,
        }
    }
}

/// The server, or the domain of the access point in its place.
fn mount_target(given: &Given<'_>) -> Result<MountTarget, AttributeError> {
    let domain = given.get("accesspoint").filter(|text| text.contains('.'));
    Ok(match (given.get("server"), domain) {
        (None, Some(domain)) => MountTarget::parse(domain)?,
        _ => MountTarget::parse(given.require("server")?)?,
    })
}

/// Encrypted, unless the user says otherwise, and does not say both.
fn mount_protocol(
    server: &MountTarget,
    given: &Given<'_>,
) -> Result<MountProtocol, AttributeError> {
    let protocol = given.one_of("mountProtocol", &["alinas", "nfs"], "\"alinas\" or \"nfs\"")?;
    let tls = given.one_of("tls", &["true", "false"], "\"true\" or \"false\"")?;
    match (protocol, tls) {
        (Some("nfs"), Some("true")) | (Some("alinas"), Some("false")) => {
            Err(given.contradiction("tls", "mountProtocol", "leave one of them out"))
        }
        (Some("nfs"), _) => plain("mountProtocol", server, given),
        (_, Some("false")) => plain("tls", server, given),
        _ => tunnel_spec(server, given).map(MountProtocol::Alinas),
    }
}

fn plain(
    because: &'static str,
    server: &MountTarget,
    given: &Given<'_>,
) -> Result<MountProtocol, AttributeError> {
    if server.access_point().is_some() {
        let remedy = "an access point is mounted with encryption only, so leave that out";
        return Err(given.contradiction("server", because, remedy));
    }
    match TUNNEL_KEYS.into_iter().find(|key| given.get(key).is_some()) {
        Some(key) => Err(given.contradiction(
            key,
            because,
            "leave it out (a port of plain NFS is the mount option port=), or mount with encryption",
        )),
        None => Ok(MountProtocol::Nfs),
    }
}

fn tunnel_spec(server: &MountTarget, given: &Given<'_>) -> Result<TunnelSpec, AttributeError> {
    let port = match given.get("tlsPort") {
        None => RemotePort::Known,
        Some(text) => match text.parse() {
            Ok(0) | Err(_) => {
                let value = text.to_owned();
                let expected = "a TCP port from 1 to 65535";
                return Err(AttributeError::Value { key: "tlsPort", value, expected });
            }
            Ok(port) => RemotePort::Only(port),
        },
    };
    let server_name = match given.get("tlsServerName") {
        Some(text) => ServerName::parse(text)?,
        None => server
            .certificate_name()
            .cloned()
            .ok_or_else(|| AttributeError::AddressWithoutName(server.to_string()))?,
    };
    Ok(TunnelSpec { host: server.name().clone(), port, server_name, policy: tls_policy(given)? })
}

fn tls_policy(given: &Given<'_>) -> Result<TlsPolicy, AttributeError> {
    let check = match (given.get("tlsCheck"), given.flag("stunnel_check_cert_hostname")?) {
        (None, Some(false)) => CertificateCheck::DangerousAnyName,
        (_, Some(checked)) => {
            let check = given.policy("tlsCheck", CertificateCheck::parse)?.unwrap_or_default();
            if checked != (check == CertificateCheck::Full) {
                return Err(AttributeError::Value {
                    key: "stunnel_check_cert_hostname",
                    value: checked.to_string(),
                    expected: "nothing that contradicts \"tlsCheck\"",
                });
            }
            check
        }
        (_, None) => given.policy("tlsCheck", CertificateCheck::parse)?.unwrap_or_default(),
    };
    Ok(TlsPolicy {
        least_version: given.policy("tlsMinVersion", TlsVersion::parse)?.unwrap_or_default(),
        ca_bundle: given.policy("caBundle", CaBundle::parse)?,
        check,
        revocation: match given.flag("stunnel_check_cert_validity")? {
            Some(true) => RevocationCheck::Ocsp,
            Some(false) | None => RevocationCheck::Off,
        },
        backend: given.policy("tlsBackend", TlsBackend::parse)?.unwrap_or_default(),
        identity: Box::default(),
    })
}

/// What is said about our own certificate.
fn identity(given: &Given<'_>) -> Result<ClientIdentity, AttributeError> {
    let id = |key| {
        let access_point = given.policy(key, |text| Ok(access_point(text)?))?;
        Ok::<_, AttributeError>(ClientIdentity { access_point, ram: None })
    };
    let path = given.policy("ramConfigFile", |text| Ok(CredentialsPath::parse(text)?))?;
    let ram = match (given.flag("ram")?, given.flag("accesspointEnableRam")?, path) {
        (Some(true), Some(false), _) => {
            return Err(given.contradiction(
                "accesspointEnableRam",
                "ram",
                "leave one of them out",
            ));
        }
        (Some(false), Some(true), _) => {
            return Err(given.contradiction(
                "ram",
                "accesspointEnableRam",
                "leave one of them out",
            ));
        }
        (Some(false), _, Some(_)) => {
            return Err(given.contradiction("ramConfigFile", "ram", "leave one of them out"));
        }
        (_, _, Some(path)) => Some(path),
        (ram, vendor_s, None) => {
            (ram == Some(true) || vendor_s == Some(true)).then(CredentialsPath::default)
        }
    };
    let said = ClientIdentity { access_point: None, ram };
    Ok(said.and(id("accesspoint")?)?.and(id("accesspointId")?)?)
}

/// An id, or the domain that holds it.
fn access_point(text: &str) -> Result<AccessPointId, IdentityError> {
    let of_domain = || MountTarget::parse(text).ok()?.access_point();
    match of_domain() {
        Some(access_point) => Ok(access_point),
        None => AccessPointId::parse(text),
    }
}

/// The attributes by their documented names.
struct Given<'a>(HashMap<&'static str, &'a str>);

impl<'a> Given<'a> {
    fn sort(attributes: &'a HashMap<String, String>) -> Result<Self, AttributeError> {
        let mut sorted = HashMap::new();
        // In order, so that of several mistakes the same one is always named.
        let mut keys: Vec<_> = attributes.iter().collect();
        keys.sort();
        for (key, value) in keys {
            if KUBERNETES_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            let known = KEYS
                .iter()
                .find(|known| known.name.eq_ignore_ascii_case(key))
                .ok_or_else(|| AttributeError::Unknown(key.clone()))?;
            if sorted.insert(known.name, value.as_str()).is_some() {
                return Err(AttributeError::Twice(known.name));
            }
        }
        Ok(Self(sorted))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied().filter(|value| !value.is_empty())
    }

    fn policy<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, PolicyError>,
    ) -> Result<Option<T>, AttributeError> {
        let wrong = |source| AttributeError::Policy { key, source };
        self.get(key).map(parse).transpose().map_err(wrong)
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, AttributeError> {
        match self.get(key) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(AttributeError::Value {
                key,
                value: other.to_owned(),
                expected: "\"true\" or \"false\"",
            }),
        }
    }

    fn require(&self, key: &'static str) -> Result<&'a str, AttributeError> {
        self.get(key).ok_or(AttributeError::Missing(key))
    }

    fn one_of(
        &self,
        key: &'static str,
        words: &[&str],
        expected: &'static str,
    ) -> Result<Option<&'a str>, AttributeError> {
        match self.get(key) {
            Some(value) if !words.contains(&value) => {
                Err(AttributeError::Value { key, value: value.to_owned(), expected })
            }
            known => Ok(known),
        }
    }

    fn contradiction(
        &self,
        key: &'static str,
        other: &'static str,
        remedy: &'static str,
    ) -> AttributeError {
        let value = |key| self.get(key).unwrap_or_default().to_owned();
        let (value, other_value) = (value(key), value(other));
        AttributeError::Contradiction { key, value, other, other_value, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com";

    fn parse(
        attributes: &[(&str, &str)],
        flags: &[&str],
    ) -> Result<VolumeAttributes, AttributeError> {
        let attributes = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        VolumeAttributes::parse(&attributes, &flags)
    }

    #[test]
    fn a_server_alone_is_a_volume_with_the_defaults() {
        let volume = parse(&[("server", DOMAIN)], &[]).unwrap();
        assert_eq!(volume.source(), format!("{DOMAIN}:/"));
        let MountProtocol::Alinas(tunnel) = volume.protocol else { panic!("plain NFS") };
        assert_eq!(tunnel.to_string(), DOMAIN);
        assert_eq!(tunnel.port, RemotePort::Known);
        assert!(tunnel.policy.is_default());
    }

    #[test]
    fn a_volume_is_encrypted_unless_the_user_says_otherwise() {
        for (attributes, plain) in [
            (vec![], false),
            (vec![("mountProtocol", "alinas")], false),
            (vec![("mountProtocol", "alinas"), ("tls", "true")], false),
            (vec![("mountProtocol", "")], false),
            (vec![("mountProtocol", "nfs")], true),
            (vec![("tls", "false")], true),
            (vec![("mountProtocol", "nfs"), ("tls", "false")], true),
        ] {
            let attributes = [&[("server", DOMAIN)], &attributes[..]].concat();
            let volume = parse(&attributes, &[]).unwrap();
            assert_eq!(volume.protocol == MountProtocol::Nfs, plain, "{attributes:?}");
        }
    }

    #[test]
    fn what_would_be_encrypted_and_not_encrypted_is_refused() {
        let nfs = ("mountProtocol", "nfs");
        for (attributes, flags, said) in [
            (
                vec![nfs, ("tls", "true")],
                vec![],
                "\"tls\" is \"true\", but \"mountProtocol\" is \"nfs\"",
            ),
            (vec![("mountProtocol", "alinas"), ("tls", "false")], vec![], "leave one of them out"),
            (vec![nfs], vec!["tls"], "not encrypted"),
            (vec![("tls", "false")], vec!["tls"], "not encrypted"),
            (vec![nfs, ("options", "hard,tls")], vec![], "not encrypted"),
            (vec![nfs, ("tlsPort", "2049")], vec![], "the mount option port="),
            (vec![("tls", "false"), ("tlsServerName", "a.b")], vec![], "\"tls\" is \"false\""),
            (vec![("mountProtocol", "efc")], vec![], "expected \"alinas\" or \"nfs\""),
            (vec![("mountProtocol", "NFS")], vec![], "expected \"alinas\" or \"nfs\""),
        ] {
            let attributes = [&[("server", DOMAIN)], &attributes[..]].concat();
            let error = parse(&attributes, &flags).unwrap_err().to_string();
            assert!(error.contains(said), "{attributes:?} {flags:?}: {error}");
        }
    }

    #[test]
    fn encryption_is_mixed_only_where_it_is_asked_for() {
        let mixed = |more: &[(&str, &str)]| {
            parse(&[&[("server", DOMAIN)], more].concat(), &[])
                .map(|volume| volume.mixed_encryption)
        };
        assert_eq!(mixed(&[]), Ok(false));
        assert_eq!(mixed(&[("allowMixedEncryption", "true")]), Ok(true));
        assert_eq!(mixed(&[("allowMixedEncryption", "true"), ("tls", "false")]), Ok(true));
        let error = mixed(&[("allowMixedEncryption", "yes")]).unwrap_err().to_string();
        assert!(error.contains("expected \"true\" or \"false\""), "{error}");
    }

    #[test]
    fn each_word_about_a_tunnel_is_refused_with_plain_nfs() {
        for key in KEYS.iter().map(|key| key.name).filter(|name| {
            ["tls", "caBundle", "stunnel_", "accesspoint", "ram"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                && *name != "tls"
        }) {
            assert!(TUNNEL_KEYS.contains(&key), "{key}");
            for plain in [("mountProtocol", "nfs"), ("tls", "false")] {
                let attributes = [("server", DOMAIN), plain, (key, "x")];
                let error = parse(&attributes, &[]).unwrap_err();
                let refused = matches!(
                    error, AttributeError::Contradiction { key: named, other, .. }
                        if named == key && other == plain.0
                );
                assert!(refused, "{key}: {error}");
            }
        }
    }

    #[test]
    fn plain_nfs_has_the_options_and_the_versions_of_plain_nfs() {
        let options = &["proto=tcp6", "bg", "vers=4.2"];
        let plain = parse(&[("server", "2001:db8::1"), ("mountProtocol", "nfs")], options).unwrap();
        assert!(plain.options.background());
        assert_eq!(plain.source(), "[2001:db8::1]:/");
        assert!(parse(&[("server", DOMAIN)], options).is_err());
    }

    #[test]
    fn a_volume_says_how_its_sessions_are_secured() {
        let shown = |attributes: &[(&str, &str)]| {
            let mut all = vec![("server", DOMAIN)];
            all.extend(attributes);
            let MountProtocol::Alinas(tunnel) = parse(&all, &[]).unwrap().protocol else {
                panic!("plain NFS")
            };
            tunnel.to_string().replace(DOMAIN, "D")
        };
        for (attributes, expected) in [
            (vec![("tlsPort", "2049")], "D:2049"),
            (vec![("tlsMinVersion", "1.3")], "D (TLS 1.3 only)"),
            (vec![("caBundle", "/etc/ca.pem")], "D (trusting /etc/ca.pem)"),
            (vec![("tlsCheck", "dangerous-none")], "D (dangerous-none)"),
            (vec![("stunnel_check_cert_hostname", "false")], "D (dangerous-any-name)"),
            (vec![("stunnel_check_cert_hostname", "true"), ("tlsCheck", "full")], "D"),
            (vec![("stunnel_check_cert_validity", "true")], "D (revocation checked)"),
            (vec![("tlsBackend", "openssl")], "D (by openssl)"),
            (vec![("accesspoint", "ap-1")], "D (access point ap-1)"),
            (
                vec![("accesspointId", "ap-1"), ("options", "accesspoint=ap-1")],
                "D (access point ap-1)",
            ),
            (vec![("ram", "true")], "D (RAM credentials of /etc/aliyun/alinas/.credentials)"),
            (
                vec![("accesspointEnableRam", "true")],
                "D (RAM credentials of /etc/aliyun/alinas/.credentials)",
            ),
            (vec![("ram", "false")], "D"),
            (vec![("ramConfigFile", "/c")], "D (RAM credentials of /c)"),
            (vec![("options", "ram,ram_config_file=/c")], "D (RAM credentials of /c)"),
        ] {
            assert_eq!(shown(&attributes), expected);
        }
    }

    #[test]
    fn the_domain_of_an_access_point_is_a_server_and_says_which_one_it_is() {
        const ACCESS_POINT: &str = "ap-0abc.cn-hangzhou.nas.aliyuncs.com";
        for attributes in [
            vec![("server", ACCESS_POINT)],
            vec![("accesspoint", ACCESS_POINT)],
            vec![("accesspoint", ACCESS_POINT), ("accesspointId", "ap-0abc")],
            vec![("server", ACCESS_POINT), ("accesspoint", "ap-0abc")],
        ] {
            let volume = parse(&attributes, &[]).unwrap();
            assert_eq!(volume.source(), format!("{ACCESS_POINT}:/"));
            let MountProtocol::Alinas(tunnel) = volume.protocol else { panic!("plain NFS") };
            assert_eq!(tunnel.client().access_point.unwrap().as_str(), "ap-0abc");
            assert!(tunnel.policy.is_default(), "equal tunnels have equal words: {attributes:?}");
        }
        let error = parse(&[("server", ACCESS_POINT), ("mountProtocol", "nfs")], &[]).unwrap_err();
        assert!(error.to_string().contains("with encryption"), "{error}");
        let error = parse(&[("server", DOMAIN), ("tls", "false")], &["accesspoint=ap-1"]);
        assert!(error.unwrap_err().to_string().contains("mount with encryption"));
    }

    #[test]
    fn keys_have_any_case_and_those_of_kubernetes_are_passed_over() {
        let volume = parse(
            &[
                ("SERVER", DOMAIN),
                ("Path", "/a/"),
                ("csi.storage.k8s.io/pod.name", "web"),
                ("storage.kubernetes.io/csiProvisionerIdentity", "1"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(volume.source(), format!("{DOMAIN}:/a"));
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_known_one() {
        let error = parse(&[("server", DOMAIN), ("pth", "/")], &[]).unwrap_err().to_string();
        assert_eq!(error, "unknown volume attribute \"pth\"; did you mean \"path\"?");
    }

    #[test]
    fn each_wrong_value_is_refused_with_its_key() {
        for (attributes, said) in [
            (vec![("path", "/")], "\"server\" is required"),
            (vec![("server", DOMAIN), ("Server", DOMAIN)], "given twice"),
            (vec![("server", DOMAIN), ("path", "a")], "\"path\""),
            (vec![("server", DOMAIN), ("tls", "maybe")], "\"tls\""),
            (vec![("server", DOMAIN), ("tlsPort", "0")], "\"tlsPort\""),
            (vec![("server", DOMAIN), ("tlsMinVersion", "1.1")], "1.2, 1.3"),
            (vec![("server", DOMAIN), ("caBundle", "ca.pem")], "\"caBundle\""),
            (vec![("server", DOMAIN), ("tlsCheck", "none")], "dangerous-none"),
            (vec![("server", DOMAIN), ("tlsBackend", "x")], "openssl"),
            (vec![("server", DOMAIN), ("stunnel_check_cert_hostname", "0")], "\"true\" or"),
            (
                vec![
                    ("server", DOMAIN),
                    ("stunnel_check_cert_hostname", "true"),
                    ("tlsCheck", "dangerous-any-name"),
                ],
                "contradicts",
            ),
            (vec![("server", "192.0.2.1")], "tlsServerName"),
            (
                vec![("server", DOMAIN), ("accesspoint", "1")],
                "\"accesspoint\": \"1\" is no access point",
            ),
            (vec![("server", DOMAIN), ("options", "accesspoint=x")], "\"x\" is no access point"),
            (
                vec![("server", DOMAIN), ("accesspoint", "ap-1"), ("accesspointId", "ap-2")],
                "leave one",
            ),
            (vec![("server", "ap-1.cn-x.nas.aliyuncs.com"), ("accesspoint", "ap-2")], "leave one"),
            (
                vec![("server", DOMAIN), ("ramConfigFile", "c")],
                "\"ramConfigFile\": \"c\" is no absolute",
            ),
            (vec![("server", DOMAIN), ("ramConfigFile", "/c"), ("ram", "false")], "leave one"),
            (
                vec![("server", DOMAIN), ("ram", "true"), ("accesspointEnableRam", "false")],
                "leave one",
            ),
            (vec![("server", "nas.corp"), ("ram", "true")], "the mount target's domain"),
            (vec![("accesspoint", "ap-1")], "\"server\" is required"),
            (vec![("server", "a-b.cn-x.extreme.nas.aliyuncs.com")], "Extreme"),
        ] {
            let error = parse(&attributes, &[]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
