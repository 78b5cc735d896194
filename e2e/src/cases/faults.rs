//! The fault matrix: what each firewall and each dead daemon does to a mount that may try once.

use crate::cases::Case;
use crate::cases::IMPATIENT;
use crate::plain::CLOSING_PORT;
use crate::plain::Condition;
use crate::plain::FOREIGN_PORT;
use crate::plain::Front;
use crate::plain::SILENT_PORT;

pub(super) fn cases() -> Vec<Case> {
    [of_version_4(), of_version_3(), that_do_no_harm(), ports(), peers(), negotiated(), daemons()]
        .concat()
}

const V4: &str = "vers=4.2,retry=0";
const V3: &str = "vers=3,nolock,proto=tcp,retry=0";

type Row = (&'static str, Front, &'static [u8], &'static [&'static [&'static str]]);

const REFUSED: &[&str] = &["refused"];
const SILENCE: &[&str] = &["no answer", "timed out", "did not answer", "does not answer"];
const NO_ROUTE: &[&str] = &["unreachable", "no route"];
const NFS_PORT: &[&str] = &["2049"];

/// What happens to the NFS port, whichever version.
const NFS: [Row; 11] = [
    ("nfs_dropped", Front::NfsDropped, &[75, 51], &[NFS_PORT, SILENCE]),
    ("nfs_reset", Front::NfsReset, &[54], &[NFS_PORT, REFUSED]),
    ("nfs_port_unreachable", Front::NfsPortUnreachable, &[54], &[NFS_PORT, REFUSED]),
    ("nfs_prohibited", Front::NfsProhibited, &[7], &[NFS_PORT, NO_ROUTE]),
    ("nfs_host_unreachable", Front::NfsHostUnreachable, &[7], &[NFS_PORT, NO_ROUTE]),
    ("nfs_net_unreachable", Front::NfsNetUnreachable, &[7], &[NFS_PORT, NO_ROUTE]),
    ("everything_refused", Front::Closed, &[54, 79], &[REFUSED]),
    ("everything_dropped", Front::BlackHole, &[51, 79], &[SILENCE]),
    ("host_is_dead", Front::Dead, &[86], &[NO_ROUTE]),
    ("no_route", Front::Unroutable, &[7], &[NO_ROUTE]),
    ("only_tcp_dropped", Front::NfsTcpDropped, &[75], &[NFS_PORT, SILENCE]),
];

fn row(version: &str, options: &str, (name, front, shows, says): Row) -> Case {
    let options = format!("{options},{IMPATIENT}");
    Case::at(format!("{name}_{version}"), front, options).shows(shows).fails(says)
}

fn of_version_4() -> Vec<Case> {
    NFS.into_iter().map(|line| row("v4", V4, line).shows(&[77])).collect()
}

fn of_version_3() -> Vec<Case> {
    let more: [Row; 4] = [
        ("rpcbind_dropped", Front::RpcbindDropped, &[73], &[&["111", "rpcbind"], SILENCE]),
        ("rpcbind_refused", Front::RpcbindRefused, &[73], &[&["111", "rpcbind"], REFUSED]),
        ("mountd_dropped", Front::MountDropped, &[], &[&["20048", "mountd"], SILENCE]),
        ("mountd_refused", Front::MountRefused, &[], &[&["20048", "mountd"], REFUSED]),
    ];
    NFS.into_iter()
        .chain(more)
        .map(|line| row("v3", V3, line).shows(&[28, 77, 109]))
        .map(|case| case.differs("the port and the service that failed are named"))
        .collect()
}

/// Firewalls that leave a way, and the mount finds it.
fn that_do_no_harm() -> Vec<Case> {
    let third = "vers=3,nolock,retry=0";
    let fixed = "vers=3,nolock,proto=tcp,port=2049,mountport=20048,mountproto=tcp,retry=0";
    vec![
        Case::at("nfs_udp_dropped_v3", Front::NfsUdpDropped, third)
            .shows(&[74])
            .with(&["proto=tcp"]),
        Case::at("mountd_udp_dropped_v3", Front::MountUdpDropped, third)
            .shows(&[5, 7])
            .with(&["mountproto=tcp"]),
        Case::at("mountd_tcp_dropped_v3", Front::MountTcpDropped, third)
            .shows(&[5, 7])
            .with(&["mountproto=udp"]),
        Case::at("rpcbind_udp_dropped_v3", Front::RpcbindUdpDropped, third).shows(&[5, 7]),
        Case::at("rpcbind_tcp_dropped_v3", Front::RpcbindTcpDropped, third)
            .shows(&[5, 7])
            .differs("rpcbind is asked over UDP as well, also for a port of TCP"),
        Case::at("rpcbind_dropped_but_ports_given_v3", Front::RpcbindDropped, fixed)
            .shows(&[7, 73, 115, 117])
            .with(&["mountport=20048"]),
        Case::at("only_nfs_passes_v4", Front::OnlyNfs, V4).shows(&[7, 21, 132]).with(&["vers=4.2"]),
        Case::at("only_nfs_passes", Front::OnlyNfs, "retry=0").shows(&[7, 21]).with(&["vers=4.2"]),
        Case::at("a_slow_server_v4", Front::Slow, V4).shows(&[78]),
        Case::at("a_slow_server_v3", Front::Slow, third).shows(&[78]),
    ]
}

/// The port that was asked for, and no other.
fn ports() -> Vec<Case> {
    let here: &[&[&str]] = &[&["2050"], REFUSED];
    let at = |name: &str, front, options: String| Case::at(name, front, options);
    let impatient = |options: &str, port: &str| format!("{options},{port},{IMPATIENT}");
    vec![
        at("a_port_where_nobody_listens_v4", Front::Good, impatient(V4, "port=2050"))
            .shows(&[132])
            .fails(here),
        at("a_port_where_nobody_listens_v3", Front::Good, impatient(V3, "port=2050"))
            .shows(&[115])
            .fails(here)
            .differs("the port is named"),
        at("port_0_of_v4_where_rpcbind_is_dropped", Front::OnlyNfs, impatient(V4, "port=0"))
            .shows(&[132])
            .fails(&[&["111", "rpcbind"], SILENCE])
            .differs("the service that did not answer is named"),
    ]
}

/// Something listens, but it is no NFS server.
fn peers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, port, says) in [
        ("silent", SILENT_PORT, &["3001"]),
        ("that_hangs_up", CLOSING_PORT, &["3002"]),
        ("that_is_a_web_server", FOREIGN_PORT, &["3003"]),
    ] {
        for (version, options) in
            [("v4", V4.to_owned()), ("v3", format!("{V3},mountport=20048,mountproto=tcp"))]
        {
            let options = format!("{options},port={port},{IMPATIENT}");
            let case = Case::at(format!("a_peer_{name}_{version}"), Front::Good, options);
            let case = case.shows(&[28, 49, 79]);
            let says: &'static [&'static [&'static str]] = match says {
                ["3001"] => &[&["3001"]],
                ["3002"] => &[&["3002"]],
                _ => &[&["3003"]],
            };
            cases.push(case.fails(says).differs("the port and what it answered are named"));
        }
    }
    cases
}

