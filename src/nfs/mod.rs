//! The text-based NFS mount: what the kernel is told, and what its refusals mean.
//!
//! The kernel connects to the tunnel, on a loopback address; the name in the source is for the eyes only. So
//! everything about addresses and ports is said here explicitly, and the kernel asks neither a resolver nor
//! rpcbind. Knows nothing of TLS or CSI.
//!
//! Read [`mount_job`] first, then [`diagnose`].

mod diagnose;
pub mod engine;
pub mod farewell;
mod fault;
pub mod policy;
pub mod request;
pub mod rpc;
pub mod unmount;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::host::worker::Job;
use crate::model::MountOptions;
use crate::model::NfsVersion;

pub use diagnose::diagnose;
pub use engine::Engine;
pub use engine::Progress;
pub use fault::Attempt;
pub use fault::MountFault;
pub use request::MountRequest;
pub use request::Patience;
pub use request::Way;

/// One NFS mount through a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsMount {
    /// `domain:/path`, as `mount -l` shows it.
    pub source: String,
    /// The user's options.
    pub options: MountOptions,
    /// Where the tunnel listens, for NFS and MOUNT calls alike.
    pub endpoint: SocketAddr,
    /// This node's address as the server knows it, for NFSv4.0; the user's `clientaddr` goes before.
    pub client_address: Option<IpAddr>,
    /// The directory to mount at.
    pub target: PathBuf,
}

/// The job that makes the mount.
///
/// The version, the transport and all ports stand in front: only an explicit `proto=tcp` makes the kernel
/// observe `timeo` and `retrans` for its MOUNT call too (fs/nfs/mount_clnt.c).
///
/// The options fit into a page, whatever the user's are: [`crate::model::nfs_option::LONGEST_TEXT`].
#[must_use]
pub fn mount_job(mount: &NfsMount) -> Job {
    let version = version(&mount.options);
    let addressing =
        addressing(mount, version).into_iter().map(|(key, value)| (key.to_owned(), Some(value)));
    Job::MountNfs {
        source: mount.source.clone(),
        options: addressing.chain(mount.options.kernel_options(version)).collect(),
        attributes: mount.options.attributes(),
        target: mount.target.clone(),
    }
}

/// Through a tunnel the options always say which.
fn version(options: &MountOptions) -> NfsVersion {
    options.version_wish().exact().unwrap_or_default()
}

fn addressing(mount: &NfsMount, version: NfsVersion) -> Vec<(&'static str, String)> {
    let address = mount.endpoint.ip().to_string();
    let port = mount.endpoint.port().to_string();
    let protocol = if mount.endpoint.is_ipv4() { "tcp" } else { "tcp6" }.to_owned();
    let mut options = vec![
        ("vers", version.to_string()),
        ("proto", protocol.clone()),
        ("addr", address.clone()),
        ("port", port.clone()),
    ];
    match version {
        NfsVersion::V3 => options.extend([
            ("mountaddr", address),
            ("mountproto", protocol),
            ("mountport", port),
            ("mountvers", "3".to_owned()),
        ]),
        NfsVersion::V40 | NfsVersion::V41 | NfsVersion::V42 => options.extend(
            mount
                .options
                .client_address()
                .or(mount.client_address)
                .map(|client| ("clientaddr", client.to_string())),
        ),
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::nfs_option::LONGEST_TEXT;
    use crate::model::nfs_option::Rules;

    pub(super) fn mount_with(options: &str) -> NfsMount {
        NfsMount {
            source: "nas.example:/a".to_owned(),
            options: MountOptions::parse(Rules::Tunnel, [options]).unwrap(),
            endpoint: "127.0.1.1:12049".parse().unwrap(),
            client_address: Some([10, 0, 0, 7].into()),
            target: "/t".into(),
        }
    }

    fn text(mount: &NfsMount) -> String {
        let Job::MountNfs { options, .. } = mount_job(mount) else { panic!("no mount") };
        let shown = |(key, value): (String, Option<String>)| match value {
            Some(value) => format!("{key}={value}"),
            None => key,
        };
        options.into_iter().map(shown).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn the_kernel_is_told_every_address_and_port_then_the_options() {
        for (options, told) in [
            (
                "rsize=65536",
                "vers=3,proto=tcp,addr=127.0.1.1,port=12049,mountaddr=127.0.1.1,mountproto=tcp,\
                 mountport=12049,mountvers=3,hard,timeo=600,retrans=2,rsize=65536,wsize=1048576,\
                 noresvport,nolock",
            ),
            (
                "vers=4.0,noresvport,soft",
                "vers=4.0,proto=tcp,addr=127.0.1.1,port=12049,clientaddr=10.0.0.7,soft,timeo=600,\
                 retrans=2,rsize=1048576,wsize=1048576,noresvport",
            ),
        ] {
            assert_eq!(text(&mount_with(options)), told);
        }
    }

    #[test]
    fn a_client_address_of_the_users_goes_before_ours_and_may_be_missing() {
        let told = text(&mount_with("vers=4,clientaddr=0.0.0.0"));
        assert!(told.contains(",clientaddr=0.0.0.0,"), "{told}");
        let unknown = NfsMount { client_address: None, ..mount_with("vers=4") };
        assert!(!text(&unknown).contains("clientaddr"));
    }

    #[test]
    fn attributes_go_to_the_mount_and_not_to_the_nfs_client() {
        let mount = mount_with("ro,nosuid");
        let Job::MountNfs { attributes, .. } = mount_job(&mount) else { panic!("no mount") };
        assert_eq!(attributes, ["ro", "nosuid"]);
        assert!(!text(&mount).contains("ro,nosuid"));
    }

    #[test]
    fn the_longest_options_still_fit_into_a_page() {
        let longest = format!("context={}", "a".repeat(LONGEST_TEXT - 9));
        let endpoint = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        let mount = NfsMount { endpoint, ..mount_with(&longest) };
        assert!(text(&mount).len() < 4096, "{}", text(&mount).len());
    }
}
