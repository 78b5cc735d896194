//! Unmounting: what the server is told, what is left, and what a dead server may not do.

use std::fs;

use e2e::cases::stage::PATIENCE;
use e2e::cases::stage::Stage;
use e2e::cases::stage::only_mount;
use e2e::cases::stage::succeeded;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::plain::Front;
use e2e::process::wait_until;

use crate::Steps;

pub(crate) const TESTS: &[Steps] = &[
    ("umount_of_v3_tells_mountd", umount_of_v3_tells_mountd),
    ("umount_of_what_is_not_mounted_says_so", umount_of_what_is_not_mounted_says_so),
    ("a_busy_mount_stays_and_is_said_to_be_busy", a_busy_mount_stays_and_is_said_to_be_busy),
    ("umount_of_a_dead_server_ends_by_force", umount_of_a_dead_server_ends_by_force),
    ("umount_uses_what_the_mount_finally_used", umount_uses_what_the_mount_finally_used),
    (
        "a_client_address_that_cannot_work_harms_nobody",
        a_client_address_that_cannot_work_harms_nobody,
    ),
];

const THIRD: &str = "vers=3,nolock,proto=tcp";

fn umount_of_v3_tells_mountd(stage: &mut Stage) -> Result<()> {
    let target = stage.target("rmtab")?;
    succeeded(&stage.mount(THIRD, "203.0.113.10:/e07", &target)?)?;
    let table = stage.world.folder().join("lib/rmtab");
    let listed = || fs::read_to_string(&table).is_ok_and(|table| table.contains(":/e07:"));
    wait_until("mountd has noted the client", PATIENCE, listed)?;
    succeeded(&stage.unmount(&[], &target)?)?;
    wait_until("mountd has forgotten the client", PATIENCE, || !listed())
}

fn umount_of_what_is_not_mounted_says_so(stage: &mut Stage) -> Result<()> {
    let target = stage.target("not-mounted")?;
    let refused = stage.unmount(&[], &target)?;
    ensure(refused.code == Some(32), format!("{refused:?}"))?;
    ensure(refused.output.contains("nothing is mounted"), format!("{refused:?}"))
}

fn a_busy_mount_stays_and_is_said_to_be_busy(stage: &mut Stage) -> Result<()> {
    let target = stage.target("busy")?;
    succeeded(&stage.mount("vers=4.2", "203.0.113.10:/share", &target)?)?;
    let open = fs::File::open(target.join("file"))?;
    let refused = stage.unmount(&[], &target)?;
    ensure(refused.code == Some(32), format!("{refused:?}"))?;
    ensure(refused.output.contains("busy"), format!("{refused:?}"))?;
    only_mount(&target)?;
    drop(open);
    succeeded(&stage.unmount(&[], &target)?)
}

/// A mount through a firewall that is lifted first and then put back: its server is gone.
fn umount_of_a_dead_server_ends_by_force(stage: &mut Stage) -> Result<()> {
    for (flags, options) in
        [(&["-f"][..], THIRD), (&["-f", "-l"], "vers=4.2"), (&["-l"], THIRD), (&["-f"], "vers=4.2")]
    {
        let target = stage.target("dead")?;
        stage.world.lift(Front::BlackHole)?;
        let spec = format!("{}:/share", Front::BlackHole.address());
        let mounted = stage.mount(options, &spec, &target);
        stage.world.lower()?;
        succeeded(&mounted?)?;
        let unmounted = stage.unmount(flags, &target)?;
        let what = format!("{options} {flags:?}: {unmounted:?}");
        ensure(unmounted.code == Some(0), what.clone())?;
        ensure(unmounted.took < PATIENCE, what.clone())?;
        ensure(lab::mounts_below(&target)?.is_empty(), what)?;
    }
    Ok(())
}

/// R24: the record says which address and transport; over TCP, as the user's options alone would have it, mountd
/// would never be told.
fn umount_uses_what_the_mount_finally_used(stage: &mut Stage) -> Result<()> {
    let target = stage.target("record")?;
    let spec = format!("{}:/e08", Front::MountTcpDropped.address());
    let table = stage.world.folder().join("lib/rmtab");
    let listed = || fs::read_to_string(&table).is_ok_and(|table| table.contains(":/e08:"));
    succeeded(&stage.mount("vers=3,nolock", &spec, &target)?)?;
    ensure(only_mount(&target)?.options.contains("mountproto=udp"), "MOUNT did not go over UDP")?;
    wait_until("mountd has noted the client", PATIENCE, listed)?;
    succeeded(&stage.unmount(&[], &target)?)?;
    wait_until("mountd has forgotten the client", PATIENCE, || !listed())
}

/// R139: the server cannot call back there, so it delegates nothing; the seed's umount hung.
fn a_client_address_that_cannot_work_harms_nobody(stage: &mut Stage) -> Result<()> {
    let target = stage.target("no-callback")?;
    let options = "vers=4.0,clientaddr=192.0.2.250";
    succeeded(&stage.mount(options, "203.0.113.10:/e10", &target)?)?;
    let written = fs::write(target.join("written"), "through the mount");
    let read = fs::read_to_string(target.join("written"));
    let removed = fs::remove_file(target.join("written"));
    let unmounted = stage.unmount(&[], &target)?;
    written.and(removed)?;
    ensure(read? == "through the mount", "another text was read")?;
    // A plain unmount gives a server that does not answer 20 s, and then fails.
    succeeded(&unmounted)
}
