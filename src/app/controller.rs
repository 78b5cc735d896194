//! The role `controller`: serves the sidecars of its pod on a Unix socket until it is told to stop.
//!
//! It needs no right at all: it opens connections and nothing else. What it was asked to do half way is asked again,
//! and what it was removing in the background is found again.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Server;

use crate::app::csi_server;
use crate::app::csi_server::Drained;
use crate::app::nas::Nas;
use crate::app::nas::NasArgs;
use crate::app::nas::NasSettingError;
use crate::app::signals;
use crate::controller::Cloud;
use crate::controller::Controller;
use crate::controller::NetworkExports;
use crate::csi::ControllerService;
use crate::csi::CsiEndpoint;
use crate::csi::DriverName;
use crate::csi::IdentityService;
use crate::csi::ListenError;
use crate::nas::NasClient;
use crate::proto::csi::controller_server::ControllerServer;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::plugin_capability::service::Type;
use crate::proto::csi::plugin_capability::volume_expansion::Type as VolumeExpansion;
use crate::runtime::Clock;
use crate::runtime::SystemClock;
use crate::tls::Trust;
use crate::tls::TrustError;
use crate::tls::fips;
use crate::tls::fips::FipsError;
use crate::tunnel::Dialer;

/// How long calls may go on after we were told to stop. One that is cut is made again by the sidecar.
const DRAIN: Duration = Duration::from_secs(20);

/// The settings of the role.
#[derive(Clone, Debug, clap::Args)]
pub struct ControllerArgs {
    /// Unix socket to serve CSI on: unix:///path.sock
    #[arg(long, env = "CSI_ENDPOINT", value_parser = CsiEndpoint::parse)]
    pub csi_endpoint: CsiEndpoint,

    /// Name of the driver; several installs side by side need one each
    #[arg(
        long,
        env = "ALINAS_CSI_DRIVER_NAME",
        default_value = "alinas.csi.alibabacloud.com",
        value_parser = DriverName::parse
    )]
    pub driver_name: DriverName,

    /// PEM file of certificate authorities to trust besides the well-known ones, or a directory of such files;
    /// followed while the process runs
    #[arg(long, env = "ALINAS_CSI_CA_FILE", value_name = "PATH")]
    pub ca_file: Option<PathBuf>,

    /// Do not start unless all cryptography of TLS comes from a FIPS module
    #[arg(long, env = "ALINAS_CSI_REQUIRE_FIPS")]
    pub require_fips: bool,

    /// The API of NAS.
    #[command(flatten)]
    pub nas: NasArgs,
}

/// Why the role ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum ControllerRoleError {
    /// FIPS mode is required and not in force.
    #[error(transparent)]
    Fips(#[from] FipsError),
    /// Nothing to trust.
    #[error("failed to set up TLS")]
    Trust(#[from] TrustError),
    /// A setting of the API cannot be used.
    #[error("failed to set up the API of NAS")]
    Nas(#[from] NasSettingError),
    /// Nobody could call us.
    #[error("failed to listen for the sidecars")]
    Listen(#[from] ListenError),
    /// We could not be told to stop.
    #[error("failed to wait for signals")]
    Signals(#[source] io::Error),
    /// The server gave up.
    #[error("failed to serve CSI")]
    Serve(#[source] tonic::transport::Error),
}

/// Serves until SIGTERM or SIGINT, then lets calls end.
///
/// # Errors
/// Says why nothing could be served.
pub async fn run(args: ControllerArgs) -> Result<(), ControllerRoleError> {
    fips::ensure(args.require_fips)?;
    let trust = Arc::new(Trust::new(args.ca_file.as_deref())?);
    let listener = args.csi_endpoint.listen().await?;
    let stop = signals::stop_on_signal().map_err(ControllerRoleError::Signals)?;
    let dialer = Dialer::new(Arc::clone(&trust));
    let exports = Arc::new(NetworkExports::new(dialer));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let nas = Nas::set_up(&args.nas, variable, &trust, Arc::clone(&clock)).await?;
    let mut controller = Controller::new(exports, clock);
    if let Some(nas) = &nas {
        let client: Arc<NasClient> = Arc::clone(&nas.client);
        controller = controller.with_cloud(Cloud::new(client, args.driver_name.to_string()));
    }
    tracing::info!(
        driver.name = %args.driver_name,
        driver.version = env!("CARGO_PKG_VERSION"),
        csi.socket = %args.csi_endpoint.path().display(),
        "serving CSI"
    );
    let capabilities = vec![Type::ControllerService];
    let identity = IdentityService::of_controller(args.driver_name, capabilities)
        .with_expansion(VolumeExpansion::Online);
    let service = ControllerService::new(controller.clone());
    let services = Server::builder()
        .add_service(IdentityServer::new(identity))
        .add_service(ControllerServer::new(service));
    // Nothing is waited for but the answers: what is done in the background ends below.
    let nothing_more = std::future::ready(());
    let served = csi_server::serve(listener, services, stop.cancelled_owned(), nothing_more, DRAIN);
    let drained = tokio::select! {
        served = served => served.map_err(ControllerRoleError::Serve)?,
        // Neither ends.
        () = trust.follow() => Drained::Whole,
        () = Nas::follow(nas) => Drained::Whole,
    };
    controller.stopped().await;
    tracing::info!(?drained, "stopped");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "settings are looked up here, once")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
