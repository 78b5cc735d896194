//! The troubles of docs/troubles.md that come before NFS, each caused for real: what the kubelet is told, events,
//! `alinas-csi status` and metrics tell it from the other ones, and say what to do.
//!
//! Watchdog, tunnel process and node plugin are the real ones, before stunnel, in a network of their own. There is no NFS in
//! the kernel here: a tunnel in use is one that the test has asked the watchdog for, as the node plugin would. With real
//! mounts: e2e/tests/root_troubles.rs.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use alinas_csi::model::RemotePort;
use alinas_csi::model::ServerName;
use alinas_csi::model::TlsPolicy;
use alinas_csi::model::TunnelSpec;
use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::acquire_response::Outcome;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use alinas_csi::tunnel::convert;
use e2e::cable;
use e2e::csi_client::Volume;
use e2e::csi_client::channel;
use e2e::driver::Driver;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::name_service::NameService;
use e2e::nas::Front;
use e2e::nas::UNKNOWN_DOMAIN;
use e2e::operator;
use e2e::operator::Operator;
use e2e::process::run;
use e2e::process::wait_until;
use e2e::tls_lab;
use e2e::tls_lab::Lab;
use e2e::tls_lab::Stunnel;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::year;
use e2e::troubles;
use e2e::troubles::Trouble;
use rcgen::CertificateParams;
use rcgen::SanType;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const NETWORK: &str = "alinas-troubles";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const SERVER: SocketAddrV4 = SocketAddrV4::new(ADDRESS, 2049);
const NAME_SERVICE: &str = "127.0.0.201";
const SHORT: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);
const LET_EVERYBODY_IN: &str = "--dangerous-admit-any";

/// A network with a good mount target, a driver and who looks at it. They end in this order.
struct World {
    driver: Driver,
    operator: Operator,
    server: Option<Stunnel>,
    without_tls: Option<JoinHandle<()>>,
    _names: NameService,
    lab: Lab,
    nfs: u16,
    runtime: Runtime,
}

/// Runs a part of a test in a network namespace with a new world.
fn in_a_world(watchdog: &[&str], part: impl FnOnce(&mut World) -> Result<()> + Send) -> Result<()> {
    let _network = Network::create()?;
    lab::inside_network(&cable::namespace(NETWORK), || {
        let mut world = World::start(watchdog)?;
        let done = part(&mut world);
        done.map_err(|failure| Failure::new(format!("{failure}\n{}", world.driver.logs())))
    })
}

/// Gone when dropped.
struct Network;

impl Network {
    fn create() -> Result<Self> {
        Self::remove();
        cable::ip(&format!("netns add {NETWORK}"))?;
        let network = Self;
        cable::ip(&format!("-n {NETWORK} link set lo up"))?;
        cable::ip(&format!("-n {NETWORK} addr add {ADDRESS}/32 dev lo"))?;
        Ok(network)
    }

    /// What a killed run has left goes, too.
    fn remove() {
        cable::remove(NETWORK, NETWORK);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        Self::remove();
    }
}

impl World {
    fn start(watchdog: &[&str]) -> Result<Self> {
        let lab = Lab::new();
        let operator = Operator::new()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let nfs = runtime.block_on(tls_lab::nfs());
        let mut told = operator.told()?;
        told.around_watchdog = with_names(lab.folder.path())?;
        told.watchdog.push("--dangerous-any-network-namespace".to_owned());
        told.watchdog.extend(watchdog.iter().map(|word| (*word).to_owned()));
        let names = NameService::start(NAME_SERVICE)?;
        let driver = Driver::start_told(&lab.ca_file, told)?;
        let (server, without_tls) = (None, None);
        let mut world =
            Self { driver, operator, server, without_tls, _names: names, lab, nfs, runtime };
        world.serve(&world.lab.certificate(of_the_domain));
        Ok(world)
    }

    /// Starts a server with this certificate, in the place of the one before.
    fn serve(&mut self, certificate: &str) {
        drop(self.server.take());
        self.server = Some(self.lab.server_on(SERVER, certificate, TLS_1_3, self.nfs));
    }

    /// Uses a tunnel to the mount target, as a mounted volume does, and answers where it is.
    fn use_tunnel(&self) -> Result<SocketAddrV4> {
        let host = ServerName::parse(Front::Good.domain())?;
        let spec = TunnelSpec {
            host: host.clone(),
            port: RemotePort::Known,
            server_name: host,
            policy: TlsPolicy::default(),
        };
        let user = wire::TunnelUser {
            volume_id: "in-use".to_owned(),
            staging_path: "/staging".to_owned(),
            ..wire::TunnelUser::default()
        };
        let request =
            wire::AcquireRequest { spec: Some(convert::spec_to_wire(&spec)), user: Some(user) };
        let answer = self.runtime.block_on(async {
            let channel = channel(&self.driver.watchdog_socket())?;
            let answer = TunnelsClient::new(channel).acquire(request).await;
            Ok::<_, Failure>(answer?.into_inner())
        })?;
        let Some(Outcome::Acquired(acquired)) = answer.outcome else {
            return Err(Failure::new(format!("{answer:?}")));
        };
        Ok(convert::endpoint_from_wire(acquired.endpoint)?)
    }

    fn volume(&self, server: &str) -> Volume {
        Volume::new(&self.driver.kubelet_dir(), "volume", server, "3")
    }

    /// Has a mount fail, and looks at every place.
    fn mount_fails(&self, trouble: &Trouble, server: &str) -> Result<()> {
        self.operator.sees_a_failed_mount(trouble, &self.driver, &self.volume(server))
    }
}

