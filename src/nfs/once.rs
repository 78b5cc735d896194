//! One attempt through a tunnel, for a caller that repeats its request by itself.

use std::time::Duration;

use super::class::Finally;
use super::diagnose::Diagnosis;
use super::diagnose::Tried;
use super::fault::MountFault;
use super::fault::Subject;
use super::policy::Answer;
use super::policy::KernelFacts;
use super::policy::Policy;
use super::policy::Step;
use super::request::MountRequest;
use super::request::Way;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::model::NfsVersion;
use crate::model::nfs_option::Transport;

/// The job that makes the mount; none where the request is not one through a tunnel.
#[must_use]
pub fn mount_job(request: &MountRequest) -> Option<Job> {
    let now = tokio::time::Instant::now();
    let mut policy = Policy::new(request.clone(), KernelFacts::default(), now);
    match policy.next(Answer::Begin, now) {
        Step::Mount { job, .. } => Some(job),
        _ => None,
    }
}

/// What the failure of [`mount_job`] means, or a refusal of one of its options before it was tried.
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
    let permanent = class.finally == Finally::Permanent;
    MountFault { permanent, ..MountFault::new(cause, Subject::of(request), event) }
}
