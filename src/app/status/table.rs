//! The answer for people: the process, a line for each volume, and below it in words what is weak or wrong.
//!
//! Volumes of one tunnel each show its figures, so that a search for a volume finds all of them. The plugin of kubectl has
//! the same lines, of many nodes.
//!
//! LONG: a third of it are tests; the columns stand with their cells.

use crate::app::status::report::Bytes;
use crate::app::status::report::Certificate;
use crate::app::status::report::Connections;
use crate::app::status::report::Health;
use crate::app::status::report::Report;
use crate::app::status::report::Session;
use crate::app::status::report::Throughput;
use crate::app::status::report::Tunnel;
use crate::app::status::report::Volume;

type Cell = fn(&Tunnel) -> String;

/// A column's head, and what stands in it. What says whose it is comes before them.
const COLUMNS: [(&str, Cell); 22] = [
    ("MOUNT TARGET", |tunnel| tunnel.mount_target.clone()),
    ("LOCAL ADDRESS", |tunnel| tunnel.local_address.clone()),
    ("REMOTE ADDRESS", |tunnel| or_dash(tunnel.remote_address.as_ref())),
    ("STATE", state),
    ("HEALTH", |tunnel| of_health(tunnel, |health| Some(health.state.clone()))),
    ("FOR", |tunnel| of_health(tunnel, |health| Some(age(health.for_seconds)))),
    ("ROUND TRIP", |tunnel| of_health(tunnel, |health| health.round_trip_micros.map(millis))),
    ("TLS", |tunnel| of_session(tunnel, |session| Some(session.version.clone()))),
    ("CIPHER SUITE", |tunnel| of_session(tunnel, |session| Some(session.cipher_suite.clone()))),
    ("KEY EXCHANGE", |tunnel| of_session(tunnel, |session| session.key_exchange.clone())),
    ("LIBRARY", |tunnel| of_session(tunnel, |session| Some(session.library.clone()))),
    ("WEAK", |tunnel| of_session(tunnel, weak)),
    ("RESUMED", |tunnel| of_session(tunnel, |session| Some(yes_or_no(session.resumed)))),
    ("SINCE", |tunnel| of_session(tunnel, since)),
    ("TO SERVER", |tunnel| of_bytes(tunnel, |bytes| bytes.to_server)),
    ("FROM SERVER", |tunnel| of_bytes(tunnel, |bytes| bytes.to_kernel)),
    ("OPEN", |tunnel| of_connections(tunnel, |all| all.open)),
    ("TOTAL", |tunnel| of_connections(tunnel, |all| all.total)),
    ("REFUSED", |tunnel| of_connections(tunnel, |all| all.refused)),
    ("CERT DAYS", |tunnel| of_session(tunnel, |session| days(session.certificate.as_ref()))),
    ("CLIENT CERT DAYS", |tunnel| {
        of_session(tunnel, |session| days(session.client_certificate.as_ref()))
    }),
    ("LAST ERROR", |tunnel| or_dash(tunnel.last_error.as_ref())),
];

/// Behind those of bytes, where there was a look before.
const NOW: [(&str, Cell); 2] = [
    ("TO SERVER NOW", |tunnel| now(tunnel, |throughput| throughput.to_server_per_second)),
    ("FROM SERVER NOW", |tunnel| now(tunnel, |throughput| throughput.to_kernel_per_second)),
];

/// Which columns there are.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::app) struct Shown {
    /// The node in front: it is one of many.
    pub(in crate::app) node: bool,
    /// The claim and, beside it, the pods.
    pub(in crate::app) claim: bool,
    pub(in crate::app) pods: bool,
    /// What is carried a second.
    pub(in crate::app) rates: bool,
}

impl Shown {
    fn columns(self) -> Vec<(&'static str, Cell)> {
        let mut columns = COLUMNS.to_vec();
        if self.rates {
            let behind = columns.iter().position(|(head, _)| *head == "OPEN");
            let behind = behind.unwrap_or(columns.len());
            columns.splice(behind..behind, NOW);
        }
        columns
    }