/// With the version left open, every failure is the whole chain's.
fn negotiated() -> Vec<Case> {
    let options = format!("nolock,retry=0,{IMPATIENT}");
    let at = |name: &str, front| Case::at(name, front, options.as_str());
    vec![
        at("everything_refused", Front::Closed).shows(&[18, 54, 79]).fails(&[REFUSED]),
        at("everything_dropped", Front::BlackHole).shows(&[18, 51, 79]).fails(&[SILENCE]),
        at("nfs_reset", Front::NfsReset).shows(&[18, 54]).fails(&[NFS_PORT, REFUSED]),
        at("nfs_dropped", Front::NfsDropped).shows(&[18, 75]).fails(&[NFS_PORT, SILENCE]),
    ]
}

fn daemons() -> Vec<Case> {
    let at = |name: &str, condition, options: &str| {
        Case::at(name, Front::Good, format!("{options},{IMPATIENT}")).when(condition)
    };
    let fixed = "vers=3,nolock,proto=tcp,port=2049,mountport=20048,mountproto=tcp,retry=0";
    vec![
        at("nfsd_stopped_v4", Condition::NfsdStopped, V4)
            .shows(&[54, 79])
            .fails(&[NFS_PORT, REFUSED]),
        at("nfsd_stopped_v3", Condition::NfsdStopped, V3)
            .shows(&[52, 79, 109])
            .fails(&[&["nfs"], &["not registered", "refused", "not know", "no nfs"]])
            .differs("the message says that rpcbind answers and does not know NFS"),
        at("nfsd_stopped", Condition::NfsdStopped, "nolock,retry=0")
            .shows(&[18, 79])
            .fails(&[REFUSED]),
        at("mountd_stopped_v3", Condition::MountdStopped, V3)
            .shows(&[52, 109])
            .fails(&[&["mountd", "mount service", "mount"]])
            .differs("the message says that rpcbind answers and does not know mountd"),
        at("mountd_died_v3", Condition::MountdDied, V3)
            .shows(&[54, 109])
            .fails(&[&["mountd", "20048"], REFUSED])
            .differs("the message names mountd and its port"),
        at("rpcbind_stopped_v3", Condition::RpcbindStopped, V3)
            .shows(&[54, 109])
            .fails(&[&["rpcbind", "111"], REFUSED])
            .differs("the message names rpcbind and its port"),
        at("rpcbind_stopped_but_ports_given_v3", Condition::RpcbindStopped, fixed).shows(&[7, 73]),
        at("rpcbind_stopped_v4", Condition::RpcbindStopped, V4).shows(&[21]),
    ]
}
