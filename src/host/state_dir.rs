//! A directory whose files are written whole or not at all.
//!
//! A file is written beside its place, brought to the disk, and renamed into it: a reader, also one after a
//! crash, finds the old content or the new, never a part. The directory has mode 0700, its files 0600.
//!
//! The calls block for as long as the disk takes. The directory is meant to lie under `/run`, in memory.

use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::fs::TryLockError;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use prost_types::Timestamp;

use crate::runtime::FailurePoint;

/// What the names of unfinished files begin with. A crash may leave one behind.
const UNFINISHED: &str = ".unfinished-";

/// A directory that belongs to us alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It is not there and cannot be made, or belongs to someone else.
    #[error("failed to set up the state directory {dir:?}")]
    SetUp {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock file cannot be opened.
    #[error("failed to lock {file:?}")]
    Lock {
        /// The lock file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error(
        "another process works on the state directory {dir:?} (it holds the lock {name}: {holder}); stop it, or \
         give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The lock file's name.
        name: String,
        /// What it says about itself.
        holder: String,
    },
}

/// Says that a directory is ours. The kernel takes it back when the value is dropped or the process dies.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl StateDir {
    /// Makes the directory where it is missing, takes others' access to it away, and removes what a crash left
    /// unfinished.
    ///
    /// # Errors
    /// Names the directory.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StateDirError> {
        let dir = dir.into();
        let opened = Self(dir.clone());
        opened.set_up().map_err(|source| StateDirError::SetUp { dir, source })?;
        Ok(opened)
    }

    /// A directory within this one, set up in the same way.
    ///
    /// # Errors
    /// Names the directory.
    pub fn sub(&self, name: &str) -> Result<Self, StateDirError> {
        Self::open(self.0.join(name))
    }

    /// Takes the lock of that name, or fails at once where another process holds it.
    ///
    /// # Errors
    /// Names the directory.
    pub fn lock(&self, name: &str) -> Result<DirLock, StateDirError> {
        let path = self.0.join(name);
        let failed = |source| StateDirError::Lock { file: path.clone(), source };
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // For people: where it cannot be written, the lock holds all the same.
                let _for_people = introduce(&file);
                Ok(DirLock { _file: file })
            }
            Err(TryLockError::WouldBlock) => Err(StateDirError::InUse {
                dir: self.0.clone(),
                name: name.to_owned(),
                holder: holder(&file),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a file of that name is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file whole. When this returns, a crash no longer undoes it.
    ///
    /// # Errors
    /// What the system said; then the file is as it was before.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        // Made with mode 0600, and removed again when an early return drops it.
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.0)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        FailurePoint::StateUnfinished.pass();
        file.persist(self.file(name)).map_err(|error| error.error)?;
        self.sync()
    }

    /// Removes a file. One that is not there is removed already.
    ///
    /// # Errors
    /// What the system said.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    /// The content of a file.
    ///
    /// # Errors
    /// What the system said.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.file(name))
    }

    /// The names of all files, sorted. Unfinished ones are left out.
    ///
    /// # Errors
    /// What the system said.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<_> = self.entries()?;
        names.retain(|name| !name.starts_with(UNFINISHED));
        names.sort();
        Ok(names)
    }

    fn set_up(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        fs::set_permissions(&self.0, Permissions::from_mode(0o700))?;
        for name in self.entries()?.iter().filter(|name| name.starts_with(UNFINISHED)) {
            fs::remove_file(self.file(name))?;
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.0)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// A rename is on the disk once its directory is.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

/// Writes down who holds a lock.
fn introduce(mut file: &File) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = Timestamp { seconds: i64::try_from(now).unwrap_or_default(), nanos: 0 };
    file.set_len(0)?;
    write!(file, "pid {}, since {since}", std::process::id())
}

fn holder(mut file: &File) -> String {
    let mut said = String::new();
    match file.read_to_string(&mut said) {
        Ok(1..) => said.trim().to_owned(),
        _ => "it does not say who it is".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = StateDir::open(parent.path().join("state")).unwrap();
        (parent, dir)
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_ours_alone() {
        let (_parent, dir) = dir();
        dir.write("a.json", b"a long first text").unwrap();
        dir.write("a.json", b"second").unwrap();
        assert_eq!(dir.read("a.json").unwrap(), b"second");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.file("a.json")), 0o600);
        assert_eq!(mode(dir.path()), 0o700);
    }

    #[test]
    fn what_a_crash_left_unfinished_is_never_shown_and_goes_at_the_next_start() {
        let (_parent, dir) = dir();
        let half = dir.file(".unfinished-x");
        fs::write(&half, "{").unwrap();
        assert!(dir.names().unwrap().is_empty());
        StateDir::open(dir.path()).unwrap();
        assert!(!half.exists());
    }

    #[test]
    fn removing_may_be_repeated() {
        let (_parent, dir) = dir();
        dir.write("a", b"").unwrap();
        dir.remove("a").unwrap();
        dir.remove("a").unwrap();
    }

    #[test]
    fn a_second_owner_is_refused_by_the_name_of_the_directory_until_the_first_is_gone() {
        let (_parent, dir) = dir();
        let first = dir.lock("lock").unwrap();
        let refusal = dir.lock("lock").unwrap_err().to_string();
        assert!(refusal.contains(dir.path().to_str().unwrap()), "{refusal}");
        let holder = format!("pid {}, since 2", std::process::id());
        assert!(refusal.contains(&holder), "{refusal}");
        drop(first);
        dir.lock("lock").unwrap();
    }
}
