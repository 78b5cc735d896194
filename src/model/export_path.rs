//! The directory of a mount target that a volume lives in.

use std::fmt;

/// The longest path that an NFSv3 MOUNT call carries (MNTPATHLEN, RFC 1813 section 5.1.1).
const LONGEST: usize = 1024;

/// An absolute path on the server, normalised: one `/` between parts, none at the end, no `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExportPath(String);

/// Why a text is no export path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportPathError {
    /// It does not begin with a slash.
    #[error("path {0:?} must begin with \"/\"")]
    Relative(String),
    /// It holds `..`, by which it could leave the directory that it names.
    #[error("path {0:?} must not contain \"..\" or \".\"")]
    Climbs(String),
    /// Longer than NFSv3 carries.
    #[error("the path has {0} bytes; NFSv3 carries at most {LONGEST}")]
    TooLong(usize),
    /// A NUL, a line end or another control character.
    #[error("path {0:?} holds a control character")]
    Control(String),
}

impl ExportPath {
    /// Reads a path; the empty text means `/`.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, ExportPathError> {
        if text.is_empty() {
            return Ok(Self("/".to_owned()));
        }
        if !text.starts_with('/') {
            return Err(ExportPathError::Relative(text.to_owned()));
        }
        if text.chars().any(char::is_control) {
            return Err(ExportPathError::Control(text.to_owned()));
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(ExportPathError::Climbs(text.to_owned()));
        }
        let normal = format!("/{}", parts.join("/"));
        if normal.len() > LONGEST {
            return Err(ExportPathError::TooLong(normal.len()));
        }
        Ok(Self(normal))
    }

    /// `/`, the whole file system.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExportPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        for (text, normal) in
            [("", "/"), ("/", "/"), ("//a//b/", "/a/b"), ("/a b&c", "/a b&c"), ("/ä,=\"", "/ä,=\"")]
        {
            assert_eq!(ExportPath::parse(text).unwrap().as_str(), normal, "{text:?}");
        }
    }

    #[test]
    fn a_path_that_is_relative_climbs_or_hides_something_is_refused() {
        let long = format!("/{}", "a".repeat(1024));
        for text in ["a", "/a/../b", "/..", "/./a", "/a\nb", "/a\0", long.as_str()] {
            assert!(ExportPath::parse(text).is_err(), "{text:?}");
        }
    }
}
