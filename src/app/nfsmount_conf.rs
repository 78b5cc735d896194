//! `/etc/nfsmount.conf` and `/etc/nfsmount.conf.d/*.conf`: options for mounts of the command line, per mount
//! point, per server, and for all (nfsmount.conf(5)). The node plugin never reads them.
//!
//! A small parser of its own: a section's name carries a quoted argument, `[ Server "nas" ]`, and a warning is
//! worth nothing without the line that it is about; no INI crate has both.
//!
//! What is wrong in a file is warned about and passed over, as mount.nfs does: a slip in a file for all mounts
//! must not keep a machine from booting. Read [`Conf::layers`] first.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::model::NfsVersion;
use crate::model::nearest::did_you_mean;
use crate::model::nfs_option::NfsOption;
use crate::model::nfs_option::OPTIONS;
use crate::model::nfs_option::Transport;
use crate::model::nfs_option::ValueKind;
use crate::model::nfs_option::keys;
use crate::model::nfs_option::row_of;
use crate::nfs::Start;

const FILE: &str = "/etc/nfsmount.conf";
const FOLDER: &str = "/etc/nfsmount.conf.d";

/// Keys that are no mount options.
const OF_THE_FILE: [&str; 4] = ["defaultvers", "defaultproto", "background", "foreground"];

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct Conf {
    settings: Vec<Setting>,
    warnings: Vec<String>,
}

/// What the files say about one mount.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layers {
    /// Option texts; a later one goes before an earlier one, and the command line before all.
    pub(super) texts: Vec<String>,
    /// `Defaultvers` and `Defaultproto`: where negotiation begins.
    pub(super) start: Start,
    /// What could not be used, each with file and line.
    pub(super) warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    section: Section,
    key: String,
    value: String,
    place: String,
}

/// The order is that of weight: what is said about a mount point goes before all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Global,
    Server(String),
    MountPoint(String),
    /// Of somebody else.
    Unknown,
}

impl Conf {
    /// Reads the files of this machine. One that is missing says nothing.
    pub(super) fn load() -> Self {
        Self::load_from(Path::new(FILE), Path::new(FOLDER))
    }

    fn load_from(file: &Path, folder: &Path) -> Self {
        let mut conf = Self::default();
        let mut files = vec![file.to_owned()];
        match conf_files(folder) {
            Ok(found) => files.extend(found),
            Err(error) => conf.warn_unless_missing(folder, &error),
        }
        for file in files {
            match fs::read_to_string(&file) {
                Ok(text) => conf.read(&file.display().to_string(), &text),
                Err(error) => conf.warn_unless_missing(&file, &error),
            }
        }
        conf
    }

    fn warn_unless_missing(&mut self, path: &Path, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.warnings.push(format!("{} cannot be read: {error}", path.display()));
        }
    }

    fn read(&mut self, file: &str, text: &str) {
        let mut section = Section::Unknown;
        for (number, line) in (1..).zip(text.lines()) {
            let (line, place) = (line.trim(), format!("{file}:{number}"));
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = Section::parse(name);
                if section == Section::Unknown {
                    self.warnings.push(format!("{place}: unknown section {:?}", name.trim()));
                }
            } else if let Some((key, value)) = line.split_once('=') {
                self.settings.push(Setting {
                    section: section.clone(),
                    key: key.trim().to_lowercase(),
                    value: unquoted(value).to_owned(),
                    place,
                });
            } else {
                self.warnings.push(format!("{place}: neither a section nor \"key = value\""));
            }
        }
    }

    /// What holds for a mount of `server` at `mount_point`, where the command line said `given`.
    pub(super) fn layers(&self, server: &str, mount_point: &str, given: &[String]) -> Layers {
        let mut layers = Layers { warnings: self.warnings.clone(), ..Layers::default() };
        let mut has_version = given.iter().any(|text| keys(text).any(is_version));
        let mut settings: Vec<_> = self
            .settings
            .iter()
            .filter(|setting| setting.section.is_for(server, mount_point))
            .collect();
        // Stable: within a section, the last one wins as everywhere.
        settings.sort_by(|one, other| one.section.cmp(&other.section));
        for setting in settings.into_iter().rev() {
            match setting.option() {
                // Two versions are an error, so that only the weightiest is taken.
                Ok(Meant::Option(text)) if keys(&text).any(is_version) => {
                    if !has_version {
                        layers.texts.push(text);
                    }
                    has_version = true;
                }
                Ok(Meant::Option(text)) => layers.texts.push(text),
                Ok(Meant::Nothing) => {}
                Ok(Meant::FirstVersion(version)) => {
                    layers.start.version.get_or_insert(version);
                }
                Ok(Meant::FirstTransport(transport)) => {
                    layers.start.transport.get_or_insert(transport);
                }
                Err(why) => layers.warnings.push(format!("{}: {why}", setting.place)),
            }
        }
        layers.texts.reverse();
        layers
    }
}

fn conf_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
    paths.sort();
    Ok(paths)
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

