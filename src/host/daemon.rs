//! Whether the daemons of this host that a mount may need are running, as the kernel would find them.
//!
//! | daemon | how the kernel finds it | how it is found here |
//! | --- | --- | --- |
//! | rpc.statd | by rpcbind on 127.0.0.1, over TCP (fs/lockd/mon.c: nsm_create) | the same way, in `nfs` |
//! | rpc.gssd | it has a pipe of rpc_pipefs open (net/sunrpc/rpc_pipe.c: gssd_running) | by its process |
//! | tlshd | it listens to a group of netlink (net/handshake/netlink.c: handshake_genl_notify) | the same way |
//!
//! Each network namespace has its own. What cannot be seen from here (another PID namespace) is
//! [`Presence::Unknown`], never guessed.

use std::fs;
use std::io;
use std::path::Path;

use rustix::net::netlink::GENERIC;

use crate::host::netlink;
use crate::host::netlink::attribute;
use crate::host::netlink::attributes;
use crate::host::netlink::u32_at;

const PROC: &str = "/proc";

/// A daemon of this host that a mount option needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// rpc.statd, for NFSv3 locks over the network.
    Statd,
    /// rpc.gssd, for `sec=krb5*`.
    Gssd,
    /// tlshd, for `xprtsec=tls`.
    Tlshd,
}

/// Whether a daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Runs,
    /// It does not; how that was found out.
    Missing(String),
    /// It could not be found out, and why.
    Unknown(String),
}

/// Whether rpc.gssd runs. Who has the pipe open is known to the kernel alone, so its process is looked for.
#[must_use]
pub fn gssd() -> Presence {
    process("rpc.gssd", Path::new(PROC))
}

fn process(name: &str, proc: &Path) -> Presence {
    let processes = match processes_called(name, proc) {
        Ok(processes) => processes,
        Err(error) => return Presence::Unknown(format!("the processes cannot be listed: {error}")),
    };
    let namespace = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let ours = namespace(&proc.join("self"));
    if processes.iter().any(|process| namespace(process).is_none_or(|its| Some(its) == ours)) {
        return Presence::Runs;
    }
    if !processes.is_empty() {
        return Presence::Missing(format!("{name} runs in another network namespace only"));
    }
    // Kernel threads are seen from the first PID namespace alone.
    match fs::read_to_string(proc.join("2/comm")) {
        Ok(name_of_2) if name_of_2.trim_end() == "kthreadd" => {
            Presence::Missing(format!("no process of this host is called {name}"))
        }
        _ => {
            Presence::Unknown("the host's processes cannot be seen from this container".to_owned())
        }
    }
}

fn processes_called(name: &str, proc: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let is_process = |path: &Path| {
        let id = path.file_name().and_then(|id| id.to_str()).unwrap_or_default();
        id.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_called = |path: &Path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    Ok(fs::read_dir(proc)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_process(path) && is_called(path))
        .collect())
}

/// Whether tlshd listens; the kernel says ESRCH to a mount where nobody does.
#[must_use]
pub fn tlshd() -> Presence {
    let asked = netlink::ask(GENERIC, &family_request("handshake"));
    let group = match asked.and_then(|reply| group_in(&reply, "tlshd")) {
        Ok(Some(group)) => group,
        Ok(None) => {
            return Presence::Missing(
                "this kernel has no TLS handshakes for NFS (CONFIG_NET_HANDSHAKE)".to_owned(),
            );
        }
        Err(error) => return Presence::Unknown(format!("netlink does not answer: {error}")),
    };
    match fs::read_to_string("/proc/net/netlink") {
        Ok(table) => listens(&table, group),
        Err(error) => Presence::Unknown(format!("/proc/net/netlink: {error}")),
    }
}

const GENL_ID_CTRL: u16 = 16;

/// genlmsghdr with CTRL_CMD_GETFAMILY, then CTRL_ATTR_FAMILY_NAME (linux/genetlink.h).
fn family_request(name: &str) -> Vec<u8> {
    const CTRL_CMD_GETFAMILY: u8 = 3;
    const CTRL_ATTR_FAMILY_NAME: u16 = 2;
    let mut body = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
    let length = u16::try_from(4 + name.len() + 1).unwrap_or_default();
    body.extend(length.to_ne_bytes());
    body.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
    body.extend(name.as_bytes());
    body.push(0);
    body.resize(body.len().next_multiple_of(4), 0);
    netlink::request(GENL_ID_CTRL, &body)
}

