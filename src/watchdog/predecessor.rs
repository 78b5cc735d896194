//! Ends a tunnel process that a watchdog before us left behind.
//!
//! It holds the addresses that the next process must bind. It is asked first; one that does not answer, or does
//! not end, is killed through a handle that was taken before, so that no other process can be hit.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::pidfd_open;
use rustix::process::pidfd_send_signal;
use tokio::net::UnixStream;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::runtime::Chain;
use crate::watchdog::relay::GrpcRelay;
use crate::watchdog::relay::Relay;

/// How long its connections get to end.
const GRACE: Duration = Duration::from_secs(1);
/// From the request to the end of the process.
const DEADLINE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
const _: () = assert!(GRACE.as_secs() < DEADLINE.as_secs(), "it could not use its grace");

/// Ends the process that serves `socket`, if there is one.
pub(super) async fn end(socket: &Path) {
    let Ok(connection) = UnixStream::connect(socket).await else {
        return; // Nobody listens; a socket file may lie there, and the next process replaces it.
    };
    let process = owner(&connection);
    drop(connection);
    tracing::info!(socket = %socket.display(), "asking the tunnel process of an earlier watchdog to end");
    if timeout(DEADLINE, ask_to_end(socket)).await.is_ok() {
        return;
    }
    let Some(process) = process else {
        tracing::error!(socket = %socket.display(), "an earlier tunnel process does not end");
        return;
    };
    tracing::warn!(socket = %socket.display(), "killing an earlier tunnel process that does not end");
    if let Err(error) = pidfd_send_signal(&process, Signal::KILL) {
        tracing::warn!(%error, "failed to kill an earlier tunnel process");
    }
    let _either_way = timeout(DEADLINE, gone(socket)).await;
}

async fn ask_to_end(socket: &Path) {
    let answer = match GrpcRelay::new(socket) {
        Ok(relay) => relay.shut_down(GRACE).await,
        Err(error) => Err(tonic::Status::from_error(error.into()).into()),
    };
    if let Err(error) = answer {
        tracing::warn!(error = %Chain(&error), "an earlier tunnel process could not be asked to end");
    }
    gone(socket).await;
}

/// Waits until nobody listens on `socket`.
async fn gone(socket: &Path) {
    while UnixStream::connect(socket).await.is_ok() {
        sleep(POLL).await;
    }
}

/// A handle on the process that listens. None where it lives in another process namespace.
fn owner(connection: &UnixStream) -> Option<OwnedFd> {
    let id = connection.peer_cred().ok()?.pid().filter(|id| *id > 1)?;
    let id = Pid::from_raw(id).filter(|id| *id != rustix::process::getpid())?;
    pidfd_open(id, PidfdFlags::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::relay::served;

    #[tokio::test]
    async fn without_a_predecessor_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("tunnel.sock");
        timeout(Duration::from_secs(1), end(&socket)).await.unwrap();
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        timeout(Duration::from_secs(1), end(&socket)).await.unwrap();
    }

    #[tokio::test]
    async fn a_predecessor_that_answers_is_asked_to_end_and_is_gone_after() {
        let dir = tempfile::tempdir().unwrap();
        let socket = served::serve(&dir);
        timeout(DEADLINE, end(&socket)).await.unwrap();
        assert!(UnixStream::connect(&socket).await.is_err());
    }
}
