//! A volume of plain NFS through the real driver: no tunnel, the version negotiated, the background.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use e2e::certificates::Authority;
use e2e::csi_client::CsiClient;
use e2e::csi_client::Volume;
use e2e::driver::Driver;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::plain::Front;
use e2e::plain::NAME;
use e2e::plain::Plain;
use e2e::process::wait_until;
use e2e::scene::CLEARED;
use tonic::Code;

/// For a mount in the background, once its server is back: a few of its pauses.
const BACK: Duration = Duration::from_secs(60);

/// A plain server and a driver beside it. They end in this order.
struct Scene {
    client: CsiClient,
    driver: Driver,
    plain: Plain,
}

impl Scene {
    fn start() -> Result<Self> {
        let plain = Plain::start()?;
        // The watchdog wants roots to trust; nobody will ask it.
        let authority = Authority::create(plain.folder(), "unused")?;
        let driver = Driver::start(&authority.file())?;
        Ok(Self { client: driver.client()?, driver, plain })
    }

    fn volume(&self, id: &str, server: &str) -> Volume {
        let volume = Volume::new(&self.driver.kubelet_dir(), id, server, "");
        volume.with("path", "/share").with("mountProtocol", "nfs")
    }

    fn with_logs<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|failure| Failure::new(format!("{failure}\n{}", self.driver.logs())))
    }
}

#[test]
fn a_plain_volume_is_mounted_without_a_tunnel_in_the_highest_version_or_the_one_that_is_asked_for()
-> Result<()> {
    let scene = Scene::start()?;
    let outcome = [("3", "3"), ("", "4.2")].into_iter().try_for_each(|(asked, expected)| {
        let volume = scene.volume(&format!("plain-{expected}"), NAME).with("vers", asked);
        let volume = volume.with_option("nolock");
        scene.client.stage(&volume)?;
        let mounts = e2e::lab::mounts_below(&volume.staging)?;
        let [mount] = mounts.as_slice() else {
            return Err(Failure::new(format!("expected one mount, found {mounts:?}")));
        };
        let server = Front::Good.address();
        for words in [format!("vers={expected},"), format!("addr={server}")] {
            ensure(mount.options.contains(&words), format!("no {words} in {}", mount.options))?;
        }
        fs::write(volume.staging.join("written"), expected)?;
        let on_server = fs::read_to_string(scene.plain.disk().join("share/written"))?;
        ensure(on_server == expected, format!("the server has {on_server:?}"))?;
        // Again: it is there already.
        scene.client.stage(&volume)?;
        let Err(status) = scene.client.stage(&volume.clone().with_option("soft")) else {
            return Err(Failure::new("other options were taken for the same"));
        };
        ensure(status.code() == Code::AlreadyExists, format!("{status:?}"))?;
        ensure(scene.driver.tunnels()?.tunnels.is_empty(), "a tunnel was opened")?;
        scene.client.unstage(&volume)?;
        scene.driver.nothing_is_left(CLEARED)
    });
    scene.with_logs(outcome)
}

#[test]
fn a_plain_volume_in_the_background_is_mounted_once_its_server_is_back() -> Result<()> {
    let mut scene = Scene::start()?;
    let volume = scene.volume("later", &Front::Closed.address().to_string());
    let volume = volume.with_option("bg,nolock,vers=4.2");
    let outcome = background(&mut scene, &volume);
    scene.with_logs(outcome)
}

fn background(scene: &mut Scene, volume: &Volume) -> Result<()> {
    for _ in 0..2 {
        let began = Instant::now();
        let Err(status) = scene.client.stage(volume) else {
            return Err(Failure::new("a server that refuses everything was mounted"));
        };
        println!("{:?} after {:?}: {}", status.code(), began.elapsed(), status.message());
        ensure(status.code() == Code::Unavailable, format!("{status:?}"))?;
        ensure(status.message().contains("in the background"), format!("{status:?}"))?;
        ensure(status.message().contains("refused"), format!("{status:?}"))?;
    }
    scene.plain.lift(Front::Closed)?;
    // As the kubelet does it: it calls again and again.
    wait_until("the volume is staged", BACK, || scene.client.stage(volume).is_ok())?;
    let mounts = e2e::lab::mounts_below(&volume.staging)?;
    ensure(mounts.len() == 1, format!("{mounts:?}"))?;
    scene.client.unstage(volume)?;
    scene.driver.nothing_is_left(CLEARED)
}

#[test]
fn a_plain_volume_in_the_background_that_is_unstaged_is_tried_no_more() -> Result<()> {
    let mut scene = Scene::start()?;
    let volume = scene.volume("never", &Front::BlackHole.address().to_string());
    let volume = volume.with_option("bg,nolock,vers=4.2");
    let Err(_) = scene.client.stage(&volume) else {
        return Err(Failure::new("a server that says nothing was mounted"));
    };
    let began = Instant::now();
    scene.client.unstage(&volume)?;
    ensure(began.elapsed() < Duration::from_secs(10), format!("{:?}", began.elapsed()))?;
    scene.plain.lift(Front::BlackHole)?;
    std::thread::sleep(Duration::from_secs(5));
    let outcome = scene.driver.nothing_is_left(CLEARED);
    scene.with_logs(outcome)
}
