//! How many connections of a process are dialled for at once.
//!
//! After an outage, or when a process begins anew, the kernel's connections come all together. A thousand handshakes at
//! once would end late, all of them; in turns the first ones end early, and neither this node nor the server stands
//! still meanwhile. Who comes first goes first.
//!
//! A dial that is slow only waits for its server, and gives its place up: servers that are down keep nobody from one
//! that is not. Where fewer are dialled for than there are places, nobody waits at all. What fails comes again after a
//! pause with jitter (`open_tunnel`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Dials that are begun at once.
const PLACES: usize = 32;
/// After this a dial works no more, it waits. Long enough for a processor that is busy with the others.
const SLOW: Duration = Duration::from_millis(500);

/// The gate of a process.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

impl Gate {
    /// Does `work` when it is its turn.
    pub(super) async fn through<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        // A semaphore that is never closed gives a place, in the order in which it was asked.
        let place = self.0.acquire().await.ok();
        if let Ok(done) = timeout(SLOW, &mut work).await {
            return done;
        }
        drop(place);
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::task::JoinSet;
    use tokio::time::Instant;
    use tokio::time::sleep;

    use super::*;

    /// When each of `count` works ended that take `each`, in the order in which they came.
    async fn ends(gate: &Gate, count: usize, each: Duration) -> Vec<Duration> {
        let (start, ended) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let mut works = JoinSet::new();
        for number in 0..count {
            let (gate, ended) = (gate.clone(), Arc::clone(&ended));
            works.spawn(async move {
                gate.through(async { sleep(each).await }).await;
                ended.lock().unwrap().push((number, start.elapsed()));
            });
        }
        works.join_all().await;
        let mut ended = ended.lock().unwrap().clone();
        ended.sort_unstable();
        let ends: Vec<_> = ended.into_iter().map(|(_, at)| at).collect();
        assert!(ends.is_sorted(), "who comes first goes first: {ends:?}");
        ends
    }

    #[tokio::test(start_paused = true)]
    async fn few_do_not_wait_and_many_take_turns() {
        let gate = Gate::default();
        let short = Duration::from_millis(100);
        assert_eq!(ends(&gate, PLACES, short).await, vec![short; PLACES]);
        let turns = ends(&gate, 3 * PLACES, short).await;
        assert_eq!(
            (turns[PLACES - 1], turns[PLACES], turns[3 * PLACES - 1]),
            (short, 2 * short, 3 * short)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn dials_for_servers_that_are_down_keep_nobody_from_one_that_is_not() {
        let gate = Gate::default();
        let mut dead = JoinSet::new();
        for _ in 0..2 * PLACES {
            let gate = gate.clone();
            dead.spawn(async move { gate.through(sleep(Duration::from_secs(15))).await });
        }
        tokio::task::yield_now().await;
        let start = Instant::now();
        gate.through(async {}).await;
        assert!(start.elapsed() < 3 * SLOW, "{:?}", start.elapsed());
        dead.join_all().await;
        assert_eq!(start.elapsed().as_secs(), 15, "none was cut");
    }
}
