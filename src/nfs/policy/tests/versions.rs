//! Which versions are tried, in which order, and when another one helps.

use rustix::io::Errno;

use super::*;

#[test]
fn the_versions_that_are_tried_follow_from_what_the_user_said() {
    for (options, tried) in [
        ("", vec!["4.2", "4.1", "4.0", "3"]),
        ("vers=4", vec!["4.2", "4.1", "4.0"]),
        ("vers=4.1", vec!["4.1"]),
        ("vers=4,minorversion=0", vec!["4.0"]),
        ("vers=3", vec!["3"]),
        ("mountproto=tcp", vec!["3"]),
        ("mountport=20048", vec!["3"]),
        ("mounthost=other", vec!["3"]),
    ] {
        let run = World::default()
            .kernel(|_| Err(server_says(Errno::PROTONOSUPPORT)))
            .run(direct(options));
        assert_eq!(run.versions(), tried, "{options:?}");
        let one = if tried.len() == 1 { "nfs.version-not-served" } else { "nfs.no-common-version" };
        assert_eq!(run.fault().id(), one);
        assert!(run.fault().is_permanent());
    }
}

#[test]
fn the_best_version_of_the_server_is_mounted() {
    for (best, name) in [
        (NfsVersion::V42, "4.2"),
        (NfsVersion::V41, "4.1"),
        (NfsVersion::V40, "4.0"),
        (NfsVersion::V3, "3"),
    ] {
        let world = World::default().kernel(move |version| {
            if version <= best { Ok(Done::Done) } else { Err(server_says(Errno::PROTONOSUPPORT)) }
        });
        let run = world.run(direct(""));
        assert_eq!(run.mounted().version, best);
        assert_eq!(run.versions().last(), Some(&name));
        assert!(
            run.mounted().options.starts_with(&format!("vers={name},proto=tcp,addr=192.0.2.1,"))
        );
    }
}

#[test]
fn a_kernel_without_a_minor_version_takes_a_lower_one() {
    for failure in [
        Failure::refused(
            call::CREATE,
            Errno::PROTONOSUPPORT,
            vec!["NFS: Version unavailable".to_owned()],
        ),
        Failure::refused(
            "fsconfig(vers)",
            Errno::INVAL,
            vec!["NFS: Unsupported NFS version".to_owned()],
        ),
        refused(call::MOUNT, Errno::INVAL),
    ] {
        let world = World::default().kernel(move |version| {
            if version == NfsVersion::V42 { Err(failure.clone()) } else { Ok(Done::Done) }
        });
        assert_eq!(world.run(direct("")).mounted().version, NfsVersion::V41);
    }
}

#[test]
fn a_server_without_version_4_costs_one_call() {
    let world = World::default().ping(|_, service, _| match service {
        Service::Nfs(version) if version.is_4() => Err(RpcFault::NoSuchVersion { low: 2, high: 3 }),
        _ => Ok(()),
    });
    let run = world.run(direct(""));
    assert_eq!(run.versions(), ["3"]);
    assert_eq!(run.asked("NULL call of NFS 4"), 1);
}

#[test]
fn version_4_is_not_told_what_only_version_3_understands() {
    let world = World::default().kernel(|version| {
        if version.is_4() { Err(server_says(Errno::PROTONOSUPPORT)) } else { Ok(Done::Done) }
    });
    let run = world.run(direct("nolock,noacl,namlen=200"));
    let mounts: Vec<_> = run.journal.iter().filter(|line| line.starts_with("mount with")).collect();
    let (fourth, third) = mounts.split_at(3);
    for word in ["nolock", "noacl", "namlen"] {
        assert!(fourth.iter().all(|line| !line.contains(word)), "{fourth:?}");
        assert!(third.iter().all(|line| line.contains(word)), "{third:?}");
    }
}

#[test]
fn version_4_asks_neither_rpcbind_nor_mountd() {
    let run = World::default().run(direct("vers=4"));
    assert_eq!(
        run.journal,
        [
            "directory \"/t\"",
            "addresses of \"nas.example\"",
            "NULL call of NFS 4 to 192.0.2.1:2049 over tcp",
            "mount with \"vers=4.2,proto=tcp,addr=192.0.2.1,port=2049\"",
            "mounted 4.2",
        ]
    );
}

