//! The table of the node plugin's metrics.
//!
//! What it says of calls and mounts is counted where they are made; what is mounted is read from the kernel at a scrape.

use async_trait::async_trait;

use crate::app::call_times::CallTimes;
use crate::app::metrics::Scraped;
use crate::app::metrics::family::Family;
use crate::app::metrics::family::Kind;
use crate::app::metrics::text;
use crate::app::metrics::value::Samples;
use crate::app::metrics::value::only;
use crate::node::Census;
use crate::node::Node;
use crate::runtime::Histogram;

/// What the node plugin knows.
#[derive(Clone, Debug, Default)]
pub struct NodeReport {
    /// How long calls took, by method and code.
    pub calls: Vec<((&'static str, &'static str), Histogram)>,
    /// How long mounts took, by version and outcome.
    pub mounts: Vec<((String, &'static str), Histogram)>,
    /// What is mounted; none where the kernel has not said so in time.
    pub census: Option<Census>,
    /// Mounts that are tried in the background.
    pub tried: u64,
}

/// Where a node plugin is scraped.
#[derive(Debug)]
pub struct NodeScrape {
    /// The node.
    pub node: Node,
    /// The name of the driver.
    pub driver: String,
    /// How long calls took.
    pub calls: CallTimes,
}

#[async_trait]
impl Scraped for NodeScrape {
    async fn text(&self) -> String {
        let report = NodeReport {
            calls: self.calls.all(),
            mounts: self.node.mount_times().all(),
            census: self.node.census(&self.driver).await,
            tried: self.node.mounts_being_tried() as u64,
        };
        text::of(&NODE_FAMILIES, &report)
    }
}

/// Every metric of the node plugin.
pub static NODE_FAMILIES: [Family<NodeReport>; 4] = [
    Family {
        name: "alinas_csi_node_mounts_up",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 where the kernel has shown its mounts within two seconds; where it has not, what is read from it is \
               left out",
        samples: |report| only(report.census.is_some()),
    },
    Family {
        name: "alinas_csi_node_call_duration_seconds",
        kind: Kind::Histogram,
        labels: &["method", "code"],
        help: "How long calls of CSI took, by method and by the code that they were answered with; CANCELLED where the \
               caller hung up",
        samples: |report| {
            let calls = report.calls.iter().cloned();
            calls
                .map(|((method, code), all)| (vec![method.to_owned(), code.to_owned()], all.into()))
                .collect()
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
];

fn by_state(report: &NodeReport) -> Samples {
    let Some(census) = &report.census else { return vec![] };
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

    use super::*;
    use crate::node::census::StagedVolume;
    use crate::runtime::histogram;

    fn took(seconds: u64) -> Histogram {
        let mut all = Histogram::new(&histogram::CALLS);
        all.observe(Duration::from_secs(seconds));
        all
    }

    fn example() -> NodeReport {
        let staged = |staging_path: &str, published| StagedVolume {
            staging_path: PathBuf::from(staging_path),
            published,
        };
        NodeReport {
            calls: vec![(("NodeStageVolume", "OK"), took(2))],
            mounts: vec![(("4.0".to_owned(), "mounted"), took(500))],
            census: Some(Census { staged: vec![staged("/a", 2), staged("/b", 0)], half_made: 1 }),
            tried: 3,
        }
    }

    #[test]
    fn each_family_of_the_node_is_set_by_what_it_knows() {
        let text = text::of(&NODE_FAMILIES, &example());
        let call = "method=\"NodeStageVolume\",code=\"OK\"";
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
            "alinas_csi_node_mounts{state=\"staged\"} 2".to_owned(),
            "alinas_csi_node_mounts{state=\"published\"} 2".to_owned(),
            "alinas_csi_node_mounts{state=\"half-made\"} 1".to_owned(),
            "alinas_csi_node_mounts{state=\"trying\"} 3".to_owned(),
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
        for family in &NODE_FAMILIES {
            assert!(!family.samples(&example()).is_empty(), "{} is never set", family.name);
        }
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_said_and_nothing_is_shown_of_it() {
        let text = text::of(&NODE_FAMILIES, &NodeReport { census: None, ..example() });
        assert!(text.contains("\nalinas_csi_node_mounts_up 0\n"), "{text}");
        assert!(!text.contains("alinas_csi_node_mounts{"), "{text}");
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
