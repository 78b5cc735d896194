//! A role for a service account of the cluster (RRSA): its token is exchanged at STS by AssumeRoleWithOIDC.
//!
//! The request is not signed: the token is the proof. The kubelet renews the token's file, so it is read anew
//! for each exchange.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::ACCEPT;
use hyper::header::CONTENT_TYPE;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::nas::credentials::Credentials;
use crate::nas::credentials::CredentialsSource;
use crate::nas::credentials::Origin;
use crate::nas::credentials::SourceFault;
use crate::nas::credentials::files;
use crate::nas::credentials::session::Session;
use crate::nas::credentials::session::position;
use crate::nas::endpoint::Endpoint;
use crate::nas::http::Http;
use crate::nas::query::Query;
use crate::nas::refusal::one_line;
use crate::runtime::Clock;

const VERSION: &str = "2015-04-01";
/// How an audit trail calls us.
const SESSION_NAME: &str = "alinas-csi";
/// The most that a role allows unless it was told otherwise.
const DURATION: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(10);

/// Which role, and by which proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// `acs:ram::113511544585:role/alinas-csi`.
    pub role_arn: String,
    /// `acs:ram::113511544585:oidc-provider/ack-rrsa-c0ffee`.
    pub provider_arn: String,
    /// Where the kubelet writes the token.
    pub token_file: PathBuf,
}

/// Asks STS.
#[derive(Debug)]
pub struct Oidc {
    settings: Result<OidcSettings, SourceFault>,
    endpoint: Endpoint,
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    credentials: Session,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Refused {
    code: String,
    message: String,
    request_id: String,
}

impl Oidc {
    /// Asks nobody yet. What is wrong with the settings is said when credentials are asked for.
    #[must_use]
    pub fn new(
        settings: Result<OidcSettings, SourceFault>,
        endpoint: Endpoint,
        http: Arc<dyn Http>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { settings, endpoint, http, clock }
    }

    fn request(&self, settings: &OidcSettings, token: &str) -> Option<Request<Bytes>> {
        let now = humantime::format_rfc3339_seconds(UNIX_EPOCH + self.clock.now().wall);
        let query = Query::default()
            .with("Action", "AssumeRoleWithOIDC")
            .with("Version", VERSION)
            .with("Format", "JSON")
            .with("Timestamp", now)
            .canonical();
        let form = [
            ("RoleArn", settings.role_arn.as_str()),
            ("OIDCProviderArn", &settings.provider_arn),
            ("OIDCToken", token),
            ("RoleSessionName", SESSION_NAME),
            ("DurationSeconds", &DURATION.as_secs().to_string()),
        ]
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .join("&");
        Request::post(format!("https://{}/?{query}", self.endpoint))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .ok()
    }

    fn read(&self, answer: &Response<Bytes>, token: &str) -> Result<Credentials, SourceFault> {
        let service = self.endpoint.to_string();
        if !answer.status().is_success() {
            let refused: Refused = serde_json::from_slice(answer.body()).unwrap_or_default();
            let said =
                format!("{}: {}", refused.code, refused.message).replace(token, "<redacted>");
            return Err(SourceFault::Refused {
                service,
                said: one_line(&said),
                advice: advice(&refused.code),
                status: answer.status().as_u16(),
                request_id: one_line(&refused.request_id),
            });
        }
        let assumed: Assumed = serde_json::from_slice(answer.body()).map_err(|error| {
            SourceFault::Strange { service: service.clone(), why: position(&error) }
        })?;
        assumed.credentials.credentials(Origin::Oidc, &service)
    }
}

/// Source: the vendor's page "api-sts-2015-04-01-errorcodes".
fn advice(code: &str) -> &'static str {
    match code {
        "AuthenticationFail.NoPermission" => {
            "; does the role's trust policy name this cluster's OIDC provider, namespace and service account?"
        }
        "AuthenticationFail.OIDCToken.Expired" => {
            "; the kubelet should have renewed the token's file: is the pod's projected volume mounted?"
        }
        "AuthenticationFail.OIDCToken.AudienceNotMatch" => {
            "; the projected token's audience must be sts.aliyuncs.com"
        }
        "EntityNotExist.Role" => "; make the role, or correct ALIBABA_CLOUD_ROLE_ARN",
        _ => "",
    }
}

#[async_trait]
impl CredentialsSource for Oidc {
    fn origin(&self) -> Origin {
        Origin::Oidc
    }

    async fn credentials(&self) -> Result<Credentials, SourceFault> {
        let settings = self.settings.as_ref().map_err(Clone::clone)?;
        let token = read_token(settings.token_file.clone()).await?;
        let service = self.endpoint.to_string();
        let request = self.request(settings, &token).ok_or_else(|| SourceFault::Strange {
            service: service.clone(),
            why: "no request can be made for it".to_owned(),
        })?;
        let answer = self.http.send(request, DEADLINE).await;
        self.read(&answer.map_err(|fault| SourceFault::Network { service, fault })?, &token)
    }
}

