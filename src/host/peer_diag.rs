//! One question to the kernel's sock_diag (sock_diag(7)): the socket of one TCP connection, or who listens.
//!
//! The bytes are written and read here, because no crate carries INET_DIAG_CGROUP_ID and the whole exchange is
//! one message each way. The layouts are those of linux/inet_diag.h.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;

use rustix::net::netlink::SOCK_DIAG;

use crate::host::netlink;
use crate::host::netlink::attribute;
use crate::host::netlink::u32_at;
use crate::host::netlink::u64_of;
use crate::host::peer::Connection;
use crate::host::peer::ListenerFacts;
use crate::host::peer::SocketFacts;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_CGROUP_ID: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 1;
const TCP_LISTEN: u8 = 10;

/// Where inet_diag_sockid begins in a reply, after the header: family, state, timer, retrans.
const REPLY_ID: usize = 4;
const REPLY_BODY: usize = 72;

/// The socket whose own end is `end.local` and whose far end is `end.peer`. `None` where there is none, and
/// also where this kernel has no tcp_diag.
pub(super) fn find(end: Connection) -> io::Result<Option<SocketFacts>> {
    reply(&netlink::ask(SOCK_DIAG, &request(end))?, end)
}

/// The socket that a connection to `address` would be accepted by, which may listen at every address, for IPv6 too.
/// `None` as for [`find`].
pub(super) fn listener(address: SocketAddrV4) -> io::Result<Option<ListenerFacts>> {
    let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let message = netlink::ask(SOCK_DIAG, &request(Connection { local: address, peer: nobody }))?;
    match netlink::reply(SOCK_DIAG_BY_FAMILY, &message)? {
        None => Ok(None),
        Some(body) if body.len() >= REPLY_BODY => Ok(listener_facts(body)),
        Some(_) => Err(netlink::half_an_answer()),
    }
}

fn listener_facts(body: &[u8]) -> Option<ListenerFacts> {
    let port = u16::from_be_bytes(body.get(REPLY_ID..REPLY_ID + 2)?.try_into().ok()?);
    let words: [u8; 16] = body.get(REPLY_ID + 4..REPLY_ID + 20)?.try_into().ok()?;
    let address = match *body.first()? {
        AF_INET => IpAddr::V4(Ipv4Addr::from(*words.first_chunk::<4>()?)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(words)),
        _ => return None,
    };
    (body.get(1) == Some(&TCP_LISTEN)).then_some(ListenerFacts {
        at: SocketAddr::new(address, port),
        user: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
    })
}

/// nlmsghdr, then inet_diag_req_v2 without NLM_F_DUMP: a lookup in the kernel's hash table.
fn request(end: Connection) -> Vec<u8> {
    let mut body = vec![AF_INET, IPPROTO_TCP, 0, 0];
    body.extend(u32::MAX.to_ne_bytes()); // any state
    body.extend(socket_id(end));
    body.extend(0_u32.to_ne_bytes()); // any interface
    body.extend([0xff; 8]); // INET_DIAG_NOCOOKIE
    netlink::request(SOCK_DIAG_BY_FAMILY, &body)
}

/// The first four members of inet_diag_sockid: ports and addresses in network order.
fn socket_id(end: Connection) -> Vec<u8> {
    fn address(end: SocketAddrV4) -> [u8; 16] {
        let mut words = [0; 16];
        words[..4].copy_from_slice(&end.ip().octets());
        words
    }
    let mut id = end.local.port().to_be_bytes().to_vec();
    id.extend(end.peer.port().to_be_bytes());
    id.extend(address(end.local));
    id.extend(address(end.peer));
    id
}

pub(super) fn reply(message: &[u8], end: Connection) -> io::Result<Option<SocketFacts>> {
    match netlink::reply(SOCK_DIAG_BY_FAMILY, message)? {
        None => Ok(None),
        Some(body) if body.len() >= REPLY_BODY => Ok(facts(body, end)),
        Some(_) => Err(netlink::half_an_answer()),
    }
}

/// `None` for another socket: where no connection fits, the lookup falls back to a listener.
fn facts(body: &[u8], end: Connection) -> Option<SocketFacts> {
    let id = socket_id(end);
    // Of the two addresses only the first words are compared; the kernel leaves the others alone for IPv4.
    for range in [0..8, 20..24] {
        if body.get(REPLY_ID + range.start..REPLY_ID + range.end) != id.get(range) {
            return None;
        }
    }
    Some(SocketFacts {
        established: body.get(1) == Some(&TCP_ESTABLISHED),
        user: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
        cgroup: attribute(body.get(REPLY_BODY..)?, INET_DIAG_CGROUP_ID).and_then(u64_of),
    })
}

/// The address in the kernel's text tables: a word of four octets in the machine's order.
pub(super) fn address_of_word(word: u32) -> Ipv4Addr {
    Ipv4Addr::from(word.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netlink::HEADER;

    fn end() -> Connection {
        Connection {
            local: "127.0.0.1:900".parse().unwrap(),
            peer: "127.0.1.1:12049".parse().unwrap(),
        }
    }

    fn answer(end: Connection, cgroup: u64) -> Vec<u8> {
        let mut body = vec![AF_INET, TCP_ESTABLISHED, 0, 0];
        body.extend(socket_id(end));
        body.extend([0; 12 + 12]);
        body.extend(0_u32.to_ne_bytes()); // uid
        body.extend(4711_u32.to_ne_bytes()); // inode
        body.extend([5, 0, 8, 0, 1, 0, 0, 0]); // another attribute, padded
        body.extend(12_u16.to_ne_bytes());
        body.extend(INET_DIAG_CGROUP_ID.to_ne_bytes());
        body.extend(cgroup.to_ne_bytes());
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn an_answer_is_read_to_its_cgroup() {
        let facts = reply(&answer(end(), 5_000_000_001), end()).unwrap().unwrap();
        let expected =
            SocketFacts { established: true, user: 0, inode: 4711, cgroup: Some(5_000_000_001) };
        assert_eq!(facts, expected);
    }

    #[test]
    fn an_answer_about_another_socket_is_none() {
        let other = Connection { peer: "127.0.1.2:12049".parse().unwrap(), ..end() };
        assert_eq!(reply(&answer(other, 1), end()).unwrap(), None);
    }

    #[test]
    fn every_cut_of_an_answer_is_an_error_or_has_no_cgroup() {
        let whole = answer(end(), 1);
        for length in 0..whole.len() {
            match reply(&whole[..length], end()) {
                Err(_) => assert!(length < HEADER + REPLY_BODY),
                Ok(facts) => assert_eq!(facts.unwrap().cgroup, None),
            }
        }
    }
}
