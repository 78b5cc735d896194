//! Who the tunnel says that it is, as servers see it that are not ours: `openssl s_server` and stunnel.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use alinas_csi::host::resolve::ResolveFault;
use alinas_csi::model::RemotePort;
use alinas_csi::model::ServerName;
use alinas_csi::model::TlsPolicy;
use alinas_csi::model::TunnelSpec;
use alinas_csi::model::client_identity::AccessPointId;
use alinas_csi::model::client_identity::ClientIdentity;
use alinas_csi::model::client_identity::CredentialsPath;
use alinas_csi::model::tls_policy::TlsBackend;
use alinas_csi::proto::tunnel::TunnelFailure;
use alinas_csi::proto::tunnel::tunnel_failure::Kind;
use alinas_csi::runtime::Clock;
use alinas_csi::runtime::Moment;
use alinas_csi::runtime::SystemClock;
use alinas_csi::tls::ClientCertificates;
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
use e2e::tls_lab::TLS_1_2;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::echo;
use e2e::tls_lab::echoed;
use e2e::tls_lab::free_port;
use e2e::tls_lab::open;
use e2e::tls_lab::said;
use e2e::tls_lab::spec;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const DOMAIN: &str = "0123456789-abcde.cn-qingdao.nas.aliyuncs.com";
const CREDENTIALS: &str = "[NASCredentials]\naccessKeyID = LTAIexample\naccessKeySecret = topsecret\nsecurityToken = a-token\n";

#[tokio::test]
async fn both_libraries_show_file_system_access_point_and_ram_proof_to_a_server_that_asks() {
    let lab = Lab::new();
    let credentials = lab.folder.path().join("credentials");
    std::fs::write(&credentials, CREDENTIALS).unwrap();
    let identity = ClientIdentity {
        access_point: Some(AccessPointId::parse("ap-0a1b2c").unwrap()),
        ram: Some(CredentialsPath::parse(credentials.to_str().unwrap()).unwrap()),
    };
    let dialer = dialer(&lab);
    for (options, backend, library) in [
        (&["-tls1_3"][..], TlsBackend::Auto, "rustls"),
        (&["-tls1_2"], TlsBackend::Auto, "rustls"),
        (&["-tls1_2", "-cipher", "AES256-GCM-SHA384"], TlsBackend::Auto, "openssl"),
        (&["-tls1_3"], TlsBackend::OpenSsl, "openssl"),
    ] {
        let server = Asking::start(&lab, options);
        let mut spec = vendor_s(server.port);
        spec.policy = TlsPolicy { backend, ..TlsPolicy::default() };
        let spec = spec.identified(identity.clone()).unwrap();
        let dialled =
            dialer.dial(&spec).await.unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert_eq!(dialled.negotiated.library.as_str(), library, "{options:?}");
        let shown = server.certificate();
        assert_eq!(shown.text(&["-serial"]), "serial=00\n");
        let host = hostname();
        assert_eq!(shown.text(&["-subject"]), format!("subject=CN = {host}\n"));
        assert_eq!(shown.text(&["-issuer"]), format!("issuer=CN = {host}\n"));
        let text = shown.text(&["-text"]);
        for part in [
            "Version: 3 (0x2)",
            "Public-Key: (3072 bit)",
            "Signature Algorithm: sha256WithRSAEncryption",
            "X509v3 Subject Key Identifier: \n",
            "1.3.6.1.4.1.4843.7.1: \n                ..ap-0a1b2c\n",
            "1.3.6.1.4.1.4843.7.2: \n",
            "LTAIexample.@",
            "a-token",
            "1.3.6.1.4.1.4843.7.3: \n                .\"alinas-0123456789-abcde.cn-qingdao\n",
            // The line end is the length, 10.
            "unknown..alinas-utils-2.2...\ncn-qingdao",
        ] {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
        assert!(!text.contains("critical") && !text.contains("topsecret"), "{text}");
        shown.proves_itself();
    }
}

#[tokio::test]
async fn without_ram_and_access_point_a_certificate_is_shown_too_once_a_server_asks() {
    let lab = Lab::new();
    let backend = echo().await;
    let rsa = lab.rsa_certificate(|_| {});
    let process = TunnelProcess::new(dialer(&lab), Admission::Anyone);
    let silent = lab.server(TLS_1_3, backend);
    let address = open(&process, &spec(silent.port));
    assert_eq!(timeout(DEADLINE, echoed(address, b"x".to_vec())).await.unwrap(), b"x");
    let not_asked = process.status().into_iter().next().unwrap().session.unwrap();
    assert_eq!(not_asked.client_certificate_not_after, 0);
    for options in [TLS_1_3, TLS_1_2, STATIC_RSA] {
        let asking = format!("{options}requireCert = yes\n");
        let server = lab.server_on(ANY_PORT, &rsa, &asking, backend);
        let spec = vendor_s(server.port);
        let address = open(&process, &spec);
        assert_eq!(timeout(DEADLINE, echoed(address, b"x".to_vec())).await.unwrap(), b"x");
        let listeners = process.status();
        let session = listeners
            .iter()
            .find(|listener| listener.spec.as_ref().unwrap().port == u32::from(server.port))
            .and_then(|listener| listener.session.clone())
            .unwrap();
        let left = session.client_certificate_not_after - now().cast_signed();
        assert!((2 * 3600..=3 * 3600).contains(&left), "{options}: {left}");
        assert_eq!(session.client_certificate_subject, "alinas-0123456789-abcde.cn-qingdao");
    }
}

/// The test blocks while it waits for what the server prints.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_for_new_handshakes_and_open_connections_go_on() {
    let lab = Lab::new();
    let clock = Arc::new(Turned(Mutex::new(Duration::ZERO)));
    let certificates = Arc::new(ClientCertificates::new(clock.clone()));
    let process =
        TunnelProcess::new(dialer(&lab).with_clients(Arc::clone(&certificates)), Admission::Anyone);
    let connect = async |server: &Asking| {
        TcpStream::connect(open(&process, &vendor_s(server.port))).await.unwrap()
    };
    let (first, second) = (Asking::start(&lab, &["-tls1_3"]), Asking::start(&lab, &["-tls1_3"]));
    let mut early = connect(&first).await;
    early.write_all(b"before\n").await.unwrap();
    let old = first.certificate();
    first.wait_for("before");
    *clock.0.lock().unwrap() = Duration::from_secs(16 * 60);
    let mut late = connect(&second).await;
    late.write_all(b"late\n").await.unwrap();
    let new = second.certificate();
    second.wait_for("late");
    assert_ne!(old.text(&["-startdate"]), new.text(&["-startdate"]));
    assert_eq!(old.text(&["-pubkey"]), new.text(&["-pubkey"]), "one key for all");
    early.write_all(b"after\n").await.unwrap();
    first.wait_for("after");
}

