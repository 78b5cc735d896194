//! The first argument of a mount: `host:/path`, `[2001:db8::1]:/path`.
//!
//! Stricter than mount.nfs, which mounts the first of several hosts after a warning, and takes the front of an
//! IPv6 address for a name. The path is kept as it is: blanks, ampersands, commas, any script.
//!
//! Read [`DeviceName::parse`] first.

use std::fmt;
use std::net::Ipv6Addr;

use super::ExportPath;
use super::MountTarget;
use super::NfsVersion;

/// The longest name of a host, in bytes (RFC 1035 section 2.3.4; NFS4_MAXNAMLEN of the kernel).
const LONGEST_HOST: usize = 255;

/// The longest path that an NFSv3 MOUNT call carries (MNTPATHLEN, RFC 1813 section 5.1.1).
const LONGEST_PATH_V3: usize = 1024;

/// The longest device name: mount(2) takes a page with a NUL at its end.
const LONGEST: usize = 4095;

/// What is to be mounted. The host is never empty and has no brackets; the path is as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName {
    host: String,
    path: String,
}

/// Why a text names nothing that could be mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceNameError {
    /// Nothing at all.
    #[error("no device name was given; write host:/path")]
    Missing,
    /// A line end or another control character, which could forge a line of a log.
    #[error("device name {0:?} holds a control character")]
    Control(String),
    /// A URL as of RFC 2224.
    #[error("device name {url:?} is a URL, which a mount does not take; write {instead}")]
    Url {
        /// What was given.
        url: String,
        /// What to write in its place.
        instead: String,
    },
    /// `[` without its `]`.
    #[error("device name {0:?} lacks the closing bracket behind the address")]
    BracketOpen(String),
    /// Something else than an IPv6 address in brackets.
    #[error(
        "device name {device:?}: {inside:?} is no IPv6 address, and nothing else stands in brackets"
    )]
    BracketsAround {
        /// What was given.
        device: String,
        /// What stands in the brackets.
        inside: String,
    },
    /// An IPv6 address without brackets, whose first group would be taken for the host.
    #[error("device name {device:?}: an IPv6 address stands in brackets; write {instead}")]
    BracketsMissing {
        /// What was given.
        device: String,
        /// What to write in its place.
        instead: String,
    },
    /// No colon, or none behind the bracket.
    #[error("device name {0:?} has no colon between host and path; write host:/path")]
    NoColon(String),
    /// Nothing before the colon.
    #[error("device name {0:?} has no host before the colon; write host:/path")]
    NoHost(String),
    /// `a,b:/path`.
    #[error(
        "device name {0:?} names several hosts; Linux mounts from one, so give one (the addresses of one name are \
         all tried)"
    )]
    SeveralHosts(String),
    /// A blank or a slash before the colon.
    #[error("device name {device:?}: {host:?} is no name of a host")]
    NoHostName {
        /// What was given.
        device: String,
        /// What stands before the colon.
        host: String,
    },
    /// The host is too long.
    #[error("the host of the device name has {0} bytes; at most {LONGEST_HOST} are accepted")]
    HostTooLong(usize),
    /// The path is too long for the version.
    #[error("the path of the device name has {0} bytes; NFSv3 carries at most {LONGEST_PATH_V3}")]
    PathTooLong(usize),
    /// All of it is too long.
    #[error("the device name has {0} bytes; the kernel takes at most {LONGEST}")]
    TooLong(usize),
}

