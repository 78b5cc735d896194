//! The credentials of this moment, for all calls.
//!
//! Whoever needs some while there are none waits for one question to the sources that all share; while there
//! still are some, one call alone renews them and the others go on.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::sleep;

use crate::nas::credentials::Credentials;
use crate::nas::credentials::CredentialsFault;
use crate::nas::credentials::CredentialsSource;
use crate::nas::credentials::SourceFault;
use crate::nas::credentials::schedule;
use crate::nas::credentials::schedule::Action;
use crate::nas::credentials::schedule::Event;
use crate::nas::credentials::schedule::Lease;
use crate::nas::credentials::schedule::State;
use crate::runtime::Clock;

/// Between two looks at the time.
const TICK: Duration = Duration::from_secs(10);
/// Before a source that has failed is asked again by somebody who has nothing.
const AFTER_A_FAULT: Duration = Duration::from_secs(5);
/// Before all sources are looked at again where none was set up; the last one takes a second to say so.
const AFTER_NOTHING: Duration = Duration::from_secs(30);

type Answer = Result<Arc<Credentials>, Arc<CredentialsFault>>;

/// Has credentials, or the reason why there are none.
pub struct CredentialsHolder {
    sources: Vec<Box<dyn CredentialsSource>>,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    /// Whoever has it asks the sources.
    renewing: tokio::sync::Mutex<()>,
}

struct Held {
    state: State,
    answer: Answer,
}

impl CredentialsHolder {
    /// Asks nobody before credentials are needed.
    #[must_use]
    pub fn new(sources: Vec<Box<dyn CredentialsSource>>, clock: Arc<dyn Clock>) -> Self {
        let nothing = Arc::new(CredentialsFault::Nowhere(Vec::new()));
        let held = Held { state: State::Missing { not_before: None }, answer: Err(nothing) };
        Self { sources, clock, held: Mutex::new(held), renewing: tokio::sync::Mutex::default() }
    }

    /// The credentials to sign a call with now. It takes as long as the sources do, which have their deadlines.
    ///
    /// # Errors
    /// Says where they were looked for and what was wrong.
    pub async fn current(&self) -> Answer {
        if let Some(answer) = self.at_hand(Event::Needed) {
            return answer;
        }
        let _one_asks = match self.renewing.try_lock() {
            Ok(lock) => lock,
            Err(_) => {
                if let Some(still_good) = self.still_good() {
                    return Ok(still_good);
                }
                self.renewing.lock().await
            }
        };
        // Somebody else may have asked meanwhile.
        match self.at_hand(Event::Needed) {
            Some(answer) => answer,
            None => self.renew().await,
        }
    }

    /// The service does not take these: they are not used again unless the sources have no others.
    pub fn refused(&self, used: &Arc<Credentials>) {
        let mut held = self.held();
        if held.answer.as_ref().is_ok_and(|now| Arc::ptr_eq(now, used)) {
            held.step(Event::Refused, self.clock.as_ref());
        }
    }

    /// Renews ahead until dropped, so that no call waits for it.
    pub async fn follow(&self) {
        loop {
            sleep(TICK).await;
            if self.at_hand(Event::TimePasses).is_none() {
                let _one_asks = self.renewing.lock().await;
                if self.at_hand(Event::TimePasses).is_none() {
                    // What is wrong has been logged, and who needs them is told.
                    drop(self.renew().await);
                }
            }
        }
    }

    /// None: the sources are to be asked.
    fn at_hand(&self, event: Event) -> Option<Answer> {
        let mut held = self.held();
        match held.step(event, self.clock.as_ref()) {
            Action::Renew => None,
            Action::Use | Action::Refuse | Action::Warn | Action::Reassure => {
                Some(held.answer.clone())
            }
        }
    }

    fn still_good(&self) -> Option<Arc<Credentials>> {
        let held = self.held();
        match held.state {
            State::InForce(lease) | State::Overdue { lease, .. }
                if lease.holds(self.clock.now()) =>
            {
                held.answer.as_ref().ok().cloned()
            }
            State::Missing { .. } | State::InForce(_) | State::Overdue { .. } => None,
        }
    }

    async fn renew(&self) -> Answer {
        let asked = self.ask().await;
        let mut held = self.held();
        match asked {
            Ok((credentials, lease)) => {
                if held.step(Event::Obtained(lease), self.clock.as_ref()) == Action::Reassure {
                    tracing::info!(from = %credentials.origin, "credentials for NAS are renewed again");
                }
                held.answer = Ok(Arc::new(credentials));
            }
            Err((fault, again_after)) => {
                match held.step(Event::Failed { again_after }, self.clock.as_ref()) {
                    Action::Warn => tracing::warn!(
                        error = %fault,
                        "failed to renew the credentials for NAS; the old ones serve until their end"
                    ),
                    Action::Use => {}
                    Action::Refuse | Action::Renew | Action::Reassure => {
                        held.answer = Err(Arc::new(fault));
                    }
                }
            }
        }
        held.answer.clone()
    }

    /// The first source that is set up decides.
    async fn ask(&self) -> Result<(Credentials, Lease), (CredentialsFault, Duration)> {
        let mut looked = Vec::new();
        for source in &self.sources {
            let origin = source.origin();
            let unusable = |source| (CredentialsFault::Unusable { origin, source }, AFTER_A_FAULT);
            let credentials = match source.credentials().await {
                Ok(credentials) => credentials,
                Err(SourceFault::Absent(why)) => {
                    looked.push((origin, why));
                    continue;
                }
                Err(fault) => return Err(unusable(fault)),
            };
            let since = self.clock.now();
            let (ends, look_again) = (credentials.expires, source.look_again());
            let lease = Lease { since, ends, look_again };
            if !lease.holds(since) {
                return Err(unusable(SourceFault::Ended));
            }
            return Ok((credentials, lease));
        }
        Err((CredentialsFault::Nowhere(looked), AFTER_NOTHING))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn step(&mut self, event: Event, clock: &dyn Clock) -> Action {
        let (next, action) = schedule::step(self.state, event, clock.now());
        self.state = next;
        action
    }
}

impl fmt::Debug for CredentialsHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsHolder").field("sources", &self.sources).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::time::Instant;

