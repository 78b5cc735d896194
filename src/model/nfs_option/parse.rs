//! From option texts to [`MountOptions`].
//!
//! The grammar is that of mount(8), without its leniency: options are separated by commas, a value stands
//! behind the first `=` and may be in double quotes, numbers are decimal. (mount.nfs reads `port=20x` as 20,
//! and the kernel reads `rsize=010` as 8.)

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::Consumer;
use super::LONGEST_TEXT;
use super::MountOptions;
use super::NfsOption;
use super::NfsVersion;
use super::OPTIONS;
use super::Setting;
use super::ValueKind;
use super::Words;
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
    TwoVersions(NfsVersion, NfsVersion),
    /// A version that Linux knows, or once knew.
    #[error("NFS version {0} cannot be had: the mount target offers 3 and 4.0")]
    VersionNotOffered(String),
    /// Two options that exclude each other.
    #[error("mount options: {0}")]
    Contradiction(String),
}

/// An option that was accepted and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The option, without its value.
    pub option: &'static str,
    /// Why it has none.
    pub why: &'static str,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount option {:?} has no effect: {}", self.option, self.why)
    }
}

pub(super) fn parse<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<(MountOptions, Vec<Note>), OptionError> {
    let mut reading = Reading::default();
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
    reading.finish()
}

/// Splits at the commas that stand outside of double quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    })
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    version: Option<NfsVersion>,
    settings: BTreeMap<usize, Setting>,
    notes: Vec<Note>,
}

impl Reading {
    fn take(&mut self, text: &str) -> Result<(), OptionError> {
        let (key, value) = key_and_value(text)?;
        let (place, option) = OPTIONS
            .iter()
            .enumerate()
            .find(|(_, option)| option.answers_to(key))
            .ok_or_else(|| OptionError::Unknown(key.to_owned()))?;
        if let Consumer::Refused(reason) = option.consumer {
            return Err(OptionError::Refused { option: key.to_owned(), reason });
        }
        let setting = option.check(key, value)?;
        match option.consumer {
            Consumer::Ignored(why) => self.note(option.name, why),
            _ if option.name == "vers" => self.set_version(&setting)?,
            _ => self.set(place, option, setting),
        }
        Ok(())
    }

    fn set(&mut self, place: usize, option: &NfsOption, setting: Setting) {
        if option.name == "actimeo" {
            self.settings.retain(|_, setting| !ATTRIBUTE_TIMES.contains(&setting.key));
        }
        self.settings.insert(place, setting);
    }

    fn set_version(&mut self, setting: &Setting) -> Result<(), OptionError> {
        let text = setting.value.as_deref().unwrap_or_default();
        let version = parse_version(text)?;
        match self.version.replace(version) {
            Some(before) if before != version => Err(OptionError::TwoVersions(before, version)),
            _ => Ok(()),
        }
    }

    fn note(&mut self, option: &'static str, why: &'static str) {
        self.notes.push(Note { option, why });
    }

    fn finish(mut self) -> Result<(MountOptions, Vec<Note>), OptionError> {
        let version = self.version.unwrap_or_default();
        self.check_minor_version()?;
        self.check_attribute_times()?;
        let all_times = self.number("actimeo").is_some();
        for (place, setting) in std::mem::take(&mut self.settings) {
            let Some(option) = OPTIONS.get(place) else { continue };
            if !option.versions.include(version) {
                self.note(option.name, "it says nothing to this NFS version");
            } else if setting.key == "lock" {
                return Err(OptionError::Refused { option: "lock".to_owned(), reason: NO_STATD });
            } else if (all_times && ATTRIBUTE_TIMES.contains(&setting.key))
                || !option.holds_anyway(setting.value.as_deref().unwrap_or(setting.key))
            {
                self.settings.insert(place, setting);
            }
        }
        Ok((MountOptions { version, settings: self.settings }, self.notes))
    }

