//! The controller against a real NFSv3 server behind stunnel: as nobody, without a capability.
//!
//! Needs root for the server, but no NFS in the kernel: it runs on the machine itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use alinas_csi::proto::csi;
use e2e::driver::Driver;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::ganesha::Ganesha;
use e2e::ganesha::Target;
use e2e::process::Process;
use e2e::process::log_tail;
use e2e::sanity::Counts;
use e2e::sidecar::GIB;
use e2e::sidecar::SWEPT;
use e2e::sidecar::Sidecar;
use e2e::sidecar::trash;
use e2e::sidecar::wanted;
use e2e::small_cluster::SmallCluster;
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);

/// A tree with everything that is hard to remove, and links that lead out of it.
fn plant(directory: &Path, outside: &Path) -> Result<()> {
    let mut deep = directory.to_owned();
    for level in 0..60 {
        deep.push(format!("level {level}"));
        fs::create_dir(&deep)?;
        fs::write(deep.join("leaf\n\u{fffd}"), "x")?;
    }
    symlink(outside, deep.join("out"))?;
    symlink("..", deep.join("up"))?;
    let wide = directory.join("wide");
    fs::create_dir(&wide)?;
    for number in 0..1500 {
        fs::write(wide.join(format!("a rather long name of a file {number}")), "")?;
    }
    let closed = directory.join("closed");
    fs::create_dir(&closed)?;
    fs::write(closed.join("within"), "")?;
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o000))?;
    Ok(())
}

#[test]
fn a_volume_is_made_and_removed_by_a_process_without_any_right() -> Result<()> {
    let nas = Ganesha::start()?;
    let controller = Sidecar::start(&nas, "first")?;
    let status = fs::read_to_string(format!("/proc/{}/status", controller.process.id()))?;
    for line in ["Uid:\t65534", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        ensure(status.contains(line), format!("{line:?} is not in {status}"))?;
    }
    let parameters =
        [("dirMode", "0750"), ("uid", "1000"), ("gid", "2000"), ("onDelete", "delete")];
    let request = || wanted("pvc-1", &parameters);
    let volume = controller.create(request())?;
    println!("made {}", volume.volume_id);
    let directory = nas.disk().join("pvc-1");
    let found = fs::metadata(&directory)?;
    ensure(
        (found.mode() & 0o7777, found.uid(), found.gid()) == (0o750, 1000, 2000),
        format!("{:o} {}:{}", found.mode(), found.uid(), found.gid()),
    )?;
    ensure(volume.capacity_bytes == GIB, "another size")?;
    ensure(volume.volume_context["path"] == "/pvc-1", format!("{:?}", volume.volume_context))?;
    ensure(volume.volume_context["server"] == Target::Good.domain(), "not the domain")?;
    ensure(controller.create(request())? == volume, "asked again, it is another volume")?;
    let mut larger = request();
    larger.capacity_range = Some(csi::CapacityRange { required_bytes: 2 * GIB, limit_bytes: 0 });
    ensure(controller.refusal(larger)?.code() == Code::AlreadyExists, "a size that it has not")?;
    let outside = nas.disk().join("outside");
    fs::create_dir(&outside)?;
    fs::write(outside.join("precious"), "words")?;
    plant(&directory, &outside)?;
    controller.delete(&volume.volume_id)?;
    ensure(!directory.exists(), "the directory is still there")?;
    controller.wait_for_empty_trash(&nas, SWEPT)?;
    ensure(fs::read_to_string(outside.join("precious"))? == "words", "a link was followed")?;
    controller.delete(&volume.volume_id)?;
    let records = fs::read_dir(nas.disk().join(".alinas-csi/volumes"))?.count();
    ensure(records == 0, "a record is left")
}

