//! Volumes that the vendor's API makes, against its simulator, with data: what it makes is served over TLS by a real
//! NFSv3 server. The controller is a process of nobody's, without a capability.
//!
//! Needs root for the server, but no NFS in the kernel: it runs on the machine itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use alinas_csi::proto::csi;
use e2e::cloud::Cloud;
use e2e::cloud::NETWORK;
use e2e::cloud::file_system;
use e2e::cloud::file_system_id;
use e2e::driver::Driver;
use e2e::driver::binary;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::ganesha::Ganesha;
use e2e::ganesha::Target;
use e2e::openapi::Fault;
use e2e::openapi::Timing;
use e2e::process::Process;
use e2e::process::log_tail;
use e2e::process::wait_until;
use e2e::sidecar::GIB;
use e2e::sidecar::Sidecar;
use e2e::sidecar::claim;
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_file_system_is_made_for_a_claim_holds_its_data_and_is_removed_with_it() -> Result<()> {
    let nas = Ganesha::start()?;
    let cloud = Cloud::start(&nas, Timing::default())?;
    let controller = cloud.sidecar(&nas, "first", None)?;
    let request = || file_system("pvc-1", &[("dirMode", "0750"), ("uid", "1000")]);
    let volume = controller.made(request())?;
    println!("made {} at {}", volume.volume_id, volume.volume_context["server"]);
    let root = cloud.simulator.root_of(file_system_id(&volume)?);
    let found = fs::metadata(&root)?;
    ensure(
        (found.mode() & 0o7777, found.uid()) == (0o750, 1000),
        format!("{:o} {}", found.mode(), found.uid()),
    )?;
    ensure(volume.volume_context["path"] == "/", format!("{:?}", volume.volume_context))?;
    ensure(controller.made(request())? == volume, "asked again, it is another volume")?;
    ensure(controller.expand(&volume.volume_id, 2 * GIB)? == 2 * GIB, "no size noted")?;
    // Through its own mount target the file system takes data: a directory made there is in its folder.
    let inside =
        controller.made(claim("pvc-2", &[("server", &volume.volume_context["server"])]))?;
    ensure(root.join("pvc-2").is_dir(), "what is made by the mount target is not in its folder")?;
    fs::write(root.join("pvc-2/data"), "words")?;
    controller.delete(&inside.volume_id)?;
    ensure(!root.join("pvc-2").exists(), "the directory is still there")?;
    controller.delete(&volume.volume_id)?;
    ensure(
        cloud.simulator.file_systems() == 0 && !root.exists(),
        "the file system is still there",
    )?;
    controller.delete(&volume.volume_id)?;
    Ok(())
}

#[test]
fn a_controller_that_is_killed_at_any_moment_leaves_no_second_file_system_and_none_behind()
-> Result<()> {
    let nas = Ganesha::start()?;
    let cloud = Cloud::start(&nas, Timing::default())?;
    for (number, pause) in [0, 150, 400, 700, 1100, 1600].into_iter().enumerate() {
        let name = format!("pvc-{number}");
        let mut first = cloud.sidecar(&nas, &format!("first-{number}"), None)?;
        let mut client = first.client.clone();
        let request = file_system(&name, &[]);
        let call = first.runtime.spawn(async move { client.create_volume(request).await });
        thread::sleep(Duration::from_millis(pause));
        first.process.kill()?;
        drop(call);
        let before = cloud.simulator.file_systems();
        let next = cloud.sidecar(&nas, &format!("next-{number}"), None)?;
        let volume = next.made(file_system(&name, &[]))?;
        println!("killed after {pause} ms with {before} file systems; then {}", volume.volume_id);
        let held = (cloud.simulator.file_systems(), cloud.simulator.mount_targets());
        ensure(held == (1, 1), format!("{held:?} after {pause} ms"))?;
        next.delete(&volume.volume_id)?;
        ensure(cloud.simulator.file_systems() == 0, "a file system is left")?;
    }
    Ok(())
}