/// The number of a family's multicast group; `None` where there is no such family or group.
fn group_in(reply: &[u8], wanted: &str) -> io::Result<Option<u32>> {
    const GENL_HEADER: usize = 4;
    const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
    const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
    const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;
    let Some(body) = netlink::reply(GENL_ID_CTRL, reply)? else { return Ok(None) };
    let family = body.get(GENL_HEADER..).ok_or_else(netlink::half_an_answer)?;
    let groups = attribute(family, CTRL_ATTR_MCAST_GROUPS).unwrap_or_default();
    let named = |group: &[u8]| {
        let name = attribute(group, CTRL_ATTR_MCAST_GRP_NAME).unwrap_or_default();
        name.strip_suffix(&[0]) == Some(wanted.as_bytes())
    };
    Ok(attributes(groups)
        .find(|(_, group)| named(group))
        .and_then(|(_, group)| u32_at(attribute(group, CTRL_ATTR_MCAST_GRP_ID)?, 0)))
}

/// Columns of the table: sk, Eth (the protocol), Pid, Groups (a bit for each of the first 32).
fn listens(table: &str, group: u32) -> Presence {
    const NETLINK_GENERIC: &str = "16";
    let Some(bit) = group.checked_sub(1).and_then(|place| 1_u32.checked_shl(place)) else {
        return Presence::Unknown(format!("/proc/net/netlink does not show group {group}"));
    };
    let listener = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let of_generic = columns.next() == Some(NETLINK_GENERIC);
        let groups = columns.nth(1).and_then(|groups| u32::from_str_radix(groups, 16).ok());
        of_generic && groups.is_some_and(|groups| groups & bit != 0)
    };
    if table.lines().skip(1).any(listener) {
        Presence::Runs
    } else {
        Presence::Missing("nobody listens for the kernel's TLS handshakes".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `/proc` of processes with a name and a network namespace.
    fn proc_of(processes: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (id, name, namespace) in processes {
            let folder = proc.path().join(id);
            fs::create_dir_all(folder.join("ns")).unwrap();
            fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
            std::os::unix::fs::symlink(namespace, folder.join("ns/net")).unwrap();
        }
        proc
    }

    #[test]
    fn a_process_counts_only_in_our_network_and_its_absence_only_where_all_are_seen() {
        let (own, thread) = (("self", "test", "net:[1]"), ("2", "kthreadd", "net:[1]"));
        let runs = ("7", "rpc.gssd", "net:[1]");
        let elsewhere = ("7", "rpc.gssd", "net:[2]");
        for (name, processes, expected) in [
            ("runs", vec![own, runs], "Runs"),
            ("elsewhere", vec![own, thread, elsewhere], "Missing"),
            ("nowhere", vec![own, thread], "Missing"),
            ("another PID namespace", vec![own, ("2", "sh", "net:[1]")], "Unknown"),
        ] {
            let presence = process("rpc.gssd", proc_of(&processes).path());
            assert!(format!("{presence:?}").starts_with(expected), "{name}: {presence:?}");
        }
    }

    #[test]
    fn a_listener_is_known_by_protocol_and_group() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                     00000000d3f5a1b2 0   1          00000010 0        0        0     2        0        1\n\
                     00000000d3f5a1b3 16  822        00000040 0        0        0     2        0        2\n";
        assert_eq!(listens(table, 7), Presence::Runs);
        assert!(matches!(listens(table, 5), Presence::Missing(_)), "another protocol");
        assert!(matches!(listens(table, 8), Presence::Missing(_)), "another group");
        assert!(matches!(listens(table, 33), Presence::Unknown(_)), "not shown");
    }

    fn attribute_of(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_group_is_found_by_its_name_in_the_answer() {
        let group = |name: &[u8], id: u32| {
            [attribute_of(1, name), attribute_of(2, &id.to_ne_bytes())].concat()
        };
        let groups =
            [attribute_of(1, &group(b"none\0", 6)), attribute_of(2, &group(b"tlshd\0", 7))];
        let family = [attribute_of(2, b"handshake\0"), attribute_of(7, &groups.concat())].concat();
        let answer = netlink::request(GENL_ID_CTRL, &[&[1, 1, 0, 0], &family[..]].concat());
        assert_eq!(group_in(&answer, "tlshd").unwrap(), Some(7));
        assert_eq!(group_in(&answer, "other").unwrap(), None);
        for length in 0..answer.len() {
            assert!(!matches!(group_in(&answer[..length], "tlshd"), Ok(Some(6))), "{length}");
        }
    }

    /// Whatever kernel this runs on, the question is understood.
    #[test]
    fn the_kernel_understands_the_question_for_a_family() {
        let reply = netlink::ask(GENERIC, &family_request("nlctrl")).unwrap();
        assert!(group_in(&reply, "notify").unwrap().is_some());
    }
}
