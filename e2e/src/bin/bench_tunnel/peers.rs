//! The proxies that are compared: nothing, a relay without TLS, stunnel, haproxy, and ours.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::server::NAME;
use crate::server::Server;

/// One way from the load to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// No proxy, no TLS: the floor.
    Direct,
    /// haproxy as a relay without TLS: what any proxy costs.
    PlainRelay,
    Stunnel,
    Haproxy,
    Ours,
}

/// A started proxy; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where the load connects to.
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl Peer {
    /// In the order of the table.
    pub(crate) const ALL: [Peer; 5] =
        [Peer::Direct, Peer::PlainRelay, Peer::Stunnel, Peer::Haproxy, Peer::Ours];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct, no TLS",
            Self::PlainRelay => "plain relay (haproxy)",
            Self::Stunnel => "stunnel",
            Self::Haproxy => "haproxy",
            Self::Ours => "alinas-csi",
        }
    }

    pub(crate) fn start(self, server: &Server) -> Result<Running, Box<dyn Error>> {
        let address = free_address()?;
        let command = match self {
            Self::Direct => return Ok(Running { address: server.plain, child: None }),
            Self::PlainRelay => haproxy(server, &format!("server nas {}", server.plain), address)?,
            Self::Haproxy => haproxy(server, &haproxy_tls(server), address)?,
            Self::Stunnel => stunnel(server, address)?,
            Self::Ours => ours(server, address)?,
        };
        Running::start(command, address)
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn haproxy_tls(server: &Server) -> String {
    format!(
        "server nas {} ssl verify required ca-file {} sni str({NAME}) verifyhost {NAME}",
        server.tls,
        server.ca_file().display()
    )
}

fn haproxy(server: &Server, backend: &str, address: SocketAddr) -> std::io::Result<Command> {
    let file = server.folder().join("haproxy.cfg");
    fs::write(
        &file,
        format!(
            "global\n nbthread 2\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
             listen tunnel\n bind {address}\n {backend}\n"
        ),
    )?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn stunnel(server: &Server, address: SocketAddr) -> std::io::Result<Command> {
    let file = server.folder().join("stunnel.conf");
    fs::write(
        &file,
        format!(
            "foreground = yes\npid =\n[nas]\nclient = yes\naccept = {address}\nconnect = {}\nCAfile = {}\n\
             verifyChain = yes\ncheckHost = {NAME}\nsni = {NAME}\n",
            server.tls,
            server.ca_file().display()
        ),
    )?;
    let mut command = Command::new("stunnel4");
    command.arg(file);
    Ok(command)
}

fn ours(server: &Server, address: SocketAddr) -> Result<Command, Box<dyn Error>> {
    let mut command = Command::new(binary()?);
    command.args(["tunnel", "--admit", "any", "--log", "warn"]);
    command.args(["--listen", &address.to_string(), "--target", &server.tls.to_string()]);
    command.args(["--server-name", NAME, "--ca-file"]).arg(server.ca_file());
    Ok(command)
}

/// The driver: `ALINAS_CSI_BINARY`, or the one beside this program.
fn binary() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(path) = std::env::var_os("ALINAS_CSI_BINARY") {
        return Ok(path.into());
    }
    let beside = std::env::current_exe()?.with_file_name("alinas-csi");
    if !beside.exists() {
        return Err(format!("{} does not exist; build the workspace first", beside.display()).into());
    }
    Ok(beside)
}

impl Running {
    fn start(mut command: Command, address: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| {
            format!("{}: {error}", command.get_program().to_string_lossy())
        })?;
        let running = Self { address, child: Some(child) };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{command:?} does not listen on {address}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    /// The proxy's process id, where there is a proxy.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
