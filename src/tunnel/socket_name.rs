//! Whether the name of our Unix socket is still ours.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// A device and an inode.
type Holder = (u64, u64);

/// The name of a socket in the file system, which the next process takes over. Copies are of one mind.
#[derive(Clone, Debug)]
pub struct SocketName {
    path: PathBuf,
    /// What had the name when we last said that this is right; none where nothing had.
    noted: Arc<Mutex<Option<Holder>>>,
}

impl SocketName {
    /// A name as it is now.
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), noted: Arc::new(Mutex::new(holder(path))) }
    }

    /// Says that who has it now has it by right.
    pub(super) fn note(&self) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = holder(&self.path);
    }

    /// Whether it is another's. A name that is gone is nobody's: then we are all that is left.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        let noted = *self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = holder(&self.path);
        holder.is_some() && holder != noted
    }
}

fn holder(path: &Path) -> Option<Holder> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