impl DeviceName {
    /// Reads a device name.
    ///
    /// # Errors
    /// Says which rule the text breaks, and what to write instead where that is clear.
    pub fn parse(text: &str) -> Result<Self, DeviceNameError> {
        if text.is_empty() {
            return Err(DeviceNameError::Missing);
        }
        if text.len() > LONGEST {
            return Err(DeviceNameError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(DeviceNameError::Control(text.to_owned()));
        }
        refuse_url(text)?;
        let (host, path) = match text.strip_prefix('[') {
            Some(rest) => bracketed(text, rest)?,
            None => plain(text)?,
        };
        Ok(Self { host: host.to_owned(), path: path.to_owned() })
    }

    /// The device name of a volume.
    #[must_use]
    pub fn of_volume(server: &MountTarget, path: &ExportPath) -> Self {
        Self { host: server.name().as_str().to_owned(), path: path.as_str().to_owned() }
    }

    /// A name or an address, IPv6 without brackets, a scope (`%eth0`) included.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path on the server.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether this version carries the path. NFSv4 asks for it part by part, and has no limit of its own.
    ///
    /// # Errors
    /// Says how long it is and how long it may be.
    pub fn check_for(&self, version: NfsVersion) -> Result<(), DeviceNameError> {
        let fits = version.is_4() || self.path.len() <= LONGEST_PATH_V3;
        if fits { Ok(()) } else { Err(DeviceNameError::PathTooLong(self.path.len())) }
    }

    /// What to know of a path that does not begin with a slash: accepted, as by mount.nfs.
    #[must_use]
    pub fn note(&self) -> Option<&'static str> {
        (!self.path.starts_with('/')).then_some(
            "the path does not begin with \"/\": NFSv4 adds one, with NFSv3 the server decides what it means",
        )
    }
}

fn refuse_url(text: &str) -> Result<(), DeviceNameError> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(()) };
    if !scheme.eq_ignore_ascii_case("nfs") {
        return Ok(());
    }
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let port = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let instead = match port {
        Some((host, port)) => format!("{host}:{path} with the option port={port}"),
        None => format!("{authority}:{path}"),
    };
    Err(DeviceNameError::Url { url: text.to_owned(), instead })
}

/// `2001:db8::1]:/path`, the bracket before it taken away.
fn bracketed<'a>(text: &str, rest: &'a str) -> Result<(&'a str, &'a str), DeviceNameError> {
    let (inside, behind) =
        rest.split_once(']').ok_or_else(|| DeviceNameError::BracketOpen(text.to_owned()))?;
    if !is_ipv6(inside) {
        let (device, inside) = (text.to_owned(), inside.to_owned());
        return Err(DeviceNameError::BracketsAround { device, inside });
    }
    let path = behind.strip_prefix(':').ok_or_else(|| DeviceNameError::NoColon(text.to_owned()))?;
    Ok((inside, path))
}

fn plain(text: &str) -> Result<(&str, &str), DeviceNameError> {
    let (host, path) =
        text.split_once(':').ok_or_else(|| DeviceNameError::NoColon(text.to_owned()))?;
    if host.len() > LONGEST_HOST {
        return Err(DeviceNameError::HostTooLong(host.len()));
    }
    if let Some((address, path)) = text.rsplit_once(':').filter(|(front, _)| is_ipv6(front)) {
        let (device, instead) = (text.to_owned(), format!("[{address}]:{path}"));
        return Err(DeviceNameError::BracketsMissing { device, instead });
    }
    if host.is_empty() {
        return Err(DeviceNameError::NoHost(text.to_owned()));
    }
    if host.contains(',') {
        return Err(DeviceNameError::SeveralHosts(text.to_owned()));
    }
    if host.contains(|character: char| character.is_whitespace() || "/[]".contains(character)) {
        let (device, host) = (text.to_owned(), host.to_owned());
        return Err(DeviceNameError::NoHostName { device, host });
    }
    Ok((host, path))
}

