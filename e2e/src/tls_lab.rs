//! TLS servers that are not ours, with certificates of an authority of their own, for the tests of the tunnel.
//!
//! No root, no kernel NFS. Every port is one that the system gave, but for those that a test names.

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
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alinas_csi::model::RemotePort;
use alinas_csi::model::ServerName;
use alinas_csi::model::TlsPolicy;
use alinas_csi::model::TunnelSpec;
use alinas_csi::proto::tunnel as wire;
use alinas_csi::proto::tunnel::tunnel_failure::Kind;
use alinas_csi::tls::Trust;
use alinas_csi::tunnel::Admission;
use alinas_csi::tunnel::Dialer;
use alinas_csi::tunnel::ProbeFault;
use alinas_csi::tunnel::TunnelProcess;
use alinas_csi::tunnel::process::Opened;
use rustix::process::Signal;
use rustix::process::kill_process;
use sha2::Digest;
use sha2::Sha256;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::lab::processes_naming;
use crate::process::log_tail;

/// For whatever a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// A port that the system gives.
pub const ANY_PORT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
/// Whose certificate the servers have.
pub const NAME: &str = "nas.example.com";

/// Options of stunnel.
pub const TLS_1_3: &str = "sslVersion = TLSv1.3\n";
/// Options of stunnel.
pub const TLS_1_2: &str = "sslVersion = TLSv1.2\nciphers = ECDHE\n";
/// What the vendor's own client asks for.
pub const STATIC_RSA: &str = "sslVersion = TLSv1.2\nciphers = AES256-GCM-SHA384\n";

/// An authority with its files, and the driver that trusts it.
pub struct Lab {
    /// Goes when dropped.
    pub folder: tempfile::TempDir,
    /// The certificate of the authority.
    pub ca_file: PathBuf,
    authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    /// A new authority.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of the lab");
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("ca.key"), key.serialize_pem()).unwrap();
        let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        Self { folder, ca_file, authority }
    }

    /// Ends every process that names the folder, and shows the end of the log there where the test has failed.
    pub fn clear(&self) {
        if std::thread::panicking() {
            eprintln!("{}", log_tail(&self.folder.path().join("log")));
        }
        for process in processes_naming(self.folder.path()) {
            let _ = kill_process(process, Signal::KILL);
        }
    }

    /// Trusts the authority.
    pub fn dialer(&self) -> Dialer {
        Dialer::new(Arc::new(Trust::new(Some(&self.ca_file)).unwrap()))
    }

    /// Lets everybody in.
    pub fn process(&self) -> Arc<TunnelProcess> {
        Arc::new(TunnelProcess::new(self.dialer(), Admission::Anyone))
    }

    /// Why a server cannot be used.
    pub async fn fault(&self, port: u16) -> wire::TunnelFailure {
        let fault: ProbeFault = self.dialer().probe(&spec(port)).await.unwrap_err();
        wire::TunnelFailure::from(&fault)
    }

    /// With a good certificate, at any port.
    pub fn server(&self, options: &str, backend: u16) -> Stunnel {
        self.server_at(0, options, backend)
    }

    /// At a port that a test names.
    pub fn server_at(&self, port: u16, options: &str, backend: u16) -> Stunnel {
        let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        self.server_on(at, &self.certificate(|_| {}), options, backend)
    }

    /// At an address that a test names, with its certificate and key.
    pub fn server_on(
        &self,
        accept: SocketAddrV4,
        certificate: &str,
        options: &str,
        backend: u16,
    ) -> Stunnel {
        Stunnel::start(self.folder.path(), certificate, accept, options, backend)
    }

    /// With a certificate that is changed before it is signed.
    pub fn server_with(
        &self,
        options: &str,
        backend: u16,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Stunnel {
        self.server_on(ANY_PORT, &self.certificate(change), options, backend)
    }

    /// Certificate and key in one text.
    pub fn certificate(&self, change: impl FnOnce(&mut rcgen::CertificateParams)) -> String {
        self.certify(&rcgen::KeyPair::generate().unwrap(), change)
    }

    /// As [`Self::certificate`], with an RSA key, which static RSA needs.
    pub fn rsa_certificate(&self, change: impl FnOnce(&mut rcgen::CertificateParams)) -> String {
        let size = rcgen::RsaKeySize::_2048;
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
        self.certify(&key, change)
    }

    fn certify(
        &self,
        key: &rcgen::KeyPair,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> String {
        let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_before = year(2000);
        params.not_after = year(2099);
        change(&mut params);
        let certificate = params.signed_by(key, &self.authority).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }
}

/// A TLS server that is not ours. Ends when dropped.
pub struct Stunnel {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Stunnel {
    fn start(
        folder: &Path,
        certificate: &str,
        accept: SocketAddrV4,
        options: &str,
        backend: u16,
    ) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let certificate_file = folder.join(format!("server-{number}.pem"));
        std::fs::write(&certificate_file, certificate).unwrap();
        let config = format!(
            "foreground = yes\npid =\ndebug = info\n[nas]\naccept = {accept}\n\
             connect = 127.0.0.1:{backend}\ncert = {}\n{options}",
            certificate_file.display()
        );
        let config_file = folder.join(format!("stunnel-{number}.conf"));
        std::fs::write(&config_file, config).unwrap();
        #[allow(clippy::disallowed_methods, reason = "a test's own server, killed when dropped")]
        let mut child = Command::new("stunnel4")
            .arg(&config_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("stunnel4 is installed");
        let port = bound_port(&mut child, *accept.ip());
        Self { child, port }
    }
}

impl Drop for Stunnel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log up to `bound to ADDRESS:PORT`, and goes on reading so that stunnel never blocks on it.
fn bound_port(child: &mut Child, address: Ipv4Addr) -> u16 {
    let words = format!("bound to {address}:");
    let log = BufReader::new(child.stderr.take().unwrap());
    let (bound, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            match line.rsplit_once(&words) {
                Some((_, port)) => drop(bound.send(port.parse::<u16>())),
                None if line.contains("LOG3") => eprintln!("{line}"),
                None => {}
            }
        }
    });
    port.recv_timeout(DEADLINE).expect("stunnel listens").unwrap()
}

