//! What the kernel's NFS client has counted of its mounts, as `/proc/self/mountstats` shows it.
//!
//! Reading it asks no server: the kernel adds up counters in memory (`nfs_show_stats` and `rpc_clnt_show_stats` of Linux 6.1). It
//! holds the lock of the mount table meanwhile, as mountinfo does, so it waits while another mount comes or goes.
//!
//! The kernel counts for a superblock. Mounts of one server with the same options have one together, so they all show the
//! same figures; which do is known by [`MountEntry::device`](super::mount_table::MountEntry::device).

use std::collections::HashMap;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::mount_table::unescape;

const MOUNTSTATS: &str = "/proc/self/mountstats";

/// The operations that are counted by themselves, and what all others are together.
pub const OPERATIONS: [&str; 6] = ["READ", "WRITE", "COMMIT", "GETATTR", "LOOKUP", OTHER];
const OTHER: &str = "other";

/// What is counted of a superblock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NfsCounts {
    /// Bytes that the server has sent for READ.
    pub bytes_read: u64,
    /// Bytes that WRITE has brought to the server.
    pub bytes_written: u64,
    /// As in [`OPERATIONS`].
    pub operations: [OperationCounts; OPERATIONS.len()],
}

/// What is counted of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationCounts {
    /// How many have ended.
    pub calls: u64,
    /// How often one was sent again.
    pub retransmissions: u64,
    /// How often all that `timeo=` and `retrans=` give was over before the answer was there.
    pub timeouts: u64,
    /// From the sending of each to its answer, all together.
    pub round_trips: Duration,
}

impl NfsCounts {
    /// Adds those of another superblock.
    pub fn add(&mut self, other: &Self) {
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        for (all, more) in self.operations.iter_mut().zip(&other.operations) {
            all.add(more);
        }
    }
}

impl OperationCounts {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.retransmissions += other.retransmissions;
        self.timeouts += other.timeouts;
        self.round_trips += other.round_trips;
    }
}

/// Reads what the kernel counts.
pub trait MountStats: Send + Sync + std::fmt::Debug {
    /// Of the NFS mounts at these places.
    ///
    /// # Errors
    /// When the kernel does not show it.
    fn read(&self, at: &HashSet<PathBuf>) -> io::Result<HashMap<PathBuf, NfsCounts>>;
}

/// The mounts of this process's mount namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcMountStats;

impl MountStats for ProcMountStats {
    fn read(&self, at: &HashSet<PathBuf>) -> io::Result<HashMap<PathBuf, NfsCounts>> {
        read(BufReader::new(File::open(MOUNTSTATS)?), at)
    }
}

/// Reads the text of mountstats, a line at a time: a node with many mounts has megabytes of it. Lines that are not
/// understood are passed over, as later kernels have more of them.
fn read(text: impl BufRead, at: &HashSet<PathBuf>) -> io::Result<HashMap<PathBuf, NfsCounts>> {
    let mut all = HashMap::new();
    let mut current: Option<PathBuf> = None;
    for line in text.split(b'\n') {
        let line = line?;
        if line.starts_with(b"device ") || line.starts_with(b"no device ") {
            current = nfs_mount_point(&line).filter(|mount_point| at.contains(mount_point));
            if let Some(mount_point) = &current {
                // Of several at one place the last is on top.
                all.insert(mount_point.clone(), NfsCounts::default());
            }
        } else if let Some(counts) = current.as_ref().and_then(|at| all.get_mut(at)) {
            note(&String::from_utf8_lossy(&line), counts);
        }
    }
    Ok(all)
}

/// `device SOURCE mounted on PATH with fstype nfs statvers=1.1`. Blanks of source and path are escaped.
fn nfs_mount_point(line: &[u8]) -> Option<PathBuf> {
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    match words.as_slice() {
        [b"device", _, b"mounted", b"on", path, b"with", b"fstype", b"nfs" | b"nfs4", ..] => {
            Some(PathBuf::from(OsString::from_vec(unescape(path))))
        }
        _ => None,
    }
}

fn note(line: &str, counts: &mut NfsCounts) {
    let Some((name, figures)) = line.split_once(':') else { return };
    let figures: Vec<u64> =
        figures.split_whitespace().map_while(|figure| figure.parse().ok()).collect();
    match (name.trim_start(), figures.as_slice()) {
        // Read and written by programs in two ways, and with the server.
        ("bytes", [_, _, _, _, bytes_read, bytes_written, ..]) => {
            (counts.bytes_read, counts.bytes_written) = (*bytes_read, *bytes_written);
        }
        ("events" | "age" | "xprt", _) => {}
        // Sent and received bytes, and milliseconds in the queue, stand between.
        (name, [calls, sent, timeouts, _, _, _, round_trips, _, ..]) => {
            let other = OPERATIONS.len() - 1;
            let place = OPERATIONS.iter().position(|known| *known == name).unwrap_or(other);
            counts.operations[place].add(&OperationCounts {
                calls: *calls,
                retransmissions: sent.saturating_sub(*calls),
                timeouts: *timeouts,
                round_trips: Duration::from_millis(*round_trips),
            });
        }
        _ => {}
    }
}

