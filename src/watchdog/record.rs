//! One record on disk for each tunnel, written before the tunnel is opened.
//!
//! The records are all that a watchdog knows after a crash. They are versioned: a record that a later release
//! wrote, or that is damaged, is kept as it is, and its address stays taken.
//!
//! Read [`Record`] first, then [`RecordStore::load`].

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::host::state_dir::StateDir;
use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::model::tunnel_spec::ServerNameError;

/// The version that this release writes. It reads every version up to this one.
const VERSION: u32 = 1;

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
        for name in self.0.names()? {
            let address = name.strip_suffix(".json").and_then(|stem| stem.parse().ok());
            match self.load_one(&name, address) {
                Ok(record) => records.push(record),
                Err(error) => unusable.push(Unusable { file: self.0.file(&name), address, error }),
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
struct Written {
    version: u32,
    address: Ipv4Addr,
    port: u16,
    host: String,
    remote_port: u16,
    server_name: String,
    users: Vec<User>,
}

/// Reads a record of any version up to ours.
fn parse(text: &[u8]) -> Result<Record, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    // The version decides about the rest: what a later release added must not look like damage.
    let Versioned { version } = serde_json::from_slice(text).map_err(RecordError::Malformed)?;
    if version > VERSION {
        return Err(RecordError::Later(version));
    }
    let written: Written = serde_json::from_slice(text).map_err(RecordError::Malformed)?;
    Ok(Record {
        endpoint: SocketAddrV4::new(written.address, written.port),
        spec: TunnelSpec {
            host: ServerName::parse(&written.host)?,
            port: written.remote_port,
            server_name: ServerName::parse(&written.server_name)?,
        },
        users: written.users,
    })
}

fn render(record: &Record) -> io::Result<String> {
    let written = Written {
        version: VERSION,
        address: *record.endpoint.ip(),
        port: record.endpoint.port(),
        host: record.spec.host.to_string(),
        remote_port: record.spec.port,
        server_name: record.spec.server_name.to_string(),
        users: record.users.clone(),
    };
    Ok(serde_json::to_string_pretty(&written)? + "\n")
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {:?} at {:?}", self.volume_id, self.staging_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            spec: TunnelSpec { host: host.clone(), port: 2049, server_name: host },
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
        let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/records/v1");
        let files: Vec<_> =
            fs::read_dir(released).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
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
    fn a_file_that_is_no_record_of_ours_is_reported_by_name_and_kept() {
        let good = render(&record([127, 0, 1, 9])).unwrap();
        for (name, content, words) in [
            ("127.0.1.3.json", "{\"version\": 1, \"add", "no record"),
            ("127.0.1.3.json", "", "no record"),
            ("127.0.1.3.json", "{\"version\": 2, \"shape\": \"new\"}", "version 2"),
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
