//! The kernel's mount table, as `/proc/self/mountinfo` shows it (proc(5)). Reading it never blocks.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id.
    pub id: u64,
    /// Device of the superblock, `major:minor`.
    pub device: String,
    /// The directory of the file system that is the root of this mount.
    pub root: String,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The options of this mount alone: `rw`, `ro`, `nosuid`, …
    pub options: Vec<String>,
    /// The `shared:N` peer group. Bind mounts of a shared mount have its number.
    pub peer_group: Option<u64>,
    /// `nfs`, `nfs4`, `tmpfs`, …
    pub fs_type: String,
    /// What is mounted: `domain:/path`.
    pub source: String,
    /// The options of the superblock.
    pub super_options: Vec<String>,
}

/// Reads the mount table of this mount namespace.
pub trait MountTable: Send + Sync + std::fmt::Debug {
    /// Every mount, in the kernel's order: of several at one place the last is on top.
    ///
    /// # Errors
    /// When the table cannot be read or understood.
    fn read(&self) -> io::Result<Vec<MountEntry>>;
}

/// The mount table of this process's mount namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcMountTable;

impl MountTable for ProcMountTable {
    fn read(&self) -> io::Result<Vec<MountEntry>> {
        // A path of somebody else's that is no UTF-8 must not hide ours.
        parse(&String::from_utf8_lossy(&fs::read(MOUNTINFO)?))
    }
}

/// The mount that is on top at `path`.
#[must_use]
pub fn topmost_at<'a>(entries: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    entries.iter().rev().find(|entry| entry.mount_point == path)
}

/// Whether there is another mount of the same superblock.
#[must_use]
pub fn has_other_of_device(entries: &[MountEntry], mount: &MountEntry) -> bool {
    entries.iter().any(|entry| entry.device == mount.device && entry.id != mount.id)
}

impl MountEntry {
    /// Whether it is an NFS mount of any version.
    #[must_use]
    pub fn is_nfs(&self) -> bool {
        matches!(self.fs_type.as_str(), "nfs" | "nfs4")
    }

    /// Whether nothing can be written through this mount.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }

    /// The value of an option of the superblock, as in `addr=127.0.1.1`.
    #[must_use]
    pub fn super_option(&self, key: &str) -> Option<&str> {
        self.super_options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Reads the text of mountinfo.
///
/// # Errors
/// Shows the first line that is none of mountinfo's.
pub fn parse(text: &str) -> io::Result<Vec<MountEntry>> {
    let malformed = |line: &str| {
        io::Error::new(io::ErrorKind::InvalidData, format!("no line of mountinfo: {line:?}"))
    };
    text.lines().map(|line| entry(line).ok_or_else(|| malformed(line))).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue`
fn entry(line: &str) -> Option<MountEntry> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let _parent: u64 = fields.next()?.parse().ok()?;
    let device = fields.next()?.to_owned();
    let root = unescaped_text(fields.next()?);
    let mount_point = PathBuf::from(OsString::from_vec(unescape(fields.next()?.as_bytes())));
    let options = split_options(fields.next()?);
    // Optional fields, of which there may be none, up to a hyphen.
    let peer_group = fields
        .by_ref()
        .take_while(|field| *field != "-")
        .filter_map(|field| field.strip_prefix("shared:")?.parse().ok())
        .last();
    let fs_type = unescaped_text(fields.next()?);
    let source = unescaped_text(fields.next()?);
    let super_options = split_options(fields.next()?);
    Some(MountEntry {
        id,
        device,
        root,
        mount_point,
        options,
        peer_group,
        fs_type,
        source,
        super_options,
    })
}

fn split_options(field: &str) -> Vec<String> {
    field.split(',').map(unescaped_text).collect()
}

fn unescaped_text(field: &str) -> String {
    String::from_utf8_lossy(&unescape(field.as_bytes())).into_owned()
}

/// The kernel writes blanks, tabs, line ends, `\` and `#` as three octal digits behind a `\`, and so does libmount.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = if *first == b'\\' { octal(behind) } else { None };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..3)?).ok()?;
    u8::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with('+'))
}

#[cfg(test)]
pub mod fake {
    //! A mount table in memory, which a test and the code under test share.

    use std::sync::Arc;
    use std::sync::Mutex;
    use std::sync::PoisonError;

    use super::*;

    /// Clones share the same table.
    #[derive(Clone, Debug, Default)]
    pub struct FakeMountTable(Arc<Mutex<State>>);

    #[derive(Debug, Default)]
    struct State {
        entries: Vec<MountEntry>,
        unreadable: bool,
        last_id: u64,
    }

