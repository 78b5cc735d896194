//! Whether a request is signed as it should be: ACS3-HMAC-SHA256, written from the vendor's page and from RFC 2104,
//! by nothing that our client uses.

use std::time::Duration;
use std::time::SystemTime;

use hyper::HeaderMap;
use sha2::Digest;
use sha2::Sha256;

use crate::openapi::answer::Refusal;
use crate::openapi::answer::refusal;

/// By how much the clocks may differ.
const TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// What of a request is signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// As it came.
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// What the header `authorization` claims.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) access_key_id: String,
    names: Vec<String>,
    signature: String,
}

impl Seen<'_> {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Reads the claim, and whether it is about all that it must be about.
    pub(super) fn claim(&self) -> Result<Claim, Refusal> {
        let incomplete = |why: &str| refusal(400, "IncompleteSignature", why);
        let rest = self.header("authorization").strip_prefix("ACS3-HMAC-SHA256 ");
        let rest = rest.ok_or_else(|| incomplete("The signature algorithm is not supported."))?;
        let part = |name: &str| {
            let found = rest.split(',').find_map(|part| part.strip_prefix(name));
            found.map(str::to_owned).ok_or_else(|| incomplete("A part of the header is missing."))
        };
        let claim = Claim {
            access_key_id: part("Credential=")?,
            names: part("SignedHeaders=")?.split(';').map(str::to_owned).collect(),
            signature: part("Signature=")?,
        };
        // "All common request headers except Authorization must be included if they exist."
        let must =
            self.headers.keys().map(hyper::header::HeaderName::as_str).filter(|name| {
                name.starts_with("x-acs-") || ["host", "content-type"].contains(name)
            });
        let required = ["host", "x-acs-action", "x-acs-content-sha256", "x-acs-date"];
        let all_signed = must.chain(required).all(|name| claim.names.iter().any(|one| one == name));
        if !all_signed || !claim.names.is_sorted() {
            return Err(incomplete("A header that must be signed is not."));
        }
        if self.header("x-acs-content-sha256") != hex(&Sha256::digest(self.body)) {
            return Err(incomplete("x-acs-content-sha256 is not that of the body."));
        }
        self.check_date()?;
        Ok(claim)
    }

    fn check_date(&self) -> Result<(), Refusal> {
        let date = self.header("x-acs-date");
        let time = humantime::parse_rfc3339(date).map_err(|_| {
            refusal(
                400,
                "InvalidTimeStamp.Format",
                "Specified time stamp or date value is not well formatted.",
            )
        })?;
        let now = SystemTime::now();
        let off =
            now.duration_since(time).or_else(|_| time.duration_since(now)).unwrap_or(Duration::MAX);
        if off > TOLERANCE {
            let message = "Specified time stamp or date value is expired.";
            return Err(refusal(400, "InvalidTimeStamp.Expired", message));
        }
        Ok(())
    }

    /// Is it signed with this secret?
    pub(super) fn verify(&self, claim: &Claim, secret: &str) -> Result<(), Refusal> {
        let canonical = self.canonical(claim);
        let to_sign = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        if hex(&hmac(secret.as_bytes(), to_sign.as_bytes())) == claim.signature {
            return Ok(());
        }
        // It repeats the request, as the real one does.
        let message = format!(
            "Specified signature is not matched with our calculation. server CanonicalRequest is:{canonical}"
        );
        Err(refusal(400, "SignatureDoesNotMatch", &message))
    }

    fn canonical(&self, claim: &Claim) -> String {
        let mut pairs: Vec<_> = pairs(self.query);
        pairs.sort();
        let query: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        let lines: String = claim
            .names
            .iter()
            .map(|name| format!("{name}:{}\n", self.header(name).trim()))
            .collect();
        let body = hex(&Sha256::digest(self.body));
        [self.method, self.path, &query.join("&"), &lines, &claim.names.join(";"), &body].join("\n")
    }
}

/// Names and values of a query or of a form, decoded.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let digits = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// RFC 3986, section 2.3.
fn encoded(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(
            |byte| {
                if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect()
}

/// RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    let hashed = Sha256::digest(key);
    let key: &[u8] = if key.len() > BLOCK { &hashed } else { key };
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, sections 4.3 and 4.7.
    #[test]
    fn the_code_is_that_of_the_rfc() {
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_query_is_taken_apart() {
        let found = pairs("a=1%20%2F&b=&c=x+y&d=%zz&Tag.1.Key=%C3%A9");
        let shown: Vec<_> = found.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!(shown, ["a:1 /", "b:", "c:x y", "d:%zz", "Tag.1.Key:é"]);
    }
}
