//! What each errno of mount(2) leads to: the table of the class, seen from outside.

use rustix::io::Errno;

use super::*;
use crate::nfs::class::CLASSES;

/// What is tried after an errno, where the user left everything open: the versions, how often in all (a round that
/// is repeated counts again), and the cause that is reported at the end.
struct Row {
    errno: Errno,
    versions: &'static [&'static str],
    rounds: Rounds,
    id: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Rounds {
    One,
    Three,
    AsLongAsThereIsTime,
}

const ALL: &[&str] = &["4.2", "4.1", "4.0", "3"];
const THREE_AT_ONCE: &[&str] = &["4.2", "3"];
const NO_OTHER: &[&str] = &["4.2"];

const fn row(
    errno: Errno,
    versions: &'static [&'static str],
    rounds: Rounds,
    id: &'static str,
) -> Row {
    Row { errno, versions, rounds, id }
}

/// Every errno of mount(2), and every other one that NFS was seen to give.
const ROWS: &[Row] = &[
    row(Errno::ACCESS, ALL, Rounds::One, "nfs.export-denied"),
    row(Errno::ADDRINUSE, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.no-resources"),
    row(Errno::ADDRNOTAVAIL, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.no-resources"),
    row(Errno::AGAIN, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.no-resources"),
    row(Errno::CONNABORTED, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.connection-lost"),
    row(Errno::CONNREFUSED, THREE_AT_ONCE, Rounds::AsLongAsThereIsTime, "nfs.refused"),
    row(Errno::CONNRESET, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.connection-lost"),
    row(Errno::FAULT, NO_OTHER, Rounds::One, "nfs.internal"),
    row(Errno::HOSTDOWN, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.unreachable"),
    row(Errno::HOSTUNREACH, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.unreachable"),
    row(Errno::INVAL, ALL, Rounds::One, "nfs.options-refused"),
    row(Errno::IO, NO_OTHER, Rounds::One, "nfs.server-failed"),
    row(Errno::LOOP, NO_OTHER, Rounds::One, "nfs.other"),
    row(Errno::MFILE, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.no-resources"),
    row(Errno::NAMETOOLONG, NO_OTHER, Rounds::One, "nfs.name-too-long"),
    row(Errno::NETDOWN, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.unreachable"),
    row(Errno::NETUNREACH, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.unreachable"),
    row(Errno::NFILE, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.no-resources"),
    row(Errno::NODEV, NO_OTHER, Rounds::One, "nfs.kernel-lacks-nfs"),
    row(Errno::NOENT, THREE_AT_ONCE, Rounds::One, "nfs.export-missing"),
    row(Errno::NOMEM, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.no-resources"),
    row(Errno::NOTBLK, NO_OTHER, Rounds::One, "nfs.internal"),
    row(Errno::NOTCONN, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.connection-lost"),
    row(Errno::NOTDIR, NO_OTHER, Rounds::One, "nfs.export-not-directory"),
    row(Errno::NXIO, NO_OTHER, Rounds::One, "nfs.internal"),
    row(Errno::OPNOTSUPP, THREE_AT_ONCE, Rounds::Three, "nfs.no-common-version"),
    row(Errno::PERM, THREE_AT_ONCE, Rounds::One, "nfs.security-refused"),
    row(Errno::PIPE, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.connection-lost"),
    row(Errno::PROTO, NO_OTHER, Rounds::One, "nfs.other"),
    row(Errno::PROTONOSUPPORT, ALL, Rounds::One, "nfs.no-common-version"),
    row(Errno::REMOTEIO, NO_OTHER, Rounds::Three, "nfs.server-failed"),
    row(Errno::SRCH, NO_OTHER, Rounds::One, "nfs.tlshd-missing"),
    row(Errno::STALE, NO_OTHER, Rounds::Three, "nfs.export-stale"),
    row(Errno::TIMEDOUT, NO_OTHER, Rounds::AsLongAsThereIsTime, "nfs.no-answer"),
    row(Errno::TOOBIG, NO_OTHER, Rounds::One, "nfs.options-too-long"),
    // Nobody knows it: a few more times.
    row(Errno::NOSPC, NO_OTHER, Rounds::Three, "nfs.other"),
];

#[test]
fn each_errno_leads_to_the_versions_and_rounds_that_may_help() {
    for Row { errno, versions, rounds, id } in ROWS {
        let errno = *errno;
        // The server is no help against ECONNREFUSED; see `versions` for when it is.
        let world =
            World::default().kernel(move |_| Err(server_says(errno))).ping(move |_, service, _| {
                match service {
                    Service::Nfs(NfsVersion::V3) if errno == Errno::CONNREFUSED => Ok(()),
                    Service::Mount(_) if errno == Errno::CONNREFUSED => Err(RpcFault::Refused),
                    _ => Ok(()),
                }
            });
        let run = world.run(direct("nolock"));
        let fault = run.fault();
        assert_eq!(fault.id(), *id, "{errno:?}: {fault}");
        assert_eq!(fault.is_permanent(), *rounds != Rounds::AsLongAsThereIsTime, "{errno:?}");
        let tried = run.versions();
        let of_round = if errno == Errno::CONNREFUSED { &NO_OTHER } else { versions };
        assert_eq!(&tried[..of_round.len()], *of_round, "{errno:?}");
        let count = tried.len() / of_round.len();
        match rounds {
            Rounds::One => assert_eq!(count, 1, "{errno:?}"),
            Rounds::Three => assert_eq!(count, 3, "{errno:?}"),
            Rounds::AsLongAsThereIsTime => assert!(count > 10, "{errno:?}: {count}"),
        }
    }
}

#[test]
fn the_table_knows_every_errno_of_the_test_and_the_other_way_round() {
    let of_test = |errno: Errno| ROWS.iter().any(|row| row.errno == errno);
    for (errno, ..) in CLASSES {
        // EBUSY needs a look at the target first: see `what_is_there_already_is_success`.
        assert!(of_test(*errno) || *errno == Errno::BUSY, "{errno:?}");
    }
    let of_table = |errno: Errno| CLASSES.iter().any(|(known, ..)| *known == errno);
    let unknown: Vec<_> = ROWS.iter().filter(|row| !of_table(row.errno)).collect();
    assert_eq!(unknown.len(), 1, "ENOSPC stands for what nobody knows");
}

#[test]
fn an_eio_that_took_its_time_stands_for_silence_and_may_pass() {
    for (millis, id, permanent) in [(20, "nfs.server-failed", true), (4000, "nfs.no-answer", false)]
    {
        let world = World::default()
            .kernel_in_time(move |_| (Err(server_says(Errno::IO)), Duration::from_millis(millis)));
        let run = world.run(direct("vers=4.2"));
        assert_eq!((run.fault().id(), run.fault().is_permanent()), (id, permanent));
    }
}

#[test]
fn an_option_that_the_kernel_refuses_by_name_is_not_tried_with_another_version() {
    let said = vec!["nfs: Unknown parameter 'rdirplus'".to_owned()];
    let failure = Failure::refused("fsconfig(rdirplus)", Errno::INVAL, said);
    let run = World::default().kernel(move |_| Err(failure.clone())).run(direct(""));
    assert_eq!(run.versions(), ["4.2"]);
    assert_eq!(run.fault().id(), "nfs.option-refused");
    assert!(run.fault().to_string().contains("\"rdirplus\""));
}

#[test]
fn what_this_host_refuses_is_not_blamed_on_the_server() {
    for (call, errno, id) in [
        (call::OPEN_TARGET, Errno::NOENT, "nfs.target-missing"),
        (call::OPEN_TARGET, Errno::NOTDIR, "nfs.target-not-directory"),
        (call::OPEN_TARGET, Errno::LOOP, "nfs.target-loops"),
        (call::OPEN_TARGET, Errno::NAMETOOLONG, "nfs.name-too-long"),
        (call::OPEN_TARGET, Errno::ACCESS, "nfs.not-privileged"),
        (call::FSOPEN, Errno::PERM, "nfs.not-privileged"),
        (call::FSOPEN, Errno::NODEV, "nfs.kernel-lacks-nfs"),
        (call::MOVE_MOUNT, Errno::PERM, "nfs.not-privileged"),
        (call::MOVE_MOUNT, Errno::NOENT, "nfs.target-missing"),
        (call::MOVE_MOUNT, Errno::INVAL, "nfs.export-not-directory"),
        (call::FSMOUNT, Errno::PERM, "nfs.not-privileged"),
    ] {
        let run = World::default().kernel(move |_| Err(refused(call, errno))).run(direct(""));
        assert_eq!(run.versions().len(), 1, "{call} {errno:?}: no other version helps");
        assert_eq!(run.fault().id(), id, "{call} {errno:?}");
        assert!(run.fault().is_permanent(), "{call} {errno:?}");
    }
}

#[test]
fn a_worker_that_cannot_be_had_is_wanted_three_times() {
    let gone = Failure::Worker("fork: EAGAIN".to_owned());
    let run = World::default().kernel(move |_| Err(gone.clone())).run(direct("vers=4.2"));
    assert_eq!(run.versions().len(), 3);
    assert_eq!((run.fault().id(), run.fault().exit_code()), ("nfs.worker-failed", 2));
}

fn entry(source: &str, version: &str, options: &str) -> MountEntry {
    let split = |text: &str| text.split(',').map(str::to_owned).collect();
    MountEntry {
        id: 1,
        device: "0:50".to_owned(),
        root: "/".to_owned(),
        mount_point: "/t".into(),
        options: split(options),
        peer_group: Some(1),
        fs_type: if version == "3" { "nfs" } else { "nfs4" }.to_owned(),
        source: source.to_owned(),
        super_options: split(&format!("rw,vers={version},addr=127.0.1.1")),
    }
}

#[test]
fn what_is_there_already_is_success() {
    for (request, entry, same) in [
        (direct(""), Some(entry("nas.example:/a", "4.2", "rw")), true),
        (direct(""), Some(entry("nas.example:/a/", "3", "rw")), true),
        (direct("vers=3,nolock"), Some(entry("nas.example:/a", "4.2", "rw")), false),
        (direct(""), Some(entry("nas.example:/a", "4.2", "ro,nosuid")), false),
        (direct("ro"), Some(entry("nas.example:/a", "4.2", "ro,nosuid")), true),
        (direct(""), Some(entry("nas.example:/b", "4.2", "rw")), false),
        (tunnel(""), Some(entry("nas.example:/a", "3", "rw")), true),
        (tunnel("vers=4.0"), Some(entry("nas.example:/a", "3", "rw")), false),
        (direct("retry=0"), None, false),
    ] {
        for call in [call::MOUNT_TABLE, call::MOUNT] {
            let world = World { there: entry.clone(), ..World::default() };
            let run = world.kernel(move |_| Err(refused(call, Errno::BUSY))).run(request.clone());
            if same {
                assert!(run.mounted().already);
            } else if entry.is_some() {
                assert_eq!(run.fault().id(), "nfs.already-mounted");
                assert!(run.fault().is_permanent());
            } else {
                assert_eq!(run.fault().id(), "nfs.other");
            }
        }
    }
}

#[test]
fn what_a_killed_attempt_of_ours_left_half_made_is_no_success() {
    for (peer_group, mounted) in [(Some(1), true), (None, false)] {
        let there = MountEntry { peer_group, ..entry("nas.example:/a", "3", "rw") };
        let mut world = World { there: Some(there), ..World::default() };
        let mut hangs = true;
        world.kernel = Box::new(move |_, _| {
            let time = if std::mem::take(&mut hangs) { Duration::MAX } else { Duration::ZERO };
            (Err(refused(call::MOUNT_TABLE, Errno::BUSY)), time)
        });
        let run = world.run(tunnel("vers=3"));
        assert_eq!(matches!(run.end, Step::Finish(_)), mounted, "{:?}", run.journal);
    }
}
