//! The role `watchdog`: keeps the tunnel process of a node running, and its tunnels as the node plugin wants
//! them.
//!
//! # At the end
//!
//! While the tunnel process is gone, every mount of the node waits. So on SIGTERM it is ended last:
//!
//! 1. The service ends: calls under way get [`service::DRAIN_DEADLINE`].
//! 2. The tunnel process is asked to shut down, and killed after [`driver::STOP_DEADLINE`].
//!
//! With `--leave-tunnel` the second step is left out: the process goes on serving, and the next watchdog takes the
//! sockets over from it. A host's service is restarted so without a pause.
//!
//! In a pod it would die with the container anyway. The records stay, and the next watchdog's tunnel process
//! binds the same addresses before anything else: the kernel reconnects, and no mount fails. Where the next pod starts
//! before this one ends, `--make-way` hands over to it without a pause ([`succession`]).
//!
//! # On SIGHUP
//!
//! The tunnel process is replaced by one of the binary that is installed by then, without a pause: both have the
//! listening sockets, and the new one serves before the former one lets its connections finish.
//!
//! LONG: half of it are the settings and tests.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::alinas_conf::AlinasConf;
use crate::app::metrics;
use crate::app::metrics::MetricsArgs;
use crate::app::namespace;
use crate::app::namespace::NamespaceFault;
use crate::app::node::WATCHDOG_SOCKET;
use crate::app::signals;
use crate::app::succession;
use crate::app::succession::End;
use crate::host::hosts_file::HostsFile;
use crate::host::mount_table::MountTable;
use crate::host::mount_table::ProcMountTable;
use crate::host::neighbours::NodeNeighbours;
use crate::host::nfs_clients::KernelNfsClients;
use crate::host::state_dir::StateDir;
use crate::host::state_dir::StateDirError;
use crate::runtime::LogSwitch;
use crate::tls::fips;
use crate::tls::fips::FipsError;
use crate::watchdog::address::KernelView;
use crate::watchdog::checkup::Checkup;
use crate::watchdog::checkup::DirectServers;
use crate::watchdog::driver;
use crate::watchdog::driver::Driver;
use crate::watchdog::driver::Life;
use crate::watchdog::driver::Wanted;
use crate::watchdog::hosts;
use crate::watchdog::neighbourhood;
use crate::watchdog::process::SelfLauncher;
use crate::watchdog::reaper;
use crate::watchdog::record;
use crate::watchdog::record::RecordStore;
use crate::watchdog::service;
use crate::watchdog::service::ServeError;
use crate::watchdog::sockets::LinuxSockets;
use crate::watchdog::sockets::Sockets;
use crate::watchdog::tunnels::LocalPort;
use crate::watchdog::tunnels::TunnelSettings;
use crate::watchdog::tunnels::Tunnels;

/// Kubernetes gives a pod 30 s between SIGTERM and SIGKILL.
const POD_GRACE_PERIOD: Duration = Duration::from_secs(30);
const _: () = assert!(
    service::DRAIN_DEADLINE.as_secs() + 2 * driver::STOP_DEADLINE.as_secs()
        < POD_GRACE_PERIOD.as_secs(),
    "the kubelet would kill us while we still end the tunnel process"
);

