//! Outside the lab: the whole of NodeStageVolume up to the kernel's mount, which this machine's kernel has not.
//!
//! The real driver stages a volume of a TLS server on this machine. The call ends where the kernel says that it
//! has no NFS, with everything of ours done: the record, the listener, the probe, the worker process. It even
//! includes undoing all that, so the figure is an upper bound. What the server takes, one connection with TLS
//! and one NULL call, is measured by itself and taken off. The admission check comes on top for each
//! connection of the kernel: two for NFSv3, one for NFSv4.0.

use std::io::Read;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use alinas_csi::model::RemotePort;
use alinas_csi::model::ServerName;
use alinas_csi::model::TunnelSpec;
use alinas_csi::tls::Trust;
use alinas_csi::tunnel::Dialer;
use e2e::bench::null_server;
use e2e::certificates::Authority;
use e2e::certificates::Validity;
use e2e::csi_client::CsiClient;
use e2e::csi_client::Volume;
use e2e::driver::Driver;
use e2e::driver::PROXY_PORT;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;

use crate::median;

const NAME: &str = "stage-cost.test";

/// Prints the medians.
pub(crate) fn measure(times: u32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::create(folder.path(), "ca")?;
    let server =
        null_server::start(Ipv4Addr::LOCALHOST, &authority.sign("server", NAME, Validity::Now)?)?;
    // In memory, as the state directory of a node is (/run): a disk would be what is measured.
    let driver = Driver::start_below(Path::new("/dev/shm"), &authority.file())?;
    let client = driver.client()?;
    let holder = volume(&driver, "holder", server);
    let stage = median(stages(&client, &holder, times)?);
    let theirs = median(probes(&authority.file(), server, times)?);
    let admission = median(admissions(times, server, &driver)?);
    let ours = stage.saturating_sub(theirs);
    println!(
        "outside emulation: NodeStageVolume up to the kernel's mount, and back {stage:.1?}, of which the server takes \
         {theirs:.1?}; ours {ours:.1?}"
    );
    println!("admission of one connection of the kernel: {admission:.1?}");
    let whole = ours + 2 * admission;
    println!(
        "ours altogether, with the two connections of NFSv3: {whole:.1?} (at most 50 ms wanted)"
    );
    Ok(())
}

fn volume(driver: &Driver, id: &str, server: SocketAddr) -> Volume {
    Volume::new(&driver.kubelet_dir(), id, &server.ip().to_string(), "3")
        .with("tlsPort", &server.port().to_string())
        .with("tlsServerName", NAME)
}

fn stages(client: &CsiClient, volume: &Volume, times: u32) -> Result<Vec<Duration>> {
    std::fs::create_dir_all(&volume.staging)?;
    let mut found = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        let Err(status) = client.stage_only(volume) else {
            return Err(Failure::new(
                "the volume was mounted: run this where the kernel has no NFS",
            ));
        };
        found.push(start.elapsed());
        ensure(status.message().contains("NFS"), format!("another failure: {}", status.message()))?;
    }
    Ok(found)
}

/// What the server takes of a stage: resolving, connecting, TLS and one NULL call.
fn probes(ca_file: &Path, server: SocketAddr, times: u32) -> Result<Vec<Duration>> {
    let dialer = Dialer::new(Arc::new(Trust::new(Some(ca_file))?));
    let spec = TunnelSpec {
        server_name: ServerName::parse(NAME)?,
        ..TunnelSpec::to(
            ServerName::parse(&server.ip().to_string())?,
            RemotePort::Only(server.port()),
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut found = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        runtime.block_on(dialer.probe(&spec)).during("the probe failed")?;
        found.push(start.elapsed());
    }
    Ok(found)
}

/// How long the tunnel looks at a connection before it lets it in or, as here, refuses it.
fn admissions(times: u32, server: SocketAddr, driver: &Driver) -> Result<Vec<Duration>> {
    use alinas_csi::proto::tunnel as proto;
    use proto::tunnels_client::TunnelsClient;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = proto::AcquireRequest {
        spec: Some(proto::TunnelSpec {
            host: server.ip().to_string(),
            port: server.port().into(),
            server_name: NAME.to_owned(),
            policy: None,
        }),
        user: Some(proto::TunnelUser {
            volume_id: "admission".to_owned(),
            staging_path: "/admission".to_owned(),
            ..proto::TunnelUser::default()
        }),
    };
    let answer = runtime.block_on(async {
        let channel = e2e::csi_client::channel(&driver.watchdog_socket())?;
        Ok::<_, Failure>(TunnelsClient::new(channel).acquire(request).await?.into_inner())
    })?;
    let Some(proto::acquire_response::Outcome::Acquired(acquired)) = answer.outcome else {
        return Err(Failure::new(format!("no tunnel: {answer:?}")));
    };
    let address = acquired.endpoint.unwrap_or_default().address;
    let mut found = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        let mut intruder = TcpStream::connect((address.as_str(), PROXY_PORT))?;
        // Refused: nothing comes but the end, in the form of a close or a reset.
        let _ = intruder.read(&mut [0]);
        found.push(start.elapsed());
    }
    Ok(found)
}
