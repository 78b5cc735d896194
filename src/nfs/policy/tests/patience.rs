//! How long and how often a mount is tried, before and behind the caller's back.

use rustix::io::Errno;

use super::*;

fn down() -> World {
    World::default().kernel(|_| Err(server_says(Errno::HOSTUNREACH)))
}

#[test]
fn in_the_foreground_a_mount_is_tried_for_two_minutes_or_as_retry_says() {
    for (options, minutes) in [("", 2), ("retry=1", 1), ("fg,retry=5", 5)] {
        let run = down().run(direct(options));
        let (least, most) =
            (Duration::from_secs(minutes * 60), Duration::from_secs(minutes * 60 + 1));
        assert!((least..most).contains(&run.took), "{options}: {:?}", run.took);
        assert_eq!(&run.waits()[..7], [1, 2, 4, 8, 10, 10, 10]);
        let gave_up = run.fault().gave_up.unwrap();
        assert_eq!(gave_up.after, run.took);
        assert!(run.fault().to_string().ends_with(&format!(
            "; gave up after {} rounds in {} s",
            gave_up.rounds,
            minutes * 60
        )));
    }
}

#[test]
fn retry_0_tries_once_and_to_the_end() {
    let world = World::default().kernel_in_time(|_| (Ok(Done::Done), Duration::from_secs(80)));
    let run = world.run(direct("retry=0"));
    assert_eq!(run.took, Duration::from_secs(80));
    let run = down().run(direct("retry=0"));
    assert_eq!((run.versions().len(), run.waits().len()), (1, 0));
    assert_eq!(run.fault().gave_up, None);
}

#[test]
fn nobody_waits_again_after_a_wait_for_an_answer() {
    let world = World::default().kernel_in_time(|_| (Ok(Done::Done), Duration::MAX));
    let run = world.run(direct("vers=4.2"));
    assert_eq!(run.waits(), [] as [u64; 0]);
    assert_eq!(run.versions().len(), 2);
    assert_eq!(run.took, Duration::from_secs(180));
    // An answer that comes at once is no wait, whatever it says.
    let run = World::default().kernel(|_| Err(server_says(Errno::TIMEDOUT))).run(direct(""));
    assert_eq!(&run.waits()[..5], [1, 2, 4, 8, 10]);
}

#[test]
fn a_silent_server_is_noticed_in_ten_seconds() {
    let run = World::default().ping(|_, _, _| Err(SILENCE)).run(direct("retry=0"));
    assert_eq!(run.took, Duration::from_secs(10));
    assert_eq!(run.fault().id(), "nfs.no-answer");
    assert!(run.fault().to_string().contains("within 10 s"));
}

#[test]
fn in_the_background_the_caller_is_told_after_the_first_round_and_it_goes_on_for_a_week() {
    let run = down().run(direct("bg"));
    let told = run.journal.iter().position(|line| line.starts_with("background")).unwrap();
    assert_eq!(run.journal[..told].iter().filter(|line| line.starts_with("mount")).count(), 1);
    assert_eq!(run.asked("background"), 1);
    assert_eq!(&run.waits()[..9], [1, 2, 4, 8, 16, 32, 64, 120, 120]);
    let week = Duration::from_secs(10_000 * 60);
    assert!(run.took >= week && run.took < week + Duration::from_secs(1));
    assert!(run.fault().history.left_out() > 0);
}

#[test]
fn a_mount_in_the_background_comes_to_be_once_the_server_is_there() {
    let mut rounds = 0;
    let world = World::default().ping(move |_, _, _| {
        rounds += 1;
        if rounds < 8 { Err(RpcFault::Unreachable("no route".to_owned())) } else { Ok(()) }
    });
    let run = world.run(direct("bg,vers=4.2"));
    assert_eq!(run.journal.last().unwrap(), "mounted 4.2");
    assert_eq!(run.waits(), [1, 2, 4, 8, 16, 32, 64]);
    assert_eq!(run.asked("addresses of"), 8, "the name is resolved anew for each round");
}

#[test]
fn what_is_permanent_does_not_go_to_the_background() {
    for options in ["bg", "fg", "bg,retry=1"] {
        let run = World::default().kernel(|_| Err(server_says(Errno::NOTDIR))).run(direct(options));
        assert_eq!((run.asked("background"), run.waits().len()), (0, 0), "{options}");
        assert!(run.fault().is_permanent());
    }
    // Neither does what fails for good only later.
    let mut first = true;
    let run = World::default()
        .kernel(move |_| {
            let errno = if std::mem::take(&mut first) { Errno::HOSTDOWN } else { Errno::NOTDIR };
            Err(server_says(errno))
        })
        .run(direct("bg"));
    assert_eq!(run.waits(), [1]);
    assert!(run.fault().is_permanent());
}

