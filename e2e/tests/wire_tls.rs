//! Which servers the tunnel can speak to, whom it believes, and what it remembers.
//!
//! The servers are stunnel, haproxy and `openssl s_server`, none of them ours.
//!
//! LONG: a test for each promise about TLS, each with the server that would break it.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::os::unix::fs::symlink;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use alinas_csi::host::resolve::ResolveFault;
use alinas_csi::model::RemotePort;
use alinas_csi::model::ServerName;
use alinas_csi::model::TlsPolicy;
use alinas_csi::model::TunnelSpec;
use alinas_csi::model::tls_policy::CaBundle;
use alinas_csi::model::tls_policy::CertificateCheck;
use alinas_csi::model::tls_policy::RevocationCheck;
use alinas_csi::model::tls_policy::TlsBackend;
use alinas_csi::model::tls_policy::TlsVersion;
use alinas_csi::proto::tunnel::TlsSession;
use alinas_csi::proto::tunnel::TunnelFailure;
use alinas_csi::proto::tunnel::tunnel_failure::Kind;
use alinas_csi::tls::Trust;
use alinas_csi::tunnel::Admission;
use alinas_csi::tunnel::Dialer;
use alinas_csi::tunnel::TunnelProcess;
use alinas_csi::tunnel::resolve::Names;
use e2e::tls_lab::ANY_PORT;
use e2e::tls_lab::DEADLINE;
use e2e::tls_lab::Lab;
use e2e::tls_lab::NAME;
use e2e::tls_lab::STATIC_RSA;
use e2e::tls_lab::Stunnel;
use e2e::tls_lab::TLS_1_2;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::echo;
use e2e::tls_lab::echoed;
use e2e::tls_lab::free_port;
use e2e::tls_lab::hangs_up;
use e2e::tls_lab::nfs;
use e2e::tls_lab::noise;
use e2e::tls_lab::open;
use e2e::tls_lab::said;
use e2e::tls_lab::spec;
use e2e::tls_lab::year;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;

/// Static RSA, and the same with an ephemeral key before it.
const BOTH: &str =
    "sslVersion = TLSv1.2\nciphers = ECDHE-RSA-AES256-GCM-SHA384:AES256-GCM-SHA384\n";

#[tokio::test]
async fn a_server_with_static_rsa_only_is_served_by_the_second_backend_and_said_to_be_weaker() {
    let lab = Lab::new();
    let server = rsa(&lab, STATIC_RSA, echo().await);
    let process = lab.process();
    let address = open(&process, &spec(server.port));
    let sent = noise();
    assert!(timeout(DEADLINE, echoed(address, sent.clone())).await.unwrap() == sent);
    let session = process.status()[0].session.clone().unwrap();
    assert_eq!(
        (session.version.as_str(), session.cipher_suite.as_str(), session.library.as_str()),
        ("TLSv1.2", "TLS_RSA_WITH_AES_256_GCM_SHA384", "openssl")
    );
    assert_eq!(session.key_exchange, "static RSA");
    assert!(session.warnings[0].starts_with("WEAKER: static RSA"), "{session:?}");
    assert_eq!(session.certificate_not_after, year(2099).unix_timestamp());
}

#[tokio::test]
async fn the_second_backend_believes_no_more_than_the_first() {
    let lab = Lab::new();
    let stranger = Lab::new();
    let backend = echo().await;
    let of_stranger = rsa(&stranger, STATIC_RSA, backend);
    said(&lab.fault(of_stranger.port).await, Kind::CertificateUntrusted, &["issued by"]);
    let other = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names =
            vec![rcgen::SanType::DnsName("b.example.com".try_into().unwrap())];
    };
    let wrong = lab.server_on(ANY_PORT, &lab.rsa_certificate(other), STATIC_RSA, backend);
    said(&lab.fault(wrong.port).await, Kind::CertificateWrongName, &["b.example.com"]);
    let past = lab.rsa_certificate(|params| params.not_after = year(2001));
    let old = lab.server_on(ANY_PORT, &past, STATIC_RSA, backend);
    said(&lab.fault(old.port).await, Kind::CertificateExpired, &["2001"]);
}

