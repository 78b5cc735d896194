//! One record on disk for each tunnel, written before the tunnel is opened.
//!
//! The records are all that a watchdog knows after a crash. They are versioned: a record that a later release
//! wrote, or that is damaged, is kept as it is, and its address stays taken. A damaged one of a mount that is in use is
//! set aside, under another name, for the one that takes its place (`strays`).
//!
//! Read [`Record`] first, then [`RecordStore::load`].
//!
//! LONG: a third of it are tests; the versions are told apart in one place.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::host::state_dir::StateDir;
use crate::model::RemotePort;
use crate::model::ServerName;
use crate::model::TlsPolicy;
use crate::model::TunnelSpec;
use crate::model::client_identity::ClientIdentity;
use crate::model::tunnel_spec::ServerNameError;

/// The latest version that this release writes. It reads every version up to this one.
///
/// A record is written in the oldest version that can say what it says, so that the release before reads as
/// much as it can use:
/// - 1: the strict policy, and a remote port. 2049 stands for "not said", too: that release knew no other.
/// - 2: `remote_port` is null where it is not said; `policy`.
/// - 3: `policy.identity`.
const VERSION: u32 = 3;

/// A tunnel that is wanted: where the kernel connects to, where that leads, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The loopback address and port.
    pub endpoint: SocketAddrV4,
    /// Where the tunnel leads.
    pub spec: TunnelSpec,
    /// Who holds it open. A tunnel without users is about to be closed.
    pub users: Vec<User>,
}

/// Who holds a tunnel open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The volume.
    pub volume_id: String,
    /// Where it is staged. Together with the volume this names the user.
    pub staging_path: String,
    /// `domain:/path`.
    pub source: String,
    /// The mount options in canonical form.
    pub options: String,
}

impl User {
    /// Whether both are the same user, whatever they want.
    #[must_use]
    pub fn is(&self, volume_id: &str, staging_path: &str) -> bool {
        self.volume_id == volume_id && self.staging_path == staging_path
    }
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file itself cannot be read.
    #[error("failed to read it")]
    Unreadable(#[source] io::Error),
    /// It is no record.
    #[error("it is no record of a tunnel")]
    Malformed(#[source] serde_json::Error),
    /// A later release wrote it.
    #[error("it has version {0}, and this release knows versions up to {VERSION}")]
    Later(u32),
    /// A name in it is none.
    #[error("it holds a name that is none")]
    Name(#[from] ServerNameError),
    /// The name of the file and the address within are two different addresses.
    #[error("it is about {0}, unlike its file name")]
    OtherAddress(Ipv4Addr),
}

impl RecordError {
    /// Whether no release could use it, now or later.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Malformed(_) | Self::Name(_) | Self::OtherAddress(_) => true,
            Self::Unreadable(_) | Self::Later(_) => false,
        }
    }
}

/// Where records are, in the state directory.
pub const FOLDER: &str = "tunnels";
/// What the names of damaged records end in that were set aside.
const ASIDE: &str = ".damaged";

/// A file among the records that cannot be used, but is kept.
#[derive(Debug)]
pub struct Unusable {
    /// The file.
    pub file: PathBuf,
    /// The address that its name reserves, where it is one.
    pub address: Option<Ipv4Addr>,
    /// What is wrong with it.
    pub error: RecordError,
}

/// The directory of the records.
#[derive(Clone, Debug)]
pub struct RecordStore(StateDir);

impl RecordStore {
    /// The records in a directory.
    #[must_use]
    pub fn new(dir: StateDir) -> Self {
        Self(dir)
    }

    /// Every record, and every file that is none.
    ///
    /// # Errors
    /// When the directory itself cannot be read.
    pub fn load(&self) -> io::Result<(Vec<Record>, Vec<Unusable>)> {
        let mut records = Vec::new();
        let mut unusable = Vec::new();
        for name in self.0.names()?.iter().filter(|name| !name.ends_with(ASIDE)) {
            let address = name.strip_suffix(".json").and_then(|stem| stem.parse().ok());
            match self.load_one(name, address) {
                Ok(record) => records.push(record),
                Err(error) => unusable.push(Unusable { file: self.0.file(name), address, error }),
            }
        }
        Ok((records, unusable))
    }

    /// Writes a record, whole or not at all.
    ///
    /// # Errors
    /// What the system said; then the record is as it was before.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        self.0.write(&file_name(*record.endpoint.ip()), render(record)?.as_bytes())
    }

    /// Removes the record of an address. One that is not there is removed already.
    ///
    /// # Errors
    /// What the system said.
    pub fn remove(&self, address: Ipv4Addr) -> io::Result<()> {
        self.0.remove(&file_name(address))
    }

