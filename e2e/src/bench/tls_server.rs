//! The server's side of a handshake, up to records that are carried in place.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use alinas_csi::tls::record::Records;
use alinas_csi::tls::record::Secrets;
use rustls::ConnectionTrafficSecrets;
use rustls::Error;
use rustls::HandshakeKind;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::kernel::KernelConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ServerConnectionData;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::unbuffered::UnbufferedStatus;

use crate::failure::Result;

const ROOM: usize = 32 * 1024;

/// A session that was accepted.
pub(super) struct Accepted {
    pub(super) records: Records,
    /// What has come behind the handshake.
    pub(super) received: Vec<u8>,
    pub(super) resumed: bool,
}

/// TLS 1.3 with AES-128-GCM alone, so that all peers agree on the same.
pub(super) fn config(certificate: &Path) -> Result<Arc<ServerConfig>> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(certificate)?;
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.enable_secret_extraction = true;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

pub(super) fn accept(stream: &mut TcpStream, config: &Arc<ServerConfig>) -> io::Result<Accepted> {
    let mut connection =
        UnbufferedServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let (mut received, mut outgoing) = (Vec::new(), Vec::new());
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process_tls_records(&mut received);
        let (mut blocked, mut done) = (false, false);
        match state.map_err(io::Error::other)? {
            ConnectionState::EncodeTlsData(mut data) => {
                let start = outgoing.len();
                outgoing.resize(start + ROOM, 0);
                let length = data.encode(&mut outgoing[start..]).map_err(io::Error::other)?;
                outgoing.truncate(start + length);
            }
            ConnectionState::TransmitTlsData(data) => {
                stream.write_all(&outgoing)?;
                outgoing.clear();
                data.done();
            }
            ConnectionState::BlockedHandshake => blocked = true,
            ConnectionState::WriteTraffic(_) => done = true,
            // A client that sends data with its last flight: taken in the handshake, where we cannot use it.
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        received.drain(..discard);
        if done {
            break;
        }
        if blocked {
            let start = received.len();
            // The end of the client's flight and not a byte more, so that its data stay behind the handshake.
            received.resize(start + wanted(&received), 0);
            let length = stream.read(&mut received[start..])?;
            received.truncate(start + length);
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let (secrets, kernel) =
        connection.dangerous_into_kernel_connection().map_err(io::Error::other)?;
    let suite = kernel.negotiated_cipher_suite();
    let records = Records::new(suite, secrets, Box::new(Keys(kernel))).map_err(io::Error::other)?;
    Ok(Accepted { records, received, resumed })
}

/// Bytes to the end of the record that has begun.
fn wanted(received: &[u8]) -> usize {
    const HEADER: usize = 5;
    let mut rest = received;
    loop {
        let Some(header) = rest.first_chunk::<HEADER>() else { return HEADER - rest.len() };
        let length = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
        match rest.get(length..) {
            Some(after) => rest = after,
            None => return length - rest.len(),
        }
    }
}

struct Keys(KernelConnection<ServerConnectionData>);

impl Secrets for Keys {
    fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.0.update_tx_secret()
    }

    fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.0.update_rx_secret()
    }

    fn keep_ticket(&mut self, _: &[u8]) -> Result<(), Error> {
        Err(Error::General("a client sends no tickets".to_owned()))
    }
}
