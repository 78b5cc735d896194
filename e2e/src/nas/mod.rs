//! The embedded NAS: the kernel's NFS server behind a TLS terminator that is not ours, in a network
//! namespace at the end of a cable.
//!
//! ```text
//! node --- veth --- | stunnel :2049 -> splitter -> nfsd | rpc.mountd |     namespace "nas"
//! ```
//!
//! One server, many mount targets: each [`Front`] is a domain of the vendor's form with an address of its
//! own, and all but two of them have something wrong. The vendor answers MOUNT and NFS on one port, knfsd does
//! not: the [`splitter`] hides that.

mod front;
mod names;
mod network;
pub(crate) mod splitter;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::cable;
use crate::certificates::Authority;
use crate::certificates::Validity;
use crate::controller;
use crate::failure::During;
use crate::failure::Result;
use crate::lab;
use crate::nas::front::CertificateKind;
use crate::nas::names::Names;
use crate::nas::network::Network;
use crate::nas::splitter::Splitter;
use crate::process::Process;

pub use front::FRONTS;
pub use front::Front;
pub use front::UNKNOWN_DOMAIN;

/// Fixed, so that a run can clean up after one that was killed. Not in /run, which the daemons get anew.
const FOLDER: &str = "/srv/alinas-csi-nas";
/// What every mount target listens on.
pub const PORT: u16 = 2049;
/// The node's end of the cable: what a capture listens on.
pub const INTERFACE: &str = network::NODE_INTERFACE;

const START: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(20);

/// Which TLS the terminators speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.3 only.
    Tls13,
    /// TLS 1.2 with ECDHE and AES-GCM only.
    Tls12,
}

/// The running NAS. Everything that it started, mounted or named ends when it is dropped.
#[derive(Debug)]
pub struct Nas {
    ca_file: PathBuf,
    // In the order in which they must end.
    terminator: Option<Process>,
    _splitter: Splitter,
    server: Option<NfsServer>,
    names: Names,
    network: Network,
    _folder: Folder,
}

impl Nas {
    /// Cleans up what an earlier run left, and starts.
    ///
    /// # Errors
    /// When this machine may not be used for it, or a part does not come up; with the end of its log.
    pub fn start(profile: TlsProfile) -> Result<Self> {
        lab::require()?;
        clean_up();
        let folder = Folder::create()?;
        let network = Network::create(Path::new(FOLDER))?;
        let names = Names::publish(Path::new(FOLDER))?;
        let server = NfsServer::start(&network)?;
        let splitter = Splitter::start(&network.path(), splitter::services())?;
        let ca_file = write_terminator_settings(profile)?;
        let terminator = start_terminator(&network)?;
        Ok(Self {
            ca_file,
            terminator: Some(terminator),
            _splitter: splitter,
            server: Some(server),
            names,
            network,
            _folder: folder,
        })
    }

    /// The authority that signed the good certificates.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The NAS's own disk: what a client sees as `/`.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        disk()
    }

    /// The folder of everything that it writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        Path::new(FOLDER)
    }

    /// The network that it is in.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.network.path()
    }

    /// What names are there; a line that is added is seen at once.
    #[must_use]
    pub fn hosts(&self) -> PathBuf {
        self.names.hosts()
    }

    /// A program in the network of the NAS, as nobody and without any capability. It sees the machine's files.
    #[must_use]
    pub fn enter(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.network().display()))
            .args(["--", "setpriv"])
            .args(controller::arguments())
            .arg(program);
        command
    }

    /// Pulls the cable out: every packet is lost, in silence.
    ///
    /// # Errors
    /// When the rules cannot be set.
    pub fn fall_silent(&self) -> Result<()> {
        self.network.drop_everything()
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// When the rules cannot be set.
    pub fn speak_again(&self) -> Result<()> {
        self.network.let_everything_pass()
    }

    /// Ends the NFS server with all that it knows of its clients, and starts another one on the same disk.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart_server(&mut self) -> Result<()> {
        drop(self.server.take());
        self.server = Some(NfsServer::start(&self.network)?);
        Ok(())
    }

    /// Ends every TLS connection of every mount target; a moment later new ones are taken.
    ///
    /// # Errors
    /// When the terminator does not come up.
    pub fn restart_terminator(&mut self) -> Result<()> {
        drop(self.terminator.take());
        self.terminator = Some(start_terminator(&self.network)?);
        Ok(())
    }

    /// As [`restart_terminator`](Self::restart_terminator), but the other side is not told that its connections have
    /// ended, now or later: until [`tell_again`](Self::tell_again) nothing that ends a connection leaves the NAS.
    ///
    /// # Errors
    /// When the rules cannot be set, or the terminator does not come up.
    pub fn end_untold(&mut self) -> Result<()> {
        self.network.drop_what_ends()?;
        self.restart_terminator()
    }

    /// Ends what [`end_untold`](Self::end_untold) began.
    ///
    /// # Errors
    /// When the rules cannot be set.
    pub fn tell_again(&self) -> Result<()> {
        self.network.let_everything_pass()
    }

    /// For a while, resets every connection that a packet comes for, also each new one.
    ///
    /// # Errors
    /// When the rules cannot be set.
    pub fn reset_for(&self, a_while: Duration) -> Result<()> {
        self.network.reset_everything()?;
        std::thread::sleep(a_while);
        self.network.let_everything_pass()
    }

    /// Moves the good mount target to another address, as its operator may: its name leads there from now on, and
    /// nobody answers any more where it was, nor says so.
    ///
    /// # Errors
    /// When the address cannot be taken, or the name not be changed.
    pub fn move_away(&self) -> Result<()> {
        self.names.lead(Front::Good, MOVED)?;
        self.network.lose(Front::Good.address())
    }
}

