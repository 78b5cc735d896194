//! What can be seen of this node without asking a server. Nothing here touches a mount.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::path::Path;

use rustix::thread::CapabilitySet;

use crate::app::alinas_conf::AlinasConf;
use crate::app::doctor::finding::Check;
use crate::app::doctor::finding::Finding;
use crate::app::status;
use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::host::mount_table::ProcMountTable;
use crate::host::neighbours::Neighbours;
use crate::host::neighbours::NodeNeighbours;
use crate::host::net_namespace::NetNamespace;
use crate::host::peer::LinuxPeers;
use crate::host::peer::PeerCheck;
use crate::proto::tunnel as wire;
use crate::watchdog::address::RANGE;

/// Looks at everything.
pub(super) async fn look(state_dir: &Path, kubelet_dir: &Path) -> Vec<Finding> {
    let listed = status::ask_in(state_dir).await;
    let mut findings = vec![kernel(), privileges(), network_namespace()];
    match ProcMountTable.read() {
        Ok(mounts) => {
            findings.push(kubelet_directory(&mounts, kubelet_dir));
            findings.push(mounts_and_tunnels(&mounts, &NodeNeighbours::default().listening()));
        }
        Err(error) => {
            let found = format!("failed to read the kernel's mount table: {error}");
            findings.push(Finding::failed(Check::Mounts, found, ""));
        }
    }
    match listed {
        Ok(listed) => findings.extend([watchdog(&listed), tunnels(&listed)]),
        Err(error) => {
            let text = error.to_string();
            let (found, _) = text.split_once("; ").unwrap_or((&text, ""));
            let remedy =
                "where mounts are to be encrypted, start the watchdog of this node and see its log";
            findings.push(Finding::warning(Check::Watchdog, found, remedy));
            findings.push(Finding::skipped(Check::Tunnels, "not known without the watchdog"));
        }
    }
    findings.extend([local_port(), other_clients(), name_servers("/etc/resolv.conf")]);
    findings
}

fn kernel() -> Finding {
    let names = rustix::system::uname();
    let release = names.release().to_string_lossy().into_owned();
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    kernel_of(&release, &file_systems)
}

fn kernel_of(release: &str, file_systems: &str) -> Finding {
    let knows = |name: &str| {
        file_systems.lines().any(|line| line.trim_start_matches("nodev").trim() == name)
    };
    match (knows("nfs"), knows("nfs4")) {
        (true, true) => {
            Finding::ok(Check::Kernel, format!("Linux {release} knows NFSv3 and NFSv4"))
        }
        (true, false) => Finding::warning(
            Check::Kernel,
            format!("Linux {release} knows NFSv3, and NFSv4 not yet"),
            "for NFSv4, load the kernel module nfsv4 on the host (modprobe nfsv4); often the first mount does",
        ),
        _ => Finding::warning(
            Check::Kernel,
            format!("Linux {release} does not know NFS yet"),
            "load the kernel module nfs on the host (modprobe nfs); often the first mount does",
        ),
    }
}

fn privileges() -> Finding {
    match rustix::thread::capabilities(None) {
        Ok(sets) if sets.effective.contains(CapabilitySet::SYS_ADMIN) => {
            Finding::ok(Check::Privileges, "this process may mount (CAP_SYS_ADMIN)")
        }
        Ok(_) => Finding::warning(
            Check::Privileges,
            "this process may not mount: it lacks CAP_SYS_ADMIN",
            "ask as root, or in the node plugin's container",
        ),
        Err(error) => Finding::skipped(Check::Privileges, format!("not known: {error}")),
    }
}

fn network_namespace() -> Finding {
    match (NetNamespace::own(), NetNamespace::of_first_process()) {
        (Ok(own), Ok(first)) if own == first => {
            Finding::ok(Check::NetworkNamespace, format!("that of the first process, {own}"))
        }
        (Ok(own), Ok(first)) => Finding::failed(
            Check::NetworkNamespace,
            format!("this process is in {own} and the first one in {first}"),
            "run it in the host's network namespace (hostNetwork: true in a pod): mounts of the host find no tunnel \
             of another one",
        ),
        (Err(error), _) | (_, Err(error)) => {
            Finding::skipped(Check::NetworkNamespace, format!("not known: {error}"))
        }
    }
}

