//! `/run/mount/utab`: what user space knows of a mount and the kernel does not, as libmount keeps it.
//!
//! libmount (mount(8), umount(8), findmnt(8)) merges a line of it with the line of mountinfo that has the same
//! source, target and root. Its form, after `libmount/src/tab_update.c`:
//!
//! ```text
//! SRC=nas:/a\040b TARGET=/mnt/a\040b ROOT=/ ATTRS=vers=3,addr=192.0.2.7 OPTS=_netdev
//! ```
//!
//! Blanks, tabs, line ends and backslashes are three octal digits behind a backslash. `ATTRS` is what a mount
//! helper wants to remember, `OPTS` what user space was told (`_netdev`, `user=`, `helper=`).
//!
//! The file is changed under `utab.lock`, written whole beside it and renamed. Lines of others are kept byte for
//! byte, also those in a form that is not known yet.
//!
//! `/etc/mtab` is never written: today it is a link to `/proc/self/mounts`, and util-linux stopped writing a
//! regular one too (2.39), because it lies after every crash and in every mount namespace but one.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::fs::TryLockError;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use crate::host::mount_table::unescape;

/// Where libmount has it.
pub const SYSTEM: &str = "/run/mount/utab";

/// Whoever holds the lock only rewrites a small file in memory.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A line of utab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UtabEntry {
    /// What is mounted, as mountinfo shows it.
    pub source: String,
    /// Where, as mountinfo shows it.
    pub target: PathBuf,
    /// The directory of the file system that is the root of the mount: `/` for NFS.
    pub root: String,
    /// What the mount helper wants to remember.
    pub attributes: String,
    /// What user space was told about the mount.
    pub options: String,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Utab {
    file: PathBuf,
}

/// Why a line could not be written or taken away. The mount itself is as it should be.
#[derive(Debug, thiserror::Error)]
pub enum UtabError {
    /// There can be no such file here: a read-only system, a container without `/run/mount`.
    #[error("{file:?} cannot be written")]
    NotWritable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody has held the lock for too long.
    #[error("{file:?} was locked by another process for {} s", LOCK_DEADLINE.as_secs())]
    Locked {
        /// The lock.
        file: PathBuf,
    },
    /// The file could not be read or replaced.
    #[error("failed to update {file:?}")]
    Update {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Utab {
    /// That of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self::at(SYSTEM)
    }

    /// One at another place.
    #[must_use]
    pub fn at(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into() }
    }

    /// Every line that names a target, in order. A file that is not there has none.
    ///
    /// # Errors
    /// What the system said.
    pub fn entries(&self) -> io::Result<Vec<UtabEntry>> {
        Ok(lines(&self.read()?).filter_map(UtabEntry::parse).collect())
    }

    /// The line of the mount that is on top at `target`.
    ///
    /// # Errors
    /// What the system said.
    pub fn last_at(&self, target: &Path) -> io::Result<Option<UtabEntry>> {
        Ok(self.entries()?.into_iter().rev().find(|entry| entry.target == target))
    }

    /// Adds a line at the end.
    ///
    /// # Errors
    /// Says why there is no such line.
    pub async fn add(&self, entry: &UtabEntry) -> Result<(), UtabError> {
        self.make_directory()?;
        let _until_done = self.lock().await?;
        self.replace(|content| Some([content, &entry.to_line()].concat()))
    }