#[tokio::test]
async fn credentials_that_are_missing_are_named_and_nobody_is_connected_to() {
    let lab = Lab::new();
    let path = lab.folder.path().join("credentials");
    let ram = Some(CredentialsPath::parse(path.to_str().unwrap()).unwrap());
    let spec = vendor_s(1).identified(ClientIdentity { access_point: None, ram }).unwrap();
    let dialer = dialer(&lab);
    let fault = async || TunnelFailure::from(&dialer.probe(&spec).await.unwrap_err());
    let parts = [DOMAIN, path.to_str().unwrap(), "ram_config_file"];
    said(&fault().await, Kind::ClientCertificate, &parts);
    std::fs::write(&path, CREDENTIALS.replace("accessKeyID", "accessKey")).unwrap();
    let failure = fault().await;
    said(&failure, Kind::ClientCertificate, &["lack accessKeyID"]);
    assert!(!failure.message.contains("topsecret"), "{}", failure.message);
}

/// Every name is this machine.
#[derive(Debug)]
struct Here;

#[async_trait::async_trait]
impl Names for Here {
    async fn addresses(&self, _: &ServerName) -> Result<Vec<IpAddr>, ResolveFault> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

/// The machine's clocks, both put forward by as much as a test says.
#[derive(Debug)]
struct Turned(Mutex<Duration>);

impl Clock for Turned {
    fn now(&self) -> Moment {
        let (now, ahead) = (SystemClock.now(), *self.0.lock().unwrap());
        Moment { steady: now.steady + ahead, wall: now.wall + ahead }
    }
}

fn dialer(lab: &Lab) -> Dialer {
    Dialer::with_names(Arc::new(Trust::new(Some(&lab.ca_file)).unwrap()), Arc::new(Here))
}

/// A mount target of the vendor that proves the name of the lab.
fn vendor_s(port: u16) -> TunnelSpec {
    let host = ServerName::parse(DOMAIN).unwrap();
    let server_name = ServerName::parse(NAME).unwrap();
    TunnelSpec { server_name, ..TunnelSpec::to(host, RemotePort::Only(port)) }
}

/// `openssl s_server`, which insists on a certificate, takes any, and prints it. Ends when dropped.
struct Asking {
    child: Child,
    port: u16,
    lines: Receiver<String>,
}

impl Asking {
    fn start(lab: &Lab, options: &[&str]) -> Self {
        let port = u16::try_from(free_port()).unwrap();
        let file = lab.folder.path().join(format!("asking-{port}.pem"));
        std::fs::write(&file, lab.rsa_certificate(|_| {})).unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        let file = file.to_str().unwrap();
        #[allow(clippy::disallowed_methods, reason = "a test's own server, killed when dropped")]
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", &at, "-cert", file, "-key", file, "-Verify", "1"])
            .args(options)
            // Held open: at its end the server would end.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let server = Self { child, port, lines };
        server.wait_for("ACCEPT");
        server
    }

    fn wait_for(&self, wanted: &str) {
        while self.next_line() != wanted {}
    }

    /// The one that it was shown last.
    fn certificate(&self) -> Shown {
        self.wait_for("-----BEGIN CERTIFICATE-----");
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        while !pem.ends_with("-----END CERTIFICATE-----\n") {
            pem += &self.next_line();
            pem.push('\n');
        }
        Shown(pem)
    }

    fn next_line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("the server goes on printing")
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate as the server printed it.
struct Shown(String);

impl Shown {
    fn text(&self, what: &[&str]) -> String {
        openssl(&[&["x509", "-noout"], what].concat(), &self.0)
    }

    /// Its signature is that of its own key, and it holds now.
    fn proves_itself(&self) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.0).unwrap();
        let path = file.path().to_str().unwrap();
        let said = openssl(&["verify", "-check_ss_sig", "-CAfile", path, path], "");
        assert_eq!(said, format!("{path}: OK\n"));
    }
}

fn openssl(arguments: &[&str], input: &str) -> String {
    #[allow(clippy::disallowed_methods, reason = "a tool that ends by itself")]
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    name.trim().chars().take(64).collect()
}

fn now() -> u64 {
    SystemClock.now().wall.as_secs()
}
