//! Why a mount can fail: each reason with its id, its exit code and the words for its text.
//!
//! LONG: each cause has its row in four tables, and none of them has a `_` that matters.

use std::time::Duration;

use super::catalogue;
use super::catalogue::Message;
use super::catalogue::fill;
use super::probe::Export;
use super::probe::Flavour;
use super::probe::Peer;
use super::probe::Service;
use crate::host::daemon::Daemon;
use crate::model::NfsVersion;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Transport;

/// Why a mount failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The directory is not there.
    NoSuchExport,
    /// What is there is a file.
    ExportNotADirectory,
    /// The server does not let this node in.
    ExportDenied,
    /// The same of an NFSv3 server, which says so too where it exports no such directory.
    ExportDeniedOrMissing,
    /// The directory was removed while it was exported (ESTALE).
    ExportStale,
    /// None of the flavours of `sec=` will do (NFS4ERR_WRONGSEC).
    SecurityRefused,
    /// None of the flavours of `sec=` is among these, by which an NFSv3 server lets the directory be mounted.
    FlavoursOffered(Vec<Flavour>),
    /// The server does not speak this version.
    VersionNotServed,
    /// The server speaks none of these versions, which are all that were tried.
    NoCommonVersion(Vec<NfsVersion>),
    /// The server's mountd does not speak this version of the MOUNT protocol.
    MountdVersion(u8),
    /// The server says that something is wrong with itself.
    ServerFailed,
    /// rpcbind knows no such service over this transport.
    NotRegistered(Service, Transport),
    /// What answers is something else.
    OtherProtocol(Peer),
    /// No such name.
    NameNotFound {
        /// The name.
        host: String,
        /// The resolver's words.
        why: String,
    },
    /// Nobody who knows the name answers.
    NameServersSilent {
        /// The name.
        host: String,
        /// The resolver's words.
        why: String,
    },
    /// The name has addresses, but none of the family of `proto=`.
    NameWithoutFamily {
        /// The name.
        host: String,
        /// The family.
        family: Family,
    },
    /// Nothing listens there.
    Refused(Peer),
    /// No way leads there.
    Unreachable,
    /// It listens and hangs up.
    ConnectionLost(Peer),
    /// A connection, or not even that, and no answer: for this long, where it was us who stopped waiting.
    NoAnswer(Peer, Option<Duration>),
    /// The kernel does not know an option or does not take its value; which one, where it says so.
    OptionRefused(Option<String>),
    /// More than a page of options (E2BIG).
    OptionsTooLong,
    /// The kernel is built without the transport.
    TransportNotInKernel(Transport),
    /// UDP, and a version that does not run over it.
    UdpNeedsVersion3,
    /// No NFS client for this version in this kernel.
    KernelLacksNfs,
    /// `proto=rdma`, and no device that leads to the server (EPROTO).
    NoRdmaDevice,
    /// CAP_SYS_ADMIN is missing.
    NotPrivileged,
    /// A daemon of this host that an option needs does not run; how that was found out.
    DaemonMissing(Daemon, String),
    /// The local directory is not there.
    TargetMissing,
    /// Something else is there.
    TargetNotADirectory,
    /// Too many links on the way there (ELOOP).
    TargetLoops,
    /// Something on the way there hangs.
    TargetNoAnswer,
    /// A name or path that NFS or Linux cannot carry.
    NameTooLong,
    /// Something else is mounted there, and would be hidden.
    AlreadyMounted,
    /// Memory, descriptors or ports are used up for now.
    NoResources,
    /// The child process could not be started, or ended without an answer.
    WorkerFailed,
    /// The caller does not want it any more.
    Cancelled,
    /// A fault in this program.
    Internal,
    /// Nothing that we have a better word for.
    Other,
}

/// mount(8), EXIT STATUS.
const INCORRECT_INVOCATION_OR_PERMISSIONS: u8 = 1;
/// Out of memory, cannot fork, no more devices.
const SYSTEM_ERROR: u8 = 2;
const INTERNAL_BUG: u8 = 4;
const USER_INTERRUPT: u8 = 8;
const MOUNT_FAILURE: u8 = 32;