async fn read_token(path: PathBuf) -> Result<Zeroizing<String>, SourceFault> {
    let shown = path.clone();
    let unreadable = move |why: String| SourceFault::Unreadable { path: shown.clone(), why };
    let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
    let Some((directory, name)) = parts.map(|(parent, name)| (parent.to_owned(), name.to_owned()))
    else {
        return Err(unreadable("it is no file".to_owned()));
    };
    let reading = spawn_blocking(move || files::read_line(&directory, &name)).await;
    let line = reading.map_err(|error| unreadable(error.to_string()))??;
    line.ok_or_else(|| unreadable("it is not there".to_owned()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use crate::nas::http::HttpFault;
    use crate::nas::http::fake::FakeHttp;
    use crate::nas::test_clock::TestClock;

    use super::*;

    const GOOD: &str = r#"{"RequestId":"R","Credentials":{"AccessKeyId":"STS.1","AccessKeySecret":"topsecret",
        "SecurityToken":"CAIS","Expiration":"2027-01-02T03:04:05Z"},"AssumedRoleUser":{"Arn":"a"}}"#;

    struct Scene {
        oidc: Oidc,
        http: Arc<FakeHttp>,
        token: tempfile::NamedTempFile,
    }

    fn scene() -> Scene {
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "ey.to+ken\n").unwrap();
        let http = Arc::new(FakeHttp::default());
        let settings = OidcSettings {
            role_arn: "acs:ram::1:role/r".to_owned(),
            provider_arn: "acs:ram::1:oidc-provider/p".to_owned(),
            token_file: token.path().to_owned(),
        };
        let endpoint = Endpoint::parse("sts.cn-beijing.aliyuncs.com").unwrap();
        let clock = Arc::new(TestClock);
        let oidc = Oidc::new(Ok(settings), endpoint, Arc::<FakeHttp>::clone(&http), clock);
        Scene { oidc, http, token }
    }

    #[tokio::test]
    async fn the_token_of_the_moment_is_exchanged_for_a_role() {
        let scene = scene();
        for token in ["ey.to+ken", "ey.another"] {
            std::fs::write(scene.token.path(), token).unwrap();
            scene.http.answer(200, GOOD);
            let found = scene.oidc.credentials().await.unwrap();
            assert_eq!((found.access_key_id.as_str(), found.origin), ("STS.1", Origin::Oidc));
            assert_eq!(found.security_token.unwrap().expose_secret(), "CAIS");
        }
        let asked = scene.http.asked();
        assert_eq!(asked[0].method(), "POST");
        let uri = asked[0].uri().to_string();
        let begin = "https://sts.cn-beijing.aliyuncs.com/?Action=AssumeRoleWithOIDC&Format=JSON&Timestamp=20";
        assert!(uri.starts_with(begin) && uri.ends_with("&Version=2015-04-01"), "{uri}");
        let forms: Vec<_> =
            asked.iter().map(|one| std::str::from_utf8(one.body()).unwrap()).collect();
        assert_eq!(
            forms[0],
            "RoleArn=acs%3Aram%3A%3A1%3Arole%2Fr&OIDCProviderArn=acs%3Aram%3A%3A1%3Aoidc%2Dprovider%2Fp\
             &OIDCToken=ey%2Eto%2Bken&RoleSessionName=alinas%2Dcsi&DurationSeconds=3600"
        );
        assert!(forms[1].contains("OIDCToken=ey%2Eanother&"));
        assert!(!asked[0].headers().contains_key("authorization"));
    }

    #[tokio::test]
    async fn each_failure_says_what_to_do_and_shows_neither_token_nor_secret() {
        let scene = scene();
        let refusal = |code: &str| {
            format!(
                r#"{{"Code":"{code}","Message":"ey.to+ken is bad","RequestId":"R-7","HostId":"h"}}"#
            )
        };
        for (code, said) in [
            ("AuthenticationFail.NoPermission", "trust policy name this cluster's OIDC provider"),
            ("AuthenticationFail.OIDCToken.Expired", "the kubelet should have renewed"),
            ("AuthenticationFail.OIDCToken.AudienceNotMatch", "must be sts.aliyuncs.com"),
            ("EntityNotExist.Role", "make the role"),
            ("Other", "Other: <redacted> is bad (HTTP 401, request id R-7)"),
        ] {
            scene.http.answer(401, &refusal(code));
            let fault = scene.oidc.credentials().await.unwrap_err().to_string();
            assert!(
                fault.contains(said)
                    && fault.contains("sts.cn-beijing")
                    && !fault.contains("ey.to"),
                "{fault}"
            );
        }
        scene.http.answer(200, r#"{"Credentials":{"AccessKeySecret":"topsecret"}}"#);
        let fault = scene.oidc.credentials().await.unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("topsecret"), "{fault:?}");
        scene.http.fail(HttpFault::Unreached { why: "connection refused".to_owned() });
        let fault = scene.oidc.credentials().await.unwrap_err().to_string();
        assert!(
            fault.ends_with("does not answer: failed to connect: connection refused"),
            "{fault}"
        );
        let path = scene.token.path().to_owned();
        scene.token.close().unwrap();
        let fault = scene.oidc.credentials().await.unwrap_err();
        assert!(
            matches!(&fault, SourceFault::Unreadable { path: named, .. } if *named == path),
            "{fault}"
        );
    }
}
