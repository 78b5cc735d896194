//! The name of one entry of a directory: the only thing that is ever looked up.

use std::fmt;

/// POSIX, NAME_MAX; what NFS servers keep to.
const LONGEST: usize = 255;

/// One component of a path: not empty, not `.` or `..`, no `/`, no NUL, at most 255 bytes. Not always UTF-8: a
/// server may show any other bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

/// Why something is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name must not be empty")]
    Empty,
    /// It is longer than file systems take.
    #[error("the name {0:?} is longer than {LONGEST} bytes")]
    TooLong(String),
    /// It would lead elsewhere.
    #[error("the name {0:?} must not be \".\" or \"..\" nor hold \"/\" or a control character")]
    Leads(String),
}

impl Name {
    /// Reads a name that we give to something: no control character either.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.chars().any(char::is_control) {
            return Err(NameError::Leads(text.to_owned()));
        }
        Self::shown(text.as_bytes())
    }

    /// Reads a name that a server shows.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn shown(bytes: &[u8]) -> Result<Self, NameError> {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match bytes {
            b"" => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Leads(text())),
            _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(NameError::Leads(text())),
            _ if bytes.len() > LONGEST => Err(NameError::TooLong(text())),
            _ => Ok(Self(bytes.to_owned())),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_stays_in_its_directory() {
        for text in ["", ".", "..", "a/b", "/", "a\0", "a\n", &"a".repeat(256)] {
            assert!(Name::parse(text).is_err(), "{text:?}");
        }
        for text in ["a", "...", ".a", "ä b", &"a".repeat(255)] {
            assert_eq!(Name::parse(text).unwrap().as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn what_a_server_shows_may_be_any_bytes() {
        assert_eq!(Name::shown(b"\xff\n").unwrap().as_bytes(), b"\xff\n");
    }

    proptest! {
        #[test]
        fn no_name_leads_elsewhere(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(name) = Name::shown(&bytes) {
                prop_assert!(!name.as_bytes().contains(&b'/') && !name.as_bytes().contains(&0));
                prop_assert!(name.as_bytes() != b"." && name.as_bytes() != b"..");
                prop_assert_eq!(name.as_bytes(), &bytes[..]);
            }
        }
    }
}
