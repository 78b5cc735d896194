//! From option texts to [`MountOptions`].
//!
//! The grammar is that of mount(8), without its leniency: options are separated by commas, a value stands
//! behind the first `=` and may be in double quotes, numbers are decimal. (mount.nfs reads `port=20x` as 20,
//! and the kernel reads `rsize=010` as 8.)
//!
//! Here each option is read for itself; what they say together is looked at in [`super::check`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Consumer;
use super::LONGEST_TEXT;
use super::MountOptions;
use super::NfsOption;
use super::NfsVersion;
use super::Note;
use super::OptionError;
use super::Rules;
use super::Setting;
use super::ValueKind;
use super::VersionWish;
use super::check;
use super::place;

/// The longest name of a host, in bytes (RFC 1035 section 2.3.4).
const LONGEST_HOST: usize = 255;

pub(super) fn parse<'a>(
    rules: Rules,
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<(MountOptions, Vec<Note>), OptionError> {
    let mut reading = Reading::new(rules);
    let mut length = 0;
    for text in texts {
        length += text.len() + 1;
        if length > LONGEST_TEXT {
            return Err(OptionError::TooLong(length));
        }
        if text.chars().any(char::is_control) {
            return Err(OptionError::Control(text.to_owned()));
        }
        for option in split(text).filter(|option| !option.is_empty()) {
            reading.take(option)?;
        }
    }
    check::check(reading)
}

/// Splits at the commas that stand outside of double quotes.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    })
}

/// The key of an option, whatever its value is.
pub(super) fn key_of(option: &str) -> &str {
    option.split('=').next().unwrap_or_default()
}

/// What has been read so far.
pub(super) struct Reading {
    pub(super) rules: Rules,
    pub(super) version: Option<VersionWish>,
    pub(super) settings: BTreeMap<usize, Setting>,
    /// In the order of the text, without values; an error unless `sloppy` stands anywhere.
    pub(super) unknown: Vec<String>,
    pub(super) notes: Vec<Note>,
}

impl Reading {
    fn new(rules: Rules) -> Self {
        let (settings, unknown, notes) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { rules, version: None, settings, unknown, notes }
    }

    fn take(&mut self, text: &str) -> Result<(), OptionError> {
        let (key, value) = key_and_value(text)?;
        let Some((place, option)) = place::find(key) else { return self.take_unknown(key) };
        let meaning = option.under(self.rules);
        if let Consumer::Refused(reason) = meaning.consumer {
            return Err(OptionError::Refused { option: key.to_owned(), reason });
        }
        let setting = option.check(self.rules, key, value)?;
        match meaning.consumer {
            Consumer::Ignored(why) if place == place::ADDRESS => {
                self.notes.push(Note::overruled(option.name, why));
            }
            Consumer::Ignored(why) => self.notes.push(Note::no_effect(option.name, why)),
            _ if place == place::VERSION => self.take_version(&setting)?,
            _ => self.set(place, setting),
        }
        Ok(())
    }

    fn take_unknown(&mut self, key: &str) -> Result<(), OptionError> {
        match self.rules {
            Rules::Tunnel => Err(OptionError::Unknown(key.to_owned())),
            Rules::Direct => {
                self.unknown.push(key.to_owned());
                Ok(())
            }
        }
    }

    fn set(&mut self, place: usize, setting: Setting) {
        if place == place::ALL_ATTRIBUTE_TIMES {
            place::ATTRIBUTE_TIMES.iter().for_each(|place| {
                self.settings.remove(place);
            });
        }
        // nfs_fs_context_parse_param() in fs/nfs/fs_context.c: `hard` also takes softreval back.
        if self.rules == Rules::Direct && setting.key == "hard" {
            self.settings.remove(&place::SOFT_REVALIDATION);
        }
        self.settings.insert(place, setting);
    }

