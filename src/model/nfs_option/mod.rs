//! The text mount options: one table, a strict grammar, typed options out.
//!
//! [`OPTIONS`] is the one table of them: the parser, the documents and `explain` read it. The defaults are
//! those of the vendor's own client. Knows nothing of sockets: what the tunnel decides (`addr`, `port`, …) is
//! refused here and added by [`crate::nfs`].
//!
//! Read [`MountOptions::parse`] first.

mod parse;
mod row;
mod table;
mod word;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

pub use parse::Note;
pub use parse::OptionError;
pub use row::Consumer;
pub use row::NfsOption;
pub use row::Preset;
pub use row::ValueKind;
pub use row::Versions;
pub use row::Words;
pub use table::OPTIONS;
pub use word::Family;
pub use word::NetId;
pub use word::NfsVersion;
pub use word::Transport;
pub use word::VersionWish;

/// The longest option text that is accepted, in bytes. A page (4096) is what mount(2) takes and silently cuts
/// off behind; the rest of it is for the defaults and for what the tunnel adds.
pub const LONGEST_TEXT: usize = 3500;

/// The options of one mount, parsed and checked. What holds anyway is not kept, so that two texts that mean
/// the same are equal and have the same canonical text ([`fmt::Display`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    version: NfsVersion,
    /// By the place of the option in [`OPTIONS`].
    settings: BTreeMap<usize, Setting>,
}

/// What the user said for one option, in its canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    key: &'static str,
    value: Option<String>,
}

impl MountOptions {
    /// Reads option texts in their order; of several values for a key the last one wins.
    ///
    /// # Errors
    /// Names the option, what is wrong with it, and the nearest known one.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, OptionError> {
        Self::parse_with_notes(texts).map(|(options, _)| options)
    }

    /// As [`Self::parse`]; also says which options have no effect, and why.
    ///
    /// # Errors
    /// Names the option, what is wrong with it, and the nearest known one.
    pub fn parse_with_notes<'a>(
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<(Self, Vec<Note>), OptionError> {
        parse::parse(texts)
    }

    /// The NFS version.
    #[must_use]
    pub fn version(&self) -> NfsVersion {
        self.version
    }

    /// Whether the mount is to be read-only.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.settings.values().any(|setting| setting.key == "ro")
    }

    /// The attributes of the mount that differ from the kernel's defaults: `ro`, `nosuid`, …
    #[must_use]
    pub fn attributes(&self) -> Vec<String> {
        self.given(Consumer::Attribute).map(|setting| setting.key.to_owned()).collect()
    }

    /// The address for the server's calls back, where the user chose one.
    #[must_use]
    pub fn client_address(&self) -> Option<IpAddr> {
        let setting = self.settings.values().find(|setting| setting.key == "clientaddr")?;
        setting.value.as_ref()?.parse().ok()
    }

    /// What the kernel's NFS client is told, in the order of the table: the user's options and our defaults,
    /// but neither the version nor anything about addresses.
    #[must_use]
    pub fn kernel_options(&self) -> Vec<(String, Option<String>)> {
        let for_kernel = |option: &NfsOption| {
            option.consumer == Consumer::Kernel && option.versions.include(self.version)
        };
        OPTIONS
            .iter()
            .enumerate()
            .filter(|(_, option)| for_kernel(option))
            .filter_map(|(place, option)| match self.settings.get(&place) {
                Some(setting) => Some((setting.key.to_owned(), setting.value.clone())),
                None => option.sent_by_default(),
            })
            .collect()
    }

    fn given(&self, consumer: Consumer) -> impl Iterator<Item = &Setting> {
        let of_consumer = move |place: &usize| {
            OPTIONS.get(*place).is_some_and(|option| option.consumer == consumer)
        };
        self.settings
            .iter()
            .filter(move |(place, _)| of_consumer(place))
            .map(|(_, setting)| setting)
    }
}

impl NfsOption {
    fn sent_by_default(&self) -> Option<(String, Option<String>)> {
        let Preset::Sent(text) = self.default else { return None };
        Some(match self.value {
            ValueKind::Number { .. } => (self.name.to_owned(), Some(text.to_owned())),
            _ => (text.to_owned(), None),
        })
    }
}

/// The canonical text: the version first, then what differs from the defaults, in the order of the table.
impl fmt::Display for MountOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vers={}", self.version)?;
        self.settings.values().try_for_each(|setting| write!(f, ",{setting}"))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => f.write_str(self.key),
            Some(value) if value.contains(',') => write!(f, "{}=\"{value}\"", self.key),
            Some(value) => write!(f, "{}={value}", self.key),
        }
    }
}

#[cfg(test)]
mod tests;
