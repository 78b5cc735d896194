//! The path of a volume with a real kernel mount, over TLS, through every accident that must not hurt.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use e2e::capture::Capture;
use e2e::capture::Wire;
use e2e::csi_client::Access;
use e2e::csi_client::Volume;
use e2e::data;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::nas::Front;
use e2e::nas::INTERFACE;
use e2e::nas::Nas;
use e2e::nas::TlsProfile;
use e2e::scene::CLEARED;
use e2e::scene::Scene;
use tonic::Code;

const VERSIONS: [&str; 2] = ["3", "4.0"];
/// MiB in a test file.
const BLOCKS: usize = 8;

/// Runs a test's body for each version of NFS, on one scene, and makes sure that nothing is left.
fn for_each_version(body: impl Fn(&mut Scene, &str) -> Result<()>) -> Result<()> {
    let mut scene = Scene::start(TlsProfile::Tls13)?;
    for vers in VERSIONS {
        let outcome = scene.watch(|scene| {
            body(scene, vers)?;
            scene.driver.nothing_is_left(CLEARED)
        });
        outcome.map_err(|failure| Failure::new(format!("vers={vers}: {failure}")))?;
    }
    Ok(())
}

fn staged_and_published(scene: &Scene, vers: &str) -> Result<(Volume, std::path::PathBuf)> {
    let volume = scene.volume("volume", Front::Good.domain(), vers);
    let target = scene.target("pod");
    scene.client.stage(&volume)?;
    scene.client.publish(&volume, &target, Access::ReadWrite)?;
    Ok((volume, target))
}

fn unpublished_and_unstaged(scene: &Scene, volume: &Volume, target: &Path) -> Result<()> {
    scene.client.unpublish(volume, target)?;
    scene.client.unstage(volume)?;
    Ok(())
}

fn comes_back_whole(target: &Path, before: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let file = target.join("data");
    let written = data::write(&file, BLOCKS, before)?;
    println!("the longest pause was {:.2} s", written.longest_pause.as_secs_f32());
    let found = data::hash_on_server(&file)?;
    fs::remove_file(file)?;
    ensure(found == written.hash, "what was read differs from what was written")
}

fn is_encrypted(profile: TlsProfile) -> Result<()> {
    let mut scene = Scene::start(profile)?;
    for vers in VERSIONS {
        scene.watch(|scene| {
            let folder = tempfile::tempdir()?;
            let capture = Capture::start(INTERFACE, folder.path())?;
            let (volume, target) = staged_and_published(scene, vers)?;
            comes_back_whole(&target, |_| Ok(()))?;
            unpublished_and_unstaged(scene, &volume, &target)?;
            shows_only_tls(&capture.stop()?)?;
            scene.driver.nothing_is_left(CLEARED)
        })?;
    }
    Ok(())
}

fn shows_only_tls(wire: &Wire) -> Result<()> {
    ensure(wire.len() > BLOCKS * data::BLOCK, "the capture holds less than was written")?;
    ensure(wire.tls_records() > 0, "the capture holds no TLS")?;
    ensure(!wire.holds(data::MARKER), "the marker went over the wire")?;
    let leaked = data::samples(BLOCKS).iter().any(|sample| wire.holds(sample));
    ensure(!leaked, "a sample went over the wire")
}

#[test]
fn data_comes_back_whole_and_encrypted_over_tls_1_3() -> Result<()> {
    is_encrypted(TlsProfile::Tls13)
}

#[test]
fn data_comes_back_whole_and_encrypted_over_tls_1_2_with_ecdhe() -> Result<()> {
    is_encrypted(TlsProfile::Tls12)
}

