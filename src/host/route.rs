//! The way to an address, as the kernel's routes have it.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::UdpSocket;

use crate::host::resolve::ServerAddress;

/// Any port will do: connecting a UDP socket sends nothing.
const DISCARD_PORT: u16 = 9;

/// The address of this node that packets to `destination` leave from. Sends no packet.
///
/// # Errors
/// When there is no route.
pub fn source_address_towards(destination: ServerAddress) -> io::Result<IpAddr> {
    let unspecified: IpAddr = match destination.ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((unspecified, 0))?;
    socket.connect(destination.at(DISCARD_PORT))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        let there = IpAddr::from([127, 0, 1, 1]);
        assert!(source_address_towards(there.into()).unwrap().is_loopback());
    }
}
