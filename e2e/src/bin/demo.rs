//! `make demo`: the whole life of an encrypted volume, each step in plain words.
//!
//! Needs the lab: `e2e/lab/guest -- target/debug/demo`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use e2e::capture::Capture;
use e2e::csi_client::Access;
use e2e::csi_client::CsiClient;
use e2e::csi_client::Volume;
use e2e::data;
use e2e::driver::Driver;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::nas::Front;
use e2e::nas::INTERFACE;
use e2e::nas::Nas;
use e2e::nas::TlsProfile;

/// MiB.
const FILE: usize = 64;
/// MiB; the tunnel is killed before the block in the middle.
const KILLED_FILE: usize = 16;
const CLEARED: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("\nThe demo failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let begin = Instant::now();
    let mut steps = Steps(0);
    steps.say("Starting a NAS on this machine: an NFS server, with TLS in front of it.");
    let nas = Nas::start(TlsProfile::Tls13)?;
    steps.say("Starting the driver: the watchdog with its tunnel, and the node plugin.");
    let driver = Driver::start(nas.ca_file())?;
    for vers in ["3", "4.0"] {
        life_of_a_volume(&mut steps, &driver, vers)
            .map_err(|failure| Failure::new(format!("{failure}\n{}", driver.logs())))?;
    }
    println!("\nAll of it worked, in {} seconds.", begin.elapsed().as_secs());
    Ok(())
}

fn life_of_a_volume(steps: &mut Steps, driver: &Driver, vers: &str) -> Result<()> {
    println!("\n   NFS version {vers}\n");
    let client = driver.client()?;
    let domain = Front::Good.domain();
    let folder = driver.kubelet_dir();
    let volume = Volume::new(&folder, &format!("demo-v{vers}"), domain, vers);
    let pod = folder.join("pods/demo/mount");
    let scratch = tempfile::tempdir()?;

    let capture = Capture::start(INTERFACE, scratch.path())?;
    mount(steps, driver, &client, &volume, &pod)?;
    write_and_read(steps, &pod)?;
    look_at_the_wire(steps, capture)?;
    kill_the_tunnel(steps, driver, &pod)?;
    clean_up(steps, driver, &client, &volume, &pod)
}

fn mount(
    steps: &mut Steps,
    driver: &Driver,
    client: &CsiClient,
    volume: &Volume,
    pod: &Path,
) -> Result<()> {
    client.stage(volume).map_err(|status| refused("NodeStageVolume", &status))?;
    let domain = Front::Good.domain();
    let address = driver.address_of(domain)?;
    steps.say(&format!("Staged the volume {domain}:/ by way of the tunnel at {address}."));
    client
        .publish(volume, pod, Access::ReadWrite)
        .map_err(|status| refused("NodePublishVolume", &status))?;
    steps.say("Published it to a pod.");
    Ok(())
}

fn write_and_read(steps: &mut Steps, pod: &Path) -> Result<()> {
    let file = pod.join("data");
    let start = Instant::now();
    let written = data::write(&file, FILE, |_| Ok(()))?;
    let (hash, time) = (data::short(&written.hash), start.elapsed().as_secs_f32());
    steps.say(&format!("Wrote {FILE} MiB as the pod in {time:.1} s: SHA-256 {hash}…"));
    compare(&file, &written.hash)?;
    steps.say("Read it back from the NAS: the same SHA-256.");
    std::fs::remove_file(file)?;
    Ok(())
}

fn look_at_the_wire(steps: &mut Steps, capture: Capture) -> Result<()> {
    let wire = capture.stop()?;
    if wire.len() < FILE * data::BLOCK {
        let seen = wire.len();
        return Err(Failure::new(format!("the capture holds {seen} bytes, less than the file")));
    }
    let records = wire.tls_records();
    if records == 0 {
        return Err(Failure::new("the capture holds no TLS records"));
    }
    let samples = data::samples(FILE);
    let leaked = samples.iter().any(|sample| wire.holds(sample)) || wire.holds(data::MARKER);
    if leaked {
        return Err(Failure::new("bytes of the file went over the wire in the clear"));
    }
    let mebibytes = wire.len() >> 20;
    steps.say(&format!(
        "Looked at all {mebibytes} MiB on the wire: {records} TLS records, and neither the file's \
         marker nor any of {} samples of it.",
        samples.len()
    ));
    Ok(())
}

fn kill_the_tunnel(steps: &mut Steps, driver: &Driver, pod: &Path) -> Result<()> {
    let file = pod.join("killed");
    let mut former = 0;
    let written = data::write(&file, KILLED_FILE, |number| {
        if number == KILLED_FILE / 2 {
            former = driver.kill_tunnel()?;
        }
        Ok(())
    })?;
    driver.wait_for_another_tunnel(former)?;
    compare(&file, &written.hash)?;
    let pause = written.longest_pause.as_secs_f32();
    steps.say(&format!(
        "Killed the tunnel in the middle of a write (kill -9). The write went on and nothing is \
         lost; the longest pause was {pause:.1} s."
    ));
    std::fs::remove_file(file)?;
    Ok(())
}

fn clean_up(
    steps: &mut Steps,
    driver: &Driver,
    client: &CsiClient,
    volume: &Volume,
    pod: &Path,
) -> Result<()> {
    client.unpublish(volume, pod).map_err(|status| refused("NodeUnpublishVolume", &status))?;
    client.unstage(volume).map_err(|status| refused("NodeUnstageVolume", &status))?;
    driver.nothing_is_left(CLEARED)?;
    steps.say("Unpublished and unstaged: no mount, no listener and no file of it is left.");
    Ok(())
}

fn compare(file: &Path, expected: &[u8; 32]) -> Result<()> {
    let found = data::hash_on_server(file)?;
    if found == *expected {
        return Ok(());
    }
    let (found, expected) = (data::short(&found), data::short(expected));
    Err(Failure::new(format!("wrote SHA-256 {expected}…, but read {found}…")))
}

fn refused(call: &str, status: &tonic::Status) -> Failure {
    Failure::new(format!("{call} answered {:?}: {}", status.code(), status.message()))
}

struct Steps(u32);

impl Steps {
    fn say(&mut self, sentence: &str) {
        self.0 += 1;
        println!("{:2}. {sentence}", self.0);
    }
}