    use crate::nas::credentials::Origin;
    use crate::nas::credentials::fake::FakeSource;
    use crate::nas::test_clock::TestClock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A fake that the test can still speak to.
    #[derive(Debug)]
    struct Shared(Arc<FakeSource>);

    #[async_trait]
    impl CredentialsSource for Shared {
        fn origin(&self) -> Origin {
            self.0.origin()
        }

        async fn credentials(&self) -> Result<Credentials, SourceFault> {
            self.0.credentials().await
        }

        fn look_again(&self) -> Option<Duration> {
            self.0.look_again()
        }
    }

    fn holder(source: FakeSource) -> (Arc<CredentialsHolder>, Arc<FakeSource>) {
        let source = Arc::new(source);
        let sources: Vec<Box<dyn CredentialsSource>> = vec![Box::new(Shared(Arc::clone(&source)))];
        (Arc::new(CredentialsHolder::new(sources, Arc::new(TestClock))), source)
    }

    fn hour() -> FakeSource {
        FakeSource { delay: SECOND, life: Some(60 * MINUTE), ..FakeSource::default() }
    }

    async fn key(holder: &CredentialsHolder) -> String {
        holder.current().await.unwrap().access_key_id.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_need_credentials_at_once_ask_once() {
        let (holder, source) = holder(hour());
        let began = Instant::now();
        let (a, b, c) = tokio::join!(key(&holder), key(&holder), key(&holder));
        assert_eq!((a.as_str(), b.as_str(), c.as_str()), ("K1", "K1", "K1"));
        assert_eq!((source.times_asked(), began.elapsed()), (1, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn they_are_renewed_ahead_and_no_call_waits_for_it() {
        let (holder, _source) = holder(hour());
        assert_eq!(key(&holder).await, "K1");
        let following = tokio::spawn({
            let holder = Arc::clone(&holder);
            async move { holder.follow().await }
        });
        sleep(51 * MINUTE).await;
        let began = Instant::now();
        assert_eq!(key(&holder).await, "K2");
        assert_eq!(began.elapsed(), Duration::ZERO);
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn while_one_call_renews_them_the_others_go_on_with_the_old_ones() {
        let (holder, _source) = holder(hour());
        assert_eq!(key(&holder).await, "K1");
        sleep(50 * MINUTE).await;
        let (one, other) = tokio::join!(key(&holder), key(&holder));
        assert_eq!((one.as_str(), other.as_str()), ("K2", "K1"));
    }

    #[tokio::test(start_paused = true)]
    async fn old_ones_serve_to_their_end_while_renewing_fails_and_then_the_reason_is_said() {
        let (holder, source) = holder(hour());
        assert_eq!(key(&holder).await, "K1");
        source.fail(Some(SourceFault::Half { set: "a", missing: "b" }));
        sleep(55 * MINUTE).await;
        assert_eq!(key(&holder).await, "K1");
        sleep(5 * MINUTE).await;
        let fault = holder.current().await.unwrap_err().to_string();
        assert_eq!(fault, "credentials from the environment cannot be had: a is set, but b is not");
        let asked = source.times_asked();
        assert!(holder.current().await.is_err());
        assert_eq!(source.times_asked(), asked, "not by each call");
        source.fail(None);
        sleep(AFTER_A_FAULT).await;
        assert_eq!(key(&holder).await, format!("K{}", asked + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_service_refused_is_replaced_once_and_not_for_a_late_comer() {
        let (holder, source) = holder(hour());
        let first = holder.current().await.unwrap();
        holder.refused(&first);
        assert_eq!(key(&holder).await, "K2");
        holder.refused(&first);
        assert_eq!(key(&holder).await, "K2", "those that were refused are no longer in use");
        assert_eq!(source.times_asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_when_it_comes_points_to_the_clock() {
        let (holder, _) = holder(FakeSource { life: Some(SECOND), ..FakeSource::default() });
        let fault = holder.current().await.unwrap_err().to_string();
        assert!(
            fault.ends_with("they have ended already: is this machine's clock right?"),
            "{fault}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_source_that_is_set_up_decides_and_what_is_missing_everywhere_is_said() {
        let of = |fault: Option<SourceFault>| {
            let source = FakeSource::default();
            source.fail(fault);
            Box::new(source) as Box<dyn CredentialsSource>
        };
        let absent = |why: &str| of(Some(SourceFault::Absent(why.to_owned())));
        let broken = || of(Some(SourceFault::Half { set: "a", missing: "b" }));
        let ask = async |sources| {
            let holder = CredentialsHolder::new(sources, Arc::new(TestClock));
            let answer = holder.current().await;
            answer.map(|found| found.access_key_id.clone()).map_err(|fault| fault.to_string())
        };
        assert_eq!(ask(vec![absent("x"), of(None)]).await, Ok("K1".to_owned()));
        let half = "credentials from the environment cannot be had: a is set, but b is not";
        assert_eq!(ask(vec![absent("x"), broken(), of(None)]).await, Err(half.to_owned()));
        let nowhere = "no credentials were found (x; y); what needs none goes on";
        assert_eq!(ask(vec![absent("x"), absent("y")]).await, Err(nowhere.to_owned()));
    }
}