    fn check_minor_version(&mut self) -> Result<(), OptionError> {
        let minor = OPTIONS.iter().position(|option| option.name == "minorversion");
        match minor.and_then(|place| self.settings.remove(&place)) {
            Some(_) if self.version != Some(NfsVersion::V40) => Err(OptionError::Contradiction(
                "\"minorversion\" goes with \"vers=4\" only".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// The kernel takes a least time above the greatest and then behaves in no defined way.
    fn check_attribute_times(&self) -> Result<(), OptionError> {
        let all = self.number("actimeo");
        let [file_least, file_most, directory_least, directory_most] = ATTRIBUTE_TIMES;
        for (least, most, defaults) in
            [(file_least, file_most, (3, 60)), (directory_least, directory_most, (30, 60))]
        {
            let least_time = self.number(least).or(all).unwrap_or(defaults.0);
            let most_time = self.number(most).or(all).unwrap_or(defaults.1);
            if least_time > most_time {
                return Err(OptionError::Contradiction(format!(
                    "\"{least}\" is {least_time}, which is more than the {most_time} of \"{most}\""
                )));
            }
        }
        Ok(())
    }

    fn number(&self, key: &str) -> Option<u64> {
        let setting = self.settings.values().find(|setting| setting.key == key)?;
        setting.value.as_ref()?.parse().ok()
    }
}

/// What `actimeo` sets all at once.
const ATTRIBUTE_TIMES: [&str; 4] = ["acregmin", "acregmax", "acdirmin", "acdirmax"];

const NO_STATD: &str = "NFSv3 locks over the network need rpc.statd and connections beside the tunnel; use \
                        vers=4.0, which has locks of its own, or nolock (the default), which keeps locks \
                        within the node";

fn spellings() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().flat_map(NfsOption::spellings).filter(|spelling| !spelling.ends_with('*'))
}

fn key_and_value(text: &str) -> Result<(&str, Option<&str>), OptionError> {
    let misplaced = || OptionError::Quote(text.split('=').next().unwrap_or_default().to_owned());
    let (key, value) = match text.split_once('=') {
        None => (text, None),
        Some((key, value)) => (key, Some(value)),
    };
    let bare = value.map(|value| {
        value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
    });
    if key.contains('"') || bare.is_some_and(|value| value.contains('"')) {
        return Err(misplaced());
    }
    Ok((key, bare))
}

impl NfsOption {
    /// The setting that `key`, one of our spellings, means with this value.
    fn check(&self, key: &str, value: Option<&str>) -> Result<Setting, OptionError> {
        let wrong = |value: &str| OptionError::Value {
            key: self.name,
            value: value.to_owned(),
            expected: self.value.to_string(),
        };
        if self.name == "vers" && value.is_none() {
            // `v3` and its like; the bare key says nothing.
            let version = key.strip_prefix('v').filter(|rest| rest.starts_with(char::is_numeric));
            return match version {
                Some(version) => Ok(self.with(version.to_owned())),
                None => Err(self.value_missing()),
            };
        }
        match (self.bare_word(key), value) {
            _ if matches!(self.value, ValueKind::Anything) => Ok(self.bare(self.name)),
            (Some(word), None) => Ok(self.bare(word)),
            (None, None) => Err(self.value_missing()),
            (_, Some("")) => Err(wrong("")),
            (_, Some(value)) if key == self.name || self.aliases.contains(&key) => {
                self.checked_value(value)?.map(|value| self.with(value)).ok_or_else(|| wrong(value))
            }
            (_, Some(value)) => Err(OptionError::Value {
                key: self.spelled(key),
                value: value.to_owned(),
                expected: "no value".to_owned(),
            }),
        }
    }

    /// The value in its canonical spelling, or nothing where it will not do.
    fn checked_value(&self, value: &str) -> Result<Option<String>, OptionError> {
        Ok(match self.value {
            ValueKind::Flag | ValueKind::Switch { .. } | ValueKind::Choice(_) => None,
            ValueKind::Number { least, most } => decimal(value)
                .filter(|number| (least..=most).contains(number))
                .map(|number| number.to_string()),
            ValueKind::OneOf(words) | ValueKind::SwitchOrOneOf { words, .. } => {
                self.word(&words, value)?
            }
            ValueKind::ListOf(words) => value
                .split(':')
                .map(|value| self.word(&words, value))
                .collect::<Result<Option<Vec<_>>, _>>()?
                .map(|values| values.join(":")),
            ValueKind::Address => value.parse().ok().map(|address: IpAddr| address.to_string()),
            ValueKind::SwitchOrText { .. }
            | ValueKind::Text
            | ValueKind::Version
            | ValueKind::Anything => Some(value.to_owned()),
        })
    }

    fn word(&self, words: &Words, value: &str) -> Result<Option<String>, OptionError> {
        if words.refused.contains(&value) {
            let option = format!("{}={value}", self.name);
            return Err(OptionError::Refused { option, reason: words.why });
        }
        // RFC 2623 and the kernel have two names for AUTH_NONE, and one for half of `positive`.
        let value = match value {
            "null" => "none",
            "pos" => "positive",
            other => other,
        };
        Ok(words.known.contains(&value).then(|| value.to_owned()))
    }

    /// The canonical word that `key` is when it stands alone.
    fn bare_word(&self, key: &str) -> Option<&'static str> {
        match self.value {
            // Another spelling means the first of the words.
            ValueKind::Choice(words) => {
                words.iter().copied().find(|word| *word == key).or(Some(self.name))
            }
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

    fn bare(&self, key: &'static str) -> Setting {
        Setting { key, value: None }
    }

    fn with(&self, value: String) -> Setting {
        Setting { key: self.name, value: Some(value) }
    }

    fn value_missing(&self) -> OptionError {
        OptionError::ValueMissing { key: self.name, expected: self.value.to_string() }
    }
}

/// Digits only, and no zero in front, which the kernel would take for octal.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let octal = text.len() > 1 && text.starts_with('0');
    if digits && !octal { text.parse().ok() } else { None }
}

/// `4` is 4.0, as for the kernel; the vendor's own driver also reads `3.0`.
fn parse_version(text: &str) -> Result<NfsVersion, OptionError> {
    match text {
        "3" | "3.0" => Ok(NfsVersion::V3),
        "4" | "4.0" => Ok(NfsVersion::V40),
        "2" | "4.1" | "4.2" => Err(OptionError::VersionNotOffered(text.to_owned())),
        other => Err(OptionError::Value {
            key: "vers",
            value: other.to_owned(),
            expected: ValueKind::Version.to_string(),
        }),
    }
}
