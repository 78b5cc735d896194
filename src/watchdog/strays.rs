//! Mounts that connect to one of our addresses and have no record, or a damaged one, as the watchdog finds them at its
//! start.
//!
//! Their records were lost, or a tunnel was made by hand. Such a mount hangs until somebody serves its address, so it is
//! taken in: where the host that it names is one, a record is written that leads there, under the strict policy and
//! without users; a damaged one is kept beside it. The tunnel is closed once the kernel has let it go, as any other. What cannot be taken in is named,
//! and its address never given out: the kernel uses it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use crate::host::neighbours::vendors_address;
use crate::model::RemotePort;
use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::watchdog::address::InUse;
use crate::watchdog::record::Record;
use crate::watchdog::tunnels::Tunnels;

/// Whose a mount without a record is.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    /// Ours: its tunnel led there.
    Ours(Box<TunnelSpec>),
    /// The vendor's client made it, and looks after it.
    Vendors,
    /// The kernel does not say where it leads.
    Nobodys,
}

fn whose(used: &InUse) -> Whose {
    if vendors_address(&used.host).is_some() {
        return Whose::Vendors;
    }
    let host = ServerName::parse(&used.host).ok();
    // Some mounts name the address that they connect to, and not where that led.
    match host.filter(|host| !host.address().is_some_and(|address| address.is_loopback())) {
        Some(host) => Whose::Ours(Box::new(TunnelSpec::to(host, RemotePort::Known))),
        None => Whose::Nobodys,
    }
}

impl Tunnels {
    /// What connects to our addresses and has no record that anybody could use.
    pub(super) fn strays(&self) -> BTreeMap<SocketAddrV4, InUse> {
        let mut uses = match self.kernel.uses() {
            Ok(uses) => uses,
            Err(error) => {
                tracing::error!(%error, "failed to read the kernel's NFS mounts; none without a record is looked for");
                BTreeMap::new()
            }
        };
        let book = self.book();
        // An address that a record names is another mount's matter, whatever the port.
        uses.retain(|endpoint, _| !book.names(*endpoint.ip()));
        uses
    }

    /// Names the vendor's client once, where it has live mounts: by their hosts, or by its files.
    pub(super) fn name_vendors(&self) {
        let Ok(uses) = self.kernel.uses() else { return };
        let files = self.kernel.neighbours.vendors();
        let of_file = |endpoint: &SocketAddrV4| files.get(endpoint.ip()).copied();
        let addresses: BTreeSet<_> = uses
            .iter()
            .filter_map(|(endpoint, used)| {
                vendors_address(&used.host).or_else(|| of_file(endpoint))
            })
            .map(|address| address.to_string())
            .collect();
        if !addresses.is_empty() {
            let addresses: Vec<_> = addresses.into_iter().collect();
            self.notices.say(format!(
                "the vendor's client has mounts on this node, at {}; it looks after them, and their addresses are not \
                 given out",
                addresses.join(", ")
            ));
        }
    }

    /// Takes a mount in, or says why not.
    pub(super) fn take_in(&self, endpoint: SocketAddrV4, stray: &InUse) {
        let what = described(endpoint, stray);
        let spec = match whose(stray) {
            Whose::Ours(spec) => spec,
            // All of them are named together.
            Whose::Vendors => return,
            Whose::Nobodys => {
                return self.notices.say(format!(
                    "{what} has no record, and the kernel does not say where it leads: it hangs until it is mounted \
                     anew; its address is not given out"
                ));
            }
        };
        if self.sockets.ensure(endpoint).is_none() {
            return self.notices.say(format!(
                "{what} has no record here, and another process listens at its address, perhaps another watchdog; it \
                 is left alone"
            ));
        }
        let leads_to = spec.to_string();
        let record = Record { endpoint, spec: *spec, users: Vec::new() };
        let adopted = self.book().adopt(record);
        let had = match adopted {
            Ok(None) => "had no record".to_owned(),
            Ok(Some(aside)) => format!("had a damaged record (kept as {})", aside.display()),
            Err(error) => {
                self.sockets.release(endpoint);
                return self.notices.say(format!(
                    "{what} has no record, and none can be written ({error}): it hangs until the state directory can \
                     be written and the watchdog is started again"
                ));
            }
        };
        self.notices.say(format!(
            "{what} {had} and was taken in: its tunnel leads to {leads_to}, with the strict TLS policy; if it was \
             mounted with another policy, mount it anew"
        ));
    }
}

