//! Clones and snapshots on a real NFSv3 server that we did not write: everything about a file is kept.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::fs::lchown;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::ganesha::Ganesha;
use e2e::ganesha::Target;
use e2e::listing;
use e2e::process;
use e2e::process::wait_until;
use e2e::sidecar::GIB;
use e2e::sidecar::SWEPT;
use e2e::sidecar::Sidecar;
use e2e::sidecar::copy_of;
use e2e::sidecar::wanted;
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

/// One of each kind that a file system has.
fn plant(directory: &Path) -> Result<()> {
    let folder = directory.join("a folder");
    fs::create_dir(&folder)?;
    for (name, mode) in [("plain", 0o640), ("set-uid", 0o6755), ("nobody's", 0o000)] {
        let file = folder.join(name);
        fs::write(&file, name)?;
        chown(&file, Some(1234), Some(5678))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    }
    let long: Vec<u8> = (0..3 * MIB).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    fs::write(folder.join("long"), &long)?;
    fs::hard_link(folder.join("long"), directory.join("another name of it"))?;
    fs::hard_link(folder.join("long"), directory.join("and another"))?;
    let sparse = fs::File::create(folder.join("sparse"))?;
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"words", 40 * 1024 * 1024)?;
    sparse.set_len(64 * 1024 * 1024)?;
    symlink("/etc/passwd", directory.join("out"))?;
    symlink("nowhere\u{fffd}", folder.join("broken"))?;
    lchown(directory.join("out"), Some(1234), Some(5678))?;
    let pipe = folder.join("pipe").display().to_string();
    process::run(MINUTE, "mkfifo", &["--mode=0620", &pipe])?;
    let device = folder.join("device").display().to_string();
    process::run(MINUTE, "mknod", &[&device, "c", "1", "3"])?;
    let mut deep = directory.to_owned();
    for level in 0..30 {
        deep.push(format!("level {level}"));
        fs::create_dir(&deep)?;
        fs::write(deep.join("leaf\n"), "x")?;
    }
    let wide = directory.join("wide");
    fs::create_dir(&wide)?;
    for number in 0..1500 {
        fs::write(wide.join(format!("a rather long name of a file {number}")), "x")?;
    }
    let old = fs::FileTimes::new()
        .set_accessed(std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 1))
        .set_modified(std::time::UNIX_EPOCH + Duration::new(1_100_000_000, 987_654_321));
    fs::File::open(folder.join("plain"))?.set_times(old)?;
    fs::File::open(&wide)?.set_times(old)?;
    Ok(())
}

fn is_same(copy: &Path, source: &Path) -> Result<()> {
    let (held, wanted) = (listing::of(copy)?, listing::of(source)?);
    let differs: Vec<_> =
        held.iter().zip(&wanted).filter(|(held, wanted)| held != wanted).take(5).collect();
    let said = format!("{} entries of {}: {differs:#?}", held.len(), wanted.len());
    ensure(held == wanted, said)
}

#[test]
fn a_clone_and_a_restored_snapshot_have_everything_that_their_volume_had() -> Result<()> {
    let nas = Ganesha::start()?;
    let controller = Sidecar::start(&nas, "first")?;
    let source = controller.create(wanted("pvc-1", &[("onDelete", "delete")]))?;
    let disk = nas.disk();
    plant(&disk.join("pvc-1"))?;
    let request = copy_of(&source.volume_id, wanted("pvc-2", &[("dirMode", "0700")]));
    let clone = controller.create_patiently(&request)?;
    ensure(clone.content_source == request.volume_content_source, "it does not say its source")?;
    is_same(&disk.join("pvc-2"), &disk.join("pvc-1"))?;
    let found = fs::metadata(disk.join("pvc-2"))?;
    ensure(found.mode() & 0o7777 == 0o700, "the class says its mode")?;
    let sparse = fs::metadata(disk.join("pvc-2/a folder/sparse"))?;
    ensure(sparse.blocks() * 512 < 2 * 1024 * 1024, format!("{} blocks", sparse.blocks()))?;
    let named_twice = fs::metadata(disk.join("pvc-2/another name of it"))?;
    controller.wait_for_empty_trash(&nas, SWEPT)?;
    ensure(named_twice.nlink() >= 3, "it has one name")?;

    let snapshot = controller.snapshot_patiently("snapshot-1", &source.volume_id)?;
    ensure(snapshot.size_bytes == GIB, format!("{snapshot:?}"))?;
    let before = listing::of(&disk.join("pvc-1"))?;
    fs::write(disk.join("pvc-1/a folder/plain"), "changed since")?;
    controller.delete(&source.volume_id)?;
    let elsewhere = [("server", Target::Second.domain())];
    let request = copy_of(&snapshot.snapshot_id, wanted("pvc-3", &elsewhere));
    controller.create_patiently(&request)?;
    ensure(listing::of(&disk.join("pvc-3"))? == before, "it is not as it was")?;
    controller.delete_snapshot(&snapshot.snapshot_id)?;
    controller.wait_for_empty_trash(&nas, SWEPT)?;
    ensure(listing::of(&disk.join("pvc-3"))? == before, "it went with its snapshot")?;
    let request = copy_of(&snapshot.snapshot_id, wanted("pvc-4", &[]));
    let refused = controller.refusal(request)?;
    ensure(refused.code() == Code::NotFound, format!("{refused:?}"))
}

