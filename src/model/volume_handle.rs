//! The ids that our controller makes: where a volume is, and how to get there.
//!
//! ```text
//! v1:<server>:<path>[:<flag><value>]...:<key>
//! v1:0123456789-abc12.cn-hangzhou.:/data:pvc-0a1b2c3d-…
//! ```
//!
//! `.nas.aliyuncs.com` is shortened to a dot, because CSI gives an id 128 bytes. A byte that an id must not hold is
//! written as `=` and two digits. Each handle has one spelling, and any other is no handle: an id cannot be made
//! to mean another volume by writing it differently.
//!
//! | flag | what it says |
//! | --- | --- |
//! | `p` | the port, where it is not left to be found out |
//! | `n` | the name in the certificate, where it is not the server's |
//! | `s` | TLS 1.3 only |
//! | `c` | the file with the authorities to trust |
//! | `y` | dangerous: any name will do |
//! | `z` | dangerous: any certificate will do |
//! | `v` | revocation is checked |
//! | `r`, `o` | spoken by rustls, by OpenSSL |
//! | `i` | the access point |
//! | `m` | the file with the credentials of RAM |
//!
//! Volumes that are no directories of ours have ids of other forms: see [`crate::model::volume_ref`].
//!
//! LONG: one grammar, written, read and held by tests in one place.

use std::fmt;
use std::fmt::Write;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use crate::model::client_identity::AccessPointId;
use crate::model::client_identity::ClientIdentity;
use crate::model::client_identity::CredentialsPath;
use crate::model::export_path::ExportPath;
use crate::model::tls_policy::CaBundle;
use crate::model::tls_policy::CaSource;
use crate::model::tls_policy::CertificateCheck;
use crate::model::tls_policy::RevocationCheck;
use crate::model::tls_policy::TlsBackend;
use crate::model::tls_policy::TlsPolicy;
use crate::model::tls_policy::TlsVersion;
use crate::model::tunnel_spec::RemotePort;
use crate::model::tunnel_spec::ServerName;
use crate::model::tunnel_spec::TunnelSpec;
use crate::model::volume_id::VolumeId;
use crate::model::volume_id::VolumeIdError;

const PREFIX: &str = "v1:";
/// What most servers end in, and what stands for it: no host name ends in a dot.
const VENDOR_SUFFIX: &str = ".nas.aliyuncs.com";

/// The longest directory name that is its own key.
const LONGEST_PLAIN_KEY: usize = 40;
/// Before the digits of a digest.
const DIGEST_PREFIX: &str = "h-";
/// Of a SHA-256, 128 bits: nobody finds two names with the same.
const DIGEST_BYTES: usize = 16;

/// A directory of a mount target that volumes are made in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Export {
    /// How it is reached.
    pub spec: TunnelSpec,
    /// The directory.
    pub path: ExportPath,
}

/// What a volume's record is called, in the export's hidden directory. A file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeKey(String);

/// A volume that our controller has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeHandle {
    /// Where.
    pub export: Export,
    /// Which.
    pub key: VolumeKey,
}

/// Why a volume cannot have an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// CSI allows 128 bytes.
    #[error(
        "the volume's id would have {0} bytes, and CSI allows 128; choose a shorter path for the StorageClass"
    )]
    TooLong(usize),
    /// It would have to be in the id, and an id has 128 bytes.
    #[error(
        "parameter \"caBundle\" must be the path of a file here: a volume is deleted by what its id says, and an id \
         has no room for certificates; mount them into the controller and the watchdog, or let both trust them"
    )]
    Bundle,
}

impl VolumeKey {
    /// The key of the volume in a directory: the name of that, or of a long or odd name a digest.
    #[must_use]
    pub fn of_directory(directory: &str) -> Self {
        if is_plain(directory) {
            return Self(directory.to_owned());
        }
        let digest = digest::digest(&digest::SHA256, directory.as_bytes());
        let digits = HEXLOWER.encode(digest.as_ref());
        // Two digits say a byte.
        Self(format!("{DIGEST_PREFIX}{}", &digits[..2 * DIGEST_BYTES]))
    }

