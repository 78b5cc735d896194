//! The one table of metrics: names, labels, meaning, and where each value comes from.
//!
//! Labels are the mount target and the local address of a tunnel, never a volume: a node has as many series as
//! it has mount targets, whatever runs on it.
//!
//! LONG: it is a table, and the document that is written from it.

use std::time::Duration;

use crate::app::metrics::controller_family::CONTROLLER_FAMILIES;
use crate::app::metrics::node_family::NODE_FAMILIES;
use crate::app::metrics::value::Samples;
use crate::app::metrics::value::Value;
use crate::app::metrics::value::only;
use crate::proto::tunnel::ListResponse;
use crate::proto::tunnel::ListenerStatus;
use crate::proto::tunnel::TlsSession;
use crate::proto::tunnel::TunnelHealth;
use crate::proto::tunnel::TunnelState;
use crate::tls::Weakness;
use crate::tunnel::convert::histogram_from_wire;
use crate::tunnel::convert::kind_word;
use crate::watchdog::health::Verdict;

/// A family: series of one name.
#[derive(Clone, Copy, Debug)]
pub struct Family<R: 'static = ListResponse> {
    /// As it is scraped, a counter's with `_total`.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// The labels of each series.
    pub labels: &'static [&'static str],
    /// What it says, as a sentence without its dot.
    pub help: &'static str,
    pub(super) samples: fn(&R) -> Samples,
}

/// Whether a value only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From the start of the process that counts.
    Counter,
    /// What it is now.
    Gauge,
    /// How many took how long, in seconds, from the start of the process that counts.
    Histogram,
}

const TUNNEL: [&str; 2] = ["target", "address"];
const STATES: [&str; 6] = ["reachable", "unreachable", "untried", "waiting", "closing", "unknown"];

