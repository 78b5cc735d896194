//! The zone of the ECS instance that this process runs on, from its metadata service.

use std::sync::Arc;

use hyper::Response;
use hyper::body::Bytes;
use tokio::time::timeout;

use crate::model::Zone;
use crate::model::zone::ZoneError;
use crate::nas::http::Http;
use crate::nas::http::HttpFault;
use crate::nas::metadata_service::DEADLINE;
use crate::nas::metadata_service::METADATA_SERVICE;
use crate::nas::metadata_service::NoToken;
use crate::nas::metadata_service::Visit;
use crate::nas::metadata_service::text;

const ZONE_PATH: &str = "/latest/meta-data/zone-id";

/// Asks the metadata service.
#[derive(Debug)]
pub struct InstanceZone {
    http: Arc<dyn Http>,
    service: String,
}

/// Why the zone is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataFault {
    /// Nobody answers: this is no instance, or its metadata are switched off.
    #[error("the metadata service of ECS at {service} does not answer: {fault}")]
    Network {
        /// Where we asked.
        service: String,
        /// What happened.
        fault: HttpFault,
    },
    /// It refuses.
    #[error("the metadata service of ECS at {service} answers HTTP {status}")]
    Refused {
        /// Where we asked.
        service: String,
        /// Its word.
        status: u16,
    },
    /// What it says is none.
    #[error("the metadata service of ECS names no zone: {0}")]
    NoZone(#[from] ZoneError),
}

impl InstanceZone {
    /// Asks nobody yet. `http` sends in the clear: the service has no other way.
    #[must_use]
    pub fn new(http: Arc<dyn Http>) -> Self {
        Self { http, service: METADATA_SERVICE.to_owned() }
    }

    /// The zone.
    ///
    /// # Errors
    /// Says why it is not known, after two seconds at most.
    pub async fn zone(&self) -> Result<Zone, MetadataFault> {
        let late = self.network(HttpFault::Late { deadline: DEADLINE });
        timeout(DEADLINE, self.ask()).await.unwrap_or(Err(late))
    }

    async fn ask(&self) -> Result<Zone, MetadataFault> {
        let visit = Visit::begin(self.http.as_ref(), &self.service).await;
        let visit = visit.map_err(|why| match why {
            NoToken::Unanswered(fault) => self.network(fault),
            NoToken::Refused(answer) => self.refused(&answer),
        })?;
        let answer = visit.get(ZONE_PATH).await.map_err(|fault| self.network(fault))?;
        match answer.status().as_u16() {
            200 => Ok(Zone::parse(text(&answer).unwrap_or_default())?),
            _ => Err(self.refused(&answer)),
        }
    }

    fn refused(&self, answer: &Response<Bytes>) -> MetadataFault {
        let status = answer.status().as_u16();
        MetadataFault::Refused { service: self.service.clone(), status }
    }

    fn network(&self, fault: HttpFault) -> MetadataFault {
        MetadataFault::Network { service: self.service.clone(), fault }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use hyper::Method;
    use tokio::time::Instant;

    use super::*;
    use crate::nas::http::fake::FakeHttp;
    use crate::nas::metadata_service::STEP_DEADLINE;

    fn asked(answers: &[(u16, &str)]) -> (InstanceZone, Arc<FakeHttp>) {
        let http = Arc::new(FakeHttp::default());
        answers.iter().for_each(|(status, body)| http.answer(*status, body));
        (InstanceZone::new(Arc::<FakeHttp>::clone(&http)), http)
    }

    /// An instance in this zone.
    pub(crate) fn in_zone(zone: &str) -> InstanceZone {
        asked(&[(200, "a-token"), (200, zone)]).0
    }

    #[tokio::test]
    async fn the_zone_is_asked_for_with_a_token() {
        let (instance, http) = asked(&[(200, "a-token"), (200, "cn-hangzhou-b\n")]);
        assert_eq!(instance.zone().await.unwrap().as_str(), "cn-hangzhou-b");
        let asked = http.asked();
        assert_eq!(asked[0].method(), Method::PUT);
        assert_eq!(asked[1].uri(), "http://100.100.100.200/latest/meta-data/zone-id");
        assert_eq!(asked[1].headers()["x-aliyun-ecs-metadata-token"], "a-token");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_is_no_instance_is_delayed_by_a_second_at_most() {
        let (instance, http) = asked(&[]);
        http.answer_after(Duration::from_secs(3600), Ok((200, String::new())));
        let began = Instant::now();
        let fault = instance.zone().await.unwrap_err();
        assert!(matches!(fault, MetadataFault::Network { .. }), "{fault}");
        assert_eq!(began.elapsed(), STEP_DEADLINE);
    }

    #[tokio::test]
    async fn what_is_refused_or_no_zone_is_said() {
        let said = |answers| async move { asked(answers).0.zone().await.unwrap_err().to_string() };
        assert!(said(&[(403, "")]).await.ends_with("answers HTTP 403"));
        assert!(said(&[(200, "t"), (200, "<html>")]).await.contains("names no zone"));
    }
}
