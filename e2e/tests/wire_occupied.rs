//! A port or an address of the tunnels that another process has: which is used instead, what is said where there is
//! none, and both ways out. The real watchdog and its tunnel process; the other process is perl.

use std::fs;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::Command;

use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::acquire_response::Outcome;
use alinas_csi::proto::tunnel::tunnel_failure::Kind;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use alinas_csi::tunnel::convert;
use e2e::csi_client::channel;
use e2e::driver::binary;
use e2e::process::Process;
use e2e::tls_lab;
use e2e::tls_lab::DEADLINE;
use e2e::tls_lab::Lab;
use e2e::tls_lab::Stunnel;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::free_port;
use e2e::tls_lab::spec;
use tokio::time::sleep;
use tokio::time::timeout;

/// Listens at an address until it is killed, and says so.
const LISTENER: &str = "use IO::Socket::INET; $| = 1; \
                        my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => $ARGV[0]) or die $@; \
                        print \"listens\\n\"; sleep 600;";

/// One at a time: an address at which another test listens is passed over.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Node {
    watchdog: Process,
    port: u32,
    config: PathBuf,
    nas: Stunnel,
    lab: Lab,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

impl Node {
    async fn new() -> Self {
        let _alone = ALONE.lock().await;
        let lab = Lab::new();
        let nas = lab.server(TLS_1_3, tls_lab::nfs().await);
        let port = free_port();
        let config = lab.folder.path().join("alinas-utils.conf");
        fs::write(&config, format!("[mount]\nproxy_port = {port}\n")).unwrap();
        let mut command = Command::new(binary().unwrap());
        command.arg("watchdog").arg("--state-dir").arg(lab.folder.path().join("state"));
        command.arg("--ca-file").arg(&lab.ca_file).arg("--dangerous-admit-any");
        command.arg("--config").arg(&config).arg("--unmount-grace").arg("0");
        command.env("ALINAS_CSI_LOG_DIR", lab.folder.path());
        let log = lab.folder.path().join("log");
        let watchdog = Process::start("watchdog", &mut command, &log).unwrap();
        let node = Self { watchdog, port, config, nas, lab, _alone };
        let socket = node.lab.folder.path().join("state/watchdog.sock");
        let served = async {
            // The file is there a moment before anybody listens.
            while std::os::unix::net::UnixStream::connect(&socket).is_err() {
                sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, served).await.expect("the watchdog serves");
        node
    }

    async fn acquire(&self) -> Result<SocketAddrV4, wire::TunnelFailure> {
        let socket = self.lab.folder.path().join("state/watchdog.sock");
        let user = wire::TunnelUser {
            volume_id: "volume".into(),
            staging_path: "/staging".into(),
            ..wire::TunnelUser::default()
        };
        let spec = Some(convert::spec_to_wire(&spec(self.nas.port)));
        let request = wire::AcquireRequest { spec, user: Some(user) };
        let mut client = TunnelsClient::new(channel(&socket).unwrap());
        match client.acquire(request).await.unwrap().into_inner().outcome.unwrap() {
            Outcome::Acquired(acquired) => {
                Ok(convert::endpoint_from_wire(acquired.endpoint).unwrap())
            }
            Outcome::Failure(failure) => Err(failure),
        }
    }

    /// Another process that listens at this address, on the port of the tunnels.
    fn occupied(&self, address: &str) -> Process {
        let at = format!("{address}:{}", self.port);
        let log = self.lab.folder.path().join(format!("perl-{address}"));
        let mut perl = Command::new("perl");
        let mut perl =
            Process::start("perl", perl.args(["-e", LISTENER, &at]), &log).expect("perl starts");
        let listens = || fs::read_to_string(&log).is_ok_and(|said| said.contains("listens"));
        perl.wait_until("perl listens", DEADLINE, listens).unwrap();
        perl
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        self.lab.clear();
    }
}

#[tokio::test]
async fn an_address_that_a_process_has_is_passed_over_for_the_next_one() {
    let node = Node::new().await;
    let _perl = [node.occupied("127.0.1.1"), node.occupied("127.0.1.2")];
    let endpoint = node.acquire().await.unwrap();
    assert_eq!(endpoint.to_string(), format!("127.0.1.3:{}", node.port));
}

#[tokio::test]
async fn a_port_that_a_process_has_is_named_with_the_process_and_either_way_out_leads_on() {
    let node = Node::new().await;
    let perl = node.occupied("0.0.0.0");
    let failure = node.acquire().await.unwrap_err();
    assert_eq!(failure.kind(), Kind::AddressTaken, "{failure:?}");
    println!("{}", failure.message);
    let holder = format!("perl (pid {}) listens on 0.0.0.0:{}; end it", perl.id(), node.port);
    for part in ["failed to listen on 127.0.1.", &holder, "proxy_port", "alinas-utils.conf"] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    assert_eq!(failure.message.lines().count(), 1);

    // The second way of the vendor's page: another port in the file, and the mount once more.
    let other = free_port();
    fs::write(&node.config, format!("[mount]\nproxy_port = {other}\n")).unwrap();
    let endpoint = node.acquire().await.unwrap();
    assert_eq!(u32::from(endpoint.port()), other);
    drop(perl);
}

#[tokio::test]
async fn a_port_whose_process_has_ended_is_used() {
    let node = Node::new().await;
    let perl = node.occupied("0.0.0.0");
    node.acquire().await.unwrap_err();
    drop(perl);
    let endpoint = node.acquire().await.unwrap();
    assert_eq!(u32::from(endpoint.port()), node.port);
}
