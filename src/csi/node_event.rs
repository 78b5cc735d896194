//! Which of the node's errors is said in an event, and about what: one table for each error, and none has a `_`.
//!
//! The kubelet puts the text of every failed call on the Pod by itself. What is said here has a reason that never
//! changes, and stands on the claim, or on the node where it is the node's own trouble. What passes by itself, or is the
//! caller's mistake, is not said.

use std::collections::HashMap;

use crate::csi::request::RequestError;
use crate::host::worker::Failure;
use crate::kubernetes::About;
use crate::kubernetes::Reason;
use crate::model::attributes::SIDECAR_PREFIX;
use crate::nfs::Cause;
use crate::node::PublishError;
use crate::node::StageError;
use crate::node::TunnelFault;
use crate::node::unmount::UnmountError;
use crate::proto::tunnel::tunnel_failure::Kind;

/// How the external-provisioner calls a volume: this, and the uid of its claim.
const VOLUME_PREFIX: &str = "pvc-";

pub(super) fn malformed(error: &RequestError) -> Option<Reason> {
    match error {
        RequestError::Attributes(_)
        | RequestError::FileSystemType(_)
        | RequestError::Block
        | RequestError::MountGroup(_) => Some(Reason::MountOptionRefused),
        RequestError::VolumeId(_)
        | RequestError::Missing(_)
        | RequestError::NotStaged
        | RequestError::AccessMode(_) => None,
    }
}

pub(super) fn staging(error: &StageError) -> Option<Reason> {
    match error {
        StageError::Busy(_)
        | StageError::Path(_)
        | StageError::Directory(_)
        | StageError::ReadMounts(_)
        | StageError::Crashed(_) => None,
        StageError::StagedDifferently { .. }
        | StageError::OtherOptions { .. }
        | StageError::MixedEncryption { .. }
        | StageError::TakenByAnother { .. } => Some(Reason::MountConflict),
        StageError::HalfMade(_) | StageError::NotUndone { .. } => Some(Reason::VolumeNotUnmounted),
        StageError::InBackground { .. } => Some(Reason::MountFailed),
        StageError::Tunnel(fault) => tunnel(fault),
        StageError::Mount(fault) => mount(&fault.cause),
    }
}

pub(super) fn publishing(error: &PublishError) -> Option<Reason> {
    match error {
        PublishError::Busy(_)
        | PublishError::Path(_)
        | PublishError::ReadMounts(_)
        | PublishError::NotStaged(_)
        | PublishError::Target(_)
        | PublishError::Crashed(_) => None,
        PublishError::PublishedDifferently { .. }
        | PublishError::PublishedElsewhere { .. }
        | PublishError::TargetTaken { .. } => Some(Reason::MountConflict),
        PublishError::Bind { source, .. } => match source {
            Failure::Deadline(_) => Some(Reason::MountTargetSilent),
            Failure::Refused { .. } | Failure::Worker(_) => Some(Reason::MountFailed),
        },
        PublishError::NotUndone { .. } => Some(Reason::VolumeNotUnmounted),
    }
}

pub(super) fn unmounting(error: &UnmountError) -> Option<Reason> {
    match error {
        UnmountError::ReadMounts(_) | UnmountError::StillThere(_) => None,
        UnmountError::NotNfs { .. } => Some(Reason::MountConflict),
        UnmountError::Failed { .. } => Some(Reason::VolumeNotUnmounted),
    }
}

fn tunnel(fault: &TunnelFault) -> Option<Reason> {
    match fault {
        TunnelFault::NoWatchdog { .. }
        | TunnelFault::NoAnswer { .. }
        | TunnelFault::Senseless(_) => Some(Reason::TunnelUnavailable),
        TunnelFault::OtherNetwork { .. } => Some(Reason::WrongNetworkNamespace),
        TunnelFault::Refused { kind, .. } => refused(*kind),
    }
}

/// What is said of a tunnel that does not come about.
#[must_use]
pub fn refused(kind: Kind) -> Option<Reason> {
    match kind {
        Kind::NameNotFound => Some(Reason::MountTargetNameNotFound),
        Kind::ConnectionRefused | Kind::NoRoute => Some(Reason::MountTargetUnreachable),
        Kind::ConnectTimeout | Kind::NoNfs | Kind::ConnectionLost => {
            Some(Reason::MountTargetSilent)
        }
        Kind::NotTls | Kind::HandshakeFailed | Kind::HandshakeLost => {
            Some(Reason::EncryptionRefused)
        }
        Kind::CertificateUntrusted => Some(Reason::CertificateUntrusted),
        Kind::CertificateWrongName => Some(Reason::CertificateWrongName),
        Kind::CertificateExpired | Kind::CertificateNotYetValid => Some(Reason::CertificateExpired),
        Kind::ClientCertificate => Some(Reason::ClientCertificateFailed),
        Kind::AddressTaken
        | Kind::OutOfAddresses
        | Kind::TunnelUnavailable
        | Kind::StateUnwritable => Some(Reason::TunnelUnavailable),
        Kind::UserDiffers => Some(Reason::MountConflict),
        Kind::Unspecified => Some(Reason::MountFailed),
    }
}

