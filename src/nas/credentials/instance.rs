//! The RAM role of the ECS instance, from its metadata service. It is asked last: elsewhere that takes a second.

use std::sync::Arc;

use async_trait::async_trait;
use hyper::Response;
use hyper::body::Bytes;
use tokio::time::timeout;

use crate::nas::credentials::Credentials;
use crate::nas::credentials::CredentialsSource;
use crate::nas::credentials::Origin;
use crate::nas::credentials::SourceFault;
use crate::nas::credentials::session::Session;
use crate::nas::credentials::session::position;
use crate::nas::http::Http;
use crate::nas::http::HttpFault;
use crate::nas::metadata_service::DEADLINE;
use crate::nas::metadata_service::NoToken;
use crate::nas::metadata_service::Visit;
use crate::nas::metadata_service::text;
use crate::nas::refusal::one_line;

const ROLES_PATH: &str = "/latest/meta-data/ram/security-credentials/";

/// Asks the metadata service.
#[derive(Debug)]
pub struct InstanceRole {
    http: Arc<dyn Http>,
    /// None where it was switched off.
    service: Option<String>,
    /// Of several the vendor names but one; this is that one, without a question.
    role: Option<String>,
}

impl InstanceRole {
    /// Asks nobody yet. `http` sends in the clear: the service has no other way.
    #[must_use]
    pub fn new(http: Arc<dyn Http>, service: &str, role: Option<String>) -> Self {
        Self { http, service: Some(service.trim_end_matches('/').to_owned()), role }
    }

    /// Never asks.
    #[must_use]
    pub fn switched_off(http: Arc<dyn Http>) -> Self {
        Self { http, service: None, role: None }
    }

    async fn ask(&self, service: &str) -> Result<Credentials, SourceFault> {
        let visit = Visit::begin(self.http.as_ref(), service).await;
        let visit = visit.map_err(|why| match why {
            // Somewhere else than on an instance.
            NoToken::Unanswered(fault) => SourceFault::Absent(format!(
                "no metadata service of ECS answers at {service}: {fault}"
            )),
            NoToken::Refused(answer) => refused(service, &answer),
        })?;
        let silent = |fault| SourceFault::Network { service: service.to_owned(), fault };
        let role = match &self.role {
            Some(role) => role.clone(),
            None => first_role(service, &visit.get(ROLES_PATH).await.map_err(silent)?)?,
        };
        let answer = visit.get(&format!("{ROLES_PATH}{role}")).await.map_err(silent)?;
        if answer.status().as_u16() != 200 {
            return Err(refused(service, &answer));
        }
        let session: Session = serde_json::from_slice(answer.body()).map_err(|error| {
            SourceFault::Strange { service: service.to_owned(), why: position(&error) }
        })?;
        session.credentials(Origin::InstanceRole, service)
    }
}

fn first_role(service: &str, roles: &Response<Bytes>) -> Result<String, SourceFault> {
    let named = text(roles).and_then(|names| names.lines().next());
    match (roles.status().as_u16(), named) {
        (200, Some(role)) if is_role(role) => Ok(role.to_owned()),
        (200 | 404, _) => Err(SourceFault::Absent("the ECS instance has no RAM role".to_owned())),
        _ => Err(refused(service, roles)),
    }
}

fn refused(service: &str, answer: &Response<Bytes>) -> SourceFault {
    SourceFault::Refused {
        service: service.to_owned(),
        said: one_line(answer.status().canonical_reason().unwrap_or("no reason")),
        advice: "; is access to the metadata of this instance allowed, and is the role's name right?",
        status: answer.status().as_u16(),
        request_id: "none".to_owned(),
    }
}

/// It becomes a part of a URL.
fn is_role(name: &str) -> bool {
    let fits = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
    !name.is_empty() && name.chars().all(fits)
}

#[async_trait]
impl CredentialsSource for InstanceRole {
    fn origin(&self) -> Origin {
        Origin::InstanceRole
    }

