//! The text mount options: one table, a strict grammar, typed options out.
//!
//! [`OPTIONS`] is the one table of them: the parser, the documents and `explain` read it. A row says what its
//! option means under each of two [`Rules`]: through the tunnel, where the tunnel decides about addresses and
//! the defaults are those of the vendor's own client, and for a plain NFS mount. Knows nothing of sockets:
//! what is found out about a server is added by [`crate::nfs`].
//!
//! Read [`MountOptions::parse`] first.

mod check;
pub mod explain;
mod fault;
mod parse;
mod place;
mod row;
mod table;
mod word;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::client_identity::AccessPointId;
use crate::model::client_identity::ClientIdentity;
use crate::model::client_identity::CredentialsPath;
use crate::model::client_identity::IdentityError;

pub use fault::Effect;
pub use fault::Note;
pub use fault::OptionError;
pub use row::Consumer;
pub use row::Meaning;
pub use row::NfsOption;
pub use row::Preset;
pub use row::Rules;
pub use row::ValueKind;
pub use row::Versions;
pub use table::OPTIONS;
pub use word::Family;
pub use word::Locks;
pub use word::MountService;
pub use word::NetId;
pub use word::NfsVersion;
pub use word::Transport;
pub use word::VersionWish;

/// The longest option text that is accepted, in bytes. A page (4096) is what mount(2) takes and silently cuts
/// off behind; the rest of it is for the defaults and for what is added about addresses.
pub const LONGEST_TEXT: usize = 3500;

/// The options of one mount, parsed and checked. What holds anyway is not kept, so that two texts that mean
/// the same are equal and have the same canonical text ([`fmt::Display`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    rules: Rules,
    wish: VersionWish,
    /// By the place of the option in [`OPTIONS`].
    settings: BTreeMap<usize, Setting>,
}

/// What the user said for one option, in its canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    key: &'static str,
    value: Option<String>,
}

/// The keys of an option text in their order, as they are written, unknown ones and repetitions included: for
/// a command that must know how something was spelled, or whether `remount` stands among the options.
pub fn keys(text: &str) -> impl Iterator<Item = &str> {
    parse::split(text).filter(|option| !option.is_empty()).map(parse::key_of)
}

/// The row of the option that `key` selects, in any of its spellings.
#[must_use]
pub fn row_of(key: &str) -> Option<&'static NfsOption> {
    place::find(key).map(|(_, option)| option)
}

/// The option text without the options of this key.
#[must_use]
pub fn without(text: &str, key: &str) -> String {
    parse::split(text).filter(|option| parse::key_of(option) != key).collect::<Vec<_>>().join(",")
}

impl MountOptions {
    /// No options: the defaults of these rules.
    #[must_use]
    pub fn unsaid(rules: Rules) -> Self {
        Self { rules, wish: VersionWish::unsaid(rules), settings: BTreeMap::new() }
    }

    /// Reads option texts in their order; of several values for a key the last one wins.
    ///
    /// # Errors
    /// Names the option, what is wrong with it, and the nearest known one.
    pub fn parse<'a>(
        rules: Rules,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, OptionError> {
        Self::parse_with_notes(rules, texts).map(|(options, _)| options)
    }

    /// As [`Self::parse`]; also says which options do not do all that they say, and why.
    ///
    /// # Errors
    /// Names the option, what is wrong with it, and the nearest known one.
    pub fn parse_with_notes<'a>(
        rules: Rules,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<(Self, Vec<Note>), OptionError> {
        parse::parse(rules, texts)
    }

    /// The rules that they were read under.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The NFS version. Through the tunnel always one, for a plain mount it may be left open; see
    /// [`Self::selects_version_3`] then.
    #[must_use]
    pub fn version_wish(&self) -> VersionWish {
        self.wish
    }

    /// Whether the version is left open and yet only 3 can be meant, because an option about MOUNT calls was
    /// given, or UDP.
    #[must_use]
    pub fn selects_version_3(&self) -> bool {
        const ABOUT_MOUNT: [usize; 5] = [
            place::MOUNT_HOST,
            place::MOUNT_ADDRESS,
            place::MOUNT_VERSION,
            place::MOUNT_PROTO,
            place::MOUNT_PORT,
        ];
        let udp = || matches!(self.netid(), Some((Transport::Udp, _)));
        self.wish == VersionWish::Open
            && (ABOUT_MOUNT.iter().any(|place| self.settings.contains_key(place)) || udp())
    }

    /// The transport, and the family where a value named one: `proto=tcp` asks for IPv4, `tcp` does not.
    #[must_use]
    pub fn netid(&self) -> Option<(Transport, Option<Family>)> {
        self.settings.get(&place::PROTO)?.netid()
    }

