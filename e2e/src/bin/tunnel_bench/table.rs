//! What was found, for people: medians, and ratios against stunnel.

use e2e::bench::crowd;
use e2e::bench::peer::Kind;
use e2e::bench::slow::Deaf;

use crate::runs::Found;
use crate::runs::LOADS;
use crate::runs::Rest;
use crate::runs::Run;
use crate::runs::median;

/// The median of one figure.
pub(crate) fn figure(found: &Found, at: usize, kind: Kind, of: impl Fn(&Run) -> f64) -> f64 {
    median(found.get(&(at, kind)).into_iter().flatten().map(of).collect())
}

pub(crate) fn print_loads(found: &Found) {
    println!("\nMedians; (x) against stunnel; CPU is that of the proxy alone.");
    for (at, (name, load)) in LOADS.iter().enumerate() {
        if !found.contains_key(&(at, Kind::Ours)) {
            continue;
        }
        println!("\n{name}");
        println!(
            "  {:<16} {:>9} {:>17} {:>9} {:>9} {:>17} {:>15} {:>9} {:>5}",
            "", "MiB/s", "op/s", "p50 us", "p99 us", "CPU s/GiB", "CPU us/op", "peak MiB", "fair"
        );
        for kind in Kind::ALL {
            print_peer(found, at, kind, load.connections);
        }
    }
}

fn print_peer(found: &Found, at: usize, kind: Kind, connections: usize) {
    let of = |of: fn(&Run) -> f64| figure(found, at, kind, of);
    let ratio =
        |of: fn(&Run) -> f64| figure(found, at, kind, of) / figure(found, at, Kind::Stunnel, of);
    let fair =
        if connections > 1 { format!("{:.2}", of(|run| run.fairness)) } else { String::new() };
    if kind == Kind::Direct {
        println!(
            "  {kind:<16} {:>9.0} {:>9.0} ({:>4.2}x) {:>9.1} {:>9.1} {:>17} {:>15} {:>9} {fair:>5}",
            of(|run| run.mebibytes_per_second),
            of(|run| run.operations_per_second),
            ratio(|run| run.operations_per_second),
            of(|run| run.p50),
            of(|run| run.p99),
            "-",
            "-",
            "-",
        );
        return;
    }
    println!(
        "  {kind:<16} {:>9.0} {:>9.0} ({:>4.2}x) {:>9.1} {:>9.1} {:>9.3} ({:>4.2}x) {:>15.2} {:>9.1} {fair:>5}",
        of(|run| run.mebibytes_per_second),
        of(|run| run.operations_per_second),
        ratio(|run| run.operations_per_second),
        of(|run| run.p50),
        of(|run| run.p99),
        of(|run| run.processor_seconds),
        ratio(|run| run.processor_seconds),
        of(|run| run.processor_micros),
        of(|run| run.peak),
    );
}

pub(crate) fn print_rest(rest: &Rest) {
    let crowd = rest.crowd;
    println!("\n{} tunnels in one process", crowd::TUNNELS);
    println!(
        "  listening after {:.0} ms; resident MiB: {:.1} at start, {:.1} all open, {:.1} after a burst \
         (peak {:.1}); idle CPU {:.3} %",
        crowd.listening.as_secs_f64() * 1e3,
        crowd.at_start,
        crowd.open,
        crowd.after_burst,
        crowd.peak,
        crowd.idle * 100.0
    );
    println!("\nMiB that each connection adds while one side takes nothing");
    for (deaf, outstanding, added) in &rest.slow {
        let who = if *deaf == Deaf::Server { "server" } else { "client" };
        println!("  deaf {who}, {outstanding:>3} MiB outstanding: {added:.2}");
    }
    println!("\nRound trips before the first answer, besides TCP's own");
    for (kind, trips) in &rest.round_trips {
        println!("  {kind:<16} {trips:.2}");
    }
    let (full, resumed) = rest.handshakes;
    println!("  ours: {full} full handshakes, {resumed} resumed");
}
