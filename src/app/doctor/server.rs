//! What can be seen of a mount target from this node, by the ways that a mount goes: the same names, roots, ports, and
//! the same verification. Nothing is mounted.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::app::doctor::finding::Check;
use crate::app::doctor::finding::Finding;
use crate::controller::Exports;
use crate::controller::NetworkExports;
use crate::host::resolve::resolve;
use crate::host::route::source_address_towards;
use crate::model::Export;
use crate::model::ExportPath;
use crate::model::MountTarget;
use crate::model::NfsVersion;
use crate::model::TunnelSpec;
use crate::model::mount_target::MountTargetKind;
use crate::model::tls_policy::TlsVersion;
use crate::nfs::probe::Service;
use crate::nfs::rpc::Program;
use crate::nfs::rpc::message::Call;
use crate::nfs::rpc::message::call_over;
use crate::proto::tunnel as wire;
use crate::runtime::Chain;
use crate::runtime::Clock;
use crate::runtime::SystemClock;
use crate::tunnel::Dialer;

const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
const CALL_DEADLINE: Duration = Duration::from_secs(5);
const EXPORT_DEADLINE: Duration = Duration::from_secs(30);
/// Of which the median is told.
const CALLS: usize = 9;

const DAY: i64 = 24 * 60 * 60;
/// The vendor's certificates are renewed well before.
const FEW_DAYS: i64 = 30;

/// What is asked about.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) target: MountTarget,
    pub(super) spec: TunnelSpec,
    pub(super) path: ExportPath,
}

/// Looks at it, as far as each step allows the next.
pub(super) async fn look(dialer: &Dialer, subject: &Subject) -> Vec<Finding> {
    let spec = &subject.spec;
    let mut findings = vec![form(&subject.target)];
    let addresses = match addresses(spec).await {
        Ok(addresses) => addresses,
        Err(finding) => {
            findings.push(finding);
            return findings;
        }
    };
    let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    findings.push(Finding::ok(Check::Name, format!("{} is {}", spec.host, shown.join(", "))));
    findings.push(route(&addresses));
    findings.push(connect(&addresses, spec.port.candidates()).await);
    let report = match dialer.probe(spec).await {
        Ok(report) => report,
        Err(fault) => {
            findings.push(Finding::of_fault(Check::Tls, &Chain(&fault)));
            return findings;
        }
    };
    let session = report.session.unwrap_or_default();
    findings.push(tls(&report.remote_address, &session));
    findings.push(newest_version(dialer, spec, &session).await);
    findings.push(certificate(&session, SystemClock.now().epoch_seconds()));
    findings.push(client_certificate(&session));
    findings.push(nfs_versions(dialer, spec).await);
    findings.push(round_trip(dialer, spec).await);
    findings.push(export(dialer, subject).await);
    findings
}

fn form(target: &MountTarget) -> Finding {
    let found = match target.kind() {
        MountTargetKind::GeneralPurpose { file_system, region } => {
            format!("a mount target of the file system {file_system} in {region}")
        }
        MountTargetKind::AccessPoint { access_point, region } => {
            format!("the access point {access_point} in {region}")
        }
        MountTargetKind::PrivateName => "a name that is not the vendor's".to_owned(),
        MountTargetKind::Address => "an address".to_owned(),
    };
    Finding::ok(Check::MountTarget, found)
}

async fn addresses(spec: &TunnelSpec) -> Result<Vec<IpAddr>, Finding> {
    let remedy = "check the mount target's domain, and that this node's DNS knows it (mount targets resolve only \
                  inside their VPC)";
    match resolve(spec.host.as_str(), None, RESOLVE_DEADLINE).await {
        Ok(addresses) if !addresses.is_empty() => {
            Ok(addresses.into_iter().map(|address| address.ip).collect())
        }
        Ok(_) => {
            let found = format!("{} has no address", spec.host);
            Err(Finding::failed(Check::Name, found, remedy))
        }
        Err(fault) => {
            let found = format!("failed to resolve {}: {fault}", spec.host);
            Err(Finding::failed(Check::Name, found, remedy))
        }
    }
}

