//! The role `node`: serves the kubelet on a Unix socket until it is told to stop.
//!
//! It holds nothing that a mount needs: it can crash, restart or be upgraded at any time, and what it was asked
//! to do half way is asked again. With `--make-way` the next one may be started while it still serves ([`succession`]).
//!
//! LONG: a third of it are the settings, a third tests.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::app::call_times::CallTimes;
use crate::app::cluster::ClusterArgs;
use crate::app::csi_server;
use crate::app::csi_server::Drained;
use crate::app::metrics;
use crate::app::metrics::MetricsArgs;
use crate::app::metrics::node_family::NodeScrape;
use crate::app::signals;
use crate::app::succession;
use crate::app::succession::End;
use crate::csi::CsiEndpoint;
use crate::csi::DriverName;
use crate::csi::IdentityService;
use crate::csi::ListenError;
use crate::csi::NodeId;
use crate::csi::NodeService;
use crate::csi::Registrar;
use crate::csi::SuccessionService;
use crate::csi::TopologyKey;
use crate::csi::Troubles;
use crate::csi::VolumeDefaults;
use crate::host::mount_stats::ProcMountStats;
use crate::host::mount_table::ProcMountTable;
use crate::host::worker::ChildWorker;
use crate::kubernetes::About;
use crate::kubernetes::Cluster;
use crate::kubernetes::OwnNode;
use crate::kubernetes::Reason;
use crate::kubernetes::Report;
use crate::kubernetes::Reporter;
use crate::kubernetes::own_node::Untainted;
use crate::kubernetes::own_node::lift_startup_taint;
use crate::model::Zone;
use crate::model::tls_policy::CertificateCheck;
use crate::model::tls_policy::RevocationCheck;
use crate::nas::InstanceZone;
use crate::nas::PlainNetwork;
use crate::nfs::engine::HostNetwork;
use crate::nfs::farewell::NetworkMountd;
use crate::node::Node;
use crate::node::PlainRecordFiles;
use crate::node::Tunnels;
use crate::node::WatchdogTunnels;
use crate::node::claim_notes::ClaimNotes;
use crate::node::zone::ZoneSources;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::node_server::NodeServer;
use crate::proto::csi::plugin_capability::service::Type;
use crate::proto::tunnel::succession_server::SuccessionServer;
use crate::runtime::LogSwitch;

/// Where the watchdog listens, in the state directory.
pub(super) const WATCHDOG_SOCKET: &str = "watchdog.sock";

/// How long operations may go on after we were told to stop. One that is cut is asked again by the kubelet.
pub(super) const DRAIN: Duration = Duration::from_secs(25);
/// Kubernetes' default for `terminationGracePeriodSeconds`.
const POD_GRACE_PERIOD: Duration = Duration::from_secs(30);
const _: () = assert!(
    DRAIN.as_secs() < POD_GRACE_PERIOD.as_secs(),
    "the kubelet would kill us while we still drain"
);

