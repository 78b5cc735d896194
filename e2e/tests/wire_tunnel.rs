//! The tunnel against TLS servers that are not ours: bytes survive both ways, and each way to fail has its
//! own words.
//!
//! The server is stunnel, that is OpenSSL, in front of a small backend of this file. No root, no kernel
//! NFS; every port is one that the system gave.
//!
//! LONG: it brings its own servers, one for each way to fail.

use std::io::BufRead;
use std::io::BufReader;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use alinas_csi::model::ServerName;
use alinas_csi::model::TunnelSpec;
use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::probe_response::Outcome;
use alinas_csi::proto::tunnel::relay_client::RelayClient;
use alinas_csi::proto::tunnel::tunnel_failure::Kind;
use alinas_csi::tls::Trust;
use alinas_csi::tunnel::Admission;
use alinas_csi::tunnel::Dialer;
use alinas_csi::tunnel::ProbeFault;
use alinas_csi::tunnel::TunnelProcess;
use alinas_csi::tunnel::convert;
use alinas_csi::tunnel::process::Drained;
use alinas_csi::tunnel::process::Opened;
use alinas_csi::tunnel::service::RelayService;
use alinas_csi::tunnel::service::bind_private;
use hyper_util::rt::TokioIo;
use sha2::Digest;
use sha2::Sha256;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

const DEADLINE: Duration = Duration::from_secs(30);
const ANY_PORT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
const NAME: &str = "nas.example.com";

const TLS_1_3: &str = "sslVersion = TLSv1.3\n";
const TLS_1_2: &str = "sslVersion = TLSv1.2\nciphers = ECDHE\n";
/// What the vendor's own client asks for.
const STATIC_RSA: &str = "sslVersion = TLSv1.2\nciphers = AES256-GCM-SHA384\n";

#[tokio::test]
async fn a_mebibyte_survives_both_ways_through_tls_1_3() {
    a_mebibyte_survives(TLS_1_3).await;
}

#[tokio::test]
async fn a_mebibyte_survives_both_ways_through_tls_1_2() {
    a_mebibyte_survives(TLS_1_2).await;
}

async fn a_mebibyte_survives(options: &str) {
    let lab = Lab::new();
    let server = lab.server(options, echo().await);
    let process = lab.process();
    let address = open(&process, &spec(server.port));
    let sent = noise();
    let received = timeout(DEADLINE, echoed(address, sent.clone())).await.unwrap();
    assert_eq!(Sha256::digest(&received), Sha256::digest(&sent));
    let status = &process.status()[0];
    let size = sent.len() as u64;
    assert_eq!((status.bytes_to_server, status.bytes_to_kernel), (size, size));
}

