//! The table of the controller's metrics.
//!
//! Labels are mount targets, so a cluster has as many series as it uses mount targets; volumes are named where they have
//! a quota, and [`MOST`] of them at most.

use std::sync::Arc;

use async_trait::async_trait;

use crate::app::call_times::CallTimes;
use crate::app::metrics::Scraped;
use crate::app::metrics::family::Family;
use crate::app::metrics::family::Kind;
use crate::app::metrics::text;
use crate::app::metrics::value::Samples;
use crate::app::metrics::value::of_calls;
use crate::app::metrics::value::only;
use crate::controller::Controller;
use crate::controller::SweepReport;
use crate::controller::domain::watch::Board;
use crate::controller::domain::watch::TargetReport;
use crate::controller::domain::watch::WatchReport;
use crate::controller::domain::watch::step::Life;
use crate::controller::domain::watch::step::Trouble;
use crate::controller::quota::usage::MOST;
use crate::controller::quota::usage::QuotaBoard;
use crate::controller::quota::usage::QuotaReport;
use crate::controller::quota::usage::QuotaUse;
use crate::kubernetes::Reporter;
use crate::nas::NasCounts;
use crate::nas::counts::Outcome;
use crate::runtime::Histogram;

/// What the controller knows.
#[derive(Clone, Debug, Default)]
pub struct ControllerReport {
    /// Of the mount targets in use; nothing where they are not watched.
    pub watch: WatchReport,
    /// Events by what became of them.
    pub events: Vec<(&'static str, u64)>,
    /// How long calls took, by method and code.
    pub calls: Vec<((&'static str, &'static str), Histogram)>,
    /// Attempts to call the API of NAS, by call and outcome.
    pub nas: Vec<((&'static str, Outcome), u64)>,
    /// How far the trash is emptied.
    pub trash: SweepReport,
    /// What volumes use of their quotas; nothing where they are not asked for.
    pub quotas: QuotaReport,
}

/// Where a controller is scraped.
#[derive(Debug)]
pub struct ControllerScrape {
    /// Of the watcher, where there is one.
    pub board: Option<Board>,
    /// Where events are said.
    pub events: Reporter,
    /// How long calls took.
    pub calls: CallTimes,
    /// Of the API of NAS, where it is set up.
    pub nas: Option<NasCounts>,
    /// Who empties the trash.
    pub controller: Controller,
    /// Of who asks for quotas, where there is one.
    pub quotas: Option<QuotaBoard>,
}

#[async_trait]
impl Scraped for ControllerScrape {
    async fn text(&self) -> String {
        let report = ControllerReport {
            watch: self.board.as_ref().map(Board::report).unwrap_or_default(),
            events: self.events.counts().by_outcome().to_vec(),
            calls: self.calls.all(),
            nas: self.nas.as_ref().map(NasCounts::all).unwrap_or_default(),
            trash: self.controller.trash(),
            quotas: self.quotas.as_ref().map(QuotaBoard::report).unwrap_or_default(),
        };
        text::of(&CONTROLLER_FAMILIES, &report)
    }
}

impl ControllerScrape {
    /// For the endpoint.
    #[must_use]
    pub fn shared(self) -> Arc<dyn Scraped> {
        Arc::new(self)
    }
}

/// Every metric of the controller.
pub static CONTROLLER_FAMILIES: [Family<ControllerReport>; 16] = [
    Family {
        name: "alinas_csi_controller_mount_target_state",
        kind: Kind::Gauge,
        labels: &["target", "state"],
        help: "1 for the state that the mount target is in: it answers as it should (fine), something was wrong at the \
               last looks (doubtful), it has been switched off (disabled) or deleted (deleted), its domain does not \
               resolve (gone), it does not answer (not-answering), it cannot prove who it is (insecure), or nobody has \
               looked yet (unknown)",
        samples: |report| {
            let each = |target: &TargetReport| {
                let state = |word: &str| {
                    (vec![target.target.clone(), word.to_owned()], (target.life == word).into())
                };
                states().map(state).collect::<Samples>()
            };
            report.watch.targets.iter().flat_map(each).collect()
        },
    },
    Family {
        name: "alinas_csi_controller_mount_target_volumes",
        kind: Kind::Gauge,
        labels: &["target"],
        help: "PersistentVolumes that use the mount target",
        samples: |report| of_targets(report, |target| Some(target.volumes)),
    },
    Family {
        name: "alinas_csi_controller_mount_target_looks_total",
        kind: Kind::Counter,
        labels: &["target"],
        help: "How often the mount target was looked at",
        samples: |report| of_targets(report, |target| Some(target.looks)),
    },
    Family {
        name: "alinas_csi_controller_mount_target_moves_total",
        kind: Kind::Counter,
        labels: &["target"],
        help: "How often its domain has led to another address",
        samples: |report| of_targets(report, |target| Some(target.moves)),
    },
    Family {
        name: "alinas_csi_controller_mount_target_certificate_not_after_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["target"],
        help: "When the first certificate of its chain ends, seconds since the epoch; left out until it has answered",
        samples: |report| {
            of_targets(report, |target| {
                target.certificate_ends.and_then(|ends| u64::try_from(ends).ok())
            })
        },
    },
    Family {
        name: "alinas_csi_controller_volume_list_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often PersistentVolumes could not be listed, so that mount targets in use were not known anew",
        samples: |report| only(report.watch.list_failures),
    },
    Family {
        name: "alinas_csi_controller_events_total",
        kind: Kind::Counter,
        labels: &["outcome"],
        help: "Events by what became of them: taken by the API server (said), the same within five minutes (repeated), or \
               not taken after three attempts or too many at once (dropped)",
        samples: |report| {
            let events = report.events.iter();
            events.map(|(outcome, count)| (vec![(*outcome).to_owned()], (*count).into())).collect()
        },
    },
    Family {
        name: "alinas_csi_controller_call_duration_seconds",
        kind: Kind::Histogram,
        labels: &["method", "code"],
        help: "How long calls of CSI took, by method and by the code that they were answered with; CANCELLED where the \
               caller hung up",
        samples: |report| of_calls(&report.calls),
    },
    Family {
        name: "alinas_csi_controller_nas_calls_total",
        kind: Kind::Counter,
        labels: &["action", "outcome"],
        help: "Attempts to call the API of NAS, by call and by what came of each: done (ok), too often for the service \
               (throttled), refused for another reason (refused), not sent because its turn would have come too late \
               (crowded), no answer that can be understood or nothing to sign with (failed)",
        samples: |report| {
            let label = |(action, outcome): (&str, Outcome)| {
                vec![action.to_owned(), outcome.word().to_owned()]
            };
            report.nas.iter().map(|(key, count)| (label(*key), (*count).into())).collect()
        },
    },
    Family {
        name: "alinas_csi_controller_trash_sweeps",
        kind: Kind::Gauge,
        labels: &[],
        help: "Exports whose trash is being emptied in the background, or is to be tried again",
        samples: |report| only(report.trash.under_way),
    },
    Family {
        name: "alinas_csi_controller_trash_removed_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Files, directories and links that were removed from trash in the background",
        samples: |report| only(report.trash.removed),
    },
    Family {
        name: "alinas_csi_controller_trash_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often emptying the trash of an export has failed; it is tried again after five minutes at most",
        samples: |report| only(report.trash.failures),
    },
    Family {
        name: "alinas_csi_controller_quota_used_bytes",
        kind: Kind::Gauge,
        labels: &["target", "volume"],
        help: "What the directory of a volume with a quota holds, as the service has counted it; of 500 volumes at most, \
               those that are nearest to their limits",
        samples: |report| of_quotas(report, |quota| quota.used),
    },
    Family {
        name: "alinas_csi_controller_quota_limit_bytes",
        kind: Kind::Gauge,
        labels: &["target", "volume"],
        help: "What the directory of a volume with a quota may hold, of the same volumes",
        samples: |report| of_quotas(report, |quota| quota.limit),
    },
    Family {
        name: "alinas_csi_controller_quota_volumes",
        kind: Kind::Gauge,
        labels: &["named"],
        help: "Volumes with a quota: those that the two metrics above name (yes), and those beyond 500 (no)",
        samples: |report| {
            let count = |word: &str, count: u64| (vec![word.to_owned()], count.into());
            let named = report.quotas.volumes.len() as u64;
            vec![count("yes", named), count("no", report.quotas.beyond)]
        },
    },
    Family {
        name: "alinas_csi_controller_quota_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "How often the quotas of a file system, or which volumes there are, were not said; what is used there is left \
               out until they are",
        samples: |report| only(report.quotas.failures),
    },
];

const _: () = assert!(MOST == 500, "the texts above say so");

fn states() -> impl Iterator<Item = &'static str> {
    [
        Life::New.word(),
        Life::Fine.word(),
        Life::Doubtful { trouble: Trouble::Gone, looks: 0 }.word(),
    ]
    .into_iter()
    .chain(Trouble::ALL.into_iter().map(Trouble::word))
}

fn of_targets(report: &ControllerReport, value: impl Fn(&TargetReport) -> Option<u64>) -> Samples {
    let targets = report.watch.targets.iter();
    targets
        .filter_map(|target| Some((vec![target.target.clone()], value(target)?.into())))
        .collect()
}

fn of_quotas(report: &ControllerReport, value: impl Fn(&QuotaUse) -> u64) -> Samples {
    let quotas = report.quotas.volumes.iter();
    quotas
        .map(|quota| (vec![quota.target.clone(), quota.volume.clone()], value(quota).into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::histogram;

    fn example() -> ControllerReport {
        let target = |target: &str, life, certificate_ends| TargetReport {
            target: target.to_owned(),
            life,
            volumes: 3,
            looks: 7,
            moves: 1,
            certificate_ends,
        };
        ControllerReport {
            watch: WatchReport {
                targets: vec![
                    target("a.test", "fine", Some(1_900_000_000)),
                    target("b.test", "gone", None),
                ],
                list_failures: 2,
            },
            events: vec![("said", 5), ("dropped", 0)],
            calls: vec![(("CreateVolume", "OK"), Histogram::new(&histogram::CALLS))],
            nas: vec![(("CreateDir", Outcome::Ok), 4), (("CreateDir", Outcome::Throttled), 2)],
            trash: SweepReport { under_way: 1, removed: 28, failures: 3 },
            quotas: QuotaReport {
                volumes: vec![QuotaUse {
                    volume: "pv-a".to_owned(),
                    target: "a.test".to_owned(),
                    used: 5,
                    limit: 7,
                }],
                beyond: 2,
                failures: 1,
            },
        }
    }

    #[test]
    fn each_family_of_the_controller_is_set_by_what_it_knows() {
        let text = text::of(&CONTROLLER_FAMILIES, &example());
        for line in [
            "alinas_csi_controller_mount_target_state{target=\"a.test\",state=\"fine\"} 1",
            "alinas_csi_controller_mount_target_state{target=\"a.test\",state=\"gone\"} 0",
            "alinas_csi_controller_mount_target_state{target=\"b.test\",state=\"gone\"} 1",
            "alinas_csi_controller_mount_target_volumes{target=\"b.test\"} 3",
            "alinas_csi_controller_mount_target_looks_total{target=\"a.test\"} 7",
            "alinas_csi_controller_mount_target_moves_total{target=\"a.test\"} 1",
            "alinas_csi_controller_mount_target_certificate_not_after_timestamp_seconds{target=\"a.test\"} 1900000000",
            "alinas_csi_controller_volume_list_failures_total 2",
            "alinas_csi_controller_events_total{outcome=\"said\"} 5",
            "alinas_csi_controller_call_duration_seconds_count{method=\"CreateVolume\",code=\"OK\"} 0",
            "alinas_csi_controller_nas_calls_total{action=\"CreateDir\",outcome=\"ok\"} 4",
            "alinas_csi_controller_nas_calls_total{action=\"CreateDir\",outcome=\"throttled\"} 2",
            "alinas_csi_controller_trash_sweeps 1",
            "alinas_csi_controller_trash_removed_total 28",
            "alinas_csi_controller_trash_failures_total 3",
            "alinas_csi_controller_quota_used_bytes{target=\"a.test\",volume=\"pv-a\"} 5",
            "alinas_csi_controller_quota_limit_bytes{target=\"a.test\",volume=\"pv-a\"} 7",
            "alinas_csi_controller_quota_volumes{named=\"yes\"} 1",
            "alinas_csi_controller_quota_volumes{named=\"no\"} 2",
            "alinas_csi_controller_quota_failures_total 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
        assert!(!text.contains("timestamp_seconds{target=\"b.test\"}"), "{text}");
        for family in &CONTROLLER_FAMILIES {
            assert!(!family.samples(&example()).is_empty(), "{} is never set", family.name);
        }
    }

    #[test]
    fn names_of_the_controller_are_ours_and_counters_end_as_counters_do() {
        for family in &CONTROLLER_FAMILIES {
            assert!(family.name.starts_with("alinas_csi_controller_"), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter);
            assert!(!family.help.ends_with('.'), "{}", family.help);
        }
    }
}