/// Every metric that there is.
pub static FAMILIES: [Family; 24] = [
    Family {
        name: "alinas_csi_tunnel_up",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 where the tunnel process has answered within two seconds; where it has not, what it counts is left out",
        samples: |report| only(report.listeners_missing_because.is_empty()),
    },
    Family {
        name: "alinas_csi_tunnel_process_restarts_total",
        kind: Kind::Counter,
        labels: &["reason"],
        help: "How often the watchdog has started the tunnel process again: it ended by itself (ended), did not \
               answer and was killed (unanswering), or did not come to serve (not-ready)",
        samples: |report| {
            let restarts = report.restarts_by_reason.iter();
            restarts.map(|one| (vec![one.reason.clone()], one.count.into())).collect()
        },
    },
    Family {
        name: "alinas_csi_tunnel_repairs_total",
        kind: Kind::Counter,
        labels: &["repair"],
        help: "How often the watchdog has repaired broken tunnels: the tunnel process found a server anew (refresh), \
               or another one took its place, without a pause (replace)",
        samples: |report| {
            let repairs = report.repairs.iter();
            repairs.map(|one| (vec![one.repair.clone()], one.count.into())).collect()
        },
    },
    Family {
        name: "alinas_csi_tunnel_process_uptime_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "For how long the tunnel process has been running; 0 where none runs",
        samples: |report| only(report.process_seconds),
    },
    Family {
        name: "alinas_csi_tunnel_fips",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 where the tunnel process takes all cryptography of its sessions from a FIPS module",
        samples: |report| only(report.fips),
    },
    Family {
        name: "alinas_csi_tunnel_buffer_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Memory that connections have in use for bytes that are on their way; from 8 MiB on each further direction \
               gets a sixteenth of what the ones before have",
        samples: |report| only(report.buffer_bytes),
    },
    Family {
        name: "alinas_csi_tunnels",
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Tunnels by how the last attempt to reach the mount target went (reachable, unreachable, untried), \
               waiting for their local address, closing because no volume needs them, or unknown",
        samples: tunnels_by_state,
    },
    Family {
        name: "alinas_csi_tunnel_health",
        kind: Kind::Gauge,
        labels: &["target", "address", "state"],
        help: "1 for the state that the tunnel is in: the server has answered through it (healthy), answers nobody \
               (server-down), answers the watchdog and not the tunnel (broken), or nobody has looked (unknown)",
        samples: |report| {
            each(report, |tunnel| tunnel.health.as_ref().map(health).unwrap_or_default())
        },
    },
    Family {
        name: "alinas_csi_tunnel_last_round_trip_seconds",
        kind: Kind::Gauge,
        labels: &TUNNEL,
        help: "How long the last NFS NULL call to the server took that was answered; none is made while data flows",
        samples: |report| {
            of_tunnels(report, |tunnel| {
                let micros = tunnel.health.as_ref()?.round_trip_micros;
                (micros > 0).then(|| Duration::from_micros(micros))
            })
        },
    },
    Family {
        name: "alinas_csi_tunnel_round_trip_seconds",
        kind: Kind::Histogram,
        labels: &TUNNEL,
        help: "How long NFS NULL calls to the server took that were answered, by way of the tunnel process; none is made \
               while data flows",
        samples: |report| {
            of_tunnels(report, |tunnel| {
                tunnel.health.as_ref()?.round_trips.as_ref().map(histogram_from_wire)
            })
        },
    },
    Family {
        name: "alinas_csi_tunnel_volumes",
        kind: Kind::Gauge,
        labels: &TUNNEL,
        help: "Stagings that hold the tunnel open",
        samples: |report| of_tunnels(report, |tunnel| Some(tunnel.users.len() as u64)),
    },
    Family {
        name: "alinas_csi_tunnel_bytes_total",
        kind: Kind::Counter,
        labels: &["target", "address", "direction"],
        help: "Bytes of NFS that were carried (to_server, to_kernel), without what TLS adds",
        samples: |report| {
            each(report, |tunnel| {
                let Some(listener) = &tunnel.listener else { return vec![] };
                vec![
                    (vec!["to_server".to_owned()], listener.bytes_to_server.into()),
                    (vec!["to_kernel".to_owned()], listener.bytes_to_kernel.into()),
                ]
            })
        },
    },
    Family {
        name: "alinas_csi_tunnel_open_connections",
        kind: Kind::Gauge,
        labels: &TUNNEL,
        help: "Connections of the kernel that are open",
        samples: |report| of_listeners(report, |listener| listener.connections_open),
    },
    Family {
        name: "alinas_csi_tunnel_connections_total",
        kind: Kind::Counter,
        labels: &TUNNEL,
        help: "Connections of the kernel that were let in",
        samples: |report| of_listeners(report, |listener| listener.connections_total),
    },
    Family {
        name: "alinas_csi_tunnel_refused_connections_total",
        kind: Kind::Counter,
        labels: &TUNNEL,
        help: "Connections of local processes that were refused, because only the kernel may connect",
        samples: |report| of_listeners(report, |listener| listener.refused_intruders),
    },
    Family {
        name: "alinas_csi_tunnel_undecided_connections_total",
        kind: Kind::Counter,
        labels: &TUNNEL,
        help: "Connections that were refused because it could not be found out in two seconds who connects; the kernel comes \
               again",
        samples: |report| of_listeners(report, |listener| listener.refused_undecided),
    },
    Family {
        name: "alinas_csi_tunnel_handshakes_total",
        kind: Kind::Counter,
        labels: &["target", "address", "version", "cipher", "library", "resumed"],
        help: "TLS sessions that came about for a connection of the kernel, by what was agreed on",
        samples: |report| {
            each(report, |tunnel| tunnel.listener.iter().flat_map(handshakes).collect())
        },
    },
    Family {
        name: "alinas_csi_tunnel_handshake_duration_seconds",
        kind: Kind::Histogram,
        labels: &TUNNEL,
        help: "How long the TLS handshakes of those sessions took, without name, connection and revocation",
        samples: |report| {
            of_tunnels(report, |tunnel| {
                tunnel.listener.as_ref()?.handshake_times.as_ref().map(histogram_from_wire)
            })
        },
    },
    Family {
        name: "alinas_csi_tunnel_address_changes_total",
        kind: Kind::Counter,
        labels: &TUNNEL,
        help: "How often a session for the kernel began at another address than the one before: the mount target's name \
               leads elsewhere, or one of its addresses did not answer",
        samples: |report| of_listeners(report, |listener| listener.address_changes),
    },
    Family {
        name: "alinas_csi_tunnel_dial_failures_total",
        kind: Kind::Counter,
        labels: &["target", "address", "kind"],
        help: "Attempts to reach the mount target that led to no session, by kind, as in connection-refused or \
               certificate-expired",
        samples: |report| {
            each(report, |tunnel| tunnel.listener.iter().flat_map(failures).collect())
        },
    },
    Family {
        name: "alinas_csi_tunnel_session_weak",
        kind: Kind::Gauge,
        labels: &["target", "address", "reason"],
        help: "1 where the last session is weaker than it could be: its server's certificate is not checked \
               (unverified), or not its name (any-name), its key exchange has no forward secrecy (static-rsa), or \
               rustls was refused (openssl-fallback)",
        samples: |report| {
            each(report, |tunnel| session(tunnel).map(weaknesses).unwrap_or_default())
        },
    },
    Family {
        name: "alinas_csi_tunnel_last_handshake_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &TUNNEL,
        help: "When the last session began, seconds since the epoch",
        samples: |report| of_sessions(report, |session| session.since),
    },
    Family {
        name: "alinas_csi_tunnel_server_certificate_not_after_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &TUNNEL,
        help: "When the first certificate of the server's chain ends, seconds since the epoch",
        samples: |report| of_sessions(report, |session| session.certificate_not_after),
    },
    Family {
        name: "alinas_csi_tunnel_client_certificate_not_after_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &TUNNEL,
        help: "When our own certificate ends, seconds since the epoch; left out where no server has asked for one",
        samples: |report| of_sessions(report, |session| session.client_certificate_not_after),
    },
];

