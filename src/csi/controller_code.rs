//! From the controller's errors to gRPC codes: one table for each call, and none has a `_`.
//!
//! The external-provisioner takes `CANCELLED`, `DEADLINE_EXCEEDED`, `UNAVAILABLE`, `RESOURCE_EXHAUSTED` and
//! `ABORTED` as "maybe still under way": it asks for the same volume again, and deletes it should the claim go. After
//! any other code it may forget the volume, so a call that may have made something never ends with one.
//!
//! LONG: half of it are tests, over the whole of every table.

use tonic::Code;

use crate::controller::CapacityError;
use crate::controller::CloudFault;
use crate::controller::CopyError;
use crate::controller::CreateError;
use crate::controller::DeleteError;
use crate::controller::ExportFault;
use crate::controller::FindError;
use crate::controller::ListError;
use crate::controller::SnapshotError;
use crate::controller::home::HomeFault;
use crate::csi::code::refused;
use crate::nas::Kind;
use crate::nas::NasCause;
use crate::nas::NasFault;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Status;

pub(super) fn create(error: &CreateError) -> Code {
    match error {
        CreateError::Busy(_) => Code::Aborted,
        CreateError::Id(_) => Code::InvalidArgument,
        CreateError::Copy(error) => copy(error),
        CreateError::Export(fault) | CreateError::NoExport { last: fault, .. } => export(fault),
        CreateError::Home { source, .. } => home(source),
        CreateError::Directory { source, .. } => nfs(source),
        CreateError::Different { .. } | CreateError::Taken { .. } => Code::AlreadyExists,
        CreateError::Occupied { .. } => Code::FailedPrecondition,
        CreateError::Cloud { source, is_begun: false } => cloud(source),
        CreateError::Cloud { source, is_begun: true } => not_final(cloud(source)),
        CreateError::Size(_) => Code::OutOfRange,
    }
}

pub(super) fn delete(error: &DeleteError) -> Code {
    match error {
        DeleteError::Busy(_) => Code::Aborted,
        DeleteError::Cloud(fault) => cloud(fault),
        DeleteError::Export(fault) => export(fault),
        DeleteError::Home { source, .. } => home(source),
    }
}

pub(super) fn find(error: &FindError) -> Code {
    match error {
        FindError::Busy(_) => Code::Aborted,
        FindError::NotFound(_) => Code::NotFound,
        FindError::Cloud(fault) => cloud(fault),
        FindError::Size(_) => Code::OutOfRange,
        FindError::Export(fault) => export(fault),
        FindError::Home { source, .. } => home(source),
    }
}

/// What was begun is asked for again, or deleted: see the first lines.
fn not_final(code: Code) -> Code {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Unavailable
        | Code::ResourceExhausted
        | Code::Aborted => code,
        _ => Code::Unavailable,
    }
}

fn cloud(fault: &CloudFault) -> Code {
    match fault {
        CloudFault::NoApi { .. } | CloudFault::NoCredentials { .. } => Code::FailedPrecondition,
        CloudFault::Call(fault) => call(fault),
        CloudFault::Late { .. } => Code::DeadlineExceeded,
        CloudFault::Foreign { .. } | CloudFault::Region { .. } => Code::FailedPrecondition,
        CloudFault::Name(_) | CloudFault::Mount(_) => Code::InvalidArgument,
        CloudFault::Export(fault) => export(fault),
        CloudFault::Nfs { source, .. } => nfs(source),
    }
}

fn call(fault: &NasFault) -> Code {
    match &fault.cause {
        NasCause::Credentials(_) | NasCause::Unsendable(_) => Code::FailedPrecondition,
        NasCause::Unreached(_) | NasCause::Unanswered(_) | NasCause::Strange { .. } => {
            Code::Unavailable
        }
        NasCause::Crowded { .. } => Code::ResourceExhausted,
        NasCause::Refused(refusal) => match refusal.kind {
            Kind::Throttled | Kind::ServerTrouble | Kind::Replayed => Code::Unavailable,
            Kind::NotAllowed => Code::PermissionDenied,
            Kind::KeyUnknown | Kind::WrongSecret | Kind::TokenInvalid => Code::Unauthenticated,
            Kind::ClockOff | Kind::NotFound => Code::FailedPrecondition,
            Kind::AtLimit => Code::ResourceExhausted,
            Kind::Busy => Code::Aborted,
            Kind::Wrong => Code::InvalidArgument,
        },
    }
}

