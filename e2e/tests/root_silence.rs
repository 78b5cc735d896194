//! A server that falls silent under a connection that is open: every packet is lost, nobody says so.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use e2e::driver;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::nas::Front;
use e2e::nas::Nas;
use e2e::nas::PORT;
use e2e::nas::TlsProfile;
use e2e::process::Process;

const MINUTE: Duration = Duration::from_secs(60);
/// What is promised.
const NOTICED: Duration = Duration::from_secs(20);
/// An address of its own, so that no other tunnel's port is taken.
const LISTEN: &str = "127.0.9.3:12049";

#[test]
fn a_server_that_falls_silent_under_a_call_is_noticed_within_20_seconds() -> Result<()> {
    is_noticed(|kernel| {
        kernel.write_all(&null_call())?;
        Ok(())
    })
}

#[test]
fn an_idle_connection_to_a_silent_server_is_ended_too() -> Result<()> {
    is_noticed(|_| Ok(()))
}

fn is_noticed(meanwhile: impl Fn(&mut TcpStream) -> Result<()>) -> Result<()> {
    let nas = Nas::start(TlsProfile::Tls13)?;
    let folder = tempfile::tempdir()?;
    let _tunnel = tunnel(&nas, &folder.path().join("log"))?;
    let mut kernel = answered()?;
    nas.fall_silent()?;
    let since = Instant::now();
    meanwhile(&mut kernel)?;
    let end = kernel.read(&mut [0]);
    let took = since.elapsed();
    nas.speak_again()?;
    ensure(end.is_err() || end.is_ok_and(|length| length == 0), "the silent server has answered")?;
    ensure(took < NOTICED, format!("noticed after {took:?}"))?;
    // The same address leads there again.
    answered().map(drop)
}

/// A connection whose server has answered once.
fn answered() -> Result<TcpStream> {
    let mut kernel = TcpStream::connect(LISTEN)?;
    kernel.set_read_timeout(Some(MINUTE))?;
    kernel.write_all(&null_call())?;
    kernel.read_exact(&mut [0; 28])?;
    Ok(kernel)
}

/// NFS version 3, procedure 0 (RFC 1813, section 3.3.0), and its record mark.
fn null_call() -> Vec<u8> {
    [0x8000_0028, 7, 0, 2, 100_003, 3, 0, 0, 0, 0, 0_u32].map(u32::to_be_bytes).concat()
}

fn tunnel(nas: &Nas, log: &Path) -> Result<Process> {
    let mut command = Command::new(driver::binary()?);
    command.args(["tunnel", "--listen", LISTEN, "--admit", "any"]);
    command.arg("--target").arg(format!("{}:{PORT}", Front::Good.domain()));
    command.arg("--ca-file").arg(nas.ca_file());
    let mut tunnel = Process::start("alinas-csi tunnel", &mut command, log)?;
    tunnel.wait_until("the tunnel listens", MINUTE, || {
        fs::read_to_string(log).is_ok_and(|log| log.contains("listening on"))
    })?;
    Ok(tunnel)
}
