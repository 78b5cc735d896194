//! The record layer of a session that rustls has agreed on: bytes into records and back, in place.
//!
//! rustls shakes hands, checks certificates, derives every key and does the cryptography of each record
//! (`rustls::kernel`, `rustls::crypto::cipher`). What is left to us is what is done with the bytes in between:
//! where a record begins and ends, its number, and the few messages that may come after a handshake. rustls'
//! own buffers cost two copies and an allocation for each record, which is a third of what a tunnel costs.
//!
//! Pure: no socket, no clock. Bytes of the peer lead to a [`RecordFault`] or to plain bytes, never to a panic.
//!
//! Start with [`Records`]. [`seal`] and [`open`] are its two directions, [`message`] reads what is no data.

pub mod message;
pub mod open;
pub mod seal;

use std::fmt;
use std::ops::Range;

use rustls::AlertDescription;
use rustls::ConnectionTrafficSecrets;
use rustls::ContentType;
use rustls::Error;
use rustls::ExtractedSecrets;
use rustls::SupportedCipherSuite;
use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::AeadKey;
use rustls::crypto::cipher::Iv;
use rustls::kernel::KernelConnection;

use crate::tls::record::message::Messages;
use crate::tls::record::message::Notice;
use crate::tls::record::open::Opener;
use crate::tls::record::seal::Sealer;

pub use seal::Layout;

/// Type, version and length before each record (RFC 8446, section 5.1; RFC 5246, section 6.2.1).
pub const HEADER: usize = 5;
/// The most plain bytes in one record (the same sections).
pub const FRAGMENT: usize = 1 << 14;
/// No record is longer: a header and what TLS 1.2 allows for encryption (RFC 5246, section 6.2.3).
pub const LONGEST_RECORD: usize = HEADER + FRAGMENT + 2048;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    /// The peer gave up.
    #[error("the server ended the session with the alert {0:?}")]
    Alert(AlertDescription),
    /// A record is not what the peer has sealed, or rustls refuses what is in it.
    #[error("a record of the server cannot be read: {0}")]
    Unreadable(Error),
    /// A record that nobody may send.
    #[error("the server sent {0}")]
    Malformed(&'static str),
    /// A record that may not come here.
    #[error("the server sent {0} where it has no place")]
    Unexpected(&'static str),
    /// The keys have sealed as much as is safe, and TLS 1.2 has no way to new ones.
    #[error("the session has sealed as many records as is safe with TLS 1.2")]
    KeysSpent,
    /// rustls cannot seal or derive a key.
    #[error("failed to seal a record: {0}")]
    Unsealable(Error),
}

impl RecordFault {
    /// What to tell the peer, where it is the peer's fault.
    fn alert(&self) -> Option<AlertDescription> {
        match self {
            Self::Alert(_) | Self::KeysSpent => None,
            Self::Unreadable(Error::DecryptError) => Some(AlertDescription::BadRecordMac),
            Self::Unreadable(Error::PeerSentOversizedRecord) => {
                Some(AlertDescription::RecordOverflow)
            }
            Self::Unreadable(_) | Self::Malformed(_) => Some(AlertDescription::DecodeError),
            Self::Unexpected(_) => Some(AlertDescription::UnexpectedMessage),
            Self::Unsealable(_) => Some(AlertDescription::InternalError),
        }
    }
}

/// What comes of the handshake's secrets: the keys that follow, and tickets for the next session.
pub trait Secrets: Send {
    /// The keys of the next generation for what we send. TLS 1.3 only.
    ///
    /// # Errors
    /// With TLS 1.2.
    fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;

    /// The same for what we receive.
    ///
    /// # Errors
    /// With TLS 1.2.
    fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;

    /// Keeps a ticket.
    ///
    /// # Errors
    /// When it is none.
    fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), Error>;
}

impl Secrets for KernelConnection<ClientConnectionData> {
    fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_tx_secret()
    }

    fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_rx_secret()
    }

    fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), Error> {
        self.handle_new_session_ticket(ticket)
    }
}

/// Both directions of one session.
pub struct Records {
    suite: SupportedCipherSuite,
    secrets: Box<dyn Secrets>,
    sealer: Sealer,
    opener: Opener,
    messages: Messages,
    owed: Owed,
}

/// Records that are to go out before the next data.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    key_update: Option<Request>,
    no_renegotiation: bool,
}

/// Whether our key update asks for one of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    NotRequested = 0,
    Requested = 1,
}

/// What stood at the beginning of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Less than a record.
    Partial,
    /// A record that is done with, of so many bytes.
    Control {
        /// The whole record's length.
        length: usize,
    },
    /// Plain bytes.
    Data {
        /// The whole record's length.
        length: usize,
        /// Where the plain bytes are now.
        plain: Range<usize>,
    },
    /// The peer says that nothing follows.
    Closed,
}

impl Records {
    /// Takes over where a handshake has ended.
    ///
    /// # Errors
    /// When the suite has secrets of a kind that we do not know.
    pub fn new(
        suite: SupportedCipherSuite,
        extracted: ExtractedSecrets,
        secrets: Box<dyn Secrets>,
    ) -> Result<Self, RecordFault> {
        Ok(Self {
            suite,
            secrets,
            sealer: Sealer::new(suite, extracted.tx)?,
            opener: Opener::new(suite, extracted.rx)?,
            messages: Messages::new(suite.tls13().is_some()),
            owed: Owed::default(),
        })
    }

