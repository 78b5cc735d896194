//! NFSv3: the services that must be found, over which transports, at which ports.

use super::*;

fn mount_options(run: &Run) -> &str {
    &run.mounted().options
}

#[test]
fn version_3_asks_for_every_port_and_tells_the_kernel_all_of_them() {
    let run = World::default().run(direct("vers=3,nolock"));
    assert_eq!(
        run.journal,
        [
            "directory \"/t\"",
            "addresses of \"nas.example\"",
            "rpcbind of 192.0.2.1 for NFS 3 over tcp",
            "NULL call of NFS 3 to 192.0.2.1:2049 over tcp",
            "rpcbind of 192.0.2.1 for MOUNT 3 over udp",
            "NULL call of MOUNT 3 to 192.0.2.1:20048 over udp",
            "mount with \"vers=3,proto=tcp,addr=192.0.2.1,port=2049,mountaddr=192.0.2.1,mountproto=udp,\
             mountport=20048,mountvers=3,nolock\"",
            "mounted 3",
        ]
    );
}

#[test]
fn a_port_that_is_given_is_not_asked_for() {
    for (options, questions) in [
        ("port=2049,mountport=892", 0),
        ("port=2049", 1),
        ("mountport=892", 1),
        ("port=0,mountport=0", 2),
    ] {
        let run = World::default().run(direct(&format!("vers=3,nolock,{options}")));
        assert_eq!(run.asked("rpcbind"), questions, "{options}");
        assert_eq!(run.asked("NULL call"), 2, "{options}");
    }
    let run = World::default().run(direct("vers=3,nolock,mountport=892,port=3049"));
    assert!(
        mount_options(&run).contains("port=3049,")
            && mount_options(&run).contains("mountport=892,")
    );
}

#[test]
fn what_the_user_says_of_transports_is_all_that_is_tried() {
    for (options, nfs, mount) in [
        ("proto=tcp", "tcp", "tcp"),
        ("mountproto=tcp", "tcp", "tcp"),
        ("proto=tcp,mountproto=udp", "tcp", "udp"),
        ("proto=udp", "udp", "udp"),
        ("tcp", "tcp", "tcp"),
        ("", "tcp", "udp"),
    ] {
        let facts = KernelFacts { nfs_over_udp: true };
        let world = World { facts, ..World::default() };
        let run = world.run(direct(&format!("vers=3,nolock,{options}")));
        assert!(mount_options(&run).contains(&format!("proto={nfs},")), "{options}");
        assert!(mount_options(&run).contains(&format!("mountproto={mount},")), "{options}");
    }
}

fn only(wanted: Transport) -> impl Fn(IpAddr, Service, Transport) -> Result<u16, RpcFault> {
    move |_, service, transport| match service {
        Service::Nfs(_) if transport != wanted => Err(RpcFault::NotRegistered),
        Service::Nfs(_) => Ok(2049),
        Service::Mount(_) => Ok(20048),
    }
}

#[test]
fn a_server_with_udp_only_is_mounted_where_the_kernel_has_udp() {
    let facts = KernelFacts { nfs_over_udp: true };
    let run =
        World { facts, ..World::default() }.port(only(Transport::Udp)).run(direct("vers=3,nolock"));
    assert!(mount_options(&run).contains("proto=udp,"));
    let run = World::default().port(only(Transport::Udp)).run(direct("vers=3,nolock,retry=0"));
    assert_eq!(run.fault().id(), "nfs.nfs-not-registered");
    assert!(run.fault().to_string().contains("knows no NFS 3 over tcp"), "{}", run.fault());
}

#[test]
fn udp_that_the_kernel_lacks_is_said_before_anything_is_sent() {
    let run = World::default().run(direct("vers=3,proto=udp,nolock"));
    assert_eq!(run.journal, ["given up: nfs.transport-not-in-kernel"]);
    let text = run.fault().to_string();
    assert!(text.contains("no NFS over UDP") && !text.contains("mismatch"), "{text}");
}

#[test]
fn mountd_is_tried_over_udp_and_then_over_tcp() {
    for fault in [SILENCE, RpcFault::Refused, RpcFault::NotRegistered] {
        let run = World::default()
            .port(move |_, service, transport| match (service, transport) {
                (Service::Mount(_), Transport::Udp) => Err(fault.clone()),
                (Service::Mount(_), _) => Ok(892),
                _ => Ok(2049),
            })
            .run(direct("vers=3,nolock"));
        assert!(mount_options(&run).contains("mountproto=tcp,mountport=892,"));
    }
    let run = World::default()
        .ping(|_, service, transport| match (service, transport) {
            (Service::Mount(_), Transport::Udp) => Err(SILENCE),
            _ => Ok(()),
        })
        .run(direct("vers=3,nolock"));
    assert!(mount_options(&run).contains("mountproto=tcp,"));
    assert_eq!(run.took, Duration::from_secs(3));
}

