//! The embedded NAS by itself: what the other tests of this rung stand on.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::nas::FRONTS;
use e2e::nas::Front;
use e2e::nas::Nas;
use e2e::nas::PORT;
use e2e::nas::TlsProfile;
use e2e::nas::UNKNOWN_DOMAIN;
use e2e::process::Process;
use e2e::process::run;
use e2e::process::wait_until;

const MINUTE: Duration = Duration::from_secs(60);

/// By address, so that this tells of the network alone.
fn connects(front: Front) -> bool {
    let address = SocketAddr::from((front.address(), PORT));
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
}

fn mount(front: Front, options: &str, target: &Path) -> Result<String> {
    let source = format!("{}:/", front.domain());
    run(MINUTE, "mount", &["-t", "nfs", "-o", options, &source, &target.display().to_string()])
}

#[test]
fn names_are_known_while_it_runs_and_only_then() -> Result<()> {
    let nas = Nas::start(TlsProfile::Tls13)?;
    for front in FRONTS {
        let found = (front.domain(), PORT).to_socket_addrs()?.next();
        ensure(found == Some((front.address(), PORT).into()), format!("{front:?}: {found:?}"))?;
    }
    ensure((UNKNOWN_DOMAIN, PORT).to_socket_addrs().is_err(), "the unknown domain is known")?;
    drop(nas);
    ensure((Front::Good.domain(), PORT).to_socket_addrs().is_err(), "a name outlived the NAS")
}

#[test]
fn what_one_version_writes_the_other_reads_and_the_disk_shows() -> Result<()> {
    let nas = Nas::start(TlsProfile::Tls13)?;
    let folder = tempfile::tempdir()?;
    let (third, fourth) = (folder.path().join("3"), folder.path().join("4"));
    for target in [&third, &fourth] {
        std::fs::create_dir(target)?;
    }
    mount(Front::Plain, "vers=3,proto=tcp,port=2049,mountport=2049,nolock", &third)?;
    mount(Front::Plain, "vers=4.0,port=2049", &fourth)?;
    std::fs::write(third.join("file"), "words")?;
    let read = std::fs::read_to_string(fourth.join("file"));
    let shown = std::fs::read_to_string(nas.disk().join("file"));
    for target in [&third, &fourth] {
        run(MINUTE, "umount", &[&target.display().to_string()])?;
    }
    ensure(read? == "words" && shown? == "words", "the three differ")
}

#[test]
fn the_cable_can_be_pulled_out_and_put_back() -> Result<()> {
    let nas = Nas::start(TlsProfile::Tls13)?;
    ensure(connects(Front::Good), "no connection at first")?;
    ensure(!connects(Front::Closed), "the closed port is open")?;
    ensure(!connects(Front::Unreachable), "there is a route where none must be")?;
    nas.fall_silent()?;
    ensure(!connects(Front::Good), "a connection without a cable")?;
    nas.speak_again()?;
    wait_until("a connection again", MINUTE, || connects(Front::Good))
}

#[test]
fn a_second_one_clears_away_what_a_killed_one_left() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_nas"));
    command.args(["sleep", "600"]);
    let mut first = Process::start("nas", &mut command, &folder.path().join("log"))?;
    first.wait_until("the first NAS serves", MINUTE, || connects(Front::Good))?;
    first.kill()?;
    ensure(Path::new("/run/netns/nas").exists(), "nothing was left to clear away")?;
    let second = Nas::start(TlsProfile::Tls12)?;
    ensure(connects(Front::Good), "the second NAS does not serve")?;
    drop(second);
    let left = lab::mounts()?.into_iter().any(|mount| mount.root.contains("alinas-csi-nas"));
    ensure(!left && !Path::new("/run/netns/nas").exists(), "something is left")
}