impl Cause {
    /// Its name, which never changes: `nfs.export-missing`.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::NoSuchExport => "nfs.export-missing",
            Self::ExportNotADirectory => "nfs.export-not-directory",
            Self::ExportDenied => "nfs.export-denied",
            Self::ExportDeniedOrMissing => "nfs.export-denied-or-missing",
            Self::ExportStale => "nfs.export-stale",
            Self::SecurityRefused => "nfs.security-refused",
            Self::FlavoursOffered(_) => "nfs.security-offered",
            Self::VersionNotServed => "nfs.version-not-served",
            Self::NoCommonVersion(_) => "nfs.no-common-version",
            Self::MountdVersion(_) => "nfs.mountd-version",
            Self::ServerFailed => "nfs.server-failed",
            Self::NotRegistered(Service::Nfs(_), _) => "nfs.nfs-not-registered",
            Self::NotRegistered(Service::Mount(_), _) => "nfs.mountd-not-registered",
            Self::OtherProtocol(Peer::Nfs) => "nfs.other-protocol",
            Self::OtherProtocol(Peer::Rpcbind) => "nfs.rpcbind-other-protocol",
            Self::OtherProtocol(Peer::Mountd) => "nfs.mountd-other-protocol",
            Self::NameNotFound { .. } => "nfs.name-not-found",
            Self::NameServersSilent { .. } => "nfs.name-servers-silent",
            Self::NameWithoutFamily { .. } => "nfs.name-without-family",
            Self::Refused(Peer::Nfs) => "nfs.refused",
            Self::Refused(Peer::Rpcbind) => "nfs.rpcbind-refused",
            Self::Refused(Peer::Mountd) => "nfs.mountd-refused",
            Self::Unreachable => "nfs.unreachable",
            Self::ConnectionLost(Peer::Nfs) => "nfs.connection-lost",
            Self::ConnectionLost(Peer::Rpcbind) => "nfs.rpcbind-connection-lost",
            Self::ConnectionLost(Peer::Mountd) => "nfs.mountd-connection-lost",
            Self::NoAnswer(Peer::Nfs, _) => "nfs.no-answer",
            Self::NoAnswer(Peer::Rpcbind, _) => "nfs.rpcbind-no-answer",
            Self::NoAnswer(Peer::Mountd, _) => "nfs.mountd-no-answer",
            Self::OptionRefused(Some(_)) => "nfs.option-refused",
            Self::OptionRefused(None) => "nfs.options-refused",
            Self::OptionsTooLong => "nfs.options-too-long",
            Self::TransportNotInKernel(_) => "nfs.transport-not-in-kernel",
            Self::UdpNeedsVersion3 => "nfs.udp-needs-version-3",
            Self::KernelLacksNfs => "nfs.kernel-lacks-nfs",
            Self::NoRdmaDevice => "nfs.rdma-no-device",
            Self::NotPrivileged => "nfs.not-privileged",
            Self::DaemonMissing(Daemon::Statd, _) => "nfs.statd-missing",
            Self::DaemonMissing(Daemon::Gssd, _) => "nfs.gssd-missing",
            Self::DaemonMissing(Daemon::Tlshd, _) => "nfs.tlshd-missing",
            Self::TargetMissing => "nfs.target-missing",
            Self::TargetNotADirectory => "nfs.target-not-directory",
            Self::TargetLoops => "nfs.target-loops",
            Self::TargetNoAnswer => "nfs.target-no-answer",
            Self::NameTooLong => "nfs.name-too-long",
            Self::AlreadyMounted => "nfs.already-mounted",
            Self::NoResources => "nfs.no-resources",
            Self::WorkerFailed => "nfs.worker-failed",
            Self::Cancelled => "nfs.cancelled",
            Self::Internal => "nfs.internal",
            Self::Other => "nfs.other",
        }
    }

    /// What the mount command ends with (mount(8), EXIT STATUS; 16 is not among them: it is about utab).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotPrivileged => INCORRECT_INVOCATION_OR_PERMISSIONS,
            Self::NoResources | Self::WorkerFailed => SYSTEM_ERROR,
            Self::Internal => INTERNAL_BUG,
            Self::Cancelled => USER_INTERRUPT,
            Self::NoSuchExport
            | Self::ExportNotADirectory
            | Self::ExportDenied
            | Self::ExportDeniedOrMissing
            | Self::ExportStale
            | Self::SecurityRefused
            | Self::FlavoursOffered(_)
            | Self::VersionNotServed
            | Self::NoCommonVersion(_)
            | Self::MountdVersion(_)
            | Self::ServerFailed
            | Self::NotRegistered(..)
            | Self::OtherProtocol(_)
            | Self::NameNotFound { .. }
            | Self::NameServersSilent { .. }
            | Self::NameWithoutFamily { .. }
            | Self::Refused(_)
            | Self::Unreachable
            | Self::ConnectionLost(_)
            | Self::NoAnswer(..)
            | Self::OptionRefused(_)
            | Self::OptionsTooLong
            | Self::TransportNotInKernel(_)
            | Self::UdpNeedsVersion3
            | Self::KernelLacksNfs
            | Self::NoRdmaDevice
            | Self::DaemonMissing(..)
            | Self::TargetMissing
            | Self::TargetNotADirectory
            | Self::TargetLoops
            | Self::TargetNoAnswer
            | Self::NameTooLong
            | Self::AlreadyMounted
            | Self::Other => MOUNT_FAILURE,
        }
    }

    /// How much it says about what is wrong. Of several failures the one that says most is reported: "no such
    /// directory" of NFSv4 before "denied" of NFSv3, which says that of what it does not know.
    pub(super) fn weight(&self) -> Weight {
        match self {
            Self::KernelLacksNfs => Weight::NotWithThisKernel,
            Self::VersionNotServed
            | Self::NoCommonVersion(_)
            | Self::MountdVersion(_)
            | Self::NotRegistered(..)
            | Self::TransportNotInKernel(_)
            | Self::UdpNeedsVersion3 => Weight::NotWithThisServer,
            Self::Refused(_)
            | Self::Unreachable
            | Self::ConnectionLost(_)
            | Self::NoAnswer(..)
            | Self::OtherProtocol(_)
            | Self::NoResources
            | Self::WorkerFailed
            | Self::Other => Weight::NoAnswer,
            Self::ExportDenied
            | Self::ExportDeniedOrMissing
            | Self::SecurityRefused
            | Self::FlavoursOffered(_) => Weight::Denied,
            Self::NoSuchExport
            | Self::ExportNotADirectory
            | Self::ExportStale
            | Self::ServerFailed
            | Self::NameNotFound { .. }
            | Self::NameServersSilent { .. }
            | Self::NameWithoutFamily { .. }
            | Self::OptionRefused(_)
            | Self::OptionsTooLong
            | Self::NoRdmaDevice
            | Self::NotPrivileged
            | Self::DaemonMissing(..)
            | Self::TargetMissing
            | Self::TargetNotADirectory
            | Self::TargetLoops
            | Self::TargetNoAnswer
            | Self::NameTooLong
            | Self::AlreadyMounted
            | Self::Cancelled
            | Self::Internal => Weight::Plain,
        }
    }

    pub(super) fn message(&self) -> &'static Message {
        catalogue::message(self.id())
    }

    /// What stands in braces in its texts.
    pub(super) fn values(&self, version: Option<NfsVersion>) -> Vec<(&'static str, String)> {
        match self {
            Self::NameNotFound { host, why } | Self::NameServersSilent { host, why } => {
                vec![("host", format!("{host:?}")), ("why", why.clone())]
            }
            Self::NameWithoutFamily { host, family } => {
                let (family, other) = match family {
                    Family::Inet => ("IPv4", "tcp6"),
                    Family::Inet6 => ("IPv6", "tcp"),
                };
                vec![
                    ("host", format!("{host:?}")),
                    ("family", family.to_owned()),
                    ("other_family", other.to_owned()),
                ]
            }
            Self::NoAnswer(_, after) => vec![("within", after.map(within).unwrap_or_default())],
            Self::FlavoursOffered(flavours) => {
                vec![("flavours", Export::Flavours(flavours.clone()).to_string())]
            }
            Self::OptionRefused(Some(option)) => vec![("option", format!("{option:?}"))],
            Self::DaemonMissing(_, how) => vec![("why", how.clone())],
            Self::MountdVersion(version) => vec![("mount_version", version.to_string())],
            Self::NotRegistered(service, transport) => {
                vec![("service", service.to_string()), ("transport", name(*transport).to_owned())]
            }
            Self::TransportNotInKernel(transport) => {
                vec![("transport", name(*transport).to_uppercase())]
            }
            Self::NoCommonVersion(versions) => {
                let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
                vec![("versions", versions.join(", "))]
            }
            Self::VersionNotServed => vec![("other_version", other(version).to_owned())],
            Self::KernelLacksNfs => vec![("module", module(version).to_owned())],
            _ => Vec::new(),
        }
    }
}

