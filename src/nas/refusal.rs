//! What the service says when it refuses: what it means for us, and what to do about it.
//!
//! [`Kind`] is the one table from the vendor's error codes to what they mean. The service's words are quoted, but
//! shortened, and without what was secret in the request: it repeats requests whose signature it refuses.

use std::fmt;

use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::nas::action::Action;
use crate::nas::credentials::Credentials;
use crate::nas::credentials::Origin;

/// What of the service's words is repeated.
const LONGEST_QUOTE: usize = 300;

/// What the service said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means for us.
    pub kind: Kind,
    /// As the vendor lists it, `InvalidFileSystem.NotFound`.
    pub code: String,
    /// In the vendor's words, shortened.
    pub message: String,
    /// Of HTTP.
    pub status: u16,
    /// To ask the vendor with.
    pub request_id: String,
    /// What is missing, as the service says it.
    permission: String,
    access_key_id: String,
    origin: Origin,
}

/// What a refusal means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Too often.
    Throttled,
    /// RAM does not allow it.
    NotAllowed,
    /// The access key does not exist, or is switched off.
    KeyUnknown,
    /// The signature is not one of the access key's.
    WrongSecret,
    /// The security token has ended, or belongs to another access key.
    TokenInvalid,
    /// Our clock and the service's differ by more than 15 minutes.
    ClockOff,
    /// The same request has arrived before.
    Replayed,
    /// What the call is about, or something that it names, is not there.
    NotFound,
    /// A limit of the account or the file system is reached, or its balance.
    AtLimit,
    /// Not now: something else is under way.
    Busy,
    /// The service is in trouble; it may have done it or not.
    ServerTrouble,
    /// The request is wrong.
    Wrong,
}

