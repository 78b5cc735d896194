//! One question for all who ask the same at the same time.
//!
//! A definite answer is everybody's who asked before it came. A failure is only the asker's own: the next who
//! waits asks anew, so that nobody takes another one's impatience for silence.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

use tokio::sync::OnceCell;

/// The questions under way, by what is asked.
///
/// The lock inside is held to look up and to insert, never while a question is under way.
#[derive(Debug)]
pub struct Together<K, V>(Mutex<HashMap<K, Weak<OnceCell<V>>>>);

impl<K, V> Default for Together<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Together<K, V> {
    /// The answer to `key`: of the question that is under way, or else of `question`. To stop waiting ends the
    /// question only where nobody else waits; else one of the others asks it.
    ///
    /// # Errors
    /// What `question` failed with, where it was this caller's.
    pub async fn ask<E>(
        &self,
        key: K,
        question: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let cell = self.under_way(&key);
        let asked = async {
            let answer = question().await;
            // Whoever comes now has not asked yet when the answer came.
            self.forget(&key, &cell);
            answer
        };
        cell.get_or_try_init(|| asked).await.cloned()
    }

    fn under_way(&self, key: &K) -> Arc<OnceCell<V>> {
        let mut all = self.all();
        if let Some(cell) = all.get(key).and_then(Weak::upgrade) {
            return cell;
        }
        all.retain(|_, cell| cell.strong_count() > 0);
        let cell = Arc::new(OnceCell::new());
        all.insert(key.clone(), Arc::downgrade(&cell));
        cell
    }

    fn forget(&self, key: &K, cell: &Arc<OnceCell<V>>) {
        let mut all = self.all();
        if all.get(key).is_some_and(|known| known.as_ptr() == Arc::as_ptr(cell)) {
            all.remove(key);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<K, Weak<OnceCell<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use tokio::time::Instant;
    use tokio::time::sleep;
    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Counts the questions; each is answered after a second with its number.
    #[derive(Default)]
    struct Server {
        together: Together<&'static str, u32>,
        asked: AtomicU32,
    }

    impl Server {
        async fn ask(&self, key: &'static str) -> Result<u32, u32> {
            self.ask_for(key, Ok).await
        }

        async fn ask_for(
            &self,
            key: &'static str,
            end: impl Fn(u32) -> Result<u32, u32>,
        ) -> Result<u32, u32> {
            let question = async || {
                let number = self.asked.fetch_add(1, Ordering::Relaxed);
                sleep(SECOND).await;
                end(number)
            };
            self.together.ask(key, question).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_before_the_answer_shares_it_and_who_asks_after_it_asks_anew() {
        let server = Server::default();
        let late = async {
            sleep(SECOND / 2).await;
            server.ask("a").await
        };
        assert_eq!(tokio::join!(server.ask("a"), server.ask("a"), late), (Ok(0), Ok(0), Ok(0)));
        assert_eq!(server.ask("a").await, Ok(1));
        assert_eq!(tokio::join!(server.ask("a"), server.ask("b")), (Ok(2), Ok(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_the_askers_own_and_the_next_asks_anew() {
        let server = Server::default();
        let fails = server.ask_for("a", Err);
        assert_eq!(tokio::join!(fails, server.ask("a"), server.ask("a")), (Err(0), Ok(1), Ok(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_question_to_the_next() {
        let server = Server::default();
        let began = Instant::now();
        let impatient = timeout(SECOND / 2, server.ask("a"));
        let (impatient, patient) = tokio::join!(impatient, server.ask("a"));
        assert!(impatient.is_err());
        assert_eq!((patient, began.elapsed()), (Ok(1), SECOND * 3 / 2));
    }
}
