//! From a host name to its addresses, and from a failure to what it means.
//!
//! The standard library's resolver says "failed" for a name that does not exist and for name servers that do
//! not answer; the one is final and the other passes. So getaddrinfo(3) is asked directly for its EAI_ code.
//! An address needs no resolver: it is read here, its scope (RFC 4007, section 11) included.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::SocketAddrV6;
use std::time::Duration;

use dns_lookup::AddrFamily;
use dns_lookup::AddrInfoHints;
use dns_lookup::LookupError;
use dns_lookup::LookupErrorKind;
use dns_lookup::SockType;
use rustix::net::AddressFamily;
use rustix::net::SocketType;
use rustix::net::netdevice;
use tokio::sync::oneshot;

use crate::model::nfs_option::Family;

/// An address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// The address.
    pub ip: IpAddr,
    /// The interface of an IPv6 link-local address; 0 for none.
    pub scope: u32,
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveFault {
    /// It does not exist (EAI_NONAME and its like).
    #[error("no such name: {0}")]
    NoSuchName(String),
    /// The name servers do not answer now (EAI_AGAIN), or not in time.
    #[error("{0}")]
    TryAgain(String),
    /// It has no address of the wanted family.
    #[error("it has no {0:?} address")]
    NoSuchFamily(Family),
}

/// The addresses of a host in the order of RFC 6724, only those of `family` where one is wanted.
///
/// getaddrinfo(3) cannot be cancelled: at the deadline the lookup is left to end by its own timeouts. It has a
/// thread of its own, for the runtime's pool would make others wait for it, and the program's end too.
///
/// # Errors
/// Says whether trying again could help.
pub async fn resolve(
    host: &str,
    family: Option<Family>,
    deadline: Duration,
) -> Result<Vec<ServerAddress>, ResolveFault> {
    if let Some(address) = literal(host)? {
        return of_family(address, family).map(|address| vec![address]);
    }
    let name = host.to_owned();
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || tell.send(look_up(&name, family)))
        .map_err(|error| ResolveFault::TryAgain(format!("no thread to resolve on: {error}")))?;
    match tokio::time::timeout(deadline, told).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(ResolveFault::TryAgain("the resolver gave no answer".to_owned())),
        Err(_) => Err(ResolveFault::TryAgain(format!(
            "the resolver did not answer within {} s",
            deadline.as_secs()
        ))),
    }
}

/// An address with or without a scope: `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`, `fe80::1%2`.
fn literal(host: &str) -> Result<Option<ServerAddress>, ResolveFault> {
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (host, None),
    };
    let Ok(ip) = address.parse::<IpAddr>() else { return Ok(None) };
    let scope = match zone {
        None => 0,
        Some(zone) if ip.is_ipv6() => interface(zone)?,
        Some(_) => return Ok(None),
    };
    Ok(Some(ServerAddress { ip, scope }))
}

fn interface(zone: &str) -> Result<u32, ResolveFault> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
        .and_then(|socket| netdevice::name_to_index(socket, zone))
        .map_err(|errno| {
            ResolveFault::NoSuchName(format!("this host has no interface {zone:?} ({errno})"))
        })
}

fn of_family(
    address: ServerAddress,
    wanted: Option<Family>,
) -> Result<ServerAddress, ResolveFault> {
    match wanted {
        Some(family) if family != Family::of(address.ip) => Err(ResolveFault::NoSuchFamily(family)),
        _ => Ok(address),
    }
}

fn look_up(host: &str, family: Option<Family>) -> Result<Vec<ServerAddress>, ResolveFault> {
    match (ask(host, family), family) {
        (Err(error), Some(family)) if is_absent(error.kind()) && ask(host, None).is_ok() => {
            Err(ResolveFault::NoSuchFamily(family))
        }
        (Err(error), _) if is_absent(error.kind()) => Err(ResolveFault::NoSuchName(words(error))),
        (Err(error), _) => Err(ResolveFault::TryAgain(words(error))),
        (Ok(addresses), _) => Ok(addresses),
    }
}