enum Pattern {
    Is(&'static str),
    Begins(&'static str),
    Ends(&'static str),
    Has(&'static str),
}

use Pattern::{Begins, Ends, Has, Is};

/// The first that fits. Sources: the vendor's pages "Public error codes" of NAS (doc-detail/62603) and of all
/// services, the codes that its CSI driver and its Terraform provider handle.
const CODES: &[(Pattern, Kind)] = &[
    (Begins("Throttling"), Kind::Throttled),
    (Begins("NoPermission"), Kind::NotAllowed),
    (Is("Forbidden.RAM"), Kind::NotAllowed),
    (Is("Forbidden"), Kind::NotAllowed),
    (Begins("InvalidAccessKeyId"), Kind::KeyUnknown),
    (Is("SignatureDoesNotMatch"), Kind::WrongSecret),
    (Is("IncompleteSignature"), Kind::WrongSecret),
    (Begins("InvalidSecurityToken"), Kind::TokenInvalid),
    (Begins("InvalidTimeStamp"), Kind::ClockOff),
    (Is("IllegalTimestamp"), Kind::ClockOff),
    (Is("SignatureNonceUsed"), Kind::Replayed),
    (Is("InvalidParam.MountTargetDomain"), Kind::NotFound),
    (Is("InvalidParameter.QuotaNotExistOnPath"), Kind::NotFound),
    (Is("InvalidParameter.DirPathNotExist"), Kind::NotFound),
    (Ends("NotFound"), Kind::NotFound),
    (Ends("Exceeded"), Kind::AtLimit),
    (Ends("NumberExceed"), Kind::AtLimit),
    (Ends("NotEnoughBalance"), Kind::AtLimit),
    (Has("IncorrectStatus"), Kind::Busy),
    (Begins("InvalidFileSystemStatus"), Kind::Busy),
    (Is("InternalError"), Kind::ServerTrouble),
    (Is("ServiceUnavailable"), Kind::ServerTrouble),
    (Is("ServiceTimeout"), Kind::ServerTrouble),
];

impl Kind {
    /// By the service's code; by HTTP's where the code says nothing.
    #[must_use]
    pub fn of(code: &str, status: u16) -> Self {
        // The vendor's own driver has seen one with a line end in it.
        let code = code.trim();
        let fits = |pattern: &Pattern| match pattern {
            Is(word) => code.eq_ignore_ascii_case(word),
            Begins(word) => code.starts_with(word),
            Ends(word) => code.ends_with(word),
            Has(word) => code.contains(word),
        };
        let known = CODES.iter().find(|(pattern, _)| fits(pattern)).map(|(_, kind)| *kind);
        known.unwrap_or(match status {
            429 => Self::Throttled,
            500..=599 => Self::ServerTrouble,
            _ => Self::Wrong,
        })
    }
}

/// An error, as the service writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorAnswer {
    code: String,
    message: String,
    request_id: String,
    access_denied_detail: Option<AccessDenied>,
}

/// Which permission is missing, by the service's own word. Some services give it as a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum AccessDenied {
    Object {
        #[serde(rename = "AuthAction", default)]
        auth_action: String,
    },
    Text(String),
}

impl AccessDenied {
    fn action(&self) -> Option<String> {
        match self {
            Self::Object { auth_action } => Some(auth_action.clone()),
            Self::Text(text) => match serde_json::from_str(text) {
                Ok(Self::Object { auth_action }) => Some(auth_action),
                Ok(Self::Text(_)) | Err(_) => None,
            },
        }
        .filter(|action| !action.is_empty())
    }
}

impl Refusal {
    /// Reads an answer that is none of success.
    ///
    /// # Errors
    /// The request id, where it is no answer of the API's.
    pub(super) fn read(
        action: Action,
        status: u16,
        body: &[u8],
        used: &Credentials,
    ) -> Result<Self, String> {
        let answer: ErrorAnswer = serde_json::from_slice(body).unwrap_or_default();
        let request_id = request_id(&answer.request_id);
        // A proxy or a load balancer answers in a language of its own.
        if answer.code.is_empty() && status < 500 && status != 429 {
            return Err(request_id);
        }
        let denied = answer.access_denied_detail.as_ref().and_then(AccessDenied::action);
        Ok(Self {
            kind: Kind::of(&answer.code, status),
            code: if answer.code.is_empty() {
                "no code".into()
            } else {
                quoted(&answer.code, used)
            },
            message: quoted(&answer.message, used),
            status,
            request_id,
            permission: denied.map_or_else(|| action.permission(), |denied| quoted(&denied, used)),
            access_key_id: used.access_key_id.clone(),
            origin: used.origin,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, status, request_id, .. } = self;
        write!(f, "{code}: {message}{} (HTTP {status}, request id {request_id})", self.advice())
    }
}

impl Refusal {
    fn advice(&self) -> String {
        let Self { permission, access_key_id: key, origin, .. } = self;
        match self.kind {
            Kind::Throttled => "; the account makes too many calls".to_owned(),
            Kind::NotAllowed => format!(
                "; grant {permission} to the RAM user or role of access key {key}, which is from {origin} (all \
                 that is needed: deploy/ram-policy.json)"
            ),
            Kind::KeyUnknown => {
                format!("; access key {key} is from {origin}: put one there that is in use")
            }
            Kind::WrongSecret => {
                format!(
                    "; the secret from {origin} is not the one of access key {key}: put the right one there"
                )
            }
            Kind::TokenInvalid => {
                format!("; the security token from {origin} does not hold: is it renewed there?")
            }
            Kind::ClockOff => "; set this machine's clock".to_owned(),
            Kind::AtLimit => {
                "; raise the limit at the vendor, or remove what is not needed".to_owned()
            }
            Kind::Replayed | Kind::NotFound | Kind::Busy | Kind::ServerTrouble | Kind::Wrong => {
                String::new()
            }
        }
    }
}

/// One line of a bearable length, with nothing in it that was secret in the request.
fn quoted(text: &str, used: &Credentials) -> String {
    let token = used.security_token.as_ref().map(ExposeSecret::expose_secret);
    let secrets = [Some(used.access_key_secret.expose_secret()), token];
    let mut text = text.trim().to_owned();
    for secret in secrets.into_iter().flatten().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "<redacted>");
    }
    one_line(&text)
}

/// One line of a bearable length.
pub(super) fn one_line(text: &str) -> String {
    let clean = text.trim().chars().map(|one| if one.is_control() { ' ' } else { one });
    let mut line: String = clean.clone().take(LONGEST_QUOTE).collect();
    if clean.count() > LONGEST_QUOTE {
        line.push('…');
    }
    line
}

fn request_id(text: &str) -> String {
    if text.is_empty() { "unknown".to_owned() } else { one_line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_what_the_table_says_and_an_unknown_one_what_http_says() {
        for (code, status, kind) in [
            ("Throttling", 400, Kind::Throttled),
            ("Throttling.Api", 400, Kind::Throttled),
            ("anything", 429, Kind::Throttled),
            ("InvalidAccessKeyId.NotFound", 404, Kind::KeyUnknown),
            ("InvalidFileSystem.NotFound", 404, Kind::NotFound),
            ("InvalidFilesystem.NotFound", 404, Kind::NotFound),
            ("Forbidden.NasNotFound", 403, Kind::NotFound),
            ("InvalidParameter.QuotaNotExistOnPath", 400, Kind::NotFound),
            ("OperationDenied.AccessPointCountsExceeded\n", 403, Kind::AtLimit),
            ("Instance.IncorrectStatus", 403, Kind::Busy),
            ("ServiceUnavailable", 503, Kind::ServerTrouble),
            ("SubRam.CheckFailed", 503, Kind::ServerTrouble),
            ("InvalidParameter.StorageType", 400, Kind::Wrong),
        ] {
            assert_eq!(Kind::of(code, status), kind, "{code}");
        }
    }
}
