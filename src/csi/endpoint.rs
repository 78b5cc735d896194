//! The socket that the kubelet and the sidecars call us on.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use tokio::fs;
use tokio::net::UnixListener;
use tokio::net::UnixStream;

/// Where a CSI server listens: a Unix socket, and never anything else (CSI 1.13, "Supervised Lifecycle").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsiEndpoint(PathBuf);

/// A text is no CSI endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CSI endpoint {0:?} must be unix:///some/path.sock or /some/path.sock")]
pub struct CsiEndpointError(String);

/// Why nobody could call us.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another driver of this name, or a container of this pod that has not ended.
    #[error(
        "another server answers on {0:?} and does not make way; two plugins must not share one socket"
    )]
    InUse(PathBuf),
    /// We delete nothing but sockets.
    #[error("{0:?} exists and is not a socket; move it away")]
    NotASocket(PathBuf),
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

impl CsiEndpoint {
    /// Reads `unix:///x.sock`, `unix:/x.sock` or `/x.sock`.
    ///
    /// # Errors
    /// Says which forms there are.
    pub fn parse(text: &str) -> Result<Self, CsiEndpointError> {
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        let path = Path::new(path.unwrap_or(text));
        if path.is_absolute() && path.extension().is_some_and(|extension| extension == "sock") {
            Ok(Self(path.to_owned()))
        } else {
            Err(CsiEndpointError(text.to_owned()))
        }
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Listens here, for root alone. A socket that a dead process left is replaced.
    ///
    /// # Errors
    /// Says what is in the way.
    pub async fn listen(&self) -> Result<UnixListener, ListenError> {
        self.ensure_free().await?;
        self.listen_instead().await
    }

    /// The same, in the place of whoever listens here: from now on callers come to us.
    ///
    /// # Errors
    /// Says what failed.
    pub async fn listen_instead(&self) -> Result<UnixListener, ListenError> {
        let unfinished = self.0.with_extension("unfinished");
        match fs::remove_file(&unfinished).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("make room for", error));
            }
            _ => {}
        }
        let listener =
            UnixListener::bind(&unfinished).map_err(|source| self.failed("bind", source))?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o600))
            .await
            .map_err(|source| self.failed("protect", source))?;
        fs::rename(&unfinished, &self.0).await.map_err(|source| self.failed("name", source))?;
        Ok(listener)
    }

    async fn ensure_free(&self) -> Result<(), ListenError> {
        match fs::symlink_metadata(&self.0).await {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ListenError::NotASocket(self.0.clone()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(self.failed("look at", source)),
        }
        match UnixStream::connect(&self.0).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            // Connected, or too busy to be connected to: somebody lives there.
            Ok(_) | Err(_) => Err(ListenError::InUse(self.0.clone())),
        }
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> ListenError {
        ListenError::Failed { verb, path: self.0.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(home: &tempfile::TempDir) -> CsiEndpoint {
        CsiEndpoint::parse(&home.path().join("csi.sock").to_string_lossy()).unwrap()
    }

    #[test]
    fn an_endpoint_is_an_absolute_path_to_a_socket() {
        for text in ["unix:///csi/csi.sock", "unix:/csi/csi.sock", "/csi/csi.sock"] {
            assert_eq!(CsiEndpoint::parse(text).unwrap().path(), Path::new("/csi/csi.sock"));
        }
        for text in ["", "unix://csi.sock", "tcp://127.0.0.1:1", "/csi/csi", "csi.sock"] {
            CsiEndpoint::parse(text).unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_socket_that_a_dead_process_left_is_replaced_and_a_live_one_is_not() {
        let home = tempfile::tempdir().unwrap();
        let endpoint = endpoint(&home);
        let first = endpoint.listen().await.unwrap();
        assert!(matches!(endpoint.listen().await, Err(ListenError::InUse(_))));
        drop(first);
        let _second = endpoint.listen().await.unwrap();
        let mode = std::fs::metadata(endpoint.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let endpoint = endpoint(&home);
        std::fs::write(endpoint.path(), "precious").unwrap();
        assert!(matches!(endpoint.listen().await, Err(ListenError::NotASocket(_))));
        assert!(endpoint.path().exists());
    }
}
