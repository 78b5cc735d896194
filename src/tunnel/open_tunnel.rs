//! What is known about one open tunnel: how it fares, and what it has carried.
//!
//! ```text
//! Waiting --bound--> Untried --dialled--> Reachable <--dialled/failed--> Unreachable
//! ```
//!
//! A change of this life is logged; what stays as it is, is only counted.
//!
//! LONG: a third of it are tests; what is noted and what is shown of it belong together.

use std::io;
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

use crate::model::TunnelSpec;
use crate::proto::tunnel::ListenerStatus;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::runtime::Clock;
use crate::runtime::SystemClock;
use crate::tls::CertificateFacts;
use crate::tls::Negotiated;
use crate::tls::Weakness;
use crate::tls::certificate::date;
use crate::tunnel::admission::Refusal;
use crate::tunnel::convert::endpoint_to_wire;
use crate::tunnel::convert::histogram_to_wire;
use crate::tunnel::convert::session_to_wire;
use crate::tunnel::convert::spec_to_wire;
use crate::tunnel::counts::Counts;
use crate::tunnel::dial::DialFault;
use crate::tunnel::expiry::Expiry;
use crate::tunnel::relay::RelayFault;
use crate::tunnel::relay::Traffic;
use crate::tunnel::seldom::Seldom;

/// Before a connection is closed that could not be dialled for. With jitter, at most twice the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(2500);

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
    /// Refused without knowing whose they were.
    undecided: AtomicU64,
    pub(super) refusals: Seldom,
    accept_failures: Seldom,
    broken_connections: Seldom,
    counts: Counts,
    session: Mutex<Option<LastSession>>,
    expiry: Mutex<Expiry>,
    life: Mutex<Life>,
}

/// The last handshake.
#[derive(Debug)]
struct LastSession {
    remote: SocketAddr,
    negotiated: Negotiated,
    /// Seconds since the epoch.
    since: i64,
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

impl Life {
    /// As the status says it: in a word, and why it is no better.
    fn shown(&self) -> (&'static str, String) {
        match self {
            Self::Waiting { why } => ("waiting", why.clone()),
            Self::Untried => ("untried", String::new()),
            Self::Reachable => ("reachable", String::new()),
            Self::Unreachable { why, .. } => ("unreachable", why.clone()),
        }
    }
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
            undecided: AtomicU64::new(0),
            refusals: Seldom::default(),
            accept_failures: Seldom::default(),
            broken_connections: Seldom::default(),
            counts: Counts::default(),
            session: Mutex::default(),
            expiry: Mutex::default(),
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
        if let Some(danger) = self.spec.policy.check.danger() {
            tracing::warn!(tunnel.target = %self.spec, "{danger}");
        }
        *self.life() = Life::Untried;
    }