#[tokio::test]
async fn the_second_backend_is_not_used_where_the_policy_forbids_it() {
    let lab = Lab::new();
    let server = rsa(&lab, STATIC_RSA, nfs().await);
    for policy in [
        TlsPolicy { backend: TlsBackend::Rustls, ..TlsPolicy::default() },
        TlsPolicy { least_version: TlsVersion::V1_3, ..TlsPolicy::default() },
    ] {
        let failure = probe(&lab.dialer(), server.port, &policy).await.unwrap_err();
        assert_eq!(failure.kind(), Kind::HandshakeFailed, "{}", failure.message);
    }
}

#[tokio::test]
async fn who_leads_us_to_the_second_backend_gains_nothing() {
    let lab = Lab::new();
    let policy = TlsPolicy { backend: TlsBackend::OpenSsl, ..TlsPolicy::default() };
    for (options, suite) in
        [(BOTH, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), (TLS_1_3, "TLS_AES_256_GCM_SHA384")]
    {
        let server = rsa(&lab, options, nfs().await);
        let session = probe(&lab.dialer(), server.port, &policy).await.unwrap();
        assert_eq!((session.library.as_str(), session.cipher_suite.as_str()), ("openssl", suite));
        assert!(session.warnings.is_empty(), "{session:?}");
        let session = probe(&lab.dialer(), server.port, &TlsPolicy::default()).await.unwrap();
        assert_eq!(session.library, "rustls", "it is not needed for {suite}");
    }
}

#[tokio::test]
async fn an_older_version_than_the_policy_allows_is_refused() {
    let lab = Lab::new();
    let policy = TlsPolicy { least_version: TlsVersion::V1_3, ..TlsPolicy::default() };
    let old = lab.server(TLS_1_2, nfs().await);
    let failure = probe(&lab.dialer(), old.port, &policy).await.unwrap_err();
    assert_eq!(failure.kind(), Kind::HandshakeFailed, "{}", failure.message);
    let new = lab.server(TLS_1_3, nfs().await);
    assert_eq!(probe(&lab.dialer(), new.port, &policy).await.unwrap().version, "TLSv1.3");
}

#[tokio::test]
async fn a_volume_s_own_bundle_is_trusted_instead_of_what_the_node_trusts() {
    let (node, own) = (Lab::new(), Lab::new());
    let backend = nfs().await;
    let (of_node, of_own) = (node.server(TLS_1_3, backend), own.server(TLS_1_3, backend));
    let text = std::fs::read_to_string(&own.ca_file).unwrap();
    for bundle in
        [text.as_str(), own.ca_file.to_str().unwrap(), own.folder.path().to_str().unwrap()]
    {
        if bundle.starts_with('/') {
            // Servers of the lab keep their certificates in the same directory, with their keys.
            std::fs::read_dir(own.folder.path()).unwrap().flatten().for_each(|entry| {
                if entry.path() != own.ca_file {
                    let _ = std::fs::remove_file(entry.path());
                }
            });
        }
        let ca_bundle = Some(CaBundle::parse(bundle).unwrap());
        let policy = TlsPolicy { ca_bundle, ..TlsPolicy::default() };
        probe(&node.dialer(), of_own.port, &policy).await.unwrap();
        let failure = probe(&node.dialer(), of_node.port, &policy).await.unwrap_err();
        assert_eq!(failure.kind(), Kind::CertificateUntrusted, "{}", failure.message);
    }
    let ca_bundle = Some(CaBundle::parse("/nonexistent/ca.pem").unwrap());
    let policy = TlsPolicy { ca_bundle, ..TlsPolicy::default() };
    let failure = probe(&node.dialer(), of_own.port, &policy).await.unwrap_err();
    said(&failure, Kind::CertificateUntrusted, &["/nonexistent/ca.pem", "caBundle"]);
}