#[tokio::test]
async fn a_probe_reports_what_it_has_seen() {
    for (options, version, suite) in [
        (TLS_1_3, "TLSv1.3", "TLS13_AES_128_GCM_SHA256"),
        (TLS_1_2, "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ] {
        let lab = Lab::new();
        let server = lab.server(options, nfs().await);
        let report = lab.dialer().probe(&spec(server.port)).await.unwrap();
        assert_eq!((report.tls_version.as_str(), report.cipher_suite.as_str()), (version, suite));
        assert_eq!(report.remote_address, format!("127.0.0.1:{}", server.port));
        assert_eq!(report.certificate_not_after, year(2099).unix_timestamp());
        assert!(report.total_micros > 0);
    }
}

#[tokio::test]
async fn a_stranger_s_certificate_is_refused_with_its_issuer() {
    let lab = Lab::new();
    let stranger = Lab::new();
    let server = stranger.server(TLS_1_3, echo().await);
    let fault = lab.fault(server.port).await;
    said(&fault, Kind::CertificateUntrusted, &["issued by", "an authority of the lab", "CA file"]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_with_its_names() {
    let lab = Lab::new();
    let server = lab.server_with(TLS_1_3, echo().await, |params| {
        params.subject_alt_names =
            vec![rcgen::SanType::DnsName("other.example.com".try_into().unwrap())];
    });
    let fault = lab.fault(server.port).await;
    said(&fault, Kind::CertificateWrongName, &["not for \"nas.example.com\"", "other.example.com"]);
}

#[tokio::test]
async fn an_old_and_a_future_certificate_are_refused_with_their_dates() {
    let lab = Lab::new();
    let old = lab.server_with(TLS_1_3, echo().await, |params| params.not_after = year(2001));
    said(&lab.fault(old.port).await, Kind::CertificateExpired, &["expired at", "2001"]);
    let future = lab.server_with(TLS_1_3, echo().await, |params| params.not_before = year(2098));
    let fault = lab.fault(future.port).await;
    said(&fault, Kind::CertificateNotYetValid, &["not valid before", "2098", "clock"]);
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let lab = Lab::new();
    let fault = lab.fault(greets().await).await;
    said(&fault, Kind::NotTls, &["not with TLS", "port"]);
    let fault = lab.fault(hangs_up().await).await;
    said(&fault, Kind::NotTls, &["closed the connection during the TLS handshake"]);
}

#[tokio::test]
async fn a_server_with_static_rsa_only_is_told_what_it_must_offer() {
    let lab = Lab::new();
    let server = lab.server(STATIC_RSA, echo().await);
    let fault = lab.fault(server.port).await;
    said(&fault, Kind::HandshakeFailed, &["HandshakeFailure", "TLS 1.2 with ECDHE"]);
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_is_understood() {
    for version in [TLS_1_3, TLS_1_2] {
        let lab = Lab::new();
        let authority = lab.ca_file.display();
        let options = format!("{version}verifyChain = yes\nCAfile = {authority}\n");
        let server = lab.server(&options, nfs().await);
        let fault = lab.fault(server.port).await;
        assert_eq!(fault.kind(), Kind::HandshakeFailed, "{}", fault.message);
        assert!(fault.message.contains("alert"), "{}", fault.message);
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_from_a_port_that_is_closed() {
    let lab = Lab::new();
    let nowhere = ServerName::parse("no-such-mount-target.invalid").unwrap();
    let fault = lab.dialer().probe(&TunnelSpec { host: nowhere, ..spec(2049) }).await.unwrap_err();
    let expected = ["failed to resolve no-such-mount-target.invalid", "DNS"];
    said(&(&fault).into(), Kind::NameNotFound, &expected);

    let host = ServerName::parse("127.99.99.99").unwrap();
    let fault = lab.dialer().probe(&TunnelSpec { host, ..spec(1) }).await.unwrap_err();
    said(&(&fault).into(), Kind::ConnectionRefused, &["127.99.99.99:1", "connection refused"]);
}

#[tokio::test]
async fn tls_without_nfs_behind_it_is_no_mount_target() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, echo().await);
    said(&lab.fault(server.port).await, Kind::NoNfs, &["TLS but not NFS", "no RPC reply"]);
}

#[tokio::test]
async fn a_new_authority_in_the_file_is_trusted_at_the_next_connect_and_an_old_one_no_more() {
    let lab = Lab::new();
    let next = Lab::new();
    let (old_server, new_server) =
        (lab.server(TLS_1_3, nfs().await), next.server(TLS_1_3, nfs().await));
    let dialer = lab.dialer();
    dialer.probe(&spec(old_server.port)).await.unwrap();
    std::fs::copy(&next.ca_file, &lab.ca_file).unwrap();
    dialer.probe(&spec(new_server.port)).await.unwrap();
    let fault = wire::TunnelFailure::from(&dialer.probe(&spec(old_server.port)).await.unwrap_err());
    assert_eq!(fault.kind(), Kind::CertificateUntrusted, "{}", fault.message);
}

#[tokio::test]
async fn a_server_that_comes_back_is_reached_without_opening_the_tunnel_again() {
    let lab = Lab::new();
    let backend = echo().await;
    let server = lab.server(TLS_1_3, backend);
    let process = lab.process();
    let port = server.port;
    let address = open(&process, &spec(port));
    assert_eq!(timeout(DEADLINE, echoed(address, b"one".to_vec())).await.unwrap(), b"one");

    drop(server);
    assert_eq!(timeout(DEADLINE, echoed(address, b"two".to_vec())).await.unwrap(), b"");
    assert!(process.status()[0].last_error.contains("connection refused"));

    let _server = lab.server_at(port, TLS_1_3, backend);
    assert_eq!(timeout(DEADLINE, echoed(address, b"three".to_vec())).await.unwrap(), b"three");
    assert_eq!(process.status()[0].last_error, "");
}

#[tokio::test]
async fn a_watchdog_opens_probes_and_shuts_down_over_the_socket() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, nfs().await);
    let process = lab.process();
    let path = lab.folder.path().join("tunnel.sock");
    let (service, mut shutdown) = RelayService::new(Arc::clone(&process));
    let serving = tokio::spawn(service.serve(bind_private(&path).unwrap()));
    let mut relay = client(path).await;

    let spec = Some(convert::spec_to_wire(&spec(server.port)));
    let endpoint = Some(wire::LocalEndpoint { address: "127.0.1.1".into(), port: free_port() });
    let request = wire::OpenRequest { spec: spec.clone(), endpoint: endpoint.clone() };
    for _ in ["now", "already"] {
        let answer = relay.open(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.failure, None);
    }
    let answer = relay.probe(wire::ProbeRequest { spec }).await.unwrap().into_inner();
    assert!(matches!(answer.outcome, Some(Outcome::Report(_))), "{answer:?}");
    let status = relay.status(wire::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.listeners[0].endpoint, endpoint);

    let open_to_all = wire::LocalEndpoint { address: "0.0.0.0".into(), port: 12049 };
    let request = wire::OpenRequest { endpoint: Some(open_to_all), ..request };
    assert_eq!(relay.open(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    relay.shutdown(wire::ShutdownRequest { grace_millis: 700 }).await.unwrap();
    let address = convert::endpoint_from_wire(endpoint).unwrap();
    timeout(DEADLINE, until_free(address)).await.expect("Shutdown gives the address back");
    let grace = *shutdown.wait_for(Option::is_some).await.unwrap();
    assert_eq!(grace, Some(Duration::from_millis(700)));
    serving.abort();
}

/// Not at the first attempt in every run: where another test is just starting a server, its child holds a
/// copy of every descriptor of this process between fork and exec.
async fn until_free(address: SocketAddrV4) {
    while std::net::TcpListener::bind(address).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn draining_ends_a_silent_connection_and_does_not_wait_for_the_grace() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, echo().await);
    let process = lab.process();
    let address = open(&process, &spec(server.port));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"call").await.unwrap();
    let mut answer = [0; 4];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    process.stop_listening().await;
    stream.write_all(b"more").await.unwrap();
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(timeout(DEADLINE, process.drain(10 * DEADLINE)).await.unwrap(), Drained::Whole);
    assert_eq!(stream.read(&mut answer).await.unwrap_or(0), 0);
}

/// An authority with its files, and the driver that trusts it.
struct Lab {
    folder: tempfile::TempDir,
    ca_file: PathBuf,
    authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of the lab");
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        Self { folder, ca_file, authority }
    }

    fn dialer(&self) -> Dialer {
        Dialer::new(Arc::new(Trust::new(Some(&self.ca_file)).unwrap()))
    }

    fn process(&self) -> Arc<TunnelProcess> {
        Arc::new(TunnelProcess::new(self.dialer(), Admission::Anyone))
    }

    async fn fault(&self, port: u16) -> wire::TunnelFailure {
        let fault: ProbeFault = self.dialer().probe(&spec(port)).await.unwrap_err();
        wire::TunnelFailure::from(&fault)
    }

    fn server(&self, options: &str, backend: u16) -> Stunnel {
        self.server_at(0, options, backend)
    }

    fn server_at(&self, port: u16, options: &str, backend: u16) -> Stunnel {
        Stunnel::start(self.folder.path(), &self.certificate(|_| {}), port, options, backend)
    }

    fn server_with(
        &self,
        options: &str,
        backend: u16,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Stunnel {
        Stunnel::start(self.folder.path(), &self.certificate(change), 0, options, backend)
    }

    /// Certificate and key in one text.
    fn certificate(&self, change: impl FnOnce(&mut rcgen::CertificateParams)) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_before = year(2000);
        params.not_after = year(2099);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }
}

/// A TLS server that is not ours. Ends when dropped.
struct Stunnel {
    child: Child,
    port: u16,
}

impl Stunnel {
    fn start(folder: &Path, certificate: &str, port: u16, options: &str, backend: u16) -> Self {
        let certificate_file = folder.join(format!("server-{backend}.pem"));
        std::fs::write(&certificate_file, certificate).unwrap();
        let config = format!(
            "foreground = yes\npid =\ndebug = info\n[nas]\naccept = 127.0.0.1:{port}\n\
             connect = 127.0.0.1:{backend}\ncert = {}\n{options}",
            certificate_file.display()
        );
        let config_file = folder.join(format!("stunnel-{backend}.conf"));
        std::fs::write(&config_file, config).unwrap();
        #[allow(clippy::disallowed_methods, reason = "a test's own server, killed when dropped")]
        let mut child = Command::new("stunnel4")
            .arg(&config_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("stunnel4 is installed");
        let port = bound_port(&mut child);
        Self { child, port }
    }
}

impl Drop for Stunnel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log up to `bound to 127.0.0.1:PORT`, and goes on reading so that stunnel never blocks on it.
fn bound_port(child: &mut Child) -> u16 {
    let log = BufReader::new(child.stderr.take().unwrap());
    let (bound, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            match line.rsplit_once("bound to 127.0.0.1:") {
                Some((_, port)) => drop(bound.send(port.parse::<u16>())),
                None if line.contains("LOG3") => eprintln!("{line}"),
                None => {}
            }
        }
    });
    port.recv_timeout(DEADLINE).expect("stunnel listens").unwrap()
}

