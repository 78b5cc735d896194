//! The page of the vendor's client on a machine that starts like any other: systemd is process 1, our unit is what `service`
//! speaks to, /etc/fstab mounts at startup after a true restart, and the scripts of the .deb and of the .rpm are run by
//! dpkg and rpm. A mount is worked at meanwhile; nothing may be felt of it but a pause.
//!
//! The NAS is a service of the same machine, which plays the network: it is there before the network is, and ends after
//! it. Its disk is new after the restart, as is its authority.
//!
//! Needs a guest of its own: `make reboot`, or `e2e/lab/guest --system -- <this>`. It is run at each start of the machine,
//! and goes on where it was.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::nas::Front;
use e2e::process::wait_until;
use e2e::vendor_page::PATIENCE;
use e2e::vendor_page::SERVICE;
use e2e::vendor_page::Writer;
use e2e::vendor_page::left_its_tunnel;
use e2e::vendor_page::package;
use e2e::vendor_page::processes;
use e2e::vendor_page::shell;
use e2e::vendor_page::succeeded;

/// What is known from before the restart: when it began, in seconds since 1970.
const RESTARTED: &str = "/var/lib/alinas-csi-lab/restarted";
const CA_FILE: &str = "/etc/lab-ca.pem";
/// In fstab, and worked at.
const V3: &str = "/mnt/nas-3";
const V4: &str = "/mnt/nas-4";
/// What systemd gives each unit that does not end: a machine whose mounts hang takes as long.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);
const RPM: &str = "rpm --force-debian --dbpath /var/lib/alinas-csi-lab/rpm";

#[test]
fn the_page_holds_on_a_machine_that_is_restarted_and_for_both_packages() -> Result<()> {
    ensure(Path::new("/run/systemd/system").exists(), "this needs e2e/lab/guest --system")?;
    let outcome = match fs::read_to_string(RESTARTED) {
        Err(_) => before_the_restart(),
        Ok(since) => after_the_restart(since.trim().parse()?),
    };
    outcome.map_err(|failure| Failure::new(format!("{failure}\n{}", journal())))
}

fn before_the_restart() -> Result<()> {
    // So that what the machine says of its way down is kept.
    fs::create_dir_all("/var/log/journal")?;
    succeeded("journalctl --flush")?;
    step("start a NAS", start_nas)?;
    step("install the .deb", || {
        succeeded(&deb("--install")?)?;
        ensure(processes().is_empty(), "something was started that nobody needs yet")
    })?;
    step("mount over NFSv3 and NFSv4.0", || {
        for (version, dir) in [("3", V3), ("4.0", V4)] {
            fs::create_dir_all(dir)?;
            let domain = Front::Good.domain();
            succeeded(&format!("mount -t alinas -o tls,vers={version} {domain}:/ {dir}"))?;
        }
        succeeded(&format!("systemctl is-active {SERVICE}")).map(drop)
    })?;
    step("restart the service under I/O", || {
        under_work("restarted", || succeeded(&format!("service {SERVICE} restart")))?;
        left_its_tunnel()
    })?;
    step("upgrade the .deb under I/O", || {
        under_work("upgraded", || succeeded(&deb("--install")?))
    })?;
    step("kill the watchdog under I/O", || {
        under_work("killed", || succeeded(&format!("kill -KILL {}", property("MainPID")?)))
    })?;
    let line = format!("{}:/ {V3} alinas _netdev,tls 0 0\n", Front::Good.domain());
    fs::write("/etc/fstab", line)?;
    println!("restart the machine");
    let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    fs::write(RESTARTED, now.to_string())?;
    // Both mounts are there, and one of them is worked at.
    let _writer = Writer::start(&Path::new(V4).join("until-the-end"))?;
    succeeded("systemctl --no-block reboot")?;
    std::thread::sleep(PATIENCE);
    Err(Failure::new("the machine does not go down"))
}

