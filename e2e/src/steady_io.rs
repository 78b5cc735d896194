//! Work that never pauses, on mounted directories, while a test does its worst: blocks are written, brought to the
//! server and read back from there, and each is compared with what was written.
//!
//! One thread for each place, with a table of descriptors of its own. A process that the test starts would inherit its
//! files, and on its way to the new program the kernel flushes them: where that waits for a server or a tunnel that is
//! just to be started, it would wait for ever.
//! Every block says by its bytes which place, file and write it belongs to, so one that is
//! lost, old, torn or another's is told from the right one. What is read comes from the server: O_DIRECT passes this
//! node's pages over. At the end every block that should be there is read once more.
//!
//! Read [`SteadyIo::start`] first.

use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::OFlags;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::failure::ensure;
use crate::process::wait_until;

/// Small, because an emulated processor encrypts them; a multiple of a page, as O_DIRECT likes it.
const BLOCK: usize = 16 << 10;
/// What O_DIRECT wants the memory to begin at, on a file system of a disk.
const PAGE: usize = 4096;
const FILES: u64 = 3;
/// Blocks in a file. They are written again and again, in turn.
const SLOTS: u64 = 8;
/// After each round: an emulated processor that does nothing else would keep everything else waiting, too.
const PAUSE: Duration = Duration::from_millis(30);
/// For the calls under way, where the work is not ended in order.
const LEFT: Duration = Duration::from_secs(60);
/// After a failure, so that a place where everything fails does not fill its list at once.
const BREATH: Duration = Duration::from_millis(100);
/// How many failures are kept in words.
const FAILURES: usize = 5;

/// What has happened at one place so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Blocks that were written, brought to the server, and found right.
    pub rounds: u64,
    /// Calls that were answered with an error.
    pub failed: u64,
    /// Blocks that were not what had been written.
    pub corrupted: u64,
    /// The first of both, in words.
    pub trouble: Vec<String>,
    /// The longest that one call took, since [`SteadyIo::pauses`] was last asked.
    pub longest: Duration,
}

/// The work at some places. Ends when dropped, once the calls under way do.
#[derive(Debug)]
pub struct SteadyIo {
    workers: Vec<Worker>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Worker {
    name: String,
    ledger: Arc<Mutex<Ledger>>,
    thread: JoinHandle<()>,
}

impl SteadyIo {
    /// Begins to work at places, each with a name for people, in files of its own.
    ///
    /// # Errors
    /// When the files cannot be made.
    pub fn start<'a>(places: impl IntoIterator<Item = (&'a str, &'a Path)>) -> Result<Self> {
        let mut io = Self { workers: Vec::new(), stop: Arc::default() };
        for (number, (name, folder)) in (1..).zip(places) {
            let folder = folder.to_owned();
            let ledger = Arc::<Mutex<Ledger>>::default();
            let (kept, stop) = (Arc::clone(&ledger), Arc::clone(&io.stop));
            let (tell, told) = mpsc::channel();
            let thread = thread::spawn(move || {
                match own_descriptors().and_then(|()| Files::create(&folder, number)) {
                    Ok(files) => {
                        drop(tell);
                        files.work(&kept, &stop);
                    }
                    Err(failure) => drop(tell.send(failure)),
                }
            });
            if let Ok(failure) = told.recv() {
                return Err(failure);
            }
            io.workers.push(Worker { name: name.to_owned(), ledger, thread });
        }
        Ok(io)
    }

    /// Waits until every place has been worked at `rounds` times more: nothing that has happened before holds it up.
    ///
    /// # Errors
    /// Names the places where nothing moves, at the deadline.
    pub fn goes_on(&self, rounds: u64, deadline: Duration) -> Result<()> {
        let aims: Vec<_> = self.workers.iter().map(|worker| worker.rounds() + rounds).collect();
        let mut stuck = String::new();
        let reached = wait_until("the work goes on", deadline, || {
            let behind =
                self.workers.iter().zip(&aims).filter(|(worker, aim)| worker.rounds() < **aim);
            stuck = behind.map(|(worker, _)| worker.name.as_str()).collect::<Vec<_>>().join(", ");
            stuck.is_empty()
        });
        reached.during(format!("at {stuck}"))
    }

