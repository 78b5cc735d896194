//! What NodeStageVolume costs beside the mount that it makes.
//!
//! Prints medians over many stages of a volume whose tunnel is open already, next to those of the bare
//! mount(2) with the same options by way of the same tunnel. Their difference is ours: the call itself, the
//! records, the probe of the mount target. Figures of an emulated guest only compare with each other, so where
//! the kernel has no NFS, [`native`] measures all but the mount itself.

mod native;

use std::ffi::CString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use clap::Parser;
use e2e::driver::PROXY_PORT;
use e2e::failure::During;
use e2e::failure::Result;
use e2e::nas::Front;
use e2e::nas::TlsProfile;
use e2e::scene::Scene;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;

#[derive(Parser)]
struct Arguments {
    /// How many stages and how many bare mounts are measured, for each version.
    #[arg(long, default_value_t = 25)]
    times: u32,
}

fn main() -> ExitCode {
    let times = Arguments::parse().times;
    let measured = if kernel_has_nfs() { measure(times) } else { native::measure(times) };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stage_cost: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn kernel_has_nfs() -> bool {
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("nfs"))
}

fn measure(times: u32) -> Result<()> {
    let scene = Scene::start(TlsProfile::Tls13)?;
    let domain = Front::Good.domain();
    for vers in ["3", "4.0"] {
        // Keeps the tunnel open, as any other volume of the mount target would.
        let holder = scene.volume("holder", domain, vers);
        scene.client.stage(&holder)?;
        let address = scene.driver.address_of(domain)?;
        let stages = stages(&scene, vers, times)?;
        let mounts = bare_mounts(&scene.target("bare"), &address, vers, times)?;
        scene.client.unstage(&holder)?;
        let (stage, mount) = (median(stages), median(mounts));
        let own = stage.saturating_sub(mount);
        println!("vers={vers}: stage {stage:.1?}, bare mount {mount:.1?}, ours {own:.1?}");
    }
    Ok(())
}

fn stages(scene: &Scene, vers: &str, times: u32) -> Result<Vec<Duration>> {
    let volume = scene.volume("measured", Front::Good.domain(), vers);
    let mut found = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        scene.client.stage(&volume)?;
        found.push(start.elapsed());
        scene.client.unstage(&volume)?;
    }
    Ok(found)
}

fn bare_mounts(target: &Path, address: &str, vers: &str, times: u32) -> Result<Vec<Duration>> {
    std::fs::create_dir_all(target)?;
    let source = format!("{}:/", Front::Good.domain());
    let mut options = format!("vers={vers},proto=tcp,addr={address},port={PROXY_PORT}");
    let kind = match vers {
        "3" => {
            options += &format!(",mountaddr={address},mountport={PROXY_PORT},nolock");
            "nfs"
        }
        _ => "nfs4",
    };
    let options = CString::new(options)?;
    let mut found = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        rustix::mount::mount(&source, target, kind, MountFlags::empty(), options.as_c_str())
            .during("failed to mount")?;
        found.push(start.elapsed());
        rustix::mount::unmount(target, UnmountFlags::empty()).during("failed to unmount")?;
    }
    Ok(found)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
