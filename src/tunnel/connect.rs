//! A TCP connection to whichever address of a server answers first.
//!
//! RFC 8305, section 5: the next address is tried when the one before has failed or has been silent for a
//! quarter of a second, so that one dead address costs that and not a timeout.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::model::TunnelSpec;
use crate::tunnel::dial_fault::DialFault;
use crate::tunnel::socket;

/// For one address.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);
/// RFC 8305, section 8: "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);

/// Addresses that are still to be tried.
#[derive(Debug)]
pub(super) struct Untried(VecDeque<SocketAddr>);

impl Untried {
    /// In the resolver's order, but the families by turns (RFC 8305, section 4): where one of them leads
    /// nowhere, the second attempt is of the other.
    pub(super) fn new(addresses: &[IpAddr], port: u16) -> Self {
        let first_is_6 = addresses.first().is_some_and(IpAddr::is_ipv6);
        let (first, second): (Vec<_>, Vec<_>) =
            addresses.iter().partition(|address| address.is_ipv6() == first_is_6);
        let mut turns = VecDeque::with_capacity(addresses.len());
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        loop {
            let turn = [first.next(), second.next()];
            if turn == [None, None] {
                return Self(turns);
            }
            turns.extend(turn.into_iter().flatten().map(|&address| SocketAddr::new(address, port)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Connects to the first of them that answers. Those that were not heard out stay untried.
    ///
    /// # Errors
    /// The fault of the last one.
    pub(super) async fn connect(
        &mut self,
        target: &TunnelSpec,
    ) -> Result<(TcpStream, SocketAddr), DialFault> {
        let mut last = DialFault::NoAddress { host: target.host.clone() };
        let mut under_way = JoinSet::new();
        let mut unheard = Vec::new();
        loop {
            if let Some(address) = self.0.pop_front() {
                let target = target.clone();
                unheard.push(address);
                under_way.spawn(async move { (address, connect(&target, address).await) });
            }
            let ended = tokio::select! {
                ended = under_way.join_next() => ended,
                () = sleep(STAGGER), if !self.is_empty() => continue,
            };
            match ended {
                Some(Ok((address, outcome))) => {
                    unheard.retain(|other| *other != address);
                    match outcome {
                        Ok(stream) => {
                            unheard.into_iter().rev().for_each(|other| self.0.push_front(other));
                            return Ok((stream, address));
                        }
                        Err(fault) => last = fault,
                    }
                }
                Some(Err(panicked)) => tracing::error!(%panicked, "an attempt to connect failed"),
                None => return Err(last),
            }
        }
    }
}

/// Connects to one address.
///
/// # Errors
/// Says what the network said.
pub(super) async fn connect(
    target: &TunnelSpec,
    address: SocketAddr,
) -> Result<TcpStream, DialFault> {
    let target = || target.clone();
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        socket::prepare(&stream)?;
        Ok::<_, io::Error>(stream)
    };
    match timeout(DEADLINE, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => DialFault::Refused { target: target(), address },
            io::ErrorKind::TimedOut => DialFault::Timeout { target: target(), address },
            _ => DialFault::NoRoute { target: target(), address, source: error },
        }),
        Err(_) => Err(DialFault::Timeout { target: target(), address }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use socket2::Domain;
    use socket2::Socket;
    use socket2::Type;

    use crate::model::RemotePort;
    use crate::model::ServerName;

    use super::*;

    fn target() -> TunnelSpec {
        TunnelSpec::to(ServerName::parse("nas.example.com").unwrap(), RemotePort::Known)
    }

    fn listener(address: Ipv4Addr, port: u16, backlog: i32) -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((address, port)).into()).unwrap();
        socket.listen(backlog).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[test]
    fn families_take_turns_and_the_resolver_s_first_stays_first() {
        let parse = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let given = parse(&["::1", "::2", "::3", "10.0.0.1"]);
        let order: Vec<_> = Untried::new(&given, 7).0.iter().map(SocketAddr::ip).collect();
        assert_eq!(order, parse(&["::1", "10.0.0.1", "::2", "::3"]));
    }

    /// A queue of accepted connections that is full: the kernel drops every further SYN.
    #[tokio::test]
    async fn a_silent_address_costs_a_quarter_of_a_second() {
        let (silent, at) = listener(Ipv4Addr::new(127, 0, 0, 2), 0, 0);
        let _full: Vec<_> = (0..2)
            .map(|_| {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&at.into());
                client
            })
            .collect();
        let (_good, _) = listener(Ipv4Addr::new(127, 0, 0, 3), at.port(), 8);
        let addresses = [[127, 0, 0, 2], [127, 0, 0, 3]].map(IpAddr::from);
        let started = Instant::now();
        let mut untried = Untried::new(&addresses, at.port());
        let (_stream, answered) = untried.connect(&target()).await.unwrap();
        assert_eq!(answered.ip(), addresses[1]);
        assert!(started.elapsed() >= STAGGER, "the first address was not silent");
        assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
        assert_eq!(untried.0, [at], "the silent one may still be heard");
        drop(silent);
    }

    #[tokio::test]
    async fn refusing_addresses_are_not_waited_for() {
        let (_good, at) = listener(Ipv4Addr::new(127, 0, 1, 0), 0, 8);
        let refusing = (5..=24).map(|last| Ipv4Addr::new(127, 0, 0, last));
        let addresses: Vec<IpAddr> =
            refusing.chain([Ipv4Addr::new(127, 0, 1, 0)]).map(IpAddr::from).collect();
        let started = Instant::now();
        let mut untried = Untried::new(&addresses, at.port());
        let (_stream, answered) = untried.connect(&target()).await.unwrap();
        assert_eq!(answered, at);
        assert!(started.elapsed() < 20 * STAGGER, "{:?}", started.elapsed());
        assert!(untried.is_empty());
    }

    #[tokio::test]
    async fn the_fault_of_the_last_address_is_told() {
        let mut untried = Untried::new(&[[127, 0, 0, 6].into()], 1);
        let fault = untried.connect(&target()).await.unwrap_err();
        assert!(matches!(fault, DialFault::Refused { .. }), "{fault}");
        let fault = Untried::new(&[], 1).connect(&target()).await.unwrap_err();
        assert!(matches!(fault, DialFault::NoAddress { .. }), "{fault}");
    }
}
