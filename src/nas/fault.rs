//! Why a call of the API failed, and what to do about it: one line, with the vendor's request id.
//!
//! What the service's own words mean stands in [`crate::nas::refusal`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::nas::action::Action;
use crate::nas::credentials::Credentials;
use crate::nas::credentials::CredentialsFault;
use crate::nas::credentials::Origin;
use crate::nas::endpoint::Endpoint;
use crate::nas::http::HttpFault;
use crate::nas::refusal::Kind;
use crate::nas::refusal::Refusal;

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

impl NasCause {
    /// Reads an answer that is none of success.
    pub(super) fn of_answer(action: Action, status: u16, body: &[u8], used: &Credentials) -> Self {
        match Refusal::read(action, status, body, used) {
            Ok(refusal) => Self::Refused(Box::new(refusal)),
            Err(request_id) => Self::Strange {
                why: "it is no error of the API's; does the endpoint belong to the service?".into(),
                status,
                request_id,
            },
        }
    }

    /// A refusal for the tests of those who call.
    #[cfg(test)]
    pub(crate) fn refused(action: Action, status: u16, body: &str) -> Self {
        let used = Credentials {
            access_key_id: "LTAI1".to_owned(),
            access_key_secret: "s".into(),
            security_token: None,
            expires: None,
            origin: Origin::Environment,
        };
        Self::of_answer(action, status, body.as_bytes(), &used)
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
            NasCause::Refused(refusal) => {
                matches!(refusal.kind, Kind::ServerTrouble | Kind::Replayed)
            }
            NasCause::Credentials(_)
            | NasCause::Unreached(_)
            | NasCause::Crowded { .. }
            | NasCause::Unsendable(_) => false,
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
