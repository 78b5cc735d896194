//! The memory of all connections of a process.
//!
//! A direction takes a buffer when it has something to move and gives it back when it has not: a thousand idle
//! tunnels hold none. Large buffers save system calls, and all together have a budget of bytes: who comes when it is
//! spent gets a small one, never an error, so that a thousand servers that read nothing do not cost a thousand times as
//! much. Small ones count as well, and are bounded by the number of connections.
//!
//! Large ones are mapped from the system, not allocated: what is given back is gone at once, and what is never
//! touched is never there. An allocator keeps such pieces after a burst, in the hope of the next one.

use std::fmt;
use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use memmap2::MmapMut;

use crate::tls::record::LONGEST_RECORD;

/// Sixteen records: beyond that nothing is gained, a socket seldom holds more.
const LARGE: usize = 16 * LONGEST_RECORD;
const SMALL: usize = LONGEST_RECORD;
/// Bytes that may be out before there are only small ones: sixteen connections that are busy both ways.
const BUDGET: usize = 32 * LARGE;
/// Large buffers that are kept for whoever comes next, while others are out. A fresh one has to be cleared.
const MOST_KEPT: usize = 16;
/// The same once none is out. The rest is given back to the system.
const KEPT_WHEN_IDLE: usize = 2;

/// Where buffers come from.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Home>);

#[derive(Default)]
struct Home {
    /// Bytes of buffers that are out.
    out: AtomicUsize,
    /// Large ones.
    kept: Mutex<Vec<MmapMut>>,
}

impl Buffers {
    /// A buffer for one direction of one connection. Holds a record, at least.
    #[must_use]
    pub fn take(&self) -> Buffer {
        let memory = self.large().map_or_else(|| self.small(), Memory::Large);
        Buffer { memory, home: self.clone() }
    }

    /// Bytes of buffers that are out.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.out.load(Ordering::Relaxed)
    }

    fn large(&self) -> Option<MmapMut> {
        let within = |out: usize| Some(out + LARGE).filter(|out| *out <= BUDGET);
        self.0.out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).ok()?;
        let kept = self.kept().pop();
        let bytes = kept.map_or_else(|| MmapMut::map_anon(LARGE), Ok);
        if bytes.is_err() {
            // The system has no more; the allocator may still have a little.
            self.0.out.fetch_sub(LARGE, Ordering::Relaxed);
        }
        bytes.ok()
    }

    fn small(&self) -> Memory {
        self.0.out.fetch_add(SMALL, Ordering::Relaxed);
        Memory::Small(vec![0; SMALL].into_boxed_slice())
    }

    fn take_back(&self, bytes: MmapMut) {
        let others = self.0.out.fetch_sub(LARGE, Ordering::Relaxed) - LARGE;
        let most = if others == 0 { KEPT_WHEN_IDLE } else { MOST_KEPT };
        let surplus = {
            let mut kept = self.kept();
            kept.push(bytes);
            let from = most.min(kept.len());
            kept.split_off(from)
        };
        // Unmapped when nobody waits for the shelf.
        drop(surplus);
    }

    /// Large buffers that are out.
    #[cfg(test)]
    pub(super) fn out(&self) -> usize {
        self.bytes() / LARGE
    }

    fn kept(&self) -> MutexGuard<'_, Vec<MmapMut>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// Memory that goes back where it came from.
pub struct Buffer {
    memory: Memory,
    home: Buffers,
}

enum Memory {
    Small(Box<[u8]>),
    Large(MmapMut),
    /// It has gone back.
    Gone,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Small(bytes) => bytes,
            Memory::Large(bytes) => bytes,
            Memory::Gone => &[],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Small(bytes) => bytes,
            Memory::Large(bytes) => bytes,
            Memory::Gone => &mut [],
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.memory, Memory::Gone) {
            Memory::Small(_) => {
                self.home.0.out.fetch_sub(SMALL, Ordering::Relaxed);
            }
            Memory::Large(bytes) => self.home.take_back(bytes),
            Memory::Gone => {}
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("length", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_when_the_budget_is_spent_gets_a_small_one() {
        let buffers = Buffers::default();
        let mut out: Vec<Buffer> = (0..32).map(|_| buffers.take()).collect();
        assert!(out.iter().all(|buffer| buffer.len() == LARGE));
        assert_eq!(buffers.take().len(), SMALL);
        assert_eq!(buffers.bytes(), BUDGET);
        out.pop();
        assert_eq!(buffers.take().len(), LARGE);
    }

    #[test]
    fn however_many_come_the_large_ones_stay_within_the_budget_and_small_ones_count() {
        let buffers = Buffers::default();
        let mut out: Vec<Buffer> = (0..1000).map(|_| buffers.take()).collect();
        assert_eq!(buffers.bytes(), BUDGET + (1000 - 32) * SMALL);
        out.drain(..32);
        assert_eq!(buffers.take().len(), SMALL, "the small ones have spent it");
        drop(out);
        assert_eq!((buffers.bytes(), buffers.take().len()), (0, LARGE));
    }

    #[test]
    fn a_burst_leaves_only_a_few_behind() {
        let buffers = Buffers::default();
        let counts = || (buffers.out(), buffers.kept().len());
        let mut out: Vec<Buffer> = (0..64).map(|_| buffers.take()).collect();
        out.truncate(1);
        assert_eq!(counts(), (1, MOST_KEPT));
        drop(out);
        assert_eq!(counts(), (0, KEPT_WHEN_IDLE));
    }
}
