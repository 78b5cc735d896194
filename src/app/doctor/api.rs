//! The API of NAS, where it is set up: what its clock shows, who we are to it, whether we may read.
//!
//! The clock is compared with the `Date` of its answers, because nothing else tells the time: TLS and NFS do not, and a
//! certificate only that it is valid by our clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::app::doctor::finding::Check;
use crate::app::doctor::finding::Finding;
use crate::app::nas::Nas;
use crate::app::nas::NasArgs;
use crate::nas::Endpoint;
use crate::runtime::Chain;
use crate::runtime::Clock;
use crate::runtime::SystemClock;
use crate::tls::Trust;

/// For all sources of credentials together.
const CREDENTIALS_DEADLINE: Duration = Duration::from_secs(30);
/// More than that is worth a look.
const SLIGHT: i64 = 30;
/// By which signatures and security tokens are refused.
const GRAVE: i64 = 15 * 60;

/// Asks it, where there is a region.
pub(super) async fn look(
    args: &NasArgs,
    look_up: impl Fn(&str) -> Option<String>,
    trust: Option<&Arc<Trust>>,
) -> [Finding; 2] {
    let clock = Arc::new(SystemClock);
    let set_up = match trust {
        Some(trust) => Nas::set_up(args, look_up, trust, clock).await,
        // Why there is no trust is a finding of its own.
        None => Ok(None),
    };
    match set_up {
        Ok(Some(nas)) => [time(&nas).await, right(&nas).await],
        Ok(None) => {
            let why = "not set up: no region (--nas-region, ALINAS_CSI_NAS_REGION)";
            let alone = format!("compared with nothing: the API of NAS is {why}");
            [Finding::skipped(Check::Clock, alone), Finding::skipped(Check::Api, why)]
        }
        Err(error) => [
            Finding::skipped(Check::Clock, "compared with nothing: it needs \"api\""),
            Finding::of_fault(Check::Api, &Chain(&error)),
        ],
    }
}

async fn time(nas: &Nas) -> Finding {
    let endpoint = nas.client.endpoint();
    let before = SystemClock.now().epoch_seconds();
    match nas.client.date().await {
        Ok(Some(date)) => {
            let date = i64::try_from(date.as_secs()).unwrap_or(i64::MAX);
            let ahead = ahead(before, SystemClock.now().epoch_seconds(), date);
            clock(ahead, endpoint)
        }
        Ok(None) => {
            let why = format!("compared with nothing: {endpoint} answers without a Date");
            Finding::skipped(Check::Clock, why)
        }
        Err(fault) => Finding::warning(
            Check::Clock,
            format!("compared with nothing: {endpoint}: {fault}"),
            "check the route from here to the API, or its host (--nas-network, --nas-endpoint); where its certificate \
             is refused, this machine's clock",
        ),
    }
}

/// By how many seconds our clock is ahead at least, or behind (negative): 0 where the answer fits. `before` and `after` it was
/// asked by our clock, and `date` is cut to whole seconds.
fn ahead(before: i64, after: i64, date: i64) -> i64 {
    let too_early = after.saturating_sub(date).min(0);
    let too_late = before.saturating_sub(date.saturating_add(1)).max(0);
    too_early + too_late
}

fn clock(ahead: i64, endpoint: &Endpoint) -> Finding {
    let (seconds, way) = (ahead.abs(), if ahead < 0 { "behind" } else { "ahead of" });
    let found = format!("{seconds} s {way} the Date that {endpoint} answers with");
    let remedy = "set this machine's clock (NTP): signatures, security tokens and certificates hold for a time";
    match seconds {
        0 => Finding::ok(Check::Clock, format!("fits the Date that {endpoint} answers with")),
        1..SLIGHT => Finding::ok(Check::Clock, found),
        SLIGHT..GRAVE => Finding::warning(Check::Clock, found, remedy),
        _ => Finding::failed(Check::Clock, found, remedy),
    }
}

async fn right(nas: &Nas) -> Finding {
    let origin = match timeout(CREDENTIALS_DEADLINE, nas.origin()).await {
        Ok(Ok(origin)) => origin,
        Ok(Err(fault)) => {
            let remedy = "give it credentials: variables, a mounted Secret, a role for the service account, or one of \
                          the instance";
            return Finding::failed(Check::Api, fault.to_string(), remedy);
        }
        Err(_) => {
            let found = format!("no credentials within {} s", CREDENTIALS_DEADLINE.as_secs());
            return Finding::failed(Check::Api, found, "check what gives them out");
        }
    };
    let (endpoint, region) = (nas.client.endpoint(), nas.client.region());
    match nas.client.number_of_file_systems().await {
        Ok(number) => Finding::ok(
            Check::Api,
            format!(
                "with credentials from {origin}, {endpoint} lists {number} file systems in {region}"
            ),
        ),
        Err(fault) => {
            let text = format!("with credentials from {origin}: {}", Chain(&fault));
            Finding::of_fault(Check::Api, &text)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::app::doctor::finding::Verdict;

    use super::*;

    #[test]
    fn clocks_differ_by_no_less_than_what_the_answer_leaves_open() {
        for (before, after, date, expected) in [
            (100, 100, 100, 0),
            (100, 103, 99, 0),
            (100, 103, 103, 0),
            (100, 103, 98, 1),
            (100, 103, 104, -1),
            (4000, 4001, 399, 3600),
            (400, 401, 4001, -3600),
        ] {
            assert_eq!(ahead(before, after, date), expected, "{before} {after} {date}");
        }
    }

    #[test]
    fn a_clock_that_is_a_little_off_is_a_doubt_and_one_that_is_refused_a_failure() {
        let endpoint = Endpoint::parse("nas.example.com").unwrap();
        for (seconds, verdict, words) in [
            (0, Verdict::Ok, "fits the Date that nas.example.com"),
            (29, Verdict::Ok, "29 s ahead of the Date"),
            (-30, Verdict::Warning, "30 s behind the Date"),
            (899, Verdict::Warning, "899 s ahead"),
            (-900, Verdict::Failed, "900 s behind"),
        ] {
            let finding = clock(seconds, &endpoint);
            assert!(finding.verdict == verdict && finding.found.starts_with(words), "{finding:?}");
        }
    }

    #[tokio::test]
    async fn without_a_region_nothing_is_asked_and_that_is_said() {
        let trust = Arc::new(Trust::new(None).unwrap());
        let findings = look(&NasArgs::default(), |_| None, Some(&trust)).await;
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Skipped));
        assert!(findings[0].found.starts_with("compared with nothing: "), "{findings:?}");
        assert!(findings[1].found.starts_with("not set up: no region"), "{findings:?}");
    }
}