    fn take_version(&mut self, setting: &Setting) -> Result<(), OptionError> {
        let text = setting.value.as_deref().unwrap_or_default();
        let wish = parse_version(self.rules, text)?;
        match self.version.replace(wish) {
            Some(before) if before != wish => Err(OptionError::TwoVersions(before, wish)),
            _ => Ok(()),
        }
    }
}

fn key_and_value(text: &str) -> Result<(&str, Option<&str>), OptionError> {
    let (key, value) = match text.split_once('=') {
        None => (text, None),
        Some((key, value)) => (key, Some(value)),
    };
    let bare = value.map(|value| {
        value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
    });
    if key.contains('"') || bare.is_some_and(|value| value.contains('"')) {
        return Err(OptionError::Quote(key_of(text).to_owned()));
    }
    Ok((key, bare))
}

impl NfsOption {
    /// The setting that `key`, one of our spellings, means with this value.
    fn check(&self, rules: Rules, key: &str, value: Option<&str>) -> Result<Setting, OptionError> {
        let wrong = |value: &str| OptionError::Value {
            key: self.name,
            value: value.to_owned(),
            expected: self.expected(rules),
        };
        if matches!(self.value, ValueKind::Version) && value.is_none() {
            // `v3` and its like; the bare key says nothing.
            let version = key.strip_prefix('v').filter(|rest| rest.starts_with(char::is_numeric));
            return match version {
                Some(version) => Ok(self.with(version.to_owned())),
                None => Err(self.value_missing(rules)),
            };
        }
        match (self.bare_word(key), value) {
            _ if matches!(self.value, ValueKind::Anything) => Ok(bare(self.name)),
            (Some(word), None) if self.under(rules).refused_words.contains(&word) => {
                Err(self.refusal(rules, word.to_owned()))
            }
            (Some(word), None) => Ok(bare(word)),
            (None, None) => Err(self.value_missing(rules)),
            (_, Some("")) => Err(wrong("")),
            (_, Some(value)) if key == self.name || self.aliases.contains(&key) => {
                self.checked_value(rules, value)?.ok_or_else(|| wrong(value))
            }
            (_, Some(value)) => Err(OptionError::Value {
                key: self.spelled(key),
                value: value.to_owned(),
                expected: "no value".to_owned(),
            }),
        }
    }

    /// The setting with its value in its canonical spelling, or nothing where it will not do.
    fn checked_value(&self, rules: Rules, value: &str) -> Result<Option<Setting>, OptionError> {
        let value = match self.value {
            ValueKind::Flag | ValueKind::Switch { .. } | ValueKind::Choice(_) => None,
            ValueKind::Number { least, most } => decimal(value)
                .filter(|number| (least..=most).contains(number))
                .map(|_| value.to_owned()),
            ValueKind::OneOf(words) | ValueKind::OneOfOrBare { words, .. } => {
                self.word(rules, words, value)?.map(str::to_owned)
            }
            ValueKind::SwitchOrOneOf { words, off } => match self.word(rules, words, value)? {
                // `rdirplus=none` is for new kernels only; they all know the contrary.
                Some("none") => return Ok(Some(bare(off))),
                word => word.map(str::to_owned),
            },
            ValueKind::ListOf(words) => self.list(rules, words, value)?,
            ValueKind::Address => value.parse().ok().map(|address: IpAddr| address.to_string()),
            ValueKind::Host => {
                let usable =
                    |character: char| !character.is_whitespace() && !"/,".contains(character);
                (value.len() <= LONGEST_HOST && value.chars().all(usable)).then(|| value.to_owned())
            }
            ValueKind::SwitchOrText { .. }
            | ValueKind::Text
            | ValueKind::Version
            | ValueKind::Anything => Some(value.to_owned()),
        };
        Ok(value.map(|value| self.with(value)))
    }

