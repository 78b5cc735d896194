//! The real mount(8) and umount(8) of util-linux, which call our program as their helper `/sbin/mount.nfs`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use e2e::cases::program::Program;
use e2e::cases::stage::PATIENCE;
use e2e::cases::stage::Stage;
use e2e::cases::stage::only_mount;
use e2e::cases::stage::succeeded;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::process::Observed;
use e2e::process::Process;
use e2e::process::observe;
use e2e::process::run;
use e2e::process::wait_until;

use crate::Steps;

pub(crate) const TESTS: &[Steps] = &[
    ("mount_8_and_umount_8_call_us", mount_8_and_umount_8_call_us),
    ("mount_8_hands_our_refusal_on", mount_8_hands_our_refusal_on),
    ("mount_8_remounts_by_us", mount_8_remounts_by_us),
    ("mount_8_mounts_in_another_namespace_by_us", mount_8_mounts_in_another_namespace_by_us),
    ("mount_8_mounts_a_line_of_fstab_by_us", mount_8_mounts_a_line_of_fstab_by_us),
    ("umount_8_calls_the_helper_that_utab_names", umount_8_calls_the_helper_that_utab_names),
];

const SPEC: &str = "203.0.113.10:/share";
/// mount.nfs4 and both of umount are links to it.
const HELPER: &str = "/sbin/mount.nfs";

/// Our program in the place of nfs-utils' as long as the steps last.
fn as_helper(stage: &Stage, steps: impl FnOnce() -> Result<()>) -> Result<()> {
    let Program::Ours(ours) = &stage.program else {
        return Err(Failure::new("the stage runs our own program"));
    };
    run(PATIENCE, "mount", &["--bind", &ours.display().to_string(), HELPER])?;
    let outcome = steps();
    run(PATIENCE, "umount", &["-l", HELPER])?;
    outcome
}

