//! What a scrape of the watchdog's metrics costs: processor time of the watchdog and of the tunnel process, with a connection
//! through each of so many tunnels.
//!
//! Scrapes follow each other without a pause. What the two processes need without them is measured by itself, and
//! not taken off.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use alinas_csi::proto::tunnel;
use alinas_csi::proto::tunnel::acquire_response::Outcome;
use alinas_csi::proto::tunnel::tunnels_client::TunnelsClient;
use clap::Parser;
use e2e::bench::gauge::Used;
use e2e::bench::null_server;
use e2e::certificates::Authority;
use e2e::certificates::Validity;
use e2e::csi_client::channel;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab::processes_naming;
use e2e::process::Process;
use e2e::process::wait_until;
use rustix::process::Resource;
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

const NAME: &str = "scrape-cost.test";
const START: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(5);
/// Half of the chart's own interval, in milliseconds.
const INTERVAL: f64 = 15_000.0;

#[derive(Parser)]
struct Arguments {
    /// How many scrapes are measured for each number of tunnels
    #[arg(long, default_value_t = 300)]
    times: u32,
    /// Numbers of tunnels, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000])]
    tunnels: Vec<u32>,
    /// The driver's binary
    #[arg(long, default_value = "target/release/alinas-csi")]
    binary: PathBuf,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("scrape_cost: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    raise_descriptors();
    let mut scene = Scene::start(&arguments.binary)?;
    println!(
        "| tunnels | text | a scrape takes | CPU, watchdog | CPU, tunnel process | both, every 15 s | idle |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for tunnels in &arguments.tunnels {
        scene.open(*tunnels)?;
        let idle = scene.used_while(|_| {
            thread::sleep(IDLE);
            Ok(())
        })?;
        let idle = (idle.0 + idle.1) / IDLE.as_secs_f64() * 100.0;
        let (mut length, began) = (0, Instant::now());
        let (watchdog, process) = scene.used_while(|scene| {
            for _ in 0..arguments.times {
                length = scene.scrape()?;
            }
            Ok(())
        })?;
        let each = |seconds: f64| seconds * 1e3 / f64::from(arguments.times);
        println!(
            "| {tunnels} | {:.0} KiB | {:.2} ms | {:.2} ms | {:.2} ms | {:.4} % | {idle:.3} % |",
            length as f64 / 1024.0,
            each(began.elapsed().as_secs_f64()),
            each(watchdog),
            each(process),
            each(watchdog + process) / INTERVAL * 100.0,
        );
    }
    Ok(())
}

/// A watchdog and its tunnel process, and a server for it.
struct Scene {
    runtime: Runtime,
    client: TunnelsClient<Channel>,
    metrics: SocketAddr,
    server: SocketAddr,
    connections: Vec<TcpStream>,
    watchdog: Process,
    folder: tempfile::TempDir,
}

impl Scene {
    fn start(binary: &Path) -> Result<Self> {
        ensure(binary.exists(), format!("{} is not there: make build", binary.display()))?;
        // In memory, as the state directory of a node is (/run).
        let folder = tempfile::tempdir_in("/dev/shm")?;
        let authority = Authority::create(folder.path(), "ca")?;
        let certificate = authority.sign("server", NAME, Validity::Now)?;
        let server = null_server::start(Ipv4Addr::UNSPECIFIED, &certificate)?;
        let [proxy, metrics] = [free_address()?, free_address()?];
        let state = folder.path().join("state");
        let mut command = Command::new(binary);
        command.args(["--log", "warn", "watchdog", "--dangerous-admit-any", "--state-dir"]);
        command.arg(&state).arg("--ca-file").arg(authority.file());
        command.args(["--proxy-port", &proxy.port().to_string()]);
        command.args(["--metrics-listen", &metrics.to_string()]);
        let mut watchdog = Process::start("watchdog", &mut command, &folder.path().join("log"))?;
        watchdog.wait_until("metrics are served", START, || TcpStream::connect(metrics).is_ok())?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = {
            let _entered = runtime.enter();
            TunnelsClient::new(channel(&state.join("watchdog.sock"))?)
        };
        let connections = Vec::new();
        let scene = Self { runtime, client, metrics, server, connections, watchdog, folder };
        wait_until("the tunnel process runs", START, || scene.tunnel_process().is_ok())?;
        Ok(scene)
    }

    fn tunnel_process(&self) -> Result<u32> {
        let mut client = self.client.clone();
        let list = self.runtime.block_on(client.list(tunnel::ListRequest::default()))?.into_inner();
        ensure(list.process == "running", "no tunnel process runs")?;
        Ok(list.process_id)
    }

    /// Until there are so many tunnels, each with a connection that has carried a call.
    fn open(&mut self, tunnels: u32) -> Result<()> {
        for number in u32::try_from(self.connections.len())?..tunnels {
            let address = self.acquire(number)?;
            let mut stream = TcpStream::connect(address)?;
            let mut null = vec![0x80, 0, 0, 40];
            null.resize(44, 0);
            stream.write_all(&null)?;
            stream.read_exact(&mut [0; 28]).during("no answer through a tunnel")?;
            self.connections.push(stream);
        }
        Ok(())
    }

    /// A tunnel to a mount target of its own: an address of this machine.
    fn acquire(&self, number: u32) -> Result<SocketAddr> {
        let host = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 88, 0, 1)) + number);
        let spec = tunnel::TunnelSpec {
            host: host.to_string(),
            port: self.server.port().into(),
            server_name: NAME.to_owned(),
            policy: None,
        };
        let user = tunnel::TunnelUser {
            volume_id: format!("volume-{number}"),
            staging_path: format!("/staging/{number}"),
            ..tunnel::TunnelUser::default()
        };
        let request = tunnel::AcquireRequest { spec: Some(spec), user: Some(user) };
        let mut client = self.client.clone();
        let answer = self.runtime.block_on(client.acquire(request))?.into_inner();
        let Some(Outcome::Acquired(acquired)) = answer.outcome else {
            return Err(Failure::new(format!("no tunnel: {answer:?}")));
        };
        let endpoint = acquired.endpoint.unwrap_or_default();
        Ok(format!("{}:{}", endpoint.address, endpoint.port).parse()?)
    }

    /// Seconds of processor time, of the watchdog and of the tunnel process.
    fn used_while(&self, work: impl FnOnce(&Self) -> Result<()>) -> Result<(f64, f64)> {
        let processes = [self.watchdog.id(), self.tunnel_process()?];
        let before = processes.map(Used::by);
        work(self)?;
        let [watchdog, tunnel] = processes.map(Used::by);
        let [watchdog_before, tunnel_before] = before;
        Ok((watchdog?.since(&watchdog_before?), tunnel?.since(&tunnel_before?)))
    }

    /// The length of the text.
    fn scrape(&self) -> Result<usize> {
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let is_whole = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("# EOF\n");
        ensure(is_whole && answer.contains("\nalinas_csi_tunnel_up 1\n"), "no whole answer")?;
        Ok(answer.len())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.watchdog.kill();
        // The tunnel process has a group of its own. The folder's name is ours alone.
        for process in processes_naming(self.folder.path()) {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A thousand connections from here to the tunnels, and from there to the server, which is here, too.
fn raise_descriptors() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}
