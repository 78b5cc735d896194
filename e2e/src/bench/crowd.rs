//! A thousand tunnels in one process: what they cost while open, after a burst, and idle.

use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::process::Child;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::bench::call::Call;
use crate::bench::call::Kind;
use crate::bench::gauge::Resident;
use crate::bench::gauge::Used;
use crate::bench::load::Client;
use crate::bench::peer::NAME;
use crate::bench::peer::Setting;
use crate::bench::server::Server;
use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;

/// As many as a node has volumes in the worst case.
pub const TUNNELS: usize = 1000;
const PORT: u16 = 12049;
const BURST: Call = Call { kind: Kind::Write, size: 1 << 20 };
const BURST_BACK: Call = Call { kind: Kind::Read, size: 1 << 20 };
/// Connections that burst at the same time.
const AT_ONCE: usize = 8;
const IDLE: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// From the start of the process until it says that it listens.
    pub listening: Duration,
    /// Resident MiB once it listens.
    pub at_start: f64,
    /// With a session on each tunnel.
    pub open: f64,
    /// After a MiB each way through each of them.
    pub after_burst: f64,
    /// Between that.
    pub peak: f64,
    /// Processor seconds in a second of silence.
    pub idle: f64,
}

/// Ends with its value.
struct Managed(Child);

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens all of them.
///
/// # Errors
/// When the process does not start, or a tunnel does not carry.
pub fn measure(setting: &Setting<'_>, server: &Server) -> Result<Crowd> {
    let start = Instant::now();
    let process = start_managed(setting, server)?;
    let listening = start.elapsed();
    let id = process.0.id();
    let at_start = Resident::of(id)?.now;
    let mut clients = Vec::new();
    for number in 0..TUNNELS {
        clients.push(Client::connect(address(number), Call { kind: Kind::Read, size: 0 })?);
    }
    let open = Resident::of(id)?.now;
    burst(&mut clients)?;
    let before = Used::by(id)?;
    thread::sleep(IDLE);
    let idle = Used::by(id)?.since(&before) / IDLE.as_secs_f64();
    let after = Resident::of(id)?;
    Ok(Crowd { listening, at_start, open, after_burst: after.now, peak: after.peak, idle })
}

fn start_managed(setting: &Setting<'_>, server: &Server) -> Result<Managed> {
    let log = File::options().create(true).append(true).open(setting.folder.join("peers.log"))?;
    let child = std::process::Command::new(setting.ours)
        .args(["--log", "warn", "tunnel", "--managed", "--admit", "any", "--socket"])
        .arg(setting.folder.join("crowd.sock"))
        .arg("--ca-file")
        .arg(setting.ca_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .during("failed to start the tunnel process")?;
    let mut process = Managed(child);
    let listeners: Vec<_> = (0..TUNNELS).map(|number| listener(number, server)).collect();
    let mut input = process.0.stdin.take().ok_or_else(|| Failure::new("no input"))?;
    writeln!(input, "{}", serde_json::Value::Array(listeners))?;
    let output = process.0.stdout.take().ok_or_else(|| Failure::new("no output"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    match line.trim() {
        "ready" => Ok(process),
        other => Err(Failure::new(format!("the tunnel process said {other:?}"))),
    }
}

fn listener(number: usize, server: &Server) -> serde_json::Value {
    let SocketAddr::V4(local) = address(number) else { return serde_json::Value::Null };
    serde_json::json!({
        "host": server.tls.ip(), "port": server.tls.port(), "server_name": NAME,
        "address": local.ip(), "local_port": local.port(),
    })
}

/// 127.77.0.1 and up: an address for each, as the driver does it.
fn address(number: usize) -> SocketAddr {
    let number = u32::try_from(number).unwrap_or_default();
    let first = u32::from(Ipv4Addr::new(127, 77, 0, 1));
    SocketAddrV4::new(Ipv4Addr::from(first + number), PORT).into()
}

fn burst(clients: &mut [Client]) -> Result<()> {
    thread::scope(|scope| {
        let share = clients.len().div_ceil(AT_ONCE);
        let bursts: Vec<_> = clients
            .chunks_mut(share)
            .map(|clients| {
                scope.spawn(move || {
                    clients.iter_mut().try_for_each(|client| {
                        client.call(BURST)?;
                        client.call(BURST_BACK)
                    })
                })
            })
            .collect();
        for burst in bursts {
            burst.join().map_err(|_| Failure::new("a client panicked"))??;
        }
        Ok(())
    })
}
