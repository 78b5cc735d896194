//! What all nodes have said, as one table, or as one answer for machines that has what each node says.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::app::plugin::cluster::Seen;
use crate::app::plugin::names::Names;
use crate::app::plugin::pods::NodePod;
use crate::app::status::report::Report;
use crate::app::status::report::date;
use crate::app::status::table;
use crate::app::status::table::Shown;
use crate::app::status::watch::Last;

/// Which volumes are to be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// An id, or the name of a PersistentVolume.
    pub(super) volume: Option<String>,
    /// A claim, with or without its namespace.
    pub(super) claim: Option<String>,
}

/// The nodes at one moment.
#[derive(Debug)]
pub(super) struct View {
    now: i64,
    nodes: Vec<Node>,
    notices: Vec<String>,
    shown: Shown,
    is_filtered: bool,
}

#[derive(Debug)]
struct Node {
    pod: NodePod,
    /// For machines, with all that the node says, and for people.
    status: Result<(Value, Report), String>,
}

/// What each node had carried at the last look.
pub(super) type Lasts = HashMap<String, Last>;

impl View {
    /// Puts the answers together. With `lasts` also what was carried since the last look.
    pub(super) fn of(
        seen: Vec<Seen>,
        (names, notices): (&Names, &[String]),
        filter: &Filter,
        shown: Shown,
        mut lasts: Option<&mut Lasts>,
        now: i64,
    ) -> Self {
        let nodes = seen.into_iter().map(|Seen { pod, status }| {
            let last = lasts.as_mut().map(|lasts| lasts.entry(pod.full_name()).or_default());
            let status = status.and_then(|status| read(status, &pod, names, filter, last));
            Node { pod, status }
        });
        let is_filtered = filter.volume.is_some() || filter.claim.is_some();
        Self { now, nodes: nodes.collect(), notices: notices.to_vec(), shown, is_filtered }
    }

    /// Whether every node has answered.
    pub(super) fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| node.status.is_ok())
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|Node { pod, status }| {
            json!({
                "node": pod.node,
                "pod": pod.full_name(),
                "problem": status.as_ref().err(),
                "status": status.as_ref().ok().map(|(status, _)| status),
            })
        });
        json!({
            "time": date(self.now),
            "notices": self.notices,
            "nodes": nodes.collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let reports =
            || self.nodes.iter().filter_map(|node| Some((node, &node.status.as_ref().ok()?.1)));
        let mut rows = vec![self.shown.heads()];
        for Node { pod, status } in &self.nodes {
            match status {
                Ok((_, report)) => rows.extend(
                    report.tunnels.iter().flat_map(|tunnel| self.shown.rows_of(&pod.node, tunnel)),
                ),
                Err(why) => rows.push(self.shown.row_without_answer(&pod.node, why)),
            }
        }
        let volumes: usize = reports()
            .flat_map(|(_, report)| &report.tunnels)
            .map(|tunnel| tunnel.volumes.len())
            .sum();
        let (asked, answered) = (self.nodes.len(), reports().count());
        let mut text = format!(
            "{answered} of {} answered; {}\n",
            counted(asked, "node"),
            counted(volumes, "volume")
        );
        if rows.len() > 1 {
            text += "\n";
            text += &table::aligned(&rows);
        }
        let below = self.below(reports());
        if below.is_empty() { text } else { text + "\n" + &below }
    }

    fn below<'a>(&self, reports: impl Iterator<Item = (&'a Node, &'a Report)>) -> String {
        let (mut text, mut idle) = (String::new(), Vec::new());
        for (node, report) in reports {
            for remark in table::remarks(report) {
                text += &format!("{}: {remark}\n", table::clean(&node.pod.node));
            }
            if report.tunnels.is_empty() && !self.is_filtered {
                idle.push(table::clean(&node.pod.node));
            }
        }
        if !idle.is_empty() {
            text += &format!("no tunnels: {}\n", idle.join(", "));
        }
        for notice in &self.notices {
            text += &format!("NOTE: {}\n", table::clean(notice));
        }
        text
    }
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn read(
    mut status: Value,
    pod: &NodePod,
    names: &Names,
    filter: &Filter,
    last: Option<&mut Last>,
) -> Result<(Value, Report), String> {
    for tunnel in elements(&mut status, "/tunnels") {
        for volume in elements(tunnel, "/volumes") {
            names.add_to(volume, pod);
        }
    }
    filter.apply(&mut status);
    let mut report: Report = serde_json::from_value(status.clone())
        .map_err(|error| format!("its answer is no status: {error}"))?;
    if let Some(last) = last {
        last.compare(&mut report, Instant::now());
        for (said, tunnel) in elements(&mut status, "/tunnels").zip(&report.tunnels) {
            said["throughput"] = json!(tunnel.throughput);
        }
    }
    Ok((status, report))
}

impl Filter {
    fn apply(&self, status: &mut Value) {
        if self.volume.is_none() && self.claim.is_none() {
            return;
        }
        let Some(tunnels) = status.pointer_mut("/tunnels").and_then(Value::as_array_mut) else {
            return;
        };
        tunnels.retain_mut(|tunnel| {
            let volumes = tunnel.pointer_mut("/volumes").and_then(Value::as_array_mut);
            volumes.is_some_and(|volumes| {
                volumes.retain(|volume| self.takes(volume));
                !volumes.is_empty()
            })
        });
    }

    fn takes(&self, volume: &Value) -> bool {
        let is = |key: &str, asked: &str| volume[key].as_str() == Some(asked);
        let is_volume = |asked: &String| is("id", asked) || is("persistentVolume", asked);
        let is_claim = |asked: &String| {
            is("claim", asked)
                || volume["claim"].as_str().is_some_and(|claim| {
                    claim.split_once('/').is_some_and(|(_, name)| name == asked)
                })
        };
        self.volume.as_ref().is_none_or(is_volume) && self.claim.as_ref().is_none_or(is_claim)
    }
}

fn elements<'a>(of: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    of.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten()
}
