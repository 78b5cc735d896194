//! How long mounts took, by the version that was spoken and by what came of them.

use std::time::Duration;

use crate::model::NfsVersion;
use crate::nfs::MountFault;
use crate::nfs::policy::Mounted;
use crate::runtime::Histogram;
use crate::runtime::Histograms;
use crate::runtime::histogram;

/// How long mounts took. A clone is the same.
#[derive(Clone, Debug)]
pub struct MountTimes(Histograms<(String, &'static str)>);

impl Default for MountTimes {
    fn default() -> Self {
        Self(Histograms::new(&histogram::CALLS))
    }
}

impl MountTimes {
    /// By version (`none` where it did not come to that) and outcome: `mounted`; `refused`, which is in vain until
    /// somebody changes something; `unavailable`, which may succeed at the next attempt.
    #[must_use]
    pub fn all(&self) -> Vec<((String, &'static str), Histogram)> {
        self.0.all()
    }

    pub(super) fn note(&self, outcome: &Result<Mounted, MountFault>, took: Duration) {
        let (version, word) = match outcome {
            Ok(mounted) => (Some(mounted.version), "mounted"),
            Err(fault) if fault.permanent => (fault.event.version, "refused"),
            Err(fault) => (fault.event.version, "unavailable"),
        };
        let version = version.as_ref().map_or_else(|| "none".to_owned(), NfsVersion::to_string);
        self.0.observe((version, word), took);
    }
}
