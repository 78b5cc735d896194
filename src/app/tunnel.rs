//! The role `tunnel`: one process for all tunnels of a node, or a single one in the foreground.
//!
//! Managed, it is told its first listeners on standard input, with their sockets where that is a Unix socket, and
//! serves them before anything else, so that the kernel finds its mounts again as soon as possible; it answers `ready`
//! on standard output. It does not end with its parent: mounts outlive a watchdog. The next watchdog gets the sockets
//! from it and asks it to end.

use std::io;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::namespace;
use crate::app::namespace::NamespaceFault;
use crate::app::signals;
use crate::host::descriptors;
use crate::host::peer::LinuxPeers;
use crate::model::MountTarget;
use crate::model::RemotePort;
use crate::model::ServerName;
use crate::model::TlsPolicy;
use crate::model::TunnelSpec;
use crate::model::tls_policy::TlsBackend;
use crate::model::tls_policy::TlsVersion;
use crate::model::tunnel_spec::ServerNameError;
use crate::runtime::LogSwitch;
use crate::tls::Trust;
use crate::tls::TrustError;
use crate::tls::fips;
use crate::tls::fips::FipsError;
use crate::tunnel::Admission;
use crate::tunnel::Dialer;
use crate::tunnel::InitialListener;
use crate::tunnel::TunnelProcess;
use crate::tunnel::door::Door;
use crate::tunnel::given;
use crate::tunnel::given::GivenSockets;
use crate::tunnel::process::OpenFault;
use crate::tunnel::process::Opened;
use crate::tunnel::service::RelayService;
use crate::tunnel::socket_name::SocketName;

/// What connections get on SIGTERM. A caller of Shutdown names its own.
const SIGNAL_GRACE: Duration = Duration::from_secs(5);
/// Between two looks at whether anybody can still reach us, once our watchdog has ended. The next watchdog asks us to
/// end far sooner, if it knows of us.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// `alinas-csi tunnel`.
#[derive(Args, Clone, Debug)]
pub struct TunnelArgs {
    /// Run for a watchdog: read the first listeners from standard input, serve --socket
    #[arg(long, requires = "socket", conflicts_with_all = ["listen", "target", "server_name"])]
    managed: bool,
    /// Unix socket to be told by
    #[arg(long, value_name = "PATH", requires = "managed")]
    socket: Option<PathBuf>,
    /// Run a single tunnel from this IPv4 address (port 0: any free one)
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "managed")]
    listen: Option<SocketAddrV4>,
    /// Where the single tunnel leads
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "managed")]
    target: Option<String>,
    /// The name that the certificate must carry, where it is not the target's
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The oldest TLS version that the single tunnel speaks: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value_t, value_parser = TlsVersion::parse)]
    tls_min_version: TlsVersion,
    /// Who speaks TLS in the single tunnel: auto, rustls or openssl
    #[arg(long, value_name = "WORD", default_value_t, value_parser = TlsBackend::parse)]
    tls_backend: TlsBackend,
    /// PEM file of certificate authorities to trust besides the well-known ones, or a directory of such files;
    /// followed while the process runs
    #[arg(long, value_name = "PATH")]
    ca_file: Option<PathBuf>,
    /// Do not start unless all cryptography of TLS comes from a FIPS module
    #[arg(long, env = "ALINAS_CSI_REQUIRE_FIPS")]
    require_fips: bool,
    /// Run in a network namespace that is not the host's, for debugging: mounts made elsewhere hang
    #[arg(long, hide = true)]
    dangerous_any_network_namespace: bool,
    /// Settings of the vendor's client, for the log
    #[arg(long, value_name = "FILE", hide = true)]
    pub(super) config: Option<PathBuf>,
    /// Who may connect
    #[arg(long, value_enum, default_value_t = Admit::Kernel)]
    admit: Admit,
}

/// Who may connect to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Admit {
    /// The kernel's NFS client alone
    Kernel,
    /// Any local process: everybody on this node gets into the file system
    Any,
}

