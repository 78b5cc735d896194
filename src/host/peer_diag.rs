//! One question to the kernel's sock_diag (sock_diag(7)): the socket of one TCP connection.
//!
//! The bytes are written and read here, because no crate carries INET_DIAG_CGROUP_ID and the whole exchange is
//! one message each way. The layouts are those of linux/inet_diag.h and linux/netlink.h.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::netlink;
use rustix::net::sockopt;

use crate::host::peer::Connection;
use crate::host::peer::SocketFacts;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const INET_DIAG_CGROUP_ID: u16 = 21;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 1;
const ENOENT: i32 = 2;

const HEADER: usize = 16;
/// Where inet_diag_sockid begins in a reply, after the header: family, state, timer, retrans.
const REPLY_ID: usize = 4;
const REPLY_BODY: usize = 72;

/// The kernel answers inside send(2); this only guards against a lost message.
const DEADLINE: Duration = Duration::from_millis(500);

/// The socket whose own end is `end.local` and whose far end is `end.peer`. `None` where there is none, and
/// also where this kernel has no tcp_diag.
pub(super) fn find(end: Connection) -> io::Result<Option<SocketFacts>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(DEADLINE))?;
    rustix::net::send(&socket, &request(end), SendFlags::empty())?;
    let mut buffer = [0; 4096];
    let (length, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    reply(buffer.get(..length).unwrap_or_default(), end)
}

/// nlmsghdr, then inet_diag_req_v2 without NLM_F_DUMP: a lookup in the kernel's hash table.
fn request(end: Connection) -> Vec<u8> {
    let mut body = vec![AF_INET, IPPROTO_TCP, 0, 0];
    body.extend(u32::MAX.to_ne_bytes()); // any state
    body.extend(socket_id(end));
    body.extend(0_u32.to_ne_bytes()); // any interface
    body.extend([0xff; 8]); // INET_DIAG_NOCOOKIE
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence, port: one socket for each question
    message.extend(body);
    message
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

fn reply(message: &[u8], end: Connection) -> io::Result<Option<SocketFacts>> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "sock_diag gave half an answer");
    let kind = u16_at(message, 4).ok_or_else(short)?;
    let body = message.get(HEADER..).ok_or_else(short)?;
    match kind {
        NLMSG_ERROR => match u32_at(body, 0).ok_or_else(short)?.cast_signed().wrapping_neg() {
            ENOENT => Ok(None),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
        SOCK_DIAG_BY_FAMILY if body.len() >= REPLY_BODY => Ok(facts(body, end)),
        _ => Err(short()),
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

/// The payload of one netlink attribute.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    const NLA_HEADER: usize = 4;
    const NLA_TYPE_MASK: u16 = 0x3fff;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & NLA_TYPE_MASK;
        let payload = attributes.get(NLA_HEADER..length)?;
        if kind == wanted {
            return Some(payload);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// The address in the kernel's text tables: a word of four octets in the machine's order.
pub(super) fn address_of_word(word: u32) -> Ipv4Addr {
    Ipv4Addr::from(word.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

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
