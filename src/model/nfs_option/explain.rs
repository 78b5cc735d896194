//! What a person is told about an option, from the same table that the parser reads.
//!
//! [`explain`] is one option in full, [`summary`] all of them in a line each, [`page`] the document
//! `docs/mount-options.md`, [`words`] what a shell completes.
//!
//! LONG: four forms of one table, their few words each, and the head of a document.

use std::fmt::Write;

use super::Consumer;
use super::MountOptions;
use super::NfsOption;
use super::Note;
use super::OPTIONS;
use super::Preset;
use super::Rules;
use super::ValueKind;
use super::Versions;
use super::fault::spellings;
use super::parse::key_of;
use super::place;
use crate::model::nearest::did_you_mean;

/// An option that is in no table; its value is not repeated, it may be a secret in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mount option {0:?}{hint}", hint = did_you_mean(.0, spellings()))]
pub struct UnknownOption(String);

/// Everything about one option, in several lines. With a value (`rsize=5000`), also what becomes of it.
///
/// # Errors
/// When no option is spelled so; names the nearest one.
pub fn explain(text: &str) -> Result<String, UnknownOption> {
    let key = key_of(text);
    let (_, option) = place::find(key).ok_or_else(|| UnknownOption(key.to_owned()))?;
    let mut lines = vec![option.title(), format!("  {}", option.help), String::new()];
    lines.push(row("spelled", &option.spellings().collect::<Vec<_>>().join(", ")));
    lines.push(row("NFS versions", option.versions.name()));
    for rules in [Rules::Tunnel, Rules::Direct] {
        lines.extend(option.explained_under(rules, text));
    }
    Ok(lines.join("\n") + "\n")
}

/// All options, a line each.
#[must_use]
pub fn summary() -> String {
    let width = OPTIONS.iter().map(|option| option.title().len()).max().unwrap_or_default();
    let line = |option: &NfsOption| format!("{:width$}  {}\n", option.title(), option.help);
    OPTIONS.iter().map(line).collect()
}

/// The document about all options.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        let rows: Vec<_> = OPTIONS.iter().filter(|option| (section.holds)(option)).collect();
        // A String takes everything that is written to it.
        let _ = write!(page, "\n## {}\n\n{}\n\n{TABLE_HEAD}", section.title, section.about);
        rows.iter().for_each(|option| page.push_str(&option.table_row()));
    }
    page
}

/// What a shell offers behind `-o`: every spelling that is of use, with a `=` where a value must follow.
#[must_use]
pub fn words() -> Vec<String> {
    let useful = |option: &&NfsOption| {
        let refused = |rules| matches!(option.under(rules).consumer, Consumer::Refused(_));
        !(refused(Rules::Tunnel) && refused(Rules::Direct))
    };
    let words = OPTIONS.iter().filter(useful).flat_map(|option| {
        option.spellings().filter(|word| !word.ends_with('*')).map(|word| option.written(word))
    });
    words.collect()
}

struct Section {
    title: &'static str,
    about: &'static str,
    holds: fn(&NfsOption) -> bool,
}

const HEAD: &str = "\
# Mount options

<!-- Written by `alinas-csi explain --markdown`; edit src/model/nfs_option/table.rs, not this file. -->

Mount options are written as for mount(8): `key`, `nokey` or `key=value`, joined by commas. Of an option that is
given more than once the last one counts; two different NFS versions are refused. Numbers are decimal. A value
that holds a comma stands in double quotes: `context=\"system_u:object_r:a_t:s0:c1,c2\"`. An option that nobody
knows is refused with the nearest one that somebody does.

An option means what its column says:

- **Through the tunnel**: volumes with encryption in transit. The tunnel decides about addresses, ports and the
  transport; defaults are those of the vendor's own client.
- **Plain mount**: NFS straight to the server, as mount.nfs does it, with the defaults of the kernel.

`alinas-csi explain OPTION` prints the same for one option, and `alinas-csi explain OPTION=VALUE` what becomes of
that value.
";

const TABLE_HEAD: &str = "\
| option | value | NFS | through the tunnel | plain mount | what it does |
| --- | --- | --- | --- | --- | --- |
";

const SECTIONS: [Section; 6] = [
    Section {
        title: "How the mount is made",
        about: "This driver acts on these; none reaches the kernel as it is written.",
        holds: |option| option.direct.consumer == Consumer::Driver,
    },
    Section {
        title: "Who the client is",
        about: "What the client certificate of the tunnel says. A plain mount has none.",
        holds: is_of_tunnel_alone,
    },
    Section {
        title: "The NFS client and its calls",
        about: "The kernel's NFS client acts on these for as long as the mount lives. Mounts of one server share a \
                connection, so `timeo`, `retrans`, `nconnect` and `resvport` of the first one hold for all. An option \
                that is new to the kernel of the node is refused by it, and the message says so.",
        holds: |option| option.direct.consumer == Consumer::Kernel,
    },
    Section {
        title: "Options of every file system",
        about: "The kernel acts on these for this mount alone.",
        holds: |option| option.direct.consumer == Consumer::Attribute,
    },
    Section {
        title: "Accepted, without effect",
        about: "These do no harm, and stand in many a file; a note says that they do nothing.",
        holds: |option| matches!(option.direct.consumer, Consumer::Ignored(_)),
    },
    Section {
        title: "Refused",
        about: "These would mean something else than what the mount does. `tls` is of use through the tunnel.",
        holds: |option| {
            matches!(option.direct.consumer, Consumer::Refused(_)) && !is_of_tunnel_alone(option)
        },
    },
];

