//! `-t alinas -o tls`: the tunnel, asked for at a watchdog as the node plugin asks for one.

use std::net::SocketAddr;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::MountArgs;
use super::asked::Asked;
use super::start;
use crate::app::command;
use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::app::node::WATCHDOG_SOCKET;
use crate::host::route;
use crate::model::VolumeId;
use crate::nfs::Way;
use crate::node::TunnelFault;
use crate::node::Tunnels;
use crate::node::WatchdogTunnels;
use crate::node::tunnels::TunnelUser;
use crate::runtime::Chain;

/// Under this name the watchdog knows every mount of the command line; the directory tells them apart.
const VOLUME: &str = "mount.alinas";

/// What `-f` shows in place of an address that only the watchdog knows.
const SOME_TUNNEL: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 1, 1)), 12049);

/// How the kernel is to reach the server.
#[derive(Debug)]
pub(super) struct Tunnel {
    way: Way,
    /// What is to be given back if the mount fails: nothing, where the tunnel was held before.
    lease: Option<(WatchdogTunnels, TunnelUser)>,
}

/// Has a tunnel opened where one is asked for.
pub(super) async fn open(
    args: &MountArgs,
    asked: &Asked,
    target: &Path,
    cancel: &CancellationToken,
) -> Result<Tunnel, Ending> {
    let Some(spec) = &asked.tunnel else { return Ok(Tunnel { way: Way::Direct, lease: None }) };
    if args.fake {
        let way = Way::Tunnel { endpoint: SOME_TUNNEL, client_address: None };
        return Ok(Tunnel { way, lease: None });
    }
    let socket = args.state_dir.join(WATCHDOG_SOCKET);
    let tunnels = WatchdogTunnels::at(socket.clone());
    let user = TunnelUser {
        volume: volume()?,
        staging_path: target.to_owned(),
        source: asked.device.to_string(),
        options: asked.options.to_string(),
    };
    let may_start = asked.start_watchdog && start::is_wanted_at(&args.state_dir);
    let acquiring = async {
        match tunnels.acquire(spec, &user).await {
            Err(TunnelFault::NoWatchdog { .. }) if may_start => {
                start::watchdog(args).await?;
                Ok(WatchdogTunnels::at(socket).acquire(spec, &user).await)
            }
            acquired => Ok(acquired),
        }
    };
    let acquired = tokio::select! {
        acquired = acquiring => acquired?,
        () = cancel.cancelled() => {
            // It may be on record all the same.
            release(&tunnels, &user).await;
            return Err(command::interrupted());
        }
    };
    match acquired {
        Ok(acquired) => {
            let client_address = acquired
                .remote
                .and_then(|remote| route::source_address_towards(remote.into()).ok());
            let way = Way::Tunnel { endpoint: acquired.endpoint, client_address };
            // Behind `bg`, the parent had it opened for this process.
            let ours = args.in_background || !acquired.already;
            let lease = ours.then_some((tunnels, user));
            Ok(Tunnel { way, lease })
        }
        Err(fault) => {
            if fault.leaves_doubt() {
                release(&tunnels, &user).await;
            }
            Err(refusal(&fault))
        }
    }
}

impl Tunnel {
    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// After a mount that failed and left nothing.
    pub(super) async fn give_back(&self) {
        if let Some((tunnels, user)) = &self.lease {
            release(tunnels, user).await;
        }
    }
}

/// The tunnel of the mount that was at `target` is needed no more.
pub(in crate::app) async fn give_back(state_dir: &Path, target: &Path) -> Result<(), TunnelFault> {
    let Ok(volume) = volume() else { return Ok(()) };
    WatchdogTunnels::at(state_dir.join(WATCHDOG_SOCKET)).release(&volume, target).await
}

async fn release(tunnels: &WatchdogTunnels, user: &TunnelUser) {
    if let Err(error) = tunnels.release(&user.volume, &user.staging_path).await {
        tracing::debug!(error = %Chain(&error), "the tunnel was not given back; the watchdog will see it unused");
    }
}

fn volume() -> Result<VolumeId, Ending> {
    VolumeId::parse(VOLUME).map_err(|error| Ending::new(Exit::Internal, error))
}

fn refusal(fault: &TunnelFault) -> Ending {
    match fault {
        TunnelFault::NoWatchdog { socket, why } => Ending::new(
            Exit::System,
            format!(
                "option \"tls\" needs a watchdog, and none serves {socket:?} ({why}); start one with \
                 \"alinas-csi watchdog\", or say with --state-dir where it is"
            ),
        ),
        fault => Ending::new(Exit::Failure, fault),
    }
}

#[cfg(test)]
mod tests {
    use super::super::asked::Files;
    use super::super::tests::args;
    use super::*;

    async fn opened(line: &str) -> Result<Tunnel, Ending> {
        let args = args(line);
        let target = Path::new("/mnt");
        let asked = Asked::of(&args, target, &Files::default()).unwrap();
        open(&args, &asked, target, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn without_tls_there_is_no_tunnel_and_with_f_none_is_asked_for() {
        assert_eq!(opened("-t alinas nas.example:/ /mnt").await.unwrap().way(), Way::Direct);
        let way = opened("-f -t alinas nas.example:/ /mnt -o tls").await.unwrap().way();
        assert!(matches!(way, Way::Tunnel { endpoint: SOME_TUNNEL, .. }), "{way:?}");
    }

    #[tokio::test]
    async fn where_no_watchdog_runs_the_message_says_so_and_what_to_start() {
        let home = tempfile::tempdir().unwrap();
        let line =
            format!("-t alinas nas.example:/ /mnt -o tls --state-dir {}", home.path().display());
        let ending = opened(&line).await.unwrap_err();
        assert_eq!(ending.exit, Exit::System);
        for part in ["watchdog.sock", "\"alinas-csi watchdog\"", "--state-dir"] {
            assert!(ending.message.contains(part), "{}", ending.message);
        }
    }
}
