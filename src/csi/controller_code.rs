//! From the controller's errors to gRPC codes: one table for each call, and none has a `_`.
//!
//! The external-provisioner takes `CANCELLED`, `DEADLINE_EXCEEDED`, `UNAVAILABLE`, `RESOURCE_EXHAUSTED` and
//! `ABORTED` as "maybe still under way": it asks for the same volume again, and deletes it should the claim go. After
//! any other code it may forget the volume, so a call that may have made something never ends with one.

use tonic::Code;

use crate::controller::CreateError;
use crate::controller::DeleteError;
use crate::controller::ExportFault;
use crate::controller::FindError;
use crate::controller::home::HomeFault;
use crate::csi::code::refused;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Status;

pub(super) fn create(error: &CreateError) -> Code {
    match error {
        CreateError::Busy(_) => Code::Aborted,
        CreateError::Id(_) => Code::InvalidArgument,
        CreateError::Export(fault) | CreateError::NoExport { last: fault, .. } => export(fault),
        CreateError::Home { source, .. } => home(source),
        CreateError::Directory { source, .. } => nfs(source),
        CreateError::Different { .. } | CreateError::Taken { .. } => Code::AlreadyExists,
        CreateError::Occupied { .. } => Code::FailedPrecondition,
    }
}

pub(super) fn delete(error: &DeleteError) -> Code {
    match error {
        DeleteError::Busy(_) => Code::Aborted,
        DeleteError::Export(fault) => export(fault),
        DeleteError::Home { source, .. } => home(source),
    }
}

pub(super) fn find(error: &FindError) -> Code {
    match error {
        FindError::Busy(_) => Code::Aborted,
        FindError::NotFound(_) => Code::NotFound,
        FindError::Export(fault) => export(fault),
        FindError::Home { source, .. } => home(source),
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
    use crate::controller::record::RecordError;
    use crate::model::ExportPath;
    use crate::model::ServerName;
    use crate::model::volume_handle::HandleError;
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
}