impl<R> Family<R> {
    /// Its series at a moment.
    pub(super) fn samples(&self, report: &R) -> Samples {
        (self.samples)(report)
    }
}

/// The document about all of them.
#[must_use]
pub fn page() -> String {
    let mut page = PREFACE.to_owned();
    rows(&mut page, &FAMILIES);
    page += EPILOGUE;
    page += NODE_PREFACE;
    rows(&mut page, &NODE_FAMILIES);
    page += NODE_EPILOGUE;
    page += CONTROLLER_PREFACE;
    rows(&mut page, &CONTROLLER_FAMILIES);
    page + CONTROLLER_EPILOGUE
}

fn rows<R>(page: &mut String, families: &[Family<R>]) {
    for Family { name, kind, labels, help, .. } in families {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        *page += &format!("| `{name}` | {kind} | {labels} | {help}. |\n");
    }
}

const PREFACE: &str = "\
# Metrics

The watchdog serves metrics of its tunnels with `--metrics-listen ADDRESS:PORT` (`ALINAS_CSI_METRICS_LISTEN`; in the \
chart `metrics.enabled`), at `/metrics`, in the text form of OpenMetrics. Without it nothing listens. There is neither \
encryption nor a password: whoever reaches the address can read which mount targets the node uses and how much.

At a scrape the watchdog asks the tunnel process, for at most two seconds. Counters begin at 0 with each tunnel \
process, those of restarts with each watchdog. `target` is the mount target and `address` the local address that the \
kernel connects to; no label names a volume. Which volumes use a tunnel is shown by `alinas-csi status`.

This page is written from the table in the code: `alinas-csi explain --metrics > docs/metrics.md`.

| name | kind | labels | meaning |
| --- | --- | --- | --- |
";