    /// Takes the last line of a target away; of several mounts at one place, that on top. Says whether there was
    /// one.
    ///
    /// # Errors
    /// Says why the line is still there.
    pub async fn remove_last(&self, target: &Path) -> Result<bool, UtabError> {
        // Without a line nothing is locked: a system that cannot be written has none, and needs no message.
        if self.last_at(target).map_err(|source| self.failed(source))?.is_none() {
            return Ok(false);
        }
        let _until_done = self.lock().await?;
        self.replace(|content| without_last(content, target)).map(|()| true)
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        match fs::read(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    /// `/run` is empty after a boot. The mode is libmount's.
    fn make_directory(&self) -> Result<(), UtabError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(self.directory());
        made.map_err(|source| self.failed(source))
    }

    async fn lock(&self) -> Result<File, UtabError> {
        let name = self.beside(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&name);
        let file = file.map_err(|source| self.failed(source))?;
        let until = Instant::now() + LOCK_DEADLINE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(self.failed(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    return Err(UtabError::Locked { file: name });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
            }
        }
    }

    /// Readers do not lock: they see the old file or the new one.
    fn replace(&self, change: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Result<(), UtabError> {
        let replace = || {
            let Some(content) = change(&ended(self.read()?)) else { return Ok(()) };
            let mut file =
                tempfile::Builder::new().prefix("utab.").tempfile_in(self.directory())?;
            file.write_all(&content)?;
            file.as_file().set_permissions(Permissions::from_mode(0o644))?;
            file.persist(&self.file).map(|_| ()).map_err(|error| error.error)
        };
        replace().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> UtabError {
        let file = self.file.clone();
        match Errno::from_io_error(&source) {
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::NOTDIR | Errno::EXIST) => {
                UtabError::NotWritable { file, source }
            }
            _ => UtabError::Update { file, source },
        }
    }

    fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(ending);
        name.into()
    }
}

impl UtabEntry {
    fn to_line(&self) -> Vec<u8> {
        let fields: [(&str, &[u8]); 5] = [
            ("SRC=", self.source.as_bytes()),
            ("TARGET=", self.target.as_os_str().as_bytes()),
            ("ROOT=", self.root.as_bytes()),
            ("ATTRS=", self.attributes.as_bytes()),
            ("OPTS=", self.options.as_bytes()),
        ];
        // libmount takes a key without a value for a fault of the whole line.
        let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let shown: Vec<_> =
            given.map(|(key, value)| [key.as_bytes(), &escape(value)].concat()).collect();
        [shown.join(&b' '), b"\n".to_vec()].concat()
    }

    /// Reads a line; keys that are not known say nothing to us. Without a target it is none of a mount.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut entry = Self::default();
        for field in line.split(|byte| *byte == b' ') {
            let Some(place) = field.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = field.split_at(place);
            let bytes = unescape(value.get(1..).unwrap_or_default());
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match key {
                b"SRC" => entry.source = text,
                b"TARGET" => entry.target = PathBuf::from(OsString::from_vec(bytes)),
                b"ROOT" => entry.root = text,
                b"ATTRS" => entry.attributes = text,
                b"OPTS" => entry.options = text,
                _ => {}
            }
        }
        (!entry.target.as_os_str().is_empty()).then_some(entry)
    }
}

/// As `mangle()` of util-linux, lib/mangle.c.
fn escape(value: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").as_bytes()),
            other => escaped.push(*other),
        }
    }
    escaped
}

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// A line that a crash cut short must not swallow the next one.
fn ended(mut content: Vec<u8>) -> Vec<u8> {
    if content.last().is_some_and(|byte| *byte != b'\n') {
        content.push(b'\n');
    }
    content
}