    /// What stands in front of them.
    fn whose(self) -> impl Iterator<Item = &'static str> {
        let heads =
            [("NODE", self.node), ("VOLUME", true), ("CLAIM", self.claim), ("PODS", self.pods)];
        heads.into_iter().filter_map(|(head, is_shown)| is_shown.then_some(head))
    }

    /// The first line.
    pub(in crate::app) fn heads(self) -> Vec<String> {
        let columns = self.columns();
        self.whose().chain(columns.iter().map(|(head, _)| *head)).map(str::to_owned).collect()
    }

    /// The lines of a tunnel.
    pub(in crate::app) fn rows_of(self, node: &str, tunnel: &Tunnel) -> Vec<Vec<String>> {
        let cells: Vec<_> = self.columns().iter().map(|(_, cell)| cell(tunnel)).collect();
        let row = |volume: &Volume| {
            let front = self.whose().map(|head| whose(head, node, volume));
            front.chain(cells.iter().cloned()).map(|cell| shown(&cell)).collect()
        };
        match tunnel.volumes.as_slice() {
            [] => vec![row(&Volume::default())],
            volumes => volumes.iter().map(row).collect(),
        }
    }

    /// The line of a node that did not answer: why stands in the last column.
    pub(in crate::app) fn row_without_answer(self, node: &str, why: &str) -> Vec<String> {
        let heads = self.heads();
        let last = heads.len() - 1;
        let cell = |(at, head): (usize, &String)| match head.as_str() {
            "NODE" => shown(node),
            "STATE" => "no-answer".to_owned(),
            _ if at == last => shown(why),
            _ => shown(""),
        };
        heads.iter().enumerate().map(cell).collect()
    }
}

fn whose(head: &str, node: &str, volume: &Volume) -> String {
    match head {
        "NODE" => node.to_owned(),
        "VOLUME" => volume.id.clone(),
        "CLAIM" => or_dash(volume.claim.as_ref()),
        _ => volume.pods.as_deref().unwrap_or_default().join(","),
    }
}

/// The whole text.
pub(super) fn of(report: &Report) -> String {
    let mut text = process(report);
    if let Some(problem) = &report.problem {
        text += &format!("{}\n", problem_in_words(problem));
    }
    if report.tunnels.is_empty() {
        text += "no tunnels\n";
    } else {
        let mut volumes = report.tunnels.iter().flat_map(|tunnel| &tunnel.volumes);
        let claim = volumes.any(|volume| volume.claim.is_some());
        let columns = Shown { claim, rates: report.has_rates, ..Shown::default() };
        let mut rows = vec![columns.heads()];
        rows.extend(report.tunnels.iter().flat_map(|tunnel| columns.rows_of("", tunnel)));
        text += "\n";
        text += &aligned(&rows);
    }
    let words: Vec<_> = report.tunnels.iter().flat_map(words_of).collect();
    if !words.is_empty() {
        text += &format!("\n{}\n", words.join("\n"));
    }
    report.notices.iter().fold(text, |text, notice| text + "NOTE: " + &clean(notice) + "\n")
}

/// What there is to say of a node beside its tunnels, a line each: what is not as it should be.
pub(in crate::app) fn remarks(report: &Report) -> Vec<String> {
    let process_is_fine = report.process.state == "running" && report.process.restarts == 0;
    let process = (!process_is_fine).then(|| process(report).trim_end().to_owned());
    let problem = report.problem.as_deref().map(problem_in_words);
    let words = report.tunnels.iter().flat_map(words_of);
    let notices = report.notices.iter().map(|notice| format!("NOTE: {}", clean(notice)));
    process.into_iter().chain(problem).chain(words).chain(notices).collect()
}

fn problem_in_words(problem: &str) -> String {
    format!("PROBLEM: {} (what goes through the tunnels is not known)", clean(problem))
}

fn process(report: &Report) -> String {
    let process = &report.process;
    let mut text = format!("tunnel process: {}", clean(&process.state));
    if let Some(id) = process.id {
        text += &format!(" for {}, pid {id}", age(process.running_for_seconds));
    }
    text += &format!(", {} restarts", process.restarts);
    let reasons: Vec<_> = process
        .restarts_by_reason
        .iter()
        .filter(|restarts| restarts.count > 0)
        .map(|restarts| format!("{} {}", restarts.count, clean(&restarts.reason)))
        .collect();
    if !reasons.is_empty() {
        text += &format!(" ({})", reasons.join(", "));
    }
    let repairs = process.repairs.iter().filter(|repairs| repairs.count > 0);
    for repairs in repairs {
        text += &format!(", repaired {} times ({})", repairs.count, clean(&repairs.repair));
    }
    text + if process.fips { ", FIPS mode\n" } else { "\n" }
}