const EPILOGUE: &str = "
Worth an alert:

    alinas_csi_tunnel_up == 0                                             # mounts of the node stand still, or soon will
    alinas_csi_tunnels{state=\"unreachable\"} > 0                           # a mount target does not answer
    alinas_csi_tunnel_health{state=\"server-down\"} == 1                   # the same, also where nobody uses it now
    alinas_csi_tunnel_health{state=\"broken\"} == 1                        # our fault; it is being repaired
    alinas_csi_tunnel_session_weak == 1                                   # somebody in the way could read, now or later
    increase(alinas_csi_tunnel_refused_connections_total[1h]) > 0         # a process tried to get into a file system
    alinas_csi_tunnel_server_certificate_not_after_timestamp_seconds - time() < 7 * 86400
";

const NODE_PREFACE: &str = "
## The node plugin

The role `node` serves its own with `--metrics-listen ADDRESS:PORT`, in the chart with `metrics.enabled`, too, at the port \
`metrics.pluginPort`. Counters begin at 0 with each process. `method` is a call of CSI and `code` the gRPC code that it was \
answered with.

What is mounted, and what the kernel's NFS client counts of it, is read from `/proc/self/mountinfo` and `/proc/self/mountstats` at a \
scrape, for at most two seconds. That asks no server and touches no mount, so a server that is dead delays nothing. \
`volume` is the PersistentVolume; of a volume at no pod it is its id. The kernel counts for a superblock: volumes that are \
directories of one mount target, mounted with the same options, have one together and are counted as the volume `shared`. \
Which volumes these are is said by `alinas_csi_node_volume_pods`. The option `nosharecache` gives a volume a superblock of \
its own, and caches of its own with it.

| name | kind | labels | meaning |
| --- | --- | --- | --- |
";

const NODE_EPILOGUE: &str = "
Worth an alert:

    histogram_quantile(0.9, sum by (method, le) (rate(alinas_csi_node_call_duration_seconds_bucket[15m]))) > 30   # pods wait
    increase(alinas_csi_node_troubles_total[10m]) > 2                    # pods wait: events.md says for what, by the reason
    increase(alinas_csi_node_nfs_retransmissions_total[15m]) > 100         # calls are lost on the way, or answered late
    min_over_time(alinas_csi_node_mounts{state=\"half-made\"}[10m]) > 0    # the node plugin ended in the middle of a mount
";

const CONTROLLER_PREFACE: &str = "
## The controller

It serves its own with `--metrics-listen ADDRESS:PORT`, in the chart with `controller.metrics.enabled`. `target` is a mount \
target that PersistentVolumes of this driver use, watched with `--watch-mount-targets` (`controller.watchMountTargets`); the states are \
those of the events in [events.md](events.md). Counters begin at 0 with each process. Of several replicas the one that leads \
is called, and each counts for itself.

Quotas are asked for every five minutes where the controller serves metrics, watches mount targets and has the API \
of NAS (`controller.nas`). `volume` is the PersistentVolume. A volume is found by the domain of its server and its \
path, so not by a private name, nor behind an access point. The service counts what a directory holds some time \
after it was written.

| name | kind | labels | meaning |
| --- | --- | --- | --- |
";

const CONTROLLER_EPILOGUE: &str = "
Worth an alert:

    alinas_csi_controller_mount_target_state{state!~\"fine|doubtful|unknown\"} == 1   # volumes wait, or soon will
    alinas_csi_controller_mount_target_certificate_not_after_timestamp_seconds - time() < 7 * 86400
    rate(alinas_csi_controller_nas_calls_total{outcome=~\"throttled|crowded\"}[15m]) > 0    # claims wait for the API's limits
    increase(alinas_csi_controller_trash_failures_total[1h]) > 3                     # space is not given back
    increase(alinas_csi_controller_events_total{outcome=\"dropped\"}[1h]) > 0        # the API server does not take events
    alinas_csi_controller_quota_used_bytes / alinas_csi_controller_quota_limit_bytes > 0.9   # writes will soon fail
";

fn each(report: &ListResponse, samples: impl Fn(&TunnelState) -> Samples) -> Samples {
    let of = |tunnel: &TunnelState| {
        let host = tunnel.spec.as_ref().map(|spec| spec.host.clone()).unwrap_or_default();
        let address = tunnel.endpoint.as_ref().map(|endpoint| endpoint.address.clone());
        let own = [host, address.unwrap_or_default()];
        let labelled = move |(more, value): (Vec<String>, Value)| {
            (own.iter().cloned().chain(more).collect(), value)
        };
        samples(tunnel).into_iter().map(labelled).collect::<Samples>()
    };
    report.tunnels.iter().flat_map(of).collect()
}

fn of_tunnels<V: Into<Value>>(
    report: &ListResponse,
    value: impl Fn(&TunnelState) -> Option<V>,
) -> Samples {
    each(report, |tunnel| value(tunnel).into_iter().map(|value| (vec![], value.into())).collect())
}

fn of_listeners(report: &ListResponse, value: impl Fn(&ListenerStatus) -> u64) -> Samples {
    of_tunnels(report, |tunnel| tunnel.listener.as_ref().map(&value))
}

/// A time of 0 is none.
fn of_sessions(report: &ListResponse, time: impl Fn(&TlsSession) -> i64) -> Samples {
    of_tunnels(report, |tunnel| {
        session(tunnel)
            .and_then(|session| u64::try_from(time(session)).ok())
            .filter(|time| *time > 0)
    })
}

fn session(tunnel: &TunnelState) -> Option<&TlsSession> {
    tunnel.listener.as_ref()?.session.as_ref()
}

fn tunnels_by_state(report: &ListResponse) -> Samples {
    let state = |tunnel: &TunnelState| match &tunnel.listener {
        _ if tunnel.life == "closing" => "closing".to_owned(),
        Some(listener) => listener.state.clone(),
        None => "unknown".to_owned(),
    };
    let states: Vec<_> = report.tunnels.iter().map(state).collect();
    let count = |word: &str| states.iter().filter(|state| *state == word).count() as u64;
    STATES.into_iter().map(|word| (vec![word.to_owned()], count(word).into())).collect()
}

fn health(health: &TunnelHealth) -> Samples {
    let states = Verdict::ALL.into_iter().map(Verdict::word);
    states.map(|word| (vec![word.to_owned()], (health.state == word).into())).collect()
}

fn handshakes(listener: &ListenerStatus) -> Samples {
    let sample = |handshake: &crate::proto::tunnel::HandshakeCount| {
        let labels = vec![
            handshake.version.clone(),
            handshake.cipher_suite.clone(),
            handshake.library.clone(),
            handshake.resumed.to_string(),
        ];
        (labels, handshake.count.into())
    };
    listener.handshakes.iter().map(sample).collect()
}

fn failures(listener: &ListenerStatus) -> Samples {
    let failures = listener.dial_failures.iter();
    failures.map(|failure| (vec![kind_word(failure.kind())], failure.count.into())).collect()
}

fn weaknesses(session: &TlsSession) -> Samples {
    let is_there = |weakness: Weakness| session.weak.iter().any(|word| word == weakness.word());
    Weakness::ALL
        .into_iter()
        .map(|weakness| (vec![weakness.word().to_owned()], is_there(weakness).into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_and_counters_end_as_counters_do() {
        for family in &FAMILIES {
            assert!(family.name.starts_with("alinas_csi_tunnel"), "{}", family.name);
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{}",
                family.name
            );
            assert!(!family.help.ends_with('.'), "{}", family.help);
            assert!(!family.labels.iter().any(|label| label.contains("volume")), "{}", family.name);
        }
    }

    /// Renewed by `alinas-csi explain --metrics > docs/metrics.md`.
    #[test]
    fn the_document_about_metrics_is_what_the_table_says() {
        let committed = include_str!("../../../docs/metrics.md");
        assert!(committed == page(), "docs/metrics.md is old; renew it (see above)");
    }
}
