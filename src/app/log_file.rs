//! Log files with a size and a number: `mount.log`, and `mount.log.1` for the one before.
//!
//! Several processes may write one file at the same time, as all mount commands of a machine do. So each line is
//! one write to the end of the file, and the files are moved up by one process at a time, under a lock on
//! their directory; the others see that theirs has been moved, and open the new one. No crate for log files
//! allows for that.
//!
//! A log that cannot be written is no reason to fail: lines are lost.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::fs::FlockOperation;
use rustix::fs::flock;
use tracing_subscriber::fmt::MakeWriter;

use crate::app::alinas_conf::AlinasConf;

/// Where the vendor's client has its logs.
pub(super) const FOLDER: &str = "/var/log/aliyun/alinas";
/// Names of mount targets and directories are nobody else's business.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of a file after which the next one is begun.
    pub(super) bytes: u64,
    /// Files, the one that is written included.
    pub(super) files: u64,
}

impl Limits {
    pub(super) fn of(conf: &AlinasConf) -> Self {
        Self { bytes: conf.log_bytes, files: conf.log_files }
    }
}

/// A log file of this process.
#[derive(Clone, Debug)]
pub(super) struct LogFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    limits: Limits,
    open: Mutex<Option<File>>,
}

impl LogFile {
    /// The file of that name under `folder`, which is made where it is missing. Nothing is opened yet.
    pub(super) fn new(folder: &Path, name: &str, limits: Limits) -> Self {
        let path = folder.join(name);
        Self(Arc::new(Shared { path, limits, open: Mutex::default() }))
    }
}

impl Shared {
    fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match open.take().filter(|file| self.is_current(file)) {
            Some(file) => file,
            None => self.open()?,
        };
        let file =
            if file.metadata()?.len() >= self.limits.bytes { self.begin_next()? } else { file };
        let written = (&file).write_all(line);
        *open = Some(file);
        written
    }

    /// Whether nobody has moved it.
    fn is_current(&self, file: &File) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (file.metadata(), fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => identity(ours) == identity(there),
            _ => false,
        }
    }

    fn open(&self) -> io::Result<File> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        // O_NOFOLLOW: root does not write where somebody's link leads.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        File::options()
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .custom_flags(flags)
            .open(&self.path)
    }

    /// Moves the files up, unless another process has just done so.
    fn begin_next(&self) -> io::Result<File> {
        let folder = File::open(self.path.parent().unwrap_or(Path::new("/")))?;
        let locked = flock(&folder, FlockOperation::NonBlockingLockExclusive);
        let there = self.open()?;
        // Who moves them is not waited for: then the file gets a line too many.
        if locked.is_err() || there.metadata()?.len() < self.limits.bytes {
            return Ok(there);
        }
        let last = self.limits.files.saturating_sub(1);
        if last == 0 {
            there.set_len(0)?;
            return Ok(there);
        }
        for number in (1..last).rev() {
            rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
        }
        rename_if_there(&self.path, &self.numbered(1))?;
        self.open()
    }

    fn numbered(&self, number: u64) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

/// A line while it is written; it goes to the file when dropped.
#[derive(Debug)]
pub(super) struct Line {
    log: LogFile,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { log: self.clone(), text: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Nobody else can be told.
        let _ = self.log.0.write(&self.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 100, files: 3 };

    fn say(log: &LogFile, text: &str) {
        writeln!(log.make_writer(), "{text}").unwrap();
    }

    fn lines(folder: &Path) -> Vec<(String, usize)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, fs::read_to_string(&path).unwrap().lines().count())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn a_file_that_is_full_becomes_the_one_before_and_the_oldest_goes() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("aliyun/alinas");
        let log = LogFile::new(&folder, "mount.log", LIMITS);
        // Ten lines of ten bytes fill a file.
        (0..45).for_each(|number| say(&log, &format!("line {number:04}")));
        let expected = [("mount.log", 5), ("mount.log.1", 10), ("mount.log.2", 10)];
        assert_eq!(lines(&folder), expected.map(|(name, count)| (name.to_owned(), count)));
        let newest = fs::read_to_string(folder.join("mount.log")).unwrap();
        assert!(newest.ends_with("line 0044\n"), "{newest}");
        let mode = fs::metadata(folder.join("mount.log")).unwrap().mode();
        assert_eq!(mode & 0o777 & !FILE_MODE, 0, "readable by all");
    }

    #[test]
    fn of_two_writers_of_one_file_none_loses_a_line() {
        let home = tempfile::tempdir().unwrap();
        let limits = Limits { bytes: 1000, files: 16 };
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let log = LogFile::new(home.path(), "mount.log", limits);
                std::thread::spawn(move || {
                    (0..100).for_each(|number| say(&log, &format!("{writer} {number:07}")));
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let count: usize = lines(home.path()).iter().map(|(_, count)| count).sum();
        assert_eq!(count, 400);
    }

    #[test]
    fn one_file_alone_begins_anew_and_a_link_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let log = LogFile::new(home.path(), "one.log", Limits { bytes: 100, files: 1 });
        (0..15).for_each(|number| say(&log, &format!("line {number:04}")));
        assert_eq!(lines(home.path()), [("one.log".to_owned(), 5)]);
        std::os::unix::fs::symlink(home.path().join("other"), home.path().join("two.log")).unwrap();
        say(&LogFile::new(home.path(), "two.log", LIMITS), "lost");
        assert!(!home.path().join("other").exists());
    }
}
