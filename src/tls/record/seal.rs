//! Records for the peer, sealed where they stand.
//!
//! rustls' own sealing copies every record into a vector of its own. For AES-GCM of TLS 1.3, which is what a
//! tunnel does all day, the same key of aws-lc seals in place; everything else goes rustls' way and is copied back.

use std::fmt;

use aws_lc_rs::aead;
use rustls::ConnectionTrafficSecrets;
use rustls::ContentType;
use rustls::Error;
use rustls::ProtocolVersion;
use rustls::SupportedCipherSuite;
use rustls::crypto::cipher::Iv;
use rustls::crypto::cipher::MessageEncrypter;
use rustls::crypto::cipher::Nonce;
use rustls::crypto::cipher::OutboundChunks;
use rustls::crypto::cipher::OutboundPlainMessage;
use rustls::crypto::cipher::make_tls13_aad;

use crate::tls::record::FRAGMENT;
use crate::tls::record::HEADER;
use crate::tls::record::RecordFault;
use crate::tls::record::key_and_iv;
use crate::tls::record::record_limit;
use crate::tls::record::worn_at;

/// Of AES-GCM.
const TAG: usize = 16;
/// Records that may still follow once keys are nearly spent: more than one buffer holds.
const MARGIN: u64 = 64;

/// The room around the plain bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Header and, with TLS 1.2, the explicit nonce.
    pub before: usize,
    /// The tag and, with TLS 1.3, the inner type.
    pub after: usize,
}

impl Layout {
    /// A record with as many plain bytes as fit.
    #[must_use]
    pub fn longest(self) -> usize {
        self.before + FRAGMENT + self.after
    }
}

/// One generation of keys for what we send.
pub(super) struct Sealer {
    key: Key,
    layout: Layout,
    sequence: u64,
    limit: u64,
}

enum Key {
    /// AES-GCM with TLS 1.3.
    InPlace { key: aead::TlsRecordSealingKey, iv: Iv },
    /// Anything else that rustls has.
    Copying(Box<dyn MessageEncrypter>),
}

impl Sealer {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, RecordFault> {
        let mut key = match (suite, secrets) {
            (SupportedCipherSuite::Tls13(_), ConnectionTrafficSecrets::Aes128Gcm { key, iv }) => {
                Key::in_place(&aead::AES_128_GCM, key.as_ref(), iv)?
            }
            (SupportedCipherSuite::Tls13(_), ConnectionTrafficSecrets::Aes256Gcm { key, iv }) => {
                Key::in_place(&aead::AES_256_GCM, key.as_ref(), iv)?
            }
            (_, secrets) => Key::Copying(encrypter(suite, secrets)?),
        };
        if sequence > 0 {
            key.prime()?;
        }
        Ok(Self { layout: key.layout(), key, sequence, limit: record_limit(suite) })
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Makes a record of `slot`, which has the content with the layout's room around it.
    pub(super) fn seal(&mut self, kind: ContentType, slot: &mut [u8]) -> Result<(), RecordFault> {
        self.key.seal(kind, self.layout, slot, self.sequence).map_err(RecordFault::Unsealable)?;
        self.sequence += 1;
        Ok(())
    }

    pub(super) fn is_nearly_spent(&self) -> bool {
        self.sequence >= self.limit.saturating_sub(MARGIN)
    }

    pub(super) fn is_worn(&self) -> bool {
        self.sequence >= worn_at(self.limit)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.sequence >= self.limit.saturating_sub(1)
    }

    #[cfg(test)]
    pub(super) fn limit_records(&mut self, limit: u64) {
        self.limit = limit;
    }
}

impl Key {
    fn in_place(
        algorithm: &'static aead::Algorithm,
        key: &[u8],
        iv: Iv,
    ) -> Result<Self, RecordFault> {
        let key = aead::TlsRecordSealingKey::new(algorithm, aead::TlsProtocolId::TLS13, key)
            .map_err(|_| RecordFault::Unsealable(Error::EncryptError))?;
        Ok(Self::InPlace { key, iv })
    }

    fn layout(&self) -> Layout {
        match self {
            Self::InPlace { .. } => Layout { before: HEADER, after: 1 + TAG },
            Self::Copying(key) => Layout { before: HEADER, after: key.encrypted_payload_len(0) },
        }
    }

    /// Seals an empty record with the number 0, for nobody.
    ///
    /// aws-lc refuses a number that it has had before, and takes the first that it sees for the beginning: a
    /// key whose first numbers have been used in the handshake has to be shown one of them.
    fn prime(&mut self) -> Result<(), RecordFault> {
        let layout = self.layout();
        let mut slot = vec![0; layout.before + layout.after];
        self.seal(ContentType::ApplicationData, layout, &mut slot, 0)
            .map_err(RecordFault::Unsealable)
    }

    fn seal(
        &mut self,
        kind: ContentType,
        layout: Layout,
        slot: &mut [u8],
        sequence: u64,
    ) -> Result<(), Error> {
        match self {
            Self::InPlace { key, iv } => seal_in_place(key, iv, kind, slot, sequence),
            Self::Copying(key) => seal_by_copy(&mut **key, kind, layout, slot, sequence),
        }
    }
}

/// RFC 8446, section 5.2: the content and its type are sealed; the header is the additional data.
fn seal_in_place(
    key: &mut aead::TlsRecordSealingKey,
    iv: &Iv,
    kind: ContentType,
    slot: &mut [u8],
    sequence: u64,
) -> Result<(), Error> {
    let header = make_tls13_aad(slot.len().saturating_sub(HEADER));
    let (front, body) = slot.split_first_chunk_mut::<HEADER>().ok_or(Error::EncryptError)?;
    let (inner, tag) = body.split_last_chunk_mut::<TAG>().ok_or(Error::EncryptError)?;
    *inner.last_mut().ok_or(Error::EncryptError)? = kind.into();
    *front = header;
    let nonce = aead::Nonce::assume_unique_for_key(Nonce::new(iv, sequence).0);
    let sealed = key
        .seal_in_place_separate_tag(nonce, aead::Aad::from(header), inner)
        .map_err(|_| Error::EncryptError)?;
    tag.copy_from_slice(sealed.as_ref());
    Ok(())
}

fn seal_by_copy(
    key: &mut dyn MessageEncrypter,
    kind: ContentType,
    layout: Layout,
    slot: &mut [u8],
    sequence: u64,
) -> Result<(), Error> {
    let end = slot.len().saturating_sub(layout.after);
    let content = slot.get(layout.before..end).ok_or(Error::EncryptError)?;
    let message = OutboundPlainMessage {
        typ: kind,
        version: ProtocolVersion::TLSv1_2,
        payload: OutboundChunks::from(content),
    };
    let record = key.encrypt(message, sequence)?.encode();
    if record.len() != slot.len() {
        return Err(Error::EncryptError);
    }
    slot.copy_from_slice(&record);
    Ok(())
}

fn encrypter(
    suite: SupportedCipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageEncrypter>, RecordFault> {
    let (key, iv) = key_and_iv(secrets)?;
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
            let (fixed, explicit) =
                iv.as_ref().split_at_checked(fixed).unwrap_or((iv.as_ref(), &[]));
            suite.aead_alg.encrypter(key, fixed, explicit)
        }
    })
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
