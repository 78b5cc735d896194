//! The text of every situation that a mount is known to get into, compared with a file that people read.
//!
//! The situations, and which errno the kernel answers with in each, were observed on Linux 6.12. To accept new
//! texts, run the test with `ALINAS_CSI_ACCEPT_GOLDEN=1` and read the difference.
//!
//! LONG: a table.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::policy::Export;
use super::policy::Flavour;
use super::policy::Presence;
use super::policy::ResolveFault;
use super::policy::RpcFault;
use super::policy::Service;
use super::policy::tests::SILENCE;
use super::policy::tests::World;
use super::policy::tests::direct;
use super::policy::tests::refused;
use super::policy::tests::server_says;
use super::policy::tests::tunnel;
use super::request::MountRequest;
use super::request::Patience;
use crate::host::mount_syscalls::call;
use crate::host::worker::Failure;
use crate::model::nfs_option::Transport;

/// Where the texts are.
const FILE: &str = "src/nfs/golden/messages.txt";
const ACCEPT: &str = "ALINAS_CSI_ACCEPT_GOLDEN";

const FOURTH: &str = "vers=4.2,retry=0";
const THIRD: &str = "vers=3,nolock,retry=0";
const OPEN: &str = "nolock,retry=0";

#[test]
fn every_situation_has_its_text() {
    let mut text = String::from(HEAD);
    for (place, Situation { title, request, world }) in situations().into_iter().enumerate() {
        let run = world.run(request.clone());
        let fault = run.fault();
        let options = request.options.to_string();
        let way = if fault.subject.tunnel.is_some() { "through the tunnel" } else { "direct" };
        let lasting = if fault.is_permanent() { "permanent" } else { "temporary" };
        writeln!(text, "\n{}. {title} ({way}, {options})", place + 1).unwrap();
        writeln!(text, "   {} {lasting} exit {}", fault.id(), fault.exit_code()).unwrap();
        writeln!(text, "   {fault}").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if accepts() {
        std::fs::write(&path, &text).unwrap();
    }
    let accepted = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(accepted.lines()).find(|(new, old)| new != old);
    assert!(
        text == accepted,
        "{FILE} differs: {differs:#?}\nrun with {ACCEPT}=1 to accept the new texts"
    );
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests, not a setting")]
fn accepts() -> bool {
    std::env::var(ACCEPT).is_ok_and(|value| value == "1")
}

const HEAD: &str = "\
What a failed mount says, in every situation that is known. Written by the test
nfs::golden::every_situation_has_its_text; the sentences are in src/nfs/catalogue.rs.

Each: the situation (how the kernel reaches the server, the options), the id of the
message, whether trying again can help, mount(8)'s exit code, and the line.
";

struct Situation {
    title: &'static str,
    request: MountRequest,
    world: World,
}

fn situation(title: &'static str, request: MountRequest, world: World) -> Situation {
    Situation { title, request, world }
}

fn situations() -> Vec<Situation> {
    let mut all = Vec::new();
    all.extend(ways_to_the_server());
    all.extend(services());
    all.extend(answers_of_the_server());
    all.extend(this_host());
    all.extend(negotiated());
    all.extend(through_the_tunnel());
    all
}

/// Everything at the server answers so.
fn all_calls(fault: RpcFault) -> World {
    let of_rpcbind = fault.clone();
    World::default()
        .port(move |_, _, _| Err(of_rpcbind.clone()))
        .ping(move |_, _, _| Err(fault.clone()))
}

/// The NFS service answers so.
fn nfs(fault: RpcFault) -> World {
    World::default().ping(move |_, service, _| match service {
        Service::Nfs(_) => Err(fault.clone()),
        Service::Mount(_) => Ok(()),
    })
}

/// mountd answers so.
fn mountd(fault: RpcFault) -> World {
    World::default().ping(move |_, service, _| match service {
        Service::Nfs(_) => Ok(()),
        Service::Mount(_) => Err(fault.clone()),
    })
}

/// The kernel answers so.
fn kernel(failure: Failure) -> World {
    World::default().kernel(move |_| Err(failure.clone()))
}

fn slow_kernel(errno: Errno, seconds: u64) -> World {
    let answer = move |_| (Err(server_says(errno)), Duration::from_secs(seconds));
    World::default().kernel_in_time(answer)
}

fn words(call: &str, errno: Errno, kernel: &str) -> Failure {
    Failure::refused(call, errno, vec![kernel.to_owned()])
}

fn unreachable(text: &str) -> RpcFault {
    RpcFault::Unreachable(text.to_owned())
}

fn html() -> RpcFault {
    RpcFault::Garbage("it speaks HTTP".to_owned())
}

/// The same situation for both versions.
fn both(title: &'static str, world: impl Fn() -> World) -> [Situation; 2] {
    [FOURTH, THIRD].map(|options| situation(title, direct(options), world()))
}

fn ways_to_the_server() -> Vec<Situation> {
    let no_route = || all_calls(unreachable("Network is unreachable (ENETUNREACH)"));
    let filtered = || all_calls(unreachable("No route to host (EHOSTUNREACH)"));
    let resolver = |fault: ResolveFault| World { addresses: Err(fault), ..World::default() };
    let why = || "Name or service not known".to_owned();
    let mut all = Vec::new();
    all.extend(both("nothing listens, neither NFS nor rpcbind", || all_calls(RpcFault::Refused)));
    all.extend(both("a firewall says that the host is unreachable, or it is dead", filtered));
    all.extend(both("no route", no_route));
    all.extend(both("a firewall swallows what goes to port 2049", || nfs(SILENCE)));
    all.extend(both("a firewall swallows everything", || all_calls(SILENCE)));
    all.extend(both("the server hangs once the kernel comes", || {
        slow_kernel(Errno::TIMEDOUT, 500)
    }));
    all.extend(both("no answer to the kernel (timeo=20,retrans=1)", || {
        slow_kernel(Errno::TIMEDOUT, 4)
    }));
    all.extend(both("the peer accepts and closes", || nfs(RpcFault::Closed)));
    all.push(situation(
        "the peer accepts and closes once the kernel comes",
        direct(FOURTH),
        slow_kernel(Errno::PIPE, 2),
    ));
    all.push(situation(
        "the peer accepts and closes once the kernel comes",
        direct(THIRD),
        slow_kernel(Errno::IO, 4),
    ));
    all.extend(both("the peer speaks HTTP", || nfs(html())));
    all.push(situation(
        "the name does not exist",
        direct(FOURTH),
        resolver(ResolveFault::NoSuchName(why())),
    ));
    all.push(situation(
        "the name servers do not answer",
        direct(FOURTH),
        resolver(ResolveFault::TryAgain("Temporary failure in name resolution".to_owned())),
    ));
    all.push(situation(
        "the name has no IPv6 address",
        direct("vers=4.2,proto=tcp6,retry=0"),
        resolver(ResolveFault::NoSuchFamily(crate::model::nfs_option::Family::Inet6)),
    ));
    all
}

fn services() -> Vec<Situation> {
    let rpcbind = |fault: RpcFault| World::default().port(move |_, _, _| Err(fault.clone()));
    let no_mountd = || {
        World::default().port(|_, service, _| match service {
            Service::Nfs(_) => Ok(2049),
            Service::Mount(_) => Err(RpcFault::NotRegistered),
        })
    };
    let over_udp = "vers=3,nolock,mountproto=udp,retry=0";
    let udp_refused = World::default().port(|_, _, transport| match transport {
        Transport::Udp => Err(RpcFault::Refused),
        _ => Ok(2049),
    });
    vec![
        situation("a firewall swallows what goes to rpcbind", direct(THIRD), rpcbind(SILENCE)),
        situation("rpcbind is not running", direct(THIRD), rpcbind(RpcFault::Refused)),
        situation(
            "rpcbind is silent over TCP, and knows no nfsd over UDP",
            direct(THIRD),
            World::default()
                .rpcbind(|over| if over == Transport::Tcp { Err(SILENCE) } else { Ok(()) })
                .port(|_, _, _| Err(RpcFault::NotRegistered)),
        ),
        situation("another program has port 111", direct(THIRD), rpcbind(html())),
        situation("rpcbind closes", direct(THIRD), rpcbind(RpcFault::Closed)),
        situation("rpcbind runs, nfsd does not", direct(THIRD), rpcbind(RpcFault::NotRegistered)),
        situation(
            "rpcbind runs, nfsd does not, and the port is given",
            direct("vers=3,nolock,port=2049,retry=0"),
            nfs(RpcFault::Refused),
        ),
        situation(
            "rpcbind runs, nfsd does not, and rpcbind is to be asked",
            direct("vers=4.2,port=0,retry=0"),
            rpcbind(RpcFault::NotRegistered),
        ),
        situation("mountd is not registered", direct(THIRD), no_mountd()),
        situation(
            "mountd is not there, and its port is given",
            direct("vers=3,nolock,mountport=20048,retry=0"),
            mountd(RpcFault::Refused),
        ),
        situation("a firewall swallows what goes to mountd", direct(THIRD), mountd(SILENCE)),
        situation("the same, over UDP alone", direct(over_udp), mountd(SILENCE)),
        situation("a firewall rejects rpcbind over UDP", direct(over_udp), udp_refused),
        situation(
            "a firewall rejects mountd over UDP",
            direct(over_udp),
            mountd(RpcFault::Refused),
        ),
        situation("mountd closes", direct(THIRD), mountd(RpcFault::Closed)),
        situation("another program has the port of mountd", direct(THIRD), mountd(html())),
        situation(
            "mountd has versions 1 and 2 only",
            direct(THIRD),
            mountd(RpcFault::NoSuchVersion { low: 1, high: 2 }),
        ),
    ]
}

fn answers_of_the_server() -> Vec<Situation> {
    let mut all = vec![
        situation(
            "the server lacks this minor version",
            direct(FOURTH),
            kernel(words(call::CREATE, Errno::PROTONOSUPPORT, FOLLOW)),
        ),
        situation(
            "the server has NFS 2 and 3 only",
            direct(FOURTH),
            nfs(RpcFault::NoSuchVersion { low: 2, high: 3 }),
        ),
        situation(
            "the server has NFS 4 only",
            direct(THIRD),
            nfs(RpcFault::NoSuchVersion { low: 4, high: 4 }),
        ),
        situation(
            "the server has NFS 4 only (the kernel's answer)",
            direct(THIRD),
            kernel(server_says(Errno::PROTONOSUPPORT)),
        ),
    ];
    let krb5 = || vec![Flavour(390_003), Flavour(390_004), Flavour(390_005)];
    let kerberos_only =
        |errno| World { export: Ok(Export::Flavours(krb5())), ..kernel(server_says(errno)) };
    all.extend([
        situation("the export is for Kerberos only", direct(THIRD), kerberos_only(Errno::INVAL)),
        situation(
            "the export is for Kerberos only, and sec=sys is given",
            direct("vers=3,nolock,sec=sys,retry=0"),
            kerberos_only(Errno::ACCESS),
        ),
    ]);
    for (title, fourth, third) in [
        ("no such path", Errno::NOENT, Errno::ACCESS),
        ("no such path within an export", Errno::NOENT, Errno::NOENT),
        ("the export is not for this host", Errno::ACCESS, Errno::ACCESS),
        ("the export is for other security flavours", Errno::PERM, Errno::ACCESS),
        ("the export has gone stale", Errno::STALE, Errno::STALE),
        ("the server has a fault", Errno::REMOTEIO, Errno::REMOTEIO),
        ("the server's disk has a fault", Errno::IO, Errno::IO),
        ("an errno that nobody expects", Errno::NOSPC, Errno::NOSPC),
    ] {
        all.push(situation(title, direct(FOURTH), kernel(words(call::CREATE, fourth, FOLLOW))));
        all.push(situation(title, direct(THIRD), kernel(server_says(third))));
    }
    all.extend(both("the export is a file", || kernel(refused(call::MOVE_MOUNT, Errno::INVAL))));
    all.extend(both("the export is a file (by mount(2))", || {
        kernel(refused(call::MOUNT, Errno::NOTDIR))
    }));
    all
}

const FOLLOW: &str = "NFS4: Couldn't follow remote path";

fn this_host() -> Vec<Situation> {
    let target =
        |errno| World { target: Err(refused(call::OPEN_TARGET, errno)), ..World::default() };
    let hung = Failure::Deadline(Duration::from_secs(10));
    let no_daemon =
        |how: &str| World { daemons: Presence::Missing(how.to_owned()), ..World::default() };
    let unknown = "nfs: Unknown parameter 'rdirplus'";
    let no_module = "NFS: Unrecognized transport protocol";
    let no_udp = "NFS: Unsupported transport protocol udp";
    let mut all = vec![
        situation("the target is missing", direct(FOURTH), target(Errno::NOENT)),
        situation("the target is a file", direct(FOURTH), target(Errno::NOTDIR)),
        situation("the target has links in a circle", direct(FOURTH), target(Errno::LOOP)),
        situation("the target's name is too long", direct(FOURTH), target(Errno::NAMETOOLONG)),
        situation(
            "the target is behind a dead file system",
            direct(FOURTH),
            World { target: Err(hung), ..World::default() },
        ),
        situation(
            "locks without rpc.statd",
            direct("vers=3,retry=0"),
            no_daemon("no rpcbind answers on this host"),
        ),
        situation(
            "Kerberos without rpc.gssd",
            direct("vers=4.2,sec=krb5p,retry=0"),
            no_daemon("nobody has opened its pipe"),
        ),
        situation(
            "TLS by the kernel without tlshd",
            direct("vers=4.2,xprtsec=tls,retry=0"),
            no_daemon("nobody listens for handshakes"),
        ),
        situation(
            "TLS by the kernel without tlshd (the kernel's answer)",
            direct("vers=4.2,xprtsec=tls,retry=0"),
            kernel(server_says(Errno::SRCH)),
        ),
        situation(
            "UDP without the kernel",
            direct("vers=3,proto=udp,nolock,retry=0"),
            World::default(),
        ),
        situation(
            "UDP without the kernel (the kernel's answer)",
            direct("vers=3,proto=udp,nolock,retry=0"),
            with_udp(kernel(words("fsconfig(proto)", Errno::INVAL, no_udp))),
        ),
        situation(
            "RDMA without its module",
            direct("vers=4.2,proto=rdma,retry=0"),
            kernel(words("fsconfig(proto)", Errno::INVAL, no_module)),
        ),
        situation(
            "RDMA without a device",
            direct("vers=4.2,proto=rdma,retry=0"),
            kernel(server_says(Errno::PROTO)),
        ),
    ];
    for (title, failure) in [
        ("not root", refused(call::FSOPEN, Errno::PERM)),
        ("the kernel has no NFS", refused(call::FSOPEN, Errno::NODEV)),
        (
            "the kernel lacks this version",
            words(call::CREATE, Errno::PROTONOSUPPORT, "NFS: Version unavailable"),
        ),
        ("the kernel does not know an option", words("fsconfig(rdirplus)", Errno::INVAL, unknown)),
        ("options that do not go together", server_says(Errno::INVAL)),
        ("too many options", refused(call::MOUNT, Errno::TOOBIG)),
        ("something is mounted there", refused(call::MOUNT_TABLE, Errno::BUSY)),
        ("the kernel is busy with something else", refused(call::MOUNT, Errno::BUSY)),
        ("no memory", refused(call::FSMOUNT, Errno::NOMEM)),
        ("no reserved port is free", server_says(Errno::ADDRINUSE)),
        ("a bad pointer", refused(call::MOUNT, Errno::FAULT)),
        (
            "no process can be started",
            Failure::Worker("Resource temporarily unavailable".to_owned()),
        ),
    ] {
        all.extend(both(title, || there_is_another(title, kernel(failure.clone()))));
    }
    all.push(situation(
        "the caller goes away",
        direct(FOURTH),
        World { cancelled_at: Some(3), ..World::default() },
    ));
    all
}

fn with_udp(world: World) -> World {
    World { facts: super::policy::KernelFacts { nfs_over_udp: true }, ..world }
}

fn there_is_another(title: &str, world: World) -> World {
    let there = title
        .starts_with("something is mounted")
        .then(|| crate::host::mount_table::fake::nfs_mount("other:/b", Path::new("/t")));
    World { there, ..world }
}

fn negotiated() -> Vec<Situation> {
    let by_version = |fourth, third| {
        World::default()
            .kernel(move |version| Err(server_says(if version.is_4() { fourth } else { third })))
    };
    let minutes =
        |options, world| situation("it was tried for two minutes", direct(options), world);
    vec![
        situation("no such path", direct(OPEN), by_version(Errno::NOENT, Errno::ACCESS)),
        situation(
            "no version of the server's is one of ours",
            direct(OPEN),
            by_version(Errno::PROTONOSUPPORT, Errno::PROTONOSUPPORT),
        ),
        situation("nothing listens", direct(OPEN), all_calls(RpcFault::Refused)),
        situation(
            "NFS 4 is refused, and NFS 3 without mountd",
            direct(OPEN),
            World::default()
                .port(|_, service, _| match service {
                    Service::Nfs(_) => Ok(2050),
                    Service::Mount(_) => Err(RpcFault::NotRegistered),
                })
                .ping(
                    |server, _, _| {
                        if server.port() == 2049 { Err(RpcFault::Refused) } else { Ok(()) }
                    },
                ),
        ),
        minutes("vers=4.2", all_calls(unreachable("No route to host (EHOSTUNREACH)"))),
        minutes("nolock", nfs(SILENCE)),
    ]
}

fn through_the_tunnel() -> Vec<Situation> {
    let once = |options| MountRequest {
        patience: Patience::Deadline(Duration::from_secs(1)),
        ..tunnel(options)
    };
    let mut all = Vec::new();
    for (title, options, failure) in [
        ("the tunnel does not listen", "", server_says(Errno::CONNREFUSED)),
        ("the tunnel accepts and closes", "", server_says(Errno::IO)),
        ("the tunnel accepts and closes", "vers=4.0", server_says(Errno::PIPE)),
        ("the tunnel resets", "", server_says(Errno::CONNRESET)),
        ("no route", "", server_says(Errno::NETUNREACH)),
        ("no answer", "", server_says(Errno::TIMEDOUT)),
        ("no answer before the deadline", "", Failure::Deadline(Duration::from_secs(45))),
        ("no such version", "", server_says(Errno::PROTONOSUPPORT)),
        ("no such version", "vers=4.0", server_says(Errno::PROTONOSUPPORT)),
        ("no such path", "vers=4.0", words(call::CREATE, Errno::NOENT, FOLLOW)),
        ("no such path, or not allowed", "", server_says(Errno::ACCESS)),
        ("not allowed", "vers=4.0", server_says(Errno::ACCESS)),
        ("another kind of access", "vers=4.0", server_says(Errno::PERM)),
        ("the export is a file", "", refused(call::MOVE_MOUNT, Errno::INVAL)),
        ("the export was removed", "", server_says(Errno::STALE)),
        ("the mount target has a fault", "", server_says(Errno::REMOTEIO)),
        ("something is mounted there", "", refused(call::MOUNT_TABLE, Errno::BUSY)),
    ] {
        all.push(situation(title, once(options), there_is_another(title, kernel(failure))));
    }
    all
}
