//! The corner cases of `/etc/mtab` (R87 to R90), and the record in `/run/mount/utab` (R24).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use e2e::cases::stage::Stage;
use e2e::cases::stage::only_mount;
use e2e::cases::stage::succeeded;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::process::run;

use crate::Steps;

pub(crate) const TESTS: &[Steps] = &[
    ("mtab_that_does_not_exist", mtab_that_does_not_exist),
    ("mtab_that_is_a_link_to_proc", mtab_that_is_a_link_to_proc),
    ("mtab_that_cannot_be_written", mtab_that_cannot_be_written),
    ("mtab_that_is_a_file_is_left_alone", mtab_that_is_a_file_is_left_alone),
    ("utab_remembers_the_options_until_the_umount", utab_remembers_the_options_until_the_umount),
    ("utab_is_not_written_with_n", utab_is_not_written_with_n),
    ("utab_has_the_client_address_that_is_in_use", utab_has_the_client_address_that_is_in_use),
];

const MTAB: &str = "/etc/mtab";
const UTAB: &str = "/run/mount/utab";
const SPEC: &str = "203.0.113.10:/share";
const SHORT: Duration = Duration::from_secs(60);

/// Mounts and unmounts while the table is what `spoil` made of it; `check` looks in between.
fn with_mtab(
    stage: &Stage,
    spoil: impl FnOnce() -> Result<()>,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let target = stage.target("mtab")?;
    let former = fs::read_link(MTAB);
    let _ = fs::remove_file(MTAB);
    let outcome = spoil().and_then(|()| {
        succeeded(&stage.mount("vers=4.2", SPEC, &target)?)?;
        let checked = only_mount(&target).and_then(|_| check(&target));
        succeeded(&stage.unmount(&[], &target)?)?;
        checked
    });
    let _ = run(SHORT, "umount", &[MTAB]);
    let _ = fs::remove_file(MTAB);
    if let Ok(former) = former {
        symlink(former, MTAB)?;
    }
    outcome
}

fn mtab_that_does_not_exist(stage: &mut Stage) -> Result<()> {
    let absent = |_: &Path| ensure(!Path::new(MTAB).exists(), "mtab was made");
    with_mtab(stage, || Ok(()), absent)
}

fn mtab_that_is_a_link_to_proc(stage: &mut Stage) -> Result<()> {
    let link = || Ok(symlink("/proc/self/mounts", MTAB)?);
    with_mtab(stage, link, |target| {
        let table = fs::read_to_string(MTAB)?;
        ensure(table.contains(&target.display().to_string()), "the mount is not in mtab")?;
        ensure(fs::read_link(MTAB)? == Path::new("/proc/self/mounts"), "the link was replaced")
    })
}

/// Root writes to any file, but not to one on a file system that is read-only.
fn mtab_that_cannot_be_written(stage: &mut Stage) -> Result<()> {
    let read_only = || {
        fs::write(MTAB, "kept\n")?;
        run(SHORT, "mount", &["--bind", MTAB, MTAB])?;
        run(SHORT, "mount", &["-o", "remount,bind,ro", MTAB])?;
        Ok(())
    };
    with_mtab(stage, read_only, |_| ensure(fs::read_to_string(MTAB)? == "kept\n", "was written"))
}

/// Since util-linux 2.22 nobody maintains a file there; what a writer of old left is not ours to mend.
fn mtab_that_is_a_file_is_left_alone(stage: &mut Stage) -> Result<()> {
    let file = || Ok(fs::write(MTAB, "kept\n")?);
    with_mtab(stage, file, |_| ensure(fs::read_to_string(MTAB)? == "kept\n", "was written"))
}

fn utab_remembers_the_options_until_the_umount(stage: &mut Stage) -> Result<()> {
    let target = stage.target("ut ab")?;
    let shown = target.display().to_string().replace(' ', "\\040");
    let entry = || {
        let table = fs::read_to_string(UTAB).unwrap_or_default();
        table.lines().find(|line| line.contains(&shown)).map(str::to_owned)
    };
    succeeded(&stage.mount("vers=3,nolock,rsize=4096", SPEC, &target)?)?;
    let found = entry();
    succeeded(&stage.unmount(&[], &target)?)?;
    let found = found.unwrap_or_default();
    ensure(found.contains("SRC=203.0.113.10:/share"), format!("utab says {found:?}"))?;
    for option in ["vers=3", "rsize=4096", "addr=203.0.113.10"] {
        ensure(found.contains(option), format!("utab lacks {option}: {found:?}"))?;
    }
    ensure(entry().is_none(), format!("utab still says {:?}", entry()))
}

fn utab_is_not_written_with_n(stage: &mut Stage) -> Result<()> {
    let target = stage.target("no-utab")?;
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 8] =
        [&"mount", &"-n", &"-t", &"nfs", &"-o", &"vers=4.2", &SPEC, &target];
    succeeded(&e2e::process::observe(SHORT, &mut stage.command(&arguments)?)?)?;
    let table = fs::read_to_string(UTAB).unwrap_or_default();
    succeeded(&stage.unmount(&[], &target)?)?;
    ensure(!table.contains("no-utab"), format!("utab says {table:?}"))
}

/// R135, for an address that was found and for one that was given.
fn utab_has_the_client_address_that_is_in_use(stage: &mut Stage) -> Result<()> {
    let target = stage.target("client-address")?;
    for options in ["vers=4.0", "vers=4.0,clientaddr=203.0.113.250"] {
        succeeded(&stage.mount(options, SPEC, &target)?)?;
        let table = fs::read_to_string(UTAB).unwrap_or_default();
        let shown = only_mount(&target);
        succeeded(&stage.unmount(&[], &target)?)?;
        let shown = shown?.options;
        let in_use = shown.split(',').find(|option| option.starts_with("clientaddr="));
        let in_use = in_use.ok_or_else(|| Failure::new(format!("none is in use: {shown}")))?;
        let line = table.lines().find(|line| line.contains("client-address")).unwrap_or_default();
        let noted = line.split([' ', ',']).any(|word| word.trim_start_matches("ATTRS=") == in_use);
        ensure(noted, format!("{in_use} is in use, utab says {line:?}"))?;
    }
    Ok(())
}
