//! The words of the wire and those of the domain.

use std::net::SocketAddrV4;

use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::model::tunnel_spec::ServerNameError;
use crate::proto::tunnel as wire;

/// A message that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A member is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A port is 0 or above 65535.
    #[error("{0} is no port")]
    Port(u32),
    /// A host name is none.
    #[error(transparent)]
    Name(#[from] ServerNameError),
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
        port: port(spec.port)?,
        server_name: ServerName::parse(&spec.server_name)?,
    })
}

/// Writes a spec.
#[must_use]
pub fn spec_to_wire(spec: &TunnelSpec) -> wire::TunnelSpec {
    wire::TunnelSpec {
        host: spec.host.to_string(),
        port: spec.port.into(),
        server_name: spec.server_name.to_string(),
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
        let spec = TunnelSpec { server_name: host.clone(), host, port: 2049 };
        assert_eq!(spec_from_wire(Some(spec_to_wire(&spec))).unwrap(), spec);
    }
}