fn without_last(content: &[u8], target: &Path) -> Option<Vec<u8>> {
    let mut lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    let is_of_target = |line: &&[u8]| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        UtabEntry::parse(line).is_some_and(|entry| entry.target == target)
    };
    lines.remove(lines.iter().rposition(is_of_target)?);
    Some(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(target: &str) -> UtabEntry {
        UtabEntry {
            source: "nas:/a".to_owned(),
            target: target.into(),
            root: "/".to_owned(),
            attributes: "vers=3,addr=192.0.2.7".to_owned(),
            options: String::new(),
        }
    }

    fn utab() -> (tempfile::TempDir, Utab) {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("mount/utab");
        (home, Utab::at(file))
    }

    #[tokio::test]
    async fn a_missing_directory_and_file_are_made_and_readable_for_all() {
        let (_home, utab) = utab();
        assert!(utab.entries().unwrap().is_empty());
        assert!(!utab.remove_last(Path::new("/mnt")).await.unwrap());
        assert!(!utab.directory().exists(), "nothing to take away: nothing is made");
        utab.add(&entry("/mnt")).await.unwrap();
        assert_eq!(
            fs::read_to_string(&utab.file).unwrap(),
            "SRC=nas:/a TARGET=/mnt ROOT=/ ATTRS=vers=3,addr=192.0.2.7\n"
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&utab.file), mode(utab.directory())), (0o644, 0o755));
    }

    #[tokio::test]
    async fn of_several_mounts_at_one_place_the_last_line_goes_first() {
        let (_home, utab) = utab();
        let second = UtabEntry { attributes: "vers=4.0".to_owned(), ..entry("/a") };
        for entry in [&entry("/a"), &entry("/b"), &second] {
            utab.add(entry).await.unwrap();
        }
        assert_eq!(utab.last_at(Path::new("/a")).unwrap(), Some(second));
        assert!(utab.remove_last(Path::new("/a")).await.unwrap());
        assert_eq!(utab.entries().unwrap(), [entry("/a"), entry("/b")]);
    }

    #[tokio::test]
    async fn lines_of_others_stay_as_they_are_also_those_that_nobody_knows() {
        const OTHERS: &str = "# libmount utab file\nID=7 UNIQID=9 SRC=/dev/sda TARGET=/x OPTS=uhelper=y  NEW=1\n\
                              garbage \\040\n";
        let (_home, utab) = utab();
        utab.make_directory().unwrap();
        fs::write(&utab.file, format!("{OTHERS}SRC=cut short")).unwrap();
        utab.add(&entry("/mnt")).await.unwrap();
        utab.remove_last(Path::new("/mnt")).await.unwrap();
        assert_eq!(fs::read_to_string(&utab.file).unwrap(), format!("{OTHERS}SRC=cut short\n"));
        assert_eq!(utab.entries().unwrap()[0].options, "uhelper=y");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_is_never_given_back_is_waited_for_and_then_named() {
        let (_home, utab) = utab();
        utab.make_directory().unwrap();
        let held = utab.lock().await.unwrap();
        let error = utab.add(&entry("/mnt")).await.unwrap_err();
        assert!(error.to_string().contains("utab.lock\" was locked"), "{error}");
        drop(held);
        utab.add(&entry("/mnt")).await.unwrap();
    }

    #[tokio::test]
    async fn a_place_that_can_hold_no_utab_is_told_apart() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        let utab = Utab::at(home.path().join("file/utab"));
        let error = utab.add(&entry("/mnt")).await.unwrap_err();
        assert!(matches!(error, UtabError::NotWritable { .. }), "{error:?}");
    }

    #[test]
    fn every_odd_name_has_the_form_that_libmount_reads() {
        for (name, shown) in [
            ("a b", "a\\040b"),
            ("a\tb\nc", "a\\011b\\012c"),
            ("a\\b", "a\\134b"),
            ("a\\040b", "a\\134040b"),
            ("&;,=#'\"/", "&;,=#'\"/"),
            ("ü\u{6f22}", "ü\u{6f22}"),
        ] {
            let line = UtabEntry { target: name.into(), ..UtabEntry::default() }.to_line();
            assert_eq!(String::from_utf8(line).unwrap(), format!("TARGET={shown}\n"));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(
            source in "[ -~\u{e4}\t\n]{1,20}",
            target in "/[ -~\u{6f22}\t\n\\\\]{0,20}",
            attributes in "[ -~]{0,20}",
            options in "[ -~]{0,20}",
        ) {
            let entry = UtabEntry {
                source, target: target.into(), root: "/".to_owned(), attributes, options,
            };
            let line = entry.to_line();
            proptest::prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            proptest::prop_assert_eq!(UtabEntry::parse(line.strip_suffix(b"\n").unwrap()), Some(entry));
        }
    }
}