/// The settings of the role.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchdogArgs {
    /// Where records, sockets and the lock are; one directory for each watchdog.
    #[arg(long, env = "ALINAS_CSI_STATE_DIR", default_value = "/run/alinas-csi")]
    pub state_dir: PathBuf,

    /// A PEM file of certificate authorities that the tunnel trusts, or a directory of such files; followed while
    /// the tunnel runs.
    #[arg(long, env = "ALINAS_CSI_CA_FILE")]
    pub ca_file: Option<PathBuf>,

    /// The local port of the tunnels that are opened from now on; those that are open keep theirs.
    /// [default: 12049]
    #[arg(
        long,
        env = "ALINAS_CSI_PROXY_PORT",
        value_parser = clap::value_parser!(u16).range(8000..)
    )]
    pub proxy_port: Option<u16>,

    /// For how many seconds the kernel must not have used a tunnel without volumes before it is closed.
    /// [default: 30]
    #[arg(
        long,
        env = "ALINAS_CSI_UNMOUNT_GRACE",
        value_parser = clap::value_parser!(u64).range(0..=600)
    )]
    pub unmount_grace: Option<u64>,

    /// The vendor's settings file, for what is not said here, and for log files in its folder.
    #[arg(long, env = "ALINAS_CSI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Keep a line in the hosts file for each tunnel in use; also by "hosts_entries" in the settings file.
    #[arg(long, env = "ALINAS_CSI_HOSTS_ENTRIES")]
    pub hosts_entries: bool,

    /// The hosts file of this machine, where a container has it at another place.
    #[arg(long, env = "ALINAS_CSI_HOSTS_FILE", value_name = "FILE", default_value = "/etc/hosts")]
    pub hosts_file: PathBuf,

    /// Let any local process into the file systems, and not the kernel alone: for tests without a kernel mount.
    #[arg(long, hide = true)]
    pub dangerous_admit_any: bool,

    /// At the end, leave the tunnel process serving, for the next watchdog to take over from without a pause. Also
    /// make way for another watchdog that is started on the same state directory. Not for a pod: its processes end
    /// with it.
    #[arg(long, env = "ALINAS_CSI_LEAVE_TUNNEL")]
    pub leave_tunnel: bool,

    /// Make way for another watchdog that is started on the same state directory, and then wait for the signal to end:
    /// for a pod that is replaced by one that starts before it ends (maxSurge).
    #[arg(long, env = "ALINAS_CSI_MAKE_WAY", conflicts_with = "leave_tunnel")]
    pub make_way: bool,

    /// Run in a network namespace that is not the host's, or not the one that tunnels were made in: for debugging.
    /// Mounts made elsewhere hang.
    #[arg(long, hide = true)]
    pub dangerous_any_network_namespace: bool,

    /// Do not start unless all cryptography of TLS comes from a FIPS module.
    #[arg(long, env = "ALINAS_CSI_REQUIRE_FIPS")]
    pub require_fips: bool,

    #[command(flatten)]
    pub metrics: MetricsArgs,
}

