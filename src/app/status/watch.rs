//! `alinas-csi status --watch`: one look after another, and what the tunnels carried between two of them.
//!
//! Each look has a deadline, one that fails is shown like the others, and the next one is made. No signal is caught:
//! an interrupt ends the process at once, even where nobody reads what it writes. It ends as well when the reader is
//! gone, as in a container whose `kubectl exec` was interrupted.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::status::Output;
use crate::app::status::StatusError;
use crate::app::status::report::Report;
use crate::app::status::report::Throughput;
use crate::app::status::report::Tunnel;
use crate::app::status::report::date;
use crate::app::status::write;

/// Moves the cursor up and to the left, and wipes what is below it.
pub(in crate::app) const WIPE: &str = "\x1b[H\x1b[J";

/// How often, and in what form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) every: Duration,
    pub(super) output: Output,
    /// Each table takes the place of the one before.
    pub(super) in_place: bool,
}

/// Looks again and again, until what was seen cannot be shown any more.
///
/// `look` ends by itself. `now` is in seconds since the epoch.
pub(super) async fn watch(
    watch: Watch,
    mut look: impl AsyncFnMut() -> Result<Report, StatusError>,
    now: impl Fn() -> i64,
    streams: &mut Streams<'_>,
) -> io::Result<()> {
    let mut last = Last::default();
    loop {
        let mut seen = look().await;
        if let Ok(report) = &mut seen {
            last.compare(report, Instant::now());
        }
        show(watch, seen, now(), streams)?;
        tokio::time::sleep(watch.every).await;
    }
}

/// The second of two looks, with what was carried since the first.
pub(super) async fn with_rates(
    look: impl AsyncFn() -> Result<Report, StatusError>,
    apart: Duration,
) -> Result<Report, StatusError> {
    let mut last = Last::default();
    last.compare(&mut look().await?, Instant::now());
    tokio::time::sleep(apart).await;
    let mut report = look().await?;
    last.compare(&mut report, Instant::now());
    Ok(report)
}

/// Where it is written.
pub(super) struct Streams<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) errors: &'a mut dyn Write,
}

fn show(
    watch: Watch,
    seen: Result<Report, StatusError>,
    now: i64,
    streams: &mut Streams<'_>,
) -> io::Result<()> {
    let written = seen.and_then(|report| match watch.output {
        // A line each: a reader of a stream takes them apart by that.
        Output::Json => serde_json::to_string(&report)
            .map(|text| text + "\n")
            .map_err(|error| StatusError::Unwritable(error.to_string())),
        Output::Yaml => Ok(format!("---\n{}", write(&report, Output::Yaml)?)),
        Output::Table => write(&report, Output::Table),
    });
    let failed = |error: StatusError| format!("alinas-csi: {error}\n");
    if watch.output != Output::Table {
        return match written {
            Ok(text) => flushed(streams.out, &text),
            Err(error) => {
                // Who reads standard output alone is told nothing but that it is open.
                flushed(streams.errors, &failed(error))?;
                streams.out.flush()
            }
        };
    }
    let before = if watch.in_place { WIPE } else { "" };
    let after = if watch.in_place { "" } else { "\n" };
    let head = format!("{}, every {} s\n", date(now), watch.every.as_secs());
    let text = written.unwrap_or_else(failed);
    flushed(streams.out, &format!("{before}{head}{text}{after}"))
}