    /// The longest pause at each place since this was last asked, for people: `3: 0.21 s, 4.0: 0.19 s`.
    #[must_use]
    pub fn pauses(&self) -> String {
        let pause = |worker: &Worker| {
            let longest = std::mem::take(&mut worker.ledger().longest);
            format!("{}: {:.2} s", worker.name, longest.as_secs_f32())
        };
        self.workers.iter().map(pause).collect::<Vec<_>>().join(", ")
    }

    /// Makes sure that nothing has failed up to now.
    ///
    /// # Errors
    /// What has.
    pub fn is_unharmed(&self) -> Result<()> {
        for worker in &self.workers {
            let Ledger { failed, corrupted, trouble, .. } = worker.ledger().clone();
            let harm =
                format!("{}: {failed} failed, {corrupted} corrupted: {trouble:?}", worker.name);
            ensure(failed == 0 && corrupted == 0, harm)?;
        }
        Ok(())
    }

    /// Ends the work, once every block has been read again, and says how much was done.
    ///
    /// # Errors
    /// What has failed since the start, or that the work does not end.
    pub fn finish(mut self, deadline: Duration) -> Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        wait_until("the work ends", deadline, || {
            self.workers.iter().all(|worker| worker.thread.is_finished())
        })?;
        self.is_unharmed()?;
        let mut done = Vec::new();
        for worker in self.workers.drain(..) {
            let rounds = worker.rounds();
            worker.thread.join().map_err(|_| Failure::new(format!("{} panicked", worker.name)))?;
            done.push(format!("{}: {rounds} blocks", worker.name));
        }
        Ok(done.join(", "))
    }
}

impl Drop for SteadyIo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Each has copies of all descriptors of the process, also of sockets that the next test binds anew.
        let _either_way = wait_until("the work ends", LEFT, || {
            self.workers.iter().all(|worker| worker.thread.is_finished())
        });
    }
}

impl Worker {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rounds(&self) -> u64 {
        self.ledger().rounds
    }
}

/// The files of one place, open for as long as it is worked at.
struct Files {
    place: u64,
    open: Vec<(PathBuf, File)>,
    /// The number of the last write to each slot of each file; none was made yet: 0.
    written: Vec<[u64; SLOTS as usize]>,
}

impl Files {
    fn create(folder: &Path, place: u64) -> Result<Self> {
        let mut open = Vec::new();
        for number in 0..FILES {
            let path = folder.join(format!("steady-{place}-{number}"));
            let file = opened(&path, true).during(format!("failed to make {}", path.display()))?;
            open.push((path, file));
        }
        Ok(Self { place, open, written: vec![[0; SLOTS as usize]; FILES as usize] })
    }

    fn work(mut self, ledger: &Mutex<Ledger>, stop: &AtomicBool) {
        let book = Book(ledger);
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            match self.round(number, &book) {
                Ok(()) => {
                    book.note(|ledger| ledger.rounds += 1);
                    thread::sleep(PAUSE);
                }
                Err(failure) => {
                    book.failed(&failure);
                    thread::sleep(BREATH);
                }
            }
        }
        for file in 0..FILES {
            for slot in 0..SLOTS {
                if let Err(failure) = self.compare(file, slot, &book) {
                    book.failed(&failure);
                }
            }
        }
    }

    /// Writes one block and reads two: that one, and the one that has waited longest in the next file.
    fn round(&mut self, number: u64, book: &Book<'_>) -> Result<()> {
        let (file, slot) = (number % FILES, number / FILES % SLOTS);
        let (path, open) = &self.open[file as usize];
        let what = format!("block {slot} of {}", path.display());
        let bytes = pattern(self.place, file, slot, number);
        book.time(|| {
            open.write_all_at(&bytes, offset(slot)).during(format!("failed to write {what}"))
        })?;
        // From here on the server may have it, even if it is not said.
        self.written[file as usize][slot as usize] = number;
        book.time(|| open.sync_data().during(format!("failed to sync {what}")))?;
        self.compare(file, slot, book)?;
        self.compare((file + 1) % FILES, (slot + 1) % SLOTS, book)
    }

    fn compare(&self, file: u64, slot: u64, book: &Book<'_>) -> Result<()> {
        let number = self.written[file as usize][slot as usize];
        if number == 0 {
            return Ok(());
        }
        let path = &self.open[file as usize].0;
        let what = format!("block {slot} of {}", path.display());
        let mut room = vec![0; BLOCK + PAGE];
        let begin = room.as_ptr().align_offset(PAGE).min(PAGE);
        let found = &mut room[begin..begin + BLOCK];
        book.time(|| {
            let file = opened(path, false).during(format!("failed to open {}", path.display()))?;
            file.read_exact_at(found, offset(slot)).during(format!("failed to read {what}"))
        })?;
        if *found != *pattern(self.place, file, slot, number) {
            let shown = format!("{what} begins {:x?} and is not write {number}", &found[..32]);
            let trouble = Failure::new(shown);
            book.corrupted(&trouble);
        }
        Ok(())
    }
}

