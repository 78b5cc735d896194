//! What a tunnel process is told at its start: the listeners to bind before anything else.

use std::net::Ipv4Addr;
use std::net::SocketAddrV4;

use serde::Deserialize;
use serde::Serialize;

use crate::model::ServerName;
use crate::model::TlsPolicy;
use crate::model::TunnelSpec;
use crate::model::tunnel_spec::ServerNameError;

/// What a managed tunnel process says on its standard output once it serves, and is asked at its socket.
pub const READY: &str = "ready";
/// The same where the socket cannot be made: it is asked over the connection that it was given.
pub const READY_UNNAMED: &str = "ready, unnamed";

/// One listener. A list of them, as JSON on one line, is the standard input of a managed tunnel process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialListener {
    /// The mount target.
    pub host: String,
    /// Its TLS port; 0 where it is not said.
    pub port: u16,
    /// The name in its certificate.
    pub server_name: String,
    /// How its sessions are secured.
    #[serde(default, skip_serializing_if = "TlsPolicy::is_default")]
    pub policy: TlsPolicy,
    /// The loopback address.
    pub address: Ipv4Addr,
    /// The port there.
    pub local_port: u16,
}

impl InitialListener {
    /// Takes a tunnel apart.
    #[must_use]
    pub fn new(spec: &TunnelSpec, local: SocketAddrV4) -> Self {
        Self {
            host: spec.host.to_string(),
            port: spec.port.number(),
            server_name: spec.server_name.to_string(),
            policy: spec.policy.clone(),
            address: *local.ip(),
            local_port: local.port(),
        }
    }

    /// Puts a tunnel together.
    ///
    /// # Errors
    /// When a name is none.
    pub fn parse(&self) -> Result<(TunnelSpec, SocketAddrV4), ServerNameError> {
        let spec = TunnelSpec {
            host: ServerName::parse(&self.host)?,
            port: self.port.into(),
            server_name: ServerName::parse(&self.server_name)?,
            policy: self.policy.clone(),
        };
        Ok((spec, SocketAddrV4::new(self.address, self.local_port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"host":"nas.example.com","port":2049,"server_name":"tls.example.com","policy":{"check":"dangerous-any-name"},"address":"127.0.1.1","local_port":12049}"#;

    #[test]
    fn the_form_on_the_wire_stays_and_a_tunnel_survives_the_way() {
        let listener: InitialListener = serde_json::from_str(TEXT).unwrap();
        let (spec, local) = listener.parse().unwrap();
        assert_eq!(
            spec.to_string(),
            "nas.example.com:2049 (as tls.example.com) (dangerous-any-name)"
        );
        assert_eq!(serde_json::to_string(&InitialListener::new(&spec, local)).unwrap(), TEXT);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = TEXT.replace("\"port\"", "\"prot\"");
        assert!(serde_json::from_str::<InitialListener>(&text).is_err());
    }
}
