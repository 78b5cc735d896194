//! Cipher suites that encrypt nothing, so that the fuzzer reaches what is behind decryption: the kinds of records,
//! padding, handshake messages, key updates.
//!
//! A record looks as with AES-GCM: with TLS 1.3 its type is behind the content, with TLS 1.2 a nonce is in front,
//! and there is a tag at the end, of zeros.

use rustls::ConnectionTrafficSecrets;
use rustls::ContentType;
use rustls::Error;
use rustls::ExtractedSecrets;
use rustls::SupportedCipherSuite;
use rustls::Tls12CipherSuite;
use rustls::Tls13CipherSuite;
use rustls::crypto::ActiveKeyExchange;
use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::KeyExchangeAlgorithm;
use rustls::crypto::cipher::AeadKey;
use rustls::crypto::cipher::InboundOpaqueMessage;
use rustls::crypto::cipher::InboundPlainMessage;
use rustls::crypto::cipher::Iv;
use rustls::crypto::cipher::KeyBlockShape;
use rustls::crypto::cipher::MessageDecrypter;
use rustls::crypto::cipher::MessageEncrypter;
use rustls::crypto::cipher::OutboundOpaqueMessage;
use rustls::crypto::cipher::OutboundPlainMessage;
use rustls::crypto::cipher::PrefixedPayload;
use rustls::crypto::cipher::Tls12AeadAlgorithm;
use rustls::crypto::cipher::Tls13AeadAlgorithm;
use rustls::crypto::cipher::UnsupportedOperationError;
use rustls::crypto::hash;
use rustls::crypto::hmac;
use rustls::crypto::tls12::Prf;
use rustls::crypto::tls13::Hkdf;
use rustls::crypto::tls13::HkdfExpander;
use rustls::crypto::tls13::OkmBlock;

use crate::tls::record::Secrets;

/// So few that keys are changed in the middle of a text of the fuzzer.
const RECORDS_OF_A_KEY: u64 = 80;
const NONCE: usize = 8;
const TAG: usize = 16;

static TLS13: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: rustls::CipherSuite::TLS13_AES_128_GCM_SHA256,
        hash_provider: &Never,
        confidentiality_limit: RECORDS_OF_A_KEY,
    },
    hkdf_provider: &Never,
    aead_alg: &Null,
    quic: None,
};

static TLS12: Tls12CipherSuite = Tls12CipherSuite {
    common: CipherSuiteCommon {
        suite: rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        hash_provider: &Never,
        confidentiality_limit: RECORDS_OF_A_KEY,
    },
    prf_provider: &Never,
    kx: KeyExchangeAlgorithm::ECDHE,
    sign: &[],
    aead_alg: &Null,
};

pub fn suite(tls13: bool) -> SupportedCipherSuite {
    match tls13 {
        true => SupportedCipherSuite::Tls13(&TLS13),
        false => SupportedCipherSuite::Tls12(&TLS12),
    }
}

pub fn extracted() -> ExtractedSecrets {
    ExtractedSecrets { tx: (0, secrets()), rx: (0, secrets()) }
}

fn secrets() -> ConnectionTrafficSecrets {
    ConnectionTrafficSecrets::Aes128Gcm { key: AeadKey::from([0; 32]), iv: Iv::from([0; 12]) }
}

/// A record of the peer.
pub fn record(tls13: bool, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    if tls13 {
        body.extend_from_slice(content);
        body.push(kind);
    } else {
        body.extend([0; NONCE]);
        body.extend_from_slice(content);
    }
    body.extend([0; TAG]);
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let mut record = vec![if tls13 { 23 } else { kind }, 3, 3, length[0], length[1]];
    record.extend(body);
    record
}

/// Every key is the next one.
pub struct SameSecrets;

impl Secrets for SameSecrets {
    fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        Ok((0, secrets()))
    }

    fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        Ok((0, secrets()))
    }

    fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), Error> {
        if ticket.is_empty() { Err(Error::General("no ticket".to_owned())) } else { Ok(()) }
    }
}

