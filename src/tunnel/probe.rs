//! One round trip to the NFS server behind TLS: the proof that a tunnel would work.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use tokio::time::timeout;

use crate::model::TunnelSpec;
use crate::nfs::rpc::Program;
use crate::nfs::rpc::message::Answer;
use crate::nfs::rpc::message::Call;
use crate::nfs::rpc::message::reply_in;
use crate::proto::tunnel::ProbeReport;
use crate::proto::tunnel::TunnelFailure;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::runtime::Clock;
use crate::runtime::SystemClock;
use crate::tls::TlsFault;
use crate::tunnel::convert::session_to_wire;
use crate::tunnel::dial::DialFault;
use crate::tunnel::dial::Dialer;
use crate::tunnel::dial::Dialled;

const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// NFS version 3 (RFC 1813).
const NFS: Program = Program { number: 100_003, version: 3 };

/// Ours alone on this connection, so any will do.
const TRANSACTION: u32 = 0x0a11_a5c5;

/// Why a mount target did not prove to be an NFS server behind TLS.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFault {
    /// There is no session.
    #[error(transparent)]
    Dial(#[from] DialFault),
    /// There is one, and no NFS in it.
    #[error(
        "{target} at {address} speaks TLS but not NFS ({why}); check that host and port are those of the \
         mount target"
    )]
    NoNfs {
        /// The tunnel.
        target: TunnelSpec,
        /// The address.
        address: SocketAddr,
        /// What came instead.
        why: NoReply,
    },
    /// The connection broke.
    #[error(
        "the connection to {target} at {address} was lost during an NFS NULL call: {source}; try again"
    )]
    Lost {
        /// The tunnel.
        target: TunnelSpec,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// What came instead of a reply.
#[derive(Debug, thiserror::Error)]
pub enum NoReply {
    /// Nothing.
    #[error("no answer to an NFS NULL call within {} s", CALL_DEADLINE.as_secs())]
    Silent,
    /// The end of the connection.
    #[error("it closed the connection on an NFS NULL call")]
    Closed,
    /// Bytes that are no RPC reply to our call.
    #[error("{0}")]
    Garbage(String),
}

impl From<&ProbeFault> for TunnelFailure {
    fn from(fault: &ProbeFault) -> Self {
        let kind = match fault {
            ProbeFault::Dial(fault) => fault.kind(),
            ProbeFault::NoNfs { .. } => Kind::NoNfs,
            ProbeFault::Lost { .. } => Kind::ConnectionLost,
        };
        Self { kind: kind.into(), message: fault.to_string() }
    }
}

impl Dialer {
    /// Dials and makes one NFS call.
    ///
    /// Any well-formed reply proves that RPC is spoken, also "version not supported".
    ///
    /// # Errors
    /// Says where it failed.
    pub async fn probe(&self, spec: &TunnelSpec) -> Result<ProbeReport, ProbeFault> {
        let started = Instant::now();
        let mut dialled = self.dial(spec).await?;
        let remote = dialled.remote;
        let called = Instant::now();
        match timeout(CALL_DEADLINE, null_call(&mut dialled)).await {
            Ok(Ok(_reply)) => {}
            Ok(Err(error)) => return Err(call_fault(spec, remote, error)),
            Err(_) => return Err(no_nfs(spec, remote, NoReply::Silent)),
        }
        let call_micros = micros(called.elapsed());
        let session = session_to_wire(&dialled.negotiated, spec, SystemClock.now().epoch_seconds());
        Ok(ProbeReport {
            remote_address: remote.to_string(),
            tls_version: session.version.clone(),
            cipher_suite: session.cipher_suite.clone(),
            total_micros: micros(started.elapsed()),
            certificate_not_after: session.certificate_not_after,
            session: Some(session),
            call_micros,
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn no_nfs(target: &TunnelSpec, address: SocketAddr, why: NoReply) -> ProbeFault {
    ProbeFault::NoNfs { target: target.clone(), address, why }
}

/// In TLS 1.3 the server looks at the client's certificate after the client has ended the handshake, so its
/// refusal comes here.
fn call_fault(spec: &TunnelSpec, address: SocketAddr, error: io::Error) -> ProbeFault {
    let target = spec.clone();
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        let source = Box::new(TlsFault::explain(error, &spec.server_name));
        return DialFault::Tls { target, address, source }.into();
    }
    match error.kind() {
        io::ErrorKind::InvalidData => no_nfs(spec, address, NoReply::Garbage(error.to_string())),
        io::ErrorKind::UnexpectedEof => no_nfs(spec, address, NoReply::Closed),
        _ => ProbeFault::Lost { target, address, source: error },
    }
}

async fn null_call(dialled: &mut Dialled) -> io::Result<Answer> {
    let call = Call::null(NFS).to_record(TRANSACTION)?;
    dialled.exchange(&call, |received| reply_in(TRANSACTION, received)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RemotePort;
    use crate::model::ServerName;

    fn fault(error: io::Error) -> ProbeFault {
        let host = ServerName::parse("nas.example.com").unwrap();
        let spec = TunnelSpec::to(host, RemotePort::Only(2049));
        call_fault(&spec, ([192, 0, 2, 7], 2049).into(), error)
    }

    /// What the call itself makes of its answers is proven in `nfs::rpc`.
    #[test]
    fn what_is_no_reply_and_what_is_no_connection_are_told_apart() {
        let broken = |kind: io::ErrorKind| fault(io::Error::new(kind, "said so"));
        let garbage = broken(io::ErrorKind::InvalidData);
        assert!(garbage.to_string().contains("speaks TLS but not NFS (said so)"), "{garbage}");
        let closed = broken(io::ErrorKind::UnexpectedEof);
        assert!(matches!(closed, ProbeFault::NoNfs { why: NoReply::Closed, .. }), "{closed}");
        let lost = broken(io::ErrorKind::ConnectionReset);
        assert!(matches!(lost, ProbeFault::Lost { .. }), "{lost}");
    }

    /// rustls says it with the same kind of error.
    #[test]
    fn a_refusal_of_tls_is_none_of_nfs() {
        let tls = rustls::Error::AlertReceived(rustls::AlertDescription::AccessDenied);
        let refused = fault(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert!(matches!(refused, ProbeFault::Dial(DialFault::Tls { .. })), "{refused}");
    }
}
