//! The key that all client certificates of a process have: RSA with 3072 bits, never written anywhere.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair as _;
use data_encoding::HEXLOWER;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;
use zeroize::Zeroizing;

use crate::tls::client_certificate::fault::CertificateFault;

/// A key with its public part in the two forms that are asked for.
pub(super) struct ClientKey {
    signing: Arc<dyn SigningKey>,
    pkcs8: Zeroizing<Vec<u8>>,
    /// `RSAPublicKey`.
    public_key: Vec<u8>,
    subject_public_key_info: Vec<u8>,
}

impl ClientKey {
    /// Makes a new one, which takes a good part of a second: not on an async thread.
    pub(super) fn generate() -> Result<Self, CertificateFault> {
        let pair = KeyPair::generate(KeySize::Rsa3072).map_err(|_| CertificateFault::Key)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| CertificateFault::Key)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    pub(super) fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, CertificateFault> {
        let pair = KeyPair::from_pkcs8(pkcs8).map_err(|_| CertificateFault::Key)?;
        let public = pair.public_key();
        let info: PublicKeyX509Der<'_> = public.as_der().map_err(|_| CertificateFault::Key)?;
        let for_rustls = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        Ok(Self {
            signing: any_supported_type(&for_rustls).map_err(|_| CertificateFault::Key)?,
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
            public_key: public.as_ref().to_vec(),
            subject_public_key_info: info.as_ref().to_vec(),
        })
    }

    /// For handshakes of rustls.
    pub(super) fn signing(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signing)
    }

    /// For handshakes of OpenSSL.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// What the BIT STRING of a certificate's public key holds.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn subject_public_key_info(&self) -> &[u8] {
        &self.subject_public_key_info
    }

    /// SHA-1, which the format asks for; nothing rests on it.
    pub(super) fn public_key_hash(&self) -> String {
        HEXLOWER
            .encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.public_key).as_ref())
    }

    /// `sha256WithRSAEncryption`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CertificateFault> {
        let scheme = self.signing.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
        let signature = scheme.and_then(|signer| signer.sign(message).ok());
        signature.ok_or(CertificateFault::Key)
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_3072_bits_and_signs_and_is_not_shown() {
        let key = ClientKey::generate().unwrap();
        assert_eq!(key.sign(b"message").unwrap().len() * 8, 3072);
        assert_eq!(format!("{key:?}"), "ClientKey { .. }");
        assert_eq!(key.public_key_hash().len(), 40);
    }
}
