//! Network namespaces, by the links that the kernel shows for them (namespaces(7)).
//!
//! Reading such a link takes no lock of the process's memory, so it does not block on a process that hangs.

use std::fs;
use std::io;

/// A network namespace, as in `net:[4026531840]`. Equal texts are one namespace until the next boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetNamespace(String);

impl NetNamespace {
    /// That of this process.
    ///
    /// # Errors
    /// Where `/proc` does not show it.
    pub fn own() -> io::Result<Self> {
        Self::at("/proc/self/ns/net")
    }

    /// That of the first process that is seen from here: of the host's, or of the container's where it has process ids of
    /// its own.
    ///
    /// # Errors
    /// Where this process may not see it.
    pub fn of_first_process() -> io::Result<Self> {
        Self::at("/proc/1/ns/net")
    }

    /// As it was written down.
    #[must_use]
    pub fn noted(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it is written down.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn at(link: &str) -> io::Result<Self> {
        Ok(Self(fs::read_link(link)?.to_string_lossy().into_owned()))
    }
}

impl std::fmt::Display for NetNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Another one after each boot (random(4)).
///
/// # Errors
/// Where `/proc` does not show it.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_itself_as_it_was_written_down() {
        let own = NetNamespace::own().unwrap();
        assert!(own.as_str().starts_with("net:["), "{own}");
        assert_eq!(NetNamespace::noted(own.as_str()), own);
        assert_ne!(NetNamespace::noted("net:[1]"), own);
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
