//! What a user must act on, counted by the reason of its event, also where no event is sent.
//!
//! An event is said once in five minutes and may be dropped; a count is neither.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::kubernetes::Reason;
use crate::kubernetes::reason::Level;
use crate::kubernetes::reason::Speaker;

/// How often each was met. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<HashMap<Reason, u64>>>);

impl Troubles {
    /// Adds one.
    pub(super) fn count(&self, reason: Reason) {
        *self.lock().entry(reason).or_default() += 1;
    }

    /// Every warning that a node can give by its name, those that were never given too: a rate of what appears with
    /// its first count would be 0.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let counts = self.lock();
        let warnings = Reason::ALL.iter().filter(|reason| {
            let row = reason.row();
            row.speaker == Speaker::Node && row.level == Level::Warning
        });
        warnings
            .map(|reason| (reason.row().name, counts.get(reason).copied().unwrap_or_default()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Reason, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_of_a_node_is_there_from_the_beginning_and_counted_by_its_name() {
        let troubles = Troubles::default();
        let before = troubles.all();
        assert!(before.len() > 10 && before.iter().all(|(_, count)| *count == 0), "{before:?}");
        for name in ["StartupTaintRemoved", "MountTargetGone"] {
            assert!(before.iter().all(|(other, _)| *other != name), "{name} is no node's warning");
        }
        for _ in 0..2 {
            troubles.clone().count(Reason::AccessDenied);
        }
        let after = troubles.all();
        assert_eq!(after.iter().find(|(name, _)| *name == "AccessDenied").unwrap().1, 2);
        assert_eq!(after.iter().map(|(_, count)| count).sum::<u64>(), 2);
    }
}