    /// Gives the damaged record of an address another name, and answers it. It is for people from then on.
    ///
    /// # Errors
    /// What the system said.
    pub fn set_aside(&self, address: Ipv4Addr) -> io::Result<PathBuf> {
        let aside = self.file(address).with_extension(format!("json{ASIDE}"));
        std::fs::rename(self.file(address), &aside)?;
        Ok(aside)
    }

    /// Where the record of an address is.
    #[must_use]
    pub fn file(&self, address: Ipv4Addr) -> PathBuf {
        self.0.file(&file_name(address))
    }

    fn load_one(&self, name: &str, address: Option<Ipv4Addr>) -> Result<Record, RecordError> {
        let record = parse(&self.0.read(name).map_err(RecordError::Unreadable)?)?;
        let own = *record.endpoint.ip();
        if address == Some(own) { Ok(record) } else { Err(RecordError::OtherAddress(own)) }
    }
}

fn file_name(address: Ipv4Addr) -> String {
    format!("{address}.json")
}

/// The fields in the order of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version1 {
    version: u32,
    address: Ipv4Addr,
    port: u16,
    host: String,
    remote_port: u16,
    server_name: String,
    users: Vec<User>,
}

/// The fields in the order of the file, in version 3, too.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version2 {
    version: u32,
    address: Ipv4Addr,
    port: u16,
    host: String,
    remote_port: Option<u16>,
    server_name: String,
    policy: TlsPolicy,
    users: Vec<User>,
}

impl From<Version1> for Version2 {
    fn from(record: Version1) -> Self {
        let Version1 { address, port, host, remote_port, server_name, users, .. } = record;
        Self {
            version: VERSION,
            address,
            port,
            host,
            remote_port: Some(remote_port).filter(|port| *port != PORT_OF_VERSION_1),
            server_name,
            policy: TlsPolicy::default(),
            users,
        }
    }
}

/// What version 1 holds where a volume did not say its port.
const PORT_OF_VERSION_1: u16 = 2049;

/// Reads a record of any version up to ours.
fn parse(text: &[u8]) -> Result<Record, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    // The version decides about the rest: what a later release added must not look like damage.
    let Versioned { version } = serde_json::from_slice(text).map_err(RecordError::Malformed)?;
    let written: Version2 = match version {
        0 | 1 => serde_json::from_slice::<Version1>(text).map_err(RecordError::Malformed)?.into(),
        2 | VERSION => serde_json::from_slice(text).map_err(RecordError::Malformed)?,
        later => return Err(RecordError::Later(later)),
    };
    Ok(Record {
        endpoint: SocketAddrV4::new(written.address, written.port),
        spec: TunnelSpec {
            host: ServerName::parse(&written.host)?,
            port: written.remote_port.unwrap_or_default().into(),
            server_name: ServerName::parse(&written.server_name)?,
            policy: written.policy,
        },
        users: written.users,
    })
}

fn render(record: &Record) -> io::Result<String> {
    let (address, port) = (*record.endpoint.ip(), record.endpoint.port());
    let (host, server_name) = (record.spec.host.to_string(), record.spec.server_name.to_string());
    let users = record.users.clone();
    let text = match port_of_version_1(&record.spec) {
        Some(remote_port) => serde_json::to_string_pretty(&Version1 {
            version: 1,
            address,
            port,
            host,
            remote_port,
            server_name,
            users,
        })?,
        None => serde_json::to_string_pretty(&Version2 {
            version: if *record.spec.policy.identity == ClientIdentity::default() { 2 } else { 3 },
            address,
            port,
            host,
            remote_port: Some(record.spec.port.number()).filter(|port| *port != 0),
            server_name,
            policy: record.spec.policy.clone(),
            users,
        })?,
    };
    Ok(text + "\n")
}