/// "It is being copied" is `ABORTED`: asked for again.
fn copy(error: &CopyError) -> Code {
    match error {
        CopyError::UnderWay { .. } | CopyError::NotReady(_) | CopyError::Interrupted => {
            Code::Aborted
        }
        CopyError::NoSource { .. } | CopyError::SourceDeleted { .. } => Code::NotFound,
        CopyError::Export(fault) => unfinished(export(fault)),
        CopyError::Home { source, .. } => unfinished(home(source)),
        CopyError::Tree { source, .. } => {
            source.nfs().map_or(Code::Unavailable, |fault| unfinished(nfs(fault)))
        }
    }
}

/// What is copied is kept, so a fault never is the end of the matter.
fn unfinished(code: Code) -> Code {
    match code {
        Code::Aborted | Code::DeadlineExceeded | Code::ResourceExhausted => code,
        _ => Code::Unavailable,
    }
}

pub(super) fn snapshot(error: &SnapshotError) -> Code {
    match error {
        SnapshotError::Busy(_) | SnapshotError::Token(_) => Code::Aborted,
        SnapshotError::Id(_) => Code::InvalidArgument,
        SnapshotError::NotFound(_) => Code::NotFound,
        SnapshotError::Different { .. } => Code::AlreadyExists,
        SnapshotError::Copy(error) => copy(error),
        SnapshotError::Export(fault) => export(fault),
        SnapshotError::Home { source, .. } => home(source),
    }
}

pub(super) fn list(error: &ListError) -> Code {
    match error {
        ListError::NoCluster => Code::Unimplemented,
        ListError::Cluster(_) => Code::Unavailable,
        ListError::Find(error) => find(error),
        ListError::Token(_) => Code::Aborted,
    }
}

pub(super) fn capacity(error: &CapacityError) -> Code {
    match error {
        CapacityError::Export(fault) => export(fault),
        CapacityError::Ask { source, .. } => nfs(source),
    }
}

/// Before there is a connection nothing has been made, so these may be final.
fn export(fault: &ExportFault) -> Code {
    match fault {
        ExportFault::Dial(fault) => refused(fault.kind()),
        ExportFault::Region { source, .. } => refused(source.kind()),
        ExportFault::NoSuchPath { .. } => Code::FailedPrecondition,
        ExportFault::Denied { .. } | ExportFault::DeniedOrMissing { .. } => Code::PermissionDenied,
        ExportFault::Crowded { .. } => Code::Unavailable,
        ExportFault::Mount { source, .. } => nfs(source),
    }
}

fn home(fault: &HomeFault) -> Code {
    match fault {
        HomeFault::Nfs(fault) => nfs(fault),
        HomeFault::NotADirectory(..) => Code::FailedPrecondition,
        HomeFault::Gone(_) => Code::Aborted,
        HomeFault::Record { .. } | HomeFault::Name(_) => Code::Internal,
    }
}

