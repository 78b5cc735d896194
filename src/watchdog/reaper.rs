//! What is done every second: tunnels that nobody needs are closed, and what the tunnel process serves is
//! compared with what it should.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::runtime::Chain;
use crate::watchdog::record::Record;
use crate::watchdog::relay::Relay;
use crate::watchdog::tunnels::Tunnels;

const EVERY: Duration = Duration::from_secs(1);
/// For one call to the tunnel process, which is local.
const CALL_DEADLINE: Duration = Duration::from_secs(3);

/// Looks after the tunnels until `stop`.
pub async fn run(tunnels: Arc<Tunnels>, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut readable = true;
    let forever = async {
        loop {
            ticks.tick().await;
            tick(&tunnels, &mut readable).await;
        }
    };
    // Stopping half-way is safe: a record is removed only after its tunnel was closed.
    stop.run_until_cancelled(forever).await;
}

/// Looks once. `readable` remembers what was logged about the kernel.
async fn tick(tunnels: &Tunnels, readable: &mut bool) {
    let kernel = tunnels.kernel.addresses_in_use();
    if let (Err(error), true) = (&kernel, *readable) {
        tracing::error!(%error, "failed to read the kernel's NFS mounts; no tunnel is closed until it works");
    }
    *readable = kernel.is_ok();
    let grace = tunnels.settings.unmount_grace;
    let due = tunnels.book().observe(kernel.as_ref().ok(), grace, Instant::now());
    let Some(relay) = tunnels.process().relay else { return };
    for record in due {
        close_unused(tunnels, relay.as_ref(), &record).await;
    }
    reconcile(tunnels, relay.as_ref()).await;
}

/// Closes a tunnel unless somebody wants it again by now.
async fn close_unused(tunnels: &Tunnels, relay: &dyn Relay, record: &Record) {
    let Some(_guard) = tunnels.guards.try_lock(&record.spec) else { return };
    let still_due = tunnels
        .book()
        .at(*record.endpoint.ip())
        .is_some_and(|entry| entry.due && entry.record.users.is_empty());
    if still_due {
        tunnels.close(relay, record.endpoint, CALL_DEADLINE).await;
    }
}

/// Opens what should be served and is not, closes what is served and should not.
async fn reconcile(tunnels: &Tunnels, relay: &dyn Relay) {
    // A process that does not answer is the driver's business.
    let Ok(Ok(served)) = timeout(CALL_DEADLINE, relay.status()).await else { return };
    let wanted = tunnels.list();
    for endpoint in &served {
        if !wanted.iter().any(|listed| listed.record.endpoint == *endpoint) {
            // Not to be given out before it is closed.
            tunnels.book().set_aside(*endpoint.ip(), Instant::now());
            if tunnels.book().at(*endpoint.ip()).is_none() {
                tracing::warn!(tunnel.address = %endpoint.ip(), "closing a tunnel without a record");
                let _next_time = timeout(CALL_DEADLINE, relay.close(*endpoint)).await;
            }
        }
    }
    for listed in wanted.iter().filter(|listed| !served.contains(&listed.record.endpoint)) {
        open_again(tunnels, relay, &listed.record).await;
    }
}

async fn open_again(tunnels: &Tunnels, relay: &dyn Relay, record: &Record) {
    let Some(_guard) = tunnels.guards.try_lock(&record.spec) else { return };
    let address = *record.endpoint.ip();
    if tunnels.book().at(address).is_none_or(|entry| entry.record.spec != record.spec) {
        return;
    }
    let trouble = match timeout(CALL_DEADLINE, relay.open(&record.spec, record.endpoint)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Chain(&error).to_string()),
        Err(_) => Some("no answer in time".to_owned()),
    };
    if let Some(entry) = tunnels.book().at(address) {
        match &trouble {
            Some(error) if entry.trouble != trouble => {
                tracing::error!(tunnel.address = %address, error, "failed to open a recorded tunnel");
            }
            Some(_) => {}
            None => tracing::info!(tunnel.address = %address, "opened a recorded tunnel"),
        }
        entry.trouble = trouble;
    }
}
