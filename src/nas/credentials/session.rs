//! Temporary credentials, as the two services that give them out write them.

use std::time::Duration;
use std::time::UNIX_EPOCH;

use secrecy::SecretString;
use serde::Deserialize;
use serde::Deserializer;

use crate::nas::credentials::Credentials;
use crate::nas::credentials::Origin;
use crate::nas::credentials::SourceFault;

/// The same four names at STS and at the metadata service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Session {
    access_key_id: String,
    #[serde(deserialize_with = "secret")]
    access_key_secret: SecretString,
    #[serde(deserialize_with = "secret")]
    security_token: SecretString,
    /// `2026-01-02T03:04:05Z`
    expiration: String,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}

impl Session {
    pub(super) fn credentials(
        self,
        origin: Origin,
        service: &str,
    ) -> Result<Credentials, SourceFault> {
        let strange = |why: String| SourceFault::Strange { service: service.to_owned(), why };
        Ok(Credentials {
            expires: Some(since_epoch(&self.expiration).ok_or_else(|| {
                strange(format!("its end {:?} is no time", one_word(&self.expiration)))
            })?),
            access_key_id: self.access_key_id,
            access_key_secret: self.access_key_secret,
            security_token: Some(self.security_token),
            origin,
        })
    }
}

fn since_epoch(text: &str) -> Option<Duration> {
    humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()
}

fn one_word(text: &str) -> String {
    text.chars().take(40).collect()
}

/// What serde says of a body that held secrets: where it is wrong, without any of it.
pub(super) fn position(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field is missing or of another kind",
        _ => "it is no JSON",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"AccessKeyId":"STS.1","AccessKeySecret":"topsecret","SecurityToken":"t",
        "Expiration":"2026-01-02T03:04:05Z","LastUpdated":"x","Code":"Success"}"#;

    #[test]
    fn the_end_of_a_session_is_read_and_a_strange_one_is_an_error() {
        let session: Session = serde_json::from_str(TEXT).unwrap();
        assert!(!format!("{session:?}").contains("topsecret"));
        let credentials = session.credentials(Origin::Oidc, "STS").unwrap();
        assert_eq!(credentials.expires, Some(Duration::from_secs(1_767_323_045)));
        let strange: Session = serde_json::from_str(&TEXT.replace("2026-01", "soon")).unwrap();
        let fault = strange.credentials(Origin::Oidc, "STS").unwrap_err();
        assert!(fault.to_string().contains("is no time"), "{fault}");
        let error =
            serde_json::from_str::<Session>(r#"{"AccessKeySecret":"topsecret"}"#).unwrap_err();
        assert!(!position(&error).contains("topsecret"));
    }
}
