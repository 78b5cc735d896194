//! From errors to gRPC codes: one table for each call, and none has a `_`.
//!
//! The kubelet takes `CANCELLED`, `DEADLINE_EXCEEDED`, `UNAVAILABLE`, `RESOURCE_EXHAUSTED` and `ABORTED` as
//! "maybe still under way": it keeps the mount directory and calls again, or calls the opposite later. Any other
//! code is final, and it removes the directory at once. So whatever may have left something is never final.
//!
//! LONG: one test over the whole of every table.

use tonic::Code;

use crate::host::worker::Failure;
use crate::nfs::Cause;
use crate::nfs::MountFault;
use crate::node::PublishError;
use crate::node::StageError;
use crate::node::StatsError;
use crate::node::TunnelFault;
use crate::node::UnpublishError;
use crate::node::UnstageError;
use crate::node::directory::DirectoryFault;
use crate::node::place::PathFault;
use crate::node::unmount::UnmountError;
use crate::proto::tunnel::tunnel_failure::Kind;

pub(super) fn stage(error: &StageError) -> Code {
    match error {
        StageError::Busy(_) => Code::Aborted,
        StageError::Path(fault) => path(fault),
        StageError::Directory(fault) => directory(fault),
        StageError::ReadMounts(_) | StageError::Crashed(_) => Code::Internal,
        StageError::StagedDifferently { .. } | StageError::OtherOptions { .. } => {
            Code::AlreadyExists
        }
        StageError::TakenByAnother { .. } | StageError::MixedEncryption { .. } => {
            Code::FailedPrecondition
        }
        StageError::HalfMade(_)
        | StageError::NotUndone { .. }
        | StageError::InBackground { .. } => Code::Unavailable,
        StageError::Tunnel(fault) => tunnel(fault),
        StageError::Mount(fault) => mount(fault),
    }
}

pub(super) fn unstage(error: &UnstageError) -> Code {
    match error {
        UnstageError::Busy(_) => Code::Aborted,
        UnstageError::Path(fault) => path(fault),
        UnstageError::Unmount(error) => unmount(error),
        UnstageError::Release(_) => Code::Unavailable,
        UnstageError::Crashed(_) => Code::Internal,
    }
}

pub(super) fn publish(error: &PublishError) -> Code {
    match error {
        PublishError::Busy(_) => Code::Aborted,
        PublishError::Path(fault) => path(fault),
        PublishError::ReadMounts(_) | PublishError::Crashed(_) => Code::Internal,
        PublishError::NotStaged(_)
        | PublishError::PublishedElsewhere { .. }
        | PublishError::TargetTaken { .. } => Code::FailedPrecondition,
        PublishError::PublishedDifferently { .. } => Code::AlreadyExists,
        PublishError::Target(fault) => directory(fault),
        PublishError::Bind { source, .. } => worker(source),
        PublishError::NotUndone { .. } => Code::Unavailable,
    }
}

pub(super) fn unpublish(error: &UnpublishError) -> Code {
    match error {
        UnpublishError::Busy(_) => Code::Aborted,
        UnpublishError::Path(fault) => path(fault),
        UnpublishError::Unmount(error) => unmount(error),
        UnpublishError::Directory(fault) => directory(fault),
        UnpublishError::Crashed(_) => Code::Internal,
    }
}

pub(super) fn stats(error: &StatsError) -> Code {
    match error {
        StatsError::Busy(_) => Code::Aborted,
        StatsError::Path(PathFault::Unresolvable { .. })
        | StatsError::ReadMounts(_)
        | StatsError::Senseless(_)
        | StatsError::Crashed(_) => Code::Internal,
        // CSI 1.13, NodeGetVolumeStats: NOT_FOUND where the path holds no volume, whatever its form.
        StatsError::Path(PathFault::Relative(_) | PathFault::Climbs(_) | PathFault::Root(_))
        | StatsError::NotMounted(_)
        | StatsError::AnotherVolume { .. } => Code::NotFound,
        StatsError::Ask { source, .. } => worker(source),
    }
}

fn tunnel(fault: &TunnelFault) -> Code {
    match fault {
        TunnelFault::NoWatchdog { .. }
        | TunnelFault::Senseless(_)
        | TunnelFault::OtherNetwork { .. } => Code::Unavailable,
        TunnelFault::NoAnswer { .. } => Code::DeadlineExceeded,
        TunnelFault::Refused { kind, .. } => refused(*kind),
    }
}

