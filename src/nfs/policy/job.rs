//! What the kernel is told: the one text of options, with every address and port in it.

use std::net::IpAddr;

use crate::host::resolve::ServerAddress;
use crate::host::worker::Job;
use crate::model::NfsVersion;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::NetId;
use crate::model::nfs_option::Transport;
use crate::nfs::request::MountRequest;

/// Where the kernel finds everything.
///
/// Nothing of it is left to the kernel, so that an errno can be about one port only, and only an explicit
/// `proto=tcp` makes the kernel observe `timeo` and `retrans` for its MOUNT call too (fs/nfs/mount_clnt.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::nfs) struct Addressing {
    pub(in crate::nfs) version: NfsVersion,
    pub(in crate::nfs) nfs: Endpoint,
    /// For NFSv3.
    pub(in crate::nfs) mount: Option<MountEnd>,
    /// For NFSv4.0: where the server calls back.
    pub(in crate::nfs) client: Option<IpAddr>,
}

/// A service that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nfs) struct Endpoint {
    pub(in crate::nfs) address: ServerAddress,
    pub(in crate::nfs) transport: Transport,
    pub(in crate::nfs) port: u16,
}

/// The service that answers MOUNT calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nfs) struct MountEnd {
    pub(in crate::nfs) address: ServerAddress,
    pub(in crate::nfs) transport: Transport,
    /// None where the kernel is to ask rpcbind: with RDMA nothing was asked before.
    pub(in crate::nfs) port: Option<u16>,
    pub(in crate::nfs) version: u8,
}

/// The job that makes the mount.
///
/// The options fit into a page, whatever the user's are: [`crate::model::nfs_option::LONGEST_TEXT`].
pub(in crate::nfs) fn job(request: &MountRequest, addressing: &Addressing) -> Job {
    let told = addressing.options().into_iter().map(|(key, value)| (key.to_owned(), Some(value)));
    let options = &request.options;
    Job::MountNfs {
        source: request.device.to_string(),
        options: told.chain(options.kernel_options(addressing.version)).collect(),
        attributes: options.attributes(),
        target: request.target.clone(),
    }
}

/// The options of a job as one text.
pub(in crate::nfs) fn text(job: &Job) -> String {
    let Job::MountNfs { options, .. } = job else { return String::new() };
    let shown = |(key, value): &(String, Option<String>)| match value {
        Some(value) if value.contains(',') => format!("{key}=\"{value}\""),
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    };
    options.iter().map(shown).collect::<Vec<_>>().join(",")
}

impl Addressing {
    fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = vec![
            ("vers", self.version.to_string()),
            ("proto", netid(self.nfs.address, self.nfs.transport)),
            ("addr", self.nfs.address.to_string()),
            ("port", self.nfs.port.to_string()),
        ];
        if let Some(mount) = self.mount {
            options.push(("mountaddr", mount.address.to_string()));
            options.push(("mountproto", netid(mount.address, mount.transport)));
            options.extend(mount.port.map(|port| ("mountport", port.to_string())));
            options.push(("mountvers", mount.version.to_string()));
        }
        options.extend(self.client.map(|client| ("clientaddr", client.to_string())));
        options
    }
}

fn netid(address: ServerAddress, transport: Transport) -> String {
    NetId { transport, family: Family::of(address.ip) }.to_string()
}