/// The remote port in version 1, where that can hold the spec.
fn port_of_version_1(spec: &TunnelSpec) -> Option<u16> {
    match spec.port {
        _ if !spec.policy.is_default() => None,
        RemotePort::Known => Some(PORT_OF_VERSION_1),
        RemotePort::Only(PORT_OF_VERSION_1) => None,
        RemotePort::Only(port) => Some(port),
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {:?} at {:?}", self.volume_id, self.staging_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client_identity::AccessPointId;
    use crate::model::client_identity::CredentialsPath;
    use crate::model::tls_policy::CertificateCheck;
    use std::fs;
    use std::path::Path;

    fn store() -> (tempfile::TempDir, RecordStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = RecordStore::new(StateDir::open(dir.path()).unwrap());
        (dir, store)
    }

    fn record(address: [u8; 4]) -> Record {
        let host = ServerName::parse("nas.example.com").unwrap();
        Record {
            endpoint: SocketAddrV4::new(address.into(), 12049),
            spec: TunnelSpec::to(host, RemotePort::Known),
            users: vec![User {
                volume_id: "pv-1".to_owned(),
                staging_path: "/stage/1".to_owned(),
                source: "nas.example.com:/".to_owned(),
                options: "vers=3".to_owned(),
            }],
        }
    }

    #[test]
    fn every_record_of_a_released_format_is_read_and_written_back_as_it_was() {
        let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/records");
        let files = |version: &str| {
            fs::read_dir(released.join(version)).unwrap().map(|entry| entry.unwrap().path())
        };
        let files: Vec<_> = files("v1").chain(files("v2")).chain(files("v3")).collect();
        assert!(files.len() >= 5, "{files:?}");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let record = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{file:?}: {error}"));
            assert_eq!(
                file.file_name().unwrap().to_str().unwrap(),
                file_name(*record.endpoint.ip())
            );
            assert_eq!(render(&record).unwrap(), text, "{file:?}");
        }
    }

    #[test]
    fn a_port_and_a_policy_survive_and_only_what_needs_it_takes_the_new_version() {
        let strict = TlsPolicy::default();
        let weak = TlsPolicy { check: CertificateCheck::DangerousAnyName, ..strict.clone() };
        let access_point = Some(AccessPointId::parse("ap-1").unwrap());
        let ram = Some(CredentialsPath::default());
        let identity = Box::new(ClientIdentity { access_point, ram });
        let identified = TlsPolicy { identity, ..strict.clone() };
        for (port, policy, version) in [
            (RemotePort::Known, &strict, 1),
            (RemotePort::Only(12049), &strict, 1),
            (RemotePort::Only(2049), &strict, 2),
            (RemotePort::Known, &weak, 2),
            (RemotePort::Only(12049), &identified, 3),
        ] {
            let mut record = record([127, 0, 1, 1]);
            (record.spec.port, record.spec.policy) = (port, policy.clone());
            let text = render(&record).unwrap();
            assert!(text.contains(&format!("\"version\": {version},")), "{text}");
            assert_eq!(parse(text.as_bytes()).unwrap(), record);
        }
    }

    #[test]
    fn what_was_written_is_loaded() {
        let (_dir, store) = store();
        store.write(&record([127, 0, 1, 1])).unwrap();
        store.write(&record([127, 0, 1, 2])).unwrap();
        store.remove(Ipv4Addr::new(127, 0, 1, 1)).unwrap();
        let (records, unusable) = store.load().unwrap();
        assert_eq!(records, [record([127, 0, 1, 2])]);
        assert!(unusable.is_empty());
    }

    #[test]
    fn a_damaged_record_that_is_set_aside_is_kept_and_not_spoken_of_again() {
        let (dir, store) = store();
        let address = Ipv4Addr::new(127, 0, 1, 3);
        fs::write(dir.path().join("127.0.1.3.json"), "{").unwrap();
        let aside = store.set_aside(address).unwrap();
        assert_eq!(aside, dir.path().join("127.0.1.3.json.damaged"));
        assert_eq!(fs::read_to_string(aside).unwrap(), "{");
        let (records, unusable) = store.load().unwrap();
        assert!(records.is_empty() && unusable.is_empty());
    }

    #[test]
    fn a_file_that_is_no_record_of_ours_is_reported_by_name_and_kept() {
        let good = render(&record([127, 0, 1, 9])).unwrap();
        for (name, content, words) in [
            ("127.0.1.3.json", "{\"version\": 1, \"add", "no record"),
            ("127.0.1.3.json", "", "no record"),
            ("127.0.1.3.json", "{\"version\": 4, \"shape\": \"new\"}", "version 4"),
            ("127.0.1.3.json", good.as_str(), "127.0.1.9"),
            ("127.0.1.9.json", &good.replacen("\"port\"", "\"prot\"", 1), "no record"),
            ("127.0.1.9.json", &good.replacen("nas.example.com", "-", 1), "name"),
            ("notes.txt", "buy milk", "no record"),
        ] {
            let (dir, store) = store();
            fs::write(dir.path().join(name), content).unwrap();
            let (records, unusable) = store.load().unwrap();
            assert!(records.is_empty(), "{name} {content}");
            assert_eq!(unusable[0].file, dir.path().join(name));
            assert_eq!(unusable[0].address.is_some(), name.ends_with(".json"));
            assert!(unusable[0].error.to_string().contains(words), "{}", unusable[0].error);
            assert!(dir.path().join(name).exists());
        }
    }
}
