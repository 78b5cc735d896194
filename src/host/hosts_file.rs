//! `/etc/hosts` with lines of ours, beside whoever else edits it.
//!
//! | where | how |
//! | --- | --- |
//! | the file can be replaced | a copy with its mode, owner and extended attributes (SELinux label, ACL) is written whole, and the two exchange their names in one step. The former file is kept for a moment: what an editor who had it open wrote into it too late is done to the new one |
//! | it cannot: a bind mount of a container, a hard link, a read-only folder | our line is written over a comment of ours of the same length, or behind the last byte, each in one write. Nothing is cut off and no other byte moves |
//!
//! In both cases the file is compared with what was read right before it is changed, and read again where it differs.
//! Nobody else's lock is known for this file; ours keeps only two of us apart. Start with [`HostsFile::ensure`].
//!
//! LONG: nearly half of it are tests, an editor at work beside among them.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::fs::Permissions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::Gid;
use rustix::fs::RenameFlags;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::host::hosts_text::HostsEntry;
use crate::host::hosts_text::Patch;
use crate::host::hosts_text::carried_over;
use crate::host::hosts_text::patches;
use crate::host::hosts_text::rewritten;

/// A file of others is never read without end.
const LONGEST: u64 = 16 << 20;
/// XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h.
const LONGEST_ATTRIBUTE: usize = 64 << 10;
const UNFINISHED: &str = ".alinas-csi-hosts.";
/// How often a file is read again that others change meanwhile.
const ATTEMPTS: u32 = 20;
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// An editor who opened the former file writes into it in this time.
const SETTLE: Duration = Duration::from_millis(100);

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was as wanted.
    Not,
    /// Another file is in its place.
    Replaced,
    /// It is the same file.
    InPlace,
}

/// Why our lines are not as wanted. Every other line is as it was.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// It cannot be opened or read.
    #[error("failed to read {file:?}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// It can be replaced as little as written to.
    #[error("failed to write {file:?}: {source}")]
    Write {
        /// The file.
        file: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// Somebody wrote into the former file, and the new one cannot be changed any more.
    #[error(
        "failed to write {file:?}: {source}; what somebody else wrote meanwhile is in {kept:?}, take it over by hand"
    )]
    LateEdit {
        /// The file.
        file: PathBuf,
        /// The former file, with that edit.
        kept: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A bind mount shows the former file for ever.
    #[error(
        "{0:?} is mounted here by itself and has been replaced on the host since; restart the container that mounts \
         it"
    )]
    Outdated(PathBuf),
    /// Others write it all the time.
    #[error("{0:?} was changed by others each of {ATTEMPTS} times; it is tried again")]
    Busy(PathBuf),
}

/// What tells one state of the file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Look {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The file, and in whose name its lines are ours.
#[derive(Clone, Debug)]
pub struct HostsFile {
    file: PathBuf,
    owner: String,
}

/// The file as it was read.
struct Base {
    file: File,
    metadata: Metadata,
    text: Vec<u8>,
}

/// The file was replaced; here is the former one, under a name that goes when this is dropped.
struct Exchanged {
    former: NamedTempFile,
    /// What was read from it.
    base: Vec<u8>,
}

impl HostsFile {
    /// The lines of `owner` in a file. The owner is one word: blanks become underscores.
    #[must_use]
    pub fn new(file: PathBuf, owner: &str) -> Self {
        Self { file, owner: owner.replace(char::is_whitespace, "_") }
    }

    /// The file's state, without reading it. None where there is none.
    #[must_use]
    pub fn look(&self) -> Option<Look> {
        fs::metadata(&self.file).ok().map(|metadata| Look::from(&metadata))
    }

    /// Sees to it that these are the file's only lines of ours. May be repeated.
    ///
    /// # Errors
    /// When the file cannot be read or written, or others change it all the time.
    pub async fn ensure(&self, wanted: &BTreeSet<HostsEntry>) -> Result<Written, HostsError> {
        for _ in 0..ATTEMPTS {
            let Some(base) = self.read()? else {
                sleep(AGAIN_AFTER).await;
                continue;
            };
            let Some(new) = rewritten(&base.text, &self.owner, wanted) else {
                return Ok(Written::Not);
            };
            match self.replace(&base, &new) {
                Ok(Some(exchanged)) => {
                    self.settle(exchanged).await?;
                    return Ok(Written::Replaced);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(file = %self.file.display(), %error, "written in place");
                    let patches = patches(&base.text, &self.owner, wanted);
                    if patches.is_empty() {
                        return Ok(Written::Not);
                    }
                    if self.patch(&base, &patches)? {
                        return Ok(Written::InPlace);
                    }
                }
            }
            sleep(AGAIN_AFTER).await;
        }
        Err(HostsError::Busy(self.file.clone()))
    }

