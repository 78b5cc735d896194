//! Where a service listens, by the server's rpcbind (RFC 1833).
//!
//! IPv4 asks the portmapper, which every server has; IPv6 needs the later versions, which know addresses.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nfs3_types::portmap::IPPROTO_TCP;
use nfs3_types::portmap::IPPROTO_UDP;
use nfs3_types::portmap::PMAP_PORT;
use nfs3_types::portmap::mapping;
use nfs3_types::xdr_codec::Opaque;
use nfs3_types::xdr_codec::Unpack;

use crate::host::resolve::ServerAddress;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::NetId;
use crate::model::nfs_option::Transport;
use crate::nfs::policy::RpcFault;
use crate::nfs::rpc::Program;
use crate::nfs::rpc::channel::Channel;
use crate::nfs::rpc::message;
use crate::nfs::rpc::message::Answer;
use crate::nfs::rpc::message::Call;
use crate::nfs::rpc::message::LONGEST_REPLY;
use crate::nfs::rpc::within;

/// PMAPPROC_GETPORT of version 2, RPCBPROC_GETADDR of versions 3 and 4.
const LOOK_UP: u32 = 3;

/// Newest first.
const VERSIONS_WITH_ADDRESSES: [u32; 2] = [4, 3];

/// Asks rpcbind for the port of a program over `transport`. The question itself goes `over` another one only to
/// IPv4: the later versions tell of the transport that they are asked over, whatever the question names (RFC 1833,
/// section 2.2.1).
///
/// # Errors
/// [`RpcFault::NotRegistered`] where rpcbind knows none; else says why it does not answer.
pub async fn ask_port(
    server: ServerAddress,
    program: Program,
    transport: Transport,
    over: Transport,
    limit: Duration,
) -> Result<u16, RpcFault> {
    ask_port_of((server, PMAP_PORT), program, transport, over, limit).await
}

async fn ask_port_of(
    (server, rpcbind): (ServerAddress, u16),
    program: Program,
    transport: Transport,
    over: Transport,
    limit: Duration,
) -> Result<u16, RpcFault> {
    within(limit, async {
        match server.ip {
            IpAddr::V4(_) => {
                let mut channel = Channel::open(server.at(rpcbind), over).await?;
                by_protocol(&mut channel, program, transport).await
            }
            IpAddr::V6(_) => {
                let mut channel = Channel::open(server.at(rpcbind), transport).await?;
                by_address(&mut channel, server, rpcbind, program, transport).await
            }
        }
    })
    .await
}

async fn by_protocol(
    channel: &mut Channel,
    program: Program,
    transport: Transport,
) -> io::Result<Result<u16, RpcFault>> {
    let prot = if transport == Transport::Udp { IPPROTO_UDP } else { IPPROTO_TCP };
    let question = mapping { prog: program.number, vers: program.version, prot, port: 0 };
    let call = Call::new(Program::rpcbind(2), LOOK_UP, message::packed(&question)?);
    let answer = channel.call(&call).await?;
    Ok(answer.and_then(|result| port_in(&result)))
}

fn port_in(result: &[u8]) -> Result<u16, RpcFault> {
    let port = u32::unpack(&mut &*result).ok().and_then(|(port, _)| u16::try_from(port).ok());
    match port {
        Some(0) => Err(RpcFault::NotRegistered),
        Some(port) => Ok(port),
        None => Err(RpcFault::Garbage("rpcbind answered what is no port".to_owned())),
    }
}

async fn by_address(
    channel: &mut Channel,
    server: ServerAddress,
    rpcbind: u16,
    program: Program,
    transport: Transport,
) -> io::Result<Result<u16, RpcFault>> {
    let arguments = question(server, rpcbind, program, transport)?;
    let mut answer: Answer = Err(RpcFault::NoSuchProgram);
    for version in VERSIONS_WITH_ADDRESSES {
        let call = Call::new(Program::rpcbind(version), LOOK_UP, arguments.clone());
        answer = channel.call(&call).await?;
        if !matches!(answer, Err(RpcFault::NoSuchVersion { .. } | RpcFault::NoSuchProgram)) {
            break;
        }
    }
    Ok(answer.and_then(|result| port_of_address_in(&result)))
}

/// struct rpcb: program, version, netid, address, owner. The address tells the server by which of its
/// interfaces it was asked.
fn question(
    server: ServerAddress,
    rpcbind: u16,
    program: Program,
    transport: Transport,
) -> io::Result<Vec<u8>> {
    let netid = NetId { transport, family: Family::Inet6 }.to_string();
    let mut bytes = message::packed(&program.number)?;
    bytes.extend(message::packed(&program.version)?);
    for text in [netid, universal_address(server.ip, rpcbind), String::new()] {
        bytes.extend(message::packed(&Opaque::owned(text.into_bytes()))?);
    }
    Ok(bytes)
}

/// RFC 5665, sections 5.2.3.3 and 5.2.3.4: the address, then both bytes of the port.
fn universal_address(address: IpAddr, port: u16) -> String {
    let [high, low] = port.to_be_bytes();
    format!("{address}.{high}.{low}")
}