#[test]
fn each_service_that_is_missing_is_named() {
    type Answer = fn(Service) -> Result<u16, RpcFault>;
    let cases: [(&str, Answer, Answer); 13] = [
        ("nfs.rpcbind-connection-lost", |_| Err(RpcFault::Closed), |_| Ok(0)),
        ("nfs.connection-lost", |_| Ok(2049), |_| Err(RpcFault::Closed)),
        (
            "nfs.mountd-connection-lost",
            |_| Ok(2049),
            |service| if service == Service::Mount(3) { Err(RpcFault::Closed) } else { Ok(0) },
        ),
        ("nfs.rpcbind-refused", |_| Err(RpcFault::Refused), |_| Ok(0)),
        ("nfs.rpcbind-no-answer", |_| Err(SILENCE), |_| Ok(0)),
        ("nfs.rpcbind-other-protocol", |_| Err(RpcFault::Garbage("HTTP".to_owned())), |_| Ok(0)),
        ("nfs.unreachable", |_| Err(RpcFault::Unreachable("no route".to_owned())), |_| Ok(0)),
        ("nfs.nfs-not-registered", |_| Ok(0), |_| Ok(0)),
        (
            "nfs.mountd-not-registered",
            |service| {
                if service == Service::Mount(3) { Err(RpcFault::NotRegistered) } else { Ok(2049) }
            },
            |_| Ok(0),
        ),
        ("nfs.refused", |_| Ok(2049), |_| Err(RpcFault::Refused)),
        ("nfs.other-protocol", |_| Ok(2049), |_| Err(RpcFault::NoSuchProgram)),
        (
            "nfs.mountd-refused",
            |_| Ok(2049),
            |service| if service == Service::Mount(3) { Err(RpcFault::Refused) } else { Ok(0) },
        ),
        (
            "nfs.mountd-version",
            |_| Ok(2049),
            |service| match service {
                Service::Mount(_) => Err(RpcFault::NoSuchVersion { low: 1, high: 2 }),
                Service::Nfs(_) => Ok(0),
            },
        ),
    ];
    for (id, port, ping) in cases {
        let run = World::default()
            .port(move |_, service, _| port(service))
            .ping(move |_, service, _| ping(service).map(drop))
            .run(direct("vers=3,nolock,retry=0"));
        assert_eq!(run.fault().id(), id, "{}", run.fault());
        assert_eq!(run.versions().len(), 0, "{id}: the kernel is not sent where nobody is");
    }
}

#[test]
fn a_service_that_wants_credentials_is_there() {
    let run = World::default().ping(|_, _, _| Err(RpcFault::Denied)).run(direct(""));
    assert_eq!(run.versions(), ["4.2"]);
}

#[test]
fn the_host_of_mount_calls_is_resolved_by_us_and_passed_as_an_address() {
    let mut policy =
        Policy::new(direct("mounthost=other,nolock"), KernelFacts::default(), Instant::now());
    let now = Instant::now();
    let answers = [
        Answer::Begin,
        Answer::Target(Ok(Done::Done)),
        Answer::Addresses(Ok(vec![address(SERVER)])),
        Answer::Port(Ok(2049)),
        Answer::Pinged(Ok(())),
    ];
    let step = answers.into_iter().map(|answer| policy.next(answer, now)).last();
    let Some(Step::Resolve { host, family: None, .. }) = step else { panic!("{step:?}") };
    assert_eq!(host, "other");
    let addresses = ["192.0.2.8", "192.0.2.9"].map(address).to_vec();
    let step = policy.next(Answer::Addresses(Ok(addresses)), now);
    assert!(matches!(step, Step::AskPort { server, .. } if server == address("192.0.2.8")));
    for _ in 0..2 {
        policy.next(Answer::Port(Err(RpcFault::Refused)), now);
    }
    policy.next(Answer::Port(Ok(892)), now);
    let Step::Mount { job, .. } = policy.next(Answer::Pinged(Ok(())), now) else { panic!() };
    assert!(job::text(&job).contains(",mountaddr=192.0.2.9,mountproto=udp,mountport=892,"));
}

#[test]
fn mountproto_of_another_family_needs_an_address_of_that_family() {
    let world = World { addresses: Ok(vec![address("2001:db8::1")]), ..World::default() };
    let run = world.run(direct("vers=3,nolock,mountproto=tcp"));
    assert_eq!(run.asked("addresses of \"nas.example\""), 2);
}

#[test]
fn a_path_that_version_3_cannot_carry_is_said_at_once() {
    let long = format!("nas.example:/{}", "a".repeat(1100));
    let request =
        MountRequest { device: DeviceName::parse(&long).unwrap(), ..direct("vers=3,nolock") };
    let run = World::default().run(request.clone());
    assert_eq!((run.fault().id(), run.asked("rpcbind")), ("nfs.name-too-long", 0));
    let request = MountRequest { options: direct("").options, ..request };
    assert_eq!(World::default().run(request).mounted().version, NfsVersion::V42);
}

