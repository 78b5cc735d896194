//! `/etc/aliyun/alinas/alinas-utils.conf`: the settings of the vendor's client, with its names and ranges.
//!
//! `mount -t alinas` reads it, and a watchdog that is told to with `--config`. What is wrong in it is warned about
//! and passed over, as the vendor's client does: a slip in a file for all mounts must not keep a machine from
//! booting. Read [`KEYS`] first.
//!
//! Two defaults are safer than the vendor's. The name in the server's certificate is checked unless the file says
//! that it is not to be; and a number out of its range is said to be so before the nearest one is taken.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use configparser::ini::Ini;

use crate::model::nearest::did_you_mean;

/// Where the vendor's client has it.
pub(super) const FILE: &str = "/etc/aliyun/alinas/alinas-utils.conf";
/// What holds for every section, as in Python's configparser.
const EVERYWHERE: &str = "DEFAULT";
/// Sections of a log shipper that is not here; nothing of them is read.
const OF_OTHERS: [&str; 1] = ["nas-agent"];

/// What the file says, or what holds without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AlinasConf {
    /// The least severe lines that are logged, in the words of `tracing`.
    pub(super) level: &'static str,
    /// How long a log file grows, in bytes.
    pub(super) log_bytes: u64,
    /// How many log files are kept.
    pub(super) log_files: u64,
    /// Whether the tunnel logs everything.
    pub(super) tunnel_debug: bool,
    /// Whether the name in the server's certificate is checked.
    pub(super) check_host_name: bool,
    /// Whether revocation is looked into.
    pub(super) check_validity: bool,
    /// The local port of new tunnels.
    pub(super) proxy_port: u16,
    /// For how long a tunnel must be out of use before it is closed.
    pub(super) unmount_grace: Duration,
    /// Whether `/etc/hosts` gets a line for each tunnel in use. No key of the vendor's: that client always does.
    pub(super) hosts_entries: bool,
    /// What could not be used, each with its file.
    pub(super) warnings: Vec<String>,
}

impl Default for AlinasConf {
    fn default() -> Self {
        Self {
            level: "info",
            log_bytes: 1 << 20,
            log_files: 10,
            tunnel_debug: false,
            check_host_name: true,
            check_validity: false,
            proxy_port: 12049,
            unmount_grace: Duration::from_secs(30),
            hosts_entries: false,
            warnings: Vec::new(),
        }
    }
}

/// A key of the file.
struct Key {
    section: &'static str,
    name: &'static str,
    takes: Takes,
}