/// Gives back what it gets.
pub async fn echo() -> u16 {
    backend(async |mut stream: TcpStream| {
        let (mut reads, mut writes) = stream.split();
        let _ = tokio::io::copy(&mut reads, &mut writes).await;
    })
    .await
}

/// Answers each NULL call of 44 bytes with an accepted reply.
pub async fn nfs() -> u16 {
    backend(async |mut stream: TcpStream| {
        let mut call = [0; 44];
        while stream.read_exact(&mut call).await.is_ok() {
            let _ = stream.write_all(&null_reply(&call)).await;
        }
    })
    .await
}

/// The accepted reply to a NULL call of 44 bytes (RFC 5531, section 9).
#[must_use]
pub fn null_reply(call: &[u8; 44]) -> Vec<u8> {
    let mut reply = vec![0x80, 0, 0, 24];
    reply.extend(&call[4..8]);
    reply.extend([0, 0, 0, 1]);
    reply.extend([0; 16]);
    reply
}

/// Speaks first, and no TLS.
pub async fn greets() -> u16 {
    backend(async |mut stream: TcpStream| {
        let _ = stream.write_all(b"220 mail.example.com\r\n").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await
}

/// Reads a little and closes: what an NFS server does with a TLS greeting.
pub async fn hangs_up() -> u16 {
    backend(async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.shutdown().await;
    })
    .await
}

/// Serves each connection in a task of its own.
pub async fn backend<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
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

/// The tunnel to a server of the lab.
pub fn spec(port: u16) -> TunnelSpec {
    TunnelSpec {
        host: ServerName::parse("127.0.0.1").unwrap(),
        port: RemotePort::Only(port),
        server_name: ServerName::parse(NAME).unwrap(),
        policy: TlsPolicy::default(),
    }
}

/// Opens a tunnel at any port.
pub fn open(process: &TunnelProcess, spec: &TunnelSpec) -> SocketAddr {
    match process.ensure_open(spec, ANY_PORT).unwrap() {
        Opened::Now(address) | Opened::Already(address) => address.into(),
    }
}

/// Sends everything while reading everything back. Nothing comes back from a tunnel that closes.
pub async fn echoed(address: SocketAddr, sent: Vec<u8>) -> Vec<u8> {
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
pub fn noise() -> Vec<u8> {
    let mut block = Sha256::digest(b"noise");
    let mut noise = Vec::with_capacity(1 << 20);
    while noise.len() < 1 << 20 {
        noise.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    noise
}

/// A port that nobody listens on now; the test's own address makes a clash unlikely.
pub fn free_port() -> u32 {
    let any = SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, 1), 0);
    std::net::TcpListener::bind(any).unwrap().local_addr().unwrap().port().into()
}

/// Its first day.
pub fn year(year: i32) -> time::OffsetDateTime {
    rcgen::date_time_ymd(year, 1, 1)
}

/// That a failure is of a kind and says these words, on one line.
pub fn said(failure: &wire::TunnelFailure, kind: Kind, parts: &[&str]) {
    assert_eq!(failure.kind(), kind, "{}", failure.message);
    for part in parts {
        assert!(failure.message.contains(part), "{part:?} is missing in {:?}", failure.message);
    }
    assert!(!failure.message.contains('\n'), "{:?}", failure.message);
}