/// How much a cause says; the last says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    NotWithThisKernel,
    NotWithThisServer,
    NoAnswer,
    Denied,
    Plain,
}

fn within(after: Duration) -> String {
    fill(catalogue::WITHIN, &[("seconds", after.as_secs().to_string())])
}

/// As in `proto=`.
pub(super) fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Rdma => "rdma",
    }
}

fn other(version: Option<NfsVersion>) -> &'static str {
    match version {
        None | Some(NfsVersion::V3) => "vers=4.0",
        Some(NfsVersion::V40 | NfsVersion::V41 | NfsVersion::V42) => "vers=3",
    }
}

fn module(version: Option<NfsVersion>) -> &'static str {
    match version {
        None => "nfs",
        Some(NfsVersion::V3) => "nfsv3",
        Some(NfsVersion::V40 | NfsVersion::V41 | NfsVersion::V42) => "nfsv4",
    }
}

/// One cause for each text, in the order of the catalogue.
#[cfg(test)]
pub(crate) fn every() -> Vec<Cause> {
    let (host, why) = ("nas".to_owned(), "a reason".to_owned());
    vec![
        Cause::AlreadyMounted,
        Cause::Cancelled,
        Cause::ConnectionLost(Peer::Nfs),
        Cause::ExportDenied,
        Cause::ExportDeniedOrMissing,
        Cause::NoSuchExport,
        Cause::ExportNotADirectory,
        Cause::ExportStale,
        Cause::DaemonMissing(Daemon::Gssd, why.clone()),
        Cause::Internal,
        Cause::KernelLacksNfs,
        Cause::ConnectionLost(Peer::Mountd),
        Cause::NoAnswer(Peer::Mountd, Some(Duration::from_secs(10))),
        Cause::NotRegistered(Service::Mount(3), Transport::Udp),
        Cause::OtherProtocol(Peer::Mountd),
        Cause::Refused(Peer::Mountd),
        Cause::MountdVersion(1),
        Cause::NameNotFound { host: host.clone(), why: why.clone() },
        Cause::NameServersSilent { host: host.clone(), why: why.clone() },
        Cause::NameTooLong,
        Cause::NameWithoutFamily { host, family: Family::Inet6 },
        Cause::NotRegistered(Service::Nfs(NfsVersion::V3), Transport::Tcp),
        Cause::NoAnswer(Peer::Nfs, None),
        Cause::NoCommonVersion(vec![NfsVersion::V41, NfsVersion::V40]),
        Cause::NoResources,
        Cause::NotPrivileged,
        Cause::OptionRefused(Some("rsize".to_owned())),
        Cause::OptionRefused(None),
        Cause::OptionsTooLong,
        Cause::Other,
        Cause::OtherProtocol(Peer::Nfs),
        Cause::NoRdmaDevice,
        Cause::Refused(Peer::Nfs),
        Cause::ConnectionLost(Peer::Rpcbind),
        Cause::NoAnswer(Peer::Rpcbind, Some(Duration::from_secs(3))),
        Cause::OtherProtocol(Peer::Rpcbind),
        Cause::Refused(Peer::Rpcbind),
        Cause::FlavoursOffered(vec![Flavour(390_003), Flavour(390_005)]),
        Cause::SecurityRefused,
        Cause::ServerFailed,
        Cause::DaemonMissing(Daemon::Statd, why.clone()),
        Cause::TargetLoops,
        Cause::TargetMissing,
        Cause::TargetNoAnswer,
        Cause::TargetNotADirectory,
        Cause::DaemonMissing(Daemon::Tlshd, why),
        Cause::TransportNotInKernel(Transport::Udp),
        Cause::UdpNeedsVersion3,
        Cause::Unreachable,
        Cause::VersionNotServed,
        Cause::WorkerFailed,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::Event;
    use crate::nfs::MountFault;
    use crate::nfs::Subject;
    use crate::nfs::catalogue::CATALOGUE;

    #[test]
    fn every_cause_has_its_row_and_every_row_its_cause() {
        let ids: Vec<_> = every().iter().map(Cause::id).collect();
        let rows: Vec<_> = CATALOGUE.iter().map(|message| message.id).collect();
        assert_eq!(ids, rows);
    }

    #[test]
    fn every_line_is_one_line_with_all_of_its_words_both_ways() {
        for cause in every() {
            for tunnel in [None, Some(([127, 0, 1, 1], 12049).into())] {
                let subject = Subject { source: "nas:/a".to_owned(), target: "/t".into(), tunnel };
                let event = Event { version: Some(NfsVersion::V3), ..Event::default() };
                let line = MountFault::new(cause.clone(), subject, event).to_string();
                let begins = line.starts_with("failed to mount \"nas:/a\" at \"/t\" over NFS 3: ");
                assert!(begins && !line.contains(['{', '}', '\n']), "{line}");
            }
        }
    }

    #[test]
    fn every_cause_has_the_exit_code_of_mount() {
        let codes = |code| every().into_iter().filter(move |cause| cause.exit_code() == code);
        let ids = |code| codes(code).map(|cause| cause.id()).collect::<Vec<_>>();
        assert_eq!(ids(1), ["nfs.not-privileged"]);
        assert_eq!(ids(2), ["nfs.no-resources", "nfs.worker-failed"]);
        assert_eq!(ids(4), ["nfs.internal"]);
        assert_eq!(ids(8), ["nfs.cancelled"]);
        assert_eq!(ids(16), [""; 0]);
        assert_eq!(ids(32).len(), every().len() - 5);
    }
}