/// What a key takes, and what becomes of it.
enum Takes {
    /// One of the levels of Python's logging.
    Level,
    Switch(fn(&mut AlinasConf, bool)),
    Number(RangeInclusive<u64>, fn(&mut AlinasConf, u64)),
    /// Whatever it says, it changes nothing here; and why.
    Anything(&'static str),
}

const NO_AGENT: &str = "nothing of the kind is here";

/// Every key that the vendor's client 2.2 reads, and `hosts_entries`.
const KEYS: &[Key] = &[
    Key { section: EVERYWHERE, name: "logging_level", takes: Takes::Level },
    Key {
        section: EVERYWHERE,
        name: "logging_max_bytes",
        takes: Takes::Number(1 << 20..=16 << 20, |conf, bytes| conf.log_bytes = bytes),
    },
    Key {
        section: EVERYWHERE,
        name: "logging_file_count",
        takes: Takes::Number(1..=16, |conf, files| conf.log_files = files),
    },
    Key {
        section: EVERYWHERE,
        name: "logging_type",
        takes: Takes::Anything("files are written, and standard error or the system log besides"),
    },
    Key {
        section: "mount",
        name: "stunnel_debug_enabled",
        takes: Takes::Switch(|conf, on| conf.tunnel_debug = on),
    },
    Key {
        section: "mount",
        name: "stunnel_check_cert_hostname",
        takes: Takes::Switch(|conf, on| conf.check_host_name = on),
    },
    Key {
        section: "mount",
        name: "stunnel_check_cert_validity",
        takes: Takes::Switch(|conf, on| conf.check_validity = on),
    },
    Key {
        section: "mount",
        name: "proxy_port",
        takes: Takes::Number(8000..=65535, |conf, port| {
            conf.proxy_port = u16::try_from(port).unwrap_or(u16::MAX);
        }),
    },
    Key {
        section: "mount",
        name: "hosts_entries",
        takes: Takes::Switch(|conf, on| conf.hosts_entries = on),
    },
    Key {
        section: "mount",
        name: "region",
        takes: Takes::Anything("the domain of the mount target says it"),
    },
    Key {
        section: "mount",
        name: "state_file_dir_mode",
        takes: Takes::Anything("the state directory is root's alone"),
    },
    Key {
        section: "client-info",
        name: "source",
        takes: Takes::Anything("the client certificate says that it is unknown"),
    },
    Key {
        section: "mount-watchdog",
        name: "state_file_dir_mode",
        takes: Takes::Anything("the state directory is root's alone"),
    },
    Key {
        section: "mount-watchdog",
        name: "poll_interval_sec",
        takes: Takes::Anything(
            "the watchdog is told of what happens, and looks every second besides",
        ),
    },
    Key {
        section: "mount-watchdog",
        name: "unmount_grace_period_sec",
        takes: Takes::Number(10..=600, |conf, seconds| {
            conf.unmount_grace = Duration::from_secs(seconds);
        }),
    },
    Key {
        section: "mount-watchdog",
        name: "tls_cert_renewal_interval_min",
        takes: Takes::Anything("client certificates are renewed every 15 minutes"),
    },
    Key { section: "mount-watchdog", name: "check_mount", takes: Takes::Anything(NO_AGENT) },
    Key { section: "mount-watchdog", name: "check_nas_agent", takes: Takes::Anything(NO_AGENT) },
    Key { section: "mount-watchdog", name: "check_pexporter", takes: Takes::Anything(NO_AGENT) },
    Key { section: "mount-watchdog", name: "discover_dadi", takes: Takes::Anything(NO_AGENT) },
    Key { section: "mount-watchdog", name: "check_sessmgr", takes: Takes::Anything(NO_AGENT) },
];

impl AlinasConf {
    /// Reads `path`. A file that is not there says nothing.
    pub(super) fn load(path: &Path) -> Self {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => Self::broken(format!("{name} cannot be read: {error}")),
        }
    }

    fn broken(warning: String) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }

    fn parse(file: &str, text: &str) -> Self {
        let sections = match Ini::new().read(text.to_owned()) {
            Ok(sections) => sections,
            Err(error) => {
                return Self::broken(format!("{file} is passed over, it cannot be read: {error}"));
            }
        };
        let mut conf = Self::default();
        let ours = sections.iter().filter(|(name, _)| !OF_OTHERS.contains(&name.as_str()));
        for (section, settings) in ours {
            for (key, value) in settings {
                let value = value.as_deref().unwrap_or_default();
                if let Err(why) = conf.take(section, key, value.trim()) {
                    conf.warnings.push(format!("{file}: {why}"));
                }
            }
        }
        conf.warnings.sort();
        conf
    }

    fn take(&mut self, section: &str, key: &str, value: &str) -> Result<(), String> {
        // As configparser of Python: what stands under DEFAULT stands under every section.
        let is = |name: &str| section.eq_ignore_ascii_case(name);
        let row = KEYS.iter().find(|row| row.name == key && (is(row.section) || is(EVERYWHERE)));
        let Some(row) = row else {
            let known = KEYS.iter().map(|row| row.name);
            let elsewhere = KEYS.iter().find(|row| row.name == key);
            return Err(match elsewhere {
                Some(row) => format!("{key} belongs into the section [{}]", row.section),
                None => format!("unknown key {key}{}", did_you_mean(key, known)),
            });
        };
        match &row.takes {
            Takes::Level => {
                self.level = level(&value.to_lowercase()).ok_or_else(|| {
                    let words = LEVELS.map(|(word, _)| word).join(", ");
                    format!("{key} is {value:?}; expected one of {words}")
                })?
            }
            Takes::Switch(set) => set(self, switch(key, value)?),
            Takes::Number(range, set) => {
                let number: u64 = value.parse().map_err(|_| {
                    let (least, most) = (range.start(), range.end());
                    format!("{key} is {value:?}; expected a number from {least} to {most}")
                })?;
                let taken = number.clamp(*range.start(), *range.end());
                set(self, taken);
                if taken != number {
                    return Err(format!(
                        "{key} is {number}, which is out of range; {taken} is taken"
                    ));
                }
            }
            Takes::Anything(why) => tracing::debug!(key, why, "a setting without effect"),
        }
        Ok(())
    }
}

