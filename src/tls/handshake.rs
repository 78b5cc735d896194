//! The handshake, done by rustls, up to a session whose records we carry ourselves.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::Error;
use rustls::HandshakeKind;
use rustls::ProtocolVersion;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::unbuffered::ConnectionState;
use rustls::unbuffered::EncodeError;
use rustls::unbuffered::EncodeTlsData;
use rustls::unbuffered::UnbufferedStatus;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::tls::record::Records;

/// For what a server sends at once: its certificates, mostly.
const ROOM: usize = 16 * 1024;
/// No flight of a handshake is longer: rustls takes messages of 64 KiB.
const MOST_ROOM: usize = 256 * 1024;

/// A session that has been agreed on, as records that we carry ourselves.
#[derive(Debug)]
pub struct RecordSession {
    /// Its records. Boxed, because a session is handed from future to future, and each keeps room for it.
    pub records: Box<Records>,
    /// What has come of records behind the handshake, still sealed.
    pub received: Vec<u8>,
    /// What the server has said in the handshake's last flight, before anybody asked it. NFS servers do not.
    pub early: Vec<u8>,
}

/// What a handshake led to, besides the session. Apart from it, because a session may last for months.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The suite's name in the registry of IANA.
    pub suite: &'static str,
    /// The group of the key exchange, in the same registry; empty where there was none.
    pub group: &'static str,
    /// The session went on where an earlier one was.
    pub resumed: bool,
    /// The server's certificate, and those that it sent along.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Shakes hands as the client.
///
/// # Errors
/// The stream's, end of file where an answer was due, or rustls' within [`io::ErrorKind::InvalidData`].
pub async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: &mut S,
) -> io::Result<(RecordSession, Agreement)> {
    let connection = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
    let mut handshake =
        Handshake { connection, received: Vec::new(), outgoing: Vec::new(), early: Vec::new() };
    loop {
        match handshake.step() {
            Ok(Step::Again) => {}
            Ok(Step::Send) => {
                stream.write_all(&handshake.outgoing).await?;
                stream.flush().await?;
                handshake.outgoing.clear();
            }
            Ok(Step::Receive) => handshake.receive(stream).await?,
            Ok(Step::Done) => return handshake.finish(),
            Err(error) => {
                handshake.accuse(stream).await;
                return Err(invalid(error));
            }
        }
    }
}

struct Handshake {
    connection: UnbufferedClientConnection,
    received: Vec<u8>,
    outgoing: Vec<u8>,
    early: Vec<u8>,
}

enum Step {
    Again,
    Send,
    Receive,
    Done,
}

impl Handshake {
    /// One turn of rustls' crank.
    fn step(&mut self) -> Result<Step, Error> {
        let UnbufferedStatus { mut discard, state, .. } =
            self.connection.process_tls_records(&mut self.received);
        let step = match state? {
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut data, &mut self.outgoing)?;
                Step::Again
            }
            // Done before it is sent: nothing can come in between, and what cannot be sent ends it all.
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Step::Send
            }
            ConnectionState::ReadTraffic(mut data) => {
                while let Some(record) = data.next_record() {
                    let record = record?;
                    discard += record.discard;
                    self.early.extend_from_slice(record.payload);
                }
                Step::Again
            }
            ConnectionState::WriteTraffic(_) => Step::Done,
            ConnectionState::BlockedHandshake => Step::Receive,
            _ => return Err(Error::General("the server ended the handshake".to_owned())),
        };
        self.received.drain(..discard);
        Ok(step)
    }

    async fn receive(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        if self.received.len() >= MOST_ROOM {
            return Err(invalid(Error::PeerSentOversizedRecord));
        }
        self.received.reserve(ROOM);
        match stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Tells the server why there will be no session, if it still listens.
    async fn accuse(&mut self, stream: &mut (impl AsyncWrite + Unpin)) {
        // Only as long as rustls has something to say: it must not see the bytes again that it did not like.
        self.received.clear();
        while self.connection.wants_write() && matches!(self.step(), Ok(Step::Again)) {}
        let _ = stream.write_all(&self.outgoing).await;
        let _ = stream.flush().await;
    }

    fn finish(self) -> io::Result<(RecordSession, Agreement)> {
        let agreement = self.agreement();
        let (secrets, kernel) =
            self.connection.dangerous_into_kernel_connection().map_err(invalid)?;
        let suite = kernel.negotiated_cipher_suite();
        let records = Records::new(suite, secrets, Box::new(kernel)).map_err(io::Error::other)?;
        let records = Box::new(records);
        let session = RecordSession { records, received: self.received, early: self.early };
        Ok((session, agreement))
    }

    fn agreement(&self) -> Agreement {
        let suite = self.connection.negotiated_cipher_suite();
        let group = self.connection.negotiated_key_exchange_group();
        let chain = self.connection.peer_certificates().unwrap_or_default();
        Agreement {
            version: version_text(self.connection.protocol_version()),
            suite: suite.and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            group: group.and_then(|group| group.name().as_str()).unwrap_or_default(),
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
        }
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    let mut room = ROOM;
    loop {
        out.resize(start + room, 0);
        match data.encode(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(EncodeError::AlreadyEncoded) => {
                out.truncate(start);
                return Ok(());
            }
        }
    }
}

fn version_text(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