#[test]
fn port_0_asks_rpcbind_for_version_4_too() {
    let run = World::default().run(direct("vers=4.1,port=0"));
    assert_eq!(run.asked("rpcbind of 192.0.2.1 for NFS 4 over tcp"), 1);
    let run = World::default().run(direct("vers=4.1,port=3049"));
    assert_eq!(run.asked("rpcbind"), 0);
    assert_eq!(run.asked("NULL call of NFS 4 to 192.0.2.1:3049 over tcp"), 1);
}

#[test]
fn rdma_is_not_probed_and_has_its_own_port() {
    let run = World::default().run(direct("vers=4.2,proto=rdma"));
    assert_eq!(run.asked("NULL call"), 0);
    let options = &run.mounted().options;
    assert!(options.starts_with("vers=4.2,proto=rdma,addr=192.0.2.1,port=20049"), "{options}");
    let run = World::default().run(direct("vers=3,proto=rdma,nolock"));
    assert_eq!((run.asked("NULL call"), run.asked("rpcbind")), (0, 0));
    let options = &run.mounted().options;
    assert!(options.contains("mountaddr=192.0.2.1,mountproto=tcp,mountvers=3"), "{options}");
}

#[test]
fn the_clients_address_is_the_users_or_that_towards_the_server_and_sent_to_version_4_0_only() {
    let options = |run: &Run| run.mounted().options.clone();
    let found = World::default().run(direct("vers=4.0"));
    assert!(options(&found).contains(",clientaddr=192.0.2.7"));
    let given = World::default().run(direct("vers=4.0,clientaddr=198.51.100.9"));
    assert!(options(&given).contains(",clientaddr=198.51.100.9"));
    assert_eq!(given.asked("own address"), 0);
    let note = Note::ClientAddressOfUser([198, 51, 100, 9].into());
    assert_eq!(given.mounted().notes, [note]);
    for other in ["vers=3,nolock", "vers=4.1", "vers=4.2"] {
        let run = World::default().run(direct(&format!("{other},clientaddr=198.51.100.9")));
        assert!(!options(&run).contains("clientaddr"));
    }
    let unknown = World { source: None, ..World::default() }.run(direct("vers=4.0"));
    assert!(!options(&unknown).contains("clientaddr"));
    assert_eq!(unknown.mounted().notes, [Note::NoClientAddress("no route".to_owned())]);
}

#[test]
fn a_server_that_starts_while_version_3_is_tried_is_mounted_with_version_4_after_all() {
    let mut starting = true;
    let world = World::default().ping(move |_, service, _| match service {
        Service::Nfs(version) if version.is_4() && std::mem::take(&mut starting) => {
            Err(RpcFault::Refused)
        }
        _ => Ok(()),
    });
    let run = world.run(direct(""));
    assert_eq!(run.versions(), ["4.2"]);
    assert_eq!(run.asked("NULL call of NFS 3"), 1);
    assert_eq!(run.asked("NULL call of NFS 4"), 3);
}

#[test]
fn a_server_that_comes_and_goes_is_asked_for_version_4_again_once_in_a_round() {
    let mut up = true;
    let world = World::default().ping(move |_, service, _| match service {
        Service::Nfs(version) if version.is_4() => {
            up = !up;
            if up { Ok(()) } else { Err(RpcFault::Refused) }
        }
        _ => Ok(()),
    });
    let run = world.run(direct("nolock"));
    assert_eq!(run.versions(), ["3"]);
    assert_eq!(run.asked("NULL call of NFS 4"), 3);
}

#[test]
fn a_server_that_refuses_version_4_is_mounted_with_version_3() {
    let world = World::default()
        .ping(|server, _, _| if server.port() == 2049 { Err(RpcFault::Refused) } else { Ok(()) });
    let world = world
        .port(|_, service, _| Ok(if matches!(service, Service::Nfs(_)) { 2050 } else { 20048 }));
    let run = world.run(direct(""));
    assert_eq!(run.versions(), ["3"]);
    assert!(run.mounted().options.contains("port=2050,"));
    // Any minor version of 4, and never 3.
    let world = World::default().ping(|_, _, _| Err(RpcFault::Refused));
    let run = world.run(direct("vers=4,retry=0"));
    assert_eq!((run.versions().len(), run.asked("NULL call of NFS 3")), (0, 0));
}