fn flushed(stream: &mut dyn Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// What the last look that succeeded has seen.
#[derive(Debug, Default)]
pub(in crate::app) struct Last {
    at: Option<Instant>,
    process: Option<u32>,
    bytes: BTreeMap<Key, (u64, u64)>,
}

/// A tunnel: another one may get its address.
type Key = (String, String, String);

fn key(tunnel: &Tunnel) -> Key {
    (tunnel.local_address.clone(), tunnel.mount_target.clone(), tunnel.server_name.clone())
}

impl Last {
    /// Says in the report what was carried since the last one. Counters begin at 0 with each tunnel process, and are not
    /// known while it does not answer: then nothing is said.
    pub(in crate::app) fn compare(&mut self, report: &mut Report, at: Instant) {
        report.has_rates = true;
        let was = std::mem::take(self);
        if report.problem.is_some() {
            return;
        }
        let elapsed = was.at.map(|before| at.duration_since(before));
        let is_same_process = was.process == report.process.id;
        for tunnel in &mut report.tunnels {
            let Some(bytes) = &tunnel.bytes else { continue };
            let now = (bytes.to_server, bytes.to_kernel);
            let before = was.bytes.get(&key(tunnel)).filter(|_| is_same_process);
            tunnel.throughput =
                before.zip(elapsed).and_then(|(before, elapsed)| throughput(*before, now, elapsed));
            self.bytes.insert(key(tunnel), now);
        }
        (self.at, self.process) = (Some(at), report.process.id);
    }
}

/// None where a counter went back, or no time went by.
fn throughput(before: (u64, u64), now: (u64, u64), elapsed: Duration) -> Option<Throughput> {
    let a_second = |before: u64, now: u64| {
        let bytes = u128::from(now.checked_sub(before)?) * 1_000_000;
        u64::try_from(bytes.checked_div(elapsed.as_micros())?).ok()
    };
    Some(Throughput {
        to_server_per_second: a_second(before.0, now.0)?,
        to_kernel_per_second: a_second(before.1, now.1)?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::app::status::report;
    use crate::proto::tunnel as wire;

    const EVERY: Duration = Duration::from_secs(2);

    /// Takes so many bytes as a pipe would, and is gone then.
    struct Reader {
        read: Vec<u8>,
        looks: usize,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.read.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.looks -= 1;
            if self.looks == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        }
    }

    /// What is written of these looks, to both streams.
    async fn watched(
        output: Output,
        in_place: bool,
        looks: Vec<Result<wire::ListResponse, StatusError>>,
    ) -> (String, String) {
        let mut out = Reader { read: Vec::new(), looks: looks.len() };
        let mut errors = Vec::new();
        let mut looks = looks.into_iter();
        let mut streams = Streams { out: &mut out, errors: &mut errors };
        let how = Watch { every: EVERY, output, in_place };
        let read = |listed| Report::read(listed, report::EXAMPLE_NOW);
        let look = async || looks.next().unwrap().map(read);
        let ended = watch(how, look, || report::EXAMPLE_NOW, &mut streams).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        (String::from_utf8(out.read).unwrap(), String::from_utf8(errors).unwrap())
    }

    fn carried(to_server: u64, process_id: u32) -> Result<wire::ListResponse, StatusError> {
        let mut listed = report::example();
        listed.process_id = process_id;
        listed.tunnels[0].listener.as_mut().unwrap().bytes_to_server = to_server;
        Ok(listed)
    }

    fn silent() -> Result<wire::ListResponse, StatusError> {
        Err(StatusError::Silent { socket: PathBuf::from("/s") })
    }

    fn to_server(lines: &str) -> Vec<Option<u64>> {
        let reports = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        reports
            .map(|report: serde_json::Value| {
                report["tunnels"][0]["throughput"]["toServerPerSecond"].as_u64()
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_a_second_are_those_since_the_last_look_at_the_same_process() {
        let looks = vec![
            carried(1000, 1),
            carried(5000, 1),
            carried(5000, 1),
            carried(9000, 2),
            carried(9500, 2),
            carried(10, 2),
        ];
        let (lines, _) = watched(Output::Json, false, looks).await;
        assert_eq!(to_server(&lines), [None, Some(2000), Some(0), None, Some(250), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn two_looks_say_what_is_carried_a_second() {
        let looks = std::cell::RefCell::new(vec![carried(5000, 1), carried(1000, 1)]);
        let look = async || {
            let listed = looks.borrow_mut().pop().unwrap()?;
            Ok(Report::read(listed, report::EXAMPLE_NOW))
        };
        let report = with_rates(look, EVERY).await.unwrap();
        assert!(report.has_rates);
        assert_eq!(report.tunnels[0].throughput.as_ref().unwrap().to_server_per_second, 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_shown_and_the_next_one_made() {
        let looks = || vec![carried(0, 1), silent(), carried(8000, 1)];
        let (out, errors) = watched(Output::Json, false, looks()).await;
        assert_eq!(to_server(&out), [None, Some(2000)], "over both intervals");
        assert!(errors.starts_with("alinas-csi: failed to ask the watchdog"), "{errors}");
        let (out, errors) = watched(Output::Table, false, looks()).await;
        assert_eq!(out.matches("2027-01-15T08:00:00Z, every 2 s\n").count(), 3);
        assert_eq!(out.matches("alinas-csi: failed to ask the watchdog").count(), 1);
        assert!(errors.is_empty() && !out.contains('\x1b'), "{out}");
        assert!(out.contains(" 1.9KiB/s "), "{out}");
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_terminal_each_table_takes_the_place_of_the_one_before() {
        let (out, _) = watched(Output::Table, true, vec![carried(0, 1), carried(1, 1)]).await;
        assert_eq!(out.matches(WIPE).count(), 2);
        assert!(out.starts_with(WIPE) && out.matches('\x1b').count() == 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_known_of_a_look_is_not_said_of_the_next_one() {
        let mut unanswered = report::example();
        unanswered.listeners_missing_because = "no answer within 2 s".to_owned();
        unanswered.tunnels[0].listener = None;
        let looks = vec![carried(1000, 42), Ok(unanswered), carried(2000, 42), carried(4000, 42)];
        let (lines, _) = watched(Output::Json, false, looks).await;
        assert_eq!(to_server(&lines), [None, None, None, Some(1000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn yaml_is_a_stream_of_documents() {
        let (out, _) = watched(Output::Yaml, false, vec![carried(0, 1), carried(0, 1)]).await;
        assert_eq!(out.lines().filter(|line| *line == "---").count(), 2);
    }
}