    /// Reads a key; none where it is the key of nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (is_plain(text) || is_digest(text)).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(text: &str) -> bool {
    let fits = (1..=LONGEST_PLAIN_KEY).contains(&text.len());
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    fits && text.bytes().all(is_inside)
        && !text.starts_with('.')
        && !text.contains("..")
        && !is_digest(text)
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix(DIGEST_PREFIX).is_some_and(|digits| {
        digits.len() == 2 * DIGEST_BYTES
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

impl fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl VolumeHandle {
    /// The id of a volume.
    ///
    /// # Errors
    /// Where it has no room for what deletion needs to know.
    pub fn id(&self) -> Result<VolumeId, HandleError> {
        if let Some(bundle) = &self.export.spec.policy.ca_bundle
            && let CaSource::Text(_) = bundle.source()
        {
            return Err(HandleError::Bundle);
        }
        let text = self.to_string();
        let length = text.len();
        VolumeId::parse(&text).map_err(|error| match error {
            VolumeIdError::TooLong(length) => HandleError::TooLong(length),
            // What is written here holds to the grammar; a test of many says so.
            VolumeIdError::Empty
            | VolumeIdError::Character { .. }
            | VolumeIdError::PathLike(_)
            | VolumeIdError::Later(_) => HandleError::TooLong(length),
        })
    }

    /// Reads an id; none where our controller has not made it.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let mut fields = id.strip_prefix(PREFIX)?.split(':');
        let (server, path) = (decoded(fields.next()?)?, decoded(fields.next()?)?);
        let host = match server.strip_suffix('.') {
            Some(front) => ServerName::parse(&format!("{front}{VENDOR_SUFFIX}")),
            None => ServerName::parse(&server),
        };
        let mut spec = TunnelSpec::to(host.ok()?, RemotePort::Known);
        let mut fields: Vec<&str> = fields.collect();
        let key = VolumeKey::parse(fields.pop()?)?;
        for field in fields {
            take_flag(&mut spec, field)?;
        }
        let path = ExportPath::parse(&path).ok()?;
        let handle = Self { export: Export { spec, path }, key };
        (handle.to_string() == id).then_some(handle)
    }
}

fn take_flag(spec: &mut TunnelSpec, field: &str) -> Option<()> {
    let mut characters = field.chars();
    let flag = characters.next()?;
    let value = decoded(characters.as_str())?;
    let TlsPolicy { least_version, ca_bundle, check, revocation, backend, identity } =
        &mut spec.policy;
    match flag {
        'p' => spec.port = RemotePort::Only(value.parse().ok().filter(|port| *port != 0)?),
        'n' => spec.server_name = ServerName::parse(&value).ok()?,
        's' => *least_version = TlsVersion::V1_3,
        'c' => *ca_bundle = Some(CaBundle::parse(&value).ok()?),
        'y' => *check = CertificateCheck::DangerousAnyName,
        'z' => *check = CertificateCheck::DangerousNone,
        'v' => *revocation = RevocationCheck::Ocsp,
        'r' => *backend = TlsBackend::Rustls,
        'o' => *backend = TlsBackend::OpenSsl,
        'i' => identity.access_point = Some(AccessPointId::parse(&value).ok()?),
        'm' => identity.ram = Some(CredentialsPath::parse(&value).ok()?),
        _ => return None,
    }
    Some(())
}

impl fmt::Display for VolumeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Export { spec, path } = &self.export;
        let host = spec.host.as_str();
        match host.strip_suffix(VENDOR_SUFFIX) {
            Some(front) => write!(f, "{PREFIX}{}.", Encoded(front))?,
            None => write!(f, "{PREFIX}{}", Encoded(host))?,
        }
        write!(f, ":{}", Encoded(path.as_str()))?;
        if let RemotePort::Only(port) = spec.port {
            write!(f, ":p{port}")?;
        }
        if spec.server_name != spec.host {
            write!(f, ":n{}", Encoded(spec.server_name.as_str()))?;
        }
        write_policy(f, &spec.policy)?;
        write!(f, ":{}", self.key)
    }
}

