//! What is known about one open tunnel: how it fares, and what it has carried.
//!
//! ```text
//! Waiting --bound--> Untried --dialled--> Reachable <--dialled/failed--> Unreachable
//! ```
//!
//! A change of this life is logged; what stays as it is, is only counted.

use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::BackoffBuilder;
use backon::ExponentialBackoff;
use backon::ExponentialBuilder;
use tokio::time::Instant;

use crate::model::TunnelSpec;
use crate::proto::tunnel::ListenerStatus;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::tunnel::admission::Refusal;
use crate::tunnel::convert::endpoint_to_wire;
use crate::tunnel::convert::spec_to_wire;
use crate::tunnel::dial::DialFault;
use crate::tunnel::relay::Traffic;

/// Before a connection is closed that could not be dialled for. With jitter, at most twice the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(2500);

/// Between two lines in the log about refused connections.
const REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// One tunnel of this process.
#[derive(Debug)]
pub struct OpenTunnel {
    /// Where it leads.
    pub spec: TunnelSpec,
    /// Where the kernel connects to.
    pub address: SocketAddrV4,
    /// What it has carried.
    pub traffic: Traffic,
    connections_open: AtomicU64,
    connections_total: AtomicU64,
    refused: AtomicU64,
    refusal_logged: Mutex<Option<Instant>>,
    life: Mutex<Life>,
}

#[derive(Debug)]
enum Life {
    /// The address is not ours yet.
    Waiting { why: String },
    /// Listening; nobody has connected.
    Untried,
    /// The last dial led to a session.
    Reachable,
    /// The last dials did not.
    Unreachable { kind: Kind, why: String, failures: u64, pauses: ExponentialBackoff },
}

/// Counts a connection as open until dropped.
#[derive(Debug)]
pub(super) struct OpenConnection<'a>(&'a OpenTunnel);

impl OpenTunnel {
    pub(super) fn listening(spec: TunnelSpec, address: SocketAddrV4) -> Self {
        Self::new(spec, address, Life::Untried)
    }

    pub(super) fn waiting(spec: TunnelSpec, address: SocketAddrV4, why: String) -> Self {
        Self::new(spec, address, Life::Waiting { why })
    }

    fn new(spec: TunnelSpec, address: SocketAddrV4, life: Life) -> Self {
        Self {
            spec,
            address,
            traffic: Traffic::default(),
            connections_open: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refusal_logged: Mutex::new(None),
            life: Mutex::new(life),
        }
    }

    /// Why the address is not ours yet, where it is not.
    pub(super) fn waits_because(&self) -> Option<String> {
        match &*self.life() {
            Life::Waiting { why } => Some(why.clone()),
            _ => None,
        }
    }

    pub(super) fn bound(&self) {
        tracing::info!(tunnel.address = %self.address, tunnel.target = %self.spec, "listening");
        *self.life() = Life::Untried;
    }

