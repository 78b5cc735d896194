//! The relay against TLS servers that are not ours, after the handshake: keys that change under way, half-closed
//! connections, a server that stops reading, one that is killed.
//!
//! The servers are OpenSSL's own and haproxy. No root, no kernel NFS.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use alinas_csi::model::RemotePort;
use alinas_csi::model::ServerName;
use alinas_csi::model::TlsPolicy;
use alinas_csi::model::TunnelSpec;
use alinas_csi::tls::Trust;
use alinas_csi::tunnel::Admission;
use alinas_csi::tunnel::Dialer;
use alinas_csi::tunnel::TunnelProcess;
use alinas_csi::tunnel::process::Opened;
use e2e::certificates::Authority;
use e2e::certificates::Validity;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);
const ANY_PORT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
const NAME: &str = "nas.example.com";

// These two wait for OpenSSL's screen, which blocks a thread: the tunnel needs another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_openssl_changes_are_followed_both_ways() {
    let lab = Lab::new();
    // `k` changes the server's keys, `K` asks for ours as well (openssl-s_server(1), CONNECTED COMMANDS).
    let mut server = OpenSsl::start(&lab, &["-tls1_3"]);
    let (_process, mut kernel) = lab.connected(server.port).await;
    for (round, command) in ["K", "k", "K", "K"].into_iter().enumerate() {
        let (call, reply) = (format!("call {round}\n"), format!("reply {round}\n"));
        kernel.write_all(call.as_bytes()).await.unwrap();
        server.hears(call.trim());
        server.types(&format!("{command}\n"));
        server.types(&reply);
        let mut answer = vec![0; reply.len()];
        timeout(DEADLINE, kernel.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, reply.as_bytes());
    }
    kernel.write_all(b"the last word\n").await.unwrap();
    server.hears("the last word");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_that_has_nothing_more_to_say_still_hears_the_server() {
    for options in [&["-tls1_3"][..], &["-tls1_2"]] {
        let lab = Lab::new();
        let mut server = OpenSsl::start(&lab, options);
        let (_process, mut kernel) = lab.connected(server.port).await;
        kernel.write_all(b"call\n").await.unwrap();
        server.hears("call");
        server.types("reply\n");
        let mut answer = [0; 6];
        timeout(DEADLINE, kernel.read_exact(&mut answer)).await.unwrap().unwrap();
        kernel.shutdown().await.unwrap();
        // s_server answers our close_notify with its own.
        let end = timeout(DEADLINE, kernel.read(&mut answer)).await.unwrap();
        assert_eq!(end.unwrap(), 0, "{options:?}");
    }
}

#[tokio::test]
async fn megabytes_survive_haproxy_with_small_and_with_large_records() {
    for tuning in ["", "tune.ssl.maxrecord 1400\n", "tune.bufsize 65536\n"] {
        let lab = Lab::new();
        let server = lab.haproxy(tuning, echo().await);
        let (_process, kernel) = lab.connected(server.port).await;
        let sent: Vec<u8> =
            (0..4_000_000_u32).flat_map(|at| at.to_le_bytes()[..1].to_vec()).collect();
        let (mut reads, mut writes) = kernel.into_split();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            writes.write_all(&sent).await.unwrap();
            writes
        });
        let mut received = vec![0; expected.len()];
        timeout(DEADLINE, reads.read_exact(&mut received)).await.unwrap().unwrap();
        assert!(received == expected, "{tuning:?}");
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_not_read_for() {
    let lab = Lab::new();
    let server = lab.haproxy("", deaf().await);
    let (process, mut kernel) = lab.connected(server.port).await;
    let chunk = vec![0; 1 << 20];
    // What a haproxy takes is in its socket and its buffers; then it is the kernel's turn to wait.
    while timeout(Duration::from_millis(500), kernel.write_all(&chunk)).await.is_ok() {}
    let before = process.status()[0].bytes_to_server;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(process.status()[0].bytes_to_server, before);
    assert!(before < 64 << 20, "{before} bytes for a server that reads none");
}

