//! With what a volume of plain NFS was staged, which the kernel's mount table does not tell.
//!
//! The table shows what came of the options, and where mounts share a superblock, what came of the first one's. CSI
//! wants to know whether a volume is staged again *with other arguments*, so these are written down before the mount.
//! A volume with a tunnel is on record at the watchdog.
//!
//! One file for each staging path, in memory like the mounts themselves (`/run`). A record that is missing or cannot
//! be read says nothing: what is mounted is then taken for the volume where its source is.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde::Serialize;

use crate::host::state_dir::StateDir;

/// Of what is written. A later release reads it as well.
const VERSION: u32 = 1;

/// The directory, within the state directory.
pub const FOLDER: &str = "plain";

/// What a volume was staged with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainRecord {
    version: u32,
    /// The volume.
    pub volume: String,
    /// Where it is staged, as the kernel's mount table spells it.
    pub staging_path: PathBuf,
    /// `host:/path`.
    pub source: String,
    /// The options in canonical form, without those that say how long it is tried.
    pub options: String,
}

impl PlainRecord {
    /// A record in today's form.
    #[must_use]
    pub fn new(volume: &str, staging_path: &Path, source: &str, options: &str) -> Self {
        Self {
            version: VERSION,
            volume: volume.to_owned(),
            staging_path: staging_path.to_owned(),
            source: source.to_owned(),
            options: options.to_owned(),
        }
    }
}

/// Remembers, also beyond the end of this process.
#[async_trait]
pub trait PlainRecords: Send + Sync + std::fmt::Debug {
    /// What is on record for a staging path.
    ///
    /// # Errors
    /// What the system said, or what is wrong with the record.
    async fn read(&self, staging_path: &Path) -> io::Result<Option<PlainRecord>>;

    /// Takes down a record, in the place of an older one.
    ///
    /// # Errors
    /// What the system said; then the older one is still there.
    async fn write(&self, record: PlainRecord) -> io::Result<()>;

    /// Forgets a staging path. One that is not known is forgotten already.
    ///
    /// # Errors
    /// What the system said.
    async fn remove(&self, staging_path: &Path) -> io::Result<()>;
}

/// Records in a folder of the state directory, which is made when it is first needed: a node without plain NFS has
/// none.
#[derive(Clone, Debug)]
pub struct PlainRecordFiles {
    folder: PathBuf,
    opened: Arc<Mutex<Option<StateDir>>>,
}

impl PlainRecordFiles {
    /// Records in this state directory.
    #[must_use]
    pub fn below(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(FOLDER), opened: Arc::default() }
    }

    /// Does `work`, which waits for the disk, on a thread that may.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StateDir) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let files = self.clone();
        let worked = tokio::task::spawn_blocking(move || work(&files.open()?)).await;
        worked.unwrap_or_else(|crashed| Err(io::Error::other(crashed)))
    }

    /// Once only: to open it removes what is being written.
    fn open(&self) -> io::Result<StateDir> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = opened.as_ref() {
            return Ok(dir.clone());
        }
        let dir = StateDir::open(&self.folder).map_err(io::Error::other)?;
        Ok(opened.insert(dir).clone())
    }
}

#[async_trait]
impl PlainRecords for PlainRecordFiles {
    async fn read(&self, staging_path: &Path) -> io::Result<Option<PlainRecord>> {
        let name = file_name(staging_path);
        match self.with(move |dir| dir.read(&name)).await {
            Ok(text) => parse(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, record: PlainRecord) -> io::Result<()> {
        let name = file_name(&record.staging_path);
        let text = serde_json::to_vec_pretty(&record)?;
        self.with(move |dir| dir.write(&name, &text)).await
    }

    async fn remove(&self, staging_path: &Path) -> io::Result<()> {
        let name = file_name(staging_path);
        self.with(move |dir| dir.remove(&name)).await
    }
}

fn parse(text: &[u8]) -> io::Result<PlainRecord> {
    let record: PlainRecord = serde_json::from_slice(text)?;
    if record.version == VERSION {
        Ok(record)
    } else {
        Err(io::Error::other(format!(
            "it has version {}, and this release knows 1",
            record.version
        )))
    }
}

/// A path may be longer than a file's name.
fn file_name(staging_path: &Path) -> String {
    let digest = digest::digest(&digest::SHA256, staging_path.as_os_str().as_encoded_bytes());
    format!("{}.json", HEXLOWER.encode(digest.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str) -> PlainRecord {
        PlainRecord::new("pv-1", Path::new(path), "nas:/a", "vers=4.1")
    }

    #[tokio::test]
    async fn a_record_is_kept_until_it_is_removed_also_by_another_process() {
        let home = tempfile::tempdir().unwrap();
        let (path, long) = (Path::new("/stage"), format!("/{}", "a".repeat(4000)));
        let records = || PlainRecordFiles::below(home.path());
        assert_eq!(records().read(path).await.unwrap(), None);
        records().write(record("/stage")).await.unwrap();
        records().write(record(&long)).await.unwrap();
        assert_eq!(records().read(path).await.unwrap(), Some(record("/stage")));
        let other = PlainRecord { options: String::new(), ..record("/stage") };
        records().write(other.clone()).await.unwrap();
        assert_eq!(records().read(path).await.unwrap(), Some(other));
        for _ in 0..2 {
            records().remove(path).await.unwrap();
        }
        assert_eq!(records().read(path).await.unwrap(), None);
        assert_eq!(records().read(Path::new(&long)).await.unwrap(), Some(record(&long)));
    }

    #[test]
    fn the_record_of_a_released_format_is_read_and_that_of_a_later_one_is_not() {
        let released = include_bytes!("../../e2e/records/plain-v1/stage.json");
        assert_eq!(parse(released).unwrap(), record("/stage"));
        assert_eq!(serde_json::to_vec_pretty(&record("/stage")).unwrap(), released);
        let later = String::from_utf8(released.to_vec()).unwrap();
        let later = later.replace("\"version\": 1", "\"version\": 2");
        assert!(parse(later.as_bytes()).unwrap_err().to_string().contains("version 2"));
        assert!(parse(b"{}").is_err());
    }
}
