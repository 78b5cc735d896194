//! Volume attributes: what a PersistentVolume or a StorageClass says about a volume.
//!
//! [`KEYS`] is the one table of them: the parser, the error messages and the documents read it.

use std::collections::HashMap;

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
        name: "vers",
        default: "3",
        help: "The NFS version, 3 or 4.0; the mount option vers= says the same.",
    },
    Key {
        name: "options",
        default: "",
        help: "Text mount options, added to those of mountOptions, as in \"rsize=65536,nconnect=4\".",
    },
    Key {
        name: "tls",
        default: "true",
        help: "Encryption in transit. Only \"true\" is accepted by this release.",
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
    /// Where the TLS tunnel leads.
    pub tunnel: TunnelSpec,
    /// The text mount options: those of the attributes `vers` and `options`, then the mount flags.
    pub options: MountOptions,
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
        require_tls(given.get("tls"))?;
        let tunnel = tunnel_spec(&server, &given)?;
        let options = MountOptions::parse(
            Rules::Tunnel,
            given
                .get("vers")
                .map(|version| format!("vers={version}"))
                .iter()
                .map(String::as_str)
                .chain(given.get("options"))
                .chain(mount_flags.iter().map(String::as_str)),
        )?;
        Ok(Self { server, path, tunnel, options })
    }

    /// The source of the mount as the kernel and `mount -l` show it: `domain:/path`.
    #[must_use]
    pub fn source(&self) -> String {
        format!("{}:{}", self.server, self.path)
    }
}

fn require_tls(value: Option<&str>) -> Result<(), AttributeError> {
    match value {
        None | Some("true") => Ok(()),
        Some(other) => Err(AttributeError::Value {
            key: "tls",
            value: other.to_owned(),
            expected: "\"true\"; this release mounts with encryption in transit only",
        }),
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

    fn get(&self, key: &'static str) -> Option<&'a str> {
        self.0.get(key).copied().filter(|value| !value.is_empty())
    }

    fn require(&self, key: &'static str) -> Result<&'a str, AttributeError> {
        self.get(key).ok_or(AttributeError::Missing(key))
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
        assert_eq!(volume.tunnel.to_string(), format!("{DOMAIN}:2049"));
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
            (vec![("server", DOMAIN), ("tls", "false")], "\"tls\""),
            (vec![("server", DOMAIN), ("tlsPort", "0")], "\"tlsPort\""),
            (vec![("server", "192.0.2.1")], "tlsServerName"),
            (vec![("server", "a-b.cn-x.extreme.nas.aliyuncs.com")], "Extreme"),
        ] {
            let error = parse(&attributes, &[]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
