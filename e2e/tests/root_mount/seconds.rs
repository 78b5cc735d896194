//! How long each test took, for whoever wants the whole to be quicker.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Shows the slowest ten, and what all took one after the other.
#[derive(Debug)]
pub(crate) struct Seconds {
    start: Instant,
    each: Mutex<Vec<(Duration, String)>>,
}

impl Default for Seconds {
    fn default() -> Self {
        Self { start: Instant::now(), each: Mutex::default() }
    }
}

impl Seconds {
    pub(crate) fn measure<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        let took = (start.elapsed(), name.to_owned());
        self.each.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        result
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner).clone();
        each.sort();
        let sum: Duration = each.iter().map(|(took, _)| *took).sum();
        let (sum, whole) = (sum.as_secs(), self.start.elapsed().as_secs());
        writeln!(f, "{} tests of {sum} s in {whole} s; the slowest:", each.len())?;
        let shown =
            if std::env::var_os("ALINAS_CSI_ALL_SECONDS").is_some() { each.len() } else { SHOWN };
        each.iter()
            .rev()
            .take(shown)
            .try_for_each(|(took, name)| writeln!(f, "{:7.1} s  {name}", took.as_secs_f32()))
    }
}