fn is_version(key: &str) -> bool {
    row_of(key).is_some_and(|option| ["vers", "minorversion"].contains(&option.name))
}

impl Section {
    fn parse(name: &str) -> Self {
        let name = name.trim();
        let (word, argument) = name.split_once(char::is_whitespace).unwrap_or((name, ""));
        let argument = unquoted(argument).to_owned();
        match (word.to_lowercase().as_str(), argument.is_empty()) {
            ("nfsmount_global_options", true) => Self::Global,
            ("server", false) => Self::Server(argument),
            ("mountpoint", false) => Self::MountPoint(argument),
            _ => Self::Unknown,
        }
    }

    fn is_for(&self, server: &str, mount_point: &str) -> bool {
        match self {
            Self::Global => true,
            Self::Server(name) => name.eq_ignore_ascii_case(server),
            Self::MountPoint(path) => path == mount_point,
            Self::Unknown => false,
        }
    }
}

/// What a setting means for a mount.
enum Meant {
    Option(String),
    FirstVersion(NfsVersion),
    FirstTransport(Transport),
    /// It says what holds anyway.
    Nothing,
}

impl Setting {
    fn option(&self) -> Result<Meant, String> {
        let key = match self.key.as_str() {
            "background" => "bg",
            "foreground" => "fg",
            "defaultvers" => return self.default_version(),
            "defaultproto" => return self.default_protocol(),
            key => key,
        };
        let spellings = || OPTIONS.iter().flat_map(NfsOption::spellings).chain(OF_THE_FILE);
        let option = row_of(key)
            .ok_or_else(|| format!("unknown key {key:?}{}", did_you_mean(key, spellings())))?;
        let text = match self.value.to_lowercase().as_str() {
            "true" => Some(key.to_owned()),
            "false" => contrary(option, key)?,
            _ if matches!(option.value, ValueKind::Number { .. }) => {
                let number = number(&self.value)
                    .ok_or_else(|| format!("{:?} is no number for {key:?}", self.value))?;
                Some(format!("{key}={number}"))
            }
            _ if self.value.contains(',') => Some(format!("{key}=\"{}\"", self.value)),
            _ => Some(format!("{key}={}", self.value)),
        };
        Ok(text.map_or(Meant::Nothing, Meant::Option))
    }

    /// nfsmount.conf(5): where negotiation begins, and never what is left of it when the command line names one.
    fn default_version(&self) -> Result<Meant, String> {
        Ok(Meant::FirstVersion(match self.value.as_str() {
            "3" => NfsVersion::V3,
            "4.0" => NfsVersion::V40,
            "4.1" => NfsVersion::V41,
            "4" | "4.2" => NfsVersion::V42,
            other => {
                return Err(format!(
                    "\"Defaultvers\" is {other:?}; expected 3, 4, 4.0, 4.1 or 4.2"
                ));
            }
        }))
    }

    fn default_protocol(&self) -> Result<Meant, String> {
        Ok(Meant::FirstTransport(match self.value.to_lowercase().as_str() {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => {
                return Err(format!(
                    "\"Defaultproto\" is {:?}; expected tcp or udp; to mount over one transport only, write \
                     \"Proto={}\"",
                    self.value, self.value
                ));
            }
        }))
    }
}

/// What `key=False` says. `sloppy=False` and its like say nothing.
fn contrary(option: &NfsOption, key: &str) -> Result<Option<String>, String> {
    match option.value {
        ValueKind::Switch { off }
        | ValueKind::SwitchOrOneOf { off, .. }
        | ValueKind::SwitchOrText { off } => {
            Ok(Some(if key == off { option.name } else { off }.to_owned()))
        }
        ValueKind::Flag => Ok(None),
        _ => match key {
            "bg" => Ok(Some("fg".to_owned())),
            "fg" => Ok(Some("bg".to_owned())),
            "soft" | "softerr" => Ok(Some("hard".to_owned())),
            _ => Err(format!("{key:?} has no contrary; name the value that is wanted")),
        },
    }
}

