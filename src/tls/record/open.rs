//! Records of the peer, opened where they stand.

use std::fmt;
use std::ops::Range;

use rustls::ConnectionTrafficSecrets;
use rustls::ContentType;
use rustls::ProtocolVersion;
use rustls::SupportedCipherSuite;
use rustls::crypto::cipher::InboundOpaqueMessage;
use rustls::crypto::cipher::MessageDecrypter;

use crate::tls::record::FRAGMENT;
use crate::tls::record::HEADER;
use crate::tls::record::RecordFault;
use crate::tls::record::key_and_iv;
use crate::tls::record::record_limit;
use crate::tls::record::worn_at;

/// The first byte of every version (RFC 8446, section 5.1: the rest of the field means nothing any more).
const MAJOR_VERSION: u8 = 3;

/// One generation of keys for what we receive.
pub(super) struct Opener {
    key: Box<dyn MessageDecrypter>,
    sequence: u64,
    limit: u64,
    tls13: bool,
}

/// A record that has been opened.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: ContentType,
    /// With its header.
    pub(super) length: usize,
    /// Where its content stands now.
    pub(super) plain: Range<usize>,
}

impl Opener {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, RecordFault> {
        let (key, iv) = key_and_iv(secrets)?;
        let key = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                let iv = iv.as_ref().get(..fixed).unwrap_or_default();
                suite.aead_alg.decrypter(key, iv)
            }
        };
        Ok(Self { key, sequence, limit: record_limit(suite), tls13: suite.tls13().is_some() })
    }

    /// Opens the record at the beginning of `bytes`; none where it is not whole yet.
    pub(super) fn open(&mut self, bytes: &mut [u8]) -> Result<Option<Record>, RecordFault> {
        let Some(header) = bytes.first_chunk() else { return Ok(None) };
        let (kind, body) = self.parse(header)?;
        let base = bytes.as_ptr().addr();
        let Some(body) = bytes.get_mut(HEADER..HEADER + body) else { return Ok(None) };
        let length = HEADER + body.len();
        let message = InboundOpaqueMessage::new(kind, ProtocolVersion::TLSv1_2, body);
        let plain = self.key.decrypt(message, self.sequence).map_err(RecordFault::Unreadable)?;
        self.sequence += 1;
        let start = plain.payload.as_ptr().addr().saturating_sub(base);
        let range = start..start + plain.payload.len();
        Ok(Some(Record { kind: plain.typ, length, plain: range }))
    }

    pub(super) fn is_worn(&self) -> bool {
        self.sequence >= worn_at(self.limit)
    }

    /// True once, with the record that reaches the limit.
    pub(super) fn has_just_reached_limit(&self) -> bool {
        self.sequence == self.limit
    }

    /// The outer kind, and the length of what follows the header.
    fn parse(&self, header: &[u8; HEADER]) -> Result<(ContentType, usize), RecordFault> {
        let &[kind, major, _, high, low] = header;
        let kind = ContentType::from(kind);
        let length = usize::from(u16::from_be_bytes([high, low]));
        if matches!(kind, ContentType::Unknown(_)) || major != MAJOR_VERSION {
            return Err(RecordFault::Malformed("bytes that are no record"));
        }
        // RFC 8446, section 5.2: everything that is encrypted looks like data from outside.
        if self.tls13 && kind != ContentType::ApplicationData {
            return Err(RecordFault::Unexpected("a record that is not encrypted"));
        }
        if length > self.longest() {
            return Err(RecordFault::Malformed("a record that is too long"));
        }
        Ok((kind, length))
    }

    /// RFC 8446, section 5.2; RFC 5246, section 6.2.3.
    fn longest(&self) -> usize {
        FRAGMENT + if self.tls13 { 256 } else { 2048 }
    }

    #[cfg(test)]
    pub(super) fn limit_records(&mut self, limit: u64) {
        self.limit = limit;
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