#[test]
fn a_capture_of_a_plain_connection_shows_the_data_so_the_search_can_find_it() -> Result<()> {
    let nas = Nas::start(TlsProfile::Tls13)?;
    let folder = tempfile::tempdir()?;
    let capture = Capture::start(INTERFACE, folder.path())?;
    let target = folder.path().join("mount");
    fs::create_dir(&target)?;
    let point = target.display().to_string();
    let source = format!("{}:/", Front::Plain.domain());
    let options = "vers=3,proto=tcp,port=2049,mountport=2049,nolock";
    let minute = Duration::from_secs(60);
    e2e::process::run(minute, "mount", &["-t", "nfs", "-o", options, &source, &point])?;
    let written = comes_back_whole(&target, |_| Ok(()));
    e2e::process::run(minute, "umount", &[&point])?;
    written?;
    let wire = capture.stop()?;
    ensure(wire.holds(data::MARKER), "the marker is not found where it must be")?;
    ensure(wire.holds(&data::samples(BLOCKS)[1]), "a sample is not found where it must be")?;
    ensure(wire.tls_records() == 0, "TLS is found where there is none")?;
    drop(nas);
    Ok(())
}

#[test]
fn every_call_may_be_repeated() -> Result<()> {
    for_each_version(|scene, vers| {
        let (volume, target) = staged_and_published(scene, vers)?;
        staged_and_published(scene, vers)?;
        let mounts = lab::mounts_below(&scene.driver.kubelet_dir())?;
        ensure(mounts.len() == 2, format!("one staged and one published mount: {mounts:?}"))?;
        for _ in 0..2 {
            scene.client.unpublish(&volume, &target)?;
        }
        for _ in 0..2 {
            scene.client.unstage(&volume)?;
        }
        Ok(())
    })
}

#[test]
fn of_two_stages_of_a_volume_at_once_one_is_aborted() -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    // Nobody answers there, so whichever call begins first is under way for long.
    let volume = scene.volume("volume", Front::SilentNfs.domain(), "3");
    let clients = [scene.driver.client()?, scene.driver.client()?];
    let codes = thread::scope(|scope| {
        let calls = clients.each_ref().map(|client| {
            let volume = &volume;
            scope.spawn(move || client.stage(volume).map_err(|status| status.code()))
        });
        calls.map(|call| call.join().unwrap_or(Ok(())))
    });
    let aborted = codes.iter().filter(|code| **code == Err(Code::Aborted)).count();
    ensure(aborted == 1 && !codes.contains(&Ok(())), format!("the answers are {codes:?}"))?;
    scene.driver.nothing_is_left(CLEARED)
}

#[test]
fn a_read_only_pod_cannot_write_what_another_pod_writes() -> Result<()> {
    for_each_version(|scene, vers| {
        let (volume, writer) = staged_and_published(scene, vers)?;
        let reader = scene.target("reader");
        scene.client.publish(&volume, &reader, Access::ReadOnly)?;
        fs::write(writer.join("file"), "seen")?;
        ensure(fs::read_to_string(reader.join("file"))? == "seen", "the reader sees the file")?;
        let refused = fs::write(reader.join("file"), "changed");
        let read_only =
            refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem);
        ensure(read_only, "the read-only pod was let write")?;
        fs::write(writer.join("file"), "still writable")?;
        fs::remove_file(writer.join("file"))?;
        scene.client.unpublish(&volume, &reader)?;
        unpublished_and_unstaged(scene, &volume, &writer)
    })
}

#[test]
fn stats_tell_the_size_of_the_file_system() -> Result<()> {
    for_each_version(|scene, vers| {
        let (volume, target) = staged_and_published(scene, vers)?;
        let usage = scene.client.stats(&volume, &target)?;
        let bytes = usage.iter().find(|usage| usage.unit == 1);
        ensure(
            bytes.is_some_and(|usage| usage.total > 0 && usage.available > 0),
            format!("sizes in bytes are missing: {usage:?}"),
        )?;
        unpublished_and_unstaged(scene, &volume, &target)
    })
}