#[cfg(test)]
pub mod fake {
    //! Figures in memory.

    use super::*;

    /// The same at every place that is listed.
    #[derive(Clone, Debug, Default)]
    pub struct FakeMountStats(pub HashMap<PathBuf, NfsCounts>);

    impl MountStats for FakeMountStats {
        fn read(&self, at: &HashSet<PathBuf>) -> io::Result<HashMap<PathBuf, NfsCounts>> {
            let all = self.0.iter().filter(|(place, _)| at.contains(*place));
            Ok(all.map(|(place, counts)| (place.clone(), counts.clone())).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// In the form of a 6.1 kernel; the second mount of the first place is on top.
    const TEXT: &str = "\
device proc mounted on /proc with fstype proc
no device mounted on /odd with fstype odd
device nas.example:/a\\040b mounted on /stage\\040a with fstype nfs statvers=1.1
\topts:\trw,vers=3
\tbytes:\t1 2 3 4 5 6 7 8
\tper-op statistics
\t        READ: 1 1 0 1 1 1 1 1 0
device nas.example:/a\\040b mounted on /stage\\040a with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.0,rsize=1048576
\tage:\t77
\timpl_id:\tname='',domain='',date='0,0'
\tcaps:\tcaps=0xfffbc0bf,wtmult=512
\tnfsv4:\tbm0=0xfdffbfff,bm1=0x40f9be3e
\tsec:\tflavor=1,pseudoflavor=1
\tevents:\t3 9 0 0 2 1 13 2 0 1 0 0 0 0 3 0 0 1 0 0 1 0 0 0 0 0 0
\tbytes:\t5 2097152 0 0 4194304 2097152 0 512
\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)
\txprt:\ttcp 773 1 2 0 55 26 26 0 26 0 2 0 0
\tper-op statistics
\t        NULL: 1 1 0 44 24 0 2 2 0
\t        READ: 10 12 1 1480 4195584 3 1500 1510 0
\t       WRITE: 2 2 0 2097500 272 0 40 41 0
\t      LOOKUP: 4 4 0 500 600 0 5 6 1
\t     GETATTR: 3 3 0 400 500 0 4 5 0
\t       CLOSE: 2 3 0 400 500 0 6 5 0

device nas.example:/c mounted on /c with fstype nfs statvers=1.1
\tbytes:\t9 9 9 9 9 9 9 9
";

    fn places(paths: &[&str]) -> HashSet<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_figures_of_the_mount_on_top_are_read_and_others_are_passed_over() {
        let all = read(TEXT.as_bytes(), &places(&["/stage a", "/proc", "/odd", "/none"])).unwrap();
        assert_eq!(all.len(), 1);
        let counts = &all[Path::new("/stage a")];
        assert_eq!((counts.bytes_read, counts.bytes_written), (4_194_304, 2_097_152));
        let shown: Vec<_> = OPERATIONS
            .iter()
            .zip(counts.operations)
            .map(|(name, one)| {
                let round_trips = one.round_trips.as_millis();
                (*name, one.calls, one.retransmissions, one.timeouts, round_trips)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("READ", 10, 2, 1, 1500),
                ("WRITE", 2, 0, 0, 40),
                ("COMMIT", 0, 0, 0, 0),
                ("GETATTR", 3, 0, 0, 4),
                ("LOOKUP", 4, 0, 0, 5),
                ("other", 3, 1, 0, 8),
            ]
        );
    }

    /// Of Linux 6.1 in the lab: six bytes written over NFSv3, and read over 4.0, where 2 MiB were written, too.
    #[test]
    fn what_a_kernel_has_shown_is_understood() {
        let shown = include_str!("golden/mountstats-6.1.txt");
        let all = read(shown.as_bytes(), &places(&["/mnt/a", "/mnt/b"])).unwrap();
        let figures = |at: &str| {
            let counts = &all[Path::new(at)];
            let calls = counts.operations.map(|one| one.calls);
            (counts.bytes_read, counts.bytes_written, calls)
        };
        assert_eq!(figures("/mnt/a"), (0, 6, [0, 1, 0, 2, 1, 6]));
        assert_eq!(figures("/mnt/b"), (6, 2 << 20, [1, 4, 1, 1, 0, 20]));
        let written = all[Path::new("/mnt/b")].operations[1];
        assert_eq!(written.round_trips, Duration::from_millis(708));
        let sent_again = |counts: &NfsCounts| counts.operations.map(|one| one.retransmissions);
        assert!(all.values().all(|counts| sent_again(counts) == [0; OPERATIONS.len()]));
    }

    #[test]
    fn superblocks_add_up() {
        let all = read(TEXT.as_bytes(), &places(&["/stage a", "/c"])).unwrap();
        let mut sum = all[Path::new("/c")].clone();
        sum.add(&all[Path::new("/stage a")]);
        assert_eq!((sum.bytes_read, sum.operations[0].calls), (4_194_313, 10));
    }

    #[test]
    fn the_kernel_of_this_machine_is_understood() {
        let all = ProcMountStats.read(&places(&["/", "/proc"])).unwrap();
        assert!(!all.contains_key(Path::new("/proc")));
    }
}
