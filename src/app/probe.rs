//! The command `probe`: whether the plugin of this container works, for a probe of Kubernetes' (`exec`).
//!
//! It asks the CSI socket (Identity, Probe), as livenessprobe does, and needs neither a port nor a container of its own.

use std::process::ExitCode;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::app::say;
use crate::csi::CsiEndpoint;
use crate::proto::csi::ProbeRequest;
use crate::proto::csi::identity_client::IdentityClient;
use crate::runtime::one_connection;

/// What is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct ProbeArgs {
    /// Unix socket that the plugin serves CSI on: unix:///path.sock
    #[arg(long, env = "CSI_ENDPOINT", value_parser = CsiEndpoint::parse)]
    pub csi_endpoint: CsiEndpoint,

    /// For how many seconds the answer is waited for
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "5",
        value_parser = clap::value_parser!(u64).range(1..=60)
    )]
    pub timeout: u64,
}

/// Succeeds where the plugin is ready.
pub(super) fn run(arguments: &ProbeArgs) -> ExitCode {
    match asked(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("alinas-csi probe: {why}\n"));
            ExitCode::FAILURE
        }
    }
}

fn asked(arguments: &ProbeArgs) -> Result<(), String> {
    let socket = arguments.csi_endpoint.path().display();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("failed to start: {error}"))?;
    let limit = Duration::from_secs(arguments.timeout);
    match runtime.block_on(async { timeout(limit, ask(&arguments.csi_endpoint)).await }) {
        Ok(answer) => answer.map_err(|why| format!("failed to ask {socket}: {why}")),
        Err(_) => Err(format!("no answer on {socket} within {} s", arguments.timeout)),
    }
}

async fn ask(endpoint: &CsiEndpoint) -> Result<(), String> {
    let stream = UnixStream::connect(endpoint.path()).await.map_err(|error| error.to_string())?;
    let answer = IdentityClient::new(one_connection(stream)).probe(ProbeRequest {}).await;
    let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
    // No word on readiness means ready (CSI 1.13, Probe).
    if answer.ready.unwrap_or(true) { Ok(()) } else { Err("it is not ready yet".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn arguments(dir: &tempfile::TempDir) -> ProbeArgs {
        let socket = dir.path().join("csi.sock");
        let csi_endpoint = CsiEndpoint::parse(&socket.to_string_lossy()).unwrap();
        ProbeArgs { csi_endpoint, timeout: 1 }
    }

    #[test]
    fn who_is_not_there_or_does_not_answer_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = arguments(&dir);
        let socket = arguments.csi_endpoint.path();
        let refused = asked(&arguments).unwrap_err();
        assert!(refused.contains(&socket.display().to_string()), "{refused}");
        let _silent = UnixListener::bind(socket).unwrap();
        let silent = asked(&arguments).unwrap_err();
        assert!(silent.contains("within 1 s"), "{silent}");
    }
}
