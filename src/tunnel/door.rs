//! Where a tunnel process is asked: at a Unix socket that has a name, for this watchdog and for the next one.
//!
//! Where the name cannot be had, because the state directory is read-only, full or gone, the process serves all the
//! same: a mount that waits is worse than a door without a name. Then the watchdog asks over a connection that it gave
//! at the start, and the name is taken as soon as it can be.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::tunnel::initial::READY;
use crate::tunnel::initial::READY_UNNAMED;
use crate::tunnel::socket_name::SocketName;

/// Only root may speak to us.
const SOCKET_MODE: u32 = 0o600;
/// Between two tries to get the name.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// An open door.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    name: SocketName,
    listener: Option<UnixListener>,
    /// To the watchdog. Of no use where there is a name.
    direct: Option<UnixStream>,
}

impl Door {
    /// Binds the name, or else has the watchdog ask over the connection that it gave.
    ///
    /// # Errors
    /// When the name cannot be had and no connection was given.
    pub fn open(path: &Path, direct: Option<UnixStream>) -> io::Result<Self> {
        let (listener, direct) = match (bind_private(path), direct) {
            (Ok(listener), _) => (Some(listener), None),
            (Err(error), Some(direct)) => {
                tracing::error!(
                    socket = %path.display(),
                    %error,
                    "failed to make the socket of the tunnel process: it serves without one and tries again; mend the \
                     state directory"
                );
                (None, Some(direct))
            }
            (Err(error), None) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), name: SocketName::of(path), listener, direct })
    }

    /// What the watchdog is told once this process serves.
    #[must_use]
    pub fn word(&self) -> &'static str {
        if self.listener.is_some() { READY } else { READY_UNNAMED }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> SocketName {
        self.name.clone()
    }

    /// Whoever comes in.
    pub(super) fn connections(self) -> ReceiverStream<io::Result<UnixStream>> {
        let (enter, entering) = mpsc::channel(1);
        tokio::spawn(self.let_in(enter));
        ReceiverStream::new(entering)
    }

    async fn let_in(self, enter: mpsc::Sender<io::Result<UnixStream>>) {
        let Self { path, name, listener, direct } = self;
        if let Some(direct) = direct {
            let _nobody_serves = enter.send(Ok(direct)).await;
        }
        let listener = match listener {
            Some(listener) => listener,
            None => tokio::select! {
                listener = named_at_last(&path, &name) => listener,
                () = enter.closed() => return,
            },
        };
        loop {
            let connection = tokio::select! {
                accepted = listener.accept() => accepted.map(|(connection, _)| connection),
                () = enter.closed() => return,
            };
            let _nobody_serves = enter.send(connection).await;
        }
    }
}

/// Tries until it has the name. Where another process listens there it is that one's, until it ends: a predecessor that
/// is about to, or our successor.
async fn named_at_last(path: &Path, name: &SocketName) -> UnixListener {
    loop {
        tokio::time::sleep(TRY_AGAIN).await;
        if UnixStream::connect(path).await.is_ok() {
            continue;
        }
        if let Ok(listener) = bind_private(path) {
            name.note();
            tracing::info!(socket = %path.display(), "the tunnel process has its socket now");
            return listener;
        }
    }
}

/// Binds a Unix socket that only this user may connect to, in place of one that an earlier process has left.
///
/// It gets its mode under another name, so that it is never open to others under its own.
///
/// # Errors
/// When the directory is missing or not writable.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let nascent = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    match fs::remove_file(&nascent) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(&nascent)?;
    fs::set_permissions(&nascent, fs::Permissions::from_mode(SOCKET_MODE))?;
    fs::rename(&nascent, path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;
    use tokio_stream::StreamExt;

    const PATIENCE: Duration = TRY_AGAIN.saturating_mul(4);

    #[tokio::test]
    async fn the_socket_is_private_and_takes_the_place_of_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tunnel.sock");
        drop(bind_private(&path).unwrap());
        let _second = bind_private(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_door_that_has_its_name_needs_no_connection_besides() {
        let folder = tempfile::tempdir().unwrap();
        let (mut watchdog, ours) = UnixStream::pair().unwrap();
        let path = folder.path().join("tunnel.sock");
        let door = Door::open(&path, Some(ours)).unwrap();
        assert_eq!(door.word(), READY);
        watchdog.write_all(b"?").await.unwrap_err();
        let mut connections = door.connections();
        UnixStream::connect(&path).await.unwrap();
        connections.next().await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_whose_name_cannot_be_had_is_open_to_the_watchdog_and_gets_it_later() {
        let folder = tempfile::tempdir().unwrap();
        let (_watchdog, ours) = UnixStream::pair().unwrap();
        let path = folder.path().join("gone/tunnel.sock");
        assert!(Door::open(&path, None).is_err());
        let door = Door::open(&path, Some(ours)).unwrap();
        assert_eq!(door.word(), READY_UNNAMED);
        let name = door.name();
        let mut connections = door.connections();
        timeout(PATIENCE, connections.next()).await.unwrap().unwrap().unwrap();

        fs::create_dir(folder.path().join("gone")).unwrap();
        timeout(PATIENCE, named(&path)).await.unwrap();
        timeout(PATIENCE, connections.next()).await.unwrap().unwrap().unwrap();
        assert!(!name.is_taken(), "its own name is not another's");
        let _next = bind_private(&path).unwrap();
        assert!(name.is_taken());
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_without_a_name_does_not_take_it_from_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tunnel.sock");
        let _former = bind_private(&path).unwrap();
        let (_watchdog, ours) = UnixStream::pair().unwrap();
        let name = SocketName::of(&path);
        let door =
            Door { path: path.clone(), name: name.clone(), listener: None, direct: Some(ours) };
        let next = bind_private(&path).unwrap();
        let mut connections = door.connections();
        connections.next().await.unwrap().unwrap();
        UnixStream::connect(&path).await.unwrap();
        assert!(timeout(PATIENCE, connections.next()).await.is_err(), "it has taken the name");
        assert!(name.is_taken());
        // What a process that was killed has left is nobody's.
        drop(next);
        timeout(PATIENCE, named(&path)).await.unwrap();
    }

    async fn named(path: &Path) {
        while UnixStream::connect(path).await.is_err() {
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}
