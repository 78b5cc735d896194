//! The answer as it is written for machines: names that stay, times in RFC 3339, no value left out.
//!
//! It is read, too, by the plugin of kubectl, which may be of another release: what it does not know it passes over, and
//! what is not there is nothing.
//!
//! LONG: a quarter of it is the example that the tests of several tables share.

use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;

use crate::proto::tunnel as wire;
use crate::tunnel::convert::kind_word;

const DAY: i64 = 24 * 60 * 60;

/// What runs on a node.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Report {
    /// When it was asked.
    pub(in crate::app) time: String,
    pub(in crate::app) process: Process,
    /// Why the tunnels are shown without what goes through them.
    pub(in crate::app) problem: Option<String>,
    /// What else an operator should know.
    pub(in crate::app) notices: Vec<String>,
    pub(in crate::app) tunnels: Vec<Tunnel>,
    /// There was a look before, so that people are shown what is carried now.
    #[serde(skip)]
    pub(in crate::app) has_rates: bool,
}

/// The tunnel process.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Process {
    pub(in crate::app) state: String,
    /// It takes all cryptography of its sessions from a FIPS module.
    pub(in crate::app) fips: bool,
    /// Memory of connections for bytes that are on their way.
    pub(in crate::app) buffer_bytes: u64,
    pub(in crate::app) id: Option<u32>,
    pub(in crate::app) running_for_seconds: u64,
    pub(in crate::app) restarts: u64,
    pub(in crate::app) restarts_by_reason: Vec<Restarts>,
    /// Of broken tunnels.
    pub(in crate::app) repairs: Vec<Repairs>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::app) struct Restarts {
    pub(in crate::app) reason: String,
    pub(in crate::app) count: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::app) struct Repairs {
    pub(in crate::app) repair: String,
    pub(in crate::app) count: u64,
}