fn words_of(tunnel: &Tunnel) -> Vec<String> {
    let warnings = tunnel.session.iter().flat_map(|session| &session.warnings).cloned();
    let ill = tunnel.health.iter().filter_map(|health| {
        Some(format!("{}: {}", health.state.to_uppercase(), health.why.as_ref()?))
    });
    let words = warnings
        .chain(ill)
        .chain(intruders(tunnel.connections.as_ref().map_or(0, |all| all.refused)));
    words.map(|words| format!("{}: {}", tunnel.local_address, clean(&words))).collect()
}

fn intruders(refused: u64) -> Option<String> {
    (refused > 0).then(|| {
        format!(
            "REFUSED: {refused} connections of local processes, because only the kernel may connect; the watchdog's log \
             says which process it was"
        )
    })
}

fn state(tunnel: &Tunnel) -> String {
    match &tunnel.state {
        _ if tunnel.life == "closing" => "closing".to_owned(),
        state => or_dash(state.as_ref()),
    }
}

fn of_bytes(tunnel: &Tunnel, bytes: impl Fn(&Bytes) -> u64) -> String {
    or_dash(tunnel.bytes.as_ref().map(|all| size(bytes(all))).as_ref())
}

fn of_connections(tunnel: &Tunnel, count: impl Fn(&Connections) -> u64) -> String {
    or_dash(tunnel.connections.as_ref().map(|all| count(all).to_string()).as_ref())
}

fn of_health(tunnel: &Tunnel, cell: impl Fn(&Health) -> Option<String>) -> String {
    or_dash(tunnel.health.as_ref().and_then(cell).as_ref())
}

fn now(tunnel: &Tunnel, bytes: impl Fn(&Throughput) -> u64) -> String {
    let text = tunnel.throughput.as_ref().map(|throughput| size(bytes(throughput)) + "/s");
    or_dash(text.as_ref())
}

/// `1.2ms`.
fn millis(micros: u64) -> String {
    format!("{}.{}ms", micros / 1000, micros % 1000 / 100)
}

fn of_session(tunnel: &Tunnel, cell: impl Fn(&Session) -> Option<String>) -> String {
    or_dash(tunnel.session.as_ref().and_then(cell).as_ref())
}

fn weak(session: &Session) -> Option<String> {
    Some(if session.weak.is_empty() { "no".to_owned() } else { session.weak.join(",") })
}

fn since(session: &Session) -> Option<String> {
    session.since.as_ref().map(|_| age(session.since_seconds.unsigned_abs()))
}

fn days(certificate: Option<&Certificate>) -> Option<String> {
    certificate.map(|certificate| certificate.days_left.to_string())
}

fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// The two largest units: `2d7h`.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// With three digits: `12.3MiB`.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let largest = units.iter().enumerate().rev().find(|(at, _)| bytes >> (10 * (at + 1)) > 0);
    let Some((at, unit)) = largest else { return format!("{bytes}B") };
    let one = 1_u128 << (10 * (at + 1));
    let tenths = u128::from(bytes) * 10 / one;
    if tenths < 1000 {
        return format!("{}.{}{unit}", tenths / 10, tenths % 10);
    }
    format!("{}{unit}", tenths / 10)
}

/// A cell: never empty, so that the columns can be told apart by who reads them.
fn shown(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { clean(text) }
}

/// One line that moves no cursor: a server chooses what its certificate and its errors say.
pub(in crate::app) fn clean(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}

