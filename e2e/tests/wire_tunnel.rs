//! The tunnel against TLS servers that are not ours: bytes survive both ways, and each way to fail has its
//! own words.
//!
//! The server is stunnel, that is OpenSSL, in front of a small backend of `e2e/src/tls_lab.rs`.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alinas_csi::model::RemotePort;
use alinas_csi::model::ServerName;
use alinas_csi::model::TunnelSpec;
use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::probe_response::Outcome;
use alinas_csi::proto::tunnel::relay_client::RelayClient;
use alinas_csi::proto::tunnel::tunnel_failure::Kind;
use alinas_csi::runtime::LogSwitch;
use alinas_csi::tls::Trust;
use alinas_csi::tunnel::Dialer;
use alinas_csi::tunnel::convert;
use alinas_csi::tunnel::door::Door;
use alinas_csi::tunnel::process::Drained;
use alinas_csi::tunnel::service::RelayService;
use e2e::tls_lab::DEADLINE;
use e2e::tls_lab::Lab;
use e2e::tls_lab::STATIC_RSA;
use e2e::tls_lab::TLS_1_2;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::echo;
use e2e::tls_lab::echoed;
use e2e::tls_lab::free_port;
use e2e::tls_lab::greets;
use e2e::tls_lab::hangs_up;
use e2e::tls_lab::nfs;
use e2e::tls_lab::noise;
use e2e::tls_lab::open;
use e2e::tls_lab::said;
use e2e::tls_lab::spec;
use e2e::tls_lab::year;
use hyper_util::rt::TokioIo;
use sha2::Digest;
use sha2::Sha256;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

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
    let fault = lab
        .dialer()
        .probe(&TunnelSpec { host, port: RemotePort::Only(1), ..spec(1) })
        .await
        .unwrap_err();
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
    let trust = Arc::new(Trust::new(Some(&lab.ca_file)).unwrap());
    let dialer = Dialer::new(Arc::clone(&trust));
    dialer.probe(&spec(old_server.port)).await.unwrap();
    std::fs::copy(&next.ca_file, &lab.ca_file).unwrap();
    trust.look_again().await;
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
    // A client that has closed its end is not waited for: this one waits.
    let mut waiting = TcpStream::connect(address).await.unwrap();
    waiting.write_all(b"two").await.unwrap();
    timeout(DEADLINE, async {
        while !process.status()[0].last_error.contains("connection refused") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the reason is shown");

    let _server = lab.server_at(port, TLS_1_3, backend);
    let mut answer = [0; 3];
    timeout(DEADLINE, waiting.read_exact(&mut answer)).await.unwrap().expect("it was held");
    assert_eq!(&answer, b"two");
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
    let serving =
        tokio::spawn(service.serve(Door::open(&path, None).unwrap(), LogSwitch::fixed("tunnel")));
    let mut relay = client(path).await;

    let spec = Some(convert::spec_to_wire(&spec(server.port)));
    let endpoint = Some(wire::LocalEndpoint { address: "127.0.1.1".into(), port: free_port() });
    let request =
        wire::OpenRequest { spec: spec.clone(), endpoint: endpoint.clone(), socket_given: false };
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

async fn client(path: PathBuf) -> RelayClient<Channel> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = Endpoint::from_static("http://tunnel").timeout(DEADLINE);
    RelayClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}
