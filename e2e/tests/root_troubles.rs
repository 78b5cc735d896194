//! The troubles of docs/troubles.md with a real NAS and real mounts, each caused for real: what the kubelet is told, events,
//! `alinas-csi status` and metrics tell it from the other ones, and say what to do.
//!
//! Those that come before NFS are looked at more closely, and far faster, in e2e/tests/host_troubles.rs.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use e2e::csi_client::Volume;
use e2e::driver::Driver;
use e2e::driver::PROXY_PORT;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::nas::Front;
use e2e::nas::Nas;
use e2e::nas::TlsProfile;
use e2e::nas::UNKNOWN_DOMAIN;
use e2e::operator::Operator;
use e2e::process::Process;
use e2e::process::wait_until;
use e2e::scene::CLEARED;
use e2e::troubles;
use e2e::troubles::Trouble;

const VERSIONS: [&str; 2] = ["3", "4.0"];
const MINUTES: Duration = Duration::from_secs(180);

/// A NAS, a driver beside it, and who looks at it. They end in this order.
struct World {
    driver: Driver,
    operator: Operator,
    nas: Nas,
}

/// Runs a test in a new world.
fn in_a_world(test: impl FnOnce(&World) -> Result<()>) -> Result<()> {
    let nas = Nas::start(TlsProfile::Tls13)?;
    let operator = Operator::new()?;
    let driver = Driver::start_told(nas.ca_file(), operator.told()?)?;
    let world = World { driver, operator, nas };
    let done = test(&world);
    done.map_err(|failure| Failure::new(format!("{failure}\n{}", world.driver.logs())))
}

impl World {
    fn volume(&self, id: &str, server: &str, vers: &str) -> Volume {
        Volume::new(&self.driver.kubelet_dir(), id, server, vers)
    }

    fn mount_fails(&self, trouble: &Trouble, volume: &Volume) -> Result<()> {
        self.operator.sees_a_failed_mount(trouble, &self.driver, volume)?;
        self.driver.nothing_is_left(CLEARED)
    }

    /// Mounts a volume for as long as a part of a test takes; the part is given where its tunnel is.
    fn while_mounted(
        &self,
        vers: &str,
        part: impl FnOnce(&Volume, &str) -> Result<()>,
    ) -> Result<()> {
        let volume = self.volume(&format!("in-use-{vers}"), Front::Good.domain(), vers);
        let client = self.driver.client()?;
        client.stage(&volume)?;
        let tunnel = self.driver.address_of(Front::Good.domain())?;
        self.operator.sees_no_trouble_in_use(&self.driver)?;
        part(&volume, &tunnel)?;
        fs::read_dir(&volume.staging)?;
        client.unstage(&volume)?;
        self.driver.nothing_is_left(CLEARED)
    }
}

/// Somebody who waits for the server. Ends when it is back, or dropped.
fn reader(world: &World, volume: &Volume) -> Result<Process> {
    let log = world.nas.folder().join("reader.log");
    // What is not in any cache.
    let script = format!("until stat {}/$RANDOM-$$ ; do sleep 1; done", volume.staging.display());
    Process::start("reader", Command::new("bash").args(["-c", &script]), &log)
}

#[test]
fn what_comes_before_nfs_is_told() -> Result<()> {
    in_a_world(|world| {
        for (trouble, domain) in [
            (&troubles::WRONG_DOMAIN, UNKNOWN_DOMAIN),
            (&troubles::NO_ROUTE, Front::Unreachable.domain()),
            (&troubles::TLS_REFUSED, Front::Plain.domain()),
            (&troubles::UNTRUSTED, Front::Untrusted.domain()),
            (&troubles::EXPIRED, Front::Expired.domain()),
        ] {
            let id = trouble.name.to_lowercase().replace(' ', "-");
            world.mount_fails(trouble, &world.volume(&id, domain, "3"))?;
        }
        Ok(())
    })
}

#[test]
fn an_export_that_is_denied_is_told() -> Result<()> {
    in_a_world(|world| {
        for vers in VERSIONS {
            let volume = world.volume(&format!("denied-{vers}"), Front::Denied.domain(), vers);
            world.mount_fails(&troubles::EXPORT_DENIED, &volume)?;
        }
        Ok(())
    })
}

#[test]
fn a_missing_directory_is_told() -> Result<()> {
    in_a_world(|world| {
        for vers in VERSIONS {
            let volume = world.volume(&format!("missing-{vers}"), Front::Good.domain(), vers);
            let volume = volume.with("path", "/missing");
            world.mount_fails(&troubles::MISSING_DIRECTORY, &volume)?;
        }
        Ok(())
    })
}

#[test]
fn a_server_that_falls_silent_is_told() -> Result<()> {
    in_a_world(|world| {
        world.while_mounted("4.0", |volume, _| {
            world.nas.fall_silent()?;
            let waits = reader(world, volume)?;
            let seen = world.operator.sees_it_in_use(&troubles::SERVER_SILENT, &world.driver);
            let other = world.volume("silent", Front::Second.domain(), "3");
            let told =
                world.operator.sees_a_failed_mount(&troubles::SERVER_SILENT, &world.driver, &other);
            world.nas.speak_again()?;
            drop(waits);
            seen?;
            told
        })
    })
}

#[test]
fn a_tunnel_that_is_dead_is_told() -> Result<()> {
    in_a_world(|world| {
        world.while_mounted("3", |_, _| {
            let none_lives = world.driver.let_no_tunnel_live();
            world.operator.sees_it_in_use(&troubles::TUNNEL_DEAD, &world.driver)?;
            let other = world.volume("dead", Front::Second.domain(), "3");
            world.operator.sees_a_failed_mount(&troubles::TUNNEL_DEAD, &world.driver, &other)?;
            drop(none_lives);
            wait_until("a tunnel process runs", MINUTES, || {
                world.driver.tunnels().is_ok_and(|now| now.process == "running")
            })
        })
    })
}

#[test]
fn a_local_intruder_is_told() -> Result<()> {
    in_a_world(|world| {
        world.while_mounted("4.0", |_, tunnel| {
            let mut intruder = TcpStream::connect((tunnel, PROXY_PORT))?;
            intruder.set_read_timeout(Some(MINUTES))?;
            let read = intruder.read(&mut [0]);
            ensure(!matches!(read, Ok(1..)), "the intruder got an answer")?;
            world.operator.sees_it_in_use(&troubles::INTRUDER, &world.driver)
        })
    })
}
