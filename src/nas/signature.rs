//! The vendor's signature of a request, version 3: ACS3-HMAC-SHA256.
//!
//! Source: the vendor's page "Request syntax and signature method V3", whose example is among the golden
//! vectors (`e2e/openapi/regenerate`). A secret is the key as it stands; nothing is derived from it.
//!
//! Pure. All parameters are in the query, so the body is always empty.

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::header::InvalidHeaderValue;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::nas::credentials::Credentials;

const ALGORITHM: &str = "ACS3-HMAC-SHA256";
const HOST: &str = "host";

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signable<'a> {
    /// `POST`
    pub method: &'a str,
    /// As the header `host` says it, with the port where it is not 443.
    pub host: &'a str,
    /// As [`crate::nas::query::Query`] writes it.
    pub query: &'a str,
    /// Which call.
    pub action: &'a str,
    /// Of the API.
    pub version: &'a str,
    /// `2026-01-02T03:04:05Z`; the service refuses what is more than 15 minutes off.
    pub date: &'a str,
    /// Never the same twice.
    pub nonce: &'a str,
}

/// The headers that a request is sent with, `host` excepted, which HTTP adds. Those that hold a secret are
/// marked as sensitive.
pub(super) fn signed_headers(
    request: &Signable<'_>,
    credentials: &Credentials,
) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
    let headers = headers(request, credentials);
    let mut sent = Vec::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| *name != HOST) {
        sent.push((HeaderName::from_static(name), sensitive(value)?));
    }
    let authorization = authorization(request, credentials);
    sent.push((hyper::header::AUTHORIZATION, sensitive(&authorization)?));
    Ok(sent)
}

fn sensitive(value: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}

fn authorization(request: &Signable<'_>, credentials: &Credentials) -> String {
    let names = names(&headers(request, credentials));
    let key_id = &credentials.access_key_id;
    let signature = signature(request, credentials);
    format!("{ALGORITHM} Credential={key_id},SignedHeaders={names},Signature={signature}")
}

fn signature(request: &Signable<'_>, credentials: &Credentials) -> String {
    let secret = credentials.access_key_secret.expose_secret();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    HEXLOWER.encode(hmac::sign(&key, string_to_sign(request, credentials).as_bytes()).as_ref())
}

fn string_to_sign(request: &Signable<'_>, credentials: &Credentials) -> String {
    let canonical = canonical_request(request, credentials);
    format!("{ALGORITHM}\n{}", sha256(canonical.as_bytes()))
}

/// It holds the security token.
fn canonical_request(request: &Signable<'_>, credentials: &Credentials) -> Zeroizing<String> {
    let headers = headers(request, credentials);
    let lines: Zeroizing<String> = Zeroizing::new(
        headers.iter().map(|(name, value)| format!("{name}:{}\n", **value)).collect(),
    );
    let Signable { method, query, .. } = request;
    let (names, body) = (names(&headers), sha256(b""));
    Zeroizing::new(format!("{method}\n/\n{query}\n{}\n{names}\n{body}", *lines))
}

type Headers = Vec<(&'static str, Zeroizing<String>)>;

/// What is signed along, in the order of the names.
fn headers(request: &Signable<'_>, credentials: &Credentials) -> Headers {
    let token = credentials.security_token.as_ref();
    let token = token.map(|token| ("x-acs-security-token", token.expose_secret().to_owned()));
    let before_token = [
        (HOST, request.host.to_owned()),
        ("x-acs-action", request.action.to_owned()),
        ("x-acs-content-sha256", sha256(b"")),
        ("x-acs-date", request.date.to_owned()),
    ];
    let after_token = [
        ("x-acs-signature-nonce", request.nonce.to_owned()),
        ("x-acs-version", request.version.to_owned()),
    ];
    let all = before_token.into_iter().chain(token).chain(after_token);
    all.map(|(name, value)| (name, Zeroizing::new(value))).collect()
}

fn names(headers: &Headers) -> String {
    headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::nas::credentials::Origin;
    use crate::nas::query::Query;

    use super::*;

    fn vectors() -> Vec<Value> {
        serde_json::from_str(include_str!("../../e2e/openapi/vectors.json")).unwrap()
    }

    fn of<'a>(vector: &'a Value, key: &str) -> &'a str {
        vector[key].as_str().unwrap_or_else(|| panic!("{key} is missing: {vector}"))
    }

    fn credentials(vector: &Value) -> Credentials {
        Credentials {
            access_key_id: of(vector, "access_key_id").to_owned(),
            access_key_secret: of(vector, "access_key_secret").to_owned().into(),
            security_token: vector["security_token"].as_str().map(Into::into),
            expires: None,
            origin: Origin::Environment,
        }
    }

    fn query(vector: &Value) -> Query {
        let parameters = vector["query"].as_object().unwrap();
        parameters
            .iter()
            .fold(Query::default(), |query, (key, value)| query.with(key, value.as_str().unwrap()))
    }

    fn signable<'a>(vector: &'a Value, query: &'a str) -> Signable<'a> {
        Signable {
            method: of(vector, "method"),
            host: of(vector, "host"),
            query,
            action: of(vector, "action"),
            version: of(vector, "version"),
            date: of(vector, "date"),
            nonce: of(vector, "nonce"),
        }
    }

    #[test]
    fn requests_are_signed_as_python_and_the_vendor_s_example_sign_them() {
        let vectors = vectors();
        assert!(vectors.len() >= 4);
        for vector in &vectors {
            let (credentials, query) = (credentials(vector), query(vector).canonical());
            let request = signable(vector, &query);
            let name = of(vector, "name");
            let canonical = canonical_request(&request, &credentials);
            assert_eq!(*canonical, of(vector, "canonical_request"), "{name}");
            let to_sign = string_to_sign(&request, &credentials);
            assert_eq!(to_sign, of(vector, "string_to_sign"), "{name}");
            let authorization = authorization(&request, &credentials);
            assert_eq!(authorization, of(vector, "authorization"), "{name}");
        }
    }

    #[test]
    fn what_is_sent_is_what_was_signed_and_no_header_with_a_secret_can_be_printed() {
        for vector in &vectors() {
            let (credentials, query) = (credentials(vector), query(vector).canonical());
            let request = signable(vector, &query);
            let sent = signed_headers(&request, &credentials).unwrap();
            let signed = names(&headers(&request, &credentials));
            let names: Vec<_> = sent.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(format!("host;{}", names[..names.len() - 1].join(";")), signed);
            assert_eq!(names.last(), Some(&"authorization"));
            let shown = format!("{sent:?} {credentials:?}");
            for secret in ["access_key_secret", "security_token"] {
                let Some(secret) = vector[secret].as_str() else { continue };
                assert!(!shown.contains(secret), "{shown}");
            }
            assert!(!shown.contains("Signature="), "{shown}");
        }
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_an_error() {
        let vector = &vectors()[0];
        let credentials =
            Credentials { security_token: Some("a\nb".into()), ..credentials(vector) };
        assert!(signed_headers(&signable(vector, ""), &credentials).is_err());
    }
}
