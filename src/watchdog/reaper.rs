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
                tunnels.sockets.release(*endpoint);
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
    let socket = tunnels.sockets.ensure(record.endpoint);
    let trouble =
        match timeout(CALL_DEADLINE, relay.open(&record.spec, record.endpoint, socket)).await {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::driver::Wanted;
    use crate::watchdog::fake::Node;
    use crate::watchdog::fake::spec;
    use crate::watchdog::fake::user;
    use std::net::Ipv4Addr;
    use std::net::SocketAddrV4;
    use tokio::time::advance;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

    async fn seconds(node: &Node, count: u32) {
        for _ in 0..count {
            advance(EVERY).await;
            tick(&node.tunnels, &mut true).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_tunnel_is_closed_a_grace_after_the_kernel_let_it_go() {
        let node = Node::new();
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        node.clients.hold(&[ADDRESS]);
        node.tunnels.release("pv-1", "/stage/1").unwrap();
        seconds(&node, 100).await;
        assert_eq!(node.recorded().len(), 1);
        node.clients.hold(&[]);
        seconds(&node, 30).await;
        assert_eq!(node.relay.script().open.len(), 1);
        seconds(&node, 1).await;
        assert!(node.relay.script().open.is_empty());
        assert!(node.recorded().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_closed_while_the_kernel_cannot_be_read_or_somebody_holds_it() {
        let node = Node::new();
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        seconds(&node, 1000).await;
        assert_eq!(node.recorded().len(), 1);
        node.tunnels.release("pv-1", "/stage/1").unwrap();
        node.clients.fail();
        seconds(&node, 1000).await;
        assert_eq!(node.recorded().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_without_users_from_an_earlier_watchdog_goes_the_same_way() {
        let node = Node::new();
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        node.tunnels.release("pv-1", "/stage/1").unwrap();
        let node = node.crash();
        assert_eq!(node.tunnels.bindings().listeners.len(), 1);
        seconds(&node, 31).await;
        assert!(node.recorded().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_within_the_grace_finds_the_tunnel_open() {
        let node = Node::new();
        let first = node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        node.tunnels.release("pv-1", "/stage/1").unwrap();
        seconds(&node, 29).await;
        let second = node.tunnels.acquire(spec("a"), user(2)).await.unwrap();
        assert_eq!(first.endpoint, second.endpoint);
        seconds(&node, 100).await;
        assert_eq!(node.relay.script().open.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_recorded_and_not_served_is_opened_and_the_other_way_round_closed() {
        let node = Node::new();
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        let stray = SocketAddrV4::new(Ipv4Addr::new(127, 0, 9, 9), 12049);
        node.relay.script().open.clear();
        node.relay.script().open.insert(stray, spec("gone"));
        seconds(&node, 1).await;
        let open: Vec<_> = node.relay.script().open.keys().map(|open| *open.ip()).collect();
        assert_eq!(open, [ADDRESS]);
    }
}