/// As strtoul(3) with base 0, and `k`, `m`, `g` at the end for powers of 1024.
fn number(text: &str) -> Option<u64> {
    let unit = text.chars().last()?.to_ascii_lowercase();
    let (digits, factor) = match "kmg".find(unit) {
        Some(place) => {
            (text.get(..text.len() - 1)?, 1024_u64.checked_pow(u32::try_from(place + 1).ok()?)?)
        }
        None => (text, 1),
    };
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    number.ok().filter(|_| !digits.contains('+'))?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
# comment
; another
stray = 1
[ NFSMount_Global_Options ]
Defaultvers=4
Soft=True
Rsize=8k
Vers=4.1
[ Server "NAS.example" ]
Soft = False
retry=1
Nfsvers=3
[Server "other"]
Wsize=1m
[ MountPoint "/export/home" ]
Background=True
sec = "sys:krb5"
[ Colour "red" ]
Lock=False
"#;

    fn conf(text: &str) -> Conf {
        let mut conf = Conf::default();
        conf.read("f", text);
        conf
    }

    fn layers(server: &str, mount_point: &str, given: &[&str]) -> Vec<String> {
        let given: Vec<_> = given.iter().map(|text| (*text).to_owned()).collect();
        conf(FILE).layers(server, mount_point, &given).texts
    }

    #[test]
    fn what_is_said_of_the_mount_point_comes_last_and_so_goes_before_all() {
        assert_eq!(layers("x", "/mnt", &[]), ["soft", "rsize=8192", "vers=4.1"]);
        assert_eq!(
            layers("nas.example", "/export/home", &[]),
            ["soft", "rsize=8192", "hard", "retry=1", "nfsvers=3", "bg", "sec=sys:krb5"]
        );
    }

    #[test]
    fn a_version_on_the_command_line_puts_out_every_version_in_the_files() {
        for given in ["nfsvers=3", "rw,v4.2", "vers=4", "minorversion=1"] {
            assert_eq!(
                layers("nas.example", "/", &[given]),
                ["soft", "rsize=8192", "hard", "retry=1"]
            );
        }
    }

    #[test]
    fn every_value_becomes_an_option_or_a_warning_with_its_line() {
        for (line, text) in [
            ("Ac=True", "ac"),
            ("Ac=False", "noac"),
            ("nosharecache=False", "sharecache"),
            ("Foreground=False", "bg"),
            ("softerr=false", "hard"),
            ("sloppy=False", ""),
            ("Rsize=0x2000", "rsize=8192"),
            ("rsize=010", "rsize=8"),
            ("wsize=1M", "wsize=1048576"),
            ("timeo=600", "timeo=600"),
            ("Proto=tcp6", "proto=tcp6"),
            ("context=a,b", "context=\"a,b\""),
            ("Defaultvers=3", ""),
            ("Defaultproto=Tcp", ""),
            ("Defaultvers=2", "f:2: \"Defaultvers\" is \"2\"; expected 3,"),
            ("Defaultproto=rdma", "f:2: \"Defaultproto\" is \"rdma\"; expected tcp or udp"),
            ("rsize=8q", "f:2: \"8q\" is no number for \"rsize\""),
            ("rsize=", "f:2: \"\" is no number for \"rsize\""),
            ("rsise=1", "f:2: unknown key \"rsise\"; did you mean \"rsize\"?"),
            ("Defaultverse=4", "f:2: unknown key \"defaultverse\"; did you mean \"defaultvers\"?"),
            ("hard=False", "f:2: \"hard\" has no contrary"),
            ("nonsense", "f:2: neither a section nor"),
        ] {
            let layers = conf(&format!("[NFSMount_Global_Options]\n{line}")).layers("s", "/", &[]);
            let said = layers.texts.first().or(layers.warnings.first());
            let said = said.map(String::as_str).unwrap_or_default();
            assert!(
                said == text || text.starts_with("f:") && said.starts_with(text),
                "{line}: {said}"
            );
        }
    }

    #[test]
    fn negotiation_begins_where_the_weightiest_line_says_and_what_is_asked_for_stays_open() {
        let text = "[Server \"nas\"]\nDefaultvers=4.1\nDefaultproto=UDP\n[NFSMount_Global_Options]\n\
                    Defaultvers=3\nDefaultproto=tcp\n";
        let (v3, v41) = (Some(NfsVersion::V3), Some(NfsVersion::V41));
        for (server, version, transport) in
            [("nas", v41, Some(Transport::Udp)), ("other", v3, Some(Transport::Tcp))]
        {
            let layers = conf(text).layers(server, "/", &[]);
            assert_eq!(layers.start, Start { version, transport }, "{server}");
            assert_eq!((layers.texts.len(), layers.warnings.len()), (0, 0), "{server}");
        }
    }

    #[test]
    fn a_section_that_nobody_knows_is_warned_about_and_says_nothing() {
        let conf = conf(FILE);
        assert_eq!(conf.warnings, ["f:19: unknown section \"Colour \\\"red\\\"\""]);
    }

    #[test]
    fn the_files_are_read_in_order_and_a_missing_one_says_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("conf.d");
        let missing = home.path().join("none");
        assert!(Conf::load_from(&missing, &folder).warnings.is_empty());
        fs::create_dir(&folder).unwrap();
        for (name, value) in [("b.conf", "2"), ("a.conf", "1"), ("c.txt", "3")] {
            let text = format!("[NFSMount_Global_Options]\nretrans={value}\n");
            fs::write(folder.join(name), text).unwrap();
        }
        let layers = Conf::load_from(&missing, &folder).layers("s", "/", &[]);
        assert_eq!(layers.texts, ["retrans=1", "retrans=2"]);
        let unreadable = Conf::load_from(&folder, &missing);
        assert!(unreadable.warnings[0].contains("cannot be read"), "{:?}", unreadable.warnings);
    }
}