fn after_the_restart(restarted: u64) -> Result<()> {
    let up: f64 = fs::read_to_string("/proc/uptime")?.split(' ').next().unwrap_or("").parse()?;
    let down = last_words()? - restarted as f64;
    println!("  it took {down:.0} s to go down, and {up:.0} s to come up");
    let told = way_down()?;
    ensure(down < STOP_TIMEOUT.as_secs_f64(), format!("the restart was held up: {told}"))?;
    went_down_in_order(&told)?;
    step("find what /etc/fstab mounts at startup", || {
        let usage = succeeded("df -h")?.output;
        ensure(usage.contains(&format!("{}:/", Front::Good.domain())), usage)?;
        for unit in ["'mnt-nas\\x2d3.mount'", "remote-fs.target"] {
            succeeded(&format!("systemctl is-active {unit}"))?;
        }
        fs::write(Path::new(V3).join("after-the-restart"), "words")?;
        let found = fs::read_to_string("/srv/alinas-csi-nas/disk/after-the-restart")?;
        ensure(found == "words", "it did not arrive")
    })?;
    step("remove the .deb: not while it is needed, then wholly", || {
        succeeded(&format!("systemctl enable {SERVICE}"))?;
        ensure(is_enabled(), "enabled, and has no link")?;
        is_refused(&deb_remove("--remove"))?;
        succeeded(&format!("umount {V3}"))?;
        succeeded(&deb_remove("--remove"))?;
        nothing_is_left()?;
        succeeded(&deb_remove("--purge"))?;
        let links = shell(&format!("ls /etc/rc?.d/*{SERVICE}"))?;
        ensure(links.code != Some(0), links.output)
    })?;
    let rpm = built("rpm", "ALINAS_CSI_RPM")?;
    step("install the .rpm, and mount by /etc/fstab", || {
        succeeded(&format!("{RPM} --install --nodeps {}", rpm.display()))?;
        succeeded(&format!("mount {V3}")).map(drop)
    })?;
    step("upgrade the .rpm under I/O", || {
        under_work("upgraded-again", || {
            succeeded(&format!("{RPM} --upgrade --replacepkgs --nodeps {}", rpm.display()))
        })
    })?;
    step("remove the .rpm: not while it is needed, then wholly", || {
        let remove = format!("{RPM} --erase alinas-csi-utils");
        is_refused(&remove)?;
        succeeded(&format!("umount {V3}"))?;
        succeeded(&remove)?;
        nothing_is_left()
    })
}