fn write_policy(f: &mut fmt::Formatter<'_>, policy: &TlsPolicy) -> fmt::Result {
    let TlsPolicy { least_version, ca_bundle, check, revocation, backend, identity } = policy;
    if *least_version == TlsVersion::V1_3 {
        f.write_str(":s")?;
    }
    if let Some(bundle) = ca_bundle {
        write!(f, ":c{}", Encoded(bundle.as_str()))?;
    }
    f.write_str(match check {
        CertificateCheck::Full => "",
        CertificateCheck::DangerousAnyName => ":y",
        CertificateCheck::DangerousNone => ":z",
    })?;
    f.write_str(match revocation {
        RevocationCheck::Off => "",
        RevocationCheck::Ocsp => ":v",
    })?;
    f.write_str(match backend {
        TlsBackend::Auto => "",
        TlsBackend::Rustls => ":r",
        TlsBackend::OpenSsl => ":o",
    })?;
    let ClientIdentity { access_point, ram } = &**identity;
    if let Some(access_point) = access_point {
        write!(f, ":i{}", Encoded(access_point.as_str()))?;
    }
    if let Some(credentials) = ram {
        write!(f, ":m{}", Encoded(credentials.as_str()))?;
    }
    Ok(())
}

/// A text within an id's field.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = 0;
        for byte in self.0.bytes() {
            // Two dots would look like a way out, and an id must not hold them.
            let is_second_dot = byte == b'.' && before == b'.';
            let is_plain = byte.is_ascii_alphanumeric() || b"._/+-".contains(&byte);
            if is_plain && !is_second_dot {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "={byte:02X}")?;
            }
            before = if is_second_dot { 0 } else { byte };
        }
        Ok(())
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOMAIN: &str = "0123456789-abc12.cn-hangzhou.nas.aliyuncs.com";

    fn handle(host: &str, path: &str, directory: &str) -> VolumeHandle {
        let spec = TunnelSpec::to(ServerName::parse(host).unwrap(), RemotePort::Known);
        let export = Export { spec, path: ExportPath::parse(path).unwrap() };
        VolumeHandle { export, key: VolumeKey::of_directory(directory) }
    }

    #[test]
    fn an_id_says_where_a_volume_is_in_a_form_of_its_own() {
        let uuid = "pvc-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f";
        for (handle, id) in [
            (
                handle(DOMAIN, "/k8s", uuid),
                "v1:0123456789-abc12.cn-hangzhou.:/k8s:pvc-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f",
            ),
            (handle("nas.corp", "", "a"), "v1:nas.corp:/:a"),
            (handle("2001:db8::7", "/a b:=..c", "a"), "v1:2001=3Adb8=3A=3A7:/a=20b=3A=3D.=2Ec:a"),
        ] {
            assert_eq!(handle.id().unwrap().as_str(), id);
            assert_eq!(VolumeHandle::parse(id), Some(handle));
        }
    }

    #[test]
    fn everything_that_the_way_there_needs_is_in_the_id() {
        let mut all = handle("10.0.0.8", "/a", "b");
        let spec = &mut all.export.spec;
        spec.port = RemotePort::Only(12049);
        spec.server_name = ServerName::parse("nas.corp").unwrap();
        spec.policy = TlsPolicy {
            least_version: TlsVersion::V1_3,
            ca_bundle: Some(CaBundle::parse("/etc/ca.pem").unwrap()),
            check: CertificateCheck::DangerousNone,
            revocation: RevocationCheck::Ocsp,
            backend: TlsBackend::Rustls,
            identity: Box::new(ClientIdentity {
                access_point: Some(AccessPointId::parse("ap-1").unwrap()),
                ram: Some(CredentialsPath::parse("/c").unwrap()),
            }),
        };
        let id = all.id().unwrap();
        assert_eq!(id.as_str(), "v1:10.0.0.8:/a:p12049:nnas.corp:s:c/etc/ca.pem:z:v:r:iap-1:m/c:b");
        assert_eq!(VolumeHandle::parse(id.as_str()), Some(all));
    }

    #[test]
    fn what_has_no_room_in_an_id_is_refused() {
        let long = handle(DOMAIN, &format!("/{}", "a".repeat(100)), "b").id().unwrap_err();
        assert!(matches!(long, HandleError::TooLong(_)), "{long}");
        let mut bundle = handle(DOMAIN, "/", "b");
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        bundle.export.spec.policy.ca_bundle = Some(CaBundle::parse(pem).unwrap());
        assert_eq!(bundle.id(), Err(HandleError::Bundle));
    }

    #[test]
    fn a_second_spelling_of_an_id_is_no_id() {
        for id in [
            "v1:nas.corp:/:.a",
            "v1:nas.corp:/",
            "v1:nas.corp::a",
            "v1:NAS.corp:/:a",
            "v1:nas.corp:/a=2Fb:c",
            "v1:nas.corp:/=61:c",
            "v1:nas.corp:/a=2e.b:c",
            "v1:nas.corp:/a/../b:c",
            "v1:0-a.cn-x.nas.aliyuncs.com:/:a",
            "v1:nas.corp:/:p0:a",
            "v1:nas.corp:/:p02049:a",
            "v1:nas.corp:/:sx:a",
            "v1:nas.corp:/:s:s:a",
            "v1:nas.corp:/:q:a",
            "v1:nas.corp:/:nnas.corp:a",
            "v1:nas.corp:/:a/b",
            "v1:nas.corp:/:..",
            "v2:nas.corp:/:a",
            "nas.corp:/:a",
            "fake-vol-id-0a1b2c3d4e",
            "",
        ] {
            assert_eq!(VolumeHandle::parse(id), None, "{id}");
        }
    }

    #[test]
    fn a_key_is_a_file_name_and_two_directories_never_share_one() {
        let digest = VolumeKey::of_directory(&"a".repeat(41));
        assert!(is_digest(digest.as_str()));
        for directory in ["..", ".a", "a b", "ä", "", digest.as_str()] {
            let key = VolumeKey::of_directory(directory);
            assert!(is_digest(key.as_str()) && key != digest, "{directory:?}");
        }
        assert_eq!(VolumeKey::of_directory("pvc-1").as_str(), "pvc-1");
    }

    proptest! {
        #[test]
        fn an_id_is_read_back_as_the_volume_that_it_was_made_for(
            path in "(/[ -~ä]{1,12}){0,3}",
            directory in "\\PC{0,60}",
        ) {
            if let Ok(path) = ExportPath::parse(&path) {
                let handle = handle(DOMAIN, path.as_str(), &directory);
                let id = handle.to_string();
                prop_assert_eq!(VolumeHandle::parse(&id), Some(handle));
                if id.len() <= 128 {
                    prop_assert!(VolumeId::parse(&id).is_ok(), "{}", id);
                }
            }
        }

        #[test]
        fn whatever_is_taken_for_a_handle_is_spelled_as_we_spell_it(
            id in "v1:[a-z0-9.=:/_-]{0,60}",
        ) {
            if let Some(handle) = VolumeHandle::parse(&id) {
                prop_assert_eq!(handle.to_string(), id);
                prop_assert!(!handle.key.as_str().contains('/'));
                prop_assert!(!handle.key.as_str().starts_with('.'));
            }
        }
    }
}