fn nfs(fault: &NfsFault) -> Code {
    match fault {
        NfsFault::Refused { status, .. } => match *status {
            Status::PERM | Status::ACCES | Status::ROFS => Code::PermissionDenied,
            Status::NOSPC | Status::DQUOT => Code::ResourceExhausted,
            Status::STALE | Status::JUKEBOX => Code::Unavailable,
            _ => Code::Internal,
        },
        NfsFault::NoAnswer { .. } => Code::DeadlineExceeded,
        NfsFault::Lost { .. } => Code::Unavailable,
        NfsFault::Rpc { .. } => Code::FailedPrecondition,
        NfsFault::Garbage { .. } | NfsFault::Name { .. } => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::controller::api::Need;
    use crate::controller::quota::SizeError;
    use crate::controller::record::RecordError;
    use crate::kubernetes::KubernetesFault;
    use crate::model::ClassError;
    use crate::model::ExportPath;
    use crate::model::ServerName;
    use crate::model::volume_handle::HandleError;
    use crate::nas::Action;
    use crate::nas::Endpoint;
    use crate::nas::HttpFault;
    use crate::nfs::client::Name;
    use crate::nfs::policy::RpcFault;
    use crate::runtime::InFlight;
    use crate::runtime::in_flight::Busy;
    use crate::tunnel::DialFault;

    fn busy() -> Busy {
        let in_flight = InFlight::default();
        let _first = in_flight.begin("vol").unwrap();
        in_flight.begin("vol").unwrap_err()
    }

    fn text() -> String {
        String::new()
    }

    fn faults() -> Vec<(NfsFault, Code)> {
        let refused = |status| NfsFault::Refused { action: text(), status };
        vec![
            (refused(Status::ACCES), Code::PermissionDenied),
            (refused(Status::PERM), Code::PermissionDenied),
            (refused(Status::ROFS), Code::PermissionDenied),
            (refused(Status::NOSPC), Code::ResourceExhausted),
            (refused(Status::DQUOT), Code::ResourceExhausted),
            (refused(Status::STALE), Code::Unavailable),
            (refused(Status::JUKEBOX), Code::Unavailable),
            (refused(Status(5)), Code::Internal),
            (
                NfsFault::NoAnswer { action: text(), waited: Duration::from_secs(1) },
                Code::DeadlineExceeded,
            ),
            (NfsFault::Lost { action: text(), source: io::Error::other("x") }, Code::Unavailable),
            (
                NfsFault::Rpc { action: text(), source: RpcFault::NoSuchProgram },
                Code::FailedPrecondition,
            ),
            (NfsFault::Garbage { action: text(), why: text() }, Code::Internal),
        ]
    }

    fn homes() -> Vec<(HomeFault, Code)> {
        let name = || Name::parse("a").unwrap();
        let mut all: Vec<_> =
            faults().into_iter().map(|(fault, code)| (HomeFault::Nfs(fault), code)).collect();
        all.push((HomeFault::NotADirectory(name(), "file"), Code::FailedPrecondition));
        all.push((HomeFault::Gone(name()), Code::Aborted));
        let source = RecordError::Later(2);
        all.push((HomeFault::Record { file: name(), source }, Code::Internal));
        all
    }

    fn exports() -> Vec<(ExportFault, Code)> {
        let path = ExportPath::root;
        let host = ServerName::parse("nas.corp").unwrap();
        let mut all: Vec<_> = faults()
            .into_iter()
            .map(|(source, code)| (ExportFault::Mount { server: text(), source }, code))
            .collect();
        let source = || DialFault::NoAddress { host: host.clone() };
        all.push((ExportFault::Dial(source()), Code::Unavailable));
        let doubt = text();
        all.push((ExportFault::Region { doubt, source: Box::new(source()) }, Code::Unavailable));
        all.push((
            ExportFault::NoSuchPath { server: text(), path: path() },
            Code::FailedPrecondition,
        ));
        all.push((ExportFault::Denied { server: text(), path: path() }, Code::PermissionDenied));
        let unclear = ExportFault::DeniedOrMissing { server: text(), path: path() };
        all.push((unclear, Code::PermissionDenied));
        let waited = Duration::from_secs(1);
        all.push((ExportFault::Crowded { server: text(), waited }, Code::Unavailable));
        all
    }

    #[test]
    fn creating() {
        for (fault, code) in exports() {
            assert_eq!(create(&CreateError::NoExport { count: 2, last: Box::new(fault) }), code);
        }
        for (source, code) in homes() {
            assert_eq!(create(&CreateError::Home { server: text(), source }), code);
        }
        for (source, code) in faults() {
            assert_eq!(create(&CreateError::Directory { server: text(), source }), code);
        }
        let different =
            CreateError::Different { name: text(), what: "size", held: text(), wanted: text() };
        for (error, code) in [
            (CreateError::Busy(busy()), Code::Aborted),
            (CreateError::Id(HandleError::Bundle), Code::InvalidArgument),
            (different, Code::AlreadyExists),
            (CreateError::Taken { directory: text(), other: text() }, Code::AlreadyExists),
            (CreateError::Occupied { server: text(), directory: text() }, Code::FailedPrecondition),
        ] {
            assert_eq!(create(&error), code, "{error}");
        }
    }

    fn clouds() -> Vec<(CloudFault, Code)> {
        let called = |cause| {
            let endpoint = Endpoint::parse("nas.test").unwrap();
            let action = Action::CreateFileSystem;
            CloudFault::Call(Box::new(NasFault { action, endpoint, attempts: 1, cause }))
        };
        let refused = |code: &str| {
            let body = format!(r#"{{"Code":"{code}","Message":"","RequestId":""}}"#);
            called(NasCause::refused(Action::CreateFileSystem, 400, &body))
        };
        let late = || HttpFault::Late { deadline: Duration::from_secs(1) };
        vec![
            (CloudFault::NoApi { need: Need::Quota }, Code::FailedPrecondition),
            (refused("Throttling.User"), Code::Unavailable),
            (refused("ServiceUnavailable"), Code::Unavailable),
            (refused("NoPermission"), Code::PermissionDenied),
            (refused("InvalidAccessKeyId.NotFound"), Code::Unauthenticated),
            (refused("SignatureDoesNotMatch"), Code::Unauthenticated),
            (refused("InvalidTimeStamp.Expired"), Code::FailedPrecondition),
            (refused("InvalidFileSystem.NotFound"), Code::FailedPrecondition),
            (refused("OperationDenied.AccessPointCountsExceeded"), Code::ResourceExhausted),
            (refused("Instance.IncorrectStatus"), Code::Aborted),
            (refused("InvalidParameter"), Code::InvalidArgument),
            (called(NasCause::Unreached(late())), Code::Unavailable),
            (called(NasCause::Unanswered(late())), Code::Unavailable),
            (
                called(NasCause::Crowded { per_minute: 1, wait: Duration::ZERO }),
                Code::ResourceExhausted,
            ),
            (
                CloudFault::Late { what: text(), state: text(), waited: Duration::ZERO },
                Code::DeadlineExceeded,
            ),
            (CloudFault::Foreign { what: text(), why: text() }, Code::FailedPrecondition),
            (CloudFault::Region { wanted: text(), own: text() }, Code::FailedPrecondition),
            (CloudFault::Mount(Box::new(ClassError::Plain)), Code::InvalidArgument),
        ]
    }

    #[test]
    fn what_has_begun_to_be_made_is_never_forgotten() {
        for (source, code) in clouds() {
            assert_eq!(create(&CreateError::Cloud { source, is_begun: false }), code);
        }
        for (source, _) in clouds() {
            let error = CreateError::Cloud { source, is_begun: true };
            let asked_again =
                [Code::DeadlineExceeded, Code::Unavailable, Code::ResourceExhausted, Code::Aborted];
            assert!(asked_again.contains(&create(&error)), "{error}");
        }
        for (source, code) in clouds() {
            assert_eq!(delete(&DeleteError::Cloud(source)), code);
        }
        for (source, code) in clouds() {
            assert_eq!(find(&FindError::Cloud(source)), code);
        }
        assert_eq!(create(&CreateError::Size(SizeError::Missing)), Code::OutOfRange);
        assert_eq!(find(&FindError::Size(SizeError::Missing)), Code::OutOfRange);
    }

    #[test]
    fn deleting_and_finding() {
        for (fault, code) in exports() {
            assert_eq!(delete(&DeleteError::Export(Box::new(fault))), code);
        }
        for (fault, code) in exports() {
            assert_eq!(find(&FindError::Export(Box::new(fault))), code);
        }
        for (source, code) in homes() {
            assert_eq!(delete(&DeleteError::Home { server: text(), source }), code);
        }
        for (source, code) in homes() {
            assert_eq!(find(&FindError::Home { server: text(), source }), code);
        }
        assert_eq!(delete(&DeleteError::Busy(busy())), Code::Aborted);
        assert_eq!(find(&FindError::Busy(busy())), Code::Aborted);
        assert_eq!(find(&FindError::NotFound(text())), Code::NotFound);
    }

    #[test]
    fn copying_and_listing() {
        let id = || "v1:a.test:/:a".to_owned();
        for (error, code) in [
            (CopyError::UnderWay { entries: 1, bytes: 2 }, Code::Aborted),
            (CopyError::NotReady(id()), Code::Aborted),
            (CopyError::Interrupted, Code::Aborted),
            (CopyError::NoSource { what: "volume", id: id() }, Code::NotFound),
            (CopyError::SourceDeleted { what: "volume", id: id() }, Code::NotFound),
        ] {
            assert_eq!(snapshot(&SnapshotError::Copy(error)), code);
        }
        for (fault, code) in exports() {
            let error = CreateError::Copy(CopyError::Export(Box::new(fault)));
            assert_eq!(create(&error), unfinished(code));
        }
        for (fault, code) in exports() {
            assert_eq!(snapshot(&SnapshotError::Export(Box::new(fault))), code);
        }
        for (fault, code) in exports() {
            assert_eq!(capacity(&CapacityError::Export(Box::new(fault))), code);
        }
        for (error, code) in [
            (ListError::NoCluster, Code::Unimplemented),
            (ListError::Token(text()), Code::Aborted),
            (ListError::Find(FindError::NotFound(text())), Code::NotFound),
            (
                ListError::Cluster(KubernetesFault::Forbidden { action: "list", why: text() }),
                Code::Unavailable,
            ),
        ] {
            assert_eq!(list(&error), code);
        }
        for (source, code) in homes() {
            assert_eq!(snapshot(&SnapshotError::Home { server: text(), source }), code);
        }
        for (source, code) in homes() {
            assert_eq!(copy(&CopyError::Home { server: text(), source }), unfinished(code));
        }
        for (source, code) in faults() {
            assert_eq!(capacity(&CapacityError::Ask { server: text(), source }), code);
        }
        let different = SnapshotError::Different { name: text(), held: text(), wanted: text() };
        for (error, code) in [
            (SnapshotError::Busy(busy()), Code::Aborted),
            (SnapshotError::Token(text()), Code::Aborted),
            (SnapshotError::Id(HandleError::Bundle), Code::InvalidArgument),
            (SnapshotError::NotFound(text()), Code::NotFound),
            (different, Code::AlreadyExists),
        ] {
            assert_eq!(snapshot(&error), code, "{error}");
        }
    }
}