/// The settings of the role.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArgs {
    /// Unix socket to serve CSI on: unix:///path.sock
    #[arg(long, env = "CSI_ENDPOINT", value_parser = CsiEndpoint::parse)]
    pub csi_endpoint: CsiEndpoint,

    /// Name of this node in the cluster
    #[arg(long, env = "NODE_NAME", value_parser = NodeId::parse)]
    pub node_id: NodeId,

    /// Directory shared with the watchdog
    #[arg(long, env = "ALINAS_CSI_STATE_DIR", default_value = "/run/alinas-csi")]
    pub state_dir: PathBuf,

    /// Name of the driver; several installs side by side need one each
    #[arg(
        long,
        env = "ALINAS_CSI_DRIVER_NAME",
        default_value = "alinas.csi.alibabacloud.com",
        value_parser = DriverName::parse
    )]
    pub driver_name: DriverName,

    /// What of the server's certificate is checked for a volume that does not say: full, dangerous-any-name,
    /// dangerous-none
    #[arg(
        long,
        env = "ALINAS_CSI_TLS_CHECK",
        default_value = "full",
        value_parser = CertificateCheck::parse
    )]
    pub tls_check: CertificateCheck,

    /// Look into the revocation of certificates (OCSP) for a volume that does not say
    #[arg(long, env = "ALINAS_CSI_CHECK_REVOCATION")]
    pub check_revocation: bool,

    /// How many volumes of this driver the scheduler may put on this node; 0 for any number
    #[arg(
        long,
        env = "ALINAS_CSI_MAX_VOLUMES_PER_NODE",
        default_value = "0",
        value_parser = clap::value_parser!(i64).range(0..=i64::from(i32::MAX))
    )]
    pub max_volumes_per_node: i64,

    /// Say in which zone this node is, by its label topology.kubernetes.io/zone; the controller needs the same
    #[arg(long, env = "ALINAS_CSI_TOPOLOGY")]
    pub topology: bool,

    /// The zone of this node, for one that has no label
    #[arg(long, env = "ALINAS_CSI_ZONE", value_parser = Zone::parse)]
    pub zone: Option<Zone>,

    /// Where the node has no label, ask the metadata service of ECS for the zone, for two seconds at most
    #[arg(long, env = "ALINAS_CSI_ZONE_FROM_METADATA")]
    pub zone_from_metadata: bool,

    /// Take the taints with this key from this node once the kubelet has registered the driver
    #[arg(long, env = "ALINAS_CSI_STARTUP_TAINT", value_name = "KEY")]
    pub startup_taint: Option<String>,

    /// The kubelet's folder plugins_registry, to register the driver there; left out, somebody else does
    /// (node-driver-registrar)
    #[arg(
        long,
        env = "ALINAS_CSI_REGISTRATION_DIR",
        value_name = "DIRECTORY",
        requires = "kubelet_socket_path"
    )]
    pub registration_dir: Option<PathBuf>,

    /// Where the CSI socket is, as the kubelet sees it
    #[arg(long, env = "ALINAS_CSI_KUBELET_SOCKET_PATH", value_name = "PATH")]
    pub kubelet_socket_path: Option<PathBuf>,

    /// Make way for another node plugin that is started on the same socket, and then wait for the signal to end; and
    /// take over from one that makes way: for a pod that is replaced by one that starts before it ends (maxSurge)
    #[arg(long, env = "ALINAS_CSI_MAKE_WAY")]
    pub make_way: bool,

    #[command(flatten)]
    pub cluster: ClusterArgs,

    #[command(flatten)]
    pub metrics: MetricsArgs,
}

impl NodeArgs {
    /// Serves metrics, where they are wanted, until `stop`.
    fn serve_metrics(
        &self,
        node: &Node,
        calls: &CallTimes,
        troubles: &Troubles,
        stop: &CancellationToken,
    ) {
        if let Some(address) = self.metrics.metrics_listen {
            let driver = self.driver_name.to_string();
            let (node, calls, stats) = (node.clone(), calls.clone(), Arc::new(ProcMountStats));
            let troubles = troubles.clone();
            let scrape = NodeScrape { node, stats, driver, calls, troubles };
            tokio::spawn(metrics::run(address, Arc::new(scrape), stop.clone()));
        }
    }

    /// The API server, where something is wanted of it.
    fn connect(&self) -> Option<Cluster> {
        let is_wanted = self.cluster.events
            || self.startup_taint.is_some()
            || (self.topology && self.zone.is_none());
        is_wanted.then(|| self.cluster.connect()).flatten()
    }

    fn own_node(&self, cluster: Option<&Cluster>) -> Option<Arc<dyn OwnNode>> {
        let node = cluster?.own_node(&self.node_id.to_string());
        Some(Arc::new(node))
    }

    fn zones(&self, node: Option<Arc<dyn OwnNode>>) -> ZoneSources {
        let instance = self
            .zone_from_metadata
            .then(|| InstanceZone::new(Arc::new(PlainNetwork::in_the_clear())));
        ZoneSources::new(self.zone.clone(), node, instance)
    }

    /// Keeps the driver registered, where that is ours to do.
    fn register(&self, end: &End) {
        let places = self.registration_dir.clone().zip(self.kubelet_socket_path.clone());
        if let Some((folder, endpoint)) = places {
            let registrar = Registrar { folder, driver: self.driver_name.clone(), endpoint };
            tokio::spawn(registrar.run(end.stop.clone(), end.succeeded.clone()));
        }
    }

    /// A default that weakens is said once, and again by each tunnel that has it.
    fn volume_defaults(&self) -> VolumeDefaults {
        if let Some(danger) = self.tls_check.danger() {
            tracing::warn!(danger, "for every volume that does not say what is checked");
        }
        let revocation = match self.check_revocation {
            true => RevocationCheck::Ocsp,
            false => RevocationCheck::Off,
        };
        VolumeDefaults { check: self.tls_check, revocation }
    }
}

