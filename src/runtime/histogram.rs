//! How long things took: a histogram, and several that are told apart by a key.
//!
//! The lock inside is held to add a number or to copy all of them, never over what is measured.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// The bounds of what a caller waits for: from a look at memory to the longest deadline of a call.
pub const CALLS: [Duration; 12] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
];

/// The bounds of what happens on the network: from a server next door to one that is given up.
pub const NETWORK: [Duration; 11] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// How many took how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// For each bound, how many took that long at most, and longer than the bound before.
    pub buckets: Vec<(Duration, u64)>,
    /// How many took longer than the last bound.
    pub longer: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Histogram {
    /// Without any. `bounds` ascend.
    #[must_use]
    pub fn new(bounds: &[Duration]) -> Self {
        let buckets = bounds.iter().map(|bound| (*bound, 0)).collect();
        Self { buckets, longer: 0, sum: Duration::ZERO }
    }

    /// Adds one.
    pub fn observe(&mut self, took: Duration) {
        match self.buckets.iter_mut().find(|(bound, _)| took <= *bound) {
            Some((_, count)) => *count += 1,
            None => self.longer += 1,
        }
        self.sum = self.sum.saturating_add(took);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.longer
    }
}

/// Histograms of one thing, by what tells them apart. A clone is the same. Whoever names the keys sees to it that
/// they are few.
#[derive(Clone)]
pub struct Histograms<K> {
    bounds: &'static [Duration],
    all: Arc<Mutex<BTreeMap<K, Histogram>>>,
}

impl<K: Ord + Clone> Histograms<K> {
    /// Without any. `bounds` ascend.
    #[must_use]
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self { bounds, all: Arc::default() }
    }

    /// Adds one to those of `key`.
    pub fn observe(&self, key: K, took: Duration) {
        let mut all = self.lock();
        all.entry(key).or_insert_with(|| Histogram::new(self.bounds)).observe(took);
    }

    /// Those that have any, in the order of their keys.
    #[must_use]
    pub fn all(&self) -> Vec<(K, Histogram)> {
        self.lock().iter().map(|(key, histogram)| (key.clone(), histogram.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Histogram>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> fmt::Debug for Histograms<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histograms").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once_below_the_first_bound_that_it_does_not_pass() {
        let bounds = [1, 10].map(Duration::from_secs);
        let mut histogram = Histogram::new(&bounds);
        for seconds in [0, 1, 2, 10, 11, 500] {
            histogram.observe(Duration::from_secs(seconds));
        }
        let [one, ten] = bounds;
        assert_eq!(histogram.buckets, [(one, 2), (ten, 2)]);
        assert_eq!((histogram.longer, histogram.count()), (2, 6));
        assert_eq!(histogram.sum, Duration::from_secs(524));
    }

    #[test]
    fn keys_are_counted_apart_and_clones_together() {
        let histograms = Histograms::new(&CALLS);
        histograms.observe("b", Duration::from_secs(1));
        histograms.clone().observe("a", Duration::from_secs(1));
        histograms.observe("b", Duration::from_secs(2));
        let counts: Vec<_> =
            histograms.all().iter().map(|(key, histogram)| (*key, histogram.count())).collect();
        assert_eq!(counts, [("a", 1), ("b", 2)]);
    }

    #[test]
    fn bounds_ascend() {
        assert!(CALLS.is_sorted() && NETWORK.is_sorted());
    }
}
