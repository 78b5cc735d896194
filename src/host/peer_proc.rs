//! Sockets as `/proc` shows them: the table of TCP sockets, and the descriptors of processes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Instant;

use crate::host::peer::Connection;
use crate::host::peer::ListenerFacts;
use crate::host::peer::Process;
use crate::host::peer::SocketFacts;
use crate::host::peer_diag::address_of_word;

const TCP_TABLE: &str = "/proc/net/tcp";
const TCP6_TABLE: &str = "/proc/net/tcp6";
/// The address `::` in that table.
const EVERY_ADDRESS_OF_6: &str = "00000000000000000000000000000000";
const TCP_ESTABLISHED: &str = "01";
const TCP_LISTEN: &str = "0A";

/// One line of `/proc/net/tcp` (proc_net_tcp.rst).
pub(super) struct Line<'a> {
    pub(super) local: SocketAddrV4,
    pub(super) remote: SocketAddrV4,
    pub(super) state: &'a str,
    pub(super) user: u32,
    pub(super) inode: u32,
}

/// The socket of one connection, without its cgroup.
pub(super) fn find(end: Connection) -> io::Result<Option<SocketFacts>> {
    let table = fs::read_to_string(TCP_TABLE)?;
    Ok(lines(&table).find(|line| line.local == end.local && line.remote == end.peer).map(|line| {
        SocketFacts {
            established: line.state == TCP_ESTABLISHED,
            user: line.user,
            inode: line.inode,
            cgroup: None,
        }
    }))
}

/// The socket that listens at an address, or at every address of its port.
pub(super) fn listener(address: SocketAddrV4) -> Option<ListenerFacts> {
    let table = fs::read_to_string(TCP_TABLE).ok()?;
    let of_4 = lines(&table)
        .filter(|line| line.state == TCP_LISTEN && line.local.port() == address.port())
        .find(|line| line.local.ip() == address.ip() || line.local.ip().is_unspecified())
        .map(|line| ListenerFacts {
            at: SocketAddr::V4(line.local),
            user: line.user,
            inode: line.inode,
        });
    of_4.or_else(|| listener_of_6(&fs::read_to_string(TCP6_TABLE).ok()?, address.port()))
}

/// Whether such a socket takes IPv4, too, is not shown; who is asking could not bind the port, so it does.
fn listener_of_6(table: &str, port: u16) -> Option<ListenerFacts> {
    let local = format!("{EVERY_ADDRESS_OF_6}:{port:04X}");
    table.lines().skip(1).find_map(|text| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let listens = words.get(1) == Some(&local.as_str()) && words.get(3) == Some(&TCP_LISTEN);
        listens.then_some(())?;
        Some(ListenerFacts {
            at: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            user: words.get(7)?.parse().ok()?,
            inode: words.get(9)?.parse().ok()?,
        })
    })
}

/// The loopback addresses that sockets listen at.
pub(super) fn listening() -> io::Result<BTreeSet<Ipv4Addr>> {
    let table = fs::read_to_string(TCP_TABLE)?;
    let listening = lines(&table).filter(|line| line.state == TCP_LISTEN);
    Ok(listening.map(|line| *line.local.ip()).filter(Ipv4Addr::is_loopback).collect())
}

/// The first process found that has a descriptor of a socket. A process that may not be looked into, or that
/// ends meanwhile, is passed over.
pub(super) fn holder(inode: u32) -> Option<Process> {
    search(inode, || true)
}

/// As [`holder`], but `None` too where nobody was found by then: for a message, never for a decision.
pub(super) fn holder_until(inode: u32, until: Instant) -> Option<Process> {
    search(inode, || Instant::now() < until)
}

fn search(inode: u32, go_on: impl Fn() -> bool) -> Option<Process> {
    let processes = fs::read_dir("/proc").ok()?;
    processes
        .flatten()
        .take_while(|_| go_on())
        .find_map(|entry| held_by(entry.file_name().to_str()?.parse().ok()?, inode))
}

/// This process, if it has a descriptor of that socket.
pub(super) fn held_by(process: u32, inode: u32) -> Option<Process> {
    let folder = Path::new("/proc").join(process.to_string());
    let wanted = format!("socket:[{inode}]");
    holds(&folder, &wanted).then(|| Process { id: process, name: name(&folder) })
}

/// A process whose first thread has ended shows no descriptors but those of its other threads.
fn holds(process: &Path, wanted: &str) -> bool {
    match shows(process, wanted) {
        Some(holds) => holds,
        None => fs::read_dir(process.join("task")).is_ok_and(|mut threads| {
            threads.any(|thread| {
                thread.is_ok_and(|thread| shows(&thread.path(), wanted).unwrap_or(false))
            })
        }),
    }
}

/// Whether a socket is among the descriptors; none where there are none at all.
fn shows(task: &Path, wanted: &str) -> Option<bool> {
    let mut descriptors = fs::read_dir(task.join("fd")).ok()?.flatten().peekable();
    descriptors.peek()?;
    Some(
        descriptors
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| link.as_os_str() == wanted),
    )
}

fn name(process: &Path) -> String {
    match fs::read_to_string(process.join("comm")) {
        Ok(name) => name.trim_end().to_owned(),
        Err(_) => "unknown".to_owned(),
    }
}

/// The sockets of a whole table, without what is no line of one.
pub(super) fn lines(table: &str) -> impl Iterator<Item = Line<'_>> {
    table.lines().skip(1).filter_map(line)
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut words = text.split_whitespace().skip(1);
    let local = address(words.next()?)?;
    let remote = address(words.next()?)?;
    let state = words.next()?;
    // Queues, timer, retransmissions.
    let user = words.nth(3)?.parse().ok()?;
    // Time-out.
    let inode = words.nth(1)?.parse().ok()?;
    Some(Line { local, remote, state, user, inode })
}

fn address(text: &str) -> Option<SocketAddrV4> {
    let (word, port) = text.split_once(':')?;
    let address = address_of_word(u32::from_str_radix(word, 16).ok()?);
    Some(SocketAddrV4::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_the_table_is_read() {
        let text = "   1: 0100007F:2F11 0201007F:0384 01 00000000:00000000 00:00000000 00000000  \
                    1000        0 4711 1 0000000000000000 20 4 30 10 -1";
        let line = line(text).unwrap();
        assert_eq!(line.local, "127.0.0.1:12049".parse().unwrap());
        assert_eq!(line.remote, "127.0.1.2:900".parse().unwrap());
        assert_eq!((line.state, line.user, line.inode), (TCP_ESTABLISHED, 1000, 4711));
    }
}