/// Gives back what it gets.
async fn echo() -> u16 {
    backend(async |mut stream: TcpStream| {
        let (mut reads, mut writes) = stream.split();
        let _ = tokio::io::copy(&mut reads, &mut writes).await;
    })
    .await
}

/// Answers each NULL call of 44 bytes with an accepted reply.
async fn nfs() -> u16 {
    backend(async |mut stream: TcpStream| {
        let mut call = [0; 44];
        while stream.read_exact(&mut call).await.is_ok() {
            let mut reply = vec![0x80, 0, 0, 24];
            reply.extend(&call[4..8]);
            reply.extend([0, 0, 0, 1]);
            reply.extend([0; 16]);
            let _ = stream.write_all(&reply).await;
        }
    })
    .await
}

/// Speaks first, and no TLS.
async fn greets() -> u16 {
    backend(async |mut stream: TcpStream| {
        let _ = stream.write_all(b"220 mail.example.com\r\n").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await
}

/// Reads a little and closes: what an NFS server does with a TLS greeting.
async fn hangs_up() -> u16 {
    backend(async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.shutdown().await;
    })
    .await
}

async fn backend<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

fn spec(port: u16) -> TunnelSpec {
    TunnelSpec {
        host: ServerName::parse("127.0.0.1").unwrap(),
        port,
        server_name: ServerName::parse(NAME).unwrap(),
    }
}

fn open(process: &TunnelProcess, spec: &TunnelSpec) -> SocketAddr {
    match process.ensure_open(spec, ANY_PORT).unwrap() {
        Opened::Now(address) | Opened::Already(address) => address.into(),
    }
}

/// Sends everything while reading everything back. Nothing comes back from a tunnel that closes.
async fn echoed(address: SocketAddr, sent: Vec<u8>) -> Vec<u8> {
    let (mut reads, mut writes) = TcpStream::connect(address).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        let _ = writes.write_all(&sent).await;
        let _ = writes.shutdown().await;
    });
    let mut received = Vec::new();
    let _ = reads.read_to_end(&mut received).await;
    writing.await.unwrap();
    received
}

/// A mebibyte that no compression or accident gives back: a chain of hashes.
fn noise() -> Vec<u8> {
    let mut block = Sha256::digest(b"noise");
    let mut noise = Vec::with_capacity(1 << 20);
    while noise.len() < 1 << 20 {
        noise.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    noise
}

/// A port that nobody listens on now; the test's own address makes a clash unlikely.
fn free_port() -> u32 {
    let any = SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, 1), 0);
    std::net::TcpListener::bind(any).unwrap().local_addr().unwrap().port().into()
}

fn year(year: i32) -> time::OffsetDateTime {
    rcgen::date_time_ymd(year, 1, 1)
}

fn said(failure: &wire::TunnelFailure, kind: Kind, parts: &[&str]) {
    assert_eq!(failure.kind(), kind, "{}", failure.message);
    for part in parts {
        assert!(failure.message.contains(part), "{part:?} is missing in {:?}", failure.message);
    }
    assert!(!failure.message.contains('\n'), "{:?}", failure.message);
}

async fn client(path: PathBuf) -> RelayClient<Channel> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = Endpoint::from_static("http://tunnel").timeout(DEADLINE);
    RelayClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}
