//! The table of the node plugin's metrics.
//!
//! What it says of calls and mounts is counted where they are made; what is mounted, and what the kernel's NFS client
//! counts of it, is read at a scrape.

use std::sync::Arc;

use async_trait::async_trait;

use crate::app::call_times::CallTimes;
use crate::app::metrics::Scraped;
use crate::app::metrics::family::Family;
use crate::app::metrics::family::Kind;
use crate::app::metrics::text;
use crate::app::metrics::value::Samples;
use crate::app::metrics::value::Value;
use crate::app::metrics::value::of_calls;
use crate::app::metrics::value::only;
use crate::csi::Troubles;
use crate::host::mount_stats::MountStats;
use crate::host::mount_stats::OPERATIONS;
use crate::host::mount_stats::OperationCounts;
use crate::node::Node;
use crate::node::accounts::Account;
use crate::node::accounts::Named;
use crate::node::census::Survey;
use crate::runtime::Histogram;

/// What the node plugin knows.
#[derive(Clone, Debug, Default)]
pub struct NodeReport {
    /// How long calls took, by method and code.
    pub calls: Vec<((&'static str, &'static str), Histogram)>,
    /// How long mounts took, by version and outcome.
    pub mounts: Vec<((String, &'static str), Histogram)>,
    /// What is mounted; none where the kernel has not said so in time.
    pub survey: Option<Survey>,
    /// Mounts that are tried in the background.
    pub tried: u64,
    /// What a user must act on, by the reason of its event.
    pub troubles: Vec<(&'static str, u64)>,
}

/// Where a node plugin is scraped.
#[derive(Debug)]
pub struct NodeScrape {
    /// The node.
    pub node: Node,
    /// What the kernel counts of mounts.
    pub stats: Arc<dyn MountStats>,
    /// The name of the driver.
    pub driver: String,
    /// How long calls took.
    pub calls: CallTimes,
    /// What a user must act on.
    pub troubles: Troubles,
}

#[async_trait]
impl Scraped for NodeScrape {
    async fn text(&self) -> String {
        let report = NodeReport {
            calls: self.calls.all(),
            mounts: self.node.mount_times().all(),
            survey: self.node.survey(&self.driver, Arc::clone(&self.stats)).await,
            tried: self.node.mounts_being_tried() as u64,
            troubles: self.troubles.all(),
        };
        text::of(&NODE_FAMILIES, &report)
    }
}

/// Every metric of the node plugin.
pub static NODE_FAMILIES: [Family<NodeReport>; 12] = [
    Family {
        name: "alinas_csi_node_mounts_up",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 where the kernel has shown its mounts within two seconds; where it has not, what is read from it is \
               left out",
        samples: |report| only(report.survey.is_some()),
    },
    Family {
        name: "alinas_csi_node_call_duration_seconds",
        kind: Kind::Histogram,
        labels: &["method", "code"],
        help: "How long calls of CSI took, by method and by the code that they were answered with; CANCELLED where the \
               caller hung up",
        samples: |report| of_calls(&report.calls),
    },
    Family {
        name: "alinas_csi_node_troubles_total",
        kind: Kind::Counter,
        labels: &["reason"],
        help: "What somebody must act on, by the reason that its event has (events.md says what to do), each time that a \
               call meets it, also where no event is sent",
        samples: |report| {
            let troubles = report.troubles.iter();
            troubles.map(|(reason, count)| (vec![(*reason).to_owned()], (*count).into())).collect()
        },
    },
    Family {
        name: "alinas_csi_node_mount_duration_seconds",
        kind: Kind::Histogram,
        labels: &["version", "outcome"],
        help: "How long NFS mounts took, all attempts of one call together, by the version that was spoken last (none \
               where it did not come to that) and by outcome: mounted, refused (in vain until somebody changes \
               something), unavailable (the next call may succeed)",
        samples: |report| {
            let mounts = report.mounts.iter().cloned();
            mounts
                .map(|((version, outcome), all)| (vec![version, outcome.to_owned()], all.into()))
                .collect()
        },
    },
    Family {
        name: "alinas_csi_node_mounts",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Mounts of this driver: volumes at their staging paths (staged), volumes at pods (published), cut in the \
               middle of staging and taken down at the next call (half-made), tried in the background (trying)",
        samples: by_state,
    },
    Family {
        name: "alinas_csi_node_volumes",
        kind: Kind::Gauge,
        labels: &["named"],
        help: "Volumes on the node: those that the metrics below name (yes), and those beyond the 128 that they name at \
               most (no); the first ones by name are named",
        samples: |report| {
            let Some(Survey { volumes, .. }) = &report.survey else { return vec![] };
            let count = |word: &str, count: usize| (vec![word.to_owned()], (count as u64).into());
            vec![count("yes", volumes.named().len()), count("no", volumes.beyond())]
        },
    },
    Family {
        name: "alinas_csi_node_volume_pods",
        kind: Kind::Gauge,
        labels: &["target", "volume", "counted"],
        help: "Pods that the volume is published to, and whether the kernel counts for it alone (alone) or for several \
               volumes together (together), which are then in the metrics below as the volume shared",
        samples: |report| {
            let Some(Survey { volumes, .. }) = &report.survey else { return vec![] };
            let pods = |named: Named| {
                let counted = if named.shares { "together" } else { "alone" };
                (vec![named.target, named.volume, counted.to_owned()], named.published.into())
            };
            volumes.named().into_iter().map(pods).collect()
        },
    },
    Family {
        name: "alinas_csi_node_nfs_operations_total",
        kind: Kind::Counter,
        labels: &OPERATION,
        help: "NFS operations that have ended, by name, with all that are not named below other",
        samples: |report| of_operations(report, |counts| counts.calls.into()),
    },
    Family {
        name: "alinas_csi_node_nfs_retransmissions_total",
        kind: Kind::Counter,
        labels: &OPERATION,
        help: "How often the kernel has sent a call again, after a lost connection or a timeout",
        samples: |report| of_operations(report, |counts| counts.retransmissions.into()),
    },
    Family {
        name: "alinas_csi_node_nfs_timeouts_total",
        kind: Kind::Counter,
        labels: &OPERATION,
        help: "How often all the time that the options timeo and retrans give was over before a call was answered",
        samples: |report| of_operations(report, |counts| counts.timeouts.into()),
    },
    Family {
        name: "alinas_csi_node_nfs_round_trip_seconds_total",
        kind: Kind::Counter,
        labels: &OPERATION,
        help: "From the sending of each call to its answer, all together; divided by the operations it is how long one takes",
        samples: |report| of_operations(report, |counts| counts.round_trips.into()),
    },
    Family {
        name: "alinas_csi_node_nfs_bytes_total",
        kind: Kind::Counter,
        labels: &["target", "volume", "direction"],
        help: "Bytes of files that came from the server (read) and went to it (written), without what the page cache answered",
        samples: |report| {
            let bytes = |account: &Account| {
                let series =
                    |direction: &str, bytes: u64| (labels(account, direction), bytes.into());
                [("read", account.counts.bytes_read), ("written", account.counts.bytes_written)]
                    .map(|(direction, bytes)| series(direction, bytes))
            };
            accounts(report).flat_map(bytes).collect()
        },
    },
];

const OPERATION: [&str; 3] = ["target", "volume", "operation"];

fn accounts(report: &NodeReport) -> impl Iterator<Item = &Account> {
    report.survey.iter().flat_map(|survey| &survey.accounts)
}

fn labels(account: &Account, last: &str) -> Vec<String> {
    vec![account.target.clone(), account.volume.clone(), last.to_owned()]
}

fn of_operations(report: &NodeReport, value: impl Fn(&OperationCounts) -> Value) -> Samples {
    let of_account = |account: &Account| {
        let operations = OPERATIONS.iter().zip(&account.counts.operations);
        operations
            .map(|(operation, counts)| (labels(account, operation), value(counts)))
            .collect::<Samples>()
    };
    accounts(report).flat_map(of_account).collect()
}

fn by_state(report: &NodeReport) -> Samples {
    let Some(Survey { census, .. }) = &report.survey else { return vec![] };
    let published = census.staged.iter().map(|volume| volume.published).sum::<u64>();
    [
        ("staged", census.staged.len() as u64),
        ("published", published),
        ("half-made", census.half_made),
        ("trying", report.tried),
    ]
    .into_iter()
    .map(|(state, count)| (vec![state.to_owned()], count.into()))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use tower::Layer;
    use tower::Service;

    use super::*;
    use crate::csi::NodeId;
    use crate::csi::NodeService;
    use crate::csi::request::tests::stage_message;
    use crate::host::mount_stats::NfsCounts;
    use crate::host::mount_stats::fake::FakeMountStats;
    use crate::node::Census;
    use crate::node::accounts::Volumes;
    use crate::node::census::StagedVolume;
    use crate::node::fake::World;
    use crate::proto::csi::NodeStageVolumeRequest;
    use crate::proto::csi::node_server::Node as _;
    use crate::runtime::histogram;

    fn took(seconds: u64) -> Histogram {
        let mut all = Histogram::new(&histogram::CALLS);
        all.observe(Duration::from_secs(seconds));
        all
    }

    fn example() -> NodeReport {
        let staged = |name: &str, published, device: &str| StagedVolume {
            staging_path: PathBuf::from(format!("/stage/{name}")),
            published,
            name: name.to_owned(),
            target: "nas".to_owned(),
            device: device.to_owned(),
        };
        let staged =
            vec![staged("pv-a", 2, "0:1"), staged("pv-b", 0, "0:2"), staged("pv-c", 1, "0:2")];
        let volumes = Volumes::of(&staged);
        let read = OperationCounts {
            calls: 10,
            retransmissions: 2,
            timeouts: 1,
            round_trips: Duration::from_millis(1500),
        };
        let mut counts = NfsCounts { bytes_read: 5, bytes_written: 6, ..NfsCounts::default() };
        counts.operations[0] = read;
        let counts = volumes.places().into_iter().map(|place| (place, counts.clone())).collect();
        let accounts = volumes.accounts(&counts);
        let census = Census { staged, half_made: 1 };
        NodeReport {
            calls: vec![(("NodeStageVolume", "OK"), took(2))],
            mounts: vec![(("4.0".to_owned(), "mounted"), took(500))],
            survey: Some(Survey { census, volumes, accounts }),
            tried: 3,
            troubles: vec![("AccessDenied", 4)],
        }
    }

    #[test]
    fn each_family_of_the_node_is_set_by_what_it_knows() {
        let text = text::of(&NODE_FAMILIES, &example());
        let call = "method=\"NodeStageVolume\",code=\"OK\"";
        let of = |volume: &str| format!("target=\"nas\",volume=\"{volume}\"");
        let alone = of("pv-a");
        let mount = "version=\"4.0\",outcome=\"mounted\"";
        for line in [
            "alinas_csi_node_mounts_up 1".to_owned(),
            format!("alinas_csi_node_call_duration_seconds_sum{{{call}}} 2.0"),
            format!("alinas_csi_node_call_duration_seconds_count{{{call}}} 1"),
            format!("alinas_csi_node_call_duration_seconds_bucket{{le=\"1.0\",{call}}} 0"),
            format!("alinas_csi_node_call_duration_seconds_bucket{{le=\"2.5\",{call}}} 1"),
            format!("alinas_csi_node_call_duration_seconds_bucket{{le=\"+Inf\",{call}}} 1"),
            format!("alinas_csi_node_mount_duration_seconds_bucket{{le=\"120.0\",{mount}}} 0"),
            format!("alinas_csi_node_mount_duration_seconds_bucket{{le=\"+Inf\",{mount}}} 1"),
            "alinas_csi_node_troubles_total{reason=\"AccessDenied\"} 4".to_owned(),
            "alinas_csi_node_mounts{state=\"staged\"} 3".to_owned(),
            "alinas_csi_node_mounts{state=\"published\"} 3".to_owned(),
            "alinas_csi_node_mounts{state=\"half-made\"} 1".to_owned(),
            "alinas_csi_node_mounts{state=\"trying\"} 3".to_owned(),
            "alinas_csi_node_volumes{named=\"yes\"} 3".to_owned(),
            "alinas_csi_node_volumes{named=\"no\"} 0".to_owned(),
            format!("alinas_csi_node_volume_pods{{{alone},counted=\"alone\"}} 2"),
            format!("alinas_csi_node_volume_pods{{{},counted=\"together\"}} 1", of("pv-c")),
            format!("alinas_csi_node_nfs_operations_total{{{alone},operation=\"READ\"}} 10"),
            format!(
                "alinas_csi_node_nfs_operations_total{{{},operation=\"READ\"}} 10",
                of("shared")
            ),
            format!("alinas_csi_node_nfs_operations_total{{{alone},operation=\"other\"}} 0"),
            format!("alinas_csi_node_nfs_retransmissions_total{{{alone},operation=\"READ\"}} 2"),
            format!("alinas_csi_node_nfs_timeouts_total{{{alone},operation=\"READ\"}} 1"),
            format!(
                "alinas_csi_node_nfs_round_trip_seconds_total{{{alone},operation=\"READ\"}} 1.5"
            ),
            format!("alinas_csi_node_nfs_bytes_total{{{alone},direction=\"read\"}} 5"),
            format!("alinas_csi_node_nfs_bytes_total{{{alone},direction=\"written\"}} 6"),
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
        for family in &NODE_FAMILIES {
            assert!(!family.samples(&example()).is_empty(), "{} is never set", family.name);
        }
    }

    /// By whoever knows it, and not by an example.
    #[tokio::test(start_paused = true)]
    async fn every_metric_of_the_node_is_in_a_scrape_once_a_volume_is_staged() {
        let driver = "alinas.csi.alibabacloud.com";
        let home = tempfile::tempdir().unwrap();
        let stage = home.path().canonicalize().unwrap();
        let stage = stage.join(format!("plugins/kubernetes.io/csi/{driver}/f0/globalmount"));
        std::fs::create_dir_all(&stage).unwrap();
        let world = World::default();
        let node = world.node();
        let service = NodeService::new(node.clone(), NodeId::parse("node-1").unwrap());
        let service = Arc::new(service);
        let calls = CallTimes::default();
        let mut timed = calls.layer(tower::service_fn(|request: hyper::Request<_>| {
            let (service, message) = (Arc::clone(&service), request.into_body());
            async move {
                let staged = service.node_stage_volume(tonic::Request::new(message)).await;
                staged.map(|_| hyper::Response::new(()))
            }
        }));
        let staging_target_path = stage.to_string_lossy().into_owned();
        let message = NodeStageVolumeRequest { staging_target_path, ..stage_message() };
        let call = hyper::Request::builder().uri("/csi.v1.Node/NodeStageVolume").body(message);
        timed.call(call.unwrap()).await.unwrap();
        let stats = FakeMountStats([(stage, NfsCounts::default())].into());
        let (stats, driver) = (Arc::new(stats), driver.to_owned());
        let scrape = NodeScrape { node, stats, driver, calls, troubles: Troubles::default() };
        let text = scrape.text().await;
        for family in &NODE_FAMILIES {
            let more = if family.kind == Kind::Histogram { "_count" } else { "" };
            let name = format!("{}{more}", family.name);
            let series = |line: &str| {
                line.strip_prefix(&*name).is_some_and(|rest| rest.starts_with([' ', '{']))
            };
            assert!(text.lines().any(series), "{name} is missing in {text}");
        }
        assert!(text.contains("outcome=\"mounted\"} 1\n"), "{text}");
        assert!(text.contains("volume=\"f0\",counted=\"alone\"} 0\n"), "{text}");
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_said_and_nothing_is_shown_of_it() {
        let text = text::of(&NODE_FAMILIES, &NodeReport { survey: None, ..example() });
        assert!(text.contains("\nalinas_csi_node_mounts_up 0\n"), "{text}");
        for name in ["mounts", "volumes", "volume_pods", "nfs_operations_total", "nfs_bytes_total"]
        {
            assert!(!text.contains(&format!("alinas_csi_node_{name}{{")), "{text}");
        }
    }

    #[test]
    fn names_of_the_node_are_ours_and_end_with_what_they_are() {
        for family in &NODE_FAMILIES {
            assert!(family.name.starts_with("alinas_csi_node_"), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter);
            assert_eq!(family.name.ends_with("_seconds"), family.kind == Kind::Histogram);
            assert!(!family.help.ends_with('.'), "{}", family.help);
        }
    }
}
