//! One round trip to the NFS server behind TLS: the proof that a tunnel would work.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::model::TunnelSpec;
use crate::proto::tunnel::ProbeReport;
use crate::proto::tunnel::TunnelFailure;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::tls::TlsFault;
use crate::tunnel::convert::session_to_wire;
use crate::tunnel::dial::DialFault;
use crate::tunnel::dial::Dialer;
use crate::tunnel::dial::Dialled;

const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// The NULL call of NFS version 3 (RFC 5531, section 9; RFC 1813, section 3.3.0).
mod call {
    pub(super) const CALL: u32 = 0;
    pub(super) const REPLY: u32 = 1;
    pub(super) const RPC_VERSION: u32 = 2;
    pub(super) const NFS: u32 = 100_003;
    pub(super) const VERSION: u32 = 3;
    pub(super) const NULL: u32 = 0;
    pub(super) const LAST_FRAGMENT: u32 = 1 << 31;
    /// Ours alone on this connection, so any will do.
    pub(super) const TRANSACTION: u32 = 0x0a11_a5c5;
}

/// A reply to NULL has 24 bytes with AUTH_NONE, and a verifier of at most 400 more (RFC 5531, section 8.2).
const LONGEST_REPLY: u32 = 512;

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
    #[error("the answer is no RPC reply")]
    Garbage,
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
        let Dialled { mut stream, remote, negotiated } = self.dial(spec).await?;
        match timeout(CALL_DEADLINE, null_call(&mut stream)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(no_nfs(spec, remote, NoReply::Garbage)),
            Ok(Err(error)) => return Err(call_fault(spec, remote, error)),
            Err(_) => return Err(no_nfs(spec, remote, NoReply::Silent)),
        }
        let session = session_to_wire(&negotiated, &spec.policy);
        Ok(ProbeReport {
            remote_address: remote.to_string(),
            tls_version: session.version.clone(),
            cipher_suite: session.cipher_suite.clone(),
            total_micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            certificate_not_after: session.certificate_not_after,
            session: Some(session),
        })
    }
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
        io::ErrorKind::UnexpectedEof => no_nfs(spec, address, NoReply::Closed),
        _ => ProbeFault::Lost { target, address, source: error },
    }
}

/// Calls, and says whether the answer is a reply to that.
async fn null_call(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<bool> {
    stream.write_all(&null_call_message()).await?;
    stream.flush().await?;
    let marker = stream.read_u32().await?;
    let length = marker & !call::LAST_FRAGMENT;
    if marker & call::LAST_FRAGMENT == 0 || !(24..=LONGEST_REPLY).contains(&length) {
        return Ok(false);
    }
    let transaction = stream.read_u32().await?;
    let direction = stream.read_u32().await?;
    Ok((transaction, direction) == (call::TRANSACTION, call::REPLY))
}

fn null_call_message() -> Vec<u8> {
    const AUTH_NONE: [u32; 2] = [0, 0];
    let words = [
        call::TRANSACTION,
        call::CALL,
        call::RPC_VERSION,
        call::NFS,
        call::VERSION,
        call::NULL,
        AUTH_NONE[0],
        AUTH_NONE[1],
        AUTH_NONE[0],
        AUTH_NONE[1],
    ];
    let length = u32::try_from(words.len() * 4).unwrap_or_default();
    let marker = call::LAST_FRAGMENT | length;
    std::iter::once(marker).chain(words).flat_map(u32::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered_with(answer: &[u8]) -> bool {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(answer).await.unwrap();
        let replied = null_call(&mut ours).await.unwrap();
        let mut sent = vec![0; 44];
        theirs.read_exact(&mut sent).await.unwrap();
        assert_eq!(sent[..4], [0x80, 0, 0, 40]);
        replied
    }

    fn reply(words: &[u32]) -> Vec<u8> {
        let marker = call::LAST_FRAGMENT | u32::try_from(words.len() * 4).unwrap();
        std::iter::once(&marker).chain(words).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[tokio::test]
    async fn a_reply_of_any_kind_proves_nfs() {
        let accepted = [call::TRANSACTION, call::REPLY, 0, 0, 0, 0];
        let mismatch = [call::TRANSACTION, call::REPLY, 0, 0, 0, 2, 4, 4];
        for words in [&accepted[..], &mismatch[..]] {
            assert!(answered_with(&reply(words)).await);
        }
    }

    #[tokio::test]
    async fn anything_else_does_not() {
        let another = [1, call::REPLY, 0, 0, 0, 0];
        let a_call = [call::TRANSACTION, call::CALL, 2, 100_003, 3, 0];
        for answer in [reply(&another), reply(&a_call), b"HTTP/1.1 400 Bad Request\r\n".to_vec()] {
            assert!(!answered_with(&answer).await);
        }
    }
}