    /// Words joined by colons, each once: the kernel passes over repetitions, and that leaves it room for
    /// every flavour that it knows (NFS_AUTH_INFO_MAX_FLAVORS, fs/nfs/fs_context.c).
    fn list(
        &self,
        rules: Rules,
        words: &[&'static str],
        value: &str,
    ) -> Result<Option<String>, OptionError> {
        let mut list: Vec<&str> = Vec::new();
        for word in value.split(':') {
            match self.word(rules, words, word)? {
                None => return Ok(None),
                Some(word) if list.contains(&word) => {}
                Some(word) => list.push(word),
            }
        }
        Ok(Some(list.join(":")))
    }

    fn word(
        &self,
        rules: Rules,
        words: &[&'static str],
        value: &str,
    ) -> Result<Option<&'static str>, OptionError> {
        if self.under(rules).refused_words.contains(&value) {
            return Err(self.refusal(rules, format!("{}={value}", self.name)));
        }
        let known = words.iter().copied().find(|word| *word == value);
        Ok(known.map(|word| match word {
            // RFC 2623 and the kernel have two names for AUTH_NONE, and one for half of `positive`.
            "null" => "none",
            "pos" => "positive",
            // What documents call spkm, the kernel calls spkm3.
            "spkm" => "spkm3",
            "spkmi" => "spkm3i",
            "spkmp" => "spkm3p",
            other => other,
        }))
    }

    /// The canonical word that `key` is when it stands alone.
    fn bare_word(&self, key: &str) -> Option<&'static str> {
        match self.value {
            // Another spelling means the first of the words.
            ValueKind::Choice(words) => {
                words.iter().copied().find(|word| *word == key).or(Some(self.name))
            }
            ValueKind::OneOfOrBare { bare, .. } => bare.iter().copied().find(|word| *word == key),
            ValueKind::Flag => Some(self.name),
            _ => match self.value.off() {
                Some(off) if off == key => Some(off),
                Some(_) => Some(self.name),
                None => None,
            },
        }
    }

    fn spelled(&self, key: &str) -> &'static str {
        self.spellings().find(|spelling| *spelling == key).unwrap_or(self.name)
    }

    fn with(&self, value: String) -> Setting {
        Setting { key: self.name, value: Some(value) }
    }

    fn refusal(&self, rules: Rules, option: String) -> OptionError {
        OptionError::Refused { option, reason: self.under(rules).why_refused }
    }

    fn value_missing(&self, rules: Rules) -> OptionError {
        OptionError::ValueMissing { key: self.name, expected: self.expected(rules) }
    }
}

fn bare(key: &'static str) -> Setting {
    Setting { key, value: None }
}

/// Digits only, and no zero in front, which the kernel would take for octal.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let octal = text.len() > 1 && text.starts_with('0');
    if digits && !octal { text.parse().ok() } else { None }
}

/// Through the tunnel, `4` is 4.0, as for the kernel; the vendor's own driver also reads `3.0`.
fn parse_version(rules: Rules, text: &str) -> Result<VersionWish, OptionError> {
    let not_offered = |reason| OptionError::VersionNotOffered { version: text.to_owned(), reason };
    Ok(match (rules, text) {
        (_, "3") | (Rules::Tunnel, "3.0") => VersionWish::Exactly(NfsVersion::V3),
        (_, "4.0") | (Rules::Tunnel, "4") => VersionWish::Exactly(NfsVersion::V40),
        (Rules::Direct, "4") => VersionWish::AnyMinor,
        (Rules::Direct, "4.1") => VersionWish::Exactly(NfsVersion::V41),
        (Rules::Direct, "4.2") => VersionWish::Exactly(NfsVersion::V42),
        (Rules::Tunnel, "2" | "4.1" | "4.2") => {
            return Err(not_offered("the mount target offers 3 and 4.0"));
        }
        (Rules::Direct, "2") => {
            return Err(not_offered("Linux no longer mounts it; use vers=3 or leave it out"));
        }
        (_, other) => {
            let expected = place::find("vers").map(|(_, option)| option.expected(rules));
            return Err(OptionError::Value {
                key: "vers",
                value: other.to_owned(),
                expected: expected.unwrap_or_default(),
            });
        }
    })
}
