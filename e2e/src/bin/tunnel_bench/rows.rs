//! What was promised, row by row: met or not, with the figure.

use e2e::bench::peer::Kind;

use crate::runs::Found;
use crate::runs::Rest;
use crate::runs::Run;
use crate::table::figure;

const WRITE_1: usize = 0;
const READ_1: usize = 1;
const WRITE_8: usize = 4;
const READ_8: usize = 5;
const ONE_DEEP: usize = 6;
const MANY_DEEP: usize = 7;

/// Noise that a loss must exceed to count as one.
const NOISE: f64 = 0.05;

struct Row {
    what: &'static str,
    /// Which is better.
    less: bool,
    least: f64,
    aim: Option<f64>,
    figure: f64,
    unit: &'static str,
}

pub(crate) fn print(found: &Found, rest: &Rest) {
    println!("\n| figure | at least | aim | found | |");
    println!("| --- | --- | --- | --- | --- |");
    for row in rows(found, rest) {
        let met = if row.less { row.figure <= row.least } else { row.figure >= row.least };
        let sign = if row.less { "<=" } else { ">=" };
        let aim = row.aim.map_or_else(String::new, |aim| format!("{aim}"));
        println!(
            "| {} | {sign} {} {} | {aim} | {:.2} | {} |",
            row.what,
            row.least,
            row.unit,
            row.figure,
            if met { "met" } else { "NOT met" }
        );
    }
}

fn rows(found: &Found, rest: &Rest) -> Vec<Row> {
    let ours = |at, of: fn(&Run) -> f64| figure(found, at, Kind::Ours, of);
    let against = |kind, at, of: fn(&Run) -> f64| ours(at, of) / figure(found, at, kind, of);
    let stunnel = |at, of| against(Kind::Stunnel, at, of);
    let cpu: fn(&Run) -> f64 = |run| run.processor_seconds;
    let rate: fn(&Run) -> f64 = |run| run.operations_per_second;
    let less = |what, least, aim, figure, unit| Row { what, less: true, least, aim, figure, unit };
    let more = |what, least, aim, figure, unit| Row { what, less: false, least, aim, figure, unit };
    let slowest = rest.slow.iter().map(|(_, _, added)| *added).fold(0.0, f64::max);
    let trips = rest.round_trips.iter().find(|(kind, _)| *kind == Kind::Ours);
    let plain = rest.round_trips.iter().find(|(kind, _)| *kind == Kind::Relay);
    let tls_trips = trips.map_or(f64::NAN, |row| row.1) - plain.map_or(f64::NAN, |row| row.1);
    let keeps = 1.0 - NOISE;
    vec![
        less("CPU per GiB, 1 MiB writes", 0.52, Some(0.40), stunnel(WRITE_1, cpu), "x stunnel"),
        less("CPU per GiB, 1 MiB reads", 0.48, Some(0.25), stunnel(READ_1, cpu), "x stunnel"),
        more("one connection, writes", 1.7, Some(2.0), stunnel(WRITE_1, rate), "x stunnel"),
        more("one connection, reads", 2.0, Some(2.8), stunnel(READ_1, rate), "x stunnel"),
        more("4 KiB, 64 deep: op/s", 1.6, Some(2.8), stunnel(MANY_DEEP, rate), "x stunnel"),
        less("4 KiB, 64 deep: CPU per op", 0.32, Some(0.17), stunnel(MANY_DEEP, cpu), "x stunnel"),
        less(
            "4 KiB, 1 deep: p50",
            1.15,
            None,
            against(Kind::Relay, ONE_DEEP, |run| run.p50),
            "x relay",
        ),
        less("4 KiB, 1 deep: p99", 1.0, None, stunnel(ONE_DEEP, |run| run.p99), "x stunnel"),
        more(
            "8 connections: writes",
            keeps,
            None,
            ours(WRITE_8, rate) / ours(WRITE_1, rate),
            "x 1 connection",
        ),
        more(
            "8 connections: reads",
            keeps,
            None,
            ours(READ_8, rate) / ours(READ_1, rate),
            "x 1 connection",
        ),
        less(
            "8 connections: busiest thread",
            0.75,
            None,
            ours(WRITE_8, |run| run.busiest_thread),
            "of the CPU time",
        ),
        more(
            "8 connections: the slowest",
            0.7,
            None,
            ours(WRITE_8, |run| run.fairness),
            "of the average",
        ),
        less("1,000 tunnels: resident, open", 20.0, None, rest.crowd.open, "MiB"),
        less("1,000 tunnels: resident after bursts", 20.0, None, rest.crowd.after_burst, "MiB"),
        less("1,000 tunnels: idle CPU", 0.01, None, rest.crowd.idle * 100.0, "%"),
        less(
            "1,000 tunnels: listening",
            50.0,
            None,
            rest.crowd.listening.as_secs_f64() * 1e3,
            "ms",
        ),
        less("a side that takes nothing", 2.0, None, slowest, "MiB a connection"),
        less("cold connect: round trips for TLS", 1.2, None, tls_trips, ""),
    ]
}