/// Why the role ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogRoleError {
    /// FIPS mode is required and not in force.
    #[error(transparent)]
    Fips(#[from] FipsError),
    /// The state directory cannot be used, or another watchdog uses it.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// No mount would find the tunnels.
    #[error(transparent)]
    Namespace(#[from] NamespaceFault),
    /// The records cannot be read.
    #[error("failed to read the tunnel records")]
    Records(#[source] io::Error),
    /// The signals cannot be heard.
    #[error("failed to listen for signals")]
    Signals(#[source] io::Error),
    /// The service cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A part of the watchdog panicked.
    #[error("a part of the watchdog failed")]
    Part(#[from] tokio::task::JoinError),
}

/// Runs the role until SIGTERM or SIGINT. `tunnel_log` is what the tunnel process is told of its log.
///
/// # Errors
/// Says which part could not start or go on.
pub(super) async fn run(
    args: WatchdogArgs,
    conf: &AlinasConf,
    tunnel_log: Vec<OsString>,
    log: LogSwitch,
) -> Result<(), WatchdogRoleError> {
    fips::ensure(args.require_fips)?;
    let stop = signals::stop_on_signal().map_err(WatchdogRoleError::Signals)?;
    let settings = args.settings(conf);
    let hosts_entries = args.hosts_entries || conf.hosts_entries;
    let args = WatchdogArgs { hosts_entries, ..args };
    let tunnel_arguments = args.tunnel_arguments(tunnel_log);
    loop {
        let end = End::when(&stop);
        let (settings, arguments) = (settings.clone(), tunnel_arguments.clone());
        let (mounts, log) = (Arc::new(ProcMountTable), log.clone());
        run_until(args.clone(), settings, arguments, mounts, log, end.clone()).await?;
        let socket = args.state_dir.join(WATCHDOG_SOCKET);
        if !end.succeeded.is_cancelled() || !succession::needed_again(&socket, &stop).await {
            return Ok(());
        }
    }
}

impl WatchdogArgs {
    /// What the command line leaves open, the file says.
    fn settings(&self, conf: &AlinasConf) -> TunnelSettings {
        let grace = self.unmount_grace.map(Duration::from_secs);
        TunnelSettings {
            port: self.local_port(conf),
            unmount_grace: grace.unwrap_or(conf.unmount_grace),
        }
    }

    /// Whoever chooses another port in the file mounts again and needs no restart, as with the vendor's client.
    fn local_port(&self, conf: &AlinasConf) -> LocalPort {
        match (self.proxy_port, self.config.clone()) {
            (Some(port), _) => LocalPort::fixed(port),
            (None, Some(file)) => LocalPort::followed(move || AlinasConf::load(&file).proxy_port),
            (None, None) => LocalPort::fixed(conf.proxy_port),
        }
    }

    fn tunnel_arguments(&self, log: Vec<OsString>) -> Vec<OsString> {
        let mut arguments = log;
        if let Some(config) = &self.config {
            arguments.extend(["--config".into(), config.clone().into()]);
        }
        if self.require_fips {
            arguments.push("--require-fips".into());
        }
        if self.dangerous_any_network_namespace {
            arguments.push(namespace::DANGEROUS_FLAG.into());
        }
        arguments
    }
}

async fn run_until(
    args: WatchdogArgs,
    settings: TunnelSettings,
    tunnel_arguments: Vec<OsString>,
    mounts: Arc<dyn MountTable>,
    log: LogSwitch,
    end: End,
) -> Result<(), WatchdogRoleError> {
    let stop = end.stop.clone();
    let state = StateDir::open(&args.state_dir)?;
    let _ours_alone = succession::ours_alone(&state).await?;
    let has_tunnels =
        !state.sub(record::FOLDER)?.names().map_err(WatchdogRoleError::Records)?.is_empty();
    namespace::ensure(Some(state.path()), has_tunnels, args.dangerous_any_network_namespace)?;
    namespace::note(&state);
    let (life, shown) = watch::channel(Life::default());
    let tunnels = Arc::new(load(settings, &state, mounts, shown)?);
    let listener = service::listen(&state.file(WATCHDOG_SOCKET))?;

    let stop_process = CancellationToken::new();
    let mut launcher = SelfLauncher::new(state.file("tunnel.sock"), args.ca_file.clone());
    launcher.admit_any = args.dangerous_admit_any;
    launcher.more = tunnel_arguments;
    let wanted: Arc<dyn Wanted> = Arc::<Tunnels>::clone(&tunnels);
    let mut driver = Driver::new(Arc::new(launcher), wanted, life);
    if args.leave_tunnel {
        driver = driver.leaving();
        tunnels.may_be_succeeded(stop.clone());
    }
    if args.make_way {
        driver = driver.leaving_to(end.succeeded.clone());
        tunnels.may_be_succeeded(end.succeeded.clone());
        end.may_come_early();
    }
    let replace = driver.replace();
    tokio::spawn(signals::upgrade_on_hang_up(driver.upgrade(), stop_process.clone()));
    let process = tokio::spawn(driver.run(stop_process.clone()));
    let reaper = tokio::spawn(reaper::run(Arc::clone(&tunnels), stop.clone()));
    let servers = Arc::new(DirectServers { ca_file: args.ca_file.clone() });
    tokio::spawn(Checkup::new(Arc::clone(&tunnels), servers, replace).run(stop.clone()));
    if let Some(address) = args.metrics.metrics_listen {
        tokio::spawn(metrics::run(address, Arc::<Tunnels>::clone(&tunnels), stop.clone()));
    }
    tokio::spawn(look_around(Arc::clone(&tunnels), args.state_dir.clone(), stop.clone()));
    tokio::spawn(keep_hosts(args, Arc::clone(&tunnels), stop.clone()));
    let served = service::serve(listener, tunnels, log, stop.clone()).await;
    // Also where the service ended by itself: one part alone is of no use.
    stop.cancel();
    let reaped = reaper.await;
    stop_process.cancel();
    process.await?;
    reaped?;
    Ok(served?)
}

fn load(
    settings: TunnelSettings,
    state: &StateDir,
    mounts: Arc<dyn MountTable>,
    life: watch::Receiver<Life>,
) -> Result<Tunnels, WatchdogRoleError> {
    let records = RecordStore::new(state.sub(record::FOLDER)?);
    let clients = Arc::new(KernelNfsClients::default());
    let neighbours = Arc::new(NodeNeighbours::default());
    let kernel = KernelView { clients, mounts, neighbours };
    let sockets = Sockets::new(LinuxSockets);
    Tunnels::load(settings, records, kernel, sockets, life).map_err(WatchdogRoleError::Records)
}

/// Says whether there is another watchdog, and tells others that we are here.
async fn look_around(tunnels: Arc<Tunnels>, state_dir: PathBuf, stop: CancellationToken) {
    let line = format!("pid {}, state directory {state_dir:?}", std::process::id());
    stop.run_until_cancelled(neighbourhood::watch(&tunnels, &line)).await;
}

/// The lines for the tunnels in the hosts file, where they are asked for.
async fn keep_hosts(args: WatchdogArgs, tunnels: Arc<Tunnels>, stop: CancellationToken) {
    let file = HostsFile::new(args.hosts_file, &args.state_dir.display().to_string());
    if args.hosts_entries {
        hosts::run(tunnels, file, stop).await;
    } else {
        hosts::clear(&file).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: WatchdogArgs,
    }

    #[test]
    fn settings_are_checked_before_anything_runs() {
        for (line, accepted) in [
            (&["watchdog"][..], true),
            (&["watchdog", "--proxy-port", "8000", "--unmount-grace", "0"], true),
            (&["watchdog", "--proxy-port", "65535", "--unmount-grace", "600"], true),
            (&["watchdog", "--proxy-port", "7999"], false),
            (&["watchdog", "--proxy-port", "65536"], false),
            (&["watchdog", "--unmount-grace", "601"], false),
            (&["watchdog", "--metrics-listen", "fd00::1:29665"], true),
            (&["watchdog", "--metrics-listen", "29665"], false),
            (&["watchdog", "--make-way"], true),
            (&["watchdog", "--make-way", "--leave-tunnel"], false),
        ] {
            assert_eq!(Line::try_parse_from(line).is_ok(), accepted, "{line:?}");
        }
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let args = Line::try_parse_from(["watchdog"]).unwrap().args;
        assert_eq!(args.state_dir, PathBuf::from("/run/alinas-csi"));
        let shown = |args: &WatchdogArgs, conf: &AlinasConf| {
            let settings = args.settings(conf);
            (settings.port.number(), settings.unmount_grace.as_secs())
        };
        assert_eq!(shown(&args, &AlinasConf::default()), (12049, 30));
        let conf = AlinasConf {
            proxy_port: 20000,
            unmount_grace: Duration::from_secs(60),
            ..AlinasConf::default()
        };
        assert_eq!(shown(&args, &conf), (20000, 60));
        let said = ["watchdog", "--proxy-port", "9000", "--unmount-grace", "0"];
        assert_eq!(shown(&Line::try_parse_from(said).unwrap().args, &conf), (9000, 0));
    }

    #[test]
    fn another_port_in_the_file_is_taken_without_a_restart_unless_the_command_line_says_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = ["watchdog", "--config", file.path().to_str().unwrap()];
        let args = Line::try_parse_from(line).unwrap().args;
        let port = args.settings(&AlinasConf::load(file.path())).port;
        assert_eq!(port.number(), 12049);
        std::fs::write(file.path(), "[mount]\nproxy_port = 12050\n").unwrap();
        assert_eq!(port.number(), 12050);
        let line = [&line[..], &["--proxy-port", "9000"]].concat();
        let args = Line::try_parse_from(line).unwrap().args;
        assert_eq!(args.settings(&AlinasConf::load(file.path())).port.number(), 9000);
    }

    #[tokio::test]
    async fn a_second_watchdog_on_one_state_directory_is_refused_by_its_name() {
        #[derive(Debug)]
        struct NoMounts;
        impl MountTable for NoMounts {
            fn read(&self) -> io::Result<Vec<crate::host::mount_table::MountEntry>> {
                Ok(Vec::new())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let _first = StateDir::open(dir.path()).unwrap().lock("watchdog.lock").unwrap();
        let path = dir.path().to_str().unwrap();
        let args = Line::try_parse_from(["watchdog", "--state-dir", path]).unwrap().args;
        let settings = args.settings(&AlinasConf::default());
        let end = End::when(&CancellationToken::new());
        let log = LogSwitch::fixed("watchdog");
        let ended = run_until(args, settings, Vec::new(), Arc::new(NoMounts), log, end).await;
        let refusal = ended.unwrap_err().to_string();
        assert!(refusal.contains(path), "{refusal}");
    }
}