    /// What late editors write into a former file is done to the one that is there now, until no more comes.
    async fn settle(&self, exchanged: Exchanged) -> Result<(), HostsError> {
        let mut former = vec![exchanged];
        for _ in 0..ATTEMPTS {
            sleep(SETTLE).await;
            if !self.take_late_edits(&mut former)? {
                return Ok(());
            }
        }
        Err(HostsError::Busy(self.file.clone()))
    }

    /// Whether there was one.
    fn take_late_edits(&self, former: &mut Vec<Exchanged>) -> Result<bool, HostsError> {
        let (mut found, mut more) = (false, Vec::new());
        for exchanged in former.iter_mut() {
            let late = fs::read(exchanged.former.path()).map_err(|source| self.unread(source))?;
            if late == exchanged.base {
                continue;
            }
            found = true;
            let Some(base) = self.read()? else { continue };
            let merged = carried_over(&exchanged.base, &late, &base.text, &self.owner);
            match self.replace(&base, &merged) {
                Ok(Some(next)) => {
                    exchanged.base = late;
                    // This one, too, may be open somewhere.
                    more.push(next);
                }
                Ok(None) => {}
                Err(source) => return Err(self.keep(exchanged.former.path(), source)),
            }
        }
        former.extend(more);
        Ok(found)
    }

    /// Where an edit cannot be done to the new file, the file that it went into stays for people to look at.
    fn keep(&self, former: &Path, source: io::Error) -> HostsError {
        let file = self.file.clone();
        let kept = former.with_file_name("hosts.late-edit");
        match fs::rename(former, &kept) {
            Ok(()) => HostsError::LateEdit { file, kept, source },
            Err(_) => HostsError::Write { file, source },
        }
    }

    /// None while another of us changes it.
    fn read(&self) -> Result<Option<Base>, HostsError> {
        let unread = |source| self.unread(source);
        let mut file = File::open(&self.file).map_err(unread)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            // Some network file systems have no locks.
            Err(error) => tracing::debug!(%error, "no lock on the hosts file"),
        }
        let metadata = file.metadata().map_err(unread)?;
        if metadata.nlink() == 0 {
            return Err(HostsError::Outdated(self.file.clone()));
        }
        let mut text = Vec::new();
        Read::by_ref(&mut file).take(LONGEST).read_to_end(&mut text).map_err(unread)?;
        Ok((text.len() as u64 == metadata.len()).then_some(Base { file, metadata, text }))
    }

    /// None where the file has changed since it was read; an error where it cannot be replaced, and is as it was.
    fn replace(&self, base: &Base, new: &[u8]) -> io::Result<Option<Exchanged>> {
        if base.metadata.nlink() > 1 {
            return Err(io::Error::other("it has several names"));
        }
        // A link leads to the file that is to be replaced, and stays.
        let place = fs::canonicalize(&self.file)?;
        let folder = place.parent().ok_or_else(|| io::Error::other("it is in no folder"))?;
        sweep(folder);
        let mut next = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        next.write_all(new)?;
        dress(next.as_file(), base)?;
        next.as_file().sync_all()?;
        if !self.is_still(base)? {
            return Ok(None);
        }
        rustix::fs::renameat_with(CWD, next.path(), CWD, &place, RenameFlags::EXCHANGE)?;
        File::open(folder)?.sync_all()?;
        Ok(Some(Exchanged { former: next, base: base.text.clone() }))
    }

    /// Whether the patches were written. Each is whole by itself.
    fn patch(&self, base: &Base, patches: &[Patch]) -> Result<bool, HostsError> {
        let unwritten = |source| self.unwritten(source);
        let mut file =
            File::options().read(true).append(true).open(&self.file).map_err(unwritten)?;
        // pwrite(2): with O_APPEND, Linux would write at the end wherever it is told to.
        let places = File::options().write(true).open(&self.file).map_err(unwritten)?;
        if !self.is_still(base).map_err(unwritten)? {
            return Ok(false);
        }
        for patch in patches {
            match patch {
                Patch::Over { at, bytes } => places.write_all_at(bytes, *at as u64),
                Patch::Append(bytes) => file.write_all(bytes),
            }
            .map_err(unwritten)?;
        }
        file.sync_all().map_err(unwritten)?;
        Ok(true)
    }

    /// Compares text by text: a clock that is set makes times lie.
    fn is_still(&self, base: &Base) -> io::Result<bool> {
        let now = fs::metadata(&self.file)?;
        if Look::from(&now) != Look::from(&base.metadata) {
            return Ok(false);
        }
        let mut text = vec![0; base.text.len()];
        base.file.read_exact_at(&mut text, 0)?;
        Ok(text == base.text)
    }

    fn unread(&self, source: io::Error) -> HostsError {
        HostsError::Read { file: self.file.clone(), source }
    }

    fn unwritten(&self, source: io::Error) -> HostsError {
        HostsError::Write { file: self.file.clone(), source }
    }
}

