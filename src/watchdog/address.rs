//! Which loopback address a new tunnel gets.
//!
//! An address that a mount still names must never lead elsewhere: its reconnect would show one mount another
//! file system's data. So an address is free only if nobody is known to use it, and who cannot tell must not
//! ask: the callers collect `taken` from the records, the mount table and the kernel's NFS clients.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::host::neighbours::Neighbours;
use crate::host::nfs_clients::NfsClients;

/// The first and the last address that are given out.
pub const RANGE: (Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 255, 254));

/// The lowest address that is free. Those that end in 0 or 255 are left out: they look like a network.
#[must_use]
pub fn next_free(taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    (RANGE.0.to_bits()..=RANGE.1.to_bits())
        .map(Ipv4Addr::from_bits)
        .filter(|address| !matches!(address.octets()[3], 0 | 255))
        .find(|address| !taken.contains(address))
}

/// What the kernel knows about the use of addresses.
#[derive(Clone, Debug)]
pub struct KernelView {
    /// The NFS clients of this network namespace.
    pub clients: Arc<dyn NfsClients>,
    /// The mounts of this mount namespace, which may not be the host's: the clients show those as well.
    pub mounts: Arc<dyn MountTable>,
    /// Who else serves mounts from loopback addresses.
    pub neighbours: Arc<dyn Neighbours>,
}

/// What the kernel says of a mount that connects to one of our addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// The host that the mount names; empty where the kernel does not say.
    pub host: String,
    /// Where it is mounted, as far as this mount namespace shows it.
    pub mount_points: Vec<PathBuf>,
}

impl KernelView {
    /// Every IPv4 address that the kernel holds an NFS client for or that an NFS mount names.
    ///
    /// # Errors
    /// When either list cannot be read; then no address is known to be unused.
    pub fn addresses_in_use(&self) -> io::Result<BTreeSet<Ipv4Addr>> {
        let clients = self.clients.read()?.into_iter().filter_map(|client| match client.address {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        });
        let mut addresses: BTreeSet<_> = clients.collect();
        addresses.extend(self.mounts.read()?.iter().flat_map(named_by));
        Ok(addresses)
    }

    /// Every address that is not to be given out: the kernel uses it, or a neighbour does.
    ///
    /// # Errors
    /// When the kernel's lists cannot be read; then no address is known to be unused.
    pub fn addresses_taken(&self) -> io::Result<BTreeSet<Ipv4Addr>> {
        let mut addresses = self.addresses_in_use()?;
        addresses.extend(self.neighbours.listening());
        addresses.extend(self.neighbours.vendors());
        Ok(addresses)
    }

    /// What connects to the addresses that are given out, by where it connects to.
    ///
    /// # Errors
    /// When either list cannot be read.
    pub fn uses(&self) -> io::Result<BTreeMap<SocketAddrV4, InUse>> {
        let mut uses: BTreeMap<SocketAddrV4, InUse> = BTreeMap::new();
        for client in self.clients.read()? {
            if let Some(IpAddr::V4(address)) = client.address {
                let host =
                    &mut uses.entry(SocketAddrV4::new(address, client.port)).or_default().host;
                *host = client.host_name;
            }
        }
        for mount in self.mounts.read()?.iter().filter(|mount| mount.is_nfs()) {
            let Some(endpoint) = connects_to(mount) else { continue };
            let used = uses.entry(endpoint).or_default();
            // The whole host: the kernel may cut it in its list of clients.
            if let Some((host, _)) = mount.source.split_once(":/") {
                host.clone_into(&mut used.host);
            }
            used.mount_points.push(mount.mount_point.clone());
        }
        uses.retain(|endpoint, _| (RANGE.0..=RANGE.1).contains(endpoint.ip()));
        Ok(uses)
    }
}

/// NFS's own port where the mount names none (RFC 1813).
const NFS_PORT: u16 = 2049;

fn connects_to(mount: &MountEntry) -> Option<SocketAddrV4> {
    let address = mount.super_option("addr")?.parse().ok()?;
    let port = mount.super_option("port").map_or(Ok(NFS_PORT), str::parse).ok()?;
    Some(SocketAddrV4::new(address, port))
}

/// The addresses that an NFS mount carries in its options.
fn named_by(mount: &MountEntry) -> impl Iterator<Item = Ipv4Addr> {
    let is_nfs = matches!(mount.fs_type.as_str(), "nfs" | "nfs4");
    mount.super_options.iter().filter(move |_| is_nfs).filter_map(|option| {
        let address = option.strip_prefix("addr=").or_else(|| option.strip_prefix("mountaddr="))?;
        address.parse().ok()
    })
}