/// The watchdog promises that a refusal leaves nothing behind, so these may be final.
pub(super) fn refused(kind: Kind) -> Code {
    match kind {
        Kind::NameNotFound
        | Kind::ConnectionRefused
        | Kind::ConnectTimeout
        | Kind::NoRoute
        | Kind::NoNfs
        | Kind::ConnectionLost
        // It may have been an accident.
        | Kind::HandshakeLost
        | Kind::AddressTaken
        | Kind::TunnelUnavailable => Code::Unavailable,
        Kind::NotTls
        | Kind::HandshakeFailed
        | Kind::CertificateUntrusted
        | Kind::CertificateWrongName
        | Kind::CertificateExpired
        | Kind::CertificateNotYetValid
        | Kind::ClientCertificate => Code::FailedPrecondition,
        Kind::OutOfAddresses => Code::ResourceExhausted,
        Kind::UserDiffers => Code::AlreadyExists,
        Kind::Unspecified | Kind::StateUnwritable => Code::Internal,
    }
}

fn mount(fault: &MountFault) -> Code {
    match fault.cause {
        Cause::NoSuchExport => Code::NotFound,
        Cause::ExportDenied
        | Cause::ExportDeniedOrMissing
        | Cause::SecurityRefused
        | Cause::FlavoursOffered(_) => Code::PermissionDenied,
        Cause::OptionRefused(_)
        | Cause::OptionsTooLong
        | Cause::NameTooLong
        | Cause::UdpNeedsVersion3 => Code::InvalidArgument,
        Cause::ExportNotADirectory
        | Cause::VersionNotServed
        | Cause::NoCommonVersion(_)
        | Cause::MountdVersion(_)
        | Cause::NameWithoutFamily { .. }
        | Cause::TransportNotInKernel(_)
        | Cause::KernelLacksNfs
        | Cause::NoRdmaDevice
        | Cause::NotPrivileged
        | Cause::DaemonMissing(..)
        | Cause::TargetMissing
        | Cause::TargetNotADirectory
        | Cause::TargetLoops => Code::FailedPrecondition,
        // Whoever runs the server or the name servers may mend it without a word to us.
        Cause::ExportStale
        | Cause::NotRegistered(..)
        | Cause::OtherProtocol(_)
        | Cause::NameNotFound { .. }
        | Cause::NameServersSilent { .. }
        | Cause::Refused(_)
        | Cause::Unreachable
        | Cause::ConnectionLost(_) => Code::Unavailable,
        Cause::NoAnswer(..) | Cause::TargetNoAnswer => Code::DeadlineExceeded,
        // Nothing was there when we looked: somebody mounts at the same time.
        Cause::AlreadyMounted => Code::Aborted,
        Cause::Cancelled => Code::Cancelled,
        Cause::NoResources => Code::ResourceExhausted,
        Cause::ServerFailed | Cause::WorkerFailed | Cause::Internal | Cause::Other => {
            Code::Internal
        }
    }
}

fn path(fault: &PathFault) -> Code {
    match fault {
        PathFault::Relative(_) | PathFault::Climbs(_) | PathFault::Root(_) => Code::InvalidArgument,
        PathFault::Unresolvable { .. } => Code::Internal,
    }
}

fn directory(fault: &DirectoryFault) -> Code {
    match fault {
        DirectoryFault::Missing(_)
        | DirectoryFault::ParentMissing(_)
        | DirectoryFault::NotADirectory(_)
        | DirectoryFault::NotEmpty(_) => Code::FailedPrecondition,
        DirectoryFault::Failed { .. } => Code::Internal,
    }
}

fn unmount(error: &UnmountError) -> Code {
    match error {
        UnmountError::ReadMounts(_) => Code::Internal,
        UnmountError::NotNfs { .. } => Code::FailedPrecondition,
        UnmountError::Failed { source, .. } => worker(source),
        UnmountError::StillThere(_) => Code::DeadlineExceeded,
    }
}

