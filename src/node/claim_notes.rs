//! Whose a staged volume is: the claim that the provisioner named when it made the volume, noted for `status`.
//!
//! For people, and nothing depends on it: a note that is missing or cannot be read says nothing. One file for each
//! volume, in memory like the mounts themselves (`/run`), and gone with its staging.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde::Serialize;

use crate::host::state_dir::StateDir;

/// Of what is written. A later release reads it as well.
const VERSION: u32 = 1;
/// The directory, within the state directory.
pub const FOLDER: &str = "claims";
/// More files than a node has volumes; the rest is not read.
const MOST: usize = 65_536;

/// What is in a file. What a later release adds is passed over.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    volume: String,
    claim: String,
}

/// Notes in a folder of the state directory, which is made when it is first needed.
#[derive(Clone, Debug)]
pub struct ClaimNotes {
    folder: PathBuf,
    opened: Arc<Mutex<Option<StateDir>>>,
}

impl ClaimNotes {
    /// Notes in this state directory.
    #[must_use]
    pub fn below(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(FOLDER), opened: Arc::default() }
    }

    /// Notes the claim of a volume, as namespace/name. What cannot be noted is only missed by people.
    pub async fn note(&self, volume: &str, claim: String) {
        let note = Note { version: VERSION, volume: volume.to_owned(), claim };
        let name = file_name(volume);
        let noted =
            self.with(move |notes| notes.open()?.write(&name, &serde_json::to_vec_pretty(&note)?));
        if let Err(error) = noted.await {
            tracing::debug!(volume.id = volume, %error, "the claim was not noted");
        }
    }

    /// Forgets a volume.
    pub async fn forget(&self, volume: &str) {
        let name = file_name(volume);
        let forgotten = self.with(move |notes| match fs::remove_file(notes.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        if let Err(error) = forgotten.await {
            tracing::debug!(volume.id = volume, %error, "the note of a claim stays behind");
        }
    }

    /// The claims on note, by volume.
    #[must_use]
    pub fn read(&self) -> HashMap<String, String> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return HashMap::new() };
        let files = entries.filter_map(Result::ok).take(MOST);
        let named = files.filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b".json"));
        let notes = named.filter_map(|entry| parse(&fs::read(entry.path()).ok()?));
        notes.map(|note| (note.volume, note.claim)).collect()
    }

    /// Does `work`, which waits for the disk, on a thread that may.
    async fn with(
        &self,
        work: impl FnOnce(&Self) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let notes = self.clone();
        let worked = tokio::task::spawn_blocking(move || work(&notes)).await;
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

fn parse(text: &[u8]) -> Option<Note> {
    serde_json::from_slice(text).ok().filter(|note: &Note| note.version == VERSION)
}

/// An id holds what a file's name must not.
fn file_name(volume: &str) -> String {
    let digest = digest::digest(&digest::SHA256, volume.as_bytes());
    format!("{}.json", HEXLOWER.encode(digest.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_claim_is_known_until_its_volume_is_forgotten_also_to_another_process() {
        let home = tempfile::tempdir().unwrap();
        let notes = || ClaimNotes::below(home.path());
        assert!(notes().read().is_empty());
        notes().forget("v1:nas:/a:pvc-1").await;
        assert!(!home.path().join(FOLDER).exists(), "nothing was noted yet");
        notes().note("v1:nas:/a:pvc-1", "shop/data".to_owned()).await;
        notes().note("pv-2", "shop/more".to_owned()).await;
        notes().note("pv-2", "shop/other".to_owned()).await;
        fs::write(home.path().join(FOLDER).join("0a.json"), "{").unwrap();
        fs::write(home.path().join(FOLDER).join("unfinished"), "{}").unwrap();
        let known = notes().read();
        assert_eq!(known.len(), 2, "{known:?}");
        assert_eq!(
            (&known["v1:nas:/a:pvc-1"][..], &known["pv-2"][..]),
            ("shop/data", "shop/other")
        );
        for _ in 0..2 {
            notes().forget("pv-2").await;
        }
        assert_eq!(notes().read().len(), 1);
    }

    #[test]
    fn the_note_of_a_released_format_is_read_and_that_of_a_later_one_is_not() {
        let released = include_bytes!("../../e2e/records/claim-v1/pvc-1.json");
        let note = parse(released).unwrap();
        assert_eq!((note.volume.as_str(), note.claim.as_str()), ("pv-1", "shop/data"));
        assert_eq!(serde_json::to_vec_pretty(&note).unwrap(), released);
        let more = br#"{"version": 1, "volume": "a", "claim": "b/c", "later": true}"#;
        assert!(parse(more).is_some());
        assert!(parse(br#"{"version": 2, "volume": "a", "claim": "b/c"}"#).is_none());
    }
}