#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use std::sync::Mutex;

    /// A mount table that a test writes.
    #[derive(Debug, Default)]
    pub(crate) struct FakeMounts(pub(crate) Mutex<Vec<MountEntry>>);

    impl MountTable for FakeMounts {
        fn read(&self) -> io::Result<Vec<MountEntry>> {
            Ok(self.0.lock().unwrap().clone())
        }
    }

    /// A mount with these options of its superblock.
    pub(crate) fn mount(fs_type: &str, super_options: &str) -> MountEntry {
        MountEntry {
            id: 1,
            device: "0:1".to_owned(),
            root: "/".to_owned(),
            mount_point: "/mnt".into(),
            options: Vec::new(),
            peer_group: None,
            fs_type: fs_type.to_owned(),
            source: "nas:/".to_owned(),
            super_options: super_options.split(',').map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeMounts;
    use super::fake::mount;
    use super::*;
    use crate::host::neighbours::fake::FakeNeighbours;
    use crate::host::nfs_clients::fake::FakeNfsClients;

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn the_lowest_free_address_is_given_out() {
        for (taken, free) in [
            (vec![], "127.0.1.1"),
            (vec!["127.0.1.1", "127.0.1.3"], "127.0.1.2"),
            (vec!["127.0.2.1"], "127.0.1.1"),
        ] {
            let taken = taken.into_iter().map(address).collect();
            assert_eq!(next_free(&taken), Some(address(free)), "{taken:?}");
        }
    }

    #[test]
    fn all_addresses_are_given_out_once_and_none_looks_like_a_network() {
        let mut taken = BTreeSet::new();
        for third in 1..=255 {
            taken.extend((1..=254).map(|fourth| Ipv4Addr::new(127, 0, third, fourth)));
            let next = next_free(&taken);
            let expected = (third < 255).then(|| Ipv4Addr::new(127, 0, third.wrapping_add(1), 1));
            assert_eq!(next, expected);
        }
    }

    #[test]
    fn the_kernel_uses_the_addresses_of_its_clients_and_of_its_nfs_mounts() {
        let clients = Arc::new(FakeNfsClients::default());
        clients.hold(&[address("127.0.1.1")]);
        let mounts = Arc::new(FakeMounts::default());
        mounts.0.lock().unwrap().extend([
            mount("nfs", "rw,vers=3,mountaddr=127.0.1.2,addr=127.0.1.3"),
            mount("nfs4", "rw,vers=4.0,clientaddr=127.0.0.1,addr=127.0.1.4"),
            mount("fuse", "addr=127.0.1.5"),
        ]);
        let neighbours = Arc::<FakeNeighbours>::default();
        let view = KernelView { clients: clients.clone(), mounts, neighbours: neighbours.clone() };
        let expected = ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"];
        assert_eq!(view.addresses_in_use().unwrap(), expected.map(address).into());
        neighbours.listening.lock().unwrap().insert(address("127.0.1.6"));
        neighbours.vendors.lock().unwrap().insert(address("127.0.1.7"));
        let taken = [&expected[..], &["127.0.1.6", "127.0.1.7"]].concat();
        let taken: BTreeSet<_> = taken.into_iter().map(address).collect();
        assert_eq!(view.addresses_taken().unwrap(), taken);
        clients.fail();
        assert!(view.addresses_in_use().is_err() && view.addresses_taken().is_err());
    }

    #[test]
    fn what_connects_to_our_addresses_is_known_by_its_host_and_its_place() {
        let clients = Arc::new(FakeNfsClients::default());
        clients.hold(&[address("127.0.1.1"), address("127.0.1.2"), address("192.0.2.7")]);
        let mounts = Arc::new(FakeMounts::default());
        mounts.0.lock().unwrap().extend([
            mount("nfs", "rw,vers=3,port=12049,mountaddr=127.0.1.2,addr=127.0.1.2"),
            mount("nfs4", "rw,vers=4.0,addr=127.0.1.3"),
            mount("nfs4", "rw,vers=4.0,addr=192.0.2.8"),
            mount("fuse", "addr=127.0.1.4"),
        ]);
        let neighbours = Arc::<FakeNeighbours>::default();
        let view = KernelView { clients, mounts, neighbours };
        let uses = view.uses().unwrap();
        let shown: Vec<_> = uses
            .iter()
            .map(|(at, used)| (at.to_string(), used.host.as_str(), used.mount_points.len()))
            .collect();
        assert_eq!(
            shown,
            [
                ("127.0.1.1:12049".to_owned(), "127.0.1.1", 0),
                ("127.0.1.2:12049".to_owned(), "nas", 1),
                ("127.0.1.3:2049".to_owned(), "nas", 1)
            ]
        );
    }
}