    /// The port of NFS; 0: ask rpcbind.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.value(place::PORT)?.parse().ok()
    }

    /// What was said about the service that answers MOUNT calls.
    #[must_use]
    pub fn mount_service(&self) -> MountService {
        MountService {
            host: self.value(place::MOUNT_HOST).map(str::to_owned),
            address: self.value(place::MOUNT_ADDRESS).and_then(|value| value.parse().ok()),
            port: self.value(place::MOUNT_PORT).and_then(|value| value.parse().ok()),
            netid: self.value(place::MOUNT_PROTO).and_then(NetId::parse),
            version: self.value(place::MOUNT_VERSION).and_then(|value| value.parse().ok()),
        }
    }

    /// The address for the server's calls back, where the user chose one.
    #[must_use]
    pub fn client_address(&self) -> Option<IpAddr> {
        self.value(place::CLIENT_ADDRESS)?.parse().ok()
    }

    /// For how long the mount is tried, where the user said so; zero: once.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        let minutes: u64 = self.value(place::RETRY)?.parse().ok()?;
        Some(Duration::from_secs(minutes * 60))
    }

    /// Whether the mount goes on being tried behind the caller's back.
    #[must_use]
    pub fn background(&self) -> bool {
        self.key(place::BACKGROUND) == Some("bg")
    }

    /// Whether options that nobody knows are passed over.
    #[must_use]
    pub fn sloppy(&self) -> bool {
        self.settings.contains_key(&place::SLOPPY)
    }

    /// Who keeps the locks of an NFSv3 mount; NFSv4 has its own.
    #[must_use]
    pub fn locks(&self) -> Locks {
        match (self.key(place::NO_LOCK), self.value(place::LOCAL_LOCK), self.rules) {
            (Some("nolock"), _, _) | (_, Some("all"), _) | (None, _, Rules::Tunnel) => Locks::Local,
            (_, Some("flock" | "posix"), _) => Locks::PartlyRemote,
            _ => Locks::Remote,
        }
    }

    /// The security flavours in the user's order, in the kernel's spelling; empty where nothing was said.
    #[must_use]
    pub fn security(&self) -> Vec<&str> {
        self.value(place::SECURITY).map(|list| list.split(':').collect()).unwrap_or_default()
    }

    /// Whether rpc.gssd must run: a flavour other than `sys` and `none` was asked for.
    #[must_use]
    pub fn needs_gssd(&self) -> bool {
        self.security().iter().any(|flavour| !["sys", "none"].contains(flavour))
    }

    /// Whether tlshd must run.
    #[must_use]
    pub fn needs_tlshd(&self) -> bool {
        matches!(self.value(place::TRANSPORT_SECURITY), Some("tls" | "mtls"))
    }

    /// Whether the mount is to be read-only.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.settings.contains_key(&place::READ_ONLY)
    }

    /// What the client certificate is to say.
    ///
    /// # Errors
    /// When the access point or the path of the credentials is none.
    pub fn identity(&self) -> Result<ClientIdentity, IdentityError> {
        let asked = self.settings.contains_key(&place::RAM);
        let usual = || asked.then(CredentialsPath::default);
        let path = self.value(place::RAM_CONFIG_FILE).map(CredentialsPath::parse).transpose()?;
        Ok(ClientIdentity {
            access_point: self.value(place::ACCESS_POINT).map(AccessPointId::parse).transpose()?,
            ram: path.or_else(usual),
        })
    }

    /// The attributes of the mount that differ from the kernel's defaults: `ro`, `nosuid`, …
    #[must_use]
    pub fn attributes(&self) -> Vec<String> {
        let rows = self.settings.iter().filter_map(|(place, setting)| {
            let consumer = OPTIONS.get(*place)?.under(self.rules).consumer;
            (consumer == Consumer::Attribute).then(|| setting.key.to_owned())
        });
        rows.collect()
    }

    /// What the kernel's NFS client is told for this version, in the order of the table: the user's options and
    /// our defaults, but neither the version nor anything about transports, addresses and ports. `sloppy` comes
    /// first: the kernel passes over only what stands behind it.
    #[must_use]
    pub fn kernel_options(&self, version: NfsVersion) -> Vec<(String, Option<String>)> {
        let for_kernel = |option: &NfsOption| {
            option.under(self.rules).consumer == Consumer::Kernel
                && option.versions.include(version)
        };
        OPTIONS
            .iter()
            .enumerate()
            .filter(|(_, option)| for_kernel(option))
            .filter_map(|(place, option)| match self.settings.get(&place) {
                Some(setting) => Some((setting.key.to_owned(), setting.value.clone())),
                None => option.sent_by_default(self.rules),
            })
            .collect()
    }

    /// Without what only matters until it is mounted: `bg` and `retry`. Two mounts that differ in these alone
    /// are the same.
    #[must_use]
    pub fn lasting(&self) -> Self {
        let mut lasting = self.clone();
        lasting.settings.remove(&place::BACKGROUND);
        lasting.settings.remove(&place::RETRY);
        lasting
    }

    fn key(&self, place: usize) -> Option<&'static str> {
        self.settings.get(&place).map(|setting| setting.key)
    }

    fn value(&self, place: usize) -> Option<&str> {
        self.settings.get(&place)?.value.as_deref()
    }
}

/// No options, through the tunnel.
impl Default for MountOptions {
    fn default() -> Self {
        Self::unsaid(Rules::Tunnel)
    }
}

impl NfsOption {
    fn sent_by_default(&self, rules: Rules) -> Option<(String, Option<String>)> {
        let Preset::Sent(text) = self.under(rules).default else { return None };
        Some(match self.value {
            ValueKind::Number { .. } => (self.name.to_owned(), Some(text.to_owned())),
            _ => (text.to_owned(), None),
        })
    }
}

impl Setting {
    fn netid(&self) -> Option<(Transport, Option<Family>)> {
        let netid = NetId::parse(self.value.as_deref().unwrap_or(self.key))?;
        Some((netid.transport, self.value.is_some().then_some(netid.family)))
    }
}

/// The canonical text: the version first, unless it is left open, then what differs from the defaults, in the
/// order of the table.
impl fmt::Display for MountOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.wish == VersionWish::Open;
        if !open {
            write!(f, "vers={}", self.wish)?;
        }
        for (number, setting) in self.settings.values().enumerate() {
            let comma = if open && number == 0 { "" } else { "," };
            write!(f, "{comma}{setting}")?;
        }
        Ok(())
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
mod direct_tests;
#[cfg(test)]
mod tests;
