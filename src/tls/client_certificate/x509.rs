//! The certificate's bytes: X.509 v3, self-signed, with the four extensions of aliyun-alinas-utils 2.2.
//!
//! The structures are those of RFC 5280, section 4.1, as far as such a certificate has them; the crate `der`
//! writes them. A ready-made X.509 builder would choose extensions of its own.

use std::time::Duration;

use aws_lc_rs::digest;
use der::Any;
use der::DateTime;
use der::Decode;
use der::Encode;
use der::Sequence;
use der::ValueOrd;
use der::asn1::BitString;
use der::asn1::Null;
use der::asn1::ObjectIdentifier;
use der::asn1::OctetString;
use der::asn1::SetOfVec;
use der::asn1::UtcTime;
use secrecy::ExposeSecret;

use crate::host::credentials::Credentials;
use crate::model::client_identity::AccessPointId;
use crate::model::mount_target::FileSystemName;
use crate::tls::client_certificate::fault::CertificateFault;
use crate::tls::client_certificate::key::ClientKey;
use crate::tls::client_certificate::ram;

/// It holds from so long before it was made, for servers whose clocks are behind.
pub(super) const BEFORE: Duration = Duration::from_secs(15 * 60);
/// And until so long after.
pub(super) const AFTER: Duration = Duration::from_secs(3 * 60 * 60);

/// RFC 5280, appendix A.1: `ub-common-name`.
const LONGEST_NAME: usize = 64;

/// What the vendor's client says of itself where nothing is set, in the release whose format this is. A server
/// may well look at it.
const SOURCE: &str = "unknown";
const CLIENT: &str = "alinas-utils-2.2";

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const ACCESS_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.4843.7.1");
const RAM_PROOF: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.4843.7.2");
const FILE_SYSTEM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.4843.7.3");
const CLIENT_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.4843.7.4");

/// What a certificate says.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// The name of this host.
    pub common_name: String,
    /// When it is made.
    pub now: Time,
    /// Left out where it is not known.
    pub file_system: Option<FileSystemName>,
    /// Left out where there is none.
    pub access_point: Option<AccessPointId>,
}

/// A second, in UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(Duration);

impl Time {
    /// Parts of a second are left out.
    pub(super) fn since_epoch(wall: Duration) -> Self {
        Self(Duration::from_secs(wall.as_secs()))
    }

    /// `20260102T030405Z`.
    pub(super) fn compact(self) -> String {
        let time = DateTime::from_unix_duration(self.0).map(|time| time.to_string());
        time.unwrap_or_default().replace(['-', ':'], "")
    }

    /// Up to 2049, as RFC 5280 wants it.
    fn utc(self) -> der::Result<UtcTime> {
        UtcTime::from_unix_duration(self.0)
    }
}

/// Makes a certificate, and has `credentials` vouch for it where there are some.
pub(super) fn self_signed(
    content: &Content,
    credentials: Option<&Credentials>,
    key: &ClientKey,
) -> Result<Vec<u8>, CertificateFault> {
    let body = body(content, credentials, key)?;
    let signature = key.sign(&body.to_der()?)?;
    let whole = Certificate {
        body,
        algorithm: Algorithm::default(),
        signature: BitString::from_bytes(&signature)?,
    };
    Ok(whole.to_der()?)
}

fn body(
    content: &Content,
    credentials: Option<&Credentials>,
    key: &ClientKey,
) -> Result<Body, CertificateFault> {
    let name = name(&content.common_name)?;
    let Time(now) = content.now;
    Ok(Body {
        version: 2,
        serial_number: 0,
        algorithm: Algorithm::default(),
        issuer: name.clone(),
        validity: Validity {
            not_before: Time(now.saturating_sub(BEFORE)).utc()?,
            not_after: Time(now + AFTER).utc()?,
        },
        subject: name,
        public_key: Any::from_der(key.subject_public_key_info())?,
        extensions: extensions(content, credentials, key)?,
    })
}

fn name(host_name: &str) -> der::Result<Name> {
    let value = host_name.chars().take(LONGEST_NAME).collect();
    let mut set = SetOfVec::new();
    set.insert(NamePart { kind: COMMON_NAME, value })?;
    Ok(vec![set])
}