    impl FakeMountTable {
        /// Puts a mount on top; gives it an id where it has none (0).
        pub fn add(&self, entry: MountEntry) {
            let mut state = self.state();
            state.last_id += 1;
            let id = if entry.id == 0 { state.last_id } else { entry.id };
            state.entries.push(MountEntry { id, ..entry });
        }

        /// Takes away what is on top at `path`; says whether there was something.
        pub fn remove_top(&self, path: &Path) -> bool {
            let entries = &mut self.state().entries;
            match entries.iter().rposition(|entry| entry.mount_point == path) {
                Some(place) => {
                    entries.remove(place);
                    true
                }
                None => false,
            }
        }

        /// From now on, reading fails or works.
        pub fn unreadable(&self, unreadable: bool) {
            self.state().unreadable = unreadable;
        }

        /// Every mount.
        #[must_use]
        pub fn entries(&self) -> Vec<MountEntry> {
            self.state().entries.clone()
        }

        fn state(&self) -> std::sync::MutexGuard<'_, State> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl MountTable for FakeMountTable {
        fn read(&self) -> io::Result<Vec<MountEntry>> {
            let state = self.state();
            if state.unreadable {
                return Err(io::Error::other("the fake mount table is unreadable"));
            }
            Ok(state.entries.clone())
        }
    }

    /// An NFS mount, read-write and alone in its peer group.
    #[must_use]
    pub fn nfs_mount(source: &str, mount_point: &Path) -> MountEntry {
        MountEntry {
            id: 0,
            device: "0:99".to_owned(),
            root: "/".to_owned(),
            mount_point: mount_point.to_owned(),
            options: vec!["rw".to_owned(), "relatime".to_owned()],
            peer_group: None,
            fs_type: "nfs".to_owned(),
            source: source.to_owned(),
            super_options: vec!["rw".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NFS: &str = "412 29 0:52 / /var/lib/kubelet/a\\040b\\134\\011ü rw,nosuid shared:7 master:3 - nfs4 \
                       nas.example:/a\\040b rw,vers=4.0,addr=127.0.1.1,port=12049";

    #[test]
    fn a_line_of_mountinfo_becomes_an_entry() {
        let entries = parse(NFS).unwrap();
        let entry = topmost_at(&entries, Path::new("/var/lib/kubelet/a b\\\tü")).unwrap();
        assert_eq!(entry.id, 412);
        assert_eq!(entry.device, "0:52");
        assert_eq!(entry.root, "/");
        assert_eq!(entry.options, ["rw", "nosuid"]);
        assert_eq!(entry.peer_group, Some(7));
        assert_eq!(entry.source, "nas.example:/a b");
        assert!(entry.is_nfs() && !entry.is_read_only());
        assert_eq!(entry.super_option("addr"), Some("127.0.1.1"));
        assert_eq!(entry.super_option("add"), None);
    }

    #[test]
    fn there_may_be_no_optional_field_and_no_source() {
        let entries = parse("22 27 0:21 / /proc ro - proc  rw\n").unwrap();
        assert_eq!(entries[0].peer_group, None);
        assert_eq!(entries[0].source, "");
        assert!(entries[0].is_read_only());
    }

    #[test]
    fn of_two_mounts_at_one_place_the_last_is_on_top() {
        let text = "1 0 0:1 / /a rw - tmpfs one rw\n2 1 0:2 / /a rw - tmpfs two rw\n";
        let entries = parse(text).unwrap();
        assert_eq!(topmost_at(&entries, Path::new("/a")).unwrap().source, "two");
        assert_eq!(topmost_at(&entries, Path::new("/b")), None);
    }

    #[test]
    fn a_line_that_is_none_of_mountinfo_is_an_error_that_shows_it() {
        for line in ["", "x", "1 0 0:1 / /a rw", "1 0 0:1 / /a rw shared:1 tmpfs a rw"] {
            let error = parse(&format!("{line}\n")).unwrap_err();
            assert!(error.to_string().contains(&format!("{line:?}")), "{error}");
        }
    }

    #[test]
    fn a_backslash_without_three_octal_digits_stands_for_itself() {
        for (field, bytes) in [
            ("a\\04", &b"a\\04"[..]),
            ("\\999", b"\\999"),
            ("\\+12", b"\\+12"),
            ("\\777", b"\\777"),
            ("\\", b"\\"),
        ] {
            assert_eq!(unescape(field.as_bytes()), bytes, "{field}");
        }
    }

    #[test]
    fn the_table_of_this_machine_can_be_read() {
        let entries = ProcMountTable.read().unwrap();
        assert!(entries.iter().any(|entry| entry.mount_point == Path::new("/proc")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a: /,\\\\\n-]{0,80}") {
            let _ = parse(&text);
        }
    }
}