#[test]
fn volumes_share_the_tunnel_of_their_mount_target_and_of_no_other() -> Result<()> {
    for_each_version(|scene, vers| {
        fs::create_dir_all(scene.nas.disk().join("a"))?;
        let good = Front::Good.domain();
        let volumes = [
            scene.volume("root", good, vers),
            scene.volume("part", good, vers).with("path", "/a"),
            scene.volume("other", Front::Second.domain(), vers),
        ];
        for volume in &volumes {
            scene.client.stage(volume)?;
        }
        let shared = scene.driver.address_of(good)?;
        let other = scene.driver.address_of(Front::Second.domain())?;
        ensure(shared != other, format!("two mount targets share {shared}"))?;
        let [root, part, third] = volumes.each_ref().map(|volume| mounted_by(&volume.staging));
        ensure(root? == shared && part? == shared, format!("two volumes on {shared}"))?;
        ensure(third? == other, format!("one volume on {other}"))?;
        scene.client.unstage(&volumes[0])?;
        ensure(scene.driver.address_of(good)? == shared, "the tunnel of a mount was closed")?;
        fs::read_dir(&volumes[1].staging)?;
        for volume in &volumes {
            scene.client.unstage(volume)?;
        }
        Ok(())
    })
}

/// The address that the mount at a path uses, as the kernel shows it.
fn mounted_by(path: &Path) -> Result<String> {
    let mounts = lab::mounts_below(path)?;
    let address = mounts.first().and_then(|mount| {
        mount.options.split(',').find_map(|option| option.strip_prefix("addr=").map(str::to_owned))
    });
    address.ok_or_else(|| Failure::new(format!("nothing is mounted at {}", path.display())))
}

#[test]
fn mounts_go_on_without_the_node_plugin_and_the_next_one_takes_them_down() -> Result<()> {
    for_each_version(|scene, vers| {
        let (volume, target) = staged_and_published(scene, vers)?;
        scene.driver.kill_node()?;
        comes_back_whole(&target, |_| Ok(()))?;
        scene.driver.start_node()?;
        unpublished_and_unstaged(scene, &volume, &target)
    })
}

#[test]
fn writes_go_on_when_the_tunnel_is_killed_and_keep_its_address() -> Result<()> {
    for_each_version(|scene, vers| {
        let (volume, target) = staged_and_published(scene, vers)?;
        let address = scene.driver.address_of(Front::Good.domain())?;
        let mut former = 0;
        comes_back_whole(&target, |number| {
            if number == BLOCKS / 2 {
                former = scene.driver.kill_tunnel()?;
            }
            Ok(())
        })?;
        scene.driver.wait_for_another_tunnel(former)?;
        ensure(scene.driver.address_of(Front::Good.domain())? == address, "the address moved")?;
        unpublished_and_unstaged(scene, &volume, &target)
    })
}

#[test]
fn writes_go_on_when_the_watchdog_is_killed_and_started_again() -> Result<()> {
    for_each_version(|scene, vers| {
        let (volume, target) = staged_and_published(scene, vers)?;
        let address = scene.driver.address_of(Front::Good.domain())?;
        scene.driver.kill_watchdog()?;
        scene.driver.start_watchdog()?;
        ensure(scene.driver.address_of(Front::Good.domain())? == address, "the address moved")?;
        comes_back_whole(&target, |_| Ok(()))?;
        unpublished_and_unstaged(scene, &volume, &target)
    })
}

#[test]
fn a_volume_is_taken_down_in_time_when_its_server_is_dead() -> Result<()> {
    let mut scene = Scene::start(TlsProfile::Tls13)?;
    for vers in VERSIONS {
        let (volume, target) = staged_and_published(&scene, vers)?;
        scene.nas.fall_silent()?;
        let start = Instant::now();
        let outcome = scene.watch(|scene| unpublished_and_unstaged(scene, &volume, &target));
        let took = start.elapsed();
        scene.nas.speak_again()?;
        outcome?;
        ensure(took < Duration::from_secs(110), format!("it took {} s", took.as_secs()))?;
        scene.driver.nothing_is_left(CLEARED)?;
    }
    Ok(())
}
