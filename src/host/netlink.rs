//! One question to the kernel over a netlink socket, and its one answer (netlink(7)).
//!
//! The bytes are written and read here, because each exchange of ours is one small message each way. The layouts
//! are those of linux/netlink.h.

use std::io;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::Protocol;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const ENOENT: i32 = 2;

/// Bytes of nlmsghdr.
pub(super) const HEADER: usize = 16;

/// The kernel answers inside send(2); this only guards against a lost message.
const DEADLINE: Duration = Duration::from_millis(500);

/// Sends a message and waits for one.
pub(super) fn ask(family: Protocol, message: &[u8]) -> io::Result<Vec<u8>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(family),
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(DEADLINE))?;
    rustix::net::send(&socket, message, SendFlags::empty())?;
    let mut buffer = [0; 8192];
    let (length, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    Ok(buffer.get(..length).unwrap_or_default().to_owned())
}

/// nlmsghdr, then the body.
pub(super) fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence, port: one socket for each question
    message.extend(body);
    message
}

/// The body of an answer of this kind; `None` where the kernel says ENOENT.
pub(super) fn reply(kind: u16, message: &[u8]) -> io::Result<Option<&[u8]>> {
    let told = u16_at(message, 4).ok_or_else(half_an_answer)?;
    let body = message.get(HEADER..).ok_or_else(half_an_answer)?;
    if told == kind {
        return Ok(Some(body));
    }
    if told != NLMSG_ERROR {
        return Err(half_an_answer());
    }
    match u32_at(body, 0).ok_or_else(half_an_answer)?.cast_signed().wrapping_neg() {
        ENOENT => Ok(None),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

pub(super) fn half_an_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "netlink gave half an answer")
}

/// The payload of one netlink attribute.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, payload)| payload)
}

/// Attributes one after the other, up to the first that is cut off: kind and payload.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const NLA_HEADER: usize = 4;
    const NLA_TYPE_MASK: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & NLA_TYPE_MASK;
        let payload = rest.get(NLA_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}
