//! The directories that mounts are put on. Called only for paths where nothing is mounted.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use tokio::fs;

/// Why a directory cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryFault {
    /// The caller should have made it.
    #[error("{0:?} does not exist")]
    Missing(PathBuf),
    /// The caller should have made the directory above.
    #[error("the directory above {0:?} does not exist")]
    ParentMissing(PathBuf),
    /// A file, a link, …
    #[error("{0:?} exists and is not a directory")]
    NotADirectory(PathBuf),
    /// Somebody's data, which we do not delete.
    #[error("{0:?} is not empty although nothing is mounted there; move its contents away")]
    NotEmpty(PathBuf),
    /// Anything else.
    #[error("failed to {verb} {path:?}")]
    Failed {
        /// What we tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What [`ensure`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// We made it, so we remove it again when what follows fails.
    Now,
    /// Somebody made it before.
    Already,
}

/// Checks that `path` is a directory, and not a link to one.
pub(super) async fn require(path: &Path) -> Result<(), DirectoryFault> {
    match fs::symlink_metadata(path).await {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(DirectoryFault::NotADirectory(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(DirectoryFault::Missing(path.to_owned()))
        }
        Err(source) => Err(failed("look at", path, source)),
    }
}

/// Makes `path` a directory where it is not one yet. The directory above must exist.
pub(super) async fn ensure(path: &Path) -> Result<Made, DirectoryFault> {
    // CSI 1.13, NodePublishVolume: creating target_path is the plugin's job, its parent is the CO's.
    let mut builder = fs::DirBuilder::new();
    match builder.mode(0o750).create(path).await {
        Ok(()) => Ok(Made::Now),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            require(path).await.map(|()| Made::Already)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(DirectoryFault::ParentMissing(path.to_owned()))
        }
        Err(source) => Err(failed("create", path, source)),
    }
}

/// Removes an empty directory; what is absent is removed already. Never removes what is in it.
pub(super) async fn remove(path: &Path) -> Result<(), DirectoryFault> {
    match fs::remove_dir(path).await {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::NotADirectory => Err(DirectoryFault::NotADirectory(path.to_owned())),
            io::ErrorKind::DirectoryNotEmpty => Err(DirectoryFault::NotEmpty(path.to_owned())),
            _ => Err(failed("remove", path, error)),
        },
    }
}

fn failed(verb: &'static str, path: &Path, source: io::Error) -> DirectoryFault {
    DirectoryFault::Failed { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_made_once_and_removed_once_and_both_may_be_repeated() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mount");
        assert_eq!(ensure(&path).await.unwrap(), Made::Now);
        assert_eq!(ensure(&path).await.unwrap(), Made::Already);
        require(&path).await.unwrap();
        remove(&path).await.unwrap();
        remove(&path).await.unwrap();
        assert!(matches!(require(&path).await, Err(DirectoryFault::Missing(_))));
    }

    #[tokio::test]
    async fn a_directory_that_holds_something_is_never_emptied() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("data"), "precious").unwrap();
        assert!(matches!(remove(home.path()).await, Err(DirectoryFault::NotEmpty(_))));
        assert!(home.path().join("data").exists());
    }

    #[tokio::test]
    async fn files_links_and_missing_parents_are_refused_by_name() {
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("file"), home.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(home.path(), &link).unwrap();
        for path in [&file, &link] {
            assert!(matches!(ensure(path).await, Err(DirectoryFault::NotADirectory(_))));
            assert!(matches!(remove(path).await, Err(DirectoryFault::NotADirectory(_))));
        }
        let orphan = home.path().join("none/mount");
        assert!(matches!(ensure(&orphan).await, Err(DirectoryFault::ParentMissing(_))));
    }
}