/// What a failed mount shows, and then what a tunnel shows that the same befalls while it is used.
fn is_told(trouble: &Trouble, cause: fn(&mut World) -> Result<()>) -> Result<()> {
    in_a_world(&[], |world| {
        cause(world)?;
        world.mount_fails(trouble, Front::Good.domain())?;
        // A mount that fails leaves no tunnel.
        wait_until("no tunnel is left", SHORT, || {
            operator::status(&world.driver, &[]).is_ok_and(|text| text.ends_with("no tunnels\n"))
        })?;
        world.operator.sees_no_trouble_in_use(&world.driver)
    })?;
    in_a_world(&[LET_EVERYBODY_IN], |world| {
        let tunnel = world.use_tunnel()?;
        world.operator.sees_no_trouble_in_use(&world.driver)?;
        cause(world)?;
        // In the kernel's place.
        let _connection = TcpStream::connect(tunnel)?;
        world.operator.sees_it_in_use(trouble, &world.driver)
    })
}

/// The certificate of the mount target.
fn of_the_domain(params: &mut CertificateParams) {
    if let Ok(name) = Front::Good.domain().try_into() {
        params.subject_alt_names = vec![SanType::DnsName(name)];
    }
}

/// What the watchdog is started by, so that it knows the mount target by its domain and no other name.
fn with_names(folder: &Path) -> Result<Vec<String>> {
    let file = |name: &str| folder.join(name).display().to_string();
    let (hosts, resolver) = (file("hosts"), file("resolv.conf"));
    fs::write(&hosts, format!("127.0.0.1 localhost\n{ADDRESS} {}\n", Front::Good.domain()))?;
    fs::write(&resolver, format!("nameserver {NAME_SERVICE}\noptions timeout:1 attempts:2\n"))?;
    let script = format!(
        "mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && exec \"$0\" \"$@\""
    );
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script];
    Ok(words.map(str::to_owned).into())
}

#[test]
fn a_wrong_domain_is_told() -> Result<()> {
    in_a_world(&[], |world| world.mount_fails(&troubles::WRONG_DOMAIN, UNKNOWN_DOMAIN))
}

#[test]
fn a_missing_route_is_told() -> Result<()> {
    is_told(&troubles::NO_ROUTE, |_| {
        cable::ip(&format!("addr del {ADDRESS}/32 dev lo"))?;
        cable::ip(&format!("route add unreachable {ADDRESS}/32")).map(drop)
    })
}

#[test]
fn refused_tls_is_told() -> Result<()> {
    is_told(&troubles::TLS_REFUSED, |world| {
        drop(world.server.take());
        let listener = world.runtime.block_on(TcpListener::bind(SERVER))?;
        world.without_tls = Some(world.runtime.spawn(hang_up(listener)));
        Ok(())
    })
}

/// Reads what comes and closes, as an NFS server does.
async fn hang_up(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            drop(stream.read(&mut [0; 4096]).await);
        });
    }
}

#[test]
fn an_untrusted_certificate_is_told() -> Result<()> {
    is_told(&troubles::UNTRUSTED, |world| {
        world.serve(&Lab::new().certificate(of_the_domain));
        Ok(())
    })
}

#[test]
fn an_expired_certificate_is_told() -> Result<()> {
    is_told(&troubles::EXPIRED, |world| {
        let old = |params: &mut CertificateParams| {
            of_the_domain(params);
            params.not_after = year(2001);
        };
        world.serve(&world.lab.certificate(old));
        Ok(())
    })
}

#[test]
fn a_silent_server_is_told() -> Result<()> {
    is_told(&troubles::SERVER_SILENT, |_| {
        let rules = format!(
            "add table inet silence; \
             add chain inet silence out {{ type filter hook output priority 0; }}; \
             add rule inet silence out ip daddr {ADDRESS} drop"
        );
        run(SHORT, "nft", &[&rules]).map(drop)
    })
}

#[test]
fn a_dead_tunnel_process_is_told() -> Result<()> {
    in_a_world(&[], |world| {
        world.use_tunnel()?;
        let _none_lives = world.driver.let_no_tunnel_live();
        world.operator.sees_it_in_use(&troubles::TUNNEL_DEAD, &world.driver)?;
        world.mount_fails(&troubles::TUNNEL_DEAD, Front::Good.domain())
    })
}

#[test]
fn a_dead_watchdog_is_told() -> Result<()> {
    in_a_world(&[], |world| {
        world.driver.kill_watchdog()?;
        world.mount_fails(&troubles::TUNNEL_DEAD, Front::Good.domain())?;
        let Err(failure) = operator::status(&world.driver, &[]) else {
            return Err(Failure::new("status has an answer without a watchdog"));
        };
        let said = failure.to_string();
        ensure(said.contains("is it running on this node?"), said)
    })
}

#[test]
fn a_local_intruder_is_told() -> Result<()> {
    in_a_world(&[], |world| {
        let tunnel = world.use_tunnel()?;
        world.operator.sees_no_trouble_in_use(&world.driver)?;
        let mut intruder = TcpStream::connect(tunnel)?;
        intruder.set_read_timeout(Some(MINUTE))?;
        let read = intruder.read(&mut [0]);
        ensure(!matches!(read, Ok(1..)), "the intruder got an answer")?;
        world.operator.sees_it_in_use(&troubles::INTRUDER, &world.driver)
    })
}
