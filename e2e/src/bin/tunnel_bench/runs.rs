//! The runs: every load over every peer in turn, and what is asked of ours alone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use e2e::bench::call::Call;
use e2e::bench::call::Kind as Ask;
use e2e::bench::cold;
use e2e::bench::crowd;
use e2e::bench::crowd::Crowd;
use e2e::bench::gauge::Resident;
use e2e::bench::gauge::Used;
use e2e::bench::load;
use e2e::bench::load::Load;
use e2e::bench::peer::Kind;
use e2e::bench::peer::NAME;
use e2e::bench::peer::Peer;
use e2e::bench::peer::Setting;
use e2e::bench::server::Server;
use e2e::bench::slow;
use e2e::bench::slow::Deaf;
use e2e::certificates::Authority;
use e2e::certificates::Validity;
use e2e::failure::During;
use e2e::failure::Result;
use e2e::failure::ensure;

const MEBIBYTE: u32 = 1 << 20;
const PAGE: u32 = 4096;

/// The loads, by name.
pub(crate) const LOADS: [(&str, Load); 8] = [
    ("1 MiB WRITE, 16 deep, 1 connection", load(Ask::Write, MEBIBYTE, 16, 1)),
    ("1 MiB READ, 16 deep, 1 connection", load(Ask::Read, MEBIBYTE, 16, 1)),
    ("1 MiB WRITE, 16 deep, 4 connections", load(Ask::Write, MEBIBYTE, 16, 4)),
    ("1 MiB READ, 16 deep, 4 connections", load(Ask::Read, MEBIBYTE, 16, 4)),
    ("1 MiB WRITE, 16 deep, 8 connections", load(Ask::Write, MEBIBYTE, 16, 8)),
    ("1 MiB READ, 16 deep, 8 connections", load(Ask::Read, MEBIBYTE, 16, 8)),
    ("4 KiB READ, 1 deep, 1 connection", load(Ask::Read, PAGE, 1, 1)),
    ("4 KiB READ, 64 deep, 1 connection", load(Ask::Read, PAGE, 64, 1)),
];

const fn load(kind: Ask, size: u32, depth: u32, connections: usize) -> Load {
    Load { call: Call { kind, size }, depth, connections }
}

/// One peer under one load in one round.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) operations_per_second: f64,
    pub(crate) mebibytes_per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Of the proxy, for each call, in microseconds.
    pub(crate) processor_micros: f64,
    /// Of the proxy, for each GiB, in seconds.
    pub(crate) processor_seconds: f64,
    /// The share of its processor time that its busiest thread had.
    pub(crate) busiest_thread: f64,
    pub(crate) fairness: f64,
    pub(crate) peak: f64,
}

/// Round trips before the first answer.
type RoundTrips = Vec<(Kind, f64)>;

/// All runs, by load and peer.
pub(crate) type Found = BTreeMap<(usize, Kind), Vec<Run>>;

/// What is asked of ours alone, and of stunnel to compare.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) crowd: Crowd,
    /// Who is deaf, MiB outstanding, MiB that each connection adds.
    pub(crate) slow: Vec<(Deaf, u32, f64)>,
    /// Round trips before the first answer over a fresh connection, besides TCP's own.
    pub(crate) round_trips: RoundTrips,
    /// Handshakes of ours: with a certificate, and with a ticket.
    pub(crate) handshakes: (u64, u64),
}

/// The server and what the peers need.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    ca_file: PathBuf,
    ours: PathBuf,
    server: Server,
}

impl Bench {
    pub(crate) fn open(binary: &Path) -> Result<Self> {
        ensure(binary.exists(), format!("{} is not there: make build", binary.display()))?;
        let folder = tempfile::tempdir()?;
        let authority = Authority::create(folder.path(), "ca")?;
        let certificate = authority.sign("server", NAME, Validity::Now)?;
        let server = Server::start(Ipv4Addr::LOCALHOST, &certificate)?;
        Ok(Self { ca_file: authority.file(), ours: binary.to_owned(), folder, server })
    }