#[test]
fn the_port_of_tcp_is_asked_for_over_udp_where_rpcbind_does_not_answer_over_tcp() {
    for fault in [SILENCE, RpcFault::Refused, RpcFault::Closed] {
        let silent = fault.clone();
        let run = World::default()
            .rpcbind(move |over| match over {
                Transport::Tcp => Err(silent.clone()),
                _ => Ok(()),
            })
            .run(direct("vers=3,nolock"));
        assert!(mount_options(&run).contains("proto=tcp,"), "{fault}");
        assert_eq!(run.asked("rpcbind of 192.0.2.1, asked over udp, for NFS 3 over tcp"), 1);
    }
}

#[test]
fn rpcbind_is_asked_over_each_transport_once_where_it_does_not_answer_at_all() {
    let facts = KernelFacts { nfs_over_udp: true };
    let silent = || World { facts, ..World::default() }.rpcbind(|_| Err(SILENCE));
    let run = silent().run(direct("vers=3,nolock,retry=0"));
    assert_eq!((run.asked("rpcbind"), run.took), (2, Duration::from_secs(10 + 3)));
    assert!(run.fault().to_string().contains("within 10 s"), "{}", run.fault());
    let run = silent().run(direct("vers=3,nolock,port=2049,retry=0"));
    assert_eq!((run.asked("rpcbind"), run.took), (2, Duration::from_secs(10 + 3)));
}

#[test]
fn rpcbind_is_asked_over_no_transport_but_the_one_that_the_user_names_or_the_address_allows() {
    for (options, server) in [("vers=3,nolock,proto=tcp", SERVER), ("vers=3,nolock", "2001:db8::1")]
    {
        let world = World { addresses: Ok(vec![address(server)]), ..World::default() };
        let run = world.rpcbind(|_| Err(SILENCE)).run(direct(&format!("{options},retry=0")));
        assert_eq!(run.asked("rpcbind"), 1, "{options} {server}");
    }
}

#[test]
fn the_transport_that_was_found_is_the_one_that_the_kernel_is_said_to_lack() {
    let facts = KernelFacts { nfs_over_udp: true };
    let refusal = Failure::refused(
        call::CREATE,
        Errno::INVAL,
        vec!["NFS: Unsupported transport protocol udp".to_owned()],
    );
    let run = World { facts, ..World::default() }
        .port(only(Transport::Udp))
        .kernel(move |_| Err(refusal.clone()))
        .run(direct("vers=3,nolock,retry=0"));
    assert_eq!(run.fault().cause, crate::nfs::Cause::TransportNotInKernel(Transport::Udp));
}

#[test]
fn a_refusal_that_may_be_about_the_flavour_is_looked_up_at_mountd() {
    let krb5 = || vec![Flavour(390_003)];
    let sys = || vec![Flavour(6), Flavour::SYS];
    for (options, errno, offered, id, asked) in [
        ("", Errno::INVAL, krb5(), "nfs.security-offered", 1),
        ("", Errno::INVAL, sys(), "nfs.options-refused", 1),
        ("", Errno::INVAL, vec![], "nfs.options-refused", 1),
        ("", Errno::ACCESS, krb5(), "nfs.export-denied-or-missing", 0),
        ("sec=sys", Errno::ACCESS, krb5(), "nfs.security-offered", 1),
        ("sec=krb5:sys", Errno::ACCESS, krb5(), "nfs.export-denied-or-missing", 1),
        ("sec=krb5p", Errno::ACCESS, vec![Flavour::NONE], "nfs.export-denied-or-missing", 1),
        ("mountvers=1", Errno::INVAL, krb5(), "nfs.options-refused", 0),
    ] {
        let world = World { export: Ok(Export::Flavours(offered)), ..World::default() };
        let request = direct(&format!("vers=3,nolock,retry=0,{options}"));
        let run = world.kernel(move |_| Err(server_says(errno))).run(request);
        let question = "flavours of \"/a\" from mountd at 192.0.2.1:20048 over udp";
        assert_eq!((run.fault().id(), run.asked(question)), (id, asked), "{options} {errno}");
    }
}

#[test]
fn where_mountd_does_not_tell_the_flavours_the_kernels_word_stands() {
    for export in [Err(SILENCE), Ok(Export::Refused(13))] {
        let world = World { export, ..World::default() };
        let run =
            world.kernel(|_| Err(server_says(Errno::INVAL))).run(direct("vers=3,nolock,retry=0"));
        assert_eq!(run.fault().id(), "nfs.options-refused");
    }
}