/// As wide as needed; the last column is not filled up.
pub(in crate::app) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::status::report;

    fn lines() -> Vec<String> {
        let report = Report::read(report::example(), report::EXAMPLE_NOW);
        of(&report).lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_volume_has_a_line_and_each_weakness_a_sentence() {
        let lines = lines();
        assert_eq!(
            lines[0],
            "tunnel process: running for 2d7h, pid 42, 3 restarts (2 ended, 1 unanswering), repaired 2 times \
             (refresh), repaired 1 times (replace), FIPS mode"
        );
        for (at, expected) in [
            (
                2,
                "VOLUME MOUNT TARGET LOCAL ADDRESS REMOTE ADDRESS STATE HEALTH FOR ROUND TRIP TLS CIPHER SUITE KEY EXCHANGE LIBRARY \
                 WEAK RESUMED SINCE TO SERVER FROM SERVER OPEN TOTAL REFUSED CERT DAYS CLIENT CERT DAYS LAST ERROR",
            ),
            (
                3,
                "pv-1 a.nas.example.com 127.0.1.1:12049 192.0.2.7:2049 reachable healthy 1m1s 1.2ms TLSv1.2 \
                 TLS_RSA_WITH_AES_256_GCM_SHA384 static RSA openssl static-rsa no 2h0m 3.0MiB 12B 1 4 2 12 - -",
            ),
            (
                5,
                "- b.nas.example.com 127.0.1.2:12049 - unreachable server-down 1m1s 1.2ms - - - - - - - 0B 0B 0 0 0 - - \
                 failed to connect: connection refused [31m",
            ),
            (7, "127.0.1.1:12049: WEAKER: static RSA"),
            (
                8,
                "127.0.1.1:12049: REFUSED: 2 connections of local processes, because only the kernel may connect; the \
                 watchdog's log says which process it was",
            ),
            (9, "127.0.1.2:12049: SERVER-DOWN: no answer"),
            (10, "NOTE: another watchdog runs"),
        ] {
            assert_eq!(lines[at].split_whitespace().collect::<Vec<_>>().join(" "), expected);
        }
        assert!(lines[4].starts_with("pv-2") && lines[4][4..] == lines[3][4..]);
        let column = |line: &str| line.find("127.0.1.").unwrap();
        assert_eq!(column(&lines[3]), lines[2].find("LOCAL").unwrap());
        assert_eq!(column(&lines[3]), column(&lines[5]));
    }

    #[test]
    fn a_claim_has_a_column_where_one_is_known() {
        assert!(!lines()[2].contains("CLAIM"));
        let report = Report::read(report::example(), report::EXAMPLE_NOW);
        let claims = [("pv-2".to_owned(), "shop/data".to_owned())].into();
        let text = of(&report.name(&claims));
        let starts: Vec<_> = text
            .lines()
            .skip(2)
            .take(4)
            .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(starts, ["VOLUME CLAIM", "pv-1 -", "pv-2 shop/data", "- -"]);
    }

    #[test]
    fn a_tunnel_process_that_does_not_answer_is_a_problem_that_is_named() {
        let mut listed = report::example();
        listed.tunnels.clear();
        listed.listeners_missing_because = "no answer within 2 s".to_owned();
        let text = of(&Report::read(listed, report::EXAMPLE_NOW));
        assert!(text.contains("PROBLEM: no answer within 2 s (what goes "), "{text}");
        assert!(text.ends_with("no tunnels\nNOTE: another watchdog runs\n"), "{text}");
    }

    #[test]
    fn ages_and_sizes_are_short() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (7260, "2h1m"), (90_000, "1d1h")]
        {
            assert_eq!(age(seconds), text);
        }
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1536, "1.5KiB"),
            (999 << 20, "999MiB"),
            (1 << 40, "1.0TiB"),
            (u64::MAX, "15.9EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn every_column_and_every_name_for_machines_is_in_the_document() {
        let document = include_str!("../../../docs/status.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| "));
        let named: Vec<_> = rows
            .filter_map(|row| row.split(" | ").next())
            .flat_map(|cell| cell.split(", "))
            .collect();
        let all = Shown { node: true, claim: true, pods: true, rates: true };
        for head in all.heads() {
            assert!(named.contains(&head.as_str()), "docs/status.md lacks {head}");
        }
        let mut report = Report::read(report::example(), report::EXAMPLE_NOW);
        report.tunnels[0].throughput = Some(Throughput::default());
        let volume = &mut report.tunnels[0].volumes[0];
        (volume.claim, volume.persistent_volume) = (Some(String::new()), Some(String::new()));
        volume.pods = Some(Vec::new());
        let said = serde_json::to_value(&report).unwrap();
        for key in keys(&said) {
            let is_there = document
                .split('`')
                .skip(1)
                .step_by(2)
                .any(|code| code.split(['.', '[', ']']).any(|part| part == key));
            assert!(is_there, "docs/status.md lacks {key}");
        }
    }

    fn keys(of: &serde_json::Value) -> std::collections::BTreeSet<String> {
        match of {
            serde_json::Value::Object(fields) => {
                let below = fields.values().flat_map(keys);
                fields.keys().cloned().chain(below).collect()
            }
            serde_json::Value::Array(all) => all.iter().flat_map(keys).collect(),
            _ => std::collections::BTreeSet::new(),
        }
    }
}