/// Another address of the good mount target, which no name leads to at first.
pub const MOVED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
/// Of the mount targets that an API makes, where there is one beside the NAS ([`crate::cloud`]).
pub const MADE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 40);

fn disk() -> PathBuf {
    Path::new(FOLDER).join("disk")
}

/// Ends what a killed run left. Whatever is not there is not missed.
fn clean_up() {
    NfsServer::stop();
    Names::withdraw(Path::new(FOLDER));
    Network::remove();
    Folder::remove();
}

/// The folder of the NAS with the file system that is its disk.
#[derive(Debug)]
struct Folder;

impl Folder {
    fn create() -> Result<Self> {
        fs::create_dir_all(disk()).during("failed to make the NAS's folder")?;
        let folder = Self;
        let disk = disk().display().to_string();
        crate::process::run(SHORT, "mount", &["-t", "tmpfs", "nas-disk", &disk])?;
        fs::create_dir(Path::new(FOLDER).join("tls"))?;
        Ok(folder)
    }

    fn remove() {
        let disk = disk().display().to_string();
        let _ = crate::process::run(SHORT, "umount", &["-l", &disk]);
        // Never through a mount: if the disk is still there, rmdir stops at it.
        let _ = crate::process::run(SHORT, "rm", &["-rf", "--one-file-system", FOLDER]);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        Self::remove();
    }
}

/// nfsd, rpc.mountd and what they need.
#[derive(Debug)]
struct NfsServer {
    _daemons: Process,
}

impl NfsServer {
    fn start(network: &Network) -> Result<Self> {
        let script = Path::new(FOLDER).join("serve.sh");
        fs::write(&script, include_str!("serve.sh"))?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", network.path().display()))
            .args(["unshare", "--mount", "--propagation", "private", "sh"])
            .arg(&script)
            .arg(FOLDER)
            .arg(disk());
        let mut daemons = Process::start("NFS server", &mut command, &log("nfs"))?;
        let process = daemons.id();
        daemons.wait_until("rpc.mountd listens", START, || {
            cable::count_listeners(process, 20048) > 0
        })?;
        Ok(Self { _daemons: daemons })
    }

    /// nfsd's threads belong to the network namespace: they must be stopped from inside.
    fn stop() {
        if !network::path().exists() {
            return;
        }
        let net = format!("--net={}", network::path().display());
        let stop = "mount -t nfsd nfsd /proc/fs/nfsd && echo 0 >/proc/fs/nfsd/threads";
        let mut arguments = vec![net.as_str(), "unshare", "--mount", "sh", "-c"];
        arguments.push(stop);
        let _ = crate::process::run(SHORT, "nsenter", &arguments);
    }
}

impl Drop for NfsServer {
    fn drop(&mut self) {
        Self::stop();
    }
}

fn log(name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.log"))
}

/// One service of stunnel per front with TLS. Answers the file of the trusted authority.
fn write_terminator_settings(profile: TlsProfile) -> Result<PathBuf> {
    let folder = Path::new(FOLDER).join("tls");
    let trusted = Authority::create(&folder, "ca")?;
    let unknown = Authority::create(&folder, "unknown-ca")?;
    let mut settings = String::from("foreground = yes\npid =\ndebug = notice\n");
    settings += "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n";
    settings += match profile {
        TlsProfile::Tls13 => "sslVersion = TLSv1.3\n",
        TlsProfile::Tls12 => "sslVersion = TLSv1.2\nciphers = ECDHE+AESGCM\n",
    };
    for front in FRONTS {
        let Some((kind, target)) = front.terminator() else { continue };
        let label = format!("{front:?}");
        let domain = front.domain();
        let certificate = match kind {
            CertificateKind::Good => trusted.sign(&label, domain, Validity::Now)?,
            CertificateKind::Untrusted => unknown.sign(&label, domain, Validity::Now)?,
            CertificateKind::WrongName => trusted.sign(&label, "elsewhere.test", Validity::Now)?,
            CertificateKind::Expired => trusted.sign(&label, domain, Validity::Expired)?,
        };
        let moved = (front == Front::Good).then_some(MOVED);
        for address in [Some(front.address()), moved].into_iter().flatten() {
            settings += &format!(
                "[{label} {address}]\naccept = {address}:{PORT}\nconnect = {target}\ncert = {}\n",
                certificate.display()
            );
        }
    }
    fs::write(folder.join("stunnel.conf"), settings)?;
    Ok(trusted.file())
}

fn start_terminator(network: &Network) -> Result<Process> {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", network.path().display()))
        .arg("stunnel4")
        .arg(Path::new(FOLDER).join("tls/stunnel.conf"));
    let mut terminator = Process::start("stunnel4", &mut command, &log("stunnel"))?;
    // All others are the splitter's: it listened before this began. One more is that of `MOVED`.
    let all = FRONTS.into_iter().filter(|front| front.listens()).count() + 1;
    let process = terminator.id();
    terminator.wait_until("every front listens", START, || {
        cable::count_listeners(process, PORT) == all
    })?;
    Ok(terminator)
}
