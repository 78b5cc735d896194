//! Serves CSI on a Unix socket until it is told to stop, and lets what is under way end.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::app::call_times::CallTimes;

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Every operation came to its end.
    Whole,
    /// Some were cut at the deadline.
    Cut,
}

/// Serves until `told_to_stop`, noting how long each call takes, answers what was asked before, and then waits for `operations`; for all that together
/// at most `grace`.
///
/// # Errors
/// When the server gives up.
pub(super) async fn serve(
    listener: UnixListener,
    services: Routes,
    times: CallTimes,
    told_to_stop: impl Future<Output = ()> + Send,
    operations: impl Future<Output = ()> + Send,
    grace: Duration,
) -> Result<Drained, tonic::transport::Error> {
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let incoming = UnixListenerStream::new(listener);
    let services = Server::builder().layer(times).add_routes(services);
    let server = services.serve_with_incoming_shutdown(incoming, async {
        told_to_stop.await;
        // The receiver is gone only when the server has ended by itself.
        let _ = stopping.send(());
    });
    let drain = async {
        server.await?;
        operations.await;
        Ok(Drained::Whole)
    };
    let deadline = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(grace).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        drained = drain => drained,
        () = deadline => Ok(Drained::Cut),
    }
}
