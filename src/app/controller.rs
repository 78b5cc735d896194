//! The role `controller`: serves the sidecars of its pod on a Unix socket until it is told to stop.
//!
//! It needs no right at all: it opens connections and nothing else. What it was asked to do half way is asked again,
//! and what it was removing in the background is found again.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::controller::Controller;
use crate::controller::NetworkExports;
use crate::csi::ControllerService;
use crate::csi::CsiEndpoint;
use crate::csi::DriverName;
use crate::csi::IdentityService;
use crate::csi::ListenError;
use crate::proto::csi::controller_server::ControllerServer;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::plugin_capability::service::Type;
use crate::proto::csi::plugin_capability::volume_expansion::Type as VolumeExpansion;
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
    let exports = Arc::new(NetworkExports::new(dialer));
    let controller = Controller::new(exports, Arc::new(SystemClock));
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
