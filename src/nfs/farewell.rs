//! Good manners after an NFSv3 unmount: mountd is told that the mount is over (UMNT, RFC 1813 section 5.2.3).
//!
//! Whom to tell comes from the kernel's mount table, and from the record of what worked where the kernel does
//! not show it. The server's answer changes nothing, so nobody waits for it longer than [`LIMIT`] and a failure
//! is a line in the debug log.

use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use crate::host::mount_table::MountEntry;
use crate::host::resolve::resolve;
use crate::model::nfs_option::Transport;
use crate::nfs::policy::RpcFault;
use crate::nfs::rpc::Program;
use crate::nfs::rpc::mountd::say_unmounted;
use crate::nfs::rpc::rpcbind::ask_port;

/// For the question to rpcbind, where there is one, and for UMNT, each.
pub const LIMIT: Duration = Duration::from_secs(3);

/// Whom to tell what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// An address, a scope included.
    server: String,
    /// Unknown: rpcbind says it.
    port: Option<u16>,
    transport: Transport,
    version: u8,
    path: String,
}

/// The server's side, for one farewell.
#[async_trait]
pub trait Mountd: Send + Sync + Debug {
    /// Finds where mountd listens and tells it.
    ///
    /// # Errors
    /// Says why the server does not know now.
    async fn tell(&self, farewell: &Farewell) -> Result<(), RpcFault>;
}

/// mountd over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkMountd;

impl Farewell {
    /// What is to be said once `mount` is gone. Nothing for version 4, which has no mountd; nothing where another
    /// mount of the same source is left in `table`; and nothing through a tunnel, which lets only the kernel in.
    ///
    /// `attributes` is what utab remembers of the mount.
    #[must_use]
    pub fn of(mount: &MountEntry, table: &[MountEntry], attributes: &str) -> Option<Self> {
        let said = |key: &str| {
            let recorded =
                || attributes.split(',').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            mount.super_option(key).or_else(recorded)
        };
        let stays = |entry: &MountEntry| entry.id != mount.id && entry.source == mount.source;
        if mount.fs_type != "nfs" || said("vers") != Some("3") || table.iter().any(stays) {
            return None;
        }
        // The kernel says "unspecified" of an address and 0 of a port that it was not told.
        let address = |key| Some((said(key)?, said(key)?.split('%').next()?.parse().ok()?));
        let (server, address) = address("mountaddr").or_else(|| address("addr"))?;
        let (_, path) = mount.source.split_once(":/")?;
        (!is_tunnel(address)).then(|| Self {
            server: server.to_owned(),
            port: said("mountport").and_then(|port| port.parse().ok()).filter(|port| *port != 0),
            transport: match said("mountproto") {
                Some(protocol) if protocol.starts_with("tcp") => Transport::Tcp,
                _ => Transport::Udp,
            },
            version: if said("mountvers") == Some("1") { 1 } else { 3 },
            path: format!("/{path}"),
        })
    }

    /// Says it, and forgets about it.
    pub async fn say(&self, mountd: &dyn Mountd) {
        if let Err(error) = mountd.tell(self).await {
            tracing::debug!(server = %self.server, path = %self.path, %error, "mountd was not told of the unmount");
        }
    }
}

/// Tunnels listen from 127.0.1.1 on (`watchdog`); a server on this very machine is at 127.0.0.1.
#[must_use]
pub fn is_tunnel(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_loopback() && address.octets()[2] != 0)
}

#[async_trait]
impl Mountd for NetworkMountd {
    async fn tell(&self, farewell: &Farewell) -> Result<(), RpcFault> {
        let Farewell { transport, version, .. } = *farewell;
        let resolved = resolve(&farewell.server, None, LIMIT).await.unwrap_or_default();
        let unknown = || RpcFault::Unreachable(format!("{:?} is no address", farewell.server));
        let server = *resolved.first().ok_or_else(unknown)?;
        let port = match farewell.port {
            Some(port) => port,
            None => {
                let program = Program { number: 100_005, version: u32::from(version) };
                ask_port(server, program, transport, transport, LIMIT).await?
            }
        };
        say_unmounted(server.at(port), version, transport, &farewell.path, LIMIT).await
    }
}

#[cfg(test)]
pub mod fake {
    //! A mountd that only takes note.

    use std::sync::Mutex;
    use std::sync::PoisonError;

    use super::*;

    /// Every farewell so far, or one who never answers.
    #[derive(Debug, Default)]
    pub struct FakeMountd {
        /// What was said.
        pub told: Mutex<Vec<Farewell>>,
        /// Takes note and never answers.
        pub silent: bool,
    }

    #[async_trait]
    impl Mountd for FakeMountd {
        async fn tell(&self, farewell: &Farewell) -> Result<(), RpcFault> {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).push(farewell.clone());
            if self.silent { std::future::pending().await } else { Ok(()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::mount_table::fake::nfs_mount;

    fn mount(options: &str) -> MountEntry {
        MountEntry {
            super_options: options.split(',').map(str::to_owned).collect(),
            ..nfs_mount("nas:/a b", Path::new("/mnt"))
        }
    }

    #[test]
    fn whom_to_tell_is_read_from_what_the_kernel_shows_and_else_from_the_record() {
        let farewell = |options, attributes| Farewell::of(&mount(options), &[], attributes);
        let whole = Farewell {
            server: "192.0.2.7".to_owned(),
            port: Some(20048),
            transport: Transport::Tcp,
            version: 3,
            path: "/a b".to_owned(),
        };
        let kernel =
            "vers=3,addr=192.0.2.1,mountaddr=192.0.2.7,mountvers=3,mountport=20048,mountproto=tcp";
        assert_eq!(farewell(kernel, ""), Some(whole.clone()));
        assert_eq!(
            farewell("vers=3,addr=192.0.2.7", "vers=3,mountport=20048,mountproto=tcp6,mountvers=3"),
            Some(whole.clone())
        );
        let unknown =
            "vers=3,addr=192.0.2.7,mountaddr=unspecified,mountport=0,mountproto=udp,mountvers=1";
        assert_eq!(
            farewell(unknown, ""),
            Some(Farewell { port: None, transport: Transport::Udp, version: 1, ..whole })
        );
    }

    #[test]
    fn nothing_is_said_where_nobody_listens_or_another_mount_is_left() {
        let of = |options| Farewell::of(&mount(options), &[], "");
        assert_eq!(of("vers=4.2,addr=192.0.2.7"), None, "no mountd in version 4");
        assert_eq!(of("vers=3,addr=127.0.1.1,mountaddr=127.0.1.1"), None, "a tunnel");
        assert!(of("vers=3,addr=127.0.0.1").is_some(), "a server on this machine");
        assert_eq!(of("vers=3"), None);
        let here = mount("vers=3,addr=192.0.2.7");
        let other = MountEntry { id: 9, ..here.clone() };
        assert_eq!(Farewell::of(&here, &[here.clone(), other], ""), None);
        assert!(Farewell::of(&here, std::slice::from_ref(&here), "").is_some());
    }
}
