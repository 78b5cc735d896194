//! What a row of the option table can say.
//!
//! Start with [`NfsOption`]; the rows themselves are in [`super::table`].

use std::fmt;

use super::NfsVersion;

/// One mount option: a row of [`super::OPTIONS`].
#[derive(Debug)]
pub struct NfsOption {
    /// The key as it is documented. A `*` at its end stands for anything.
    pub name: &'static str,
    /// Other spellings of the same option.
    pub aliases: &'static [&'static str],
    /// What may stand behind the key.
    pub value: ValueKind,
    /// The NFS versions that it says something to.
    pub versions: Versions,
    /// Who acts on it.
    pub consumer: Consumer,
    /// What holds where the user says nothing.
    pub default: Preset,
    /// What it does, in one sentence.
    pub help: &'static str,
}

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// Nothing: `sloppy`.
    Flag,
    /// Nothing, and another word for the contrary: `ac`, `noac`; `ro`, `rw`.
    Switch {
        /// The contrary.
        off: &'static str,
    },
    /// Nothing; these words exclude each other: `hard`, `soft`, `softerr`.
    Choice(&'static [&'static str]),
    /// A decimal number, its bounds included.
    Number {
        /// The lower bound.
        least: u64,
        /// The upper bound.
        most: u64,
    },
    /// One word.
    OneOf(Words),
    /// Words joined by colons.
    ListOf(Words),
    /// As a switch, or with one word: `rdirplus`, `nordirplus`, `rdirplus=force`.
    SwitchOrOneOf {
        /// The contrary.
        off: &'static str,
        /// The words.
        words: Words,
    },
    /// As a switch, or with a text: `fsc`, `nofsc`, `fsc=name`.
    SwitchOrText {
        /// The contrary.
        off: &'static str,
    },
    /// Any text; in double quotes where it holds a comma.
    Text,
    /// An IPv4 or IPv6 address.
    Address,
    /// An NFS version.
    Version,
    /// A value or none: nobody reads it.
    Anything,
}

/// The words that an option takes.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// What can be said.
    pub known: &'static [&'static str],
    /// What Linux knows and this driver refuses.
    pub refused: &'static [&'static str],
    /// Why it does.
    pub why: &'static str,
}

/// The NFS versions that an option says something to. For the others it is left out of the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// All.
    Any,
    /// 3 only.
    V3,
    /// 4.0 only.
    V4,
}

/// Who acts on an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// The kernel's NFS client.
    Kernel,
    /// The kernel's virtual file system, for this mount alone.
    Attribute,
    /// This driver.
    Driver,
    /// Nobody: accepted, because it does no harm, for the reason given.
    Ignored(&'static str),
    /// Nobody: refused, for the reason given.
    Refused(&'static str),
}

/// What holds where the user says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Nothing in particular.
    None,
    /// What the kernel does by itself.
    Kernel(&'static str),
    /// What this driver tells the kernel, after the vendor's own client.
    Sent(&'static str),
}

impl NfsOption {
    /// Every word that selects this option.
    pub fn spellings(&self) -> impl Iterator<Item = &'static str> {
        let more: &'static [&'static str] = match self.value {
            ValueKind::Choice(words) => words,
            _ => &[],
        };
        let name = (!more.contains(&self.name)).then_some(self.name);
        let off = self.value.off();
        name.into_iter().chain(off).chain(more.iter().copied()).chain(self.aliases.iter().copied())
    }

    /// Whether `key` is a spelling of this option.
    #[must_use]
    pub fn answers_to(&self, key: &str) -> bool {
        self.spellings().any(|spelling| match spelling.strip_suffix('*') {
            Some(front) => key.starts_with(front),
            None => key == spelling,
        })
    }

    /// Whether `text`, a bare word or a value, says what holds anyway.
    pub(super) fn holds_anyway(&self, text: &str) -> bool {
        matches!(self.default, Preset::Kernel(preset) | Preset::Sent(preset) if preset == text)
    }
}

impl ValueKind {
    pub(super) fn off(&self) -> Option<&'static str> {
        match *self {
            Self::Switch { off } | Self::SwitchOrOneOf { off, .. } | Self::SwitchOrText { off } => {
                Some(off)
            }
            _ => None,
        }
    }
}

impl Versions {
    /// Whether the option says something to this version.
    #[must_use]
    pub fn include(self, version: NfsVersion) -> bool {
        match self {
            Self::Any => true,
            Self::V3 => version == NfsVersion::V3,
            Self::V4 => version.is_4(),
        }
    }
}

/// The end of "expected …".
impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag | Self::Switch { .. } | Self::Choice(_) => f.write_str("no value"),
            Self::Number { least, most } if least == most => write!(f, "{least}"),
            Self::Number { least, most } => write!(f, "a decimal number from {least} to {most}"),
            Self::OneOf(words) => words.fmt(f),
            Self::ListOf(words) => write!(f, "{words}, several joined by \":\""),
            Self::SwitchOrOneOf { words, .. } => write!(f, "no value, {words}"),
            Self::SwitchOrText { .. } => f.write_str("no value, or a text"),
            Self::Text => f.write_str("a text, in double quotes where it holds a comma"),
            Self::Address => f.write_str("an IPv4 or IPv6 address"),
            Self::Version => f.write_str("3 or 4.0"),
            Self::Anything => f.write_str("anything"),
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.known.join(" or "))
    }
}
