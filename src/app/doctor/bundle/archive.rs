//! A tar archive that is made in memory, bounded, and written whole or not at all.

use std::fs::Permissions;
use std::io;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::app::doctor::bundle::scrub::Scrub;

/// Of one file in it: the status of a thousand tunnels fits.
const LONGEST_FILE: usize = 2 * 1024 * 1024;
/// Of all of them.
const LONGEST: usize = 8 * 1024 * 1024;
/// The directory that everything is in.
const FOLDER: &str = "alinas-csi-bundle";
/// Names of mount targets and directories are nobody else's business.
const MODE: u32 = 0o600;

/// What is to be written.
pub(super) struct Archive {
    tar: tar::Builder<Vec<u8>>,
    scrub: Scrub,
    seconds: u64,
    bytes: usize,
    files: usize,
    notes: Vec<String>,
}

impl Archive {
    /// Without anything in it. `seconds` since the epoch are the time of its files.
    pub(super) fn new(scrub: Scrub, seconds: u64) -> Self {
        let tar = tar::Builder::new(Vec::new());
        Self { tar, scrub, seconds, bytes: 0, files: 0, notes: Vec::new() }
    }

    /// Says what is not in it, and why.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Puts a file in it, cleaned of secrets and cut at its bounds.
    pub(super) fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let clean = self.scrub.clean(text);
        let kept = beginning(&clean, LONGEST_FILE);
        if kept.len() < clean.len() {
            self.note(format!("{name}: only the first {} bytes", kept.len()));
        }
        if self.bytes + kept.len() > LONGEST {
            self.note(format!("{name}: left out, the archive would be too large"));
            return Ok(());
        }
        self.append(name, kept)
    }

    fn append(&mut self, name: &str, text: &str) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(text.len()).unwrap_or_default());
        header.set_mode(MODE);
        header.set_mtime(self.seconds);
        (self.bytes, self.files) = (self.bytes + text.len(), self.files + 1);
        let path = format!("{FOLDER}/{}", self.scrub.clean(name));
        self.tar.append_data(&mut header, path, text.as_bytes())
    }

    /// The archive, and how many files are in it.
    pub(super) fn finish(mut self) -> io::Result<(Vec<u8>, usize)> {
        let notes = std::mem::take(&mut self.notes);
        if !notes.is_empty() {
            let text = self.scrub.clean(&(notes.join("\n") + "\n"));
            self.append("notes.txt", beginning(&text, LONGEST_FILE))?;
        }
        Ok((self.tar.into_inner()?, self.files))
    }
}

/// As many whole characters as fit.
fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// Writes a file that only its owner may read, by way of a temporary name.
pub(in crate::app) fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut written = tempfile::Builder::new()
        .prefix(".alinas-csi-bundle-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    written.write_all(bytes)?;
    written.as_file().sync_all()?;
    written.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    /// Names and texts of an archive.
    pub(in crate::app::doctor::bundle) fn unpacked(bytes: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(bytes);
        let files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mode().unwrap(), MODE);
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (name.strip_prefix("alinas-csi-bundle/").unwrap().to_owned(), text)
        });
        files.collect()
    }

    #[test]
    fn it_is_bounded_and_says_what_is_missing() {
        let mut scrub = Scrub::default();
        scrub.add("topsecret");
        let mut archive = Archive::new(scrub, 1);
        archive.add("topsecret.txt", "a topsecret b").unwrap();
        let long = "ü".repeat(LONGEST_FILE);
        (0..5).for_each(|number| archive.add(&format!("{number}"), &long).unwrap());
        let (bytes, files) = archive.finish().unwrap();
        assert!(bytes.len() < LONGEST + 1024 * 1024, "{}", bytes.len());
        let unpacked = unpacked(&bytes);
        assert_eq!(unpacked.len(), files);
        assert_eq!(unpacked[0], ("<left out>.txt".to_owned(), "a <left out> b".to_owned()));
        let (name, notes) = unpacked.last().unwrap();
        assert_eq!(name, "notes.txt");
        assert!(notes.contains("0: only the first 2097152 bytes\n"), "{notes}");
        assert!(notes.contains("4: left out, the archive would be too large\n"), "{notes}");
    }

    #[test]
    fn the_file_is_its_owners_alone_and_takes_the_place_of_another_one() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("bundle.tar");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        write(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "the temporary name is gone");
        assert!(write(&home.path().join("no/bundle.tar"), b"new").is_err());
    }
}