    pub(super) fn connection_begins(&self) -> OpenConnection<'_> {
        self.connections_total.fetch_add(1, Ordering::Relaxed);
        self.connections_open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }

    pub(super) fn dialled(&self, remote: SocketAddr, negotiated: Negotiated, took: Duration) {
        self.counts.agreed(&negotiated, took);
        self.note_session(remote, negotiated);
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

    /// Says what is agreed on when it is another than before, not at every connect.
    fn note_session(&self, remote: SocketAddr, negotiated: Negotiated) {
        if let Some(certificate) = &negotiated.first_to_end {
            lock(&self.expiry).seen(certificate);
        }
        let mut session = lock(&self.session);
        if session.as_ref().is_some_and(|last| last.remote.ip() != remote.ip()) {
            self.counts.moved();
        }
        let before = session.as_ref().map(|last| last.negotiated.agreed());
        if before != Some(negotiated.agreed()) {
            let Negotiated { version, suite, group, library, .. } = &negotiated;
            tracing::info!(
                tunnel.target = %self.spec, tls.version = version, tls.suite = suite, tls.group = group,
                tls.library = library.as_str(), tls.revocation = negotiated.revocation,
                "TLS is agreed on"
            );
            for weakness in Weakness::of(&negotiated, &self.spec.policy) {
                tracing::warn!(tunnel.target = %self.spec, tls.suite = suite, "{}", weakness.text());
            }
        }
        let since = SystemClock.now().epoch_seconds();
        *session = Some(LastSession { remote, negotiated, since });
    }

    /// How many days before the end of its certificate this tunnel has to be warned about now.
    pub(super) fn warning_due(&self, now: i64) -> Option<i64> {
        lock(&self.expiry).due(now)
    }

    /// Takes note of the certificate that the server has now, and warns where that is still due.
    pub(super) fn warn_of_expiry(&self, certificate: Option<&CertificateFacts>, now: i64) {
        let mut expiry = lock(&self.expiry);
        if let Some(certificate) = certificate {
            expiry.seen(certificate);
        }
        let (Some(days), Some(certificate)) = (expiry.due(now), expiry.certificate().cloned())
        else {
            return;
        };
        expiry.warned(days);
        tracing::warn!(
            tunnel.target = %self.spec, certificate.subject = certificate.subject,
            certificate.not_after = %date(certificate.not_after), days,
            "the server's certificate ends soon; no new connection is made after that: it needs another one"
        );
    }

    /// Notes a failed dial and says how long to pause before the next may come.
    pub(super) fn dial_failed(&self, fault: &DialFault) -> Duration {
        let mut life = self.life();
        let (before, failures, mut pauses) = match std::mem::replace(&mut *life, Life::Untried) {
            Life::Unreachable { kind, failures, pauses, .. } => (Some(kind), failures, pauses),
            Life::Waiting { .. } | Life::Untried | Life::Reachable => (None, 0, pauses()),
        };
        let (kind, why) = (fault.kind(), fault.to_string());
        self.counts.failed(kind);
        if before != Some(kind) {
            tracing::warn!(tunnel.address = %self.address, error = %why, "the mount target is unreachable");
        }
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        *life = Life::Unreachable { kind, why, failures: failures + 1, pauses };
        pause
    }

    /// Counts a refused connection; logs it unless one was logged just now.
    pub(super) fn refused(&self, refusal: &Refusal) {
        let count = match refusal {
            Refusal::Gone => return,
            Refusal::Process { .. } => &self.refused,
            // It may be the kernel's: nobody is accused.
            Refusal::Unknown(_) | Refusal::Deadline => &self.undecided,
        };
        let total = count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.refusals.now().is_some() {
            tracing::warn!(
                tunnel.address = %self.address, reason = %refusal, refused.total = total,
                "refused a connection to the tunnel"
            );
        }
    }

    /// Notes that no connection could be accepted, usually for want of descriptors.
    pub(super) fn accept_failed(&self, error: &io::Error) {
        if let Some(others) = self.accept_failures.now() {
            tracing::warn!(
                tunnel.address = %self.address, %error, others,
                "failed to accept a connection; it waits in the kernel's queue"
            );
        }
    }

    /// Notes how a connection ended that neither side has closed.
    pub(super) fn connection_broke(&self, reason: &RelayFault) {
        let (target, Some(others)) = (&self.spec, self.broken_connections.now()) else { return };
        match reason {
            RelayFault::Server(_) | RelayFault::Truncated | RelayFault::Session(_) => {
                tracing::warn!(tunnel.target = %target, %reason, others, "the kernel will connect again");
            }
            _ => tracing::info!(tunnel.target = %target, %reason, others, "a connection was cut"),
        }
    }

    pub(super) fn status(&self) -> ListenerStatus {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (session, remote_address) = match &*lock(&self.session) {
            Some(LastSession { remote, negotiated, since }) => {
                (Some(session_to_wire(negotiated, &self.spec, *since)), remote.to_string())
            }
            None => (None, String::new()),
        };
        let (state, last_error) = self.life().shown();
        ListenerStatus {
            spec: Some(spec_to_wire(&self.spec)),
            endpoint: Some(endpoint_to_wire(self.address)),
            connections_open: of(&self.connections_open),
            connections_total: of(&self.connections_total),
            refused_intruders: of(&self.refused),
            refused_undecided: of(&self.undecided),
            bytes_to_server: of(&self.traffic.to_server),
            bytes_to_kernel: of(&self.traffic.to_kernel),
            session,
            remote_address,
            sessions_resumed: self.counts.resumed(),
            handshakes: self.counts.handshakes(),
            dial_failures: self.counts.failures(),
            handshake_times: Some(histogram_to_wire(&self.counts.times())),
            address_changes: self.counts.moves(),
            state: state.to_owned(),
            last_error,
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        lock(&self.life)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    use crate::model::RemotePort;
    use crate::model::ServerName;
    use crate::model::tls_policy::CertificateCheck;
    use crate::tunnel::convert::histogram_from_wire;

    use super::*;

    const TOOK: Duration = Duration::from_millis(3);

    fn tunnel() -> OpenTunnel {
        let host = ServerName::parse("nas.example.com").unwrap();
        let spec = TunnelSpec::to(host, RemotePort::Known);
        OpenTunnel::listening(spec, "127.0.1.1:12049".parse().unwrap())
    }

    fn fault() -> DialFault {
        DialFault::NoAddress { host: ServerName::parse("nas.example.com").unwrap() }
    }

    #[test]
    fn sessions_at_another_address_are_counted_and_another_port_is_none() {
        let tunnel = tunnel();
        for remote in ["192.0.2.7:2049", "192.0.2.7:12049", "192.0.2.8:2049", "192.0.2.8:2049"] {
            tunnel.dialled(remote.parse().unwrap(), Negotiated::default(), TOOK);
        }
        let status = tunnel.status();
        assert_eq!(status.address_changes, 1);
        let times = histogram_from_wire(&status.handshake_times.unwrap());
        assert_eq!((times.count(), times.sum), (4, 4 * TOOK));
    }

    #[test]
    fn pauses_grow_to_their_limit_and_begin_anew_after_a_success() {
        let tunnel = tunnel();
        let mut pauses: Vec<Duration> = (0..20).map(|_| tunnel.dial_failed(&fault())).collect();
        assert!(pauses[0] <= 2 * SHORTEST_PAUSE, "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| *pause >= LONGEST_PAUSE), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 2 * LONGEST_PAUSE), "{pauses:?}");
        tunnel.dialled("192.0.2.7:2049".parse().unwrap(), Negotiated::default(), TOOK);
        pauses = vec![tunnel.dial_failed(&fault())];
        assert!(pauses[0] <= 2 * SHORTEST_PAUSE, "{pauses:?}");
    }

    #[test]
    fn the_status_shows_the_last_error_until_it_is_over() {
        let tunnel = tunnel();
        assert_eq!(
            (tunnel.status().last_error.as_str(), tunnel.status().state.as_str()),
            ("", "untried")
        );
        tunnel.dial_failed(&fault());
        assert_eq!(tunnel.status().state, "unreachable");
        assert_eq!(tunnel.status().dial_failures[0].kind(), Kind::NameNotFound);
        assert!(tunnel.status().last_error.contains("no address"));
        tunnel.dialled("192.0.2.7:2049".parse().unwrap(), Negotiated::default(), TOOK);
        assert_eq!(tunnel.status().last_error, "");
    }

    #[test]
    fn the_status_shows_what_was_agreed_on_and_what_is_missing() {
        let mut tunnel = tunnel();
        tunnel.spec.policy.check = CertificateCheck::DangerousAnyName;
        assert_eq!(tunnel.status().session, None);
        let negotiated = Negotiated {
            version: "TLSv1.2".to_owned(),
            static_rsa: true,
            resumed: true,
            ..Negotiated::default()
        };
        tunnel.dialled("192.0.2.7:2049".parse().unwrap(), negotiated, TOOK);
        let status = tunnel.status();
        assert_eq!(
            (status.remote_address.as_str(), status.sessions_resumed),
            ("192.0.2.7:2049", 1)
        );
        let session = status.session.unwrap();
        assert_eq!(session.version, "TLSv1.2");
        assert!(session.warnings[0].starts_with("DANGEROUS"), "{session:?}");
        assert!(session.warnings[1].starts_with("WEAKER: static RSA"), "{session:?}");
        assert_eq!(session.weak, ["any-name", "static-rsa"]);
        assert!(session.since > 0);
    }

    #[test]
    fn a_renewed_certificate_is_not_warned_about() {
        const DAY: i64 = 24 * 60 * 60;
        let tunnel = tunnel();
        let ending = |not_after| CertificateFacts { not_after, ..CertificateFacts::default() };
        let negotiated =
            Negotiated { first_to_end: Some(ending(40 * DAY)), ..Negotiated::default() };
        tunnel.dialled("192.0.2.7:2049".parse().unwrap(), negotiated, TOOK);
        assert_eq!(tunnel.warning_due(DAY), None);
        assert_eq!(tunnel.warning_due(35 * DAY), Some(7));
        tunnel.warn_of_expiry(Some(&ending(100 * DAY)), 35 * DAY);
        assert_eq!(tunnel.warning_due(36 * DAY), None);
        assert_eq!(tunnel.warning_due(95 * DAY), Some(7), "the new one was not warned about");
        tunnel.warn_of_expiry(None, 95 * DAY);
        assert_eq!(tunnel.warning_due(95 * DAY), None, "once");
    }

    #[tokio::test]
    async fn intruders_are_counted_and_nobody_is_one_of_whom_it_is_not_known() {
        let tunnel = tunnel();
        tunnel.refused(&Refusal::Gone);
        tunnel.refused(&Refusal::Process { sign: Sign::Cgroup(7), process: None });
        for _ in 0..2 {
            tunnel.refused(&Refusal::Deadline);
        }
        let status = tunnel.status();
        assert_eq!((status.refused_intruders, status.refused_undecided), (1, 2));
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
