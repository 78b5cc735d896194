//! The role `controller`: serves the sidecars of its pod on a Unix socket until it is told to stop.
//!
//! It needs no right at all: it opens connections and nothing else. What it was asked to do half way is asked again,
//! and what it was removing in the background is found again.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::app::cluster::ClusterArgs;
use crate::app::metrics;
use crate::app::metrics::controller_family::ControllerScrape;
use crate::controller::Controller;
use crate::controller::NetworkExports;
use crate::controller::domain::MountTargets;
use crate::controller::domain::Watcher;
use crate::controller::domain::watch::look::NetworkSights;
use crate::csi::ControllerService;
use crate::csi::CsiEndpoint;
use crate::csi::DriverName;
use crate::csi::IdentityService;
use crate::csi::ListenError;
use crate::csi::TopologyKey;
use crate::nas::Region;
use crate::proto::csi::controller_server::ControllerServer;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::plugin_capability::service::Type;
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

    /// Take note of the zones that a volume is wanted in; nodes need the same
    #[arg(long, env = "ALINAS_CSI_TOPOLOGY")]
    pub topology: bool,

    /// Watch the mount targets that PersistentVolumes of this driver use, and say what becomes of them in events and
    /// metrics
    #[arg(long, env = "ALINAS_CSI_WATCH_MOUNT_TARGETS")]
    pub watch_mount_targets: bool,

    /// Serve metrics for Prometheus at this address, for whoever reaches it; left out, not at all
    #[arg(
        long,
        env = "ALINAS_CSI_METRICS_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = metrics::parse_address
    )]
    pub metrics_listen: Option<SocketAddr>,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

impl ControllerArgs {
    /// Begins what goes on beside the CSI service, until `stop`.
    fn begin_beside(
        &self,
        dialer: &Dialer,
        api: Option<(Region, Arc<dyn MountTargets>)>,
        stop: &CancellationToken,
    ) {
        let is_wanted = self.cluster.events || self.watch_mount_targets;
        let cluster = is_wanted.then(|| self.cluster.connect()).flatten();
        let driver = self.driver_name.as_str();
        // Of no instance: what one replica has said need not be said by another.
        let events = self.cluster.reporter(cluster.as_ref(), driver, "");
        let volumes = cluster.filter(|_| self.watch_mount_targets);
        let watcher = volumes.map(|volumes| {
            let mut sights = NetworkSights::new(Arc::new(SystemNames), dialer.clone());
            if let Some((region, targets)) = api {
                sights = sights.with_api(region, targets);
            }
            let (volumes, sights) = (Arc::new(volumes), Arc::new(sights));
            Watcher::new(driver, volumes, sights, events.clone(), Arc::new(SystemClock))
        });
        let board = watcher.as_ref().map(Watcher::board);
        if let Some(watcher) = watcher {
            tokio::spawn(watcher.run(stop.clone()));
        }
        if let Some(address) = self.metrics_listen {
            let scrape = ControllerScrape { board, events }.shared();
            tokio::spawn(metrics::run(address, scrape, stop.clone()));
        }
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
    let told_to_stop = stop_signal().map_err(ControllerRoleError::Signals)?;
    let dialer = Dialer::new(Arc::clone(&trust));
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    args.begin_beside(&dialer, None, &stop);
    let exports = Arc::new(NetworkExports::new(dialer));
    let controller = Controller::new(exports, Arc::new(SystemClock));
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
    let identity = IdentityService::of_controller(args.driver_name, capabilities);
    tokio::select! {
        served = serve(listener, identity, service, told_to_stop) => served?,
        // Never ends.
        () = trust.follow() => {}
    }
    controller.stopped().await;
    tracing::info!("stopped");
    Ok(())
}

fn stop_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn serve(
    listener: UnixListener,
    identity: IdentityService,
    service: ControllerService,
    told_to_stop: impl Future<Output = ()> + Send,
) -> Result<(), ControllerRoleError> {
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let server = Server::builder()
        .add_service(IdentityServer::new(identity))
        .add_service(ControllerServer::new(service))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
            told_to_stop.await;
            // The receiver is gone only when the server has ended by itself.
            let _ = stopping.send(());
        });
    let deadline = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(DRAIN).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = server => served.map_err(ControllerRoleError::Serve),
        () = deadline => Ok(()),
    }
}
