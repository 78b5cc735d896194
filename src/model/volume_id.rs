//! Volume ids: a strict, versioned grammar, because an id is typed by people, kept in objects and turned into
//! paths.
//!
//! Two kinds are told apart by the first characters:
//!
//! - `v1:…` is made by our controller. Its parts follow its version's grammar.
//! - Anything else is a *handle*: the name that an administrator gave a static PersistentVolume.

use std::fmt;

/// CSI 1.13, "Size Limits for Fields": a string field carries at most 128 bytes.
const LONGEST: usize = 128;

/// A volume's id. At most 128 bytes of `A-Z a-z 0-9 . _ : / = + -`, no `..`, neither end a `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeId(String);

/// Why a text is no volume id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeIdError {
    /// Nothing was given.
    #[error("volume id is empty")]
    Empty,
    /// CSI allows 128 bytes.
    #[error("volume id has {0} bytes; at most {LONGEST} are allowed")]
    TooLong(usize),
    /// A character outside the grammar.
    #[error("volume id {id:?} holds {found:?}; only letters, digits and . _ : / = + - are allowed")]
    Character {
        /// What was given.
        id: String,
        /// The first character that does not belong.
        found: char,
    },
    /// `..`, `//`, or a slash at an end: nothing that could become another path.
    #[error("volume id {0:?} must not contain \"..\" or \"//\", nor begin or end with \"/\"")]
    PathLike(String),
    /// `v2:` and above, written by a later release.
    #[error(
        "volume id {0:?} was made by a later release of this driver; upgrade the driver to use it"
    )]
    Later(String),
}

impl VolumeId {
    /// Reads an id.
    ///
    /// # Errors
    /// Says which rule of the grammar the text breaks.
    pub fn parse(text: &str) -> Result<Self, VolumeIdError> {
        if text.is_empty() {
            return Err(VolumeIdError::Empty);
        }
        if text.len() > LONGEST {
            return Err(VolumeIdError::TooLong(text.len()));
        }
        if let Some(found) = text.chars().find(|character| !is_allowed(*character)) {
            return Err(VolumeIdError::Character { id: text.to_owned(), found });
        }
        if text.contains("..")
            || text.contains("//")
            || text.starts_with('/')
            || text.ends_with('/')
        {
            return Err(VolumeIdError::PathLike(text.to_owned()));
        }
        if is_later_version(text) {
            return Err(VolumeIdError::Later(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._:/=+-".contains(character)
}

fn is_later_version(text: &str) -> bool {
    text.strip_prefix('v').and_then(|rest| rest.split_once(':')).is_some_and(|(version, _)| {
        version != "1" && !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_of_both_kinds_are_read_back_as_they_were() {
        for text in
            ["fake-vol-id-0a1b2c3d4e", "v1:nas/dir/pvc-1", "my.volume_1=x+y", &"a".repeat(128)]
        {
            assert_eq!(VolumeId::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_could_become_another_path_is_refused() {
        for text in [
            "",
            "a/../b",
            "..",
            "/a",
            "a/",
            "a//b",
            "a b",
            "a\n",
            "ä",
            "a\\b",
            "v2:x",
            &"a".repeat(129),
        ] {
            assert!(VolumeId::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_accepted_id_leaves_its_directory(text in "\\PC{0,140}") {
            if let Ok(id) = VolumeId::parse(&text) {
                prop_assert!(id.as_str().split('/').all(|part| !part.is_empty() && part != ".."));
            }
        }
    }
}
