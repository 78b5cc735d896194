//! Names that go to and fro: file systems, tokens, tags.

use std::fmt;

use serde::Deserialize;

/// Why a text is no such name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not as the vendor makes them.
    #[error(
        "{0:?} is no id of a file system: write letters, digits and hyphens, like 31a8e4 or extreme-0015"
    )]
    FileSystem(String),
    /// Longer than 64 characters, or none.
    #[error("{0:?} is no client token: it has 1 to 64 printable ASCII characters")]
    ClientToken(String),
    /// Against the vendor's rules.
    #[error("tag {key:?}={value:?} is not allowed: {why}")]
    Tag {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// Which rule.
        why: &'static str,
    },
}

/// `31a8e4`, `extreme-0015`. Never empty: a call without an id is about whichever file system comes first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct FileSystemId(String);

impl FileSystemId {
    /// Reads one.
    ///
    /// # Errors
    /// When it has other characters than the vendor's ids.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fits = |one: char| one.is_ascii_alphanumeric() || one == '-';
        if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
            return Err(IdError::FileSystem(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// As the API writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FileSystemId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl fmt::Display for FileSystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// By this the service knows a call that was made before. At most 64 ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientToken(String);

impl ClientToken {
    /// Reads one.
    ///
    /// # Errors
    /// When the service would not take it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > 64 || !text.chars().all(|one| one.is_ascii_graphic()) {
            return Err(IdError::ClientToken(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key and a value on a thing of the vendor's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

impl Tag {
    /// Checks a tag that is to be set.
    ///
    /// # Errors
    /// Says which rule of the vendor's it breaks.
    pub fn parse(key: &str, value: &str) -> Result<Self, IdError> {
        let refused = |why| IdError::Tag { key: key.to_owned(), value: value.to_owned(), why };
        for text in [key, value] {
            if !(1..=128).contains(&text.chars().count()) {
                return Err(refused("key and value have 1 to 128 characters"));
            }
            if text.starts_with("aliyun") || text.starts_with("acs:") {
                return Err(refused("what begins with aliyun or acs: is the vendor's own"));
            }
            if text.contains("http://") || text.contains("https://") {
                return Err(refused("it must not have a URL in it"));
            }
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }

    /// What it says something about.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it says.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_would_refuse_or_misunderstand_is_refused_before() {
        for wrong in ["", "a b", "../x", "é", &"a".repeat(65)] {
            assert!(FileSystemId::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(FileSystemId::parse("extreme-0015").unwrap().as_str(), "extreme-0015");
        for wrong in ["", "a b", "é", &"a".repeat(65)] {
            assert!(ClientToken::parse(wrong).is_err(), "{wrong:?}");
        }
        let long = "a".repeat(129);
        for (key, value) in [
            ("", "v"),
            ("k", ""),
            (long.as_str(), "v"),
            ("aliyun-k", "v"),
            ("acs:k", "v"),
            ("k", "see http://x"),
        ] {
            assert!(Tag::parse(key, value).is_err(), "{key:?} {value:?}");
        }
        assert!(Tag::parse("ack.aliyun.com", "c0ffee").is_ok());
    }
}
