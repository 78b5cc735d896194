//! What a series says at a moment.

use std::time::Duration;

use crate::runtime::Histogram;

/// The value of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    /// Shown in seconds.
    Time(Duration),
    Histogram(Histogram),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Number(value.into())
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Self::Time(value)
    }
}

impl From<Histogram> for Value {
    fn from(value: Histogram) -> Self {
        Self::Histogram(value)
    }
}

/// Values of the labels, in order, and the value.
pub(super) type Samples = Vec<(Vec<String>, Value)>;

/// Those of calls, by method and code.
pub(super) fn of_calls(calls: &[((&'static str, &'static str), Histogram)]) -> Samples {
    let calls = calls.iter().cloned();
    calls
        .map(|((method, code), all)| (vec![method.to_owned(), code.to_owned()], all.into()))
        .collect()
}

/// The one series of a family without labels.
pub(super) fn only(value: impl Into<Value>) -> Samples {
    vec![(vec![], value.into())]
}