#[tokio::test]
async fn a_server_that_is_killed_ends_the_kernel_s_connection_and_not_the_tunnel() {
    let lab = Lab::new();
    let backend = echo().await;
    let server = lab.haproxy("", backend);
    let port = server.port;
    let (process, mut kernel) = lab.connected(port).await;
    kernel.write_all(b"call").await.unwrap();
    kernel.read_exact(&mut [0; 4]).await.unwrap();
    drop(server);
    assert_eq!(timeout(DEADLINE, kernel.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    let _server = lab.haproxy_at(port, "", backend);
    let SocketAddr::V4(address) = kernel.peer_addr().unwrap() else { panic!() };
    let again = async {
        loop {
            let mut kernel = TcpStream::connect(address).await.unwrap();
            let mut answer = [0; 4];
            if kernel.write_all(b"more").await.is_ok()
                && kernel.read_exact(&mut answer).await.is_ok()
            {
                return answer;
            }
        }
    };
    assert_eq!(timeout(DEADLINE, again).await.unwrap(), *b"more");
    assert!(process.status()[0].connections_total >= 2);
}

/// An authority, and the files that it signed.
struct Lab {
    folder: tempfile::TempDir,
    ca_file: PathBuf,
    certificate: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path(), "ca").unwrap();
        let certificate = authority.sign("server", NAME, Validity::Now).unwrap();
        Self { ca_file: authority.file(), certificate, folder }
    }

    /// A tunnel to that port, and a connection through it.
    async fn connected(&self, port: u16) -> (TunnelProcess, TcpStream) {
        let dialer = Dialer::new(Arc::new(Trust::new(Some(&self.ca_file)).unwrap()));
        let process = TunnelProcess::new(dialer, Admission::Anyone);
        let spec = TunnelSpec {
            host: ServerName::parse("127.0.0.1").unwrap(),
            port: RemotePort::Only(port),
            server_name: ServerName::parse(NAME).unwrap(),
            policy: TlsPolicy::default(),
        };
        let (Opened::Now(address) | Opened::Already(address)) =
            process.ensure_open(&spec, ANY_PORT).unwrap();
        (process, TcpStream::connect(address).await.unwrap())
    }

    fn haproxy(&self, tuning: &str, backend: u16) -> Server {
        self.haproxy_at(free_port(), tuning, backend)
    }

    fn haproxy_at(&self, port: u16, tuning: &str, backend: u16) -> Server {
        let config = format!(
            "global\n  {tuning}\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  \
             timeout server 1m\nlisten nas\n  bind 127.0.0.1:{port} ssl crt {}\n  \
             server nas 127.0.0.1:{backend}\n",
            self.certificate.display()
        );
        let file = self.folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let child = spawn("/usr/sbin/haproxy", &["-db", "-f", file.to_str().unwrap()]);
        wait_for(port);
        Server { child, port }
    }
}

/// A TLS server that is not ours. Ends when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `openssl s_server`, whose keyboard and screen are ours.
struct OpenSsl {
    _server: Server,
    port: u16,
    keyboard: ChildStdin,
    screen: Receiver<String>,
}

impl OpenSsl {
    fn start(lab: &Lab, options: &[&str]) -> Self {
        let port = free_port();
        let certificate = lab.certificate.to_str().unwrap();
        let accept = format!("127.0.0.1:{port}");
        let mut arguments = vec!["s_server", "-accept", &accept, "-cert", certificate];
        arguments.extend(["-key", certificate]);
        arguments.extend(options);
        let mut child = spawn("openssl", &arguments);
        let keyboard = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (lines, screen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let server = Self { _server: Server { child, port }, port, keyboard, screen };
        server.hears("ACCEPT");
        server
    }

    fn types(&mut self, line: &str) {
        self.keyboard.write_all(line.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
        // A command is one whole read of the keyboard.
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Waits for a line.
    fn hears(&self, expected: &str) {
        loop {
            let line = self.screen.recv_timeout(DEADLINE).expect(expected);
            if line == expected {
                return;
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's own server, killed when dropped")]
fn spawn(program: &str, arguments: &[&str]) -> Child {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is installed: {error}"))
}

fn wait_for(port: u16) {
    let start = std::time::Instant::now();
    while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(start.elapsed() < DEADLINE, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap().port()
}

/// Gives back what it gets.
async fn echo() -> u16 {
    backend(async |mut stream: TcpStream| {
        let (mut reads, mut writes) = stream.split();
        let _ = tokio::io::copy(&mut reads, &mut writes).await;
    })
    .await
}

/// Accepts, and reads nothing.
async fn deaf() -> u16 {
    backend(async |stream: TcpStream| {
        sleep(2 * DEADLINE).await;
        drop(stream);
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
