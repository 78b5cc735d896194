//! What a row of the option table can say.
//!
//! Start with [`NfsOption`]; the rows themselves are in [`super::table`].

use super::NfsVersion;
use super::VersionWish;

/// Whose rules hold for a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rules {
    /// The kernel connects to a tunnel of ours; defaults are those of the vendor's own client.
    #[default]
    Tunnel,
    /// The kernel connects to the server, as with mount.nfs; defaults are the kernel's.
    Direct,
}

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
    /// What it means through the tunnel.
    pub tunnel: Meaning,
    /// What it means for a plain NFS mount.
    pub direct: Meaning,
    /// What it does, in one sentence.
    pub help: &'static str,
}

/// What an option means under one set of rules.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// Who acts on it.
    pub consumer: Consumer,
    /// What holds where the user says nothing.
    pub default: Preset,
    /// The words of its value that Linux knows and we refuse.
    pub refused_words: &'static [&'static str],
    /// Why we do.
    pub why_refused: &'static str,
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
    OneOf(&'static [&'static str]),
    /// One word behind the key, or one of the bare words in its place: `proto=tcp6`, `tcp`.
    OneOfOrBare {
        /// Behind the key.
        words: &'static [&'static str],
        /// Alone.
        bare: &'static [&'static str],
    },
    /// Words joined by colons.
    ListOf(&'static [&'static str]),
    /// As a switch, or with one word: `rdirplus`, `nordirplus`, `rdirplus=force`.
    SwitchOrOneOf {
        /// The contrary.
        off: &'static str,
        /// The words.
        words: &'static [&'static str],
    },
    /// As a switch, or with a text: `fsc`, `nofsc`, `fsc=name`.
    SwitchOrText {
        /// The contrary.
        off: &'static str,
    },
    /// Any text; in double quotes where it holds a comma.
    Text,
    /// A name or an address, at most 255 bytes.
    Host,
    /// An IPv4 or IPv6 address.
    Address,
    /// An NFS version.
    Version,
    /// A value or none: nobody reads it.
    Anything,
}

/// The NFS versions that an option says something to. For the others it is left out of the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// All.
    Any,
    /// 3 only.
    V3,
    /// 4.0, 4.1 and 4.2.
    V4,
    /// 4.0 only.
    V40,
    /// 4.1 and 4.2.
    V41,
}

/// Who acts on an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// The kernel's NFS client.
    Kernel,
    /// The kernel's virtual file system, for this mount alone.
    Attribute,
    /// This driver: it never reaches the kernel as it is written.
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
    /// What this driver does by itself.
    Driver(&'static str),
    /// What this driver tells the kernel, after the vendor's own client.
    Sent(&'static str),
    /// What cannot be said in one value; only shown to people.
    Depends(&'static str),
}

impl NfsOption {
    /// What the option means under these rules.
    #[must_use]
    pub fn under(&self, rules: Rules) -> &Meaning {
        match rules {
            Rules::Tunnel => &self.tunnel,
            Rules::Direct => &self.direct,
        }
    }

    /// Every word that selects this option.
    pub fn spellings(&self) -> impl Iterator<Item = &'static str> {
        let more = self.value.bare_words();
        let name = (!more.contains(&self.name)).then_some(self.name);
        let off = self.value.off();
        name.into_iter().chain(off).chain(more.iter().copied()).chain(self.aliases.iter().copied())
    }

    /// What a value may be: the end of "expected …".
    #[must_use]
    pub fn expected(&self, rules: Rules) -> String {
        match self.value {
            ValueKind::Flag | ValueKind::Switch { .. } | ValueKind::Choice(_) => {
                "no value".to_owned()
            }
            ValueKind::Number { least, most } if least == most => least.to_string(),
            ValueKind::Number { least, most } => {
                format!("a decimal number from {least} to {most}")
            }
            ValueKind::OneOf(words) | ValueKind::OneOfOrBare { words, .. } => {
                self.accepted(words, rules)
            }
            ValueKind::ListOf(words) => {
                format!("{}, several joined by \":\"", self.accepted(words, rules))
            }
            ValueKind::SwitchOrOneOf { words, .. } => {
                format!("no value, {}", self.accepted(words, rules))
            }
            ValueKind::SwitchOrText { .. } => "no value, or a text".to_owned(),
            ValueKind::Text => "a text, in double quotes where it holds a comma".to_owned(),
            ValueKind::Host => "a name or an address".to_owned(),
            ValueKind::Address => "an IPv4 or IPv6 address".to_owned(),
            ValueKind::Version => self.accepted(rules.versions(), rules),
            ValueKind::Anything => "anything".to_owned(),
        }
    }

    fn accepted(&self, words: &[&'static str], rules: Rules) -> String {
        let refused = self.under(rules).refused_words;
        let accepted: Vec<_> =
            words.iter().copied().filter(|word| !refused.contains(word)).collect();
        match accepted.as_slice() {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            words => words.concat(),
        }
    }
}

impl Meaning {
    /// Whether `text`, a bare word or a value, says what holds anyway.
    pub(super) fn holds_anyway(&self, text: &str) -> bool {
        match self.default {
            Preset::Kernel(preset) | Preset::Driver(preset) | Preset::Sent(preset) => {
                preset == text
            }
            Preset::None | Preset::Depends(_) => false,
        }
    }
}

impl Rules {
    /// The values of `vers` that can be had.
    #[must_use]
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Tunnel => &["3", "4.0"],
            Self::Direct => &["3", "4", "4.0", "4.1", "4.2"],
        }
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

    /// The words that stand alone, each for itself.
    pub(super) fn bare_words(&self) -> &'static [&'static str] {
        match *self {
            Self::Choice(words) | Self::OneOfOrBare { bare: words, .. } => words,
            _ => &[],
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
            Self::V40 => version == NfsVersion::V40,
            Self::V41 => matches!(version, NfsVersion::V41 | NfsVersion::V42),
        }
    }

    /// Whether the option says something to a version that may come of this wish.
    #[must_use]
    pub fn include_any(self, wish: VersionWish) -> bool {
        match wish {
            VersionWish::Open => true,
            VersionWish::AnyMinor => self != Self::V3,
            VersionWish::Exactly(version) => self.include(version),
        }
    }
}
