//! Serves CSI on a Unix socket until it is told to stop, and lets what is under way end.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::app::call_times;
use crate::app::call_times::CallTimes;
use crate::runtime::LogSwitch;
use crate::runtime::Requests;
use crate::runtime::request_layer::SET_LOG;
use crate::runtime::request_layer::Weight;

/// Those that change something. The others ask.
const CHANGES: [&str; 13] = [
    "CreateVolume",
    "DeleteVolume",
    "ControllerPublishVolume",
    "ControllerUnpublishVolume",
    "CreateSnapshot",
    "DeleteSnapshot",
    "ControllerExpandVolume",
    "ControllerModifyVolume",
    "NodeStageVolume",
    "NodeUnstageVolume",
    "NodePublishVolume",
    "NodeUnpublishVolume",
    "NodeExpandVolume",
];

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Every operation came to its end.
    Whole,
    /// Some were cut at the deadline.
    Cut,
}

/// Serves until `told_to_stop`, noting how long each call takes and telling of it in the log, which `log` changes;
/// answers what was asked before, and then waits for `operations`; for all that together at most `grace`.
///
/// # Errors
/// When the server gives up.
pub(super) async fn serve(
    listener: UnixListener,
    services: Routes,
    log: LogSwitch,
    times: CallTimes,
    told_to_stop: impl Future<Output = ()> + Send,
    operations: impl Future<Output = ()> + Send,
    grace: Duration,
) -> Result<Drained, tonic::transport::Error> {
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let incoming = UnixListenerStream::new(listener);
    let services = services.add_service(log.service());
    let services = Server::builder().layer(Requests::by(rule)).layer(times).add_routes(services);
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

/// What a call is called in the log, and how much it matters.
fn rule(path: &str) -> (&'static str, Weight) {
    if path == SET_LOG.0 {
        return SET_LOG.1;
    }
    let method = call_times::method_of(path);
    let weight = if CHANGES.contains(&method) { Weight::Change } else { Weight::Question };
    (method, weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_by_us_and_weighs_as_much_as_it_changes() {
        for (path, expected) in [
            ("/csi.v1.Node/NodeStageVolume", ("NodeStageVolume", Weight::Change)),
            ("/csi.v1.Identity/Probe", ("Probe", Weight::Question)),
            ("/alinas.log.v1.Log/Set", ("SetLog", Weight::Question)),
            ("/csi.v1.Node/No\nSuch", ("other", Weight::Question)),
        ] {
            assert_eq!(rule(path), expected);
        }
        for method in CHANGES {
            assert_eq!(rule(&format!("/csi.v1.X/{method}")).0, method, "it is one of CSI's");
        }
    }
}
