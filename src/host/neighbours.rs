//! Who else serves NFS mounts from loopback addresses of this node: other installs of ours, and the vendor's client.
//!
//! Their listeners stand in the table of sockets of this network namespace. The vendor's client keeps a file for each
//! mount, whose name ends in `tls.ADDRESS-RANDOM`; its address is taken also while its proxy is dead. Its mounts
//! carry that name as their host (aliyun-alinas-utils 2.2, mount_alinas.py).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::host::peer_proc;

/// Where the vendor's client keeps its files.
const VENDORS_STATE: &str = "/var/run/alinas";

/// Who else uses addresses.
pub trait Neighbours: Send + Sync + fmt::Debug {
    /// Loopback addresses that somebody listens at.
    fn listening(&self) -> BTreeSet<Ipv4Addr>;
    /// Addresses of the vendor's client, by its files.
    fn vendors(&self) -> BTreeSet<Ipv4Addr>;
}

/// Those of this node, as far as this process sees them.
#[derive(Clone, Debug)]
pub struct NodeNeighbours(PathBuf);

impl Default for NodeNeighbours {
    fn default() -> Self {
        Self(PathBuf::from(VENDORS_STATE))
    }
}

impl Neighbours for NodeNeighbours {
    fn listening(&self) -> BTreeSet<Ipv4Addr> {
        // Only to choose well: an address that is listened at cannot be bound anyway.
        peer_proc::listening().unwrap_or_default()
    }

    fn vendors(&self) -> BTreeSet<Ipv4Addr> {
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten();
        files.filter_map(|file| vendors_address(&file.file_name().to_string_lossy())).collect()
    }
}

/// The address in a name that the vendor's client gives to a mount: `FS.REGION.tls.127.0.1.1-AbCd1234`.
#[must_use]
pub fn vendors_address(name: &str) -> Option<Ipv4Addr> {
    let (_, rest) = name.rsplit_once(".tls.")?;
    let (address, _) = rest.split_once('-').unwrap_or((rest, ""));
    address.parse().ok().filter(Ipv4Addr::is_loopback)
}

/// Neighbours that a test makes up.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use std::sync::Mutex;

    /// The addresses that others listen at, and those of the vendor's files.
    #[derive(Debug, Default)]
    pub(crate) struct FakeNeighbours {
        pub(crate) listening: Mutex<BTreeSet<Ipv4Addr>>,
        pub(crate) vendors: Mutex<BTreeSet<Ipv4Addr>>,
    }

    impl Neighbours for FakeNeighbours {
        fn listening(&self) -> BTreeSet<Ipv4Addr> {
            self.listening.lock().unwrap().clone()
        }

        fn vendors(&self) -> BTreeSet<Ipv4Addr> {
            self.vendors.lock().unwrap().clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_mount_of_the_vendors_client_is_in_its_name() {
        for (name, address) in [
            ("alinas-0abc.cn-hangzhou.tls.127.0.1.1-AbCd1234", Some("127.0.1.1")),
            ("0abc-x.cn-hangzhou.tls.127.0.1.9", Some("127.0.1.9")),
            ("~alinas-0abc.cn-hangzhou.tls.127.0.2.1-AbCd1234", Some("127.0.2.1")),
            ("0abc-x.cn-hangzhou.nas.aliyuncs.com", None),
            ("x.tls.192.0.2.1-AbCd1234", None),
            ("x.tls.example.com", None),
            ("alinas.lock", None),
        ] {
            let read = vendors_address(name).map(|address| address.to_string());
            assert_eq!(read.as_deref(), address, "{name}");
        }
    }

    #[test]
    fn who_listens_and_whose_files_lie_there_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("alinas-x.cn.tls.127.0.1.7-AbCd1234"), "{}").unwrap();
        let neighbours = NodeNeighbours(dir.path().to_owned());
        assert_eq!(neighbours.vendors(), [Ipv4Addr::new(127, 0, 1, 7)].into());
        let address = Ipv4Addr::new(127, 0, 251, 17);
        let _socket = std::net::TcpListener::bind((address, 0)).unwrap();
        assert!(neighbours.listening().contains(&address));
        assert!(NodeNeighbours("/nonexistent".into()).vendors().is_empty());
    }
}