fn extensions(
    content: &Content,
    credentials: Option<&Credentials>,
    key: &ClientKey,
) -> Result<Vec<Extension>, CertificateFault> {
    // RFC 5280, section 4.2.1.2, method 1.
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.public_key());
    let key_identifier = OctetString::new(hash.as_ref())?;
    let mut extensions = vec![extension(SUBJECT_KEY_IDENTIFIER, &key_identifier)?];
    if let Some(access_point) = &content.access_point {
        extensions.push(extension(ACCESS_POINT, &access_point.to_string())?);
    }
    if let Some(credentials) = credentials {
        extensions.push(extension(RAM_PROOF, &ram_proof(content, credentials, key)?)?);
    }
    if let Some(file_system) = &content.file_system {
        extensions.push(extension(FILE_SYSTEM, &file_system.id)?);
    }
    let info = ClientInfo {
        source: SOURCE.to_owned(),
        version: CLIENT.to_owned(),
        region: content.file_system.as_ref().map(|file_system| file_system.region.clone()),
    };
    extensions.push(extension(CLIENT_INFO, &info)?);
    Ok(extensions)
}

fn ram_proof(
    content: &Content,
    credentials: &Credentials,
    key: &ClientKey,
) -> Result<RamProof, CertificateFault> {
    let file_system = content.file_system.as_ref().ok_or(CertificateFault::UnknownFileSystem)?;
    let request = ram::Request {
        file_system,
        public_key_hash: &key.public_key_hash(),
        time: &content.now.compact(),
    };
    let token = credentials.security_token.as_ref();
    Ok(RamProof {
        access_key_id: credentials.access_key_id.clone(),
        // The digits themselves, not what they stand for.
        signature: OctetString::new(ram::sign(&request, credentials).into_bytes())?,
        time: content.now.utc()?,
        security_token: token.map(|token| token.expose_secret().to_owned()),
    })
}

fn extension(id: ObjectIdentifier, value: &impl Encode) -> der::Result<Extension> {
    Ok(Extension { id, value: OctetString::new(value.to_der()?)? })
}

#[derive(Sequence)]
struct Certificate {
    body: Body,
    algorithm: Algorithm,
    signature: BitString,
}

/// `TBSCertificate`.
#[derive(Sequence)]
struct Body {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial_number: u8,
    algorithm: Algorithm,
    issuer: Name,
    validity: Validity,
    subject: Name,
    /// `SubjectPublicKeyInfo`, as the key gives it.
    public_key: Any,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// `AlgorithmIdentifier` of RFC 4055, section 5.
#[derive(Sequence)]
struct Algorithm {
    id: ObjectIdentifier,
    parameters: Null,
}

type Name = Vec<SetOfVec<NamePart>>;

#[derive(Clone, Sequence, ValueOrd)]
struct NamePart {
    kind: ObjectIdentifier,
    value: String,
}

#[derive(Sequence)]
struct Validity {
    not_before: UtcTime,
    not_after: UtcTime,
}

/// None is critical, which DER does not say.
#[derive(Sequence)]
struct Extension {
    id: ObjectIdentifier,
    value: OctetString,
}

#[derive(Sequence)]
struct RamProof {
    access_key_id: String,
    signature: OctetString,
    time: UtcTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    security_token: Option<String>,
}

#[derive(Sequence)]
struct ClientInfo {
    source: String,
    version: String,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    region: Option<String>,
}

impl Default for Algorithm {
    fn default() -> Self {
        Self { id: SHA256_WITH_RSA, parameters: Null }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use crate::tls::client_certificate::golden;

    use super::*;

    #[test]
    fn certificates_are_those_that_openssl_makes_byte_by_byte() {
        let vectors = golden::vectors();
        assert_eq!(vectors.len(), 5);
        for vector in vectors {
            let credentials = vector.ram.as_ref().map(|ram| &ram.credentials);
            let made = self_signed(&vector.content, credentials, &golden::key()).unwrap();
            assert_eq!(HEXLOWER.encode(&made), vector.certificate, "{}", vector.name);
        }
    }

    #[test]
    fn nobody_vouches_for_a_file_system_that_has_no_name() {
        let vectors = golden::vectors();
        let credentials = vectors.iter().find_map(|vector| vector.ram.as_ref()).unwrap();
        let nameless = vectors.iter().find(|vector| vector.content.file_system.is_none()).unwrap();
        let made = self_signed(&nameless.content, Some(&credentials.credentials), &golden::key());
        assert!(matches!(made, Err(CertificateFault::UnknownFileSystem)));
    }
}