fn worker(failure: &Failure) -> Code {
    match failure {
        // Killed, but the kernel may end the call later.
        Failure::Deadline(_) => Code::DeadlineExceeded,
        Failure::Refused { .. } | Failure::Worker(_) => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::nfs::Event;
    use crate::nfs::Subject;
    use crate::nfs::every_cause;
    use crate::nfs::probe::Peer;
    use crate::node::fake::refused as kernel_refused;
    use crate::node::stage::LeftBehind;
    use crate::runtime::InFlight;
    use crate::runtime::in_flight::Busy;
    use crate::tunnel::convert::kind_word;

    /// In the order of the catalogue of texts.
    const MOUNTS: &[(&str, Code)] = &[
        ("nfs.already-mounted", Code::Aborted),
        ("nfs.cancelled", Code::Cancelled),
        ("nfs.connection-lost", Code::Unavailable),
        ("nfs.export-denied", Code::PermissionDenied),
        ("nfs.export-denied-or-missing", Code::PermissionDenied),
        ("nfs.export-missing", Code::NotFound),
        ("nfs.export-not-directory", Code::FailedPrecondition),
        ("nfs.export-stale", Code::Unavailable),
        ("nfs.gssd-missing", Code::FailedPrecondition),
        ("nfs.internal", Code::Internal),
        ("nfs.kernel-lacks-nfs", Code::FailedPrecondition),
        ("nfs.mountd-connection-lost", Code::Unavailable),
        ("nfs.mountd-no-answer", Code::DeadlineExceeded),
        ("nfs.mountd-not-registered", Code::Unavailable),
        ("nfs.mountd-other-protocol", Code::Unavailable),
        ("nfs.mountd-refused", Code::Unavailable),
        ("nfs.mountd-version", Code::FailedPrecondition),
        ("nfs.name-not-found", Code::Unavailable),
        ("nfs.name-servers-silent", Code::Unavailable),
        ("nfs.name-too-long", Code::InvalidArgument),
        ("nfs.name-without-family", Code::FailedPrecondition),
        ("nfs.nfs-not-registered", Code::Unavailable),
        ("nfs.no-answer", Code::DeadlineExceeded),
        ("nfs.no-common-version", Code::FailedPrecondition),
        ("nfs.no-resources", Code::ResourceExhausted),
        ("nfs.not-privileged", Code::FailedPrecondition),
        ("nfs.option-refused", Code::InvalidArgument),
        ("nfs.options-refused", Code::InvalidArgument),
        ("nfs.options-too-long", Code::InvalidArgument),
        ("nfs.other", Code::Internal),
        ("nfs.other-protocol", Code::Unavailable),
        ("nfs.rdma-no-device", Code::FailedPrecondition),
        ("nfs.refused", Code::Unavailable),
        ("nfs.rpcbind-connection-lost", Code::Unavailable),
        ("nfs.rpcbind-no-answer", Code::DeadlineExceeded),
        ("nfs.rpcbind-other-protocol", Code::Unavailable),
        ("nfs.rpcbind-refused", Code::Unavailable),
        ("nfs.security-offered", Code::PermissionDenied),
        ("nfs.security-refused", Code::PermissionDenied),
        ("nfs.server-failed", Code::Internal),
        ("nfs.statd-missing", Code::FailedPrecondition),
        ("nfs.target-loops", Code::FailedPrecondition),
        ("nfs.target-missing", Code::FailedPrecondition),
        ("nfs.target-no-answer", Code::DeadlineExceeded),
        ("nfs.target-not-directory", Code::FailedPrecondition),
        ("nfs.tlshd-missing", Code::FailedPrecondition),
        ("nfs.transport-not-in-kernel", Code::FailedPrecondition),
        ("nfs.udp-needs-version-3", Code::InvalidArgument),
        ("nfs.unreachable", Code::Unavailable),
        ("nfs.version-not-served", Code::FailedPrecondition),
        ("nfs.worker-failed", Code::Internal),
    ];

    const KINDS: [(Kind, Code); 20] = [
        (Kind::Unspecified, Code::Internal),
        (Kind::NameNotFound, Code::Unavailable),
        (Kind::ConnectionRefused, Code::Unavailable),
        (Kind::ConnectTimeout, Code::Unavailable),
        (Kind::NoRoute, Code::Unavailable),
        (Kind::NotTls, Code::FailedPrecondition),
        (Kind::HandshakeFailed, Code::FailedPrecondition),
        (Kind::CertificateUntrusted, Code::FailedPrecondition),
        (Kind::CertificateWrongName, Code::FailedPrecondition),
        (Kind::CertificateExpired, Code::FailedPrecondition),
        (Kind::CertificateNotYetValid, Code::FailedPrecondition),
        (Kind::NoNfs, Code::Unavailable),
        (Kind::AddressTaken, Code::Unavailable),
        (Kind::OutOfAddresses, Code::ResourceExhausted),
        (Kind::TunnelUnavailable, Code::Unavailable),
        (Kind::StateUnwritable, Code::Internal),
        (Kind::ConnectionLost, Code::Unavailable),
        (Kind::UserDiffers, Code::AlreadyExists),
        (Kind::ClientCertificate, Code::FailedPrecondition),
        (Kind::HandshakeLost, Code::Unavailable),
    ];

    fn at() -> PathBuf {
        PathBuf::from("/p")
    }

    fn busy() -> Busy {
        let in_flight = InFlight::default();
        let _first = in_flight.begin("vol").unwrap();
        in_flight.begin("vol").unwrap_err()
    }

    fn hung() -> Failure {
        Failure::Deadline(Duration::from_secs(1))
    }

    fn no_mount() -> Box<MountFault> {
        mount_fault(Cause::NoAnswer(Peer::Nfs, None))
    }

    fn mount_fault(cause: Cause) -> Box<MountFault> {
        let subject = Subject { source: "nas:/".to_owned(), target: at(), tunnel: None };
        Box::new(MountFault::new(cause, subject, Event::default()))
    }

    fn no_answer() -> TunnelFault {
        TunnelFault::NoAnswer { socket: at(), waited: Duration::from_secs(30) }
    }

    fn unresolvable() -> PathFault {
        PathFault::Unresolvable { path: at(), source: io::Error::other("loop") }
    }

    fn still_there() -> UnmountError {
        UnmountError::StillThere(at())
    }

    fn not_nfs() -> UnmountError {
        UnmountError::NotNfs { path: at(), fs_type: "tmpfs".to_owned() }
    }

    fn unmount_failed(source: Failure) -> UnmountError {
        UnmountError::Failed { path: at(), source }
    }

    async fn crashed() -> tokio::task::JoinError {
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        task.await.unwrap_err()
    }

    #[tokio::test]
    async fn staging() {
        let text = String::new;
        for (error, code) in [
            (StageError::Busy(busy()), Code::Aborted),
            (StageError::Path(PathFault::Relative(at())), Code::InvalidArgument),
            (StageError::Path(unresolvable()), Code::Internal),
            (StageError::Directory(DirectoryFault::Missing(at())), Code::FailedPrecondition),
            (
                StageError::StagedDifferently { path: at(), held: text(), wanted: text() },
                Code::AlreadyExists,
            ),
            (
                StageError::OtherOptions { path: at(), held: text(), wanted: text() },
                Code::AlreadyExists,
            ),
            (StageError::TakenByAnother { path: at(), fs_type: text() }, Code::FailedPrecondition),
            (
                StageError::MixedEncryption {
                    server: text(),
                    at: at(),
                    held: "with",
                    wanted: "without",
                },
                Code::FailedPrecondition,
            ),
            (StageError::HalfMade(still_there()), Code::Unavailable),
            (
                StageError::InBackground { tried: Duration::from_secs(1), last: text() },
                Code::Unavailable,
            ),
            (StageError::Tunnel(no_answer()), Code::DeadlineExceeded),
            (StageError::Tunnel(TunnelFault::Senseless(text())), Code::Unavailable),
            (
                StageError::Tunnel(TunnelFault::OtherNetwork {
                    socket: at(),
                    theirs: text(),
                    ours: text(),
                }),
                Code::Unavailable,
            ),
            (
                StageError::Tunnel(TunnelFault::NoWatchdog { socket: at(), why: text() }),
                Code::Unavailable,
            ),
            (StageError::Mount(no_mount()), Code::DeadlineExceeded),
            (
                StageError::NotUndone {
                    fault: no_mount(),
                    left: LeftBehind::Mount(Box::new(still_there())),
                },
                Code::Unavailable,
            ),
            (StageError::Crashed(crashed().await), Code::Internal),
        ] {
            assert_eq!(stage(&error), code, "{error}");
        }
    }

    #[test]
    fn mounting() {
        let codes: Vec<_> = every_cause()
            .into_iter()
            .map(|cause| {
                let fault = mount_fault(cause);
                let (id, error) = (fault.id(), StageError::Mount(fault));
                // By which it is found in docs/messages.md.
                assert!(error.to_string().ends_with(&format!("[{id}]")), "{error}");
                (id, stage(&error))
            })
            .collect();
        assert_eq!(codes, MOUNTS);
    }

    #[test]
    fn refusals_of_the_watchdog() {
        for (kind, code) in KINDS {
            let refusal = TunnelFault::Refused { kind, message: String::new() };
            let error = StageError::Tunnel(refusal);
            assert_eq!(stage(&error), code, "{kind:?}");
            // By which it is found in docs/messages.md.
            let name = format!(" [{}]", kind_word(kind));
            let is_there = error.to_string().ends_with(&name);
            assert_eq!(is_there, kind != Kind::Unspecified, "{error}");
        }
    }

    #[tokio::test]
    async fn unstaging() {
        for (error, code) in [
            (UnstageError::Busy(busy()), Code::Aborted),
            (UnstageError::Path(PathFault::Climbs(at())), Code::InvalidArgument),
            (UnstageError::Unmount(not_nfs()), Code::FailedPrecondition),
            (UnstageError::Unmount(still_there()), Code::DeadlineExceeded),
            (UnstageError::Unmount(unmount_failed(hung())), Code::DeadlineExceeded),
            (UnstageError::Unmount(unmount_failed(kernel_refused())), Code::Internal),
            (UnstageError::Release(no_answer()), Code::Unavailable),
            (UnstageError::Crashed(crashed().await), Code::Internal),
        ] {
            assert_eq!(unstage(&error), code, "{error}");
        }
    }

    #[tokio::test]
    async fn publishing() {
        let text = String::new;
        for (error, code) in [
            (PublishError::Busy(busy()), Code::Aborted),
            (PublishError::Path(PathFault::Root(at())), Code::InvalidArgument),
            (PublishError::NotStaged(at()), Code::FailedPrecondition),
            (
                PublishError::PublishedDifferently { path: at(), held: "writable" },
                Code::AlreadyExists,
            ),
            (PublishError::PublishedElsewhere { at: at() }, Code::FailedPrecondition),
            (
                PublishError::TargetTaken { path: at(), held: text(), fs_type: text() },
                Code::FailedPrecondition,
            ),
            (PublishError::Target(DirectoryFault::NotADirectory(at())), Code::FailedPrecondition),
            (PublishError::Bind { path: at(), source: kernel_refused() }, Code::Internal),
            (PublishError::Bind { path: at(), source: hung() }, Code::DeadlineExceeded),
            (
                PublishError::NotUndone {
                    path: at(),
                    failure: hung(),
                    left: Box::new(still_there()),
                },
                Code::Unavailable,
            ),
            (PublishError::Crashed(crashed().await), Code::Internal),
        ] {
            assert_eq!(publish(&error), code, "{error}");
        }
    }

    #[tokio::test]
    async fn unpublishing() {
        let failed =
            DirectoryFault::Failed { verb: "remove", path: at(), source: io::Error::other("no") };
        for (error, code) in [
            (UnpublishError::Busy(busy()), Code::Aborted),
            (UnpublishError::Path(PathFault::Relative(at())), Code::InvalidArgument),
            (UnpublishError::Unmount(not_nfs()), Code::FailedPrecondition),
            (UnpublishError::Directory(DirectoryFault::NotEmpty(at())), Code::FailedPrecondition),
            (UnpublishError::Directory(failed), Code::Internal),
            (UnpublishError::Crashed(crashed().await), Code::Internal),
        ] {
            assert_eq!(unpublish(&error), code, "{error}");
        }
    }

    #[tokio::test]
    async fn figures() {
        for (error, code) in [
            (StatsError::Busy(busy()), Code::Aborted),
            (StatsError::Path(PathFault::Relative(at())), Code::NotFound),
            (StatsError::Path(unresolvable()), Code::Internal),
            (StatsError::NotMounted(at()), Code::NotFound),
            (StatsError::AnotherVolume { path: at(), staging_path: at() }, Code::NotFound),
            (StatsError::Ask { path: at(), source: hung() }, Code::DeadlineExceeded),
            (StatsError::Ask { path: at(), source: kernel_refused() }, Code::Internal),
            (StatsError::Senseless(crate::host::worker::Done::Done), Code::Internal),
            (StatsError::Crashed(crashed().await), Code::Internal),
        ] {
            assert_eq!(stats(&error), code, "{error}");
        }
    }
}
