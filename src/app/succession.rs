//! One process follows another of its role while the other still lives.
//!
//! A watchdog that runs with `--leave-tunnel` or `--make-way` makes way on its state directory: it ends, and its tunnel
//! process serves on until ours does. A node plugin that runs with `--make-way` makes way on its CSI socket, once it has
//! ended what it had begun. Any other one keeps its place, and is named.
//!
//! In a pod, a process that ends is started again, and would take the place back; and what it has left serving would
//! end with it. So there it goes on to live, does nothing, and waits for its signal ([`needed_again`]): the next pod of
//! a DaemonSet that starts before the former one ends (`maxSurge`) takes over without a pause.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::node;
use crate::app::node::WATCHDOG_SOCKET;
use crate::csi::CsiEndpoint;
use crate::csi::ListenError;
use crate::host::state_dir::DirLock;
use crate::host::state_dir::StateDir;
use crate::host::state_dir::StateDirError;
use crate::proto::tunnel::YieldRequest;
use crate::proto::tunnel::succession_client::SuccessionClient;
use crate::proto::tunnel::tunnels_client::TunnelsClient;
use crate::runtime::one_connection;

const LOCK: &str = "watchdog.lock";
/// For the question.
const ASK_DEADLINE: Duration = Duration::from_secs(3);
/// For the other one's calls that are under way, and its end.
const END_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For the question to a node plugin, which answers once its operations have ended.
const NODE_DEADLINE: Duration = Duration::from_secs(26);
const _: () = assert!(node::DRAIN.as_secs() < NODE_DEADLINE.as_secs(), "it could not drain");
/// How often one that made way looks whether somebody serves in its place.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How often in a row nobody does before it is needed again. The next one may be about to be started again.
const LOOKS: u32 = 15;

/// What ends a process of a role.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// It was told to, or makes way.
    pub(super) stop: CancellationToken,
    /// It makes way: another process takes over.
    pub(super) succeeded: CancellationToken,
}

impl End {
    /// Whoever is told to end by `told` ends.
    pub(super) fn when(told: &CancellationToken) -> Self {
        Self { stop: told.child_token(), succeeded: CancellationToken::new() }
    }

    /// From now on, who makes way ends.
    pub(super) fn may_come_early(&self) {
        let Self { stop, succeeded } = self.clone();
        tokio::spawn(async move {
            if stop.run_until_cancelled(succeeded.cancelled()).await.is_some() {
                stop.cancel();
            }
        });
    }
}

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

/// Listens for CSI; where another node plugin does that agrees to make way, in its place, once it has ended what it had
/// begun.
///
/// # Errors
/// Names the socket, where the other one does not agree.
pub(super) async fn listen(endpoint: &CsiEndpoint) -> Result<UnixListener, ListenError> {
    let refusal = match endpoint.listen().await {
        Err(refusal @ ListenError::InUse(_)) => refusal,
        listened => return listened,
    };
    match timeout(NODE_DEADLINE, ask_node(endpoint.path())).await {
        Ok(Ok(true)) => tracing::info!("the other node plugin makes way"),
        Ok(Ok(false)) => return Err(refusal),
        // It may have ended meanwhile.
        Ok(Err(error)) => {
            tracing::warn!(why = error, "the other node plugin could not be asked to make way");
            return endpoint.listen().await;
        }
        Err(_) => {
            tracing::warn!("the other node plugin gave no answer when it was asked to make way");
            return endpoint.listen().await;
        }
    }
    endpoint.listen_instead().await
}

/// Waits as one that has made way: until `stop`, or until nobody serves on `socket` any more. Answers whether it is
/// needed again.
pub(super) async fn needed_again(socket: &Path, stop: &CancellationToken) -> bool {
    tracing::info!("made way for another process; this one waits for its end");
    let mut missed = 0;
    while missed < LOOKS {
        if stop.run_until_cancelled(sleep(LOOK_AFTER)).await.is_none() {
            return false;
        }
        missed = match UnixStream::connect(socket).await {
            Ok(_) => 0,
            Err(_) => missed + 1,
        };
    }
    tracing::warn!(
        socket = %socket.display(),
        "the process that took over is gone; this one serves again"
    );
    true
}

async fn ask_node(socket: &Path) -> Result<bool, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let answer = SuccessionClient::new(one_connection(stream)).r#yield(YieldRequest {}).await;
    match answer {
        Ok(answer) => Ok(answer.into_inner().agreed),
        // It runs without --make-way, or is another driver.
        Err(status) if status.code() == tonic::Code::Unimplemented => Ok(false),
        Err(status) => Err(status.message().to_owned()),
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

    #[tokio::test]
    async fn a_server_that_knows_of_no_succession_keeps_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = CsiEndpoint::parse(&dir.path().join("csi.sock").to_string_lossy()).unwrap();
        let listener =
            tokio_stream::wrappers::UnixListenerStream::new(listen(&endpoint).await.unwrap());
        let server =
            tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
        let server = tokio::spawn(server.serve_with_incoming(listener));
        assert!(matches!(listen(&endpoint).await, Err(ListenError::InUse(_))));
        server.abort();
        let _ended = server.await;
        listen(&endpoint).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_made_way_is_needed_again_once_nobody_serves_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("next.sock");
        let stop = CancellationToken::new();
        let begin = Instant::now();
        assert!(needed_again(&socket, &stop).await);
        assert!(begin.elapsed() >= LOOK_AFTER * LOOKS, "{:?}", begin.elapsed());
        let _next = UnixListener::bind(&socket).unwrap();
        let long = LOOK_AFTER * LOOKS * 4;
        assert!(timeout(long, needed_again(&socket, &stop)).await.is_err());
        stop.cancel();
        assert!(!needed_again(&socket, &stop).await);
    }
}