/// A mount below it travels into pods only where the mount that it lies on is shared (mount_namespaces(7)).
fn kubelet_directory(mounts: &[MountEntry], directory: &Path) -> Finding {
    let shown = directory.display();
    // Of several mounts the deepest holds it, and of those at one place the last.
    let holder = mounts
        .iter()
        .filter(|mount| directory.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().len());
    match (directory.exists(), holder) {
        (false, _) => Finding::skipped(
            Check::KubeletDirectory,
            format!("there is no {shown}: no kubelet's node"),
        ),
        (true, Some(mount)) if mount.peer_group.is_some() => {
            let point = mount.mount_point.display();
            Finding::ok(
                Check::KubeletDirectory,
                format!("{shown} lies on {point}, which is shared"),
            )
        }
        (true, _) => Finding::failed(
            Check::KubeletDirectory,
            format!("{shown} does not lie on a shared mount"),
            "mount it shared on the host (mount --make-rshared), and into the container with mountPropagation: \
             Bidirectional; else no pod sees what is mounted there",
        ),
    }
}

fn watchdog(listed: &wire::ListResponse) -> Finding {
    if listed.process != "running" {
        return Finding::failed(
            Check::Watchdog,
            format!("the watchdog answers, and its tunnel process is {:?}", listed.process),
            "see the watchdog's log for why the tunnel process does not run",
        );
    }
    let found = format!(
        "the watchdog answers; its tunnel process {} runs for {} s and was started again {} times",
        listed.process_id, listed.process_seconds, listed.restarts
    );
    match listed.notices.first() {
        None => Finding::ok(Check::Watchdog, found),
        Some(notice) => Finding::warning(Check::Watchdog, found, notice),
    }
}

fn tunnels(listed: &wire::ListResponse) -> Finding {
    let ill = listed.tunnels.iter().filter_map(|tunnel| {
        let health = tunnel.health.as_ref()?;
        let host = tunnel.spec.as_ref().map_or("", |spec| spec.host.as_str());
        let is_ill = matches!(health.state.as_str(), "server-down" | "broken");
        is_ill.then(|| {
            format!("{host} is {:?} for {} s: {}", health.state, health.seconds, health.why)
        })
    });
    let ill: Vec<_> = ill.collect();
    match ill.first() {
        None => {
            let number = listed.tunnels.len();
            Finding::ok(
                Check::Tunnels,
                format!("none of {number} has a server that does not answer"),
            )
        }
        Some(first) => Finding::failed(
            Check::Tunnels,
            format!("{} of {}: {first}", ill.len(), listed.tunnels.len()),
            "look at the server: alinas-csi doctor DOMAIN",
        ),
    }
}

/// A mount that names a loopback address where nobody listens has no tunnel: its I/O waits.
fn mounts_and_tunnels(mounts: &[MountEntry], listening: &BTreeSet<Ipv4Addr>) -> Finding {
    let nfs: Vec<_> = mounts.iter().filter(|mount| mount.is_nfs()).collect();
    let tunnelled =
        |mount: &MountEntry| mount.super_option("addr")?.parse().ok().filter(Ipv4Addr::is_loopback);
    let through: Vec<_> =
        nfs.iter().filter_map(|mount| Some((*mount, tunnelled(mount)?))).collect();
    let lost: Vec<_> = through.iter().filter(|(_, address)| !listening.contains(address)).collect();
    match lost.first() {
        None => Finding::ok(
            Check::Mounts,
            format!(
                "{} NFS mounts, {} of them through a tunnel of this node",
                nfs.len(),
                through.len()
            ),
        ),
        Some((mount, address)) => Finding::failed(
            Check::Mounts,
            format!(
                "{} of {} mounts have no tunnel: nobody listens at {address}, which {} names",
                lost.len(),
                through.len(),
                mount.mount_point.display()
            ),
            "start the watchdog that made the mount: until then its I/O waits, and nothing is lost",
        ),
    }
}

fn local_port() -> Finding {
    // The last address that a tunnel would get: who listens there has them all.
    let (_, last) = RANGE;
    let port = AlinasConf::default().proxy_port;
    match LinuxPeers::default().occupant(SocketAddrV4::new(last, port)) {
        None => Finding::ok(Check::LocalPort, format!("nobody has port {port} of every address")),
        Some(occupant) => Finding::failed(
            Check::LocalPort,
            format!("{occupant}, where tunnels would"),
            "end that process, or give the tunnels another port (proxy_port)",
        ),
    }
}

fn other_clients() -> Finding {
    let vendors = NodeNeighbours::default().vendors();
    match vendors.first() {
        None => Finding::ok(Check::OtherClients, "no mount of the vendor's client"),
        Some(first) => Finding::warning(
            Check::OtherClients,
            format!("the vendor's client has {} mounts here, the first at {first}", vendors.len()),
            "leave its mounts to it until they are unmounted; both may run side by side",
        ),
    }
}