/// Why the role ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum NodeRoleError {
    /// Nobody could call us.
    #[error("failed to listen for the kubelet")]
    Listen(#[from] ListenError),
    /// We could not be told to stop.
    #[error("failed to wait for signals")]
    Signals(#[source] io::Error),
    /// The server gave up.
    #[error("failed to serve CSI")]
    Serve(#[source] tonic::transport::Error),
}

/// Serves until SIGTERM or SIGINT, then lets operations end.
///
/// # Errors
/// Says why nothing could be served.
pub async fn run(args: NodeArgs, log: LogSwitch) -> Result<(), NodeRoleError> {
    let told = signals::stop_on_signal().map_err(NodeRoleError::Signals)?;
    loop {
        let end = End::when(&told);
        run_until(args.clone(), log.clone(), end.clone()).await?;
        let socket = args.csi_endpoint.path();
        if !end.succeeded.is_cancelled() || !succession::needed_again(socket, &told).await {
            return Ok(());
        }
    }
}

async fn run_until(args: NodeArgs, log: LogSwitch, end: End) -> Result<(), NodeRoleError> {
    let stop = end.stop.clone();
    // First of all: whoever registers us waits for the socket.
    let listener = match args.make_way {
        true => succession::listen(&args.csi_endpoint).await?,
        false => args.csi_endpoint.listen().await?,
    };
    let watchdog = args.state_dir.join(WATCHDOG_SOCKET);
    let tunnels: Arc<dyn Tunnels> = Arc::new(WatchdogTunnels::at(watchdog));
    let node = Node::new(
        Arc::new(ProcMountTable),
        Arc::new(ChildWorker::default()),
        Arc::clone(&tunnels),
        Arc::new(HostNetwork),
        Arc::new(PlainRecordFiles::below(&args.state_dir)),
        Arc::new(NetworkMountd),
    );
    tracing::info!(
        driver.name = %args.driver_name,
        driver.version = env!("CARGO_PKG_VERSION"),
        node.id = %args.node_id,
        csi.socket = %args.csi_endpoint.path().display(),
        "serving CSI"
    );
    let calls = CallTimes::default();
    let troubles = Troubles::default();
    args.serve_metrics(&node, &calls, &troubles, &stop);
    let cluster = args.connect();
    let own_node = args.own_node(cluster.as_ref());
    let node_name = args.node_id.to_string();
    let events = args.cluster.reporter(cluster.as_ref(), args.driver_name.as_str(), &node_name);
    let mut service = NodeService::new(node.clone(), args.node_id.clone())
        .with_defaults(args.volume_defaults())
        .with_most_volumes(args.max_volumes_per_node)
        .with_events(events.clone())
        .with_troubles(troubles)
        .with_claims(ClaimNotes::below(&args.state_dir));
    // CSI 1.13, GetPluginCapabilities: of the plugin, whichever of its parts is asked.
    let mut capabilities = vec![Type::ControllerService];
    if args.topology {
        let zones = args.zones(own_node.clone());
        service = service.with_topology(TopologyKey::of(&args.driver_name), zones);
        capabilities.push(Type::VolumeAccessibilityConstraints);
    }
    if let Some((taint, own_node)) = args.startup_taint.clone().zip(own_node) {
        let driver = args.driver_name.to_string();
        let asked = service.asked();
        tokio::spawn(async move {
            let found = lift_startup_taint(own_node.as_ref(), &driver, &taint, &asked).await;
            tell_untainted(&events, &node_name, &taint, found);
        });
    }
    args.register(&end);
    let identity = IdentityService::new(args.driver_name, capabilities, tunnels);
    let mut services =
        Routes::new(IdentityServer::new(identity)).add_service(NodeServer::new(service));
    if args.make_way {
        let succession = SuccessionService::new(node.clone(), end.succeeded.clone());
        services = services.add_service(SuccessionServer::new(succession));
        end.may_come_early();
    }
    let drained = serve(listener, services, log, calls, node, stop.clone().cancelled_owned())
        .await
        .map_err(NodeRoleError::Serve)?;
    // Where the server ended by itself, too.
    stop.cancel();
    tracing::info!(?drained, "stopped");
    Ok(())
}

fn tell_untainted(events: &Reporter, node: &str, taint: &str, found: Untainted) {
    if found == Untainted::Now {
        let message = format!("the driver is registered; took away the taint {taint}");
        let about = About::node(node);
        events.report(Report { about, reason: Reason::StartupTaintRemoved, message });
    }
}

async fn serve(
    listener: UnixListener,
    services: Routes,
    log: LogSwitch,
    calls: CallTimes,
    node: Node,
    told_to_stop: impl Future<Output = ()> + Send,
) -> Result<Drained, tonic::transport::Error> {
    csi_server::serve(listener, services, log, calls, told_to_stop, node.drained(), DRAIN).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use hyper_util::rt::TokioIo;
    use tokio::net::UnixStream;
    use tokio::sync::oneshot;
    use tonic::Code;
    use tonic::transport::Channel;
    use tonic::transport::Endpoint;

    use super::*;
    use crate::node::fake::Answer;
    use crate::node::fake::World;
    use crate::node::fake::entry;
    use crate::proto::csi;
    use crate::proto::csi::identity_client::IdentityClient;
    use crate::proto::csi::node_client::NodeClient;

    #[derive(Debug, clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn parse(arguments: &[&str]) -> Result<NodeArgs, clap::Error> {
        let all = ["alinas-csi", "--csi-endpoint", "unix:///csi/csi.sock", "--node-id", "n"];
        CommandLine::try_parse_from(all.iter().chain(arguments)).map(|line| line.node)
    }

    #[test]
    fn settings_have_the_documented_defaults_and_wrong_ones_are_refused() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.state_dir, Path::new("/run/alinas-csi"));
        assert_eq!(args.driver_name.as_str(), "alinas.csi.alibabacloud.com");
        assert_eq!(args.volume_defaults(), VolumeDefaults::default());
        let weak = parse(&["--tls-check", "dangerous-any-name", "--check-revocation"]).unwrap();
        let expected = VolumeDefaults {
            check: CertificateCheck::DangerousAnyName,
            revocation: RevocationCheck::Ocsp,
        };
        assert_eq!(weak.volume_defaults(), expected);
        parse(&["--tls-check", "any-name"]).unwrap_err();
        parse(&["--driver-name", "1nas"]).unwrap_err();
        parse(&["--zone", "a b"]).unwrap_err();
        parse(&["--max-volumes-per-node", "-1"]).unwrap_err();
        assert!(args.connect().is_none(), "a cluster is asked only for what was wanted of it");
        let no_socket = ["alinas-csi", "--csi-endpoint", "tcp://[::1]:1", "--node-id", "n"];
        CommandLine::try_parse_from(no_socket).unwrap_err();
    }

    struct Served {
        _home: tempfile::TempDir,
        channel: Channel,
        calls: CallTimes,
        stop: oneshot::Sender<()>,
        role: tokio::task::JoinHandle<Result<Drained, tonic::transport::Error>>,
    }

    async fn serve_world(world: &World) -> Served {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("csi.sock");
        let endpoint = CsiEndpoint::parse(&path.to_string_lossy()).unwrap();
        let listener = endpoint.listen().await.unwrap();
        let name = DriverName::parse("alinas.csi.alibabacloud.com").unwrap();
        let identity = IdentityService::new(name, Vec::new(), Arc::new(world.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let told_to_stop = async move {
            let _ = stopped.await;
        };
        let id = NodeId::parse("node-1").unwrap();
        let node = world.node();
        let service = NodeService::new(node.clone(), id);
        let services =
            Routes::new(IdentityServer::new(identity)).add_service(NodeServer::new(service));
        let calls = CallTimes::default();
        let log = LogSwitch::fixed("node");
        let role = tokio::spawn(serve(listener, services, log, calls.clone(), node, told_to_stop));
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://node").connect_with_connector_lazy(connect);
        Served { _home: home, channel, calls, stop, role }
    }

    fn stats_message() -> csi::NodeGetVolumeStatsRequest {
        csi::NodeGetVolumeStatsRequest {
            volume_id: "vol".to_owned(),
            volume_path: "/nowhere/pod".to_owned(),
            staging_target_path: String::new(),
        }
    }

    #[tokio::test]
    async fn both_services_answer_over_the_socket_until_told_to_stop() {
        let served = serve_world(&World::default()).await;
        let mut identity = IdentityClient::new(served.channel.clone());
        let answer = identity.probe(csi::ProbeRequest {}).await.unwrap();
        assert_eq!(answer.into_inner().ready, Some(true));
        let mut node = NodeClient::new(served.channel.clone());
        let status =
            node.node_stage_volume(csi::NodeStageVolumeRequest::default()).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "volume id is empty")
        );
        let counted: Vec<_> = served.calls.all().into_iter().map(|(call, _)| call).collect();
        assert_eq!(counted, [("NodeStageVolume", "INVALID_ARGUMENT"), ("Probe", "OK")]);
        served.stop.send(()).unwrap();
        assert_eq!(served.role.await.unwrap().unwrap(), Drained::Whole);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_under_way_is_ended_before_the_role_does() {
        let world = World::default().mounted(entry(1, "/nowhere/pod", "nas:/"));
        world.answer(0, Answer::Hang);
        let served = serve_world(&world).await;
        let mut node = NodeClient::new(served.channel.clone());
        let call = tokio::spawn(async move { node.node_get_volume_stats(stats_message()).await });
        while world.journal().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        served.stop.send(()).unwrap();
        assert_eq!(served.role.await.unwrap().unwrap(), Drained::Whole);
        assert_eq!(call.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    }
}