fn is_of_tunnel_alone(option: &NfsOption) -> bool {
    option.tunnel.consumer == Consumer::Driver
        && matches!(option.direct.consumer, Consumer::Refused(_))
}

impl NfsOption {
    /// `rsize=NUMBER`, `ac|noac`, `proto=WORD|tcp|udp|rdma`.
    fn title(&self) -> String {
        let mut words = match self.value.sample() {
            Some(sample) => vec![format!("{}={sample}", self.name)],
            None => Vec::new(),
        };
        let alone = self.spellings().filter(|word| !self.aliases.contains(word));
        words.extend(alone.filter(|word| self.stands_alone(word)).map(str::to_owned));
        words.join("|")
    }

    fn stands_alone(&self, word: &str) -> bool {
        match self.value {
            ValueKind::OneOfOrBare { bare, .. } => bare.contains(&word),
            ValueKind::Version => word != self.name && !self.takes_value(word),
            _ => !self.takes_value(word) || self.value.off().is_some(),
        }
    }

    /// Whether a value must follow this spelling.
    fn takes_value(&self, word: &str) -> bool {
        match self.value {
            ValueKind::Version => matches!(word, "vers" | "nfsvers"),
            ValueKind::OneOfOrBare { bare, .. } => !bare.contains(&word),
            _ => self.value.sample().is_some() && self.value.off().is_none(),
        }
    }

    /// As a shell completes it.
    fn written(&self, word: &str) -> String {
        if self.takes_value(word) { format!("{word}=") } else { word.to_owned() }
    }

    fn explained_under(&self, rules: Rules, text: &str) -> Vec<String> {
        let meaning = self.under(rules);
        let mut lines = vec![String::new(), format!("  {}", rules.name())];
        lines.push(row("acted on by", &meaning.consumer.name()));
        if matches!(meaning.consumer, Consumer::Refused(_)) {
            return lines;
        }
        lines.push(row("value", &self.expected(rules)));
        if !meaning.refused_words.is_empty() {
            let refused = format!("{}: {}", meaning.refused_words.join(", "), meaning.why_refused);
            lines.push(row("refused values", &refused));
        }
        if let Some(default) = meaning.default.name() {
            lines.push(row("default", &default));
        }
        if text.contains('=') {
            lines.extend(verdict(rules, text).iter().map(|said| row("as written", said)));
        }
        lines
    }

    fn table_row(&self) -> String {
        let title = self.title().replace('|', "`, `");
        let others: String = self.aliases.iter().map(|alias| format!(", `{alias}`")).collect();
        let cells = [
            self.value_cell(),
            self.versions.name().to_owned(),
            self.meaning_cell(Rules::Tunnel),
            self.meaning_cell(Rules::Direct),
            self.help.to_owned(),
        ];
        format!(
            "| `{title}`{others} | {} |\n",
            cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
        )
    }

    fn value_cell(&self) -> String {
        match self.value {
            ValueKind::Number { least, most } if least != most => format!("{least} to {most}"),
            ValueKind::OneOf(words) | ValueKind::OneOfOrBare { words, .. } => words.join(", "),
            ValueKind::ListOf(words) => format!("{}; several joined by `:`", words.join(", ")),
            ValueKind::SwitchOrOneOf { words, .. } => format!("none, {}", words.join(", ")),
            _ => self.expected(Rules::Direct).replace("no value", "none"),
        }
    }

    fn meaning_cell(&self, rules: Rules) -> String {
        let meaning = self.under(rules);
        let mut said = Vec::new();
        match meaning.consumer {
            Consumer::Kernel | Consumer::Attribute | Consumer::Driver => {
                said.extend(meaning.default.name().map(|default| format!("default {default}")));
            }
            Consumer::Ignored(_) | Consumer::Refused(_) => said.push(meaning.consumer.name()),
        }
        let accepted = !matches!(meaning.consumer, Consumer::Refused(_));
        if accepted && !meaning.refused_words.is_empty() {
            let words = meaning.refused_words.join(", ");
            said.push(format!("refused are {words}: {}", meaning.why_refused));
        }
        if said.is_empty() { "as written".to_owned() } else { said.join("; ") }
    }
}

/// What the parser says to an option with its value.
fn verdict(rules: Rules, text: &str) -> Vec<String> {
    match MountOptions::parse_with_notes(rules, [text]) {
        Err(error) => vec![error.to_string()],
        Ok((_, notes)) if notes.is_empty() => vec!["accepted".to_owned()],
        Ok((_, notes)) => notes.iter().map(Note::to_string).collect(),
    }
}