    /// How much room a record needs around its plain bytes.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.sealer.layout()
    }

    /// Whether the session's keys wear out with use and cannot be changed: AES-GCM with TLS 1.2.
    #[must_use]
    pub fn wears_out(&self) -> bool {
        !self.is_tls13() && record_limit(self.suite) < u64::MAX
    }

    /// Whether it is time for another session. This one still has enough left to end what is under way.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.wears_out() && (self.sealer.is_worn() || self.opener.is_worn())
    }

    /// Makes a record of data that stand in `slot` with [`Self::layout`]'s room around them.
    ///
    /// # Errors
    /// [`RecordFault::KeysSpent`] at the end of a TLS 1.2 session's life.
    pub fn seal(&mut self, slot: &mut [u8]) -> Result<(), RecordFault> {
        if self.sealer.is_spent() && !self.is_tls13() {
            return Err(RecordFault::KeysSpent);
        }
        self.sealer.seal(ContentType::ApplicationData, slot)?;
        if self.sealer.is_nearly_spent() && self.is_tls13() {
            self.owed.key_update = Some(Request::Requested);
        }
        Ok(())
    }

    /// Whether [`Self::pay`] has something to send before the next data.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.owed.key_update.is_some() || self.owed.no_renegotiation
    }

    /// Appends what is owed to the peer, to be sent before anything that is sealed later.
    ///
    /// # Errors
    /// When rustls cannot derive the next keys.
    pub fn pay(&mut self, out: &mut Vec<u8>) -> Result<(), RecordFault> {
        let owed = std::mem::take(&mut self.owed);
        if owed.no_renegotiation {
            let alert = AlertDescription::NoRenegotiation;
            self.append(ContentType::Alert, &[message::WARNING, alert.into()], out)?;
        }
        if let Some(request) = owed.key_update {
            let update = message::key_update(request as u8);
            self.append(ContentType::Handshake, &update, out)?;
            let next = self.secrets.next_sending().map_err(RecordFault::Unsealable)?;
            self.sealer = Sealer::new(self.suite, next)?;
        }
        Ok(())
    }

    /// Appends the record that says that nothing follows.
    ///
    /// # Errors
    /// When rustls cannot seal it.
    pub fn close(&mut self, out: &mut Vec<u8>) -> Result<(), RecordFault> {
        let alert = AlertDescription::CloseNotify;
        self.append(ContentType::Alert, &[message::WARNING, alert.into()], out)
    }

    /// Appends the alert that tells the peer of its fault, where there is one to tell.
    pub fn accuse(&mut self, fault: &RecordFault, out: &mut Vec<u8>) {
        if let Some(alert) = fault.alert() {
            // The session is over: an alert that cannot be sealed is not sent.
            let _ = self.append(ContentType::Alert, &[message::FATAL, alert.into()], out);
        }
    }

    /// Opens the record at the beginning of `bytes`, in place.
    ///
    /// # Errors
    /// When the peer breaks the protocol, or ends the session with an alert.
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Opened, RecordFault> {
        let Some(record) = self.opener.open(bytes)? else { return Ok(Opened::Partial) };
        let length = record.length;
        if record.kind == ContentType::ApplicationData {
            self.messages.data()?;
            self.ask_for_fresh_keys();
            return Ok(Opened::Data { length, plain: record.plain });
        }
        let content = bytes.get(record.plain).unwrap_or_default();
        // What a record may hold besides is bounded by how many of each kind are taken.
        for notice in self.messages.read(record.kind, content)? {
            match notice {
                Notice::Closed => return Ok(Opened::Closed),
                Notice::Ticket(ticket) => {
                    self.secrets.keep_ticket(&ticket).map_err(RecordFault::Unreadable)?;
                }
                Notice::KeyUpdate { requested } => self.follow_key_update(requested)?,
                Notice::HelloRequest => self.owed.no_renegotiation = true,
            }
        }
        Ok(Opened::Control { length })
    }

    fn follow_key_update(&mut self, requested: bool) -> Result<(), RecordFault> {
        let next = self.secrets.next_receiving().map_err(RecordFault::Unreadable)?;
        self.opener = Opener::new(self.suite, next)?;
        // RFC 8446, section 4.6.3: the answer asks for nothing, so that two peers do not go on for ever.
        if requested {
            self.owed.key_update = Some(Request::NotRequested);
        }
        Ok(())
    }

    /// A peer that seals without end under one key is asked for another one, once for each key.
    fn ask_for_fresh_keys(&mut self) {
        if self.opener.has_just_reached_limit() && self.is_tls13() {
            self.owed.key_update = Some(Request::Requested);
        }
    }

    fn append(
        &mut self,
        kind: ContentType,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordFault> {
        let Layout { before, after } = self.layout();
        let start = out.len();
        out.resize(start + before, 0);
        out.extend_from_slice(content);
        out.resize(out.len() + after, 0);
        self.sealer.seal(kind, out.get_mut(start..).unwrap_or_default())
    }

    fn is_tls13(&self) -> bool {
        self.suite.tls13().is_some()
    }

    /// Lowers the number of records after which keys count as spent.
    #[cfg(test)]
    pub(crate) fn limit_records(&mut self, limit: u64) {
        self.sealer.limit_records(limit);
        self.opener.limit_records(limit);
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("suite", &self.suite.suite()).finish_non_exhaustive()
    }
}

/// The key and the initial vector, whatever they are for.
fn key_and_iv(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), RecordFault> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(RecordFault::Unsealable(Error::General("unknown kind of secrets".to_owned()))),
    }
}

/// From there on a session that wears out is to be replaced: the last call and its reply still fit.
fn worn_at(limit: u64) -> u64 {
    const RESERVE: u64 = 1 << 16;
    limit.saturating_sub(RESERVE.min(limit / 2))
}

/// After so many records the keys of a suite count as spent.
fn record_limit(suite: SupportedCipherSuite) -> u64 {
    match suite {
        SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
    }
}

#[cfg(test)]
mod tests;
