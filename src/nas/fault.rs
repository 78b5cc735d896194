//! Why a call of the API failed, and what to do about it: one line, with the vendor's request id.
//!
//! [`Kind`] is the one table from the vendor's error codes to what they mean for us. What the service says is
//! quoted, but shortened, and without what was secret in the request: it repeats requests whose signature it
//! refuses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::nas::action::Action;
use crate::nas::credentials::Credentials;
use crate::nas::credentials::CredentialsFault;
use crate::nas::credentials::Origin;
use crate::nas::endpoint::Endpoint;
use crate::nas::http::HttpFault;

/// What of the service's words is repeated.
const LONGEST_QUOTE: usize = 300;

/// A call has failed for good.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to call {action} at {endpoint}{}: {cause}", Attempts(*.attempts))]
pub struct NasFault {
    /// Which call.
    pub action: Action,
    /// Where.
    pub endpoint: Endpoint,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt failed with. Its text is part of ours.
    pub cause: NasCause,
}

/// What an attempt failed with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NasCause {
    /// There is nothing to sign with.
    #[error("{0}")]
    Credentials(Arc<CredentialsFault>),
    /// The service has answered, and refuses.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// There was no answer, and nothing has been done.
    #[error("{0}")]
    Unreached(HttpFault),
    /// There was no answer, and it is not known whether it was done.
    #[error("{0}; whether it was done is not known")]
    Unanswered(HttpFault),
    /// Too many want the same.
    #[error("too many such calls wait already: at {} a minute this one's turn would come in {} s", .per_minute, .wait.as_secs())]
    Crowded {
        /// How many the service allows.
        per_minute: u32,
        /// How long one would have to wait.
        wait: Duration,
    },
    /// The answer is none of the API's.
    #[error("the answer was not understood: {why} (HTTP {status}, request id {request_id})")]
    Strange {
        /// What is wrong with it.
        why: String,
        /// Of HTTP.
        status: u16,
        /// To ask the vendor with.
        request_id: String,
    },
    /// No header can carry the access key or token.
    #[error("the credentials from {0} hold a character that no HTTP header can carry")]
    Unsendable(Origin),
}

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

impl NasCause {
    /// Reads an answer that is none of success.
    pub(super) fn of_answer(action: Action, status: u16, body: &[u8], used: &Credentials) -> Self {
        let answer: ErrorAnswer = serde_json::from_slice(body).unwrap_or_default();
        // A proxy or a load balancer answers in a language of its own.
        if answer.code.is_empty() && status < 500 && status != 429 {
            let why =
                "it is no error of the API's; does the endpoint belong to the service?".into();
            return Self::Strange { why, status, request_id: request_id(&answer.request_id) };
        }
        let denied = answer.access_denied_detail.as_ref().and_then(AccessDenied::action);
        Self::Refused(Box::new(Refusal {
            kind: Kind::of(&answer.code, status),
            code: if answer.code.is_empty() {
                "no code".into()
            } else {
                quoted(&answer.code, used)
            },
            message: quoted(&answer.message, used),
            status,
            request_id: request_id(&answer.request_id),
            permission: denied.map_or_else(|| action.permission(), |denied| quoted(&denied, used)),
            access_key_id: used.access_key_id.clone(),
            origin: used.origin,
        }))
    }

    /// What the service refuses, where it does.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind),
            _ => None,
        }
    }
}

impl NasFault {
    /// What the service refuses, where it does.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.cause.kind()
    }

    /// Has the service refused it with one of these codes?
    pub(super) fn has_code(&self, codes: &[&str]) -> bool {
        match &self.cause {
            NasCause::Refused(refusal) => {
                codes.iter().any(|code| refusal.code.trim().eq_ignore_ascii_case(code))
            }
            _ => false,
        }
    }

    /// May it have been done all the same? Then look before it is asked for again.
    #[must_use]
    pub fn may_have_been_done(&self) -> bool {
        match &self.cause {
            NasCause::Unanswered(_) | NasCause::Strange { .. } => true,
            NasCause::Refused(refusal) => refusal.kind == Kind::ServerTrouble,
            NasCause::Credentials(_)
            | NasCause::Unreached(_)
            | NasCause::Crowded { .. }
            | NasCause::Unsendable(_) => false,
        }
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

struct Attempts(u32);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            number => write!(f, " ({number} attempts)"),
        }
    }
}