/// Whether the server answers through the tunnel.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Health {
    /// "unknown", "healthy", "server-down", "broken".
    pub(in crate::app) state: String,
    pub(in crate::app) for_seconds: u64,
    pub(in crate::app) round_trip_micros: Option<u64>,
    pub(in crate::app) why: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Tunnel {
    pub(in crate::app) volumes: Vec<Volume>,
    pub(in crate::app) mount_target: String,
    /// 0 where it is found out.
    pub(in crate::app) mount_target_port: u32,
    pub(in crate::app) server_name: String,
    pub(in crate::app) local_address: String,
    pub(in crate::app) remote_address: Option<String>,
    /// "open", or "closing" once no volume needs it.
    pub(in crate::app) life: String,
    /// "waiting", "untried", "reachable", "unreachable"; none where nobody knows.
    pub(in crate::app) state: Option<String>,
    /// None where the watchdog is of a release that does not look.
    pub(in crate::app) health: Option<Health>,
    pub(in crate::app) session: Option<Session>,
    /// None where another release does not say it.
    pub(in crate::app) connections: Option<Connections>,
    /// As the connections.
    pub(in crate::app) bytes: Option<Bytes>,
    /// None where nobody looked before.
    pub(in crate::app) throughput: Option<Throughput>,
    pub(in crate::app) sessions_resumed: u64,
    pub(in crate::app) dial_failures: Vec<Failures>,
    pub(in crate::app) last_error: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Volume {
    pub(in crate::app) id: String,
    /// The claim, as namespace/name; on a node where the volume was made for one.
    pub(in crate::app) claim: Option<String>,
    /// Known to the plugin of kubectl alone, like the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::app) persistent_volume: Option<String>,
    /// Pods on the node that use the claim, as namespace/name; where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::app) pods: Option<Vec<String>>,
    pub(in crate::app) staging_path: String,
    pub(in crate::app) source: String,
    pub(in crate::app) options: String,
}

/// The last handshake.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Session {
    pub(in crate::app) version: String,
    pub(in crate::app) cipher_suite: String,
    pub(in crate::app) key_exchange: Option<String>,
    pub(in crate::app) library: String,
    pub(in crate::app) resumed: bool,
    pub(in crate::app) since: Option<String>,
    pub(in crate::app) since_seconds: i64,
    pub(in crate::app) weak: Vec<String>,
    pub(in crate::app) warnings: Vec<String>,
    pub(in crate::app) revocation: Option<String>,
    pub(in crate::app) certificate: Option<Certificate>,
    pub(in crate::app) client_certificate: Option<Certificate>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Certificate {
    pub(in crate::app) subject: String,
    pub(in crate::app) not_after: String,
    /// Whole days; negative once it has ended.
    pub(in crate::app) days_left: i64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::app) struct Connections {
    pub(in crate::app) open: u64,
    pub(in crate::app) total: u64,
    /// Of local processes that are not the kernel.
    pub(in crate::app) refused: u64,
    /// Refused without knowing whose they were.
    pub(in crate::app) undecided: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Bytes {
    pub(in crate::app) to_server: u64,
    pub(in crate::app) to_kernel: u64,
}

/// Bytes a second since the last look.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::app) struct Throughput {
    pub(in crate::app) to_server_per_second: u64,
    pub(in crate::app) to_kernel_per_second: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in crate::app) struct Failures {
    pub(in crate::app) kind: String,
    pub(in crate::app) count: u64,
}

impl Report {
    /// From the watchdog's answer, at a moment in seconds since the epoch.
    pub(in crate::app) fn read(listed: wire::ListResponse, now: i64) -> Self {
        let restarts = listed.restarts_by_reason.into_iter();
        Self {
            time: date(now),
            process: Process {
                state: listed.process,
                fips: listed.fips,
                buffer_bytes: listed.buffer_bytes,
                id: (listed.process_id != 0).then_some(listed.process_id),
                running_for_seconds: listed.process_seconds,
                restarts: listed.restarts,
                restarts_by_reason: restarts
                    .map(|wire::RestartCount { reason, count }| Restarts { reason, count })
                    .collect(),
                repairs: listed
                    .repairs
                    .into_iter()
                    .map(|wire::RepairCount { repair, count }| Repairs { repair, count })
                    .collect(),
            },
            problem: some(listed.listeners_missing_because),
            notices: listed.notices,
            tunnels: listed.tunnels.into_iter().map(|tunnel| Tunnel::read(tunnel, now)).collect(),
            has_rates: false,
        }
    }
}

impl Report {
    /// Says whose the volumes are, by their ids.
    pub(in crate::app) fn name(mut self, claims: &HashMap<String, String>) -> Self {
        let volumes = self.tunnels.iter_mut().flat_map(|tunnel| &mut tunnel.volumes);
        volumes.for_each(|volume| volume.claim = claims.get(&volume.id).cloned());
        self
    }
}

impl Tunnel {
    fn read(tunnel: wire::TunnelState, now: i64) -> Self {
        let spec = tunnel.spec.unwrap_or_default();
        let endpoint = tunnel.endpoint.unwrap_or_default();
        let listener = tunnel.listener.unwrap_or_default();
        let failures = listener.dial_failures.iter();
        Self {
            volumes: tunnel.users.into_iter().map(Volume::from).collect(),
            mount_target: spec.host,
            mount_target_port: spec.port,
            server_name: spec.server_name,
            local_address: format!("{}:{}", endpoint.address, endpoint.port),
            remote_address: some(listener.remote_address),
            life: tunnel.life,
            state: some(listener.state),
            health: tunnel.health.map(Health::from),
            session: listener.session.map(|session| Session::read(session, now)),
            connections: Some(Connections {
                open: listener.connections_open,
                total: listener.connections_total,
                refused: listener.refused_intruders,
                undecided: listener.refused_undecided,
            }),
            bytes: Some(Bytes {
                to_server: listener.bytes_to_server,
                to_kernel: listener.bytes_to_kernel,
            }),
            throughput: None,
            sessions_resumed: listener.sessions_resumed,
            dial_failures: failures
                .map(|failure| Failures { kind: kind_word(failure.kind()), count: failure.count })
                .collect(),
            last_error: some(listener.last_error),
        }
    }
}

impl From<wire::TunnelUser> for Volume {
    fn from(user: wire::TunnelUser) -> Self {
        let wire::TunnelUser { volume_id, staging_path, source, options } = user;
        Self { id: volume_id, staging_path, source, options, ..Self::default() }
    }
}

impl From<wire::TunnelHealth> for Health {
    fn from(health: wire::TunnelHealth) -> Self {
        let wire::TunnelHealth { state, seconds, round_trip_micros, why, round_trips: _ } = health;
        let round_trip_micros = (round_trip_micros != 0).then_some(round_trip_micros);
        Self { state, for_seconds: seconds, round_trip_micros, why: some(why) }
    }
}

impl Session {
    fn read(session: wire::TlsSession, now: i64) -> Self {
        let certificate = |subject, not_after| Certificate::read(subject, not_after, now);
        Self {
            version: session.version,
            cipher_suite: session.cipher_suite,
            key_exchange: some(session.key_exchange),
            library: session.library,
            resumed: session.resumed,
            since: (session.since != 0).then(|| date(session.since)),
            since_seconds: if session.since == 0 { 0 } else { (now - session.since).max(0) },
            weak: session.weak,
            warnings: session.warnings,
            revocation: some(session.revocation),
            certificate: certificate(session.certificate_subject, session.certificate_not_after),
            client_certificate: certificate(
                session.client_certificate_subject,
                session.client_certificate_not_after,
            ),
        }
    }
}

impl Certificate {
    fn read(subject: String, not_after: i64, now: i64) -> Option<Self> {
        let days_left = (not_after - now).div_euclid(DAY);
        (not_after != 0).then(|| Self { subject, not_after: date(not_after), days_left })
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// In RFC 3339.
pub(in crate::app) fn date(seconds_since_epoch: i64) -> String {
    prost_types::Timestamp { seconds: seconds_since_epoch, nanos: 0 }.to_string()
}

/// The moment of [`example`].
#[cfg(test)]
pub(in crate::app) const EXAMPLE_NOW: i64 = 1_800_000_000;

/// A node with a weak tunnel of two volumes, and one that is not reached.
#[cfg(test)]
pub(in crate::app) fn example() -> wire::ListResponse {
    let spec = |host: &str| {
        let (host, server_name) = (host.to_owned(), host.to_owned());
        Some(wire::TunnelSpec { host, server_name, port: 0, policy: None })
    };
    let user = |volume: &str| wire::TunnelUser {
        volume_id: volume.to_owned(),
        staging_path: format!("/stage/{volume}"),
        source: "nas:/".to_owned(),
        options: "vers=3".to_owned(),
    };
    let endpoint =
        |address: &str| Some(wire::LocalEndpoint { address: address.to_owned(), port: 12049 });
    let session = wire::TlsSession {
        version: "TLSv1.2".to_owned(),
        cipher_suite: "TLS_RSA_WITH_AES_256_GCM_SHA384".to_owned(),
        key_exchange: "static RSA".to_owned(),
        library: "openssl".to_owned(),
        certificate_subject: "CN=*.nas.example.com".to_owned(),
        certificate_not_after: EXAMPLE_NOW + 12 * DAY + 5,
        warnings: vec!["WEAKER: static RSA".to_owned()],
        weak: vec!["static-rsa".to_owned()],
        since: EXAMPLE_NOW - 7200,
        ..wire::TlsSession::default()
    };
    let times = |micros: u64| wire::Histogram {
        buckets: vec![wire::HistogramBucket {
            bound_micros: 5000,
            count: u64::from(micros <= 5000),
        }],
        longer: u64::from(micros > 5000),
        sum_micros: micros,
    };
    let weak = wire::ListenerStatus {
        connections_open: 1,
        connections_total: 4,
        refused_intruders: 2,
        bytes_to_server: 3 << 20,
        bytes_to_kernel: 12,
        session: Some(session),
        remote_address: "192.0.2.7:2049".to_owned(),
        state: "reachable".to_owned(),
        handshake_times: Some(times(7000)),
        address_changes: 3,
        ..wire::ListenerStatus::default()
    };
    let failure = wire::DialFailureCount {
        kind: wire::tunnel_failure::Kind::ConnectionRefused.into(),
        count: 5,
    };
    let unreached = wire::ListenerStatus {
        last_error: "failed to connect:\nconnection refused \u{1b}[31m".to_owned(),
        state: "unreachable".to_owned(),
        dial_failures: vec![failure],
        ..wire::ListenerStatus::default()
    };
    let health = |state: &str, why: &str| wire::TunnelHealth {
        state: state.to_owned(),
        seconds: 61,
        round_trip_micros: 1234,
        why: why.to_owned(),
        round_trips: Some(times(1234)),
    };
    let tunnel = |host, address, volumes: &[&str], listener, health| wire::TunnelState {
        spec: spec(host),
        endpoint: endpoint(address),
        users: volumes.iter().map(|volume| user(volume)).collect(),
        life: "open".to_owned(),
        listener: Some(listener),
        health: Some(health),
    };
    let repair = |repair: &str, count| wire::RepairCount { repair: repair.to_owned(), count };
    let restart = |reason: &str, count| wire::RestartCount { reason: reason.to_owned(), count };
    wire::ListResponse {
        tunnels: vec![
            tunnel(
                "a.nas.example.com",
                "127.0.1.1",
                &["pv-1", "pv-2"],
                weak,
                health("healthy", ""),
            ),
            tunnel(
                "b.nas.example.com",
                "127.0.1.2",
                &[],
                unreached,
                health("server-down", "no answer"),
            ),
        ],
        process: "running".to_owned(),
        process_id: 42,
        restarts: 3,
        restarts_by_reason: vec![
            restart("ended", 2),
            restart("unanswering", 1),
            restart("not-ready", 0),
        ],
        process_seconds: 200_000,
        listeners_missing_because: String::new(),
        fips: true,
        buffer_bytes: 540_672,
        notices: vec!["another watchdog runs".to_owned()],
        network_namespace: "net:[4026531840]".to_owned(),
        repairs: vec![repair("refresh", 2), repair("replace", 1)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_are_whole_and_negative_after_the_end() {
        for (not_after, days) in
            [(12 * DAY + 5, 12), (DAY - 1, 0), (0, 0), (-1, -1), (-DAY - 1, -2)]
        {
            let certificate =
                Certificate::read(String::new(), EXAMPLE_NOW + not_after, EXAMPLE_NOW);
            assert_eq!(certificate.unwrap().days_left, days, "{not_after}");
        }
        assert!(Certificate::read(String::new(), 0, EXAMPLE_NOW).is_none(), "there was none");
    }

    #[test]
    fn a_time_is_one_of_rfc_3339_and_a_fault_a_word() {
        assert_eq!(date(1_800_000_000), "2027-01-15T08:00:00Z");
        let kind = wire::tunnel_failure::Kind::CertificateWrongName;
        assert_eq!(kind_word(kind), "certificate-wrong-name");
    }

    #[test]
    fn an_older_watchdog_that_says_less_is_shown_all_the_same() {
        let tunnel = wire::TunnelState { life: "open".to_owned(), ..wire::TunnelState::default() };
        let listed = wire::ListResponse { tunnels: vec![tunnel], ..wire::ListResponse::default() };
        let report = Report::read(listed, EXAMPLE_NOW);
        assert_eq!((report.process.id, report.tunnels[0].state.as_deref()), (None, None));
    }

    #[test]
    fn what_another_release_says_is_read_and_what_it_does_not_say_is_nothing() {
        let said = serde_json::json!({
            "later": {"than": "this"},
            "tunnels": [{"mountTarget": "nas", "volumes": [{"id": "pv", "colour": "red"}]}],
        });
        let report: Report = serde_json::from_value(said).unwrap();
        let tunnel = &report.tunnels[0];
        assert_eq!((tunnel.mount_target.as_str(), tunnel.volumes[0].id.as_str()), ("nas", "pv"));
        assert!(tunnel.bytes.is_none() && tunnel.session.is_none() && report.process.id.is_none());
        let ours = Report::read(example(), EXAMPLE_NOW);
        let written = serde_json::to_value(&ours).unwrap();
        let read: Report = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
    }
}
