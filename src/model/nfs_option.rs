//! The text mount options: one table, a strict grammar, typed options out.

use std::fmt;

/// The options of one mount, parsed, checked and in canonical order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {}

/// Why an option text cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {}

impl MountOptions {
    /// Reads option texts in their order; of several values for a key the last one wins.
    ///
    /// # Errors
    /// Names the option, what is wrong with it, and the nearest known one.
    pub fn parse<'a>(_texts: impl IntoIterator<Item = &'a str>) -> Result<Self, OptionError> {
        Ok(Self::default())
    }
}

impl fmt::Display for MountOptions {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
