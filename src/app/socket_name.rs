//! Whether the name of our Unix socket is still ours.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// The name of a socket in the file system, which the next process takes over.
#[derive(Clone, Debug)]
pub(super) struct SocketName {
    path: PathBuf,
    /// The device and inode that are ours; none where we could not see them.
    ours: Option<(u64, u64)>,
}

impl SocketName {
    /// A name that was bound just now.
    pub(super) async fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), ours: Self::holder(path).await }
    }

    /// Whether it is another's. A name that is gone is nobody's: then we are all that is left.
    pub(super) async fn is_taken(&self) -> bool {
        let holder = Self::holder(&self.path).await;
        holder.is_some() && self.ours.is_some() && holder != self.ours
    }

    async fn holder(path: &Path) -> Option<(u64, u64)> {
        let found = tokio::fs::symlink_metadata(path).await.ok()?;
        Some((found.dev(), found.ino()))
    }
}
