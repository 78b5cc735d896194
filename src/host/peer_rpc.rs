//! The kernel's own word on a connection: its RPC client lists its sockets under `/sys/kernel/sunrpc`.
//!
//! A folder for each transport (net/sunrpc/sysfs.c, since Linux 5.14), there from before it connects until after it
//! has closed:
//!
//! ```text
//! xprt-switches/switch-1/xprt-2-tcp/{dstaddr,srcaddr,xprt_info}
//! ```
//!
//! The addresses are there as soon as the transport is connected, and it is so before the other side can accept:
//! tcp_finish_connect (net/ipv4/tcp_input.c) tells the owner of the socket first and sends its ACK then. A mount of sysfs
//! shows the transports of the network namespace that it was made in, which must be that of this process.
//!
//! Not listed at that time is a transport that the kernel tries before it adds it to a mount (`max_connect=`): that
//! one is refused, and the mount goes on with those that it has.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::path::Path;

use crate::host::peer::Connection;

const SWITCHES: &str = "/sys/kernel/sunrpc/xprt-switches";
/// Of the network namespace. Only missing where procfs shows nothing but processes.
const NETWORK: &str = "/proc/net";
/// Its RPC client, once the kernel has one (net/sunrpc/stats.c).
const RPC_CLIENT: &str = "rpc";
/// What the files of a transport say that has no socket.
const CLOSED: &str = "<closed>";

/// What the RPC client says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is one of its own.
    Listed,
    /// It is none of them.
    NotListed,
    /// This kernel does not list them.
    Silent,
}

/// Asks about the socket whose own end is `end.local`.
pub(super) fn ask(end: Connection) -> Word {
    match ask_at(Path::new(SWITCHES), end) {
        Ok(word) => word,
        Err(_) if has_no_client(Path::new(NETWORK)) => Word::NotListed,
        Err(_) => Word::Silent,
    }
}

/// A kernel that has not loaded its RPC client has no connection.
fn has_no_client(network: &Path) -> bool {
    network.is_dir() && matches!(network.join(RPC_CLIENT).try_exists(), Ok(false))
}

fn ask_at(switches: &Path, end: Connection) -> io::Result<Word> {
    for switch in fs::read_dir(switches)?.flatten() {
        // What ends meanwhile is none of a connection that begins.
        let Ok(transports) = fs::read_dir(switch.path()) else { continue };
        for transport in transports.flatten().map(|entry| entry.path()) {
            let Some(server) = address(&transport.join("dstaddr")) else { continue };
            if server != *end.peer.ip() {
                continue;
            }
            match ends(&transport) {
                Ends::Are(found) if found == end => return Ok(Word::Listed),
                Ends::Are(_) | Ends::NotConnected => {}
                Ends::Unsaid => return Ok(Word::Silent),
            }
        }
    }
    Ok(Word::NotListed)
}

/// What a transport says of its two ends.
enum Ends {
    Are(Connection),
    NotConnected,
    /// An older kernel: 5.14 shows neither port, and what came later came one by one.
    Unsaid,
}

fn ends(transport: &Path) -> Ends {
    let files = ["xprt_info", "srcaddr"].map(|name| transport.join(name));
    let [Some(info), Some(source)] = files.each_ref().map(|file| text(file)) else {
        // Without a socket some kernels refuse to read them (ENOTCONN), and with its last one the folder goes.
        let missing = files.iter().any(|file| !file.exists()) && transport.exists();
        return if missing { Ends::Unsaid } else { Ends::NotConnected };
    };
    if info == CLOSED || source == CLOSED {
        return Ends::NotConnected;
    }
    let own_port = port_in(&info, "src_port");
    let (Some(own_port), Some(port)) = (own_port, port_in(&info, "dst_port")) else {
        return Ends::Unsaid;
    };
    match (source.parse(), address(&transport.join("dstaddr"))) {
        (Ok(own), Some(server)) => Ends::Are(Connection {
            local: SocketAddrV4::new(own, own_port),
            peer: SocketAddrV4::new(server, port),
        }),
        _ => Ends::NotConnected,
    }
}

fn address(file: &Path) -> Option<Ipv4Addr> {
    text(file)?.parse().ok()
}

/// One value of lines of `key=value`.
pub(super) fn port_in(info: &str, key: &str) -> Option<u16> {
    let value = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    value.trim().parse().ok()
}

/// The kernel puts a zero behind the text.
fn text(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim_end_matches(['\0', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Connection = Connection {
        local: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 909),
        peer: SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, 1), 12049),
    };

    /// As Linux 6.1 shows them.
    fn transport(folder: &Path, number: u8, files: &[(&str, &str)]) {
        let transport = folder.join(format!("switch-{number}/xprt-{number}-tcp"));
        fs::create_dir_all(&transport).unwrap();
        fs::write(folder.join(format!("switch-{number}/xprt_switch_info")), "num_xprts=1\n")
            .unwrap();
        for (name, text) in files {
            fs::write(transport.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_connection_is_listed_by_both_of_its_ends() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |end| ask_at(folder.path(), end).unwrap();
        assert_eq!(ask(END), Word::NotListed, "no transport at all");
        let info = "main_xprt=1\nsrc_port=909\ntasks_queuelen=0\ndst_port=12049\n\0";
        let connected =
            [("dstaddr", "127.0.1.1\n\0"), ("srcaddr", "127.0.0.1\n\0"), ("xprt_info", info)];
        let closed =
            [("dstaddr", "127.0.1.1\n\0"), ("srcaddr", "<closed>\n"), ("xprt_info", "<closed>\n")];
        transport(folder.path(), 1, &[("dstaddr", "/run/rpcbind.sock\n")]);
        transport(folder.path(), 2, &closed);
        assert_eq!(ask(END), Word::NotListed);
        transport(folder.path(), 3, &connected);
        assert_eq!(ask(END), Word::Listed);
        for (row, other) in [
            ("another port of ours", Connection { peer: "127.0.1.1:2049".parse().unwrap(), ..END }),
            (
                "another address of ours",
                Connection { peer: "127.0.1.2:12049".parse().unwrap(), ..END },
            ),
            (
                "another port of its own",
                Connection { local: "127.0.0.1:908".parse().unwrap(), ..END },
            ),
            (
                "another address of its own",
                Connection { local: "127.0.0.2:909".parse().unwrap(), ..END },
            ),
        ] {
            assert_eq!(ask(other), Word::NotListed, "{row}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_say_where_its_transports_come_from_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        let older = "last_used=1\nnum_reqs=0\n";
        for files in [
            &[("dstaddr", "127.0.1.1\n")][..],
            &[("dstaddr", "127.0.1.1\n"), ("xprt_info", older)],
            &[("dstaddr", "127.0.1.1\n"), ("srcaddr", "127.0.0.1\n"), ("xprt_info", older)],
        ] {
            transport(folder.path(), 1, files);
            assert_eq!(ask_at(folder.path(), END).unwrap(), Word::Silent, "{files:?}");
        }
        assert!(ask_at(&folder.path().join("no"), END).is_err());
    }

    #[test]
    fn a_kernel_without_an_rpc_client_has_no_connection() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_no_client(&folder.path().join("net")), "procfs shows processes alone");
        assert!(has_no_client(folder.path()));
        fs::create_dir(folder.path().join(RPC_CLIENT)).unwrap();
        assert!(!has_no_client(folder.path()));
    }
}