#[test]
fn every_address_of_a_name_is_tried_in_its_order() {
    for fault in [
        RpcFault::Refused,
        SILENCE,
        RpcFault::Unreachable("no route to host".to_owned()),
        RpcFault::Garbage("closed".to_owned()),
    ] {
        let addresses = ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(address);
        let world = World { addresses: Ok(addresses.to_vec()), ..World::default() };
        let run = world
            .ping(
                move |server, _, _| {
                    if server.ip() == addresses[2].ip { Ok(()) } else { Err(fault.clone()) }
                },
            )
            .run(direct("vers=4.2"));
        assert_eq!(run.mounted().server.to_string(), "192.0.2.2:2049");
        assert_eq!(run.asked("NULL call"), 3);
    }
    // The kernel's word counts as much: an export may be for one address family only.
    let world =
        World { addresses: Ok(["2001:db8::1", SERVER].map(address).to_vec()), ..World::default() };
    let mut answers = vec![Ok(Done::Done), Err(server_says(Errno::ACCESS))];
    let run = world.kernel(move |_| answers.pop().unwrap()).run(direct("vers=4.2"));
    assert!(run.journal.iter().any(|line| line.contains("proto=tcp6,addr=2001:db8::1,")));
    assert!(run.mounted().options.contains("proto=tcp,addr=192.0.2.1,"));
}

#[test]
fn an_address_that_does_not_answer_is_not_asked_for_every_minor_version() {
    let addresses = ["192.0.2.1", "192.0.2.2"].map(address);
    let world = World { addresses: Ok(addresses.to_vec()), ..World::default() };
    let run = world
        .ping(|server, _, _| if server.ip() == address(SERVER).ip { Err(SILENCE) } else { Ok(()) })
        .kernel(|_| Err(server_says(Errno::PROTONOSUPPORT)))
        .run(direct("vers=4"));
    assert_eq!(run.versions(), ["4.2", "4.1", "4.0"]);
    assert_eq!(run.asked("NULL call of NFS 4 to 192.0.2.1:2049"), 1);
}

#[test]
fn only_the_family_of_the_netid_is_resolved() {
    let mut policy = Policy::new(direct("proto=tcp6"), KernelFacts::default(), Instant::now());
    policy.next(Answer::Begin, Instant::now());
    let step = policy.next(Answer::Target(Ok(Done::Done)), Instant::now());
    let Step::Resolve { host, family, .. } = step else { panic!("{step:?}") };
    assert_eq!(
        (host.as_str(), family),
        ("nas.example", Some(crate::model::nfs_option::Family::Inet6))
    );
}

#[test]
fn a_link_local_address_keeps_its_scope() {
    let scoped = ServerAddress { ip: "fe80::1".parse().unwrap(), scope: 3 };
    let world = World { addresses: Ok(vec![scoped]), ..World::default() };
    let run = world.run(direct("vers=4.2"));
    assert!(run.mounted().options.contains("proto=tcp6,addr=fe80::1%3,"));
    assert_eq!(run.asked("NULL call of NFS 4 to [fe80::1%3]:2049"), 1);
}

#[test]
fn an_address_is_never_the_users() {
    let options = "addr=198.51.100.66,vers=3,mountaddr=192.0.2.9,nolock";
    let run = World::default().run(direct(options));
    assert!(run.mounted().options.contains(",addr=192.0.2.1,"));
    assert!(run.mounted().options.contains(",mountaddr=192.0.2.9,"));
}

#[test]
fn negotiation_begins_where_it_is_told_to_and_goes_down_from_there() {
    use NfsVersion::V3;
    use NfsVersion::V40;
    use NfsVersion::V41;
    for (options, first, asked) in [
        ("", V41, vec!["4.1", "4.0", "3"]),
        ("", V40, vec!["4.0", "3"]),
        ("", V3, vec!["3"]),
        ("vers=4", V40, vec!["4.2", "4.1", "4.0"]),
        ("vers=4.2", V3, vec!["4.2"]),
        ("mountproto=tcp", V41, vec!["3"]),
    ] {
        let start = Start { version: Some(first), transport: None };
        let request = MountRequest { start, ..direct(&format!("nolock,retry=0,{options}")) };
        let run = World::default().kernel(|_| Err(server_says(Errno::PROTONOSUPPORT))).run(request);
        assert_eq!(run.versions(), asked, "{options} {first}");
    }
}

#[test]
fn udp_is_tried_first_where_it_is_told_to_be_and_the_kernel_has_it() {
    let start = Start { version: None, transport: Some(Transport::Udp) };
    for (nfs_over_udp, proto) in [(true, ",proto=udp,"), (false, ",proto=tcp,")] {
        let facts = KernelFacts { nfs_over_udp };
        let request = MountRequest { start, ..direct("vers=3,nolock") };
        let run = World { facts, ..World::default() }.run(request);
        assert!(run.mounted().options.contains(proto), "{}", run.mounted().options);
    }
}