    pub(super) fn connection_begins(&self) -> OpenConnection<'_> {
        self.connections_total.fetch_add(1, Ordering::Relaxed);
        self.connections_open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }

    pub(super) fn dialled(&self, remote: SocketAddr) {
        let mut life = self.life();
        match &*life {
            Life::Reachable => {}
            Life::Unreachable { failures, .. } => tracing::info!(
                tunnel.target = %self.spec, remote = %remote, failures,
                "the mount target is reachable again"
            ),
            Life::Waiting { .. } | Life::Untried => {
                tracing::info!(tunnel.target = %self.spec, remote = %remote, "connected");
            }
        }
        *life = Life::Reachable;
    }

    /// Notes a failed dial and says how long to pause before the next may come.
    pub(super) fn dial_failed(&self, fault: &DialFault) -> Duration {
        let mut life = self.life();
        let (before, failures, mut pauses) = match std::mem::replace(&mut *life, Life::Untried) {
            Life::Unreachable { kind, failures, pauses, .. } => (Some(kind), failures, pauses),
            Life::Waiting { .. } | Life::Untried | Life::Reachable => (None, 0, pauses()),
        };
        let (kind, why) = (fault.kind(), fault.to_string());
        if before != Some(kind) {
            tracing::warn!(tunnel.address = %self.address, error = %why, "the mount target is unreachable");
        }
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        *life = Life::Unreachable { kind, why, failures: failures + 1, pauses };
        pause
    }

    /// Counts a refused connection; logs it unless one was logged just now.
    pub(super) fn refused(&self, refusal: &Refusal) {
        if matches!(refusal, Refusal::Gone) {
            return;
        }
        let total = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut logged = self.refusal_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= REFUSALS_EVERY) {
            *logged = Some(Instant::now());
            tracing::warn!(
                tunnel.address = %self.address, reason = %refusal, refused.total = total,
                "refused a connection to the tunnel"
            );
        }
    }

    pub(super) fn status(&self) -> ListenerStatus {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ListenerStatus {
            spec: Some(spec_to_wire(&self.spec)),
            endpoint: Some(endpoint_to_wire(self.address)),
            connections_open: of(&self.connections_open),
            connections_total: of(&self.connections_total),
            refused_intruders: of(&self.refused),
            bytes_to_server: of(&self.traffic.to_server),
            bytes_to_kernel: of(&self.traffic.to_kernel),
            last_error: match &*self.life() {
                Life::Waiting { why } | Life::Unreachable { why, .. } => why.clone(),
                Life::Untried | Life::Reachable => String::new(),
            },
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use crate::host::peer::Sign;
    use crate::model::ServerName;

    use super::*;

    fn tunnel() -> OpenTunnel {
        let host = ServerName::parse("nas.example.com").unwrap();
        let spec = TunnelSpec { server_name: host.clone(), host, port: 2049 };
        OpenTunnel::listening(spec, "127.0.1.1:12049".parse().unwrap())
    }

    fn fault() -> DialFault {
        DialFault::NoAddress { host: ServerName::parse("nas.example.com").unwrap() }
    }

    #[test]
    fn pauses_grow_to_their_limit_and_begin_anew_after_a_success() {
        let tunnel = tunnel();
        let mut pauses: Vec<Duration> = (0..20).map(|_| tunnel.dial_failed(&fault())).collect();
        assert!(pauses[0] <= 2 * SHORTEST_PAUSE, "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| *pause >= LONGEST_PAUSE), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 2 * LONGEST_PAUSE), "{pauses:?}");
        tunnel.dialled("192.0.2.7:2049".parse().unwrap());
        pauses = vec![tunnel.dial_failed(&fault())];
        assert!(pauses[0] <= 2 * SHORTEST_PAUSE, "{pauses:?}");
    }

    #[test]
    fn the_status_shows_the_last_error_until_it_is_over() {
        let tunnel = tunnel();
        assert_eq!(tunnel.status().last_error, "");
        tunnel.dial_failed(&fault());
        assert!(tunnel.status().last_error.contains("no address"));
        tunnel.dialled("192.0.2.7:2049".parse().unwrap());
        assert_eq!(tunnel.status().last_error, "");
    }

    #[tokio::test]
    async fn intruders_are_counted_and_a_peer_that_is_gone_is_none() {
        let tunnel = tunnel();
        tunnel.refused(&Refusal::Gone);
        tunnel.refused(&Refusal::Process { sign: Sign::Cgroup(7), process: None });
        assert_eq!(tunnel.status().refused_intruders, 1);
    }

    #[test]
    fn a_connection_is_open_until_dropped() {
        let tunnel = tunnel();
        let open = tunnel.connection_begins();
        assert_eq!(tunnel.status().connections_open, 1);
        drop(open);
        let status = tunnel.status();
        assert_eq!((status.connections_open, status.connections_total), (0, 1));
    }
}
