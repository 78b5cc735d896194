//! What goes wrong on purpose.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, but later.
    Delay(Duration),
    /// The connection ends before anything is done.
    Drop,
    /// It is done, and the connection ends before the answer.
    DropAnswer,
    /// Nothing is done, and this is the answer.
    Refuse {
        /// Of HTTP.
        status: u16,
        /// Of the API.
        code: String,
    },
}

impl Fault {
    /// Too often.
    #[must_use]
    pub fn throttled() -> Self {
        Self::Refuse { status: 400, code: "Throttling.User".to_owned() }
    }

    /// The service has a bad moment.
    #[must_use]
    pub fn trouble() -> Self {
        Self::Refuse { status: 500, code: "InternalError".to_owned() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults(HashMap<String, VecDeque<Fault>>);

impl Faults {
    pub(super) fn add(&mut self, action: &str, times: u32, fault: Fault) {
        let faults = self.0.entry(action.to_owned()).or_default();
        faults.extend((0..times).map(|_| fault.clone()));
    }

    pub(super) fn next(&mut self, action: &str) -> Option<Fault> {
        self.0.get_mut(action)?.pop_front()
    }
}
