//! The threads that carry data, apart from those that answer the watchdog.
//!
//! One for each processor, each with a runtime of its own: a connection stays on one thread, next to its memory, and
//! no thread is woken to look for work that another one has. That costs a fifth less for each small request than
//! sharing all connections between all threads, and answers to the watchdog do not wait behind data.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

/// More are no use: one carries some 2 GiB/s.
const MOST_THREADS: usize = 8;

/// All of them. They end with the last clone.
#[derive(Clone, Debug)]
pub struct Carriers(Arc<Threads>);

#[derive(Debug)]
struct Threads {
    carriers: Vec<Carrier>,
    _until_dropped: DropGuard,
}

#[derive(Clone, Debug)]
struct Carrier {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// A connection's place on one of the threads, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Carriers {
    /// Starts one for each processor that this process may use.
    #[must_use]
    pub fn start() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let stop = CancellationToken::new();
        let carriers = (0..processors.min(MOST_THREADS))
            .filter_map(|number| match start_thread(number, stop.clone()) {
                Ok(carrier) => Some(carrier),
                Err(error) => {
                    tracing::warn!(%error, "failed to start a thread that carries data");
                    None
                }
            })
            .collect();
        Self(Arc::new(Threads { carriers, _until_dropped: stop.drop_guard() }))
    }

    /// A place where the fewest connections are. Without threads of our own it is the caller's runtime.
    pub(super) fn place(&self) -> Place {
        let fewest = self
            .0
            .carriers
            .iter()
            .min_by_key(|carrier| carrier.connections.load(Ordering::Relaxed))
            .cloned()
            .unwrap_or_else(|| Carrier { runtime: Handle::current(), connections: Arc::default() });
        fewest.connections.fetch_add(1, Ordering::Relaxed);
        Place { runtime: fewest.runtime, connections: fewest.connections }
    }
}

impl Place {
    /// Where to spawn what moves the connection's bytes.
    pub(super) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn start_thread(number: usize, stop: CancellationToken) -> io::Result<Carrier> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("carrier-{number}"))
        .spawn(move || runtime.block_on(stop.cancelled()))?;
    Ok(Carrier { runtime: handle, connections: Arc::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_evenly_and_leave_their_places() {
        let carriers = Carriers::start();
        let threads = carriers.0.carriers.len();
        let places: Vec<Place> = (0..4 * threads).map(|_| carriers.place()).collect();
        let counts = || -> Vec<usize> {
            let threads = carriers.0.carriers.iter();
            threads.map(|carrier| carrier.connections.load(Ordering::Relaxed)).collect()
        };
        assert_eq!(counts(), vec![4; threads]);
        drop(places);
        assert_eq!(counts(), vec![0; threads]);
    }
}
