//! The signature by which a RAM user or role vouches for a client certificate.
//!
//! AWS Signature Version 4 with other words in it, as aliyun-alinas-utils 2.2 makes it, whose slip is part of
//! the format: the scope says `aliyun-alinas/aliyun4_request`, the chain of keys `nas` and `aliyun_v4_request`.
//!
//! Pure. The public key is signed along, so that a signature is of no use with another key.

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::host::credentials::Credentials;
use crate::model::mount_target::FileSystemName;

const ALGORITHM: &str = "ALIYUN4-HMAC-SHA256";
/// The longest that a signature may be used, in seconds; the certificate ends long before.
const EXPIRES: &str = "86400";

/// What is signed, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    /// To which file system.
    pub file_system: &'a FileSystemName,
    /// SHA-1 of the public key, in hexadecimal digits.
    pub public_key_hash: &'a str,
    /// `20260102T030405Z`.
    pub time: &'a str,
}

/// Signs: 64 hexadecimal digits.
pub(super) fn sign(request: &Request<'_>, credentials: &Credentials) -> String {
    let key = signing_key(request, credentials);
    HEXLOWER.encode(hmac::sign(&key, string_to_sign(request, credentials).as_bytes()).as_ref())
}

fn string_to_sign(request: &Request<'_>, credentials: &Credentials) -> String {
    let canonical = canonical_request(request, credentials);
    let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    format!("{ALGORITHM}\n{}\n{}\n{hash}", request.time, request.scope())
}

/// It holds the security token.
fn canonical_request(request: &Request<'_>, credentials: &Credentials) -> Zeroizing<String> {
    let credential = format!("{}/{}", credentials.access_key_id, request.scope());
    let token = credentials.security_token.as_ref();
    let token = token.map(|token| ("X-Alinas-Security-Token", token.expose_secret()));
    // In the order of the keys.
    let query = [
        ("Action", "Connect"),
        ("PublicKeyHash", request.public_key_hash),
        ("X-Alinas-Algorithm", ALGORITHM),
        ("X-Alinas-Credential", &credential),
        ("X-Alinas-Date", request.time),
        ("X-Alinas-Expires", EXPIRES),
    ]
    .into_iter()
    .chain(token)
    .chain([("X-Alinas-SignedHeaders", "host")])
    .map(|(key, value)| format!("{key}={}", escaped(value)))
    .collect::<Vec<_>>()
    .join("&");
    let nothing = HEXLOWER.encode(digest::digest(&digest::SHA256, b"").as_ref());
    let host = &request.file_system.id;
    Zeroizing::new(format!("GET\n/\n{query}\nhost:{host}\nhost\n{nothing}"))
}

fn signing_key(request: &Request<'_>, credentials: &Credentials) -> hmac::Key {
    let secret = credentials.access_key_secret.expose_secret();
    let secret = Zeroizing::new(format!("aliyun_v4{secret}"));
    [request.date(), &request.file_system.region, "nas", "aliyun_v4_request"].iter().fold(
        hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
        |key, part| {
            let derived = hmac::sign(&key, part.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        },
    )
}

impl Request<'_> {
    fn scope(&self) -> String {
        let (date, region) = (self.date(), &self.file_system.region);
        format!("{date}/{region}/aliyun-alinas/aliyun4_request")
    }

    fn date(&self) -> &str {
        self.time.split('T').next().unwrap_or_default()
    }
}

/// As Python's `quote_plus`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                escaped.push(byte.into());
            }
            b' ' => escaped.push('+'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use crate::tls::client_certificate::golden;

    use super::*;

    #[test]
    fn requests_and_signatures_are_those_that_python_makes() {
        let signed =
            golden::vectors().into_iter().filter_map(|vector| Some((vector.ram?, vector.content)));
        let mut seen = 0;
        for (ram, content) in signed {
            let file_system = content.file_system.unwrap();
            let request = Request {
                file_system: &file_system,
                public_key_hash: &golden::key().public_key_hash(),
                time: &content.now.compact(),
            };
            assert_eq!(*canonical_request(&request, &ram.credentials), ram.canonical_request);
            assert_eq!(string_to_sign(&request, &ram.credentials), ram.string_to_sign);
            assert_eq!(sign(&request, &ram.credentials), ram.signature);
            seen += 1;
        }
        assert_eq!(seen, 2);
    }
}