fn route(addresses: &[IpAddr]) -> Finding {
    let ways: Vec<_> = addresses
        .iter()
        .map(|address| (address, source_address_towards((*address).into())))
        .collect();
    let remedy = "check this node's routes to the mount target, and that it is in its VPC";
    let error =
        |address: &IpAddr, error: &std::io::Error| format!("no route to {address}: {error}");
    match ways.iter().find_map(|(_, way)| way.as_ref().ok()) {
        Some(own) => Finding::ok(Check::Route, format!("from {own}")),
        None => {
            let found = ways
                .iter()
                .find_map(|(address, way)| way.as_ref().err().map(|fault| error(address, fault)));
            Finding::failed(Check::Route, found.unwrap_or_default(), remedy)
        }
    }
}

/// One connection to each port of each address, all at once.
async fn connect(addresses: &[IpAddr], ports: &[u16]) -> Finding {
    let mut attempts = JoinSet::new();
    for address in addresses {
        for port in ports {
            let to = SocketAddr::new(*address, *port);
            attempts.spawn(async move {
                let started = Instant::now();
                let attempt = timeout(CONNECT_DEADLINE, TcpStream::connect(to)).await;
                (to, attempt.map(|stream| stream.map(|_| started.elapsed())))
            });
        }
    }
    let mut outcomes = attempts.join_all().await;
    outcomes.sort_by_key(|(to, _)| *to);
    let is_open = outcomes.iter().any(|(_, outcome)| matches!(outcome, Ok(Ok(_))));
    let shown: Vec<_> = outcomes
        .into_iter()
        .map(|(to, outcome)| match outcome {
            Ok(Ok(time)) => format!("{to} in {} us", time.as_micros()),
            Ok(Err(error)) => format!("{to}: {error}"),
            Err(_) => format!("{to}: no answer within {} s", CONNECT_DEADLINE.as_secs()),
        })
        .collect();
    match is_open {
        true => Finding::ok(Check::Connect, shown.join("; ")),
        false => Finding::failed(
            Check::Connect,
            shown.join("; "),
            "check security groups, the mount target's permission group and that it is active, and that this node is \
             in its VPC",
        ),
    }
}

fn tls(address: &str, session: &wire::TlsSession) -> Finding {
    let found = format!(
        "{} with {} and {} at {address}, certificate verified, NFS answers",
        session.version, session.cipher_suite, session.key_exchange
    );
    match session.warnings.first() {
        None => Finding::ok(Check::Tls, found),
        Some(warning) => Finding::warning(Check::Tls, found, warning),
    }
}

async fn newest_version(dialer: &Dialer, spec: &TunnelSpec, session: &wire::TlsSession) -> Finding {
    if session.version == "TLSv1.3" {
        return Finding::ok(Check::TlsVersions, "TLS 1.3");
    }
    let mut newest = spec.clone();
    newest.policy.least_version = TlsVersion::V1_3;
    match dialer.dial_anew(&newest).await {
        Ok(_) => Finding::ok(Check::TlsVersions, "TLS 1.2 and 1.3"),
        Err(_) => Finding::ok(
            Check::TlsVersions,
            format!("{} and no TLS 1.3: leave tlsMinVersion at 1.2", session.version),
        ),
    }
}

fn certificate(session: &wire::TlsSession, now: i64) -> Finding {
    let left = (session.certificate_not_after - now).div_euclid(DAY);
    let found = format!("{} ends in {left} days", session.certificate_subject);
    match left < FEW_DAYS {
        false => Finding::ok(Check::Certificate, found),
        true => Finding::warning(
            Check::Certificate,
            found,
            "the server needs a new certificate before that day: open mounts stop at their next connection then",
        ),
    }
}

fn client_certificate(session: &wire::TlsSession) -> Finding {
    let found = match session.client_certificate_subject.as_str() {
        "" => "the server asks for none".to_owned(),
        subject => format!("the server asks for one, and takes that of {subject}"),
    };
    Finding::ok(Check::ClientCertificate, found)
}

async fn nfs_versions(dialer: &Dialer, spec: &TunnelSpec) -> Finding {
    let mut offered = Vec::new();
    for version in [NfsVersion::V3, NfsVersion::V40] {
        let service = Service::Nfs(version);
        match calls(dialer, spec, service.into(), 1).await {
            Ok(_) => offered.push(service.to_string()),
            Err(why) => tracing::debug!(%service, %why, "not offered"),
        }
    }
    match offered.is_empty() {
        false => Finding::ok(Check::NfsVersions, offered.join(", ")),
        true => Finding::failed(
            Check::NfsVersions,
            "neither NFSv3 nor NFSv4",
            "check that host and port are those of the mount target",
        ),
    }
}