#[test]
fn the_size_of_a_claim_is_a_quota_of_its_directory_that_grows_and_goes_with_it() -> Result<()> {
    let nas = Ganesha::start()?;
    let cloud = Cloud::start(&nas, Timing::default())?;
    cloud.adopt_disk("0123456789")?;
    let controller = cloud.sidecar(&nas, "first", None)?;
    let class = [("server", Target::Good.domain()), ("volumeCapacity", "true")];
    let mut request = claim("pvc-1", &class);
    request.capacity_range = Some(csi::CapacityRange { required_bytes: GIB + 1, limit_bytes: 0 });
    let volume = controller.made(request)?;
    ensure(volume.capacity_bytes == 2 * GIB, format!("{} bytes", volume.capacity_bytes))?;
    let quotas = || cloud.simulator.quotas();
    ensure(quotas() == [("/pvc-1".to_owned(), Some(2))], format!("{:?}", quotas()))?;
    ensure(controller.expand(&volume.volume_id, 5 * GIB)? == 5 * GIB, "another size")?;
    ensure(quotas() == [("/pvc-1".to_owned(), Some(5))], format!("{:?}", quotas()))?;
    controller.delete(&volume.volume_id)?;
    ensure(quotas().is_empty(), format!("{:?}", quotas()))?;
    ensure(!nas.disk().join("pvc-1").exists(), "the directory is still there")
}

#[test]
fn an_access_point_leads_to_a_directory_of_its_own_which_stays() -> Result<()> {
    let nas = Ganesha::start()?;
    let cloud = Cloud::start(&nas, Timing::default())?;
    let controller = cloud.sidecar(&nas, "first", None)?;
    let whole = controller.made(file_system("pvc-1", &[]))?;
    let id = file_system_id(&whole)?;
    let class = [("volumeAs", "accesspoint"), ("fileSystemId", id), ("path", "/k8s")];
    let owner = [("uid", "1000"), ("gid", "2000"), ("dirMode", "0770")];
    let all = [&class[..], &NETWORK, &owner].concat();
    // An answer that is lost, and whoever asks again looks first.
    cloud.simulator.fail("CreateAccessPoint", 1, Fault::DropAnswer);
    let lost = controller.refusal(claim("pvc-2", &all))?;
    ensure(lost.code() == Code::Unavailable, format!("{lost:?}"))?;
    let volume = controller.made(claim("pvc-2", &all))?;
    println!("made {} at {}", volume.volume_id, volume.volume_context["server"]);
    ensure(cloud.simulator.access_points() == 1, "a second one was made")?;
    let root = cloud.simulator.root_of(id).join("k8s/pvc-2");
    let found = fs::metadata(&root)?;
    let owner = (found.mode() & 0o7777, found.uid(), found.gid());
    ensure(owner == (0o770, 1000, 2000), format!("{owner:?}"))?;
    // It can be mounted: whoever shares it as a directory is let in.
    let server = &volume.volume_context["server"];
    let shared =
        controller.made(claim("pvc-3", &[("volumeAs", "sharepath"), ("server", server)]))?;
    controller.delete(&shared.volume_id)?;
    controller.delete(&volume.volume_id)?;
    controller.delete(&volume.volume_id)?;
    ensure(cloud.simulator.access_points() == 0, "the access point is still there")?;
    ensure(root.is_dir(), "its directory is gone")
}