fn described(endpoint: SocketAddrV4, stray: &InUse) -> String {
    let places: Vec<_> =
        stray.mount_points.iter().map(|place| place.display().to_string()).collect();
    let places =
        if places.is_empty() { String::new() } else { format!(" at {}", places.join(", ")) };
    format!("an NFS mount of {:?}{places} through {endpoint}", stray.host)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::watchdog::address::fake::mount;
    use crate::watchdog::driver::Wanted;
    use crate::watchdog::fake::Node;
    use crate::watchdog::fake::spec;
    use crate::watchdog::fake::user;

    fn mounted(node: &Node, source: &str, address: &str) {
        let mut entry = mount("nfs", &format!("rw,vers=3,port=12049,addr={address}"));
        entry.source = source.to_owned();
        node.mounts.0.lock().unwrap().push(entry);
    }

    #[test]
    fn a_mount_is_ours_unless_its_host_is_the_vendors_or_none() {
        let of = |host: &str| whose(&InUse { host: host.to_owned(), mount_points: Vec::new() });
        assert_eq!(of("nas.example.com"), Whose::Ours(Box::new(spec("nas.example.com"))));
        assert_eq!(of("192.0.2.7"), Whose::Ours(Box::new(spec("192.0.2.7"))));
        assert_eq!(of("alinas-x.cn-hangzhou.tls.127.0.1.1-AbCd1234"), Whose::Vendors);
        for host in ["", "127.0.1.1", "no name"] {
            assert_eq!(of(host), Whose::Nobodys, "{host:?}");
        }
    }

    #[tokio::test]
    async fn a_mount_whose_record_was_lost_is_taken_in_and_served_at_its_address() {
        let node = Node::new();
        mounted(&node, "nas:/data", "127.0.1.5");
        node.tunnels.adopt(Vec::new());
        assert_eq!(node.recorded(), [("127.0.1.5".to_owned(), 0)]);
        let bindings = node.tunnels.bindings();
        assert_eq!(bindings.listeners[0].host, "nas");
        assert_eq!(bindings.sockets.len(), 1);
        let notices = node.tunnels.notices().all();
        assert!(notices[0].contains("/mnt") && notices[0].contains("taken in"), "{notices:?}");
        // Who stages it again joins it.
        let acquired = node.tunnels.acquire(spec("nas"), user(1)).await.unwrap();
        assert_eq!(*acquired.endpoint.ip(), Ipv4Addr::new(127, 0, 1, 5));
    }

    #[tokio::test]
    async fn what_cannot_be_taken_in_is_named_and_its_address_not_given_out() {
        let node = Node::new();
        mounted(&node, "alinas-x.cn.tls.127.0.1.1-AbCd1234:/", "127.0.1.1");
        node.clients.hold(&[Ipv4Addr::new(127, 0, 1, 2)]);
        node.tunnels.adopt(Vec::new());
        assert!(node.recorded().is_empty());
        let notices = node.tunnels.notices().all().join("\n");
        for words in
            ["vendor's client", "127.0.1.2:12049 has no record, and the kernel does not say"]
        {
            assert!(notices.contains(words), "{notices}");
        }
        let acquired = node.tunnels.acquire(spec("nas"), user(1)).await.unwrap();
        assert_eq!(*acquired.endpoint.ip(), Ipv4Addr::new(127, 0, 1, 3));
    }

    #[tokio::test]
    async fn a_mount_with_a_record_is_left_to_it_also_where_a_later_release_wrote_it() {
        let node = Node::new();
        node.tunnels.acquire(spec("nas"), user(1)).await.unwrap();
        let later = node.dir.path().join("tunnels/127.0.1.2.json");
        std::fs::write(&later, "{\"version\": 99}").unwrap();
        let node = node.crash();
        mounted(&node, "other:/", "127.0.1.1");
        mounted(&node, "nas:/", "127.0.1.2");
        node.tunnels.adopt(Vec::new());
        assert_eq!(node.recorded(), [("127.0.1.1".to_owned(), 1)]);
        assert_eq!(std::fs::read_to_string(later).unwrap(), "{\"version\": 99}");
        assert_eq!(
            *node.tunnels.book().at(Ipv4Addr::new(127, 0, 1, 1)).unwrap().record.spec.host.as_str(),
            *"nas"
        );
        let next = node.tunnels.acquire(spec("b"), user(2)).await.unwrap();
        assert_eq!(*next.endpoint.ip(), Ipv4Addr::new(127, 0, 1, 3));
    }

    #[tokio::test]
    async fn a_mount_whose_record_is_damaged_is_taken_in_and_the_record_is_kept() {
        let node = Node::new();
        let tunnels = node.dir.path().join("tunnels");
        std::fs::write(tunnels.join("127.0.1.5.json"), "{\"version\":").unwrap();
        // Nobody says where this one leads.
        std::fs::write(tunnels.join("127.0.1.6.json"), "").unwrap();
        let node = node.crash();
        mounted(&node, "nas:/data", "127.0.1.5");
        mounted(&node, "127.0.1.6:/data", "127.0.1.6");
        node.tunnels.adopt(Vec::new());
        assert_eq!(node.recorded(), [("127.0.1.5".to_owned(), 0)]);
        let tunnels = node.dir.path().join("tunnels");
        let kept = |name: &str| std::fs::read_to_string(tunnels.join(name)).unwrap();
        assert_eq!(kept("127.0.1.5.json.damaged"), "{\"version\":");
        assert_eq!(kept("127.0.1.6.json"), "");
        let notices = node.tunnels.notices().all().join("\n");
        for words in ["127.0.1.5.json.damaged) and was taken in", "127.0.1.6:12049 has no record"] {
            assert!(notices.contains(words), "{notices}");
        }
        // The next watchdog finds the new record.
        let node = node.crash();
        node.tunnels.adopt(Vec::new());
        assert_eq!(node.recorded(), [("127.0.1.5".to_owned(), 0)]);
    }

    #[tokio::test]
    async fn addresses_of_neighbours_are_not_given_out() {
        let node = Node::new();
        node.neighbours.listening.lock().unwrap().insert(Ipv4Addr::new(127, 0, 1, 1));
        node.neighbours.vendors.lock().unwrap().insert(Ipv4Addr::new(127, 0, 1, 2));
        let acquired = node.tunnels.acquire(spec("nas"), user(1)).await.unwrap();
        assert_eq!(*acquired.endpoint.ip(), Ipv4Addr::new(127, 0, 1, 3));
    }
}
