//! A zone of a region: where a node is, and where a mount target is.

use std::fmt;

/// The longest value of a label of Kubernetes, which a zone becomes.
const LONGEST: usize = 63;

/// `cn-hangzhou-b`. It is the value of a label, so it has at most 63 letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(String);

/// A text is no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no zone: write its id, like cn-hangzhou-b, of at most 63 letters, digits, \"-\", \"_\" and \".\""
)]
pub struct ZoneError(String);

impl Zone {
    /// Reads a zone's id.
    ///
    /// # Errors
    /// When it cannot be a label's value.
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        let is_outer = |one: Option<char>| one.is_some_and(|one| one.is_ascii_alphanumeric());
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_zone = text.len() <= LONGEST
            && text.bytes().all(is_inner)
            && is_outer(text.chars().next())
            && is_outer(text.chars().next_back());
        if is_zone { Ok(Self(text.to_owned())) } else { Err(ZoneError(text.to_owned())) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_the_value_of_a_label() {
        for text in ["cn-hangzhou-b", "a", "rack_1.row-2", &"z".repeat(63)] {
            assert_eq!(Zone::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "-a", "a-", "a b", "a/b", "ä", &"z".repeat(64)] {
            Zone::parse(text).unwrap_err();
        }
    }
}