#[tokio::test]
async fn each_dangerous_door_opens_as_far_as_its_name_says_and_is_shown() {
    let (lab, stranger) = (Lab::new(), Lab::new());
    let backend = nfs().await;
    let other = lab.server_with(TLS_1_3, backend, |params| {
        params.subject_alt_names =
            vec![rcgen::SanType::DnsName("b.example.com".try_into().unwrap())];
    });
    let unknown = stranger.server(TLS_1_3, backend);
    let old = lab.server_with(TLS_1_3, backend, |params| params.not_after = year(2001));
    for backend in [TlsBackend::Rustls, TlsBackend::OpenSsl] {
        let check = |check| TlsPolicy { check, backend, ..TlsPolicy::default() };
        let any_name = check(CertificateCheck::DangerousAnyName);
        let session = probe(&lab.dialer(), other.port, &any_name).await.unwrap();
        assert!(session.warnings[0].starts_with("DANGEROUS: the name"), "{session:?}");
        for server in [&unknown, &old] {
            probe(&lab.dialer(), server.port, &any_name).await.unwrap_err();
        }
        for server in [&other, &unknown, &old] {
            let none = check(CertificateCheck::DangerousNone);
            let session = probe(&lab.dialer(), server.port, &none).await.unwrap();
            assert!(session.warnings[0].contains("anybody in the way"), "{session:?}");
        }
    }
}

#[tokio::test]
async fn the_port_is_found_out_and_remembered() {
    let lab = Lab::new();
    let at = |last, port| SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, last), port);
    let certificate = lab.certificate(|_| {});
    let _old = lab.server_on(at(1, 12049), &certificate, TLS_1_3, nfs().await);
    let plain = tokio::net::TcpListener::bind(at(2, 2049)).await.unwrap();
    tokio::spawn(async move {
        let backend = hangs_up().await;
        while let Ok((mut stream, _)) = plain.accept().await {
            let mut to = TcpStream::connect(("127.0.0.1", backend)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
        }
    });
    let _beside_plain = lab.server_on(at(2, 12049), &certificate, TLS_1_3, nfs().await);
    let _new = lab.server_on(at(3, 2049), &certificate, TLS_1_3, nfs().await);
    let dialer = lab.dialer();
    for (last, port) in [(1, 12049), (2, 12049), (3, 2049)] {
        let host = ServerName::parse(&format!("127.77.0.{last}")).unwrap();
        let spec = TunnelSpec { host, port: RemotePort::Known, ..spec(1) };
        for _ in ["found out", "remembered"] {
            let report = dialer.probe(&spec).await.unwrap();
            assert_eq!(report.remote_address, format!("127.77.0.{last}:{port}"));
        }
        let other = TunnelSpec { port: RemotePort::Only(14061 - port), ..spec };
        let failure = dialer.probe(&other).await.unwrap_err();
        assert!(!failure.to_string().contains("the other known port"), "{failure}");
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_no_reason_to_try_another_port() {
    let (lab, stranger) = (Lab::new(), Lab::new());
    let at = |port| SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 4), port);
    let backend = nfs().await;
    let _wrong = stranger.server_on(at(2049), &stranger.certificate(|_| {}), TLS_1_3, backend);
    let _right = lab.server_on(at(12049), &lab.certificate(|_| {}), TLS_1_3, backend);
    let host = ServerName::parse("127.77.0.4").unwrap();
    let spec = TunnelSpec { host, port: RemotePort::Known, ..spec(1) };
    let failure = TunnelFailure::from(&lab.dialer().probe(&spec).await.unwrap_err());
    said(&failure, Kind::CertificateUntrusted, &["127.77.0.4:2049"]);
}

#[tokio::test]
async fn sessions_are_resumed_and_after_a_change_of_trust_none_is() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, echo().await);
    let trust = Arc::new(Trust::new(Some(&lab.ca_file)).unwrap());
    let process = TunnelProcess::new(Dialer::new(Arc::clone(&trust)), Admission::Anyone);
    let address = open(&process, &spec(server.port));
    let resumed = async || {
        assert_eq!(timeout(DEADLINE, echoed(address, b"x".to_vec())).await.unwrap(), b"x");
        process.status()[0].session.clone().unwrap().resumed
    };
    assert!(!resumed().await);
    assert!(resumed().await);
    assert_eq!(process.status()[0].sessions_resumed, 1);
    // The same authority and another one: the server stays good, and has to prove it again.
    let both =
        [&lab.ca_file, &Lab::new().ca_file].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&lab.ca_file, both.concat()).unwrap();
    trust.look_again().await;
    assert!(!resumed().await);
}

