//! What is told at the end: one line with the cause that matters, and everything in the history.

use rustix::io::Errno;

use super::*;

#[test]
fn the_version_that_says_what_is_wrong_is_reported_and_the_other_beside_it() {
    // mount.nfs says "access denied by server" here: the last errno, and a misleading one.
    let run = World::default()
        .kernel(|version| {
            Err(server_says(if version.is_4() { Errno::NOENT } else { Errno::ACCESS }))
        })
        .run(direct("nolock"));
    assert_eq!(
        run.fault().to_string(),
        "failed to mount \"nas.example:/a\" at \"/t\" over NFS 4.2: the server has no such directory for this \
         host; create and export it there, or correct the path (192.0.2.1, fsconfig(create): ENOENT); over NFS 3: \
         the server denied access (192.0.2.1, fsconfig(create): EACCES)"
    );
}

#[test]
fn what_says_most_is_reported_of_all_versions() {
    for (fourth, third, id) in [
        (Errno::PROTONOSUPPORT, Errno::ACCESS, "nfs.export-denied-or-missing"),
        (Errno::PROTONOSUPPORT, Errno::TIMEDOUT, "nfs.no-answer"),
        (Errno::PROTONOSUPPORT, Errno::NOENT, "nfs.export-missing"),
        (Errno::PROTONOSUPPORT, Errno::PROTONOSUPPORT, "nfs.no-common-version"),
        (Errno::ACCESS, Errno::TIMEDOUT, "nfs.export-denied"),
        (Errno::ACCESS, Errno::NOENT, "nfs.export-missing"),
        (Errno::NOENT, Errno::CONNREFUSED, "nfs.export-missing"),
        (Errno::CONNREFUSED, Errno::OPNOTSUPP, "nfs.refused"),
        (Errno::CONNREFUSED, Errno::ACCESS, "nfs.export-denied-or-missing"),
    ] {
        let run = World::default()
            .kernel(move |version| Err(server_says(if version.is_4() { fourth } else { third })))
            .ping(move |_, service, _| match (service, fourth) {
                // Otherwise NFSv4 would be tried again, and rightly.
                (Service::Nfs(version), Errno::CONNREFUSED) if version.is_4() => {
                    Err(RpcFault::Refused)
                }
                _ => Ok(()),
            })
            .run(direct("nolock,retry=0"));
        assert_eq!(run.fault().id(), id, "{fourth:?}, {third:?}");
    }
}

#[test]
fn the_same_is_not_said_of_every_minor_version() {
    let run = World::default()
        .kernel(|version| {
            let errno = if version.is_4() { Errno::PROTONOSUPPORT } else { Errno::ACCESS };
            Err(server_says(errno))
        })
        .run(direct("nolock"));
    let text = run.fault().to_string();
    assert_eq!(text.matches("does not serve this NFS version").count(), 1, "{text}");
    assert_eq!(run.fault().elsewhere.len(), 1);
}

#[test]
fn the_history_holds_every_question_with_its_answer_and_its_time() {
    let world = World::default()
        .ping(|_, service, _| match service {
            Service::Nfs(version) if version.is_4() => Err(SILENCE),
            _ => Ok(()),
        })
        .kernel_in_time(|_| (Ok(Done::Done), Duration::from_millis(125)));
    let mounted = world.run(direct("retry=0"));
    let lines = mounted.fault().history.to_string();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "round 1, directory \"/t\": done (0.000 s)",
            "round 1, addresses of \"nas.example\": 192.0.2.1 (0.000 s)",
            "round 1, NFS 4.2, NULL call of NFS 4 to 192.0.2.1:2049 over tcp: no answer within 10 s (10.000 s)",
        ]
    );
    let world = World::default().kernel_in_time(|_| (Ok(Done::Done), Duration::from_millis(125)));
    let mounted = world.run(direct("vers=4.2"));
    let last = mounted.mounted().history.trials().last().unwrap().to_string();
    assert_eq!(
        last,
        "round 1, NFS 4.2, mount with \"vers=4.2,proto=tcp,addr=192.0.2.1,port=2049\": done (0.125 s)"
    );
}

#[test]
fn an_answer_to_no_question_is_a_fault_of_ours() {
    let now = Instant::now();
    let mut policy = Policy::new(direct(""), KernelFacts::default(), now);
    policy.next(Answer::Begin, now);
    let Step::GiveUp(fault) = policy.next(Answer::Waited, now) else { panic!() };
    assert_eq!((fault.id(), fault.exit_code()), ("nfs.internal", 4));
}

#[test]
fn a_note_is_kept_once() {
    let mut failures = 3;
    let world = World { source: None, ..World::default() }.kernel(move |_| {
        failures -= 1;
        if failures > 0 { Err(server_says(Errno::HOSTDOWN)) } else { Ok(Done::Done) }
    });
    assert_eq!(world.run(direct("vers=4.0")).mounted().notes.len(), 1);
}
