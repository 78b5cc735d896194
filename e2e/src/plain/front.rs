//! The addresses of the plain server: each is the same server behind another firewall.
//!
//! A fault that is an address needs no undoing between two cases, and a mount that hangs on one of them
//! disturbs no other. `lift` takes the firewall away from one address, for what must succeed later.

use std::net::Ipv4Addr;

/// An address, and what its firewall does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Nothing.
    Good,
    /// Nothing: another address of the same server.
    Second,
    /// Answers everything 300 ms late.
    Slow,
    /// Refuses every port: the host is up and serves nothing.
    Closed,
    /// Drops everything.
    BlackHole,
    /// The host does not exist: nobody answers for its address on the link.
    Dead,
    /// This node has no route to the address.
    Unroutable,
    /// Drops NFS over TCP and UDP.
    NfsDropped,
    /// Drops NFS over TCP.
    NfsTcpDropped,
    /// Drops NFS over UDP.
    NfsUdpDropped,
    /// Resets connections to NFS.
    NfsReset,
    /// Answers NFS with ICMP "port unreachable".
    NfsPortUnreachable,
    /// Answers NFS with ICMP "administratively prohibited".
    NfsProhibited,
    /// Answers NFS with ICMP "host unreachable".
    NfsHostUnreachable,
    /// Answers NFS with ICMP "net unreachable".
    NfsNetUnreachable,
    /// Drops rpcbind over TCP and UDP.
    RpcbindDropped,
    /// Drops rpcbind over UDP.
    RpcbindUdpDropped,
    /// Drops rpcbind over TCP.
    RpcbindTcpDropped,
    /// Refuses rpcbind over TCP and UDP.
    RpcbindRefused,
    /// Drops MOUNT over TCP and UDP.
    MountDropped,
    /// Drops MOUNT over UDP.
    MountUdpDropped,
    /// Drops MOUNT over TCP.
    MountTcpDropped,
    /// Refuses MOUNT over TCP and UDP.
    MountRefused,
    /// Drops rpcbind and MOUNT: only NFS itself passes, as through the firewall of a cautious site.
    OnlyNfs,
}

/// Every address.
pub const FRONTS: [Front; 24] = [
    Front::Good,
    Front::Second,
    Front::Slow,
    Front::Closed,
    Front::BlackHole,
    Front::Dead,
    Front::Unroutable,
    Front::NfsDropped,
    Front::NfsTcpDropped,
    Front::NfsUdpDropped,
    Front::NfsReset,
    Front::NfsPortUnreachable,
    Front::NfsProhibited,
    Front::NfsHostUnreachable,
    Front::NfsNetUnreachable,
    Front::RpcbindDropped,
    Front::RpcbindUdpDropped,
    Front::RpcbindTcpDropped,
    Front::RpcbindRefused,
    Front::MountDropped,
    Front::MountUdpDropped,
    Front::MountTcpDropped,
    Front::MountRefused,
    Front::OnlyNfs,
];

const NFS: &str = "2049";
const RPCBIND: &str = "111";
/// Where rpc.mountd of this world listens.
pub const MOUNT: &str = "20048";
/// What lies behind neither the cable nor any route: TEST-NET-2 of RFC 5737.
const WITHOUT_ROUTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 98);
const FIRST: u8 = 10;

impl Front {
    /// Its address. 203.0.113.0/24 (TEST-NET-3) is the cable.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        if self == Self::Unroutable {
            return WITHOUT_ROUTE;
        }
        let place = FRONTS.iter().position(|front| *front == self).unwrap_or_default();
        Ipv4Addr::new(203, 0, 113, FIRST + u8::try_from(place).unwrap_or_default())
    }

    /// Whether the server's end of the cable has the address.
    #[must_use]
    pub(super) fn is_there(self) -> bool {
        !matches!(self, Self::Dead | Self::Unroutable)
    }

    /// The rules of its firewall, without the address: nft(8), a statement each.
    pub(super) fn rules(self) -> Vec<String> {
        let on = |transports: &[&str], port: &str, verdict: &str| {
            let rule = |transport: &&str| format!("{transport} dport {port} {verdict}");
            transports.iter().map(rule).collect::<Vec<_>>()
        };
        let both = ["tcp", "udp"];
        let refused = |port: &str| {
            let tcp = on(&["tcp"], port, "reject with tcp reset");
            [tcp, on(&["udp"], port, "reject with icmpx port-unreachable")].concat()
        };
        match self {
            Self::Good | Self::Second | Self::Slow | Self::Dead | Self::Unroutable => Vec::new(),
            Self::Closed => vec![
                "meta l4proto tcp reject with tcp reset".to_owned(),
                "meta l4proto udp reject with icmpx port-unreachable".to_owned(),
            ],
            Self::BlackHole => vec!["drop".to_owned()],
            Self::NfsDropped => on(&both, NFS, "drop"),
            Self::NfsTcpDropped => on(&["tcp"], NFS, "drop"),
            Self::NfsUdpDropped => on(&["udp"], NFS, "drop"),
            Self::NfsReset => refused(NFS),
            Self::NfsPortUnreachable => on(&both, NFS, "reject with icmpx port-unreachable"),
            Self::NfsProhibited => on(&both, NFS, "reject with icmpx admin-prohibited"),
            Self::NfsHostUnreachable => on(&both, NFS, "reject with icmpx host-unreachable"),
            Self::NfsNetUnreachable => on(&both, NFS, "reject with icmpx no-route"),
            Self::RpcbindDropped => on(&both, RPCBIND, "drop"),
            Self::RpcbindUdpDropped => on(&["udp"], RPCBIND, "drop"),
            Self::RpcbindTcpDropped => on(&["tcp"], RPCBIND, "drop"),
            Self::RpcbindRefused => refused(RPCBIND),
            Self::MountDropped => on(&both, MOUNT, "drop"),
            Self::MountUdpDropped => on(&["udp"], MOUNT, "drop"),
            Self::MountTcpDropped => on(&["tcp"], MOUNT, "drop"),
            Self::MountRefused => refused(MOUNT),
            Self::OnlyNfs => [on(&both, RPCBIND, "drop"), on(&both, MOUNT, "drop")].concat(),
        }
    }
}

/// The firewall of all addresses, for `nft -f`. An address in the set `lifted` has none.
pub(super) fn firewall() -> String {
    let mut rules = String::from("table inet plain {\n");
    rules += " set lifted { type ipv4_addr; }\n";
    rules += " chain in {\n  type filter hook input priority 0;\n  ip daddr @lifted accept\n";
    for front in FRONTS {
        for rule in front.rules() {
            rules += &format!("  ip daddr {} {rule}\n", front.address());
        }
    }
    rules + " }\n}\n"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_fronts_share_an_address_and_each_fault_has_a_rule() {
        let addresses: BTreeSet<_> = FRONTS.iter().map(|front| front.address()).collect();
        assert_eq!(addresses.len(), FRONTS.len());
        let without_rules = FRONTS.iter().filter(|front| front.rules().is_empty()).count();
        assert_eq!(without_rules, 5, "Good, Second, Slow, Dead and Unroutable have none");
    }
}