    async fn credentials(&self) -> Result<Credentials, SourceFault> {
        let Some(service) = &self.service else {
            let why =
                "the metadata service of ECS is not asked (ALIBABA_CLOUD_ECS_METADATA_DISABLED)";
            return Err(SourceFault::Absent(why.to_owned()));
        };
        if self.role.as_deref().is_some_and(|role| !is_role(role)) {
            let why = "ALIBABA_CLOUD_ECS_METADATA is no name of a role".to_owned();
            return Err(SourceFault::Strange { service: service.clone(), why });
        }
        let late = HttpFault::Late { deadline: DEADLINE };
        let late = SourceFault::Network { service: service.clone(), fault: late };
        timeout(DEADLINE, self.ask(service)).await.unwrap_or(Err(late))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use crate::nas::http::fake::FakeHttp;
    use crate::nas::metadata_service::METADATA_SERVICE;
    use crate::nas::metadata_service::STEP_DEADLINE;

    use super::*;

    const GOOD: &str = r#"{"Code":"Success","AccessKeyId":"STS.2","AccessKeySecret":"topsecret",
        "SecurityToken":"CAIS","LastUpdated":"2027-01-01T03:04:05Z","Expiration":"2027-01-02T03:04:05Z"}"#;

    fn source(role: Option<&str>) -> (InstanceRole, Arc<FakeHttp>) {
        let http = Arc::new(FakeHttp::default());
        let role = role.map(str::to_owned);
        (InstanceRole::new(Arc::<FakeHttp>::clone(&http), METADATA_SERVICE, role), http)
    }

    #[tokio::test]
    async fn token_role_and_credentials_are_asked_for_one_after_the_other() {
        let (source, http) = source(None);
        http.answer(200, "a-token");
        http.answer(200, "node-role\n");
        http.answer(200, GOOD);
        let found = source.credentials().await.unwrap();
        assert_eq!((found.access_key_id.as_str(), found.origin), ("STS.2", Origin::InstanceRole));
        let asked: Vec<_> = http
            .asked()
            .iter()
            .map(|one| {
                let (name, value) = one.headers().iter().next().unwrap();
                format!("{} {} {name}: {}", one.method(), one.uri(), value.to_str().unwrap())
            })
            .collect();
        assert_eq!(
            asked,
            [
                "PUT http://100.100.100.200/latest/api/token x-aliyun-ecs-metadata-token-ttl-seconds: 60",
                "GET http://100.100.100.200/latest/meta-data/ram/security-credentials/ \
             x-aliyun-ecs-metadata-token: a-token",
                "GET http://100.100.100.200/latest/meta-data/ram/security-credentials/node-role \
             x-aliyun-ecs-metadata-token: a-token",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_is_no_instance_is_delayed_by_a_second_at_most() {
        let (source, http) = source(None);
        http.answer_after(Duration::from_secs(3600), Ok((200, String::new())));
        let began = Instant::now();
        let fault = source.credentials().await.unwrap_err();
        assert!(matches!(fault, SourceFault::Absent(_)), "{fault}");
        assert_eq!(began.elapsed(), STEP_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_slow_at_each_step_is_given_up_after_two_seconds() {
        let (source, http) = source(None);
        for body in ["a-token", "node-role", GOOD] {
            http.answer_after(Duration::from_millis(900), Ok((200, body.to_owned())));
        }
        let began = Instant::now();
        let fault = source.credentials().await.unwrap_err();
        assert!(matches!(fault, SourceFault::Network { .. }), "{fault}");
        assert_eq!(began.elapsed(), DEADLINE);
    }

    #[tokio::test]
    async fn without_a_role_or_switched_off_it_is_absent_and_what_is_refused_is_said() {
        let (source_without, http) = source(None);
        http.answer(200, "a-token");
        http.answer(404, "");
        let fault = source_without.credentials().await.unwrap_err();
        assert_eq!(fault, SourceFault::Absent("the ECS instance has no RAM role".to_owned()));
        http.answer(403, "");
        let fault = source_without.credentials().await.unwrap_err().to_string();
        assert!(fault.contains("refuses: Forbidden; is access to the metadata"), "{fault}");
        let off = InstanceRole::switched_off(Arc::<FakeHttp>::clone(&http));
        let asked = http.asked().len();
        assert!(matches!(off.credentials().await, Err(SourceFault::Absent(_))));
        assert_eq!(http.asked().len(), asked);
        let (wrong, _) = source(Some("../token"));
        assert!(matches!(wrong.credentials().await, Err(SourceFault::Strange { .. })));
    }
}
