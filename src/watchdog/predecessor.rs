//! A tunnel process that a watchdog before us left behind.
//!
//! It has descriptors of the listening sockets, and hands them over, so that no address is let go. It serves until
//! the next process does; then it is asked to end. One that does not answer, or does not end, is killed through a
//! handle that was taken before, so that no other process can be hit. Whatever is asked of it goes over connections
//! that were made before: the next process takes its name over.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::pidfd_open;
use rustix::process::pidfd_send_signal;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::host::parcel;
use crate::runtime::Chain;
use crate::tunnel::door::bind_private;
use crate::watchdog::relay::GrpcRelay;
use crate::watchdog::relay::Relay;
use crate::watchdog::relay::RelayError;

/// How long its connections get to end.
const GRACE: Duration = Duration::from_secs(1);
/// From the request to the end of the process.
const DEADLINE: Duration = Duration::from_secs(5);
/// For its sockets. While it does not answer it does not carry either.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(3);
const _: () = assert!(GRACE.as_secs() < DEADLINE.as_secs(), "it could not use its grace");

/// A process that serves as one of ours would.
#[derive(Debug)]
pub(super) struct Predecessor {
    /// None where it lives in another process namespace.
    process: Option<OwnedFd>,
    relay: GrpcRelay,
    /// Ends with the process.
    connection: UnixStream,
    socket: PathBuf,
}

/// Gets the sockets of the process that serves `socket`, if there is one. A process that does not give them is ended.
pub(super) async fn take_over(socket: &Path) -> (Vec<OwnedFd>, Option<Predecessor>) {
    // Nobody listens; a socket file may lie there, and the next process replaces it.
    let Some(former) = find(socket).await else { return (Vec::new(), None) };
    let why = match timeout(HAND_OVER_DEADLINE, former.hand_over()).await {
        Ok(Ok(sockets)) => {
            tracing::info!(
                sockets = sockets.len(),
                "took the sockets over from the tunnel process of an earlier watchdog"
            );
            return (sockets, Some(former));
        }
        Ok(Err(error)) => Chain(&error).to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(
        why,
        "an earlier tunnel process does not hand its sockets over; it is ended first"
    );
    former.end().await;
    (Vec::new(), None)
}

async fn find(socket: &Path) -> Option<Predecessor> {
    let connection = UnixStream::connect(socket).await.ok()?;
    let relay = GrpcRelay::over(UnixStream::connect(socket).await.ok()?);
    Some(Predecessor { process: owner(&connection), relay, connection, socket: socket.to_owned() })
}

impl Predecessor {
    /// Its sockets, over a Unix socket of our own that is there for this moment.
    async fn hand_over(&self) -> Result<Vec<OwnedFd>, RelayError> {
        let path = self.socket.with_extension("hand-over");
        let receiving = async {
            let listener = bind_private(&path)?;
            let (stream, _) = listener.accept().await?;
            let (mut blanks, mut sockets) = (Vec::new(), Vec::new());
            while parcel::receive(&stream, &mut blanks, &mut sockets).await? {}
            io::Result::Ok(sockets)
        };
        // Polled in this order: the socket is there before the call is made.
        let handed_over = tokio::try_join!(
            biased;
            async { receiving.await.map_err(|error| tonic::Status::from_error(error.into()).into()) },
            self.relay.hand_over(&path),
        );
        let _gone_anyway = std::fs::remove_file(&path);
        let (sockets, sent) = handed_over?;
        if sockets.len() == sent { Ok(sockets) } else { Err(RelayError::Malformed("all sockets")) }
    }

    /// Asks the process to end, and kills it if it does not.
    pub(super) async fn end(mut self) {
        tracing::info!("asking the tunnel process of an earlier watchdog to end");
        if timeout(DEADLINE, self.ask_to_end()).await.is_ok() {
            return;
        }
        let Some(process) = &self.process else {
            tracing::error!(socket = %self.socket.display(), "an earlier tunnel process does not end");
            return;
        };
        tracing::warn!("killing an earlier tunnel process that does not end");
        if let Err(error) = pidfd_send_signal(process, Signal::KILL) {
            tracing::warn!(%error, "failed to kill an earlier tunnel process");
        }
        let _either_way = timeout(DEADLINE, gone(&mut self.connection)).await;
    }

    async fn ask_to_end(&mut self) {
        if let Err(error) = self.relay.shut_down(GRACE).await {
            tracing::warn!(error = %Chain(&error), "an earlier tunnel process could not be asked to end");
        }
        gone(&mut self.connection).await;
    }
}

/// Waits until the process at the other end is gone. Nothing that it says there is of interest.
async fn gone(connection: &mut UnixStream) {
    let mut said = [0; 256];
    while matches!(connection.read(&mut said).await, Ok(1..)) {}
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
    use crate::watchdog::relay::served::Release;

    /// What serves here ends without its process, and the deadlines run out.
    const PATIENCE: Duration = DEADLINE.saturating_mul(4);

    #[tokio::test]
    async fn without_a_predecessor_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("tunnel.sock");
        let nothing = |socket: PathBuf| async move {
            let (sockets, former) =
                timeout(Duration::from_secs(1), take_over(&socket)).await.unwrap();
            assert!(sockets.is_empty() && former.is_none());
        };
        nothing(socket.clone()).await;
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        nothing(socket).await;
    }

    #[tokio::test]
    async fn a_predecessor_hands_its_sockets_over_and_serves_until_it_is_asked_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let socket = served::serve(&dir, Release::This);
        let (sockets, former) = timeout(PATIENCE, take_over(&socket)).await.unwrap();
        assert_eq!(sockets.len(), 2);
        let former = former.expect("it goes on");
        UnixStream::connect(&socket).await.unwrap();
        timeout(PATIENCE, former.end()).await.unwrap();
        assert!(UnixStream::connect(&socket).await.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[tokio::test]
    async fn a_predecessor_that_knows_of_no_hand_over_is_gone_before_the_next_one_binds() {
        let dir = tempfile::tempdir().unwrap();
        let socket = served::serve(&dir, Release::Before);
        let (sockets, former) = timeout(PATIENCE, take_over(&socket)).await.unwrap();
        assert!(sockets.is_empty() && former.is_none());
        assert!(UnixStream::connect(&socket).await.is_err());
    }
}
