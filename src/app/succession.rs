//! One watchdog follows another on the same state directory while the other still lives.
//!
//! A watchdog that runs with `--leave-tunnel` makes way: it ends, and its tunnel process serves on until ours does.
//! Any other one keeps its state directory, and is named.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::app::node::WATCHDOG_SOCKET;
use crate::host::state_dir::DirLock;
use crate::host::state_dir::StateDir;
use crate::host::state_dir::StateDirError;
use crate::proto::tunnel::YieldRequest;
use crate::proto::tunnel::tunnels_client::TunnelsClient;
use crate::runtime::one_connection;

const LOCK: &str = "watchdog.lock";
/// For the question.
const ASK_DEADLINE: Duration = Duration::from_secs(3);
/// For the other one's calls that are under way, and its end.
const END_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Makes the state directory ours alone; where another watchdog has it that agrees to end, once it has.
///
/// # Errors
/// Names the other one, where it does not agree.
pub(super) async fn ours_alone(state: &StateDir) -> Result<DirLock, StateDirError> {
    let refusal = match state.lock(LOCK) {
        Err(refusal @ StateDirError::InUse { .. }) => refusal,
        locked => return locked,
    };
    match timeout(ASK_DEADLINE, ask(&state.file(WATCHDOG_SOCKET))).await {
        Ok(Ok(true)) => tracing::info!(other = %refusal, "the other watchdog makes way"),
        Ok(Ok(false)) => return Err(refusal),
        Ok(Err(error)) => {
            tracing::warn!(why = error, "the other watchdog could not be asked to make way");
            return Err(refusal);
        }
        Err(_) => {
            tracing::warn!("the other watchdog gave no answer when it was asked to make way");
            return Err(refusal);
        }
    }
    let deadline = Instant::now() + END_DEADLINE;
    loop {
        sleep(LOOK_AGAIN).await;
        match state.lock(LOCK) {
            Err(StateDirError::InUse { .. }) if Instant::now() < deadline => {}
            locked => return locked,
        }
    }
}

async fn ask(socket: &Path) -> Result<bool, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let answer = TunnelsClient::new(one_connection(stream)).r#yield(YieldRequest {}).await;
    // One of an earlier release does not know the question.
    answer.map(|answer| answer.into_inner().agreed).map_err(|status| status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watchdog_that_cannot_be_asked_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        let first = ours_alone(&state).await.unwrap();
        let refusal = ours_alone(&state).await.unwrap_err().to_string();
        assert!(refusal.contains(&format!("pid {}", std::process::id())), "{refusal}");
        drop(first);
        ours_alone(&state).await.unwrap();
    }
}
