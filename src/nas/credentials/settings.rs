//! From variables of the process to the sources in their order.

use std::path::PathBuf;
use std::sync::Arc;

use crate::nas::credentials::CredentialsSource;
use crate::nas::credentials::Environment;
use crate::nas::credentials::Files;
use crate::nas::credentials::InstanceRole;
use crate::nas::credentials::Oidc;
use crate::nas::credentials::OidcSettings;
use crate::nas::credentials::SourceFault;
use crate::nas::endpoint::Endpoint;
use crate::nas::endpoint::EndpointError;
use crate::nas::endpoint::Network;
use crate::nas::endpoint::Region;
use crate::nas::http::Http;
use crate::nas::metadata_service::METADATA_SERVICE;
use crate::runtime::Clock;

const ROLE: &str = "ALIBABA_CLOUD_ROLE_ARN";
const PROVIDER: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
const TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";

/// Where credentials may come from. The names of the variables are the vendor's.
#[derive(Debug)]
pub struct CredentialSettings {
    environment: Environment,
    oidc: Result<OidcSettings, SourceFault>,
    /// Where a role for a service account is asked for.
    pub sts: Endpoint,
    /// The directory of a mounted Secret.
    pub directory: Option<PathBuf>,
    /// The metadata service of ECS; none where it is not to be asked.
    pub metadata_service: Option<String>,
    role_of_instance: Option<String>,
}

impl CredentialSettings {
    /// Looks the variables up. `region` is where STS is asked unless `ALIBABA_CLOUD_STS_REGION` says otherwise.
    ///
    /// # Errors
    /// When that variable is no region.
    pub fn look_up(
        look_up: impl Fn(&str) -> Option<String>,
        directory: Option<PathBuf>,
        region: Option<&Region>,
        network: Network,
    ) -> Result<Self, EndpointError> {
        let set = |name: &str| look_up(name).filter(|value| !value.is_empty());
        let is_on = |name| set(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let sts_region = set("ALIBABA_CLOUD_STS_REGION");
        let sts_region = sts_region.map(|name| Region::parse(&name)).transpose()?;
        let in_vpc = is_on("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED");
        let network = if in_vpc { Network::Vpc } else { network };
        let off = is_on("ALIBABA_CLOUD_ECS_METADATA_DISABLED");
        Ok(Self {
            oidc: oidc(&set),
            sts: Endpoint::of_sts(sts_region.as_ref().or(region), network),
            directory,
            metadata_service: (!off).then(|| METADATA_SERVICE.to_owned()),
            role_of_instance: set("ALIBABA_CLOUD_ECS_METADATA"),
            environment: Environment::look_up(&look_up),
        })
    }

    /// All sources in the order in which they are asked. `plain` is for the metadata service alone.
    #[must_use]
    pub fn sources(
        self,
        secure: Arc<dyn Http>,
        plain: Arc<dyn Http>,
        clock: Arc<dyn Clock>,
    ) -> Vec<Box<dyn CredentialsSource>> {
        let instance = match &self.metadata_service {
            Some(service) => InstanceRole::new(plain, service, self.role_of_instance),
            None => InstanceRole::switched_off(plain),
        };
        vec![
            Box::new(self.environment),
            Box::new(Oidc::new(self.oidc, self.sts, secure, clock)),
            Box::new(Files::at(self.directory)),
            Box::new(instance),
        ]
    }
}

fn oidc(set: &impl Fn(&str) -> Option<String>) -> Result<OidcSettings, SourceFault> {
    let half = |set, missing| Err(SourceFault::Half { set, missing });
    match (set(ROLE), set(PROVIDER), set(TOKEN_FILE)) {
        (Some(role_arn), Some(provider_arn), Some(token_file)) => {
            Ok(OidcSettings { role_arn, provider_arn, token_file: token_file.into() })
        }
        (None, None, None) => Err(SourceFault::Absent(format!("{ROLE} is not set"))),
        (Some(_), None, _) => half(ROLE, PROVIDER),
        (Some(_), Some(_), None) => half(ROLE, TOKEN_FILE),
        (None, Some(_), _) => half(PROVIDER, ROLE),
        (None, None, Some(_)) => half(TOKEN_FILE, ROLE),
    }
}

#[cfg(test)]
mod tests {
    use crate::nas::credentials::CredentialsHolder;
    use crate::nas::credentials::Origin;
    use crate::nas::http::HttpFault;
    use crate::nas::http::fake::FakeHttp;
    use crate::nas::test_clock::TestClock;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<CredentialSettings, EndpointError> {
        let look_up = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let region = Region::parse("cn-beijing").unwrap();
        CredentialSettings::look_up(look_up, None, Some(&region), Network::Automatic)
    }

    #[test]
    fn sts_is_asked_where_the_variables_say() {
        let sts = |variables: &[_]| settings(variables).unwrap().sts.to_string();
        assert_eq!(sts(&[]), "sts.cn-beijing.aliyuncs.com");
        let region = ("ALIBABA_CLOUD_STS_REGION", "eu-central-1");
        let in_vpc = ("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "True");
        assert_eq!(sts(&[region]), "sts.eu-central-1.aliyuncs.com");
        assert_eq!(sts(&[region, in_vpc]), "sts-vpc.eu-central-1.aliyuncs.com");
        assert!(settings(&[("ALIBABA_CLOUD_STS_REGION", "evil.example.com/")]).is_err());
    }

    #[test]
    fn what_of_a_role_is_missing_is_named() {
        let fault = |variables: &[_]| settings(variables).unwrap().oidc.unwrap_err().to_string();
        assert_eq!(fault(&[(ROLE, "r")]), format!("{ROLE} is set, but {PROVIDER} is not"));
        assert_eq!(
            fault(&[(ROLE, "r"), (PROVIDER, "p"), (TOKEN_FILE, "")]),
            format!("{ROLE} is set, but {TOKEN_FILE} is not")
        );
        assert_eq!(fault(&[(PROVIDER, "p")]), format!("{PROVIDER} is set, but {ROLE} is not"));
        assert_eq!(fault(&[(TOKEN_FILE, "/t")]), format!("{TOKEN_FILE} is set, but {ROLE} is not"));
        assert_eq!(fault(&[]), format!("{ROLE} is not set"));
    }

    #[tokio::test]
    async fn sources_are_asked_in_their_order_and_a_bare_machine_is_told_what_was_looked_for() {
        let clock = Arc::new(TestClock);
        let http = Arc::new(FakeHttp::default());
        let settings = settings(&[]).unwrap();
        let sources = settings.sources(
            Arc::<FakeHttp>::clone(&http),
            Arc::<FakeHttp>::clone(&http),
            Arc::<TestClock>::clone(&clock),
        );
        let origins: Vec<_> = sources.iter().map(|source| source.origin()).collect();
        use Origin::{Environment, Files, InstanceRole, Oidc};
        assert_eq!(origins, [Environment, Oidc, Files, InstanceRole]);
        http.fail(HttpFault::Unreached { why: "no route to host".to_owned() });
        let fault = CredentialsHolder::new(sources, clock).current().await.unwrap_err().to_string();
        assert_eq!(
            fault,
            "no credentials were found (ALIBABA_CLOUD_ACCESS_KEY_ID is not set; ALIBABA_CLOUD_ROLE_ARN is not \
             set; no directory of a Secret is named; no metadata service of ECS answers at \
             http://100.100.100.200: failed to connect: no route to host); what needs none goes on"
        );
    }
}
