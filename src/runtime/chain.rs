//! An error printed whole, once, at the edge.

use std::error::Error;
use std::fmt;

/// Shows an error and all its sources, joined by `: `.
///
/// A source whose text already ends the text before it is left out, so that nothing is said twice.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            next = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to mount at {0:?}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn an_error_is_shown_with_its_sources() {
        let error = Outer("/stage/a", std::io::Error::other("access denied by server"));
        assert_eq!(
            Chain(&error).to_string(),
            "failed to mount at \"/stage/a\": access denied by server"
        );
    }

    #[test]
    fn a_source_that_was_said_already_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed: {0}")]
        struct Repeats(#[source] std::io::Error);
        assert_eq!(Chain(&Repeats(std::io::Error::other("gone"))).to_string(), "failed: gone");
    }
}
