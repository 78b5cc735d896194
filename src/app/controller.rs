//! The role `controller`: serves the sidecars of its pod on a Unix socket until it is told to stop.
//!
//! It needs no right at all: it opens connections and nothing else. What it was asked to do half way is asked again,
//! and what it was removing in the background is found again.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::app::call_times::CallTimes;
use crate::app::cluster::ClusterArgs;
use crate::app::csi_server;
use crate::app::csi_server::Drained;
use crate::app::metrics;
use crate::app::metrics::MetricsArgs;
use crate::app::metrics::controller_family::ControllerScrape;
use crate::app::nas::Nas;
use crate::app::nas::NasArgs;
use crate::app::nas::NasSettingError;
use crate::app::signals;
use crate::controller::Cloud;
use crate::controller::Controller;
use crate::controller::InUse;
use crate::controller::NetworkExports;
use crate::controller::domain::MountTargets;
use crate::controller::domain::Watcher;
use crate::controller::domain::watch::look::NetworkSights;
use crate::controller::quota::usage::QuotaBoard;
use crate::controller::quota::usage::QuotaWatcher;
use crate::csi::ControllerService;
use crate::csi::CsiEndpoint;
use crate::csi::DriverName;
use crate::csi::IdentityService;
use crate::csi::ListenError;
use crate::csi::TopologyKey;
use crate::kubernetes::Cluster;
use crate::nas::NasClient;
use crate::nas::Region;
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
use crate::tunnel::resolve::SystemNames;

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

    /// Take note of the zones that a volume is wanted in; nodes need the same
    #[arg(long, env = "ALINAS_CSI_TOPOLOGY")]
    pub topology: bool,

    /// Watch the mount targets that PersistentVolumes of this driver use, and say what becomes of them in events and
    /// metrics; list these volumes, and empty their trash from the start on
    #[arg(long, env = "ALINAS_CSI_WATCH_MOUNT_TARGETS")]
    pub watch_mount_targets: bool,

    #[command(flatten)]
    pub metrics: MetricsArgs,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

impl ControllerArgs {
    /// Begins what goes on beside the CSI service, until `stop`.
    fn begin_beside(
        &self,
        dialer: &Dialer,
        nas: Option<&Nas>,
        controller: &Controller,
        calls: &CallTimes,
        cluster: Option<Cluster>,
        stop: &CancellationToken,
    ) {
        let driver = self.driver_name.as_str();
        // Of no instance: what one replica has said need not be said by another.
        let events = self.cluster.reporter(cluster.as_ref(), driver, "");
        let volumes = cluster.filter(|_| self.watch_mount_targets);
        let quotas = self.begin_quotas(nas, volumes.as_ref(), stop);
        let watcher = volumes.map(|volumes| {
            let mut sights = NetworkSights::new(Arc::new(SystemNames), dialer.clone());
            if let Some((region, targets)) = nas.map(mount_targets) {
                sights = sights.with_api(region, targets);
            }
            let (volumes, sights) = (Arc::new(volumes), Arc::new(sights));
            Watcher::new(driver, volumes, sights, events.clone(), Arc::new(SystemClock))
        });
        let board = watcher.as_ref().map(Watcher::board);
        if let Some(watcher) = watcher {
            tokio::spawn(watcher.run(stop.clone()));
        }
        if let Some(address) = self.metrics.metrics_listen {
            let scrape = ControllerScrape {
                board,
                events,
                calls: calls.clone(),
                nas: nas.map(|nas| nas.client.counts().clone()),
                controller: controller.clone(),
                quotas,
            };
            let scrape = scrape.shared();
            tokio::spawn(metrics::run(address, scrape, stop.clone()));
        }
    }

    /// Asks for the quotas of volumes until `stop`, where somebody can see them.
    fn begin_quotas(
        &self,
        nas: Option<&Nas>,
        volumes: Option<&Cluster>,
        stop: &CancellationToken,
    ) -> Option<QuotaBoard> {
        let (nas, volumes) = (nas?, Arc::new(volumes?.clone()));
        self.metrics.metrics_listen?;
        let (region, api) = (nas.client.region().clone(), Arc::<NasClient>::clone(&nas.client));
        let watcher = QuotaWatcher::new(self.driver_name.as_str(), volumes, region, api);
        let board = watcher.board();
        tokio::spawn(watcher.run(stop.clone()));
        Some(board)
    }
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
    let told_to_stop = signals::stop_on_signal().map_err(ControllerRoleError::Signals)?;
    let dialer = Dialer::new(Arc::clone(&trust));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let nas = Nas::set_up(&args.nas, variable, &trust, Arc::clone(&clock)).await?;
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let exports = Arc::new(NetworkExports::new(dialer.clone()));
    let mut controller = Controller::new(exports, clock);
    if let Some(nas) = &nas {
        let client: Arc<NasClient> = Arc::clone(&nas.client);
        controller = controller.with_cloud(Cloud::new(client, args.driver_name.to_string()));
    }
    let is_in_cluster = args.cluster.events || args.watch_mount_targets;
    let cluster = is_in_cluster.then(|| args.cluster.connect()).flatten();
    if let Some(cluster) = cluster.clone().filter(|_| args.watch_mount_targets) {
        let in_use = InUse::new(Arc::new(cluster), args.driver_name.as_str());
        controller = controller.with_volumes(in_use);
        tokio::spawn(controller.clone().resume(stop.clone()));
    }
    let times = CallTimes::default();
    args.begin_beside(&dialer, nas.as_ref(), &controller, &times, cluster, &stop);
    tracing::info!(
        driver.name = %args.driver_name,
        driver.version = env!("CARGO_PKG_VERSION"),
        csi.socket = %args.csi_endpoint.path().display(),
        "serving CSI"
    );
    let mut capabilities = vec![Type::ControllerService];
    let mut service = ControllerService::new(controller.clone());
    if args.topology {
        capabilities.push(Type::VolumeAccessibilityConstraints);
        service = service.with_topology(TopologyKey::of(&args.driver_name));
    }
    let identity = IdentityService::of_controller(args.driver_name, capabilities)
        .with_expansion(VolumeExpansion::Online);
    let services =
        Routes::new(IdentityServer::new(identity)).add_service(ControllerServer::new(service));
    let told_to_stop = told_to_stop.cancelled_owned();
    // Nothing is waited for but the answers: what is done in the background ends below.
    let nothing_more = std::future::ready(());
    let served = csi_server::serve(listener, services, times, told_to_stop, nothing_more, DRAIN);
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

/// The API that mount targets are asked about, and its region.
fn mount_targets(nas: &Nas) -> (Region, Arc<dyn MountTargets>) {
    let targets: Arc<dyn MountTargets> = Arc::<NasClient>::clone(&nas.client);
    (nas.client.region().clone(), targets)
}

#[expect(clippy::disallowed_methods, reason = "settings are looked up here, once")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
