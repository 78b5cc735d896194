//! What is said about options that cannot be used, and about those that do not do what they say.

use std::borrow::Cow;
use std::fmt;

use super::LONGEST_TEXT;
use super::NfsOption;
use super::OPTIONS;
use super::VersionWish;
use crate::model::nearest::did_you_mean;

/// Why an option text cannot be used.
///
/// An unknown option is named without its value: it may be a secret in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The texts are longer than a mount can carry.
    #[error("the mount options have {0} bytes; at most {LONGEST_TEXT} are accepted")]
    TooLong(usize),
    /// A control character, which could forge a line of a log.
    #[error("the mount options {0:?} hold a control character")]
    Control(String),
    /// A double quote elsewhere than around a whole value.
    #[error("mount option {0:?}: double quotes must enclose a whole value, as in key=\"a,b\"")]
    Quote(String),
    /// A key that we do not know; a slip of the hand must not mean "default".
    #[error("unknown mount option {0:?}{hint}", hint = did_you_mean(.0, spellings()))]
    Unknown(String),
    /// A key that we know and do not accept.
    #[error("mount option {option:?} is refused: {reason}")]
    Refused {
        /// The option.
        option: String,
        /// Why.
        reason: &'static str,
    },
    /// A value outside of what the option takes.
    #[error("mount option {key:?} is {value:?}; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        expected: String,
    },
    /// A key that needs a value, without one.
    #[error("mount option {key:?} needs a value; expected {expected}")]
    ValueMissing {
        /// The key.
        key: &'static str,
        /// What would do.
        expected: String,
    },
    /// Two versions.
    #[error("the mount options ask for two NFS versions, {0} and {1}; give one")]
    TwoVersions(VersionWish, VersionWish),
    /// A version that Linux knows, or once knew.
    #[error("NFS version {version} cannot be had: {reason}")]
    VersionNotOffered {
        /// The version.
        version: String,
        /// Why.
        reason: &'static str,
    },
    /// Two options that exclude each other.
    #[error("mount options: {0}")]
    Contradiction(String),
}

/// An option that was accepted and does not do all that it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The option, without its value.
    pub option: String,
    /// What it does.
    pub effect: Effect,
    /// Why.
    pub why: Cow<'static, str>,
}

/// What an option does that a [`Note`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// As much as this value would.
    As(String),
    /// What it says; the note is a warning.
    Whole,
    /// Nothing, and something else holds instead: the note is a warning.
    Overruled,
}

impl Note {
    pub(super) fn no_effect(option: &str, why: &'static str) -> Self {
        Self { option: option.to_owned(), effect: Effect::None, why: why.into() }
    }

    pub(super) fn overruled(option: &str, why: &'static str) -> Self {
        Self { option: option.to_owned(), effect: Effect::Overruled, why: why.into() }
    }

    pub(super) fn warning(option: &str, why: &'static str) -> Self {
        Self { option: option.to_owned(), effect: Effect::Whole, why: why.into() }
    }

    pub(super) fn limited(option: &str, to: u64, why: impl Into<Cow<'static, str>>) -> Self {
        Self { option: option.to_owned(), effect: Effect::As(to.to_string()), why: why.into() }
    }
}

impl Note {
    /// Whether the user may get something else than what was asked for. Else it is about an option that Linux has
    /// no use for, or that another one makes superfluous.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        match self.effect {
            Effect::None => false,
            Effect::As(_) | Effect::Whole | Effect::Overruled => true,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, effect, why } = self;
        match effect {
            Effect::None => write!(f, "mount option {option:?} has no effect: {why}"),
            Effect::As(value) => write!(f, "mount option {option:?} acts as {value}: {why}"),
            Effect::Whole => write!(f, "mount option {option:?}: {why}"),
            Effect::Overruled => {
                write!(f, "mount option {option:?} is not taken from the user: {why}")
            }
        }
    }
}

/// Every word that selects an option.
pub(super) fn spellings() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().flat_map(NfsOption::spellings).filter(|spelling| !spelling.ends_with('*'))
}
