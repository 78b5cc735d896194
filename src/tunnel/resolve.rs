//! The addresses of a mount target.
//!
//! A name is asked for again at every dial, so that a mount target that moves is followed; but a resolver that
//! fails or is slow never keeps a mount from a server that has not moved: the last known addresses are tried.
//!
//! Only [`AT_ONCE`] threads ever wait for the resolver, and one for each name, whoever else dials.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::host::resolve::ResolveFault;
use crate::host::resolve::resolve;
use crate::model::ServerName;
use crate::tunnel::dial_fault::DialFault;

/// For a name that has never been resolved.
const DEADLINE: Duration = Duration::from_secs(5);
/// For one whose last addresses are known. The answer is taken note of also when it comes later.
const KNOWN_DEADLINE: Duration = Duration::from_secs(1);
/// For so long an answer is good without asking again: the connections of a mount come together.
const FRESH: Duration = Duration::from_secs(2);
/// getaddrinfo(3) blocks a thread, for half a minute where no server of resolv.conf answers.
const AT_ONCE: usize = 16;
/// Longer than that blocks: a place is free again only when its thread has ended.
const LONGEST_LOOKUP: Duration = Duration::from_secs(120);

/// The resolver.
#[async_trait]
pub trait Names: Send + Sync + fmt::Debug {
    /// The addresses of a name, the preferred one first.
    async fn addresses(&self, host: &ServerName) -> Result<Vec<IpAddr>, ResolveFault>;
}

/// The resolver of the system.
#[derive(Clone, Copy, Debug)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &ServerName) -> Result<Vec<IpAddr>, ResolveFault> {
        let addresses = resolve(host.as_str(), None, LONGEST_LOOKUP).await?;
        Ok(addresses.into_iter().map(|address| address.ip).collect())
    }
}

/// What is known of the names that were asked for.
#[derive(Debug)]
pub(super) struct Addresses {
    names: Arc<dyn Names>,
    hosts: Mutex<HashMap<ServerName, Arc<Host>>>,
    slots: Arc<Semaphore>,
}

#[derive(Debug)]
struct Host {
    name: ServerName,
    asking: AtomicBool,
    latest: watch::Sender<Latest>,
}

#[derive(Clone, Debug, Default)]
struct Latest {
    /// How many answers there were.
    answers: u64,
    /// Of the last answer that had any.
    addresses: Vec<IpAddr>,
    /// When that came.
    at: Option<Instant>,
    /// What went wrong since.
    error: Option<ResolveFault>,
}

impl Addresses {
    pub(super) fn new(names: Arc<dyn Names>) -> Self {
        Self { names, hosts: Mutex::default(), slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The addresses of a host: those of now, or else the last known ones.
    pub(super) async fn of(&self, host: &ServerName) -> Result<Vec<IpAddr>, DialFault> {
        if let Some(address) = host.address() {
            return Ok(vec![address]);
        }
        let entry = self.entry(host);
        let mut latest = entry.latest.subscribe();
        let before = latest.borrow_and_update().clone();
        if before.at.is_some_and(|at| at.elapsed() < FRESH) && before.error.is_none() {
            return Ok(before.addresses);
        }
        if !entry.asking.swap(true, Ordering::AcqRel) {
            tokio::spawn(entry.ask(Arc::clone(&self.names), Arc::clone(&self.slots)));
        }
        let patience = if before.addresses.is_empty() { DEADLINE } else { KNOWN_DEADLINE };
        let answered = latest.wait_for(|latest| latest.answers > before.answers);
        let latest = match timeout(patience, answered).await {
            Ok(Ok(latest)) => latest.clone(),
            // The sender lives in the entry; there is always one.
            Ok(Err(_)) | Err(_) => before,
        };
        latest.addresses(host)
    }

    /// Forgets a host. Who waits for an answer still gets it.
    pub(super) fn forget(&self, host: &ServerName) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }

    fn entry(&self, host: &ServerName) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let latest = watch::Sender::default();
            Arc::new(Host { name: host.clone(), asking: AtomicBool::new(false), latest })
        };
        Arc::clone(hosts.entry(host.clone()).or_insert_with(new))
    }
}

impl Host {
    /// Asks, however long it takes. Whoever waits for it may have gone.
    async fn ask(self: Arc<Self>, names: Arc<dyn Names>, slots: Arc<Semaphore>) {
        let answer = match slots.acquire().await {
            Ok(_slot) => names.addresses(&self.name).await,
            Err(closed) => Err(ResolveFault::TryAgain(closed.to_string())),
        };
        self.asking.store(false, Ordering::Release);
        self.latest.send_modify(|latest| latest.take(&self.name, answer));
    }
}

