//! An NFS client that is not the kernel's, through the tunnel, to the kernel's server behind stunnel: what one
//! writes is what the other has.
//!
//! The client is libnfs; it is let in because the tunnel is told to let everybody in.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::data;
use e2e::driver;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::nas::Front;
use e2e::nas::Nas;
use e2e::nas::PORT;
use e2e::nas::TlsProfile;
use e2e::process::Process;
use e2e::process::observe;
use e2e::process::wait_until;

const MINUTE: Duration = Duration::from_secs(60);
/// An address of its own, so that no other tunnel's port is taken.
const LISTEN: &str = "127.0.9.1:12049";
const BLOCKS: usize = 4;

#[test]
fn what_a_user_space_client_writes_arrives_and_comes_back() -> Result<()> {
    let nas = Nas::start(TlsProfile::Tls13)?;
    let folder = tempfile::tempdir()?;
    let _tunnel = tunnel(&nas, "any", &folder.path().join("log"))?;
    let (ours, theirs) = (folder.path().join("ours"), share(&nas)?.join("theirs"));
    let written = data::write(&ours, BLOCKS, |_| Ok(()))?;
    let copied = client("nfs-cp", &[&ours.display().to_string(), &url("theirs", 3)])?;
    ensure(copied.0, format!("nfs-cp: {}", copied.1))?;
    ensure(fs::read(&theirs)? == fs::read(&ours)?, "the server has other bytes")?;
    for version in [3, 4] {
        let back = folder.path().join(format!("back-{version}"));
        let copied = client("nfs-cp", &[&url("theirs", version), &back.display().to_string()])?;
        ensure(copied.0, format!("nfs-cp over NFSv{version}: {}", copied.1))?;
        let hash = data::hash_on_server(&back)?;
        ensure(hash == written.hash, format!("other bytes came back over NFSv{version}"))?;
    }
    Ok(())
}

#[test]
fn a_user_space_client_is_not_let_in_unless_everybody_is() -> Result<()> {
    let nas = Nas::start(TlsProfile::Tls13)?;
    fs::write(share(&nas)?.join("secret"), "words")?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let _tunnel = tunnel(&nas, "kernel", &log)?;
    // The first question to the kernel may load a module, and what takes too long is refused without a name.
    wait_until("the log names the program", 3 * MINUTE, || {
        let (succeeded, said) = client("nfs-cat", &[&url("secret", 3)]).unwrap_or_default();
        assert!(!succeeded && !said.contains("words"), "nfs-cat was let in: {said}");
        fs::read_to_string(&log).is_ok_and(|log| log.contains("nfs-cat"))
    })
}

/// A client of libnfs mounts a directory below the root.
fn share(nas: &Nas) -> Result<PathBuf> {
    let share = nas.disk().join("share");
    fs::create_dir(&share)?;
    Ok(share)
}

/// MOUNT and NFS on one port, as the vendor has them.
fn url(file: &str, version: u8) -> String {
    let address: SocketAddrV4 = LISTEN.parse().unwrap_or_else(|_| unreachable!("it is a constant"));
    let (host, port) = (address.ip(), address.port());
    format!("nfs://{host}/share/{file}?version={version}&nfsport={port}&mountport={port}")
}

fn client(program: &str, arguments: &[&str]) -> Result<(bool, String)> {
    let observed = observe(MINUTE, Command::new(program).args(arguments))?;
    Ok((observed.code == Some(0), observed.output))
}

fn tunnel(nas: &Nas, admit: &str, log: &Path) -> Result<Process> {
    let mut command = Command::new(driver::binary()?);
    command.args(["tunnel", "--listen", LISTEN, "--admit", admit]);
    command.arg("--target").arg(format!("{}:{PORT}", Front::Good.domain()));
    command.arg("--ca-file").arg(nas.ca_file());
    let mut tunnel = Process::start("alinas-csi tunnel", &mut command, log)?;
    tunnel.wait_until("the tunnel listens", MINUTE, || {
        fs::read_to_string(log).is_ok_and(|log| log.contains("listening on"))
    })?;
    Ok(tunnel)
}
