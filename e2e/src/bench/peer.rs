//! Who is compared: nothing at all, a relay without TLS, the usual TLS clients, and ours.

use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::bench::server::Server;
use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::process::Process;

const START: Duration = Duration::from_secs(10);
/// The name in the server's certificate.
pub const NAME: &str = "nas.example.com";

/// A way from the load to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No proxy.
    Direct,
    /// haproxy without TLS.
    Relay,
    /// stunnel.
    Stunnel,
    /// haproxy with TLS.
    Haproxy,
    /// This driver's tunnel process.
    Ours,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Direct, Self::Relay, Self::Stunnel, Self::Haproxy, Self::Ours];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct TCP",
            Self::Relay => "haproxy, no TLS",
            Self::Stunnel => "stunnel",
            Self::Haproxy => "haproxy, TLS",
            Self::Ours => "ours",
        })
    }
}

/// A way that is open.
#[derive(Debug)]
pub struct Peer {
    /// Which one.
    pub kind: Kind,
    /// Where to connect to.
    pub address: SocketAddr,
    process: Option<Process>,
}

/// Where things are.
#[derive(Debug)]
pub struct Setting<'a> {
    /// For configurations and logs.
    pub folder: &'a Path,
    /// The authority of the server's certificate.
    pub ca_file: &'a Path,
    /// Our binary.
    pub ours: &'a Path,
}

impl Peer {
    /// Opens a way to the server.
    ///
    /// # Errors
    /// When the proxy does not start.
    pub fn start(kind: Kind, setting: &Setting<'_>, server: &Server) -> Result<Self> {
        if kind == Kind::Direct {
            return Ok(Self { kind, address: server.plain, process: None });
        }
        let address = free_address()?;
        let mut command = setting.command(kind, address, server)?;
        let log = setting.folder.join("peers.log");
        let mut process = Process::start(&kind.to_string(), &mut command, &log)?;
        process.wait_until("it listens", START, || TcpStream::connect(address).is_ok())?;
        Ok(Self { kind, address, process: Some(process) })
    }

    /// The proxy's process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

impl Setting<'_> {
    fn command(&self, kind: Kind, listen: SocketAddr, server: &Server) -> Result<Command> {
        let mut command = match kind {
            Kind::Direct => return Err(Failure::new("nothing is not to be started")),
            Kind::Relay => self.haproxy(listen, server.plain, "")?,
            Kind::Haproxy => self.haproxy(listen, server.tls, &self.haproxy_tls())?,
            Kind::Stunnel => self.stunnel(listen, server.tls)?,
            Kind::Ours => Command::new(self.ours),
        };
        if kind == Kind::Ours {
            let target = server.tls.to_string();
            let listen = listen.to_string();
            command.args(["tunnel", "--listen", &listen, "--target", &target, "--admit", "any"]);
            command.args(["--server-name", NAME, "--ca-file"]).arg(self.ca_file);
        }
        Ok(command)
    }

    fn haproxy(&self, listen: SocketAddr, target: SocketAddr, tls: &str) -> Result<Command> {
        let config = format!(
            "global\n  maxconn 4000\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n\
             listen nas\n  bind {listen}\n  server nas {target} {tls}\n"
        );
        let file = self.write(&format!("haproxy-{}.cfg", listen.port()), &config)?;
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(file);
        Ok(command)
    }

    fn haproxy_tls(&self) -> String {
        let authority = self.ca_file.display();
        format!("ssl verify required ca-file {authority} sni str({NAME}) verifyhost {NAME}")
    }

    fn stunnel(&self, listen: SocketAddr, target: SocketAddr) -> Result<Command> {
        let config = format!(
            "foreground = yes\npid =\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
             [nas]\nclient = yes\naccept = {listen}\nconnect = {target}\nverifyChain = yes\n\
             CAfile = {}\ncheckHost = {NAME}\n",
            self.ca_file.display()
        );
        let mut command = Command::new("stunnel4");
        command.arg(self.write("stunnel.conf", &config)?);
        Ok(command)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.folder.join(name);
        fs::write(&file, text).during("failed to write a configuration")?;
        Ok(file)
    }
}

/// An address that nobody listens at now.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}