fn name_servers(file: &str) -> Finding {
    let text = fs::read_to_string(file).unwrap_or_default();
    let servers: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next())
        .collect();
    match servers.is_empty() {
        false => Finding::ok(Check::NameServers, servers.join(", ")),
        true => Finding::warning(
            Check::NameServers,
            format!("{file} names none"),
            "mount targets resolve by the VPC's name servers: see that this node uses them",
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::app::doctor::finding::Verdict;
    use crate::host::mount_table;

    use super::*;

    #[test]
    fn a_kernel_tells_by_its_file_systems_which_versions_it_knows() {
        for (file_systems, verdict, words) in [
            ("nodev\tnfs\nnodev\tnfs4\n\text4\n", Verdict::Ok, "NFSv3 and NFSv4"),
            ("nodev\tnfs\n", Verdict::Warning, "NFSv4 not yet"),
            ("nodev\tnfsd\n\text4\n", Verdict::Warning, "does not know NFS yet"),
        ] {
            let finding = kernel_of("6.1.0", file_systems);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.found.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn a_directory_of_the_kubelet_lies_on_a_shared_mount_or_pods_see_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        for (table, verdict) in [
            ("1 0 0:1 / / rw shared:1 - ext4 /dev/a rw\n".to_owned(), Verdict::Ok),
            ("1 0 0:1 / / rw - ext4 /dev/a rw\n".to_owned(), Verdict::Failed),
            (
                format!(
                    "1 0 0:1 / / rw shared:1 - ext4 /dev/a rw\n2 1 0:2 / {at} rw - tmpfs tmpfs rw\n"
                ),
                Verdict::Failed,
            ),
        ] {
            let mounts = mount_table::parse(&table).unwrap();
            assert_eq!(kubelet_directory(&mounts, folder.path()).verdict, verdict, "{table}");
        }
        let none = kubelet_directory(&[], Path::new("/nonexistent"));
        assert_eq!(none.verdict, Verdict::Skipped);
    }

    #[test]
    fn a_mount_whose_tunnel_is_gone_is_named() {
        let table = "1 0 0:1 / / rw - ext4 /dev/a rw\n\
                     2 1 0:2 / /mnt/a rw - nfs nas:/ rw,addr=127.0.1.1\n\
                     3 1 0:3 / /mnt/b rw - nfs4 nas:/ rw,addr=127.0.1.2\n\
                     4 1 0:4 / /mnt/c rw - nfs4 other:/ rw,addr=192.0.2.1\n";
        let mounts = mount_table::parse(table).unwrap();
        let [first, second] = [1, 2].map(|last| Ipv4Addr::new(127, 0, 1, last));
        let fine = mounts_and_tunnels(&mounts, &[first, second].into());
        assert_eq!(fine.found, "3 NFS mounts, 2 of them through a tunnel of this node");
        let lost = mounts_and_tunnels(&mounts, &[first].into());
        assert_eq!(lost.verdict, Verdict::Failed);
        assert!(lost.found.contains("1 of 2 mounts") && lost.found.contains("/mnt/b"), "{lost:?}");
    }

    #[test]
    fn a_process_that_does_not_run_and_a_server_that_is_down_are_told_apart() {
        let health = |state: &str| wire::TunnelHealth {
            state: state.to_owned(),
            seconds: 7,
            why: "connection refused".to_owned(),
            ..Default::default()
        };
        let tunnel =
            |state: &str| wire::TunnelState { health: Some(health(state)), ..Default::default() };
        let listed = |process: &str, states: &[&str]| wire::ListResponse {
            process: process.to_owned(),
            tunnels: states.iter().map(|state| tunnel(state)).collect(),
            ..Default::default()
        };
        let down = listed("running", &["healthy", "server-down"]);
        assert_eq!(watchdog(&down).verdict, Verdict::Ok);
        let finding = tunnels(&down);
        assert!(finding.found.starts_with("1 of 2: ") && finding.verdict == Verdict::Failed);
        assert!(finding.found.ends_with("connection refused"), "{finding:?}");
        let waiting = listed("waiting", &["unknown"]);
        assert_eq!(watchdog(&waiting).verdict, Verdict::Failed);
        assert_eq!(tunnels(&waiting).verdict, Verdict::Ok);
    }

    #[test]
    fn a_resolver_without_servers_is_doubted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(name_servers(path).verdict, Verdict::Warning);
        fs::write(path, "# a\nnameserver 100.100.2.136\nnameserver ::1\noptions x\n").unwrap();
        assert_eq!(name_servers(path).found, "100.100.2.136, ::1");
    }
}
