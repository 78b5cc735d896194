//! The words of the wire and those of the domain.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::model::RemotePort;
use crate::model::ServerName;
use crate::model::TlsPolicy;
use crate::model::TunnelSpec;
use crate::model::client_identity::AccessPointId;
use crate::model::client_identity::ClientIdentity;
use crate::model::client_identity::CredentialsPath;
use crate::model::tls_policy::CaBundle;
use crate::model::tls_policy::CertificateCheck;
use crate::model::tls_policy::PolicyError;
use crate::model::tls_policy::RevocationCheck;
use crate::model::tls_policy::TlsBackend;
use crate::model::tls_policy::TlsVersion;
use crate::model::tunnel_spec::ServerNameError;
use crate::proto::tunnel as wire;
use crate::runtime::Histogram;
use crate::tls::Negotiated;
use crate::tls::Weakness;

/// The word of a failure, for machines and in docs/messages.md: `connection-refused`.
#[must_use]
pub fn kind_word(kind: wire::tunnel_failure::Kind) -> String {
    kind.as_str_name().to_lowercase().replace('_', "-")
}

/// A message that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A member is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A port is above 65535, or 0 where that says nothing.
    #[error("{0} is no port")]
    Port(u32),
    /// A host name is none.
    #[error(transparent)]
    Name(#[from] ServerNameError),
    /// A policy makes no sense.
    #[error("the TLS policy makes no sense: {0}")]
    Policy(#[from] PolicyError),
    /// A listener anywhere else would be open to the network.
    #[error("{0:?} is no IPv4 loopback address")]
    NotLoopback(String),
}

/// Reads a spec.
///
/// # Errors
/// Says which part makes no sense.
pub fn spec_from_wire(spec: Option<wire::TunnelSpec>) -> Result<TunnelSpec, WireError> {
    let spec = spec.ok_or(WireError::Missing("spec"))?;
    Ok(TunnelSpec {
        host: ServerName::parse(&spec.host)?,
        port: remote_port(spec.port)?,
        server_name: ServerName::parse(&spec.server_name)?,
        policy: policy_from_wire(spec.policy.unwrap_or_default())?,
    })
}

/// Writes a spec.
#[must_use]
pub fn spec_to_wire(spec: &TunnelSpec) -> wire::TunnelSpec {
    wire::TunnelSpec {
        host: spec.host.to_string(),
        port: spec.port.number().into(),
        server_name: spec.server_name.to_string(),
        policy: Some(policy_to_wire(&spec.policy)),
    }
}

/// Writes how many took how long.
#[must_use]
pub fn histogram_to_wire(histogram: &Histogram) -> wire::Histogram {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let bucket = |(bound, count): &(Duration, u64)| wire::HistogramBucket {
        bound_micros: micros(*bound),
        count: *count,
    };
    wire::Histogram {
        buckets: histogram.buckets.iter().map(bucket).collect(),
        longer: histogram.longer,
        sum_micros: micros(histogram.sum),
    }
}

/// Reads how many took how long, also with the bounds of another release.
#[must_use]
pub fn histogram_from_wire(histogram: &wire::Histogram) -> Histogram {
    let bucket =
        |bucket: &wire::HistogramBucket| (Duration::from_micros(bucket.bound_micros), bucket.count);
    Histogram {
        buckets: histogram.buckets.iter().map(bucket).collect(),
        longer: histogram.longer,
        sum: Duration::from_micros(histogram.sum_micros),
    }
}

/// Writes what a handshake for a tunnel led to, `since` seconds after the epoch.
#[must_use]
pub fn session_to_wire(negotiated: &Negotiated, spec: &TunnelSpec, since: i64) -> wire::TlsSession {
    let certificate = negotiated.first_to_end.clone().unwrap_or_default();
    let weak: Vec<_> = Weakness::of(negotiated, &spec.policy).collect();
    wire::TlsSession {
        version: negotiated.version.clone(),
        cipher_suite: negotiated.suite.clone(),
        key_exchange: negotiated.group.clone(),
        library: negotiated.library.as_str().to_owned(),
        resumed: negotiated.resumed,
        certificate_subject: certificate.subject,
        certificate_not_after: certificate.not_after,
        warnings: weak.iter().map(|weakness| weakness.text().to_owned()).collect(),
        weak: weak.iter().map(|weakness| weakness.word().to_owned()).collect(),
        since,
        revocation: negotiated.revocation.clone(),
        client_certificate_not_after: negotiated.client_not_after.unwrap_or_default(),
        client_certificate_subject: match negotiated.client_not_after {
            Some(_) => spec.client().to_string(),
            None => String::new(),
        },
    }
}

fn policy_from_wire(policy: wire::TlsPolicy) -> Result<TlsPolicy, PolicyError> {
    fn or_default<T: Default>(
        text: &str,
        parse: impl Fn(&str) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
        if text.is_empty() { Ok(T::default()) } else { parse(text) }
    }
    Ok(TlsPolicy {
        least_version: or_default(&policy.least_version, TlsVersion::parse)?,
        ca_bundle: or_default(&policy.ca_bundle, |text| CaBundle::parse(text).map(Some))?,
        check: or_default(&policy.check, CertificateCheck::parse)?,
        revocation: match policy.check_revocation {
            true => RevocationCheck::Ocsp,
            false => RevocationCheck::Off,
        },
        backend: or_default(&policy.backend, TlsBackend::parse)?,
        identity: Box::new(ClientIdentity {
            access_point: or_default(&policy.access_point, |id| {
                Ok(Some(AccessPointId::parse(id)?))
            })?,
            ram: or_default(&policy.ram_credentials, |path| {
                Ok(Some(CredentialsPath::parse(path)?))
            })?,
        }),
    })
}

fn policy_to_wire(policy: &TlsPolicy) -> wire::TlsPolicy {
    wire::TlsPolicy {
        least_version: policy.least_version.to_string(),
        ca_bundle: policy.ca_bundle.as_ref().map(CaBundle::as_str).unwrap_or_default().to_owned(),
        check: policy.check.to_string(),
        check_revocation: policy.revocation == RevocationCheck::Ocsp,
        backend: policy.backend.to_string(),
        access_point: policy.identity.access_point.clone().map(Into::into).unwrap_or_default(),
        ram_credentials: policy.identity.ram.clone().map(Into::into).unwrap_or_default(),
    }
}

/// Reads a loopback address.
///
/// # Errors
/// Says which part makes no sense.
pub fn endpoint_from_wire(
    endpoint: Option<wire::LocalEndpoint>,
) -> Result<SocketAddrV4, WireError> {
    let endpoint = endpoint.ok_or(WireError::Missing("endpoint"))?;
    match endpoint.address.parse::<std::net::Ipv4Addr>() {
        Ok(address) if address.is_loopback() => {
            Ok(SocketAddrV4::new(address, port(endpoint.port)?))
        }
        _ => Err(WireError::NotLoopback(endpoint.address)),
    }
}

/// Writes a loopback address.
#[must_use]
pub fn endpoint_to_wire(endpoint: SocketAddrV4) -> wire::LocalEndpoint {
    wire::LocalEndpoint { address: endpoint.ip().to_string(), port: endpoint.port().into() }
}

fn remote_port(port: u32) -> Result<RemotePort, WireError> {
    u16::try_from(port).map(RemotePort::from).map_err(|_| WireError::Port(port))
}

fn port(port: u32) -> Result<u16, WireError> {
    u16::try_from(port).ok().filter(|port| *port != 0).ok_or(WireError::Port(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_open_to_the_network_is_refused() {
        for (address, port, fine) in [
            ("127.0.1.1", 12049, true),
            ("0.0.0.0", 12049, false),
            ("10.0.0.1", 12049, false),
            ("::1", 12049, false),
            ("127.0.1.1", 0, false),
            ("127.0.1.1", 65536, false),
        ] {
            let endpoint = wire::LocalEndpoint { address: address.into(), port };
            assert_eq!(endpoint_from_wire(Some(endpoint)).is_ok(), fine, "{address}:{port}");
        }
        assert!(matches!(endpoint_from_wire(None), Err(WireError::Missing("endpoint"))));
    }

    #[test]
    fn a_spec_survives_the_way() {
        let host = ServerName::parse("nas.example.com").unwrap();
        let mut spec = TunnelSpec::to(host, RemotePort::Known);
        assert_eq!(spec_from_wire(Some(spec_to_wire(&spec))).unwrap(), spec);
        spec.port = RemotePort::Only(12049);
        spec.policy = TlsPolicy {
            least_version: TlsVersion::V1_3,
            ca_bundle: Some(CaBundle::parse("/ca.pem").unwrap()),
            check: CertificateCheck::DangerousAnyName,
            revocation: RevocationCheck::Ocsp,
            backend: TlsBackend::OpenSsl,
            identity: Box::new(ClientIdentity {
                access_point: Some(AccessPointId::parse("ap-1").unwrap()),
                ram: Some(CredentialsPath::default()),
            }),
        };
        assert_eq!(spec_from_wire(Some(spec_to_wire(&spec))).unwrap(), spec);
    }

    #[test]
    fn an_older_node_plugin_that_knows_no_policy_gets_the_strict_one() {
        let host = ServerName::parse("nas.example.com").unwrap();
        let spec = TunnelSpec::to(host, RemotePort::Only(2049));
        let old = wire::TunnelSpec { policy: None, ..spec_to_wire(&spec) };
        assert_eq!(spec_from_wire(Some(old)).unwrap(), spec);
        let senseless = wire::TlsPolicy { check: "none".to_owned(), ..Default::default() };
        let wrong = wire::TunnelSpec { policy: Some(senseless), ..spec_to_wire(&spec) };
        assert!(matches!(spec_from_wire(Some(wrong)), Err(WireError::Policy(_))));
    }
}
