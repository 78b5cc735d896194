//! csi-sanity, the suite of our peers, against the real node plugin and real mounts.
//!
//! `ALINAS_CSI_SANITY` names its binary; without it this fails, as nothing is skipped in silence.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::controller::Controller;
use e2e::controller::as_nobody;
use e2e::driver::binary;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::nas::Front;
use e2e::nas::TlsProfile;
use e2e::process::Process;
use e2e::process::log_tail;
use e2e::provisioner::Provisioner;
use e2e::sanity::Counts;
use e2e::scene::Scene;

const DEADLINE: Duration = Duration::from_secs(900);

#[test]
fn the_identity_specs_of_csi_sanity_pass() -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    let counts = sanity(&scene, &scene.driver.csi_socket(), "Identity Service", &[])?;
    ensure(counts.passed == 3, format!("{} specs passed", counts.passed))
}

#[test]
fn the_node_specs_of_csi_sanity_pass_over_nfs_3() -> Result<()> {
    node_specs("3")
}

#[test]
fn the_node_specs_of_csi_sanity_pass_over_nfs_4_0() -> Result<()> {
    node_specs("4.0")
}

/// The node mounts what the controller has made.
#[test]
fn both_sockets_of_the_driver_pass_every_spec_of_what_they_announce() -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    let folder = tempfile::Builder::new().prefix("alinas-csi-sanity.").tempdir()?;
    // For nobody, who makes his socket in there.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let program = as_nobody(&binary()?);
    let controller = Controller::start(program, folder.path(), "controller", scene.nas.ca_file())?;
    let parameters = folder.path().join("parameters.yaml");
    fs::write(&parameters, format!("server: {}\n", Front::Good.domain()))?;
    let changes = folder.path().join("changes.yaml");
    fs::write(&changes, "onDelete: delete\n")?;
    let more = [
        format!("-csi.controllerendpoint=unix://{}", controller.socket.display()),
        format!("-csi.testvolumeparameters={}", parameters.display()),
        format!("-csi.testvolumemutableparameters={}", changes.display()),
    ];
    let focus = "Service|Controller Server";
    let counts = sanity(&scene, &scene.driver.csi_socket(), focus, &more);
    let counts = counts
        .map_err(|failure| Failure::new(format!("{failure}\n{}", log_tail(&controller.log))))?;
    ensure(counts.passed >= 66, format!("only {} specs passed", counts.passed))?;
    counts.ensure_nothing_announced_is_skipped()
}

fn node_specs(vers: &str) -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("plugin.sock");
    let driver = scene.driver.csi_socket();
    let disk = scene.nas.disk();
    let _provisioner = Provisioner::start(&socket, &driver, disk, Front::Good.domain(), vers)?;
    let counts = sanity(&scene, &socket, "Node Service", &[])?;
    // A focus that matches nothing would pass, too; and the two specs of a volume's whole life are
    // skipped where there seems to be no controller.
    ensure(counts.passed >= 20, format!("only {} specs passed", counts.passed))?;
    let whole_life = counts.skipped.iter().any(|name| name.contains("should work: "));
    ensure(!whole_life, format!("skipped: {:#?}", counts.skipped))
}

/// Runs the specs that a focus names. A failed one is an error, with the logs.
fn sanity(scene: &Scene, socket: &Path, focus: &str, more: &[String]) -> Result<Counts> {
    let binary = std::env::var_os("ALINAS_CSI_SANITY")
        .map(PathBuf::from)
        .ok_or_else(|| Failure::new("set ALINAS_CSI_SANITY to the csi-sanity binary"))?;
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report.json");
    let log = folder.path().join("sanity.log");
    let mut command = Command::new(&binary);
    command
        .arg(format!("-csi.endpoint=unix://{}", socket.display()))
        .arg(format!("-csi.mountdir={}", folder.path().join("mount").display()))
        .arg(format!("-csi.stagingdir={}", folder.path().join("staging").display()))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .arg(format!("--ginkgo.focus={focus}"))
        .arg("--ginkgo.no-color")
        .args(more);
    let mut suite = Process::start("csi-sanity", &mut command, &log)?;
    let ended = suite.wait_for_end(DEADLINE);
    let counts = Counts::read(&report).map_err(|failure| {
        Failure::new(format!("{failure}; csi-sanity: {ended:?}\n{}", log_tail(&log)))
    })?;
    println!("csi-sanity, {focus}: {}", counts.sentence());
    let logs = format!("{}\n{}", log_tail(&log), scene.driver.logs());
    ensure(counts.failed.is_empty(), format!("failed: {:#?}\n{logs}", counts.failed))?;
    ended?;
    Ok(counts)
}