/// An IPv6 address, with or without a scope: `fe80::1%eth0` (RFC 4007 section 11.2).
fn is_ipv6(text: &str) -> bool {
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    // A comma would begin another option where the address is told to the kernel.
    let foreign = |character: char| character.is_whitespace() || "/%[],\"".contains(character);
    let named = |scope: &str| !scope.is_empty() && !scope.contains(foreign);
    address.parse::<Ipv6Addr>().is_ok() && scope.is_none_or(named) && text.len() <= LONGEST_HOST
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.path)
        } else {
            write!(f, "{}:{}", self.host, self.path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_form_is_taken_apart_at_its_colon() {
        for (text, host, path) in [
            ("server:/export/share", "server", "/export/share"),
            ("10.0.0.1:/", "10.0.0.1", "/"),
            ("[2001:db8::1]:/a", "2001:db8::1", "/a"),
            ("[fe80::1%eth0]:/a", "fe80::1%eth0", "/a"),
            ("[::ffff:10.0.0.1]:/", "::ffff:10.0.0.1", "/"),
            ("s:/a b&c,d:e=\"f\"/\u{e4}\u{4e2d}#%[x]", "s", "/a b&c,d:e=\"f\"/\u{e4}\u{4e2d}#%[x]"),
            ("s://a//b/../", "s", "//a//b/../"),
            ("s:relative", "s", "relative"),
            ("s:", "s", ""),
            ("a_b.example.:/", "a_b.example.", "/"),
            ("http://x/", "http", "//x/"),
        ] {
            let device = DeviceName::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((device.host(), device.path()), (host, path), "{text}");
            assert_eq!(device.to_string(), text);
            assert_eq!(device.note().is_some(), !path.starts_with('/'), "{text}");
        }
    }

    #[test]
    fn each_refusal_says_why_and_what_to_write_instead() {
        for (text, said) in [
            ("", "no device name was given; write host:/path"),
            ("server", "no colon between host and path"),
            ("/dev/sda1", "no colon"),
            ("//server/share", "no colon"),
            ("[2001:db8::1]/a", "no colon"),
            ("[2001:db8::1", "lacks the closing bracket"),
            ("[2001:db8::1:/a", "lacks the closing bracket"),
            ("[server]:/a", "\"server\" is no IPv6 address"),
            ("[10.0.0.1]:/a", "\"10.0.0.1\" is no IPv6 address"),
            ("[fe80::1%]:/a", "\"fe80::1%\" is no IPv6 address"),
            ("[fe80::1%a/b]:/a", "is no IPv6 address"),
            ("[fe80::1%eth0,port=1]:/a", "is no IPv6 address"),
            ("[]:/a", "\"\" is no IPv6 address"),
            ("2001:db8::1:/a", "in brackets; write [2001:db8::1]:/a"),
            ("::1:/a", "in brackets; write [::1]:/a"),
            ("fe80::1%eth0:/a", "write [fe80::1%eth0]:/a"),
            (":/a", "no host before the colon"),
            ("a,b:/p", "several hosts"),
            ("a:/p,b:/p\n", "control character"),
            ("a\u{85}:/p", "control character"),
            ("a b:/p", "\"a b\" is no name of a host"),
            ("a/b:/p", "\"a/b\" is no name of a host"),
            ("a]:/p", "\"a]\" is no name of a host"),
            ("nfs://server/export/a", "write server:/export/a"),
            ("NFS://server", "write server:/"),
            ("nfs://server:2050/a", "write server:/a with the option port=2050"),
            ("nfs://[::1]:2050/a", "write [::1]:/a with the option port=2050"),
            ("nfs://[::1]/a", "write [::1]:/a"),
        ] {
            match DeviceName::parse(text) {
                Ok(device) => panic!("{text} was accepted: {device:?}"),
                Err(error) => assert!(error.to_string().contains(said), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn lengths_are_those_that_the_kernel_and_the_protocol_carry() {
        let host = |length| DeviceName::parse(&format!("{}:/", "h".repeat(length)));
        assert!(host(255).is_ok());
        assert_eq!(host(256), Err(DeviceNameError::HostTooLong(256)));
        let path = |length: usize| DeviceName::parse(&format!("s:/{}", "p".repeat(length - 1)));
        assert_eq!(path(1024).unwrap().check_for(NfsVersion::V3), Ok(()));
        let long = path(1025).unwrap();
        assert_eq!(long.check_for(NfsVersion::V3), Err(DeviceNameError::PathTooLong(1025)));
        assert_eq!(long.check_for(NfsVersion::V42), Ok(()));
        assert!(path(4093).is_ok());
        assert_eq!(path(4094), Err(DeviceNameError::TooLong(4096)));
    }

    #[test]
    fn the_device_name_of_a_volume_is_its_server_and_its_path() {
        let server = MountTarget::parse("[2001:db8::1]").unwrap();
        let device = DeviceName::of_volume(&server, &ExportPath::parse("/a/").unwrap());
        assert_eq!(device, DeviceName::parse("[2001:db8::1]:/a").unwrap());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_shown_as_it_was_written(text in "\\PC{0,12}:?[/\\[\\]:,%a-f0-9]{0,12}") {
            if let Ok(device) = DeviceName::parse(&text) {
                prop_assert_eq!(device.to_string(), text);
            }
        }
    }
}