#[test]
fn the_room_the_health_and_the_archive_policy_of_a_volume_are_what_its_file_system_says()
-> Result<()> {
    let nas = Ganesha::start()?;
    let controller = Sidecar::start(&nas, "first")?;
    let volume = controller.create(wanted("pvc-1", &[]))?;
    let class = wanted("pvc-1", &[("nameTemplate", "${pvc.metadata.name}")]).parameters;
    let room = controller.room(class)?;
    let disk = rustix::fs::statvfs(nas.disk())?;
    let free = i64::try_from(disk.f_bavail * disk.f_frsize)?;
    ensure((room - free).abs() < free / 10, format!("{room} bytes, not {free}"))?;
    ensure(controller.room(std::collections::HashMap::new())? == 0, "room without a class")?;
    let healthy = controller.health(&volume.volume_id)?;
    ensure(healthy.health_statuses.is_empty(), format!("{healthy:?}"))?;
    let expanded = controller.expand(&volume.volume_id, 3 * GIB)?;
    ensure(expanded == 3 * GIB, format!("{expanded} bytes"))?;
    controller.modify(&volume.volume_id, "ondelete", "retain")?;
    let refused = controller.modify(&volume.volume_id, "onDelte", "delete");
    let refused = refused.err().map(|status| (status.code(), status.message().to_owned()));
    ensure(
        refused.as_ref().is_some_and(|(code, said)| {
            *code == Code::InvalidArgument && said.contains("did you mean \"onDelete\"?")
        }),
        format!("{refused:?}"),
    )?;
    fs::remove_dir(nas.disk().join("pvc-1"))?;
    // The server believes what it remembers of its own disk for a minute.
    wait_until("the loss is seen", 3 * MINUTE, || {
        let found = controller.health(&volume.volume_id).map(|health| health.health_statuses);
        found.is_ok_and(|found| found.iter().any(|status| status.reason == "DirectoryLost"))
    })
}

#[test]
fn a_copy_that_takes_long_says_how_far_it_is_and_ends_with_its_volume() -> Result<()> {
    let nas = Ganesha::start()?;
    let controller = Sidecar::start(&nas, "first")?;
    let source = controller.create(wanted("pvc-1", &[("onDelete", "delete")]))?;
    // Long enough for the first answer to come before its end, or a fast machine copies it at once.
    let folder = nas.disk().join("pvc-1/wide");
    fs::create_dir(&folder)?;
    for number in 0..30_000 {
        fs::write(folder.join(number.to_string()), "x")?;
    }
    let request = copy_of(&source.volume_id, wanted("pvc-2", &[("onDelete", "delete")]));
    let start = Instant::now();
    match controller.create(request) {
        Ok(_) => println!("copied within {:?}", start.elapsed()),
        Err(status) => {
            println!("{:?}: {}", status.code(), status.message());
            ensure(status.code() == Code::Aborted, format!("{status:?}"))?;
            ensure(status.message().contains("files and"), format!("{status:?}"))?;
            ensure(!nas.disk().join("pvc-2").exists(), "it is shown before it is whole")?;
        }
    }
    let id = source.volume_id.replace("pvc-1", "pvc-2");
    controller.delete(&id)?;
    ensure(!nas.disk().join("pvc-2").exists(), "it is still there")?;
    let copies = nas.disk().join(".alinas-csi/copies");
    let is_empty = || fs::read_dir(&copies).is_ok_and(|mut left| left.next().is_none());
    wait_until("the place of work is gone", MINUTE, is_empty)?;
    controller.wait_for_empty_trash(&nas, 4 * SWEPT)
}

/// The size of a tree that is removed: ALINAS_CSI_FILES says how many files, 20,000 if it says nothing.
#[test]
fn a_large_tree_is_removed_in_the_background_with_the_memory_of_a_small_one() -> Result<()> {
    const GROWTH: u64 = 12 << 20;
    let files: usize = match std::env::var("ALINAS_CSI_FILES") {
        Ok(text) => text.parse()?,
        Err(_) => 20_000,
    };
    let nas = Ganesha::start()?;
    let controller = Sidecar::start(&nas, "first")?;
    let small = controller.create(wanted("pvc-0", &[("onDelete", "delete")]))?;
    fs::write(nas.disk().join("pvc-0/file"), "x")?;
    controller.delete(&small.volume_id)?;
    controller.wait_for_empty_trash(&nas, SWEPT)?;
    let volume = controller.create(wanted("pvc-1", &[("onDelete", "delete")]))?;
    // Half of them in one directory, the others a hundred in each.
    let directory = nas.disk().join("pvc-1");
    fs::create_dir(directory.join("wide"))?;
    for number in 0..files / 2 {
        fs::write(directory.join("wide").join(number.to_string()), "")?;
    }
    for number in 0..files / 2 {
        let folder = directory.join(format!("deep/{}/{}", number / 10_000, number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&folder)?;
        }
        fs::write(folder.join(number.to_string()), "")?;
    }
    let before = controller.memory()?;
    let start = Instant::now();
    controller.delete(&volume.volume_id)?;
    let answered = start.elapsed();
    let mut most = before;
    let deadline = MINUTE * u32::try_from(files / 10_000 + 2)?;
    let trash = nas.disk().join(".alinas-csi/trash");
    wait_until("the trash is empty", deadline, || {
        most = most.max(controller.memory().unwrap_or(u64::MAX));
        fs::read_dir(&trash).is_ok_and(|mut left| left.next().is_none())
    })?;
    let took = start.elapsed();
    println!(
        "{files} files: answered after {} ms, removed after {:.1} s ({:.0} a second); memory {:.1} MiB before, {:.1} MiB at most",
        answered.as_millis(),
        took.as_secs_f64(),
        f64::from(u32::try_from(files)?) / took.as_secs_f64(),
        mib(before),
        mib(most),
    );
    ensure(answered < Duration::from_secs(10), "deleting is one renaming")?;
    ensure(most < before + GROWTH, format!("{before} bytes before, {most} at most"))
}

fn mib(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}
