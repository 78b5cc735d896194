//! One operation at a time for each key.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The keys that an operation is under way for.
///
/// The lock inside is held only to insert or remove a key, never over an operation.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<HashSet<String>>>);

/// Another operation on the same key has not ended yet.
#[derive(Debug, thiserror::Error)]
#[error("another operation on volume {0:?} is still under way; it is safe to try again")]
pub struct Busy(String);

/// Holds a key until dropped: however the operation ends, the next one can begin.
pub struct Operation {
    key: String,
    all: InFlight,
}

impl InFlight {
    /// Begins an operation on `key`.
    ///
    /// # Errors
    /// [`Busy`] while another operation on `key` has not ended.
    pub fn begin(&self, key: &str) -> Result<Operation, Busy> {
        if self.keys().insert(key.to_owned()) {
            Ok(Operation { key: key.to_owned(), all: self.clone() })
        } else {
            Err(Busy(key.to_owned()))
        }
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.all.keys().remove(&self.key);
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operation").field(&self.key).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_operation_on_the_same_key_is_refused_until_the_first_ends() {
        let in_flight = InFlight::default();
        let first = in_flight.begin("vol").unwrap();
        assert!(in_flight.begin("vol").is_err());
        assert!(in_flight.begin("other").is_ok());
        drop(first);
        assert!(in_flight.begin("vol").is_ok());
    }
}
