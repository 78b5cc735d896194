//! Only the kernel gets in: intruders that are root, in the root cgroup, and hide their descriptors; and the kernel.
//!
//! The tunnel is stopped until the intruder has hidden its socket, so that there is no race to win. On a node with
//! cgroup v1 every process is in the root cgroup as far as a socket tells: these intruders are those of cgroup v1.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use alinas_csi::host::peer::Connection;
use alinas_csi::host::peer::LinuxPeers;
use alinas_csi::host::peer::Peer;
use alinas_csi::host::peer::PeerCheck;
use alinas_csi::host::peer::Sign;
use e2e::driver;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::process::Process;
use e2e::process::observe;
use e2e::process::wait_until;
use e2e::tunnel_program::Killed;
use e2e::tunnel_program::program;
use rustix::process::Pid;
use rustix::process::Signal;

const MINUTE: Duration = Duration::from_secs(60);
const ADDRESS: &str = "127.0.9.2";
const LISTEN: &str = "127.0.9.2:12049";
const REFUSED: &str = "refused a connection";
/// What the tunnel says once somebody is let in: nobody listens at its target.
const LET_IN: &str = "the mount target is unreachable";

fn refused(how: &str, sign: &str) -> Result<()> {
    // The first question to a kernel may load a module, which takes longer than the tunnel waits.
    LinuxPeers::default().peer(Connection { peer: LISTEN.parse()?, local: LISTEN.parse()? })?;
    let folder = tempfile::tempdir()?;
    let tunnel = Tunnel::start(folder.path())?;
    tunnel.signal(Signal::STOP)?;
    let _intruder = intruder(how, LISTEN.parse()?)?;
    tunnel.signal(Signal::CONT)?;
    wait_until(&format!("{how}: it is decided upon"), MINUTE, || {
        tunnel.said(REFUSED) || tunnel.said(LET_IN)
    })?;
    let log = fs::read_to_string(&tunnel.log)?;
    ensure(!log.contains(LET_IN) && log.contains(sign), format!("{how}: {log}"))
}

#[test]
fn a_process_that_holds_its_socket_is_refused_and_named() -> Result<()> {
    refused("held", "python3")
}

#[test]
fn a_descriptor_that_is_on_its_way_through_a_unix_socket_is_no_way_in() -> Result<()> {
    refused("unix", "does not list")
}

#[test]
fn a_descriptor_that_an_io_uring_holds_is_no_way_in() -> Result<()> {
    refused("io_uring", "does not list")
}

#[test]
fn a_descriptor_of_a_thread_that_has_outlived_the_first_is_no_way_in() -> Result<()> {
    refused("thread", "python3")
}

#[test]
fn a_socket_keeps_the_cgroup_that_it_was_made_in() -> Result<()> {
    refused("cgroup", "belongs to cgroup")
}

#[test]
fn the_holder_is_found_where_only_a_later_thread_shows_its_descriptors() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let local: SocketAddrV4 = listener.local_addr()?.to_string().parse()?;
    let intruder = intruder("thread", local)?;
    let (_stream, peer) = listener.accept()?;
    let connection = Connection { peer: peer.to_string().parse()?, local };
    let peers = LinuxPeers::default();
    let holder = peers.holder(connection).ok_or_else(|| Failure::new("nobody".to_owned()))?;
    ensure(holder.id == intruder.0.id(), format!("{holder}"))?;
    let peer = peers.peer(connection)?;
    let expected = matches!(
        peer,
        Peer::Process { sign: Sign::NotListed | Sign::Descriptor | Sign::Cgroup(_), .. }
    );
    ensure(expected, format!("{peer:?}"))
}

#[test]
fn the_kernel_is_let_in_in_every_version() -> Result<()> {
    let mountd = format!("nolock,mountaddr={ADDRESS},mountport=12049,mountproto=tcp,mountvers=3");
    let client = "clientaddr=127.0.0.1";
    for version in
        [format!("3,{mountd}"), format!("4.0,{client}"), format!("4.2,{client},nconnect=4")]
    {
        let folder = tempfile::tempdir()?;
        let tunnel = Tunnel::start(folder.path())?;
        // Past mount.nfs, which would ask the server itself, from a process.
        let options =
            format!("vers={version},addr={ADDRESS},proto=tcp,port=12049,soft,timeo=20,retrans=1");
        let point = folder.path().display();
        let mount = format!("mount -i -t nfs -o {options} {ADDRESS}:/ {point}");
        // There is no server behind it; that the tunnel looks for one is enough.
        let mut mount = Command::new("timeout").args(["10", "sh", "-c", &mount]).spawn()?;
        let decided = wait_until("the kernel has connected", MINUTE, || {
            tunnel.said(REFUSED) || tunnel.said(LET_IN)
        });
        let _ = mount.wait();
        observe(MINUTE, Command::new("umount").arg("-f").arg(folder.path()))?;
        decided?;
        ensure(!tunnel.said(REFUSED), fs::read_to_string(&tunnel.log)?)?;
    }
    Ok(())
}

/// A tunnel to nowhere that lets the kernel in.
struct Tunnel {
    process: Process,
    log: PathBuf,
}

impl Tunnel {
    fn start(folder: &Path) -> Result<Self> {
        let log = folder.with_extension("log");
        let mut command = Command::new(driver::binary()?);
        command.args(["tunnel", "--listen", LISTEN, "--target", "127.0.0.1:1"]);
        let mut process = Process::start("alinas-csi tunnel", &mut command, &log)?;
        process.wait_until("the tunnel listens", MINUTE, || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("listening on"))
        })?;
        Ok(Self { process, log })
    }

    fn said(&self, words: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|log| log.contains(words))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| Failure::new("no process".to_owned()))?;
        Ok(rustix::process::kill_process(id, signal)?)
    }
}

/// Connected, and with its descriptor where it belongs.
fn intruder(how: &str, to: SocketAddrV4) -> Result<Killed> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/intruder.py");
    let (address, port) = (to.ip().to_string(), to.port().to_string());
    let arguments = [script.to_str().unwrap_or_default(), how, &address, &port];
    let mut intruder = Killed(program("python3", &arguments));
    let mut said = String::new();
    if let Some(output) = intruder.0.stdout.take() {
        BufReader::new(output).read_line(&mut said)?;
    }
    ensure(said.trim() == "hidden", format!("the intruder ({how}) said {said:?}"))?;
    Ok(intruder)
}