async fn round_trip(dialer: &Dialer, spec: &TunnelSpec) -> Finding {
    match calls(dialer, spec, Service::Nfs(NfsVersion::V3).into(), CALLS).await {
        Ok(mut times) => {
            times.sort();
            let median = times.get(times.len() / 2).copied().unwrap_or_default();
            let longest = times.last().copied().unwrap_or_default();
            let (median, longest) = (median.as_micros(), longest.as_micros());
            let found = format!("{median} us, the longest of {CALLS} {longest} us");
            Finding::ok(Check::RoundTrip, found)
        }
        Err(why) => Finding::warning(
            Check::RoundTrip,
            why,
            "the server does not answer NFSv3 NULL calls: its health cannot be followed",
        ),
    }
}

/// NULL calls one after the other through one session, and how long each took.
async fn calls(
    dialer: &Dialer,
    spec: &TunnelSpec,
    program: Program,
    number: usize,
) -> Result<Vec<Duration>, String> {
    let dialled = dialer.dial(spec).await.map_err(|fault| fault.to_string())?;
    let mut stream = dialled.into_stream();
    let mut times = Vec::with_capacity(number);
    for transaction in (1..).take(number) {
        let called = Instant::now();
        let null = Call::null(program);
        match timeout(CALL_DEADLINE, call_over(&mut stream, transaction, &null)).await {
            Ok(Ok(Ok(_))) => times.push(called.elapsed()),
            Ok(Ok(Err(fault))) => return Err(fault.to_string()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no answer within {} s", CALL_DEADLINE.as_secs())),
        }
    }
    Ok(times)
}

async fn export(dialer: &Dialer, subject: &Subject) -> Finding {
    let exports = Arc::new(NetworkExports::new(dialer.clone()));
    let export = Export { spec: subject.spec.clone(), path: subject.path.clone() };
    let path = &subject.path;
    match timeout(EXPORT_DEADLINE, exports.open(&export)).await {
        Ok(Ok(_)) => Finding::ok(Check::Export, format!("the server lets this node mount {path}")),
        Ok(Err(fault)) => Finding::of_fault(Check::Export, &Chain(&fault)),
        Err(_) => {
            let within = EXPORT_DEADLINE.as_secs();
            let found = format!("no answer about {path} within {within} s");
            Finding::failed(Check::Export, found, "try again: the server is overloaded or silent")
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::app::doctor::finding::Verdict;

    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_a_doubt() {
        for (days, verdict) in [(400, Verdict::Ok), (30, Verdict::Ok), (29, Verdict::Warning)] {
            let session = wire::TlsSession {
                certificate_subject: "CN=nas".to_owned(),
                certificate_not_after: 1_000 + days * DAY,
                ..Default::default()
            };
            let finding = certificate(&session, 1_000);
            assert_eq!(finding.verdict, verdict);
            assert_eq!(finding.found, format!("CN=nas ends in {days} days"));
        }
    }

    #[test]
    fn what_a_session_lacks_is_said_with_it() {
        let mut session = wire::TlsSession { version: "TLSv1.2".to_owned(), ..Default::default() };
        assert_eq!(tls("192.0.2.1:2049", &session).verdict, Verdict::Ok);
        session.warnings = vec!["static RSA: no forward secrecy".to_owned()];
        let finding = tls("192.0.2.1:2049", &session);
        assert_eq!(finding.remedy.as_deref(), Some("static RSA: no forward secrecy"));
    }

    #[tokio::test]
    async fn each_port_of_each_address_is_told_and_one_that_is_open_is_enough() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        let local = [IpAddr::from([127, 0, 0, 1])];
        let finding = connect(&local, &[open, 1]).await;
        assert_eq!(finding.verdict, Verdict::Ok);
        assert!(finding.found.contains("127.0.0.1:1: Connection refused"), "{finding:?}");
        assert!(finding.found.contains(&format!("127.0.0.1:{open} in ")), "{finding:?}");
        assert_eq!(connect(&local, &[1]).await.verdict, Verdict::Failed);
    }
}