/// A program of util-linux: with the paths of a root shell, and without the library paths of a test.
fn call(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Result<Observed> {
    observe(PATIENCE, Command::new(program).args(arguments.iter().map(AsRef::as_ref)))
}

fn utab_of(target: &Path) -> Option<String> {
    let table = fs::read_to_string("/run/mount/utab").unwrap_or_default();
    let shown = format!("TARGET={} ", target.display());
    table.lines().find(|line| line.contains(&shown)).map(str::to_owned)
}

fn mount_8_and_umount_8_call_us(stage: &mut Stage) -> Result<()> {
    let target = stage.target("by-mount-8")?;
    let rmtab = stage.world.folder().join("lib/rmtab");
    let told = || fs::read_to_string(&rmtab).is_ok_and(|table| table.contains(":/e09:"));
    as_helper(stage, || {
        for (fs_type, options, spec, expected) in [
            ("nfs", "vers=4.2,noatime", SPEC, "vers=4.2"),
            ("nfs4", "minorversion=1", SPEC, "vers=4.1"),
            ("nfs", "vers=3,nolock,ro", "203.0.113.10:/e09", "vers=3"),
        ] {
            succeeded(&call("mount", &[&"-t", &fs_type, &"-o", &options, &spec, &target])?)?;
            let mount = only_mount(&target)?;
            ensure(mount.options.contains(expected), format!("{mount:?}"))?;
            ensure(mount.flags.contains("noatime") == options.contains("noatime"), "no noatime")?;
            // nfs-utils writes no such line by itself; libmount would write one of its own.
            let line = utab_of(&target).unwrap_or_default();
            ensure(line.contains("addr=203.0.113.10"), format!("utab says {line:?}"))?;
            if spec != SPEC {
                wait_until("mountd has noted the client", PATIENCE, told)?;
            }
            succeeded(&call("umount", &[&target])?)?;
            ensure(lab::mounts_below(&target)?.is_empty(), "still mounted")?;
            ensure(utab_of(&target).is_none(), "utab still has it")?;
        }
        wait_until("mountd has forgotten the client", PATIENCE, || !told())
    })
}

fn mount_8_hands_our_refusal_on(stage: &mut Stage) -> Result<()> {
    let target = stage.target("refused-by-mount-8")?;
    as_helper(stage, || {
        let refused = call("mount", &[&"-t", &"nfs", &"-o", &"vers=4.2,rsise=1", &SPEC, &target])?;
        ensure(refused.code == Some(32), format!("{refused:?}"))?;
        ensure(refused.output.contains("rsise"), format!("{refused:?}"))?;
        ensure(refused.output.lines().count() == 1, format!("{refused:?}"))
    })
}

fn mount_8_remounts_by_us(stage: &mut Stage) -> Result<()> {
    let target = stage.target("remounted-by-mount-8")?;
    as_helper(stage, || {
        succeeded(&call("mount", &[&"-t", &"nfs", &"-o", &"vers=4.2", &SPEC, &target])?)?;
        let remounted = call("mount", &[&"-o", &"remount,ro,nosuid", &target]);
        let shown = only_mount(&target);
        let refused = call("mount", &[&"-o", &"remount,rsize=4096", &target]);
        succeeded(&call("umount", &[&target])?)?;
        succeeded(&remounted?)?;
        let flags = shown?.flags;
        ensure(flags.starts_with("ro,nosuid"), format!("its flags are {flags}"))?;
        let refused = refused?;
        ensure(refused.code == Some(32), format!("{refused:?}"))?;
        ensure(refused.output.contains("rsize"), format!("{refused:?}"))
    })
}

fn mount_8_mounts_in_another_namespace_by_us(stage: &mut Stage) -> Result<()> {
    let target = stage.target("elsewhere")?;
    as_helper(stage, || {
        let mut elsewhere = Command::new("unshare");
        elsewhere.args(["--mount", "--propagation", "private", "sleep", "600"]);
        let log = stage.world.folder().join("elsewhere.log");
        let elsewhere = Process::start("another namespace", &mut elsewhere, &log)?;
        let here = fs::read_link("/proc/self/ns/mnt")?;
        let namespace = format!("/proc/{}/ns/mnt", elsewhere.id());
        wait_until("the namespace is another", PATIENCE, || {
            fs::read_link(&namespace).is_ok_and(|there| there != here)
        })?;
        let there = || {
            let table = fs::read_to_string(format!("/proc/{}/mounts", elsewhere.id()));
            table.is_ok_and(|table| table.contains(&format!(" {} nfs4", target.display())))
        };
        let mounted =
            call("mount", &[&"-N", &namespace, &"-t", &"nfs", &"-o", &"vers=4.2", &SPEC, &target])?;
        succeeded(&mounted)?;
        ensure(there(), "it is not mounted there")?;
        ensure(lab::mounts_below(&target)?.is_empty(), "it is mounted here")?;
        succeeded(&call("umount", &[&"-N", &namespace, &target])?)?;
        ensure(!there(), "it is still mounted there")
    })
}

fn mount_8_mounts_a_line_of_fstab_by_us(stage: &mut Stage) -> Result<()> {
    let target = stage.target("in-fstab")?;
    let former = fs::read_to_string("/etc/fstab").unwrap_or_default();
    let line = format!(
        "{SPEC} {} nfs noauto,vers=4.1,x-systemd.automount,_netdev 0 0\n",
        target.display()
    );
    fs::write("/etc/fstab", line)?;
    let outcome = as_helper(stage, || {
        succeeded(&call("mount", &[&"--all"])?)?;
        ensure(lab::mounts_below(&target)?.is_empty(), "noauto was mounted")?;
        succeeded(&call("mount", &[&target])?)?;
        let mounted = only_mount(&target);
        succeeded(&call("umount", &[&target])?)?;
        ensure(mounted?.options.contains("vers=4.1"), "another version")
    });
    fs::write("/etc/fstab", former)?;
    outcome
}

/// What gives a tunnel back: umount(8) finds `umount.alinas` by the word `helper=` that we leave in utab.
fn umount_8_calls_the_helper_that_utab_names(stage: &mut Stage) -> Result<()> {
    let target = stage.target("with-a-helper")?;
    let (helper, called) = (Path::new("/sbin/umount.lab"), stage.world.folder().join("called"));
    let script =
        format!("#!/bin/sh\necho \"$*\" >{}\nexec /sbin/umount.nfs \"$@\"\n", called.display());
    fs::write(helper, script)?;
    fs::set_permissions(helper, fs::Permissions::from_mode(0o755))?;
    let outcome = as_helper(stage, || {
        let options = "vers=4.2,helper=lab";
        succeeded(&call("mount", &[&"-t", &"nfs", &"-o", &options, &SPEC, &target])?)?;
        succeeded(&call("umount", &[&target])?)?;
        let words = fs::read_to_string(&called).unwrap_or_default();
        ensure(words.contains(&target.display().to_string()), format!("called with {words:?}"))?;
        ensure(lab::mounts_below(&target)?.is_empty(), "still mounted")
    });
    fs::remove_file(helper)?;
    outcome
}