/// From here on this thread opens and closes for itself alone.
fn own_descriptors() -> Result<()> {
    #[expect(deprecated, reason = "the thread has just begun: it knows no descriptor of another's")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::FILES)
        .during("failed to have descriptors of its own")
}

/// To write, through this node's pages; to read, past them.
fn opened(path: &Path, to_write: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    if to_write {
        options.create(true).truncate(true).write(true);
    } else {
        options.read(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
    }
    options.open(path)
}

fn offset(slot: u64) -> u64 {
    slot * BLOCK as u64
}

/// Bytes that no other write has: the generator of `data`, seeded by all that names the write.
fn pattern(place: u64, file: u64, slot: u64, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    for word in [place, file, slot, number] {
        bytes.extend(word.to_le_bytes());
    }
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (place << 48 | file << 40 | slot << 32 | number);
    while bytes.len() < BLOCK {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes
}

/// The ledger as its own worker has it.
struct Book<'a>(&'a Mutex<Ledger>);

impl Book<'_> {
    fn note(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn failed(&self, failure: &Failure) {
        self.note(|ledger| ledger.add(|ledger| &mut ledger.failed, failure));
    }

    fn corrupted(&self, failure: &Failure) {
        self.note(|ledger| ledger.add(|ledger| &mut ledger.corrupted, failure));
    }

    fn time<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let answer = call();
        let took = began.elapsed();
        self.note(|ledger| ledger.longest = ledger.longest.max(took));
        answer
    }
}

impl Ledger {
    fn add(&mut self, count: impl FnOnce(&mut Self) -> &mut u64, failure: &Failure) {
        *count(self) += 1;
        if self.trouble.len() < FAILURES {
            self.trouble.push(failure.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn every_block_is_written_read_and_counted() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let io = SteadyIo::start([("here", folder.path())]).unwrap();
        io.goes_on(2 * FILES * SLOTS, MINUTE).unwrap();
        assert!(io.pauses().starts_with("here: "));
        let done = io.finish(MINUTE).unwrap();
        assert!(done.ends_with(" blocks"), "{done}");
    }

    #[test]
    fn what_somebody_else_has_changed_is_found() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut files = Files::create(folder.path(), 1).unwrap();
        let ledger = Mutex::default();
        let book = Book(&ledger);
        files.round(3, &book).unwrap();
        assert_eq!(ledger.lock().unwrap().corrupted, 0);
        let (path, _) = &files.open[0];
        let mut bytes = std::fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
        files.compare(0, 1, &book).unwrap();
        assert_eq!(ledger.lock().unwrap().corrupted, 1);
        std::fs::write(path, "").unwrap();
        files.compare(0, 1, &book).unwrap_err();
    }

    #[test]
    fn no_two_writes_look_alike() {
        let patterns = [(1, 0, 0, 1), (2, 0, 0, 1), (1, 1, 0, 1), (1, 0, 1, 1), (1, 0, 0, 2)]
            .map(|(place, file, slot, number)| pattern(place, file, slot, number)[32..].to_vec());
        let different: std::collections::BTreeSet<_> = patterns.iter().collect();
        assert_eq!(different.len(), patterns.len());
    }
}
