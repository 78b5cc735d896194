//! What a server answers, read with a bound on everything.
//!
//! The crate that makes our calls allocates whatever a length says before it reads so much, and takes an unknown
//! status for an error of its own. So results are read here: RFC 1813, section 2.6 and 3.3.

use std::fmt;

use crate::nfs::client::name::Name;
use crate::nfs::client::name::NameError;

/// NFS3_FHSIZE (RFC 1813, section 2.4).
const LONGEST_HANDLE: usize = 64;
/// Of a name: more than any file system has, for the refusal to be about the name.
const LONGEST_NAME: usize = 4096;

/// What a server calls a file or directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle(Vec<u8>);

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NF3DIR.
    Directory,
    /// NF3REG.
    File,
    /// NF3LNK.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// What is known about something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: Kind,
    /// What it is, where it is a device, socket or pipe.
    pub special: Option<Special>,
    /// How many names it has.
    pub links: u32,
    /// The permission bits.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// Of which group.
    pub gid: u32,
    /// In bytes.
    pub size: u64,
    /// The number that nothing else on this file system has.
    pub number: u64,
    /// When it was last read.
    pub accessed: Time,
    /// When its content was last changed.
    pub modified: Time,
}

/// A device, socket or pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// NF3CHR, with its numbers.
    Character((u32, u32)),
    /// NF3BLK, with its numbers.
    Block((u32, u32)),
    /// NF3SOCK.
    Socket,
    /// NF3FIFO.
    Pipe,
}

/// A time of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Since 1970.
    pub seconds: u32,
    /// Of the second.
    pub nanoseconds: u32,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Character(_) | Self::Block(_) => "device",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
        })
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Its number, as in [`Attributes::number`].
    pub number: u64,
    /// What it is, where the server says so at once.
    pub kind: Option<Kind>,
    /// Where the directory goes on behind it.
    pub behind: Place,
}

/// Where the next page of a directory begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub(super) cookie: u64,
    pub(super) verifier: u64,
}

#[cfg(test)]
impl Place {
    pub(crate) fn at(cookie: u64) -> Self {
        Self { cookie, verifier: 0 }
    }

    pub(crate) fn cookie(self) -> u64 {
        self.cookie
    }
}

/// Some entries of a directory, `.` and `..` left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where it goes on; none at the end.
    pub next: Option<Place>,
}

/// The bytes of a result.
pub(super) struct Results<'a>(pub(super) &'a [u8]);

impl Handle {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A handle of so many bytes as a server may give.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (1..=LONGEST_HANDLE).contains(&bytes.len()).then(|| Self(bytes.to_owned()))
    }
}