/// Why the role ends.
#[derive(Debug, thiserror::Error)]
pub enum TunnelRoleError {
    /// FIPS mode is required and not in force.
    #[error(transparent)]
    Fips(#[from] FipsError),
    /// No mount would find the tunnels.
    #[error(transparent)]
    Namespace(#[from] NamespaceFault),
    /// Nothing to trust.
    #[error("failed to set up TLS")]
    Trust(#[from] TrustError),
    /// The first line of standard input is no list of listeners.
    #[error("failed to read the initial listeners from standard input: {0}")]
    Input(String),
    /// `--target` makes no sense.
    #[error("--target {text:?} is no HOST:PORT: {why}")]
    Target {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        why: String,
    },
    /// `--server-name` makes no sense.
    #[error("--server-name cannot be used")]
    ServerName(#[from] ServerNameError),
    /// The single listener cannot be had.
    #[error(transparent)]
    Open(#[from] OpenFault),
    /// The control socket cannot be had.
    #[error("failed to serve {path:?}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The control socket has failed.
    #[error("the control socket has failed")]
    Serve(#[from] tonic::transport::Error),
    /// Standard output or the signals.
    #[error("failed to {what}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs the role until it is told to end.
///
/// # Errors
/// When a setting is wrong, or the process cannot do its work.
pub async fn run(args: TunnelArgs, log: LogSwitch) -> Result<(), TunnelRoleError> {
    fips::ensure(args.require_fips)?;
    // What a watchdog has noted is where the tunnels of this socket are to be.
    let state_dir = args.socket.as_deref().and_then(Path::parent);
    namespace::ensure(state_dir, true, args.dangerous_any_network_namespace)?;
    let descriptors = descriptors::allow_as_many_as_possible();
    tracing::debug!(descriptors, "a connection takes two");
    let trust = Arc::new(Trust::new(args.ca_file.as_deref())?);
    let dialer = Dialer::new(Arc::clone(&trust));
    let process = Arc::new(TunnelProcess::new(dialer, admission(args.admit)));
    // None of them ever ends but the first; they end with the role.
    tokio::select! {
        ended = serve(&process, args, log) => ended,
        () = trust.follow() => Ok(()),
        () = process.watch_expiry() => Ok(()),
        () = process.renew_client_certificates() => Ok(()),
    }
}

async fn serve(
    process: &Arc<TunnelProcess>,
    args: TunnelArgs,
    log: LogSwitch,
) -> Result<(), TunnelRoleError> {
    match (&args.socket, args.listen, &args.target) {
        (Some(socket), _, _) => managed(process, socket, log).await,
        (None, Some(listen), Some(target)) => {
            let spec = single_spec(target, &args)?;
            single(process, &spec, listen).await
        }
        // clap has refused this already.
        _ => Err(TunnelRoleError::Input("neither --managed nor --listen and --target".to_owned())),
    }
}

fn admission(admit: Admit) -> Admission {
    match admit {
        Admit::Kernel => Admission::KernelOnly(Arc::new(LinuxPeers::default())),
        Admit::Any => {
            tracing::warn!("--admit any: every process of this node gets into the file system");
            Admission::Anyone
        }
    }
}

async fn managed(
    process: &Arc<TunnelProcess>,
    path: &Path,
    log: LogSwitch,
) -> Result<(), TunnelRoleError> {
    let stop = stop_on_signal()?;
    let (initial, watchdog) = initial_listeners(process.given()).await?;
    for initial in initial {
        let (spec, address) =
            initial.parse().map_err(|error| TunnelRoleError::Input(error.to_string()))?;
        process.open_or_wait(&spec, address);
    }
    let door = Door::open(path, process.given().take_direct())
        .map_err(|source| TunnelRoleError::Socket { path: path.to_owned(), source })?;
    let (name, word) = (door.name(), door.word());
    let (service, mut shutdown) = RelayService::new(Arc::clone(process));
    say(word)?;
    // Serving goes on while connections drain: a Shutdown that is repeated is answered.
    tokio::select! {
        ended = service.serve(door, log) => Ok(ended?),
        () = async {
            let grace = tokio::select! {
                grace = told_to_end(&stop, &mut shutdown) => grace,
                () = follow(process.given(), watchdog, name) => SIGNAL_GRACE,
            };
            end(process, grace).await;
        } => Ok(()),
    }
}

async fn single(
    process: &TunnelProcess,
    spec: &TunnelSpec,
    listen: SocketAddrV4,
) -> Result<(), TunnelRoleError> {
    let stop = stop_on_signal()?;
    let opened = process.ensure_open(spec, listen).map_err(|fault| process.named(fault))?;
    let (Opened::Now(address) | Opened::Already(address)) = opened;
    say(&format!("listening on {address}"))?;
    stop.cancelled().await;
    end(process, SIGNAL_GRACE).await;
    Ok(())
}

async fn end(process: &TunnelProcess, grace: Duration) {
    process.stop_listening().await;
    let drained = process.drain(grace).await;
    tracing::info!(?drained, "the tunnel process ends");
}

/// One line of JSON with the sockets that it is about, and what more of them will come over.
async fn initial_listeners(
    given: &GivenSockets,
) -> Result<(Vec<InitialListener>, Option<UnixStream>), TunnelRoleError> {
    let input = |error: &dyn std::error::Error| TunnelRoleError::Input(error.to_string());
    let stdin = rustix::stdio::stdin().try_clone_to_owned().map_err(|error| input(&error))?;
    let (line, watchdog) = given::first_words(stdin, given).await.map_err(|error| input(&error))?;
    Ok((serde_json::from_str(&line).map_err(|error| input(&error))?, watchdog))
}

/// Takes what the watchdog gives. The tunnels outlive the watchdog; but one that ended while it replaced us may not
/// have told us to end, and the next one finds only the process that has our socket's name. So this ends once there is
/// no watchdog and another process has the name.
async fn follow(given: &GivenSockets, watchdog: Option<UnixStream>, name: SocketName) {
    let Some(watchdog) = watchdog else { return std::future::pending().await };
    given.follow(watchdog).await;
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        if name.is_taken() {
            tracing::info!(
                "another tunnel process has taken our place, and our watchdog has ended"
            );
            return;
        }
    }
}

/// A line that whoever started us waits for.
fn say(line: &str) -> Result<(), TunnelRoleError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|source| TunnelRoleError::Process { what: "write to standard output", source })
}

fn single_spec(target: &str, args: &TunnelArgs) -> Result<TunnelSpec, TunnelRoleError> {
    let wrong = |why: String| TunnelRoleError::Target { text: target.to_owned(), why };
    let (host, port) =
        target.rsplit_once(':').ok_or_else(|| wrong("the port is missing".to_owned()))?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| wrong("the port is none".to_owned()))?;
    let target = MountTarget::parse(host).map_err(|error| wrong(error.to_string()))?;
    let host = target.name().clone();
    let server_name = args.server_name.as_deref().map(ServerName::parse).transpose()?;
    let policy = TlsPolicy {
        least_version: args.tls_min_version,
        backend: args.tls_backend,
        ..TlsPolicy::default()
    };
    let server_name = server_name.unwrap_or_else(|| host.clone());
    Ok(TunnelSpec { server_name, host, port: RemotePort::Only(port), policy })
}

/// Waits for a signal or a call to end, and says what grace connections get.
async fn told_to_end(
    stop: &CancellationToken,
    shutdown: &mut watch::Receiver<Option<Duration>>,
) -> Duration {
    tokio::select! {
        () = stop.cancelled() => SIGNAL_GRACE,
        asked = shutdown.wait_for(Option::is_some) => {
            asked.ok().and_then(|grace| *grace).unwrap_or(SIGNAL_GRACE)
        }
    }
}

fn stop_on_signal() -> Result<CancellationToken, TunnelRoleError> {
    signals::stop_on_signal()
        .map_err(|source| TunnelRoleError::Process { what: "listen to signals", source })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        tunnel: TunnelArgs,
    }

    #[test]
    fn a_command_line_is_managed_or_a_single_tunnel() {
        for (line, fine) in [
            ("--managed --socket /run/t.sock", true),
            ("--managed --socket /run/t.sock --ca-file /ca.pem --admit any", true),
            ("--listen 127.0.1.1:0 --target nas.example.com:2049", true),
            ("--listen 127.0.1.1:0 --target a:1 --server-name b --admit kernel", true),
            ("", false),
            ("--managed", false),
            ("--socket /run/t.sock", false),
            ("--listen 127.0.1.1:0", false),
            ("--target a:1", false),
            ("--managed --socket /run/t.sock --listen 127.0.1.1:0", false),
            ("--listen [::1]:0 --target a:1", false),
        ] {
            let words = std::iter::once("tunnel").chain(line.split_whitespace());
            assert_eq!(Line::try_parse_from(words).is_ok(), fine, "{line}");
        }
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        let args = |more: &str| {
            let line = format!("tunnel --listen 127.0.1.1:0 --target x:1 {more}");
            Line::try_parse_from(line.split_whitespace()).unwrap().tunnel
        };
        let shown = |target, more| single_spec(target, &args(more)).unwrap().to_string();
        assert_eq!(shown("nas.example.com:2049", ""), "nas.example.com:2049");
        let name = "--server-name a.b --tls-min-version 1.3";
        assert_eq!(shown("[2001:db8::7]:1", name), "[2001:db8::7]:1 (as a.b) (TLS 1.3 only)");
        for target in ["nas.example.com", "nas:x", ":1", "nas:70000", "nas:0"] {
            assert!(single_spec(target, &args("")).is_err(), "{target}");
        }
    }
}
