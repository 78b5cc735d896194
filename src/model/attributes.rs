//! Volume attributes: what a PersistentVolume or a StorageClass says about a volume.
//!
//! [`KEYS`] is the one table of them: the parser, the error messages and the documents read it.
//!
//! LONG: a test for each way in which encryption can be asked for and not asked for.

use std::collections::HashMap;

use crate::model::device_name::DeviceName;
use crate::model::export_path::ExportPath;
use crate::model::export_path::ExportPathError;
use crate::model::mount_target::MountTarget;
use crate::model::mount_target::MountTargetError;
use crate::model::nearest::did_you_mean;
use crate::model::nfs_option::MountOptions;
use crate::model::nfs_option::OptionError;
use crate::model::nfs_option::Rules;
use crate::model::tunnel_spec::ServerName;
use crate::model::tunnel_spec::ServerNameError;
use crate::model::tunnel_spec::TunnelSpec;

/// The TLS port of a mount target where none is given. Its clients of 2019 used 12049, newer ones 2049.
pub const DEFAULT_PORT: u16 = 2049;

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
        name: "tlsPort",
        default: "2049",
        help: "The TCP port on which the mount target speaks TLS.",
    },
    Key {
        name: "tlsServerName",
        default: "the server",
        help: "The name that the certificate must carry; required where server is an address.",
    },
];

/// Keys that Kubernetes adds to the volume context by itself; they say nothing to us.
const KUBERNETES_PREFIXES: [&str; 2] = ["csi.storage.k8s.io/", "storage.kubernetes.io/"];

/// What a volume's attributes say, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeAttributes {
    /// The mount target.
    pub server: MountTarget,
    /// The directory there.
    pub path: ExportPath,
    /// How it is mounted.
    pub protocol: MountProtocol,
    /// The text mount options: those of the attributes `vers` and `options`, then the mount flags.
    pub options: MountOptions,
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
        let server = MountTarget::parse(given.require("server")?)?;
        let path = ExportPath::parse(given.get("path").unwrap_or_default())?;
        let protocol = mount_protocol(&server, &given)?;
        let options = MountOptions::parse(
            protocol.rules(),
            given
                .get("vers")
                .map(|version| format!("vers={version}"))
                .iter()
                .map(String::as_str)
                .chain(given.get("options"))
                .chain(mount_flags.iter().map(String::as_str)),
        )?;
        Ok(Self { server, path, protocol, options })
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
        (Some("nfs"), _) => plain("mountProtocol", given),
        (_, Some("false")) => plain("tls", given),
        _ => tunnel_spec(server, given).map(MountProtocol::Alinas),
    }
}

fn plain(because: &'static str, given: &Given<'_>) -> Result<MountProtocol, AttributeError> {
    match ["tlsPort", "tlsServerName"].into_iter().find(|key| given.get(key).is_some()) {
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
        None => DEFAULT_PORT,
        Some(text) => {
            text.parse().ok().filter(|port| *port != 0).ok_or_else(|| AttributeError::Value {
                key: "tlsPort",
                value: text.to_owned(),
                expected: "a TCP port from 1 to 65535",
            })?
        }
    };
    let server_name = match given.get("tlsServerName") {
        Some(text) => ServerName::parse(text)?,
        None => server
            .certificate_name()
            .cloned()
            .ok_or_else(|| AttributeError::AddressWithoutName(server.to_string()))?,
    };
    Ok(TunnelSpec { host: server.name().clone(), port, server_name })
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
        assert_eq!(tunnel.to_string(), format!("{DOMAIN}:2049"));
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
    fn plain_nfs_has_the_options_and_the_versions_of_plain_nfs() {
        let options = &["proto=tcp6", "bg", "vers=4.2"];
        let plain = parse(&[("server", "2001:db8::1"), ("mountProtocol", "nfs")], options).unwrap();
        assert!(plain.options.background());
        assert_eq!(plain.source(), "[2001:db8::1]:/");
        assert!(parse(&[("server", DOMAIN)], options).is_err());
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
            (vec![("server", "192.0.2.1")], "tlsServerName"),
            (vec![("server", "a-b.cn-x.extreme.nas.aliyuncs.com")], "Extreme"),
        ] {
            let error = parse(&attributes, &[]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
