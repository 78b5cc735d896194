//! The vendor's API of NAS from the settings of a role: in which region, by which network, and as whom.
//!
//! Without a region there is none, and what needs it says so; without credentials the first call says where they were
//! looked for.

use std::path::PathBuf;
use std::sync::Arc;

use crate::nas::CredentialsHolder;
use crate::nas::Endpoint;
use crate::nas::Http;
use crate::nas::NasClient;
use crate::nas::Network;
use crate::nas::PlainNetwork;
use crate::nas::Region;
use crate::nas::SecureNetwork;
use crate::nas::credentials::CredentialSettings;
use crate::nas::credentials::CredentialsFault;
use crate::nas::credentials::Origin;
use crate::nas::endpoint::EndpointError;
use crate::nas::http::Exchangeable;
use crate::runtime::Chain;
use crate::runtime::Clock;
use crate::tls::Trust;
use crate::tls::TrustError;
use crate::tls::trust::Changes;

/// The settings of the API.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NasArgs {
    /// Region of the file systems, like cn-hangzhou. With it the API of NAS is used: for volumes that are file systems
    /// or access points, and for quotas
    #[arg(long, env = "ALINAS_CSI_NAS_REGION", value_parser = Region::parse, value_name = "REGION")]
    pub nas_region: Option<Region>,

    /// Host of the API, where it is not the region's: HOST or HOST:PORT, always HTTPS
    #[arg(
        long,
        env = "ALINAS_CSI_NAS_ENDPOINT",
        value_parser = Endpoint::parse,
        value_name = "HOST",
        requires = "nas_region"
    )]
    pub nas_endpoint: Option<Endpoint>,

    /// By which network the API is reached: auto is the VPC's own endpoint where the region has one
    #[arg(long, env = "ALINAS_CSI_NAS_NETWORK", value_enum, default_value = "auto")]
    pub nas_network: NasNetwork,

    /// Directory of a mounted Secret with id and secret, and perhaps token. Besides it credentials come from
    /// ALIBABA_CLOUD_ACCESS_KEY_ID and its like, from a role for the service account (RRSA), or from the instance's role
    #[arg(long, env = "ALINAS_CSI_NAS_CREDENTIALS", value_name = "DIRECTORY")]
    pub nas_credentials: Option<PathBuf>,
}

/// By which network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NasNetwork {
    /// The VPC where it is known to have an endpoint, else the internet.
    #[default]
    Auto,
    /// The VPC.
    Vpc,
    /// The internet.
    Public,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum NasSettingError {
    /// A variable names no region.
    #[error("ALIBABA_CLOUD_STS_REGION: {0}")]
    Sts(#[from] EndpointError),
    /// Nothing to trust.
    #[error("failed to set up TLS for the API of NAS")]
    Trust(#[from] TrustError),
}

/// The API, and what keeps its credentials fresh.
#[derive(Clone, Debug)]
pub struct Nas {
    /// Makes calls.
    pub client: Arc<NasClient>,
    credentials: Arc<CredentialsHolder>,
    secure: Arc<Exchangeable>,
    trust: Arc<Trust>,
    changes: Changes,
}

impl Nas {
    /// None without a region. `look_up` finds variables of the process.
    ///
    /// # Errors
    /// When a variable or the roots to trust cannot be used.
    pub async fn set_up(
        args: &NasArgs,
        look_up: impl Fn(&str) -> Option<String>,
        trust: &Arc<Trust>,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, NasSettingError> {
        let Some(region) = args.nas_region.clone() else { return Ok(None) };
        let network = match args.nas_network {
            NasNetwork::Auto => Network::Automatic,
            NasNetwork::Vpc => Network::Vpc,
            NasNetwork::Public => Network::Public,
        };
        let endpoint = args.nas_endpoint.clone();
        let endpoint = endpoint.unwrap_or_else(|| Endpoint::of_nas(&region, network));
        let directory = args.nas_credentials.clone();
        let settings = CredentialSettings::look_up(look_up, directory, Some(&region), network)?;
        // From before they are first read.
        let changes = trust.changes();
        let secure = SecureNetwork::new(trust.https().await?);
        let secure = Arc::new(Exchangeable::new(Arc::new(secure)));
        let http: Arc<dyn Http> = Arc::<Exchangeable>::clone(&secure);
        let plain = Arc::new(PlainNetwork::in_the_clear());
        let sources = settings.sources(Arc::clone(&http), plain, Arc::clone(&clock));
        let credentials = Arc::new(CredentialsHolder::new(sources, Arc::clone(&clock)));
        tracing::info!(nas.region = %region, nas.endpoint = %endpoint, "the API of NAS is set up");
        let client = NasClient::new(http, Arc::clone(&credentials), clock, endpoint, region);
        let (client, trust) = (Arc::new(client), Arc::clone(trust));
        Ok(Some(Self { client, credentials, secure, trust, changes }))
    }

    /// Where credentials are from, if there are any.
    ///
    /// # Errors
    /// Says where they were looked for and what was wrong.
    pub async fn origin(&self) -> Result<Origin, Arc<CredentialsFault>> {
        self.credentials.current().await.map(|credentials| credentials.origin)
    }

    /// Renews credentials ahead of their end, and trusts whom the node trusts, until dropped.
    pub async fn follow(nas: Option<Self>) {
        match nas {
            Some(nas) => tokio::select! {
                () = nas.credentials.follow() => {}
                () = nas.follow_roots() => {}
            },
            None => std::future::pending().await,
        }
    }

    async fn follow_roots(&self) {
        let mut changes = self.changes.clone();
        loop {
            changes.next().await;
            match self.trust.https().await {
                Ok(config) => self.secure.exchange(Arc::new(SecureNetwork::new(config))),
                Err(error) => tracing::warn!(
                    error = %Chain(&error),
                    "the API of NAS is called under the former roots"
                ),
            }
        }
    }
}