    fn setting(&self) -> Setting<'_> {
        Setting { folder: self.folder.path(), ca_file: &self.ca_file, ours: &self.ours }
    }

    fn peer(&self, kind: Kind) -> Result<Peer> {
        Peer::start(kind, &self.setting(), &self.server)
    }

    /// Every peer under every load, `rounds` times, each round beginning with another peer.
    pub(crate) fn loads(
        &self,
        rounds: usize,
        window: Duration,
        only: Option<&str>,
    ) -> Result<Found> {
        let mut peers =
            Kind::ALL.map(|kind| self.peer(kind)).into_iter().collect::<Result<Vec<_>>>()?;
        let mut found = Found::new();
        for round in 0..rounds {
            eprintln!("round {} of {rounds}", round + 1);
            for (at, (name, load)) in LOADS.iter().enumerate() {
                if only.is_some_and(|only| !name.contains(only)) {
                    continue;
                }
                for peer in &peers {
                    let run = measure(peer, *load, window)
                        .during(format!("{name} through {}", peer.kind))?;
                    found.entry((at, peer.kind)).or_default().push(run);
                }
                peers.rotate_left(1);
            }
        }
        Ok(found)
    }

    /// Everything else.
    pub(crate) fn rest(&self) -> Result<Rest> {
        eprintln!("a crowd, a slow server, a cold connect");
        let crowd = crowd::measure(&self.setting(), &self.server)?;
        let mut slow = Vec::new();
        for deaf in [Deaf::Server, Deaf::Client] {
            for outstanding in [16, 128, 512] {
                let added = slow::measure(&self.peer(Kind::Ours)?, deaf, outstanding)?;
                slow.push((deaf, outstanding, added));
            }
        }
        let (round_trips, handshakes) = self.round_trips()?;
        Ok(Rest { crowd, slow, round_trips, handshakes })
    }

    /// Those of each, and how ours shook hands meanwhile.
    fn round_trips(&self) -> Result<(RoundTrips, (u64, u64))> {
        const TIMES: usize = 5;
        let far = Server {
            plain: cold::far_away(self.server.plain)?,
            tls: cold::far_away(self.server.tls)?,
            seen: self.server.seen.clone(),
        };
        let counts = || {
            let seen = &self.server.seen;
            (seen.full.load(Ordering::Relaxed), seen.resumed.load(Ordering::Relaxed))
        };
        let mut found = Vec::new();
        let mut ours = (0, 0);
        for kind in [Kind::Relay, Kind::Stunnel, Kind::Ours] {
            let before = counts();
            let peer = Peer::start(kind, &self.setting(), &far)?;
            let mut trips = Vec::new();
            for _ in 0..TIMES {
                let took = load::first_answer(peer.address)?;
                trips.push(took.as_secs_f64() / cold::ROUND_TRIP.as_secs_f64());
            }
            found.push((kind, median(trips)));
            let after = counts();
            ours = (after.0 - before.0, after.1 - before.1);
        }
        Ok((found, ours))
    }
}

fn measure(peer: &Peer, load: Load, window: Duration) -> Result<Run> {
    let gauge = || peer.id().map(Used::by).transpose().map(Option::unwrap_or_default);
    let (outcome, before, after) = load::run(peer.address, load, window, gauge)?;
    let calls = outcome.all() as f64;
    let mebibytes = calls * f64::from(load.call.size) / f64::from(MEBIBYTE);
    let used = after.since(&before);
    let resident = peer.id().map(Resident::of).transpose()?;
    Ok(Run {
        operations_per_second: calls / outcome.seconds,
        mebibytes_per_second: mebibytes / outcome.seconds,
        p50: outcome.quantile(0.5),
        p99: outcome.quantile(0.99),
        processor_micros: used / calls * 1e6,
        processor_seconds: used / mebibytes * 1024.0,
        busiest_thread: after.per_thread(&before).first().copied().unwrap_or_default() / used,
        fairness: outcome.fairness(),
        peak: resident.map_or(f64::NAN, |resident| resident.peak),
    })
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
