//! The memory of all connections of a process.
//!
//! A direction takes a buffer when it has something to move and gives it back when it has not: a thousand idle
//! tunnels hold none. Large buffers save system calls, and there are only so many of them: who comes when all
//! are out gets a small one, so that a thousand servers that read nothing do not cost a thousand times as much.
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

use memmap2::MmapMut;

use crate::tls::record::LONGEST_RECORD;

/// Sixteen records: beyond that nothing is gained, a socket seldom holds more.
const LARGE: usize = 16 * LONGEST_RECORD;
const SMALL: usize = LONGEST_RECORD;
/// Large buffers that may be out at once: for sixteen connections that are busy both ways.
const MOST_LARGE: usize = 32;
/// Large buffers that are kept for whoever comes next, while others are out. A fresh one has to be cleared.
const MOST_KEPT: usize = 16;
/// The same once none is out. The rest is given back to the system.
const KEPT_WHEN_IDLE: usize = 2;

/// Where buffers come from.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Arc<Mutex<Shelf>>);

#[derive(Default)]
struct Shelf {
    kept: Vec<MmapMut>,
    out: usize,
}

impl Buffers {
    /// A buffer for one direction of one connection. Holds a record, at least.
    #[must_use]
    pub fn take(&self) -> Buffer {
        let kept = {
            let mut shelf = self.shelf();
            if shelf.out == MOST_LARGE {
                return Buffer(Memory::Small(zeroed(SMALL)));
            }
            shelf.out += 1;
            shelf.kept.pop()
        };
        let home = self.clone();
        match kept.map_or_else(|| MmapMut::map_anon(LARGE), Ok) {
            Ok(bytes) => Buffer(Memory::Large { bytes: Some(bytes), home }),
            // The system has no more; the allocator may still have a little.
            Err(_) => {
                self.shelf().out -= 1;
                Buffer(Memory::Small(zeroed(SMALL)))
            }
        }
    }

    /// Large buffers that are out.
    #[cfg(test)]
    pub(super) fn out(&self) -> usize {
        self.shelf().out
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn zeroed(length: usize) -> Box<[u8]> {
    vec![0; length].into_boxed_slice()
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("kept", &self.kept.len()).field("out", &self.out).finish()
    }
}

/// Memory that goes back where it came from.
pub struct Buffer(Memory);

enum Memory {
    Small(Box<[u8]>),
    /// Empty only while it is dropped.
    Large {
        bytes: Option<MmapMut>,
        home: Buffers,
    },
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Small(bytes) => bytes,
            Memory::Large { bytes, .. } => bytes.as_deref().unwrap_or_default(),
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Small(bytes) => bytes,
            Memory::Large { bytes, .. } => bytes.as_deref_mut().unwrap_or_default(),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Memory::Large { bytes, home } = &mut self.0 else { return };
        let bytes = bytes.take();
        let surplus = {
            let mut shelf = home.shelf();
            shelf.out -= 1;
            shelf.kept.extend(bytes);
            let most = if shelf.out == 0 { KEPT_WHEN_IDLE } else { MOST_KEPT };
            let from = most.min(shelf.kept.len());
            shelf.kept.split_off(from)
        };
        // Unmapped when nobody waits for the shelf.
        drop(surplus);
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
    fn who_comes_when_all_large_ones_are_out_gets_a_small_one() {
        let buffers = Buffers::default();
        let mut out: Vec<Buffer> = (0..MOST_LARGE).map(|_| buffers.take()).collect();
        assert!(out.iter().all(|buffer| buffer.len() == LARGE));
        assert_eq!(buffers.take().len(), SMALL);
        out.pop();
        assert_eq!(buffers.take().len(), LARGE);
    }

    #[test]
    fn a_burst_leaves_only_a_few_behind() {
        let buffers = Buffers::default();
        let counts = || {
            let shelf = buffers.shelf();
            (shelf.out, shelf.kept.len())
        };
        let mut out: Vec<Buffer> = (0..2 * MOST_LARGE).map(|_| buffers.take()).collect();
        out.truncate(1);
        assert_eq!(counts(), (1, MOST_KEPT));
        drop(out);
        assert_eq!(counts(), (0, KEPT_WHEN_IDLE));
    }
}
