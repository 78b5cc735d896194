//! What one failure means by itself, outside of [`super::policy`].

use std::time::Duration;

use super::class::Finally;
use super::diagnose::Diagnosis;
use super::diagnose::Tried;
use super::fault::Event;
use super::fault::MountFault;
use super::fault::Subject;
use super::request::MountRequest;
use super::request::Way;
use crate::host::worker::Failure;
use crate::model::NfsVersion;
use crate::model::nfs_option::Transport;

/// What the failure of a mount means, or a refusal of one of its options before it was tried.
#[must_use]
pub fn diagnose(failure: &Failure, request: &MountRequest) -> MountFault {
    let version: Option<NfsVersion> = request.options.version_wish().exact();
    let tried = Tried {
        version: version.unwrap_or_default(),
        transport: Transport::Tcp,
        through_tunnel: request.way != Way::Direct,
        took: Duration::ZERO,
    };
    let Diagnosis { cause, class, event } = Diagnosis::of_mount(failure, tried);
    let event = Event { version, ..event };
    let permanent = class.finally == Finally::Permanent;
    MountFault { permanent, ..MountFault::new(cause, Subject::of(request), event) }
}