#[tokio::test]
async fn a_config_map_that_is_swapped_is_in_force_in_seconds_and_no_connection_ends() {
    let (lab, next) = (Lab::new(), Lab::new());
    let backend = echo().await;
    let (old, new) = (lab.server(TLS_1_3, backend), next.server(TLS_1_3, backend));
    let map = tempfile::tempdir().unwrap();
    let place = |version: &str, ca: &std::path::Path| {
        std::fs::create_dir(map.path().join(version)).unwrap();
        std::fs::copy(ca, map.path().join(version).join("ca.crt")).unwrap();
        symlink(version, map.path().join("..data_tmp")).unwrap();
        std::fs::rename(map.path().join("..data_tmp"), map.path().join("..data")).unwrap();
    };
    place("..1", &lab.ca_file);
    symlink("..data/ca.crt", map.path().join("ca.crt")).unwrap();
    let trust = Arc::new(Trust::new(Some(&map.path().join("ca.crt"))).unwrap());
    let following = Arc::clone(&trust);
    tokio::spawn(async move { following.follow().await });
    let dialer = Dialer::new(trust);
    let process = TunnelProcess::new(dialer.clone(), Admission::Anyone);
    let mut open = TcpStream::connect(open(&process, &spec(old.port))).await.unwrap();
    let mut answer = [0; 4];
    open.write_all(b"call").await.unwrap();
    timeout(DEADLINE, open.read_exact(&mut answer)).await.unwrap().unwrap();
    place("..2", &next.ca_file);
    let taken_over = async {
        while dialer.dial(&spec(new.port)).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(10), taken_over).await.expect("within seconds");
    dialer.dial(&spec(old.port)).await.unwrap_err();
    open.write_all(b"more").await.unwrap();
    timeout(DEADLINE, open.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"more");
}

/// A resolver that a test turns round.
#[derive(Debug)]
struct Signpost(Mutex<Vec<Ipv4Addr>>);

#[async_trait::async_trait]
impl Names for Signpost {
    async fn addresses(&self, _: &ServerName) -> Result<Vec<IpAddr>, ResolveFault> {
        let addresses = self.0.lock().unwrap().clone();
        if addresses.is_empty() {
            return Err(ResolveFault::NoSuchName("no such name".to_owned()));
        }
        Ok(addresses.into_iter().map(IpAddr::from).collect())
    }
}

#[tokio::test]
async fn a_mount_target_that_moves_is_followed_and_one_without_a_name_is_still_reached() {
    let lab = Lab::new();
    let port = u16::try_from(free_port()).unwrap();
    let place = |last| Ipv4Addr::new(127, 0, 7, last);
    let certificate = lab.certificate(|_| {});
    let backend = echo().await;
    let server =
        |last| lab.server_on(SocketAddrV4::new(place(last), port), &certificate, TLS_1_3, backend);
    let names = Arc::new(Signpost(Mutex::new(vec![place(1)])));
    let trust = Arc::new(Trust::new(Some(&lab.ca_file)).unwrap());
    let dialer = Dialer::with_names(trust, names.clone());
    let process = TunnelProcess::new(dialer, Admission::Anyone);
    let host = ServerName::parse(NAME).unwrap();
    let address = open(&process, &TunnelSpec { host, ..spec(port) });
    let reached = async || {
        assert_eq!(timeout(DEADLINE, echoed(address, b"x".to_vec())).await.unwrap(), b"x");
        process.status()[0].remote_address.clone()
    };
    let first = server(1);
    assert_eq!(reached().await, format!("127.0.7.1:{port}"));
    // Another one has the old address meanwhile: it is tried, refused, and the second address is found.
    drop(first);
    let stranger = Lab::new();
    let at = SocketAddrV4::new(place(1), port);
    let _usurper = stranger.server_on(at, &stranger.certificate(|_| {}), TLS_1_3, backend);
    let _second = server(2);
    *names.0.lock().unwrap() = vec![place(1), place(2)];
    sleep(Duration::from_secs(2)).await;
    assert_eq!(reached().await, format!("127.0.7.2:{port}"));
    names.0.lock().unwrap().clear();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(reached().await, format!("127.0.7.2:{port}"), "its last addresses are known");
}