/// Everything but the text is as it was.
fn dress(next: &File, base: &Base) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(base.metadata.uid()), Gid::from_raw(base.metadata.gid()));
    rustix::fs::fchown(next, Some(user), Some(group))?;
    // Before the attributes: an ACL among them says more than the mode.
    next.set_permissions(Permissions::from_mode(base.metadata.mode() & 0o7777))?;
    let mut names = vec![0; LONGEST_ATTRIBUTE];
    let length = match rustix::fs::flistxattr(&base.file, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; LONGEST_ATTRIBUTE];
        let length = rustix::fs::fgetxattr(&base.file, name, &mut value[..])?;
        let value = value.get(..length).unwrap_or_default();
        rustix::fs::fsetxattr(next, name, value, XattrFlags::empty())?;
    }
    Ok(())
}

/// What a crash left. Another watchdog of this machine that is at work right now has its file for less than a minute.
fn sweep(folder: &Path) {
    const LEFT_BEHIND: Duration = Duration::from_secs(60);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if ours && age().is_some_and(|age| age > LEFT_BEHIND) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;
    use crate::host::hosts_text::tests::entry;

    const BEFORE: &str = "127.0.0.1 localhost\n::1\tlocalhost # as it was\n";

    struct Etc {
        folder: tempfile::TempDir,
        hosts: HostsFile,
    }

    impl Etc {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("hosts");
            fs::write(&file, BEFORE).unwrap();
            Self { hosts: HostsFile::new(file, "/run/a b"), folder }
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.hosts.file).unwrap()
        }

        fn files(&self) -> usize {
            fs::read_dir(self.folder.path()).unwrap().count()
        }
    }

    fn wanted(these: &[u8]) -> BTreeSet<HostsEntry> {
        these.iter().map(|last| entry(*last)).collect()
    }

    #[tokio::test]
    async fn the_file_is_replaced_by_one_with_its_mode_owner_and_attributes() {
        let etc = Etc::new();
        let file = &etc.hosts.file;
        fs::set_permissions(file, Permissions::from_mode(0o604)).unwrap();
        let labelled =
            rustix::fs::setxattr(file, "user.label", b"etc_t", XattrFlags::empty()).is_ok();
        let inode = fs::metadata(file).unwrap().ino();
        assert_eq!(etc.hosts.ensure(&wanted(&[1, 2])).await.unwrap(), Written::Replaced);
        assert!(etc.text().starts_with(BEFORE) && etc.text().ends_with("# alinas-csi /run/a_b\n"));
        let now = fs::metadata(file).unwrap();
        assert_eq!(now.mode() & 0o7777, 0o604);
        assert_ne!(now.ino(), inode);
        if labelled {
            let mut value = [0; 16];
            let length = rustix::fs::getxattr(file, "user.label", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"etc_t");
        }
        assert_eq!(etc.hosts.ensure(&wanted(&[1, 2])).await.unwrap(), Written::Not);
        etc.hosts.ensure(&wanted(&[])).await.unwrap();
        assert_eq!((etc.text().as_str(), etc.files()), (BEFORE, 1));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_replaced_is_written_in_place_and_nothing_is_cut_off() {
        let etc = Etc::new();
        let other = etc.folder.path().join("other-name");
        fs::hard_link(&etc.hosts.file, &other).unwrap();
        for (these, length) in [(&[1][..], None), (&[], None), (&[1], Some(()))] {
            let before = etc.text().len();
            assert_eq!(etc.hosts.ensure(&wanted(these)).await.unwrap(), Written::InPlace);
            assert!(etc.text().starts_with(BEFORE), "{}", etc.text());
            assert!(length.is_none() || etc.text().len() == before);
        }
        assert_eq!(fs::read_to_string(other).unwrap(), etc.text());
    }

    #[tokio::test]
    async fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let etc = Etc::new();
        let link = etc.folder.path().join("link");
        std::os::unix::fs::symlink("hosts", &link).unwrap();
        let hosts = HostsFile::new(link.clone(), "x");
        assert_eq!(hosts.ensure(&wanted(&[3])).await.unwrap(), Written::Replaced);
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
        assert!(etc.text().contains("127.0.1.3"));
    }

    #[tokio::test]
    async fn what_was_written_too_late_into_the_former_file_is_in_the_new_one() {
        let etc = Etc::new();
        let mut late = File::options().append(true).open(&etc.hosts.file).unwrap();
        let wanted = wanted(&[1]);
        let ensuring = etc.hosts.ensure(&wanted);
        let editing = async {
            while !etc.text().contains("127.0.1.1") {
                sleep(Duration::from_millis(1)).await;
            }
            late.write_all(b"10.0.0.1 late\n").unwrap();
        };
        let (ended, ()) = tokio::join!(ensuring, editing);
        assert_eq!(ended.unwrap(), Written::Replaced);
        assert!(etc.text().contains("10.0.0.1 late\n") && etc.text().contains("127.0.1.1 "));
    }

    /// Appends lines as `echo >>` does, with the file opened for each; answers how many.
    fn editor(file: PathBuf, stop: Arc<AtomicBool>) -> thread::JoinHandle<usize> {
        thread::spawn(move || {
            let mut lines = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut hosts = File::options().append(true).open(&file).unwrap();
                hosts.write_all(format!("10.0.0.1 line-{lines}\n").as_bytes()).unwrap();
                lines += 1;
                drop(hosts);
                thread::yield_now();
                if lines % 8 == 0 {
                    thread::park_timeout(Duration::from_millis(15));
                }
            }
            lines
        })
    }

    async fn beside_an_editor(etc: &Etc) {
        let stop = Arc::new(AtomicBool::new(false));
        let editor = editor(etc.hosts.file.clone(), Arc::clone(&stop));
        for round in 0..12 {
            let these: &[u8] = if round % 2 == 0 { &[1, 2] } else { &[2] };
            // Too busy for now is an answer; nothing is lost by it.
            match etc.hosts.ensure(&wanted(these)).await {
                Ok(_) | Err(HostsError::Busy(_)) => {}
                Err(error) => panic!("{error}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
        stop.store(true, Ordering::Relaxed);
        let lines = editor.join().unwrap();
        etc.hosts.ensure(&wanted(&[2])).await.unwrap();
        let text = etc.text();
        assert!(text.starts_with(BEFORE), "{text}");
        let appended: Vec<_> = text.lines().filter(|line| line.contains(" line-")).collect();
        let all = (0..lines).map(|number| format!("10.0.0.1 line-{number}"));
        let missing: Vec<_> = all.filter(|line| !appended.contains(&line.as_str())).collect();
        assert!(missing.is_empty() && appended.len() == lines, "{missing:?} of {lines}");
        assert_eq!(text.lines().filter(|line| line.contains(" alinas-nas")).count(), 1, "{text}");
    }

    #[tokio::test]
    async fn no_line_of_an_editor_is_lost_while_the_file_is_replaced() {
        let etc = Etc::new();
        beside_an_editor(&etc).await;
        assert_eq!(etc.files(), 1);
    }

    #[tokio::test]
    async fn no_line_of_an_editor_is_lost_while_the_file_is_written_in_place() {
        let etc = Etc::new();
        fs::hard_link(&etc.hosts.file, etc.folder.path().join("other-name")).unwrap();
        beside_an_editor(&etc).await;
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_an_error_that_names_it() {
        let hosts = HostsFile::new("/nowhere/hosts".into(), "x");
        let error = hosts.ensure(&wanted(&[1])).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/hosts"), "{error}");
    }
}
