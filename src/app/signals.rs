//! What a signal asks of a process.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Passes SIGHUP on. Without, it would end the watchdog.
pub(super) async fn upgrade_on_hang_up(upgrade: Arc<Notify>, stop: CancellationToken) {
    let mut hang_up = match signal(SignalKind::hangup()) {
        Ok(hang_up) => hang_up,
        Err(error) => {
            tracing::error!(%error, "failed to listen for SIGHUP; the tunnel process is replaced only at a restart");
            return;
        }
    };
    while let Some(Some(())) = stop.run_until_cancelled(hang_up.recv()).await {
        tracing::info!("asked to replace the tunnel process");
        upgrade.notify_one();
    }
}

/// A token that SIGTERM and SIGINT cancel.
///
/// # Errors
/// Where the signals cannot be listened for.
pub(super) fn stop_on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end");
        cancelled.cancel();
    });
    Ok(stop)
}