#[test]
fn data_are_archived_or_left_where_the_class_says_so() -> Result<()> {
    let nas = Ganesha::start()?;
    fs::create_dir(nas.disk().join("k8s"))?;
    let controller = Sidecar::start(&nas, "first")?;
    let of = |name: &str, key: &str, value: &str| wanted(name, &[("path", "/k8s"), (key, value)]);
    // What a class of the vendor's driver means that says nothing.
    let archived = controller.create(of("pvc-1", "onDelete", ""))?;
    let retained = controller.create(of("pvc-2", "onDelete", "retain"))?;
    for volume in ["pvc-1", "pvc-2"] {
        fs::write(nas.disk().join("k8s").join(volume).join("file"), volume)?;
    }
    controller.delete(&archived.volume_id)?;
    controller.delete(&retained.volume_id)?;
    let mut names: Vec<String> = fs::read_dir(nas.disk().join("k8s"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    let [_, archive, retained] = &names[..] else {
        return Err(Failure::new(format!("{names:?}")));
    };
    ensure(archive.starts_with("archived-pvc-1."), archive.as_str())?;
    ensure(retained == "pvc-2", retained.as_str())?;
    let kept = fs::read_to_string(nas.disk().join("k8s").join(archive).join("file"))?;
    ensure(kept == "pvc-1", "other data")
}

#[test]
fn each_mistake_of_a_class_is_one_sentence() -> Result<()> {
    let nas = Ganesha::start()?;
    fs::create_dir_all(nas.disk().join("occupied"))?;
    fs::write(nas.disk().join("occupied/data"), "somebody's")?;
    symlink("/", nas.disk().join("link"))?;
    let controller = Sidecar::start(&nas, "first")?;
    for (name, parameters, code, said) in [
        ("no-name", vec![("server", "0-nil.cn-x.nas.aliyuncs.com")], Code::Unavailable, "resolve"),
        (
            "closed",
            vec![("server", Target::Closed.domain())],
            Code::Unavailable,
            "connection refused",
        ),
        (
            "untrusted",
            vec![("server", Target::Untrusted.domain())],
            Code::FailedPrecondition,
            "certificate",
        ),
        (
            "wrong-name",
            vec![("server", Target::WrongName.domain())],
            Code::FailedPrecondition,
            "elsewhere.test",
        ),
        ("no-path", vec![("path", "/nowhere")], Code::FailedPrecondition, "no directory /nowhere"),
        ("a-link", vec![("nameTemplate", "link")], Code::FailedPrecondition, "symbolic link"),
        (
            "taken",
            vec![("nameTemplate", "occupied")],
            Code::FailedPrecondition,
            "belongs to no volume",
        ),
        ("unknown-key", vec![("pth", "/")], Code::InvalidArgument, "did you mean \"path\"?"),
    ] {
        let status = controller.refusal(wanted(name, &parameters))?;
        let message = status.message();
        ensure(status.code() == code && message.contains(said), format!("{name}: {status:?}"))?;
    }
    ensure(nas.disk().join("occupied/data").exists(), "somebody's data are gone")?;
    let answers = format!("{},{}", Target::Closed.domain(), Target::Second.domain());
    let volume = controller.create(wanted("pvc-1", &[("server", &answers)]))?;
    let server = &volume.volume_context["server"];
    ensure(server == Target::Second.domain(), "one that does not answer is passed over")
}

#[test]
fn what_a_killed_controller_has_left_in_the_trash_is_removed_by_the_next_one() -> Result<()> {
    let nas = Ganesha::start()?;
    let mut controller = Sidecar::start(&nas, "first")?;
    let volume = controller.create(wanted("pvc-1", &[("onDelete", "delete")]))?;
    let directory = nas.disk().join("pvc-1");
    for folder in 0..40 {
        let folder = directory.join(folder.to_string());
        fs::create_dir(&folder)?;
        for file in 0..200 {
            fs::write(folder.join(file.to_string()), "")?;
        }
    }
    controller.delete(&volume.volume_id)?;
    controller.process.kill()?;
    ensure(!trash(&nas)?.is_empty(), "it was too fast to be killed under way")?;
    let next = Sidecar::start(&nas, "second")?;
    next.create(wanted("pvc-2", &[]))?;
    next.wait_for_empty_trash(&nas, SWEPT)?;
    ensure(nas.disk().join("pvc-2").is_dir(), "the other volume is gone")
}

#[test]
fn five_hundred_volumes_are_made_at_once_within_a_minute() -> Result<()> {
    const COUNT: usize = 500;
    let nas = Ganesha::start()?;
    let controller = Sidecar::start(&nas, "first")?;
    let start = Instant::now();
    let made = controller.runtime.block_on(async {
        let calls = (0..COUNT).map(|number| {
            let mut client = controller.client.clone();
            let request = wanted(&format!("pvc-{number}"), &[]);
            tokio::spawn(async move { client.create_volume(request).await })
        });
        let calls: Vec<_> = calls.collect();
        let mut made = 0;
        for call in calls {
            match call.await {
                Ok(Ok(_)) => made += 1,
                Ok(Err(status)) => return Err(Failure::new(status.to_string())),
                Err(error) => return Err(Failure::new(error.to_string())),
            }
        }
        Ok(made)
    })?;
    let took = start.elapsed();
    println!("{made} volumes in {} ms", took.as_millis());
    ensure(made == COUNT && took < MINUTE, format!("{made} in {took:?}"))
}

#[test]
fn the_controller_specs_of_csi_sanity_pass() -> Result<()> {
    let nas = Ganesha::start()?;
    // Volumes are listed only where a cluster says which there are.
    let cluster = SmallCluster::beside(&nas)?;
    let _controller = cluster.controller(&nas, "first")?;
    let driver = Driver::start(nas.ca_file())?;
    let sanity = std::env::var_os("ALINAS_CSI_SANITY")
        .ok_or_else(|| Failure::new("set ALINAS_CSI_SANITY to the csi-sanity binary"))?;
    let folder = nas.folder();
    fs::write(folder.join("parameters.yaml"), format!("server: {}\n", Target::Good.domain()))?;
    fs::write(folder.join("changes.yaml"), "onDelete: delete\n")?;
    let (report, log) = (folder.join("report.json"), folder.join("sanity.log"));
    let mut command = Command::new(sanity);
    command
        .arg(format!("-csi.endpoint=unix://{}", driver.csi_socket().display()))
        .arg(format!("-csi.controllerendpoint=unix://{}", folder.join("first/csi.sock").display()))
        .arg(format!("-csi.mountdir={}", folder.join("mount").display()))
        .arg(format!("-csi.stagingdir={}", folder.join("staging").display()))
        .arg(format!("-csi.testvolumeparameters={}", folder.join("parameters.yaml").display()))
        .arg(format!("-csi.testvolumemutableparameters={}", folder.join("changes.yaml").display()))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .arg("--ginkgo.focus=Controller Service|Identity Service|Controller Server")
        .arg("--ginkgo.no-color");
    let mut suite = Process::start("csi-sanity", &mut command, &log)?;
    let ended = suite.wait_for_end(10 * MINUTE);
    let text = fs::read_to_string(&log).unwrap_or_default();
    println!("{}", log_tail(&log));
    ended.map_err(|failure| Failure::new(format!("{failure}\n{text}")))?;
    let counts = Counts::read(&report)?;
    println!("csi-sanity: {}", counts.sentence());
    ensure(counts.passed >= 58, format!("only {} specs passed", counts.passed))?;
    counts.ensure_nothing_announced_is_skipped()
}