fn row(name: &str, value: &str) -> String {
    format!("  {name:<16}{value}")
}

impl ValueKind {
    /// What stands for the value where an option is shown.
    fn sample(&self) -> Option<&'static str> {
        match self {
            Self::Flag | Self::Switch { .. } | Self::Choice(_) | Self::Anything => None,
            Self::Number { .. } => Some("NUMBER"),
            Self::OneOf(_) | Self::OneOfOrBare { .. } | Self::SwitchOrOneOf { .. } => Some("WORD"),
            Self::ListOf(_) => Some("WORD:WORD"),
            Self::SwitchOrText { .. } | Self::Text => Some("TEXT"),
            Self::Host => Some("HOST"),
            Self::Address => Some("ADDRESS"),
            Self::Version => Some("VERSION"),
        }
    }
}

impl Rules {
    fn name(self) -> &'static str {
        match self {
            Self::Tunnel => "through the tunnel",
            Self::Direct => "plain NFS mount",
        }
    }
}

impl Versions {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "all",
            Self::V3 => "3",
            Self::V4 => "4.0 to 4.2",
            Self::V40 => "4.0",
            Self::V41 => "4.1, 4.2",
        }
    }
}

impl Consumer {
    fn name(&self) -> String {
        match self {
            Self::Kernel => "the kernel's NFS client".to_owned(),
            Self::Attribute => "the kernel, for this mount alone".to_owned(),
            Self::Driver => "this driver; the kernel never sees it as it is written".to_owned(),
            Self::Ignored(why) => format!("nobody: {why}"),
            Self::Refused(why) => format!("refused: {why}"),
        }
    }
}

impl Preset {
    fn name(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Kernel(text) | Self::Driver(text) | Self::Depends(text) => {
                Some((*text).to_owned())
            }
            Self::Sent(text) => Some(format!("{text} (told to the kernel)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_explained_in_full_under_both_rules() {
        let said = explain("rsize=5000").unwrap();
        for part in [
            "rsize=NUMBER\n  Bytes in one READ;",
            "spelled         rsize\n",
            "NFS versions    all\n",
            "through the tunnel\n  acted on by     the kernel's NFS client\n",
            "value           a decimal number from 1 to 4294967295\n",
            "default         1048576 (told to the kernel)\n",
            "default         what the server takes, at most 1048576\n",
            "as written      mount option \"rsize\" acts as 4096",
        ] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
    }

    #[test]
    fn each_spelling_leads_to_its_option_and_says_why_it_is_refused_or_ignored() {
        for (text, title, part) in [
            ("nfsvers", "vers=VERSION\n", "default         3 (told to the kernel)"),
            ("v4.1", "vers=VERSION\n", "3, 4, 4.0, 4.1 or 4.2"),
            ("noac", "ac|noac\n", "Caches attributes"),
            ("udp", "proto=WORD|tcp|udp|rdma\n", "the tunnel carries TCP only"),
            ("bg", "fg|bg\n", "default         fg"),
            ("fsc", "fsc=TEXT|fsc|nofsc\n", "no value, or a text"),
            ("x-systemd.automount", "x-*\n", "nobody: it is for mount(8)"),
            ("remount", "remount\n", "refused: it is an operation of its own"),
            ("sec=krb5", "sec=WORD:WORD\n", "the mount target knows AUTH_SYS only"),
            ("addr", "addr=TEXT\n", "resolved anew"),
        ] {
            let said = explain(text).unwrap();
            assert!(said.starts_with(title), "{text}: {said}");
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn an_unknown_option_is_named_without_its_value_and_with_the_nearest_one() {
        let error = explain("rsise=hunter2").unwrap_err().to_string();
        assert_eq!(error, "unknown mount option \"rsise\"; did you mean \"rsize\"?");
    }

    #[test]
    fn the_page_and_the_summary_hold_every_option_once() {
        let (page, summary) = (page(), summary());
        assert_eq!(page.matches("\n| `").count(), OPTIONS.len());
        assert_eq!(summary.lines().count(), OPTIONS.len());
        for spelling in spellings() {
            assert!(
                page.contains(&format!("`{spelling}`")) || page.contains(&format!("`{spelling}=")),
                "{spelling}"
            );
        }
    }

    #[test]
    fn a_shell_completes_what_is_of_use() {
        let words = words();
        for word in ["vers=", "v4.1", "rsize=", "noac", "tcp", "proto=", "bg", "fsc", "ro", "tls"] {
            assert!(words.iter().any(|known| known == word), "{word}: {words:?}");
        }
        // The fuzzer begins with them too. It tries what it knows, and cannot guess a word by itself.
        let dictionary = include_str!("../../../fuzz/option_text.dict");
        for word in &words {
            assert!(
                dictionary.contains(&format!("\n\"{word}\"\n")),
                "fuzz/option_text.dict lacks {word}"
            );
        }
        for word in ["remount", "efc", "x-*", "rsize"] {
            assert!(!words.iter().any(|known| known == word), "{word}");
        }
    }
}