fn ask(host: &str, family: Option<Family>) -> Result<Vec<ServerAddress>, LookupError> {
    let hints = AddrInfoHints {
        address: family.map_or(0, |family| match family {
            Family::Inet => AddrFamily::Inet.into(),
            Family::Inet6 => AddrFamily::Inet6.into(),
        }),
        // Without it, each address comes once for every kind of socket.
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let mut addresses = Vec::new();
    for answer in dns_lookup::getaddrinfo(Some(host), None, Some(hints))? {
        let address = ServerAddress::from(answer?.sockaddr);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// getaddrinfo(3): the name servers answered, and there is nothing.
fn is_absent(kind: LookupErrorKind) -> bool {
    matches!(kind, LookupErrorKind::NoName | LookupErrorKind::NoData | LookupErrorKind::Family)
}

/// `Name or service not known`: what stands before it only says what was called.
fn words(error: LookupError) -> String {
    let text = error.to_string();
    text.rsplit(": ").next().unwrap_or_default().to_owned()
}

impl ServerAddress {
    /// With a port.
    #[must_use]
    pub fn at(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope).into(),
        }
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(address: SocketAddr) -> Self {
        let scope = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(address) => address.scope_id(),
        };
        Self { ip: address.ip(), scope }
    }
}

impl From<IpAddr> for ServerAddress {
    fn from(ip: IpAddr) -> Self {
        Self { ip, scope: 0 }
    }
}

/// `fe80::1%2`, as the kernel's `addr=` takes it (net/sunrpc/addr.c: rpc_parse_scope_id).
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            0 => write!(f, "{}", self.ip),
            scope => write!(f, "{}%{scope}", self.ip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        for (host, shown) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("fe80::1%lo", "fe80::1%1"),
            ("fe80::1%7", "fe80::1%7"),
        ] {
            let addresses = resolve(host, None, Duration::ZERO).await.unwrap();
            let all: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            assert_eq!(all, [shown], "{host}");
        }
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_named() {
        let fault = resolve("fe80::1%nowhere0", None, SOON).await.unwrap_err();
        assert!(matches!(&fault, ResolveFault::NoSuchName(why) if why.contains("\"nowhere0\"")));
    }

    #[tokio::test]
    async fn a_family_that_an_address_does_not_have_is_said_to_be_missing() {
        for (host, family) in [("192.0.2.1", Family::Inet6), ("::1", Family::Inet)] {
            let fault = resolve(host, Some(family), SOON).await.unwrap_err();
            assert_eq!(fault, ResolveFault::NoSuchFamily(family));
        }
    }

    #[tokio::test]
    async fn a_name_of_this_host_is_looked_up_in_the_wanted_family() {
        let addresses = resolve("localhost", Some(Family::Inet), SOON).await.unwrap();
        assert_eq!(addresses, [ServerAddress::from(IpAddr::from([127, 0, 0, 1]))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_is_silent_is_left_at_the_deadline() {
        let fault = resolve("nas.example.invalid", None, Duration::ZERO).await.unwrap_err();
        assert!(matches!(fault, ResolveFault::TryAgain(_)), "{fault}");
    }

    #[test]
    fn what_cannot_be_is_told_from_what_may_pass() {
        // The numbers of netdb.h, the same in every libc of Linux.
        for (code, absent) in
            [(-2, true), (-5, true), (-6, true), (-3, false), (-4, false), (-10, false)]
        {
            assert_eq!(is_absent(LookupError::new(code).kind()), absent, "{code}");
        }
    }

    #[test]
    fn a_port_of_a_link_local_address_keeps_its_interface() {
        let address = ServerAddress { ip: "fe80::1".parse().unwrap(), scope: 3 };
        assert_eq!(address.at(111).to_string(), "[fe80::1%3]:111");
        assert_eq!(ServerAddress::from(address.at(111)), address);
    }
}