fn mount(cause: &Cause) -> Option<Reason> {
    match cause {
        Cause::ExportDenied
        | Cause::ExportDeniedOrMissing
        | Cause::SecurityRefused
        | Cause::FlavoursOffered(_) => Some(Reason::AccessDenied),
        Cause::NoSuchExport | Cause::ExportNotADirectory | Cause::ExportStale => {
            Some(Reason::DirectoryMissing)
        }
        Cause::OptionRefused(_)
        | Cause::OptionsTooLong
        | Cause::NameTooLong
        | Cause::UdpNeedsVersion3
        | Cause::VersionNotServed
        | Cause::NoCommonVersion(_)
        | Cause::MountdVersion(_) => Some(Reason::MountOptionRefused),
        Cause::NameNotFound { .. }
        | Cause::NameServersSilent { .. }
        | Cause::NameWithoutFamily { .. } => Some(Reason::MountTargetNameNotFound),
        Cause::Refused(_) | Cause::Unreachable | Cause::NotRegistered(..) => {
            Some(Reason::MountTargetUnreachable)
        }
        Cause::NoAnswer(..) | Cause::ConnectionLost(_) | Cause::OtherProtocol(_) => {
            Some(Reason::MountTargetSilent)
        }
        Cause::KernelLacksNfs
        | Cause::TransportNotInKernel(_)
        | Cause::NoRdmaDevice
        | Cause::NotPrivileged
        | Cause::DaemonMissing(..) => Some(Reason::NodeLacksNfs),
        Cause::ServerFailed | Cause::WorkerFailed | Cause::Internal | Cause::Other => {
            Some(Reason::MountFailed)
        }
        // The kubelet's own paths, and what passes by itself.
        Cause::TargetMissing
        | Cause::TargetNotADirectory
        | Cause::TargetLoops
        | Cause::TargetNoAnswer
        | Cause::AlreadyMounted
        | Cause::Cancelled
        | Cause::NoResources => None,
    }
}

/// Whether it is the trouble of the node, whichever volume met it.
pub(super) fn is_of_the_node(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NodeLacksNfs | Reason::TunnelUnavailable | Reason::WrongNetworkNamespace
    )
}

/// The claim of a volume that was provisioned.
pub(super) fn claim(context: &HashMap<String, String>) -> Option<About> {
    let said = |key: &str| context.get(&format!("{SIDECAR_PREFIX}{key}")).map(String::as_str);
    let (namespace, name) = (said("pvc/namespace")?, said("pvc/name")?);
    Some(About::claim(namespace, name, uid(said("pv/name").unwrap_or_default())))
}

/// The same as namespace/name.
pub(super) fn claim_name(context: &HashMap<String, String>) -> Option<String> {
    let said = |key: &str| context.get(&format!("{SIDECAR_PREFIX}{key}"));
    Some(format!("{}/{}", said("pvc/namespace")?, said("pvc/name")?))
}

/// The pod of a publication, where the CSIDriver has `podInfoOnMount`.
pub(super) fn pod(context: &HashMap<String, String>) -> Option<About> {
    let said = |key: &str| context.get(&format!("{SIDECAR_PREFIX}{key}")).map(String::as_str);
    let (namespace, name) = (said("pod.namespace")?, said("pod.name")?);
    Some(About::pod(namespace, name, said("pod.uid").unwrap_or_default()))
}

/// The uid of a claim, by how its volume is called; empty where that does not say it.
fn uid(volume: &str) -> &str {
    let rest = volume.strip_prefix(VOLUME_PREFIX).unwrap_or_default();
    let is_uid = rest.len() == 36
        && rest.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        && rest.matches('-').count() == 4;
    if is_uid { rest } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::every_cause;

    const UID: &str = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f";

    fn context(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| (format!("{SIDECAR_PREFIX}{key}"), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_claim_is_known_with_its_uid_by_the_name_of_its_volume() {
        let volume = format!("pvc-{UID}");
        for (pv, uid) in
            [(volume.as_str(), UID), ("pvc-1", ""), ("by-hand", ""), (UID, ""), ("pvc-x", "")]
        {
            let context =
                context(&[("pvc/namespace", "shop"), ("pvc/name", "data"), ("pv/name", pv)]);
            assert_eq!(claim(&context), Some(About::claim("shop", "data", uid)), "{pv}");
        }
        assert_eq!(claim(&context(&[("pv/name", "by-hand")])), None);
    }

    #[test]
    fn a_pod_is_known_where_the_kubelet_says_it() {
        let whole = context(&[("pod.namespace", "shop"), ("pod.name", "web-0"), ("pod.uid", "u")]);
        assert_eq!(pod(&whole), Some(About::pod("shop", "web-0", "u")));
        assert_eq!(pod(&HashMap::new()), None);
    }

    #[test]
    fn troubles_that_a_user_can_tell_apart_have_reasons_of_their_own() {
        for (kind, reason) in [
            (Kind::NameNotFound, Reason::MountTargetNameNotFound),
            (Kind::NoRoute, Reason::MountTargetUnreachable),
            (Kind::NotTls, Reason::EncryptionRefused),
            (Kind::HandshakeLost, Reason::EncryptionRefused),
            (Kind::CertificateUntrusted, Reason::CertificateUntrusted),
            (Kind::CertificateExpired, Reason::CertificateExpired),
            (Kind::ConnectTimeout, Reason::MountTargetSilent),
            (Kind::TunnelUnavailable, Reason::TunnelUnavailable),
        ] {
            assert_eq!(refused(kind), Some(reason));
        }
        for (id, reason) in [
            ("nfs.export-denied", Some(Reason::AccessDenied)),
            ("nfs.export-missing", Some(Reason::DirectoryMissing)),
            ("nfs.no-answer", Some(Reason::MountTargetSilent)),
            ("nfs.kernel-lacks-nfs", Some(Reason::NodeLacksNfs)),
            ("nfs.cancelled", None),
        ] {
            let causes: Vec<_> =
                every_cause().into_iter().filter(|cause| cause.id() == id).collect();
            assert!(!causes.is_empty(), "{id}");
            assert!(causes.iter().all(|cause| mount(cause) == reason), "{id}");
        }
    }
}