struct Null;

struct NullTls13;

struct NullTls12;

impl Tls13AeadAlgorithm for Null {
    fn encrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(NullTls13)
    }

    fn decrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(NullTls13)
    }

    fn key_len(&self) -> usize {
        16
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Ok(secrets())
    }
}

impl Tls12AeadAlgorithm for Null {
    fn encrypter(&self, _: AeadKey, _: &[u8], _: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(NullTls12)
    }

    fn decrypter(&self, _: AeadKey, _: &[u8]) -> Box<dyn MessageDecrypter> {
        Box::new(NullTls12)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        KeyBlockShape { enc_key_len: 16, fixed_iv_len: 4, explicit_nonce_len: NONCE }
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: &[u8],
        _: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Ok(secrets())
    }
}

fn sealed(
    message: OutboundPlainMessage<'_>,
    before: usize,
    kind: Option<ContentType>,
) -> OutboundOpaqueMessage {
    let mut payload = PrefixedPayload::with_capacity(before + message.payload.len() + 1 + TAG);
    payload.extend_from_slice(&[0; NONCE][..before]);
    payload.extend_from_chunks(&message.payload);
    if let Some(kind) = kind {
        payload.extend_from_slice(&[kind.into()]);
    }
    payload.extend_from_slice(&[0; TAG]);
    let outer = kind.map_or(message.typ, |_| ContentType::ApplicationData);
    OutboundOpaqueMessage::new(outer, message.version, payload)
}

impl MessageEncrypter for NullTls13 {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        _: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let kind = message.typ;
        Ok(sealed(message, 0, Some(kind)))
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        length + 1 + TAG
    }
}

impl MessageEncrypter for NullTls12 {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        _: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        Ok(sealed(message, NONCE, None))
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        NONCE + length + TAG
    }
}

impl MessageDecrypter for NullTls13 {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        _: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let length = message.payload.len().checked_sub(TAG).ok_or(Error::DecryptError)?;
        message.payload.truncate(length);
        message.into_tls13_unpadded_message()
    }
}

impl MessageDecrypter for NullTls12 {
    fn decrypt<'a>(
        &mut self,
        message: InboundOpaqueMessage<'a>,
        _: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let end = message.payload.len().checked_sub(TAG).ok_or(Error::DecryptError)?;
        if end < NONCE {
            return Err(Error::DecryptError);
        }
        if end - NONCE > crate::tls::record::FRAGMENT {
            return Err(Error::PeerSentOversizedRecord);
        }
        Ok(message.into_plain_message_range(NONCE..end))
    }
}

/// What a suite needs for a handshake. There is none.
struct Never;

impl hash::Hash for Never {
    fn start(&self) -> Box<dyn hash::Context> {
        unreachable!()
    }

    fn hash(&self, _: &[u8]) -> hash::Output {
        unreachable!()
    }

    fn output_len(&self) -> usize {
        unreachable!()
    }

    fn algorithm(&self) -> hash::HashAlgorithm {
        unreachable!()
    }
}

impl Hkdf for Never {
    fn extract_from_zero_ikm(&self, _: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        unreachable!()
    }

    fn extract_from_secret(&self, _: Option<&[u8]>, _: &[u8]) -> Box<dyn HkdfExpander> {
        unreachable!()
    }

    fn expander_for_okm(&self, _: &OkmBlock) -> Box<dyn HkdfExpander> {
        unreachable!()
    }

    fn hmac_sign(&self, _: &OkmBlock, _: &[u8]) -> hmac::Tag {
        unreachable!()
    }
}

impl Prf for Never {
    fn for_key_exchange(
        &self,
        _: &mut [u8; 48],
        _: Box<dyn ActiveKeyExchange>,
        _: &[u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), Error> {
        unreachable!()
    }

    fn for_secret(&self, _: &mut [u8], _: &[u8], _: &[u8], _: &[u8]) {
        unreachable!()
    }
}
