//! The words that a mount is decided by: versions, transports, address families.
//!
//! Each is parsed at one place, [`super::parse`], and printed at one place, here.

use std::fmt;
use std::net::IpAddr;

use super::Rules;

/// An NFS version. General-purpose NAS offers 3 and 4.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NfsVersion {
    /// NFSv3, RFC 1813. The default through the tunnel, as in the vendor's client.
    #[default]
    V3,
    /// NFSv4.0, RFC 7530.
    V40,
    /// NFSv4.1, RFC 8881.
    V41,
    /// NFSv4.2, RFC 7862.
    V42,
}

/// What the user said about the version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VersionWish {
    /// Nothing: the highest that client and server share, 4.2 first, 3 last.
    #[default]
    Open,
    /// `vers=4`: the highest minor version, and never 3.
    AnyMinor,
    /// This one and no other.
    Exactly(NfsVersion),
}

/// What carries RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// With record marks, RFC 5531 section 11.
    Tcp,
    /// NFSv3 only, and only where the kernel has it.
    Udp,
    /// RFC 8166.
    Rdma,
}

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

/// A transport over a family: `tcp`, `tcp6`, `udp`, … (RFC 5665).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetId {
    /// The transport.
    pub transport: Transport,
    /// The family of the addresses.
    pub family: Family,
}

/// Who keeps the locks of an NFSv3 mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// The server, with the help of rpc.statd.
    Remote,
    /// The server for one of fcntl(2) and flock(2), this node for the other (`local_lock=flock`, `posix`).
    PartlyRemote,
    /// This node alone: `nolock`, `local_lock=all`.
    Local,
}

/// What the user said about the service that answers MOUNT calls, which NFSv3 begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountService {
    /// Another host than the server: `mounthost`. To be resolved.
    pub host: Option<String>,
    /// Another address: `mountaddr`. Never an unspecified one.
    pub address: Option<IpAddr>,
    /// Its port; 0: ask rpcbind.
    pub port: Option<u16>,
    /// Its transport; never RDMA.
    pub netid: Option<NetId>,
    /// The MOUNT version where it is not 3: 1.
    pub version: Option<u8>,
}

impl NfsVersion {
    /// Whether it is a minor version of 4.
    #[must_use]
    pub fn is_4(self) -> bool {
        self != Self::V3
    }
}

impl VersionWish {
    /// What holds where the user says nothing.
    #[must_use]
    pub fn unsaid(rules: Rules) -> Self {
        match rules {
            Rules::Tunnel => Self::Exactly(NfsVersion::V3),
            Rules::Direct => Self::Open,
        }
    }

    /// The version, where no other will do.
    #[must_use]
    pub fn exact(self) -> Option<NfsVersion> {
        match self {
            Self::Exactly(version) => Some(version),
            Self::Open | Self::AnyMinor => None,
        }
    }
}

impl Locks {
    /// Whether an NFSv3 mount with them needs rpc.statd on this host.
    #[must_use]
    pub fn need_statd(self) -> bool {
        self != Self::Local
    }
}

impl NetId {
    /// Reads `tcp`, `udp6`, …: in lower case only, as the kernel does.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (transport, family) = match text.strip_suffix('6') {
            Some(transport) => (transport, Family::Inet6),
            None => (text, Family::Inet),
        };
        let transport = match transport {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            "rdma" => Transport::Rdma,
            _ => return None,
        };
        Some(Self { transport, family })
    }
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Inet } else { Self::Inet6 }
    }
}

impl fmt::Display for NfsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3 => "3",
            Self::V40 => "4.0",
            Self::V41 => "4.1",
            Self::V42 => "4.2",
        })
    }
}

impl fmt::Display for VersionWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("any"),
            Self::AnyMinor => f.write_str("4"),
            Self::Exactly(version) => version.fmt(f),
        }
    }
}

impl fmt::Display for NetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Rdma => "rdma",
        })?;
        f.write_str(match self.family {
            Family::Inet => "",
            Family::Inet6 => "6",
        })
    }
}