const LEVELS: [(&str, &str); 5] = [
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
];

fn level(word: &str) -> Option<&'static str> {
    LEVELS.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours)
}

/// As Python's `getboolean`.
fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value.to_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!("{key} is {value:?}; expected true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that the vendor ships.
    const SHIPPED: &str = "\
[DEFAULT]
logging_level = INFO
logging_max_bytes = 1048576
logging_file_count = 10

[mount]
stunnel_debug_enabled = false
# hostname is not checked
stunnel_check_cert_hostname = false
stunnel_check_cert_validity = false
proxy_port = 12049

[mount-watchdog]
poll_interval_sec = 1
unmount_grace_period_sec = 30

[nas-agent]
io_hang_timeout_us = 120000000
";

    fn parse(text: &str) -> AlinasConf {
        AlinasConf::parse("alinas-utils.conf", text)
    }

    #[test]
    fn the_file_of_the_vendor_says_what_holds_anyway_but_for_the_name_that_is_not_checked() {
        let expected = AlinasConf { check_host_name: false, ..AlinasConf::default() };
        assert_eq!(parse(SHIPPED), expected);
        let none = Path::new("/nonexistent/alinas-utils.conf");
        assert_eq!(AlinasConf::load(none), AlinasConf::default());
    }

    #[test]
    fn the_page_about_the_file_names_every_key() {
        let page = include_str!("../../docs/alinas-utils-conf.md");
        let missing = KEYS.iter().filter(|key| !page.contains(&format!("`{}`", key.name)));
        assert_eq!(missing.map(|key| key.name).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn every_setting_that_means_something_here_is_followed() {
        let conf = parse(
            "[DEFAULT]\nlogging_level=CRITICAL\nlogging_max_bytes=2097152\nlogging_file_count: 3\n\
             [mount]\nSTUNNEL_DEBUG_ENABLED=yes\nstunnel_check_cert_hostname=true\n\
             stunnel_check_cert_validity=on\nproxy_port=20000\nhosts_entries=true\n\
             [mount-watchdog]\nunmount_grace_period_sec=60\n",
        );
        let expected = AlinasConf {
            level: "error",
            log_bytes: 2 << 20,
            log_files: 3,
            tunnel_debug: true,
            check_host_name: true,
            check_validity: true,
            proxy_port: 20000,
            unmount_grace: Duration::from_secs(60),
            hosts_entries: true,
            warnings: Vec::new(),
        };
        assert_eq!(conf, expected);
        assert_eq!(parse("[DEFAULT]\nproxy_port=20000\n").proxy_port, 20000);
    }

    #[test]
    fn what_cannot_be_used_is_named_and_passed_over() {
        for (text, warning) in [
            ("[mount]\nproxy_prot=1\n", "unknown key proxy_prot; did you mean \"proxy_port\"?"),
            ("[mount]\nproxy_port=80\n", "proxy_port is 80, which is out of range; 8000 is taken"),
            (
                "[mount]\nproxy_port=x\n",
                "proxy_port is \"x\"; expected a number from 8000 to 65535",
            ),
            ("[mount-watchdog]\nproxy_port=9000\n", "proxy_port belongs into the section [mount]"),
            (
                "[mount]\nstunnel_debug_enabled=maybe\n",
                "stunnel_debug_enabled is \"maybe\"; expected true or false",
            ),
            (
                "[DEFAULT]\nlogging_level=loud\n",
                "logging_level is \"loud\"; expected one of debug, info, warning, error, critical",
            ),
        ] {
            assert_eq!(parse(text).warnings, [format!("alinas-utils.conf: {warning}")], "{text}");
        }
        assert_eq!(parse("[mount\n").warnings.len(), 1);
    }
}