/// One line of a bearable length, with nothing in it that was secret in the request.
pub(super) fn quoted(text: &str, used: &Credentials) -> String {
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

    fn used() -> Credentials {
        Credentials {
            access_key_id: "LTAI1".to_owned(),
            access_key_secret: "topsecret".into(),
            security_token: Some("a+token".into()),
            expires: None,
            origin: Origin::Environment,
        }
    }

    fn said(status: u16, body: &str) -> String {
        let action = Action::CreateFileSystem;
        let endpoint = Endpoint::parse("nas.example.com").unwrap();
        let cause = NasCause::of_answer(action, status, body.as_bytes(), &used());
        NasFault { action, endpoint, attempts: 1, cause }.to_string()
    }

    #[test]
    fn each_refusal_says_what_to_do_and_under_which_request_id() {
        let begin = "failed to call CreateFileSystem at nas.example.com: ";
        for (status, code, end) in [
            (
                403,
                "NoPermission",
                "grant nas:CreateFileSystem to the RAM user or role of access key LTAI1, which is \
                 from the environment (all that is needed: deploy/ram-policy.json)",
            ),
            (
                404,
                "InvalidAccessKeyId.NotFound",
                "access key LTAI1 is from the environment: put one there that is in use",
            ),
            (
                400,
                "SignatureDoesNotMatch",
                "the secret from the environment is not the one of access key LTAI1: put \
                 the right one there",
            ),
            (
                400,
                "InvalidSecurityToken.Expired",
                "the security token from the environment does not hold: is it \
                 renewed there?",
            ),
            (400, "InvalidTimeStamp.Expired", "set this machine's clock"),
            (400, "Throttling.User", "the account makes too many calls"),
        ] {
            let body =
                format!(r#"{{"Code":"{code}","Message":"no.","RequestId":"R-1","HostId":"h"}}"#);
            let line = format!("{begin}{code}: no.; {end} (HTTP {status}, request id R-1)");
            assert_eq!(said(status, &body), line);
        }
    }

    #[test]
    fn the_permission_is_the_one_that_the_service_misses() {
        let object = r#"{"Code":"Forbidden.RAM","Message":"x","RequestId":"R",
            "AccessDeniedDetail":{"AuthAction":"ram:CreateServiceLinkedRole","PolicyType":"y"}}"#;
        let text = r#"{"Code":"Forbidden.RAM","Message":"x","RequestId":"R",
            "AccessDeniedDetail":"{\"AuthAction\":\"ram:CreateServiceLinkedRole\"}"}"#;
        for body in [object, text] {
            assert!(
                said(403, body).contains("grant ram:CreateServiceLinkedRole to"),
                "{}",
                said(403, body)
            );
        }
    }

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

    #[test]
    fn what_the_service_repeats_of_the_request_is_shown_without_its_secrets() {
        let body = r#"{"Code":"SignatureDoesNotMatch","Message":"server CanonicalRequest is
            x-acs-security-token:a+token, topsecret","RequestId":"R"}"#
            .replace('\n', "\\n");
        let line = said(400, &body);
        assert!(line.contains("x-acs-security-token:<redacted>, <redacted>"), "{line}");
        assert!(!line.contains(['\n', '\t']), "{line}");
        let long = format!(r#"{{"Code":"x","Message":"{}"}}"#, "m".repeat(9000));
        assert!(said(400, &long).len() < 500);
    }

    #[test]
    fn an_answer_that_is_not_the_service_s_is_told_apart() {
        let line = said(404, "<html>not here</html>");
        assert!(
            line.contains(
                "does the endpoint belong to the service? (HTTP 404, request id unknown)"
            ),
            "{line}"
        );
        assert!(
            said(502, "<html>bad gateway</html>").contains("no code:  (HTTP 502"),
            "{}",
            said(502, "")
        );
    }
}