#[test]
fn each_fault_of_the_seed_is_temporary_or_permanent_before_and_behind_the_callers_back() {
    let no_target =
        || World { target: Err(refused(call::OPEN_TARGET, Errno::NOENT)), ..World::default() };
    let nfs_blocked = || {
        World::default().ping(
            |server, _, _| {
                if server.port() == 2049 { Err(SILENCE) } else { Ok(()) }
            },
        )
    };
    let stopped = || World::default().ping(|_, _, _| Err(RpcFault::Refused));
    let mountd_blocked = || {
        World::default().ping(
            |server, _, _| {
                if server.port() == 20048 { Err(SILENCE) } else { Ok(()) }
            },
        )
    };
    let rpcbind_blocked = || World::default().port(|_, _, _| Err(SILENCE));
    let worlds: [(&str, &dyn Fn() -> World, bool); 5] = [
        ("nfs.target-missing", &no_target, true),
        ("nfs.refused", &stopped, false),
        ("nfs.no-answer", &nfs_blocked, false),
        ("nfs.mountd-no-answer", &mountd_blocked, false),
        ("nfs.rpcbind-no-answer", &rpcbind_blocked, false),
    ];
    for (id, world, permanent) in worlds {
        let run = world().run(direct("vers=3,nolock,fg"));
        assert_eq!((run.fault().id(), run.fault().is_permanent()), (id, permanent));
        assert_eq!(run.took.is_zero(), permanent, "{id}");
        let run = world().run(direct("vers=3,nolock,bg,retry=30"));
        assert_eq!(run.asked(&format!("background: {id}")), 1);
        assert!(!run.fault().is_permanent(), "{id}");
    }
}

#[test]
fn a_missing_mount_point_costs_no_packet() {
    let target = Err(refused(call::OPEN_TARGET, Errno::NOENT));
    let run = World { target, ..World::default() }.run(direct("fg"));
    assert_eq!(run.journal, ["directory \"/t\"", "given up: nfs.target-missing"]);
}

#[test]
fn a_target_behind_a_dead_file_system_is_said_to_be_that() {
    let target = Err(Failure::Deadline(Duration::from_secs(10)));
    let run = World { target, ..World::default() }.run(direct("retry=0"));
    assert_eq!((run.fault().id(), run.fault().is_permanent()), ("nfs.target-no-answer", false));
}

#[test]
fn a_name_that_does_not_exist_is_permanent_and_silent_name_servers_pass() {
    for (fault, id, permanent) in [
        (ResolveFault::NoSuchName("no such name".to_owned()), "nfs.name-not-found", true),
        (ResolveFault::TryAgain("no answer".to_owned()), "nfs.name-servers-silent", false),
        (
            ResolveFault::NoSuchFamily(crate::model::nfs_option::Family::Inet6),
            "nfs.name-without-family",
            true,
        ),
    ] {
        let world = World { addresses: Err(fault), ..World::default() };
        let run = world.run(direct("retry=1"));
        assert_eq!((run.fault().id(), run.fault().is_permanent()), (id, permanent));
        assert_eq!(run.took.is_zero(), permanent, "{id}");
    }
}

#[test]
fn a_deadline_goes_before_all_that_options_say() {
    for options in ["", "bg", "retry=60"] {
        let patience = Patience::Deadline(Duration::from_secs(45));
        let run = down().run(MountRequest { patience, ..direct(options) });
        assert!(run.took <= Duration::from_secs(45), "{options}: {:?}", run.took);
        assert!(run.took >= Duration::from_secs(44), "{options}: {:?}", run.took);
    }
    let world = World::default().kernel_in_time(|_| (Ok(Done::Done), Duration::MAX));
    let patience = Patience::Deadline(Duration::from_secs(5));
    let run = world.run(MountRequest { patience, ..direct("") });
    assert_eq!(run.took, Duration::from_secs(5));
    assert_eq!(run.fault().id(), "nfs.no-answer");
    assert!(run.fault().to_string().contains("within 5 s"), "{}", run.fault());
}

#[test]
fn a_deadline_of_no_time_asks_nothing() {
    let patience = Patience::Deadline(Duration::ZERO);
    let run = World::default().run(MountRequest { patience, ..direct("") });
    assert_eq!(run.journal, ["given up: nfs.no-answer"]);
}

#[test]
fn a_mount_can_be_cancelled_at_any_step() {
    let world = |cancelled_at| {
        let fails = World::default().kernel(|_| Err(server_says(Errno::HOSTDOWN)));
        World { cancelled_at, ..fails }
    };
    for options in ["bg,vers=3,retry=1,sec=krb5", "retry=1"] {
        let steps = world(None).run(direct(options)).journal.len();
        assert!(steps > 20);
        for step in 0..steps - 1 {
            let run = world(Some(step)).run(direct(options));
            assert_eq!(run.journal.len(), step + 2, "nothing is done after it");
            assert_eq!((run.fault().id(), run.fault().exit_code()), ("nfs.cancelled", 8));
        }
    }
}
