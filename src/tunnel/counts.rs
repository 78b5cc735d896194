//! What a tunnel's attempts to reach its server led to, counted.
//!
//! The keys are bounded: versions and suites that we offer, and the kinds of faults. Nothing that a server or a
//! user makes up becomes one.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::proto::tunnel::DialFailureCount;
use crate::proto::tunnel::HandshakeCount;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::runtime::Histogram;
use crate::runtime::histogram;
use crate::tls::Negotiated;

/// The counts of one tunnel.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Kinds>);

#[derive(Debug)]
struct Kinds {
    handshakes: BTreeMap<Handshake, u64>,
    times: Histogram,
    failures: BTreeMap<Kind, u64>,
    moves: u64,
}

impl Default for Kinds {
    fn default() -> Self {
        let times = Histogram::new(&histogram::NETWORK);
        Self { handshakes: BTreeMap::new(), times, failures: BTreeMap::new(), moves: 0 }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Handshake {
    version: String,
    suite: String,
    library: &'static str,
    resumed: bool,
}

impl Counts {
    /// A session came about, and its handshake took so long.
    pub(super) fn agreed(&self, negotiated: &Negotiated, took: Duration) {
        let handshake = Handshake {
            version: negotiated.version.clone(),
            suite: negotiated.suite.clone(),
            library: negotiated.library.as_str(),
            resumed: negotiated.resumed,
        };
        let mut kinds = self.kinds();
        *kinds.handshakes.entry(handshake).or_default() += 1;
        kinds.times.observe(took);
    }

    /// A session came about at another address than the one before.
    pub(super) fn moved(&self) {
        self.kinds().moves += 1;
    }

    /// None did.
    pub(super) fn failed(&self, kind: Kind) {
        *self.kinds().failures.entry(kind).or_default() += 1;
    }

    /// How many sessions went on where an earlier one was.
    pub(super) fn resumed(&self) -> u64 {
        let kinds = self.kinds();
        let resumed = kinds.handshakes.iter().filter(|(handshake, _)| handshake.resumed);
        resumed.map(|(_, count)| count).sum()
    }

    /// How long handshakes took.
    pub(super) fn times(&self) -> Histogram {
        self.kinds().times.clone()
    }

    /// How often the server was at another address than before.
    pub(super) fn moves(&self) -> u64 {
        self.kinds().moves
    }

    /// Sessions, as they travel.
    pub(super) fn handshakes(&self) -> Vec<HandshakeCount> {
        let to_wire = |(handshake, count): (&Handshake, &u64)| HandshakeCount {
            version: handshake.version.clone(),
            cipher_suite: handshake.suite.clone(),
            library: handshake.library.to_owned(),
            resumed: handshake.resumed,
            count: *count,
        };
        self.kinds().handshakes.iter().map(to_wire).collect()
    }

    /// Failures, as they travel.
    pub(super) fn failures(&self) -> Vec<DialFailureCount> {
        let to_wire =
            |(kind, count): (&Kind, &u64)| DialFailureCount { kind: (*kind).into(), count: *count };
        self.kinds().failures.iter().map(to_wire).collect()
    }

    fn kinds(&self) -> MutexGuard<'_, Kinds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_by_what_was_agreed_on_and_failures_by_kind() {
        let counts = Counts::default();
        let whole = Negotiated { version: "TLSv1.3".to_owned(), ..Negotiated::default() };
        let resumed = Negotiated { resumed: true, ..whole.clone() };
        for negotiated in [&whole, &resumed, &resumed] {
            counts.agreed(negotiated, Duration::from_secs(1));
        }
        let seen: Vec<_> = counts.handshakes().iter().map(|one| (one.resumed, one.count)).collect();
        assert_eq!((seen, counts.resumed()), (vec![(false, 1), (true, 2)], 2));
        assert_eq!((counts.times().count(), counts.times().sum.as_secs()), (3, 3));

        for kind in [Kind::NotTls, Kind::ConnectionRefused, Kind::NotTls] {
            counts.failed(kind);
        }
        let seen: Vec<_> = counts.failures().iter().map(|one| (one.kind(), one.count)).collect();
        assert_eq!(seen, [(Kind::ConnectionRefused, 1), (Kind::NotTls, 2)]);
    }
}