fn step(name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    step().during(format!("failed to {name}"))?;
    println!("{name}: {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// A service of this machine, which the network waits for. As whatever brings a network up it wants network.target, which
/// nobody else does: without it nothing says that mounts end before their network, and an unmount may wait for ever.
fn start_nas() -> Result<()> {
    let program = std::env::current_exe()?;
    // target/debug/deps/boot_vendor-0123
    let program = program.ancestors().nth(2).unwrap_or(Path::new("/")).join("nas");
    let path = std::env::var("PATH")?;
    let unit = format!(
        "[Unit]\nDescription=The NAS of the lab\n\
         Wants=network.target\nBefore=network.target network-online.target\n\
         [Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=300\n\
         Environment=ALINAS_CSI_LAB=guest PATH={path}\n\
         ExecStart={} sh -c 'install -m 644 \"$NAS_CA_FILE\" {CA_FILE} && systemd-notify --ready && exec sleep infinity'\n\
         [Install]\nWantedBy=network-online.target\n",
        program.display()
    );
    fs::write("/etc/systemd/system/lab-nas.service", unit)?;
    fs::write(format!("/etc/default/{SERVICE}"), format!("ALINAS_CSI_CA_FILE={CA_FILE}\n"))?;
    succeeded("systemctl enable --now lab-nas.service").map(drop)
}

fn built(format: &str, variable: &str) -> Result<PathBuf> {
    package(Path::new("/var/lib/alinas-csi-lab"), format, variable)
}

/// Triggers rebuild the machine's index of manual pages, which takes minutes here.
fn deb(verb: &str) -> Result<String> {
    let package = built("deb", "ALINAS_CSI_PACKAGE")?;
    Ok(format!("dpkg --no-triggers {verb} {}", package.display()))
}

fn deb_remove(verb: &str) -> String {
    format!("dpkg --no-triggers {verb} alinas-csi-utils")
}

/// Something that both processes are replaced by, while a mount is worked at.
fn under_work<T>(name: &str, change: impl FnOnce() -> Result<T>) -> Result<()> {
    let former = processes();
    let writer = Writer::start(&Path::new(V3).join(name))?;
    change()?;
    wait_until("the former processes are replaced", PATIENCE, || {
        let now = processes();
        now.len() == 2 && now.iter().all(|process| !former.contains(process))
    })?;
    writer.end(name)?;
    succeeded(&format!("systemctl is-active {SERVICE}")).map(drop)
}

fn property(name: &str) -> Result<String> {
    let shown = succeeded(&format!("systemctl show --property={name} {SERVICE}"))?.output;
    Ok(shown.trim().split_once('=').unwrap_or_default().1.to_owned())
}

fn is_refused(remove: &str) -> Result<()> {
    let refused = shell(remove)?;
    let told = refused.code != Some(0) && refused.output.contains(V3);
    ensure(told, format!("{remove}: {refused:?}"))?;
    Ok(fs::write(Path::new(V3).join("still-there"), "words")?)
}

/// Whether the service is started with the machine.
fn is_enabled() -> bool {
    let link = format!("/etc/systemd/system/multi-user.target.wants/{SERVICE}.service");
    fs::symlink_metadata(link).is_ok()
}

/// What the machine said before the restart.
fn way_down() -> Result<String> {
    let words = "journalctl --no-pager --boot=-1 --output=short-precise --identifier=systemd";
    Ok(succeeded(words)?.output)
}

/// When it said the last of it, in seconds since 1970. By the clock of before: that of a busy emulated machine falls
/// behind by minutes, and a restart sets it right.
fn last_words() -> Result<f64> {
    let words = "journalctl --no-pager --boot=-1 --output=short-unix --lines=1";
    let told = succeeded(words)?.output;
    let time = told.split_whitespace().next().and_then(|time| time.parse().ok());
    time.ok_or_else(|| Failure::new(format!("no time in {told:?}")))
}

/// An unmount needs the tunnel, and that the network.
fn went_down_in_order(told: &str) -> Result<()> {
    let last = |line: &str| {
        told.rfind(line).ok_or_else(|| Failure::new(format!("nothing says {line:?}: {told}")))
    };
    let in_order = [
        last(r"Unmounted mnt-nas\x2d3.mount")?.max(last(r"Unmounted mnt-nas\x2d4.mount")?),
        last(&format!("Stopping {SERVICE}.service"))?,
        last(&format!("Stopped {SERVICE}.service"))?,
        last("Stopping lab-nas.service")?,
    ];
    ensure(in_order.is_sorted(), format!("another order: {told}"))
}

fn nothing_is_left() -> Result<()> {
    wait_until("no process is left", PATIENCE, || processes().is_empty())?;
    // Neither failed nor about to be started again.
    let active = shell(&format!("systemctl is-active {SERVICE}"))?;
    ensure(active.output.trim() == "inactive", format!("{active:?}"))?;
    ensure(!is_enabled(), "a link to the service is left")?;
    ensure(shell("which mount.alinas")?.code != Some(0), "the helper is left")
}

/// What the machine says.
fn journal() -> String {
    let failed = shell("systemctl --no-pager --failed; journalctl --no-pager --lines 60 --boot");
    failed.map_or_else(|failure| failure.to_string(), |shown| shown.output)
}