fn port_of_address_in(result: &[u8]) -> Result<u16, RpcFault> {
    let garbage = || RpcFault::Garbage("rpcbind answered what is no address".to_owned());
    let (length, _) = u32::unpack(&mut &*result).map_err(|_| garbage())?;
    // Before the crate allocates what the length says.
    if length as usize > LONGEST_REPLY {
        return Err(garbage());
    }
    let (address, _) = Opaque::unpack(&mut &*result).map_err(|_| garbage())?;
    if address.is_empty() {
        return Err(RpcFault::NotRegistered);
    }
    let address = std::str::from_utf8(&address).map_err(|_| garbage())?;
    port_of_universal_address(address).ok_or_else(garbage)
}

fn port_of_universal_address(address: &str) -> Option<u16> {
    let mut parts = address.rsplitn(3, '.');
    let low: u8 = parts.next()?.parse().ok()?;
    let high: u8 = parts.next()?.parse().ok()?;
    let _host: IpAddr = parts.next()?.split('%').next()?.parse().ok()?;
    Some(u16::from_be_bytes([high, low])).filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::rpc::stub::Stub;

    const SOON: Duration = Duration::from_secs(5);
    const NFS3: Program = Program { number: 100_003, version: 3 };

    fn text(text: &str) -> Vec<u32> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len().next_multiple_of(4), 0);
        let words = bytes.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        std::iter::once(u32::try_from(text.len()).unwrap()).chain(words).collect()
    }

    async fn ask(server: &Stub, transport: Transport) -> Result<u16, RpcFault> {
        let address = server.address();
        ask_port_of((address.into(), address.port()), NFS3, transport, transport, SOON).await
    }

    #[tokio::test]
    async fn the_portmapper_says_the_port_or_that_there_is_none() {
        for (answer, expected) in [
            (2049, Ok(2049)),
            (0, Err(RpcFault::NotRegistered)),
            (65536, Err(RpcFault::Garbage("rpcbind answered what is no port".to_owned()))),
        ] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let server = Stub::replying(transport, &[0, 0, 0, 0, answer]).await;
                assert_eq!(ask(&server, transport).await, expected, "{answer} {transport:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_question_to_the_portmapper_names_the_protocol() {
        for (transport, protocol) in [(Transport::Tcp, 6), (Transport::Udp, 17)] {
            let server = Stub::replying(transport, &[0, 0, 0, 0, 1]).await;
            ask(&server, transport).await.unwrap();
            let call = server.last_call();
            assert_eq!(call[1..6], [0, 2, 100_000, 2, 3]);
            assert_eq!(call[10..], [100_003, 3, protocol, 0]);
        }
    }

    #[tokio::test]
    async fn a_port_of_tcp_may_be_asked_for_over_udp() {
        let server = Stub::replying(Transport::Udp, &[0, 0, 0, 0, 2049]).await;
        let rpcbind = (server.address().into(), server.address().port());
        let port = ask_port_of(rpcbind, NFS3, Transport::Tcp, Transport::Udp, SOON).await;
        assert_eq!(port, Ok(2049));
        assert_eq!(server.last_call()[10..], [100_003, 3, 6, 0], "IPPROTO_TCP");
    }

    #[tokio::test]
    async fn over_ipv6_the_port_is_the_end_of_a_universal_address() {
        for (address, expected) in [
            ("::.8.1", Ok(2049)),
            ("2001:db8::1.0.111", Ok(111)),
            ("", Err(RpcFault::NotRegistered)),
            ("::1", Err(RpcFault::Garbage("rpcbind answered what is no address".to_owned()))),
            ("::.8.256", Err(RpcFault::Garbage("rpcbind answered what is no address".to_owned()))),
        ] {
            let words = [vec![0, 0, 0, 0], text(address)].concat();
            let server = Stub::replying_at("[::1]:0", Transport::Tcp, &[words]).await;
            assert_eq!(ask(&server, Transport::Tcp).await, expected, "{address:?}");
        }
    }

    #[tokio::test]
    async fn an_rpcbind_without_version_4_is_asked_in_version_3() {
        let mismatch = vec![0, 0, 0, 2, 2, 3];
        let answer = [vec![0, 0, 0, 0], text("::.8.1")].concat();
        for transport in [Transport::Tcp, Transport::Udp] {
            let answers = [mismatch.clone(), answer.clone()];
            let server = Stub::replying_at("[::1]:0", transport, &answers).await;
            assert_eq!(ask(&server, transport).await, Ok(2049));
            let call = server.last_call();
            assert_eq!(call[3..6], [100_000, 3, 3]);
            let netid = if transport == Transport::Tcp { "tcp6" } else { "udp6" };
            assert_eq!(call[12..14], text(netid), "{transport:?}");
        }
    }

    #[tokio::test]
    async fn a_length_in_an_answer_is_not_believed() {
        let server =
            Stub::replying_at("[::1]:0", Transport::Tcp, &[vec![0, 0, 0, 0, u32::MAX]]).await;
        let fault = ask(&server, Transport::Tcp).await.unwrap_err();
        assert!(matches!(fault, RpcFault::Garbage(_)), "{fault}");
    }
}