/// `None` everywhere: the result is shorter than it says, or something in it cannot be.
impl Results<'_> {
    pub(super) fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        let (long, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*long))
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.word()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn opaque(&mut self, longest: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(self.word()?).ok().filter(|length| *length <= longest)?;
        let bytes = self.0.get(..length)?.to_owned();
        self.0 = self.0.get(length.next_multiple_of(4)..)?;
        Some(bytes)
    }

    pub(super) fn handle(&mut self) -> Option<Handle> {
        Handle::from_bytes(&self.opaque(LONGEST_HANDLE)?)
    }

    pub(super) fn attributes(&mut self) -> Option<Attributes> {
        const FILE: u32 = 1;
        const DIRECTORY: u32 = 2;
        const BLOCK: u32 = 3;
        const CHARACTER: u32 = 4;
        const LINK: u32 = 5;
        const SOCKET: u32 = 6;
        let number_of_kind = self.word()?;
        let (mode, links) = (self.word()?, self.word()?);
        let (uid, gid) = (self.word()?, self.word()?);
        let (size, _used) = (self.long()?, self.long()?);
        let device = (self.word()?, self.word()?);
        let (_file_system, number) = (self.long()?, self.long()?);
        let (accessed, modified, _changed) = (self.time()?, self.time()?, self.time()?);
        let (kind, special) = match number_of_kind {
            DIRECTORY => (Kind::Directory, None),
            FILE => (Kind::File, None),
            LINK => (Kind::Link, None),
            BLOCK => (Kind::Other, Some(Special::Block(device))),
            CHARACTER => (Kind::Other, Some(Special::Character(device))),
            SOCKET => (Kind::Other, Some(Special::Socket)),
            _ => (Kind::Other, Some(Special::Pipe)),
        };
        let mode = mode & 0o7777;
        Some(Attributes { kind, special, links, mode, uid, gid, size, number, accessed, modified })
    }

    fn time(&mut self) -> Option<Time> {
        Some(Time { seconds: self.word()?, nanoseconds: self.word()? })
    }

    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    /// What a directory or file was before and is after.
    pub(super) fn skip_change(&mut self) -> Option<()> {
        let before = |results: &mut Self| Some((results.long()?, results.long()?, results.long()?));
        self.optional(before)?;
        self.optional(Self::attributes)?;
        Some(())
    }

    /// The rest of a READDIRPLUS result.
    pub(super) fn page(&mut self) -> Option<Result<Page, NameError>> {
        self.optional(Self::attributes)?;
        let verifier = self.long()?;
        let mut entries = Vec::new();
        let mut last = None;
        while self.flag()? {
            let number = self.long()?;
            let name = self.opaque(LONGEST_NAME)?;
            let cookie = self.long()?;
            let attributes = self.optional(Self::attributes)?;
            self.optional(Self::handle)?;
            let behind = Place { cookie, verifier };
            last = Some(behind);
            if matches!(&name[..], b"." | b"..") {
                continue;
            }
            let kind = attributes.map(|attributes| attributes.kind);
            match Name::shown(&name) {
                Ok(name) => entries.push(Entry { name, number, kind, behind }),
                Err(error) => return Some(Err(error)),
            }
        }
        let is_end = self.flag()?;
        Some(Ok(Page { entries, next: last.filter(|_| !is_end) }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn attributes(kind: u32, number: u32) -> Vec<u32> {
        let mut all = vec![kind, 0o100_755, 1, 10, 20, 0, 5];
        all.extend([0, 0, 8, 1, 0, 0, 0, number]);
        all.extend([3, 4, 5, 6, 0, 0]);
        all
    }

    #[test]
    fn attributes_are_read_word_by_word() {
        for (number_of_kind, kind, special) in [
            (1, Kind::File, None),
            (2, Kind::Directory, None),
            (3, Kind::Other, Some(Special::Block((8, 1)))),
            (4, Kind::Other, Some(Special::Character((8, 1)))),
            (5, Kind::Link, None),
            (6, Kind::Other, Some(Special::Socket)),
            (7, Kind::Other, Some(Special::Pipe)),
        ] {
            let bytes = words(&attributes(number_of_kind, 77));
            let mut results = Results(&bytes);
            let expected = Attributes {
                kind,
                special,
                links: 1,
                mode: 0o755,
                uid: 10,
                gid: 20,
                size: 5,
                number: 77,
                accessed: Time { seconds: 3, nanoseconds: 4 },
                modified: Time { seconds: 5, nanoseconds: 6 },
            };
            assert_eq!(results.attributes(), Some(expected));
            assert!(results.0.is_empty());
        }
    }

    #[test]
    fn a_page_leaves_out_the_dots_and_says_where_it_goes_on() {
        let name = u32::from_be_bytes(*b"ab\0\0");
        let dot = u32::from_be_bytes(*b".\0\0\0");
        let mut all = vec![0, 0, 9];
        all.extend([1, 0, 1, 1, dot, 0, 1, 0, 0]);
        all.extend([1, 0, 2, 2, name, 0, 4, 1]);
        all.extend(attributes(5, 2));
        all.extend([0, 0, 0]);
        let bytes = words(&all);
        let page = Results(&bytes).page().unwrap().unwrap();
        let (name, behind) = (Name::parse("ab").unwrap(), Place { cookie: 4, verifier: 9 });
        let entry = Entry { name, number: 2, kind: Some(Kind::Link), behind };
        assert_eq!(page.entries, [entry]);
        assert_eq!(page.next, Some(Place { cookie: 4, verifier: 9 }));
        for length in 0..bytes.len() {
            assert!(Results(&bytes[..length]).page().is_none(), "{length}");
        }
    }

    #[test]
    fn no_length_is_believed() {
        assert_eq!(Results(&words(&[u32::MAX, 0])).opaque(usize::MAX), None);
        assert_eq!(Results(&words(&[65])).handle(), None);
        assert_eq!(Results(&words(&[0])).handle(), None);
        assert_eq!(Results(&words(&[2])).flag(), None);
    }

    proptest! {
        #[test]
        fn whatever_a_server_answers_is_a_page_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Results(&bytes).page();
        }
    }
}
