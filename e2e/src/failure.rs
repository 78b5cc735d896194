//! Why a test or the demo cannot go on: one sentence for a person.

use std::error::Error;
use std::fmt;

use alinas_csi::runtime::chain::Chain;

/// A sentence. Every error turns into one, with its sources.
pub struct Failure(String);

/// What everything in this crate answers.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Says what failed.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// Tests return `Result`, and libtest prints it by Debug.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// As in the crate anyhow, `Failure` is no `Error` itself; that makes this blanket possible.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Chain(&error).to_string())
    }
}

/// Fails with a sentence unless a condition holds; unlike `assert!` it lets a test answer [`Result`].
///
/// # Errors
/// The sentence.
pub fn ensure(condition: bool, sentence: impl Into<String>) -> Result<()> {
    if condition { Ok(()) } else { Err(Failure::new(sentence)) }
}

/// Says what was being done when an error came up.
pub trait During<T> {
    /// Puts `what` before the error.
    ///
    /// # Errors
    /// The same error, with more words.
    fn during(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Failure>> During<T> for Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{what}: {}", error.into())))
    }
}
