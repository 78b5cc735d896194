//! What an operator should know of a node that is no error by itself. Each is logged once, and listed from then on.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Sentences, each once.
#[derive(Debug, Default)]
pub struct Notices(Mutex<BTreeSet<String>>);

impl Notices {
    /// Says it, unless it was said before.
    pub fn say(&self, notice: String) {
        let mut said = self.said();
        if !said.contains(&notice) {
            tracing::warn!("{notice}");
            said.insert(notice);
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.said().iter().cloned().collect()
    }

    fn said(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notice_is_kept_once() {
        let notices = Notices::default();
        for notice in ["b", "a", "b"] {
            notices.say(notice.to_owned());
        }
        assert_eq!(notices.all(), ["a", "b"]);
    }
}