#[test]
fn what_the_api_does_not_allow_is_one_sentence_with_what_to_grant() -> Result<()> {
    let nas = Ganesha::start()?;
    let cloud = Cloud::start(&nas, Timing::default())?;
    let plain = Sidecar::of(nas.enter(&binary()?), nas.folder(), "plain", &cloud.trust)?;
    let status = plain.refusal(file_system("pvc-1", &[]))?;
    let said = ["--nas-region", "nas:CreateFileSystem", "deploy/ram-policy.json"];
    ensure(status.code() == Code::FailedPrecondition, format!("{status:?}"))?;
    ensure(said.iter().all(|said| status.message().contains(said)), status.message())?;
    plain.made(claim("pvc-2", &[("server", Target::Good.domain())]))?;
    let mut program = nas.enter(&binary()?);
    cloud.set_up(&mut program);
    program.env_remove("ALIBABA_CLOUD_ACCESS_KEY_ID");
    program.env_remove("ALIBABA_CLOUD_ACCESS_KEY_SECRET");
    let nobody = Sidecar::of(program, nas.folder(), "nobody", &cloud.trust)?;
    let status = nobody.refusal(file_system("pvc-1", &[]))?;
    ensure(status.code() == Code::FailedPrecondition, format!("{status:?}"))?;
    let said = ["ALIBABA_CLOUD_ACCESS_KEY_ID is not set", "nas:CreateFileSystem"];
    ensure(said.iter().all(|said| status.message().contains(said)), status.message())?;
    cloud.simulator.deny(e2e::cloud::KEY.0, "nas:CreateMountTarget");
    let controller = cloud.sidecar(&nas, "first", None)?;
    let status = controller.refusal(file_system("pvc-1", &[]))?;
    // The file system has been made, so nobody may forget it.
    ensure(status.code() == Code::Unavailable, format!("{status:?}"))?;
    ensure(status.message().contains("grant nas:CreateMountTarget"), status.message())?;
    let elsewhere = controller.refusal(file_system("pvc-3", &[("regionId", "cn-hangzhou")]))?;
    ensure(elsewhere.message().contains("cn-test alone"), elsewhere.message())
}

#[test]
fn the_api_is_trusted_by_the_roots_of_this_moment_without_a_restart() -> Result<()> {
    let nas = Ganesha::start()?;
    let cloud = Cloud::start(&nas, Timing::default())?;
    let (root, away) = (cloud.trust.join("1.pem"), nas.folder().join("away.pem"));
    fs::rename(&root, &away)?;
    let controller = cloud.sidecar(&nas, "first", None)?;
    let request = || file_system("pvc-1", &[]);
    let asked = || controller.create(request()).map_err(|status| status.message().to_owned());
    let is_distrusted = || asked().is_err_and(|said| said.contains("certificate"));
    ensure(is_distrusted(), "what nobody vouches for is trusted")?;
    fs::rename(&away, &root)?;
    wait_until("a root that is added is in force", MINUTE, || asked().is_ok())?;
    fs::rename(&root, &away)?;
    wait_until("a root that is taken away is not", MINUTE, is_distrusted)
}

#[test]
fn the_controller_specs_of_csi_sanity_pass_with_file_systems() -> Result<()> {
    let nas = Ganesha::start()?;
    let cloud = Cloud::start(&nas, Timing::default())?;
    let controller = cloud.sidecar(&nas, "first", None)?;
    let driver = Driver::start(nas.ca_file())?;
    let sanity = std::env::var_os("ALINAS_CSI_SANITY")
        .ok_or_else(|| Failure::new("set ALINAS_CSI_SANITY to the csi-sanity binary"))?;
    let folder = nas.folder();
    let parameters = "volumeAs: filesystem\nonDelete: delete\nvpcId: vpc-1\nvSwitchId: vsw-1\n";
    fs::write(folder.join("parameters.yaml"), parameters)?;
    let (report, log) = (folder.join("report.json"), folder.join("sanity.log"));
    let mut command = Command::new(sanity);
    command
        .arg(format!("-csi.endpoint=unix://{}", driver.csi_socket().display()))
        .arg(format!("-csi.controllerendpoint=unix://{}", controller.socket.display()))
        .arg(format!("-csi.mountdir={}", folder.join("mount").display()))
        .arg(format!("-csi.stagingdir={}", folder.join("staging").display()))
        .arg(format!("-csi.testvolumeparameters={}", folder.join("parameters.yaml").display()))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .args(["--ginkgo.focus=Controller Service|Identity Service", "--ginkgo.no-color"])
        // Directories are copied; a file system is not (docs/storageclass.md).
        .arg("--ginkgo.skip=from an existing source");
    let mut suite = Process::start("csi-sanity", &mut command, &log)?;
    let ended = suite.wait_for_end(10 * MINUTE);
    let text = fs::read_to_string(&log).unwrap_or_default();
    println!("{}", log_tail(&log));
    ended.map_err(|failure| Failure::new(format!("{failure}\n{text}")))?;
    wait_until("nothing is left", MINUTE, || cloud.simulator.file_systems() == 0)
}
