//! The first argument of a mount: `host:/path`, `[2001:db8::1]:/path`.

use std::fmt;

/// What is to be mounted. The host is never empty and has no brackets; the path is as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName {
    host: String,
    path: String,
}

impl DeviceName {
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