impl Latest {
    /// Takes note of an answer. An end of the name is logged once, and so is its return.
    fn take(&mut self, host: &ServerName, answer: Result<Vec<IpAddr>, ResolveFault>) {
        self.answers += 1;
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                if self.error.take().is_some() {
                    tracing::info!(%host, "the name resolves again");
                }
                if !self.addresses.is_empty() && self.addresses != addresses {
                    let (before, now) = (&self.addresses, &addresses);
                    tracing::info!(%host, ?before, ?now, "the addresses of the mount target have changed");
                }
                (self.addresses, self.at) = (addresses, Some(Instant::now()));
            }
            Ok(_) => self.fail(host, ResolveFault::NoSuchName("it has no address".to_owned())),
            Err(error) => self.fail(host, error),
        }
    }

    fn fail(&mut self, host: &ServerName, error: ResolveFault) {
        if self.error.is_none() && !self.addresses.is_empty() {
            let addresses = &self.addresses;
            tracing::warn!(%host, %error, ?addresses, "the name does not resolve; its last addresses are used");
        }
        self.error = Some(error);
    }

    fn addresses(self, host: &ServerName) -> Result<Vec<IpAddr>, DialFault> {
        let host = host.clone();
        match (self.addresses.is_empty(), self.error) {
            (false, _) => Ok(self.addresses),
            (true, Some(ResolveFault::TryAgain(why))) => {
                Err(DialFault::ResolverSilent { host, why })
            }
            (true, Some(source)) => Err(DialFault::NameNotFound { host, source }),
            (true, None) => {
                let why = format!("the resolver did not answer within {} s", DEADLINE.as_secs());
                Err(DialFault::ResolverSilent { host, why })
            }
        }
    }
}

/// A resolver that says what a test wants.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct FakeNames {
    pub(super) answer: Mutex<Option<Vec<IpAddr>>>,
    pub(super) silent: AtomicBool,
    pub(super) asked: std::sync::atomic::AtomicU64,
}

#[cfg(test)]
#[async_trait]
impl Names for FakeNames {
    async fn addresses(&self, _: &ServerName) -> Result<Vec<IpAddr>, ResolveFault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        answer.ok_or_else(|| ResolveFault::NoSuchName("Name or service not known".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> ServerName {
        ServerName::parse("nas.example.com").unwrap()
    }

    fn resolver(answer: Option<[u8; 4]>) -> (Arc<FakeNames>, Addresses) {
        let names = Arc::new(FakeNames::default());
        say(&names, answer);
        (Arc::clone(&names), Addresses::new(names))
    }

    fn say(names: &FakeNames, answer: Option<[u8; 4]>) {
        *names.answer.lock().unwrap() = answer.map(|address| vec![address.into()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mount_target_that_moves_is_followed_and_asked_for_once_by_all_who_dial_together() {
        let (names, addresses) = resolver(Some([192, 0, 2, 1]));
        let host = host();
        let (one, two, three) =
            tokio::join!(addresses.of(&host), addresses.of(&host), addresses.of(&host));
        assert!([one, two, three].iter().all(|found| found.as_ref().unwrap().len() == 1));
        assert_eq!(names.asked.load(Ordering::Relaxed), 1);
        say(&names, Some([192, 0, 2, 2]));
        tokio::time::advance(FRESH).await;
        assert_eq!(addresses.of(&host).await.unwrap(), [IpAddr::from([192, 0, 2, 2])]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_addresses_are_used_where_the_name_fails_or_the_resolver_is_silent() {
        let (names, addresses) = resolver(Some([192, 0, 2, 1]));
        let known = addresses.of(&host()).await.unwrap();
        say(&names, None);
        tokio::time::advance(FRESH).await;
        assert_eq!(addresses.of(&host()).await.unwrap(), known);
        names.silent.store(true, Ordering::Relaxed);
        let asked = Instant::now();
        assert_eq!(addresses.of(&host()).await.unwrap(), known);
        assert_eq!(asked.elapsed(), KNOWN_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_never_resolved_is_told_from_a_silent_resolver() {
        let (names, addresses) = resolver(None);
        let fault = addresses.of(&host()).await.unwrap_err();
        assert!(fault.to_string().contains("no such name"), "{fault}");
        names.silent.store(true, Ordering::Relaxed);
        let (names, addresses) = resolver(None);
        names.silent.store(true, Ordering::Relaxed);
        let fault = addresses.of(&host()).await.unwrap_err();
        assert!(matches!(fault, DialFault::ResolverSilent { .. }), "{fault}");
    }

    #[tokio::test]
    async fn an_address_is_not_asked_for() {
        let (names, addresses) = resolver(None);
        let host = ServerName::parse("2001:db8::7").unwrap();
        assert_eq!(addresses.of(&host).await.unwrap(), [host.address().unwrap()]);
        assert_eq!(names.asked.load(Ordering::Relaxed), 0);
    }
}
