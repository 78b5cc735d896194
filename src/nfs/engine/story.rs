//! What is told of a mount in the log: the whole of it, once, at its end.

use std::path::Path;
use std::time::Duration;

use crate::host::daemon::Presence;
use crate::nfs::MountFault;
use crate::nfs::policy::Answer;
use crate::nfs::policy::History;
use crate::nfs::policy::Mounted;

/// Whether something else has to be tried now.
pub(super) fn is_failure(answer: &Answer) -> bool {
    match answer {
        Answer::Addresses(answer) => answer.is_err(),
        Answer::Target(answer) | Answer::Mounted(answer) => answer.is_err(),
        Answer::Source(answer) => answer.is_err(),
        Answer::Daemon(presence) => matches!(presence, Presence::Missing(_)),
        Answer::Port(answer) => answer.is_err(),
        Answer::Pinged(answer) => answer.is_err(),
        Answer::Export(answer) => answer.is_err(),
        Answer::MountedThere(answer) => answer.is_err(),
        Answer::Begin | Answer::Waited | Answer::InBackground | Answer::Cancelled => false,
    }
}

pub(super) fn success(source: &str, target: &Path, mounted: &Mounted, took: Duration) {
    for note in &mounted.notes {
        tracing::warn!(mount.source = source, mount.target = %target.display(), "{note}");
    }
    tracing::info!(
        mount.source = source, mount.target = %target.display(), mount.version = %mounted.version,
        mount.server = %mounted.server, mount.options = mounted.options,
        mount.already = mounted.already, ?took, story = one_line(&mounted.history), "mounted"
    );
}

pub(super) fn failure(fault: &MountFault, took: Duration) {
    tracing::warn!(
        error = %fault, error.id = fault.id(), ?took, story = one_line(&fault.history), "not mounted"
    );
}

fn one_line(history: &History) -> String {
    history.to_string().replace('\n', "; ")
}
