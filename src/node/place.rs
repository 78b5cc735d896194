//! A path of the kubelet, spelled as the kernel's mount table spells it.
//!
//! The kubelet's directory may be reached through a link (`/var/lib/kubelet -> /data/kubelet`), and the mount
//! table shows where it leads. Only the parent is resolved: looking at the last part itself would ask the NFS
//! server that is perhaps mounted there.

use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// Why a path cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum PathFault {
    /// It would depend on our working directory.
    #[error("path {0:?} must be absolute")]
    Relative(PathBuf),
    /// It could lead out of where it seems to be.
    #[error("path {0:?} must not contain \"..\"")]
    Climbs(PathBuf),
    /// The root directory is nobody's volume.
    #[error("path {0:?} names no directory of its own")]
    Root(PathBuf),
    /// The kernel would not follow it.
    #[error("failed to resolve {path:?}")]
    Unresolvable {
        /// What was given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Resolves the links on the way to `path`, but not `path` itself. A way that does not exist stays as it is.
pub(super) async fn resolve(path: &Path) -> Result<PathBuf, PathFault> {
    if !path.is_absolute() {
        return Err(PathFault::Relative(path.to_owned()));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(PathFault::Climbs(path.to_owned()));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(PathFault::Root(path.to_owned()));
    };
    match tokio::fs::canonicalize(parent).await {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.components().collect()),
        Err(source) => Err(PathFault::Unresolvable { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn links_on_the_way_are_followed_and_the_last_part_is_not() {
        let home = tempfile::tempdir().unwrap();
        let real = home.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        std::os::unix::fs::symlink("/nowhere", real.join("stage")).unwrap();
        assert_eq!(resolve(&link.join("stage/")).await.unwrap(), real.join("stage"));
    }

    #[tokio::test]
    async fn a_way_that_does_not_exist_stays_as_it_is() {
        let path = Path::new("/nowhere//at/./all/");
        assert_eq!(resolve(path).await.unwrap(), Path::new("/nowhere/at/all"));
    }

    #[tokio::test]
    async fn paths_that_name_nothing_certain_are_refused() {
        for path in ["", "some/path", "/a/../b", "/", "/.."] {
            assert!(resolve(Path::new(path)).await.is_err(), "{path:?}");
        }
    }
}