#[tokio::test]
async fn other_servers_are_spoken_to_as_well() {
    let lab = Lab::new();
    let file = lab.folder.path().join("both.pem");
    std::fs::write(&file, lab.certificate(|_| {})).unwrap();
    let port = free_port();
    let backend = nfs().await;
    let config = format!(
        "defaults\n mode tcp\n timeout client 30s\n timeout server 30s\n timeout connect 5s\n\
         listen nas\n bind 127.0.0.1:{port} ssl crt {}\n server one 127.0.0.1:{backend}\n",
        file.display()
    );
    let config_file = lab.folder.path().join("haproxy.cfg");
    std::fs::write(&config_file, config).unwrap();
    let _haproxy = Server::start("haproxy", &["-db", "-f", config_file.to_str().unwrap()]);
    let port = u16::try_from(port).unwrap();
    let reached = async {
        while probe(&lab.dialer(), port, &TlsPolicy::default()).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, reached).await.expect("haproxy answers");

    let port = u16::try_from(free_port()).unwrap();
    let accept = format!("127.0.0.1:{port}");
    let file = file.to_str().unwrap();
    let _s_server = Server::start(
        "openssl",
        &["s_server", "-accept", &accept, "-cert", file, "-key", file, "-quiet", "-tls1_3"],
    );
    let dialled = async {
        loop {
            match lab.dialer().dial(&spec(port)).await {
                Ok(dialled) => return dialled,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let dialled = timeout(DEADLINE, dialled).await.expect("openssl s_server answers");
    assert_eq!(dialled.negotiated.version, "TLSv1.3");
    assert_eq!(dialled.negotiated.group, "X25519", "OpenSSL 3.0 has no better one");
}

const GOOD: [u8; 2] = [0x11, 0x22];
const REVOKED: [u8; 2] = [0x33, 0x44];

fn ocsp(backend: TlsBackend) -> TlsPolicy {
    TlsPolicy { revocation: RevocationCheck::Ocsp, backend, ..TlsPolicy::default() }
}

#[tokio::test]
async fn the_responder_of_a_certificate_is_asked_and_its_answer_kept() {
    let lab = Lab::new();
    let port = free_port();
    let responder = Server::responder(&lab, port);
    let backend = nfs().await;
    let server = |serial| lab.server_with(TLS_1_3, backend, |params| asks(params, serial, port));
    let (good, revoked) = (server(GOOD), server(REVOKED));
    let silent = lab.server(TLS_1_3, backend);
    // Not by connecting to it: this responder waits for good for a request on each connection.
    let answers = async {
        while probe(&lab.dialer(), good.port, &ocsp(TlsBackend::Auto)).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, answers).await.expect("the responder answers");
    let dialers = [TlsBackend::Rustls, TlsBackend::OpenSsl].map(|backend| (backend, lab.dialer()));
    for (backend, dialer) in &dialers {
        let policy = ocsp(*backend);
        let session = probe(dialer, good.port, &policy).await.unwrap();
        assert_eq!(session.revocation, "good, says the responder");
        let failure = probe(dialer, revoked.port, &policy).await.unwrap_err();
        let responder = format!("http://127.0.0.1:{port}/");
        said(
            &failure,
            Kind::CertificateUntrusted,
            &["revoked at Jan  1 00:00:00 2020", &responder],
        );
        let session = probe(dialer, silent.port, &policy).await.unwrap();
        assert!(session.revocation.contains("names no responder"), "{session:?}");
        let unasked = probe(dialer, revoked.port, &TlsPolicy::default()).await.unwrap();
        assert_eq!(unasked.revocation, "");
    }
    drop(responder);
    for (backend, dialer) in &dialers {
        probe(dialer, good.port, &ocsp(*backend)).await.expect("the answer is kept");
        let failure = probe(&lab.dialer(), good.port, &ocsp(*backend)).await.unwrap_err();
        said(&failure, Kind::CertificateUntrusted, &["cannot be asked", "refused"]);
    }
}

#[tokio::test]
async fn a_stapled_answer_is_enough_and_one_that_says_revoked_is_believed() {
    let lab = Lab::new();
    // Nobody listens where the certificate says.
    let closed = free_port();
    for (serial, good) in [(GOOD, true), (REVOKED, false)] {
        let file = lab.folder.path().join("leaf.pem");
        std::fs::write(&file, lab.certificate(|params| asks(params, serial, closed))).unwrap();
        let answer = lab.folder.path().join("answer.der");
        let (file, answer) = (file.to_str().unwrap(), answer.to_str().unwrap());
        let mut arguments = authority(&lab);
        let ca = lab.ca_file.to_str().unwrap().to_owned();
        arguments.extend(["-issuer", &ca, "-cert", file, "-respout", answer].map(str::to_owned));
        let made = Command::new("openssl").args(&arguments).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let port = u16::try_from(free_port()).unwrap();
        let accept = format!("127.0.0.1:{port}");
        let _server = Server::start(
            "openssl",
            &[
                "s_server",
                "-accept",
                &accept,
                "-cert",
                file,
                "-key",
                file,
                "-quiet",
                "-status_file",
                answer,
            ],
        );
        wait_for(port.into()).await;
        for backend in [TlsBackend::Rustls, TlsBackend::OpenSsl] {
            let spec = TunnelSpec { policy: ocsp(backend), ..spec(port) };
            match lab.dialer().dial(&spec).await {
                Ok(dialled) => {
                    assert!(good, "{backend}: it was revoked");
                    assert_eq!(dialled.negotiated.revocation, "good, says the stapled answer");
                }
                Err(fault) => {
                    assert!(!good, "{backend}: {fault}");
                    assert!(fault.to_string().contains("it has been revoked"), "{fault}");
                }
            }
        }
    }
}

/// Gives a certificate a number and a responder (RFC 5280, section 4.2.2.1).
fn asks(params: &mut rcgen::CertificateParams, serial: [u8; 2], port: u32) {
    let address = format!("http://127.0.0.1:{port}/");
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let mut description =
        vec![0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, length(address.as_bytes())];
    description.extend(address.as_bytes());
    let mut access = vec![0x30, length(&description) + 2, 0x30, length(&description)];
    access.extend(description);
    params.serial_number = Some(serial.to_vec().into());
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    let extension = rcgen::CustomExtension::from_oid_content(&oid, access);
    params.custom_extensions.push(extension);
}

/// What `openssl ocsp` needs to answer for an authority.
fn authority(lab: &Lab) -> Vec<String> {
    let index = lab.folder.path().join("index.txt");
    std::fs::write(
        &index,
        "V\t991231235959Z\t\t1122\tunknown\t/CN=good\n\
         R\t991231235959Z\t200101000000Z\t3344\tunknown\t/CN=revoked\n",
    )
    .unwrap();
    let key = lab.folder.path().join("ca.key");
    let [index, key, ca] =
        [&index, &key, &lab.ca_file].map(|path| path.to_str().unwrap().to_owned());
    let words =
        ["ocsp", "-index", &index, "-rsigner", &ca, "-rkey", &key, "-CA", &ca, "-nmin", "60"];
    words.map(str::to_owned).to_vec()
}

async fn wait_for(port: u32) {
    let port = u16::try_from(port).unwrap();
    let listening = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, listening).await.expect("it listens");
}

/// A program that ends with the test.
struct Server(Child);

impl Server {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("{program} is installed: {error}")))
    }

    /// Says which certificates of an authority are good.
    fn responder(lab: &Lab, port: u32) -> Self {
        let mut arguments = authority(lab);
        arguments.extend(["-port".to_owned(), port.to_string()]);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Self::start("openssl", &arguments)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rsa(lab: &Lab, options: &str, backend: u16) -> Stunnel {
    lab.server_on(ANY_PORT, &lab.rsa_certificate(|_| {}), options, backend)
}

async fn probe(
    dialer: &Dialer,
    port: u16,
    policy: &TlsPolicy,
) -> Result<TlsSession, TunnelFailure> {
    let spec = TunnelSpec { policy: policy.clone(), ..spec(port) };
    match dialer.probe(&spec).await {
        Ok(report) => Ok(report.session.unwrap()),
        Err(fault) => Err(TunnelFailure::from(&fault)),
    }
}
