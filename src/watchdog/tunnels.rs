//! Which tunnels are wanted, and how a wanted one comes to be open.
//!
//! [`Tunnels::acquire`] is the path to read first. What keeps it true:
//!
//! - The record is written before the tunnel is opened, so a crash leaves a record too many, never one too few.
//! - What opens or closes one tunnel does so alone: [`Guards`] hands out one guard for each spec. It is held
//!   while the local tunnel process is asked, never while a mount target is.
//! - What one user wants happens in sequence: a second call meanwhile is refused as busy.
//! - The book's lock is held for a look or a write to the state directory, never while waiting.
//!
//! LONG: the four rules above hold only together.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use crate::model::TunnelSpec;
use crate::proto::tunnel::ProbeReport;
use crate::proto::tunnel::TunnelFailure;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::runtime::Chain;
use crate::runtime::FailurePoint;
use crate::runtime::InFlight;
use crate::runtime::in_flight::Busy;
use crate::watchdog::address::KernelView;
use crate::watchdog::book::Book;
use crate::watchdog::condition::Condition;
use crate::watchdog::condition::Shown;
use crate::watchdog::driver::Life;
use crate::watchdog::driver::Wanted;
use crate::watchdog::health::Action;
use crate::watchdog::health::Event;
use crate::watchdog::notices::Notices;
use crate::watchdog::process::Bindings;
use crate::watchdog::process::Listener;
use crate::watchdog::record::Record;
use crate::watchdog::record::RecordStore;
use crate::watchdog::record::User;
use crate::watchdog::relay::Relay;
use crate::watchdog::relay::RelayError;
use crate::watchdog::sockets::Sockets;

/// The whole of an Acquire, as the node plugin may rely on.
pub const ACQUIRE_DEADLINE: Duration = Duration::from_secs(30);
/// The part in which it may succeed.
const WORK_DEADLINE: Duration = Duration::from_secs(25);
/// The part in which a failure is undone: once for the guard, once for the close.
const UNDO_DEADLINE: Duration = Duration::from_secs(2);
const _: () = assert!(
    WORK_DEADLINE.as_secs() + 2 * UNDO_DEADLINE.as_secs() < ACQUIRE_DEADLINE.as_secs(),
    "the caller would hang up while we still undo"
);
/// How many addresses are tried where another process holds them.
const ADDRESSES_TRIED: u32 = 16;
/// Before the tunnel process is asked again, after it could not be.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What the tunnels of a node are kept by.
#[derive(Clone, Debug)]
pub struct TunnelSettings {
    /// The local port of every tunnel that is opened from now on.
    pub port: LocalPort,
    /// For how long the kernel must not have used a tunnel before it is closed.
    pub unmount_grace: Duration,
}

/// The local port of a tunnel that is opened now. Those that are open keep theirs.
#[derive(Clone)]
pub struct LocalPort(Arc<dyn Fn() -> u16 + Send + Sync>);

impl LocalPort {
    /// The same for as long as the watchdog runs.
    #[must_use]
    pub fn fixed(port: u16) -> Self {
        Self(Arc::new(move || port))
    }

    /// Asked for each time.
    #[must_use]
    pub fn followed(ask: impl Fn() -> u16 + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Now.
    #[must_use]
    pub fn number(&self) -> u16 {
        (self.0)()
    }
}

impl fmt::Debug for LocalPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalPort({})", self.number())
    }
}

/// The tunnels of this node.
#[derive(Debug)]
pub struct Tunnels {
    pub(super) settings: TunnelSettings,
    pub(super) kernel: KernelView,
    pub(super) life: watch::Receiver<Life>,
    pub(super) guards: Guards,
    pub(super) sockets: Sockets,
    pub(super) repairs: Repairs,
    pub(super) notices: Notices,
    /// Ends this watchdog for another one; where it is not set, it does not agree to that.
    succession: OnceLock<CancellationToken>,
    book: Mutex<Book>,
    store: RecordStore,
    in_flight: InFlight,
}

/// A tunnel that leads where it should.
#[derive(Clone, Debug, PartialEq)]
pub struct Acquired {
    /// Where the kernel connects to.
    pub endpoint: SocketAddrV4,
    /// How the mount target answered.
    pub report: ProbeReport,
    /// The user held it before.
    pub already: bool,
}

/// A tunnel as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As recorded.
    pub record: Record,
    /// Nobody holds it any more.
    pub closing: bool,
    /// Whether its server answers.
    pub health: Shown,
}

/// How often broken tunnels were repaired.
#[derive(Debug, Default)]
pub struct Repairs {
    refreshes: AtomicU64,
    replacements: AtomicU64,
}

impl Repairs {
    pub(super) fn count_refresh(&self) {
        self.refreshes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_replacement(&self) {
        self.replacements.fetch_add(1, Ordering::Relaxed);
    }

    /// Each repair by its word, on the wire and in metrics, and how often.
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [("refresh", of(&self.refreshes)), ("replace", of(&self.replacements))]
    }
}

/// Why a tunnel could not be acquired. Nothing new is left behind.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// The same user has not got an answer yet.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The same user holds another tunnel, or the same one for another mount.
    #[error(
        "volume {:?} is staged at {:?} from {:?} with options {:?} through the tunnel to {held}, and is now wanted \
         from {:?} with options {:?} through the tunnel to {wanted}; unstage it first",
        .held_by.volume_id, .held_by.staging_path, .held_by.source, .held_by.options,
        .wanted_by.source, .wanted_by.options
    )]
    UserDiffers {
        /// Where the tunnel leads that is held.
        held: Box<TunnelSpec>,
        /// What it is held for.
        held_by: Box<User>,
        /// Where the tunnel should lead.
        wanted: Box<TunnelSpec>,
        /// What it is wanted for.
        wanted_by: Box<User>,
    },
    /// The kernel's lists cannot be read, so no address is known to be free.
    #[error("failed to read which addresses the kernel's NFS mounts use")]
    KernelUnreadable(#[source] io::Error),
    /// Every address is in use.
    #[error("all loopback addresses from 127.0.1.1 to 127.0.255.254 are in use on this node")]
    OutOfAddresses,
    /// The record cannot be written.
    #[error("failed to write the tunnel record {file:?}")]
    Unwritable {
        /// The record.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tunnel process says why.
    #[error("{}", .0.message)]
    Refused(TunnelFailure),
    /// There is no tunnel process that could be asked.
    #[error(
        "no tunnel process could be asked for the tunnel to {spec} in time{}; see the watchdog's log",
        .last.as_ref().map(|last| format!(" ({last})")).unwrap_or_default()
    )]
    Unavailable {
        /// Where the tunnel should lead.
        spec: Box<TunnelSpec>,
        /// What went wrong last.
        last: Option<RelayError>,
    },
    /// It was asked and did not answer.
    #[error(
        "the tunnel process gave no answer about the tunnel to {0} in time; it is safe to try again"
    )]
    NoAnswer(Box<TunnelSpec>),
}

impl Tunnels {
    /// The tunnels that the records name. Nothing is opened yet: the next tunnel process is told of them.
    ///
    /// # Errors
    /// When the directory of the records cannot be read.
    pub fn load(
        settings: TunnelSettings,
        store: RecordStore,
        kernel: KernelView,
        sockets: Sockets,
        life: watch::Receiver<Life>,
    ) -> io::Result<Self> {
        Ok(Self {
            settings,
            kernel,
            life,
            guards: Guards::default(),
            sockets,
            repairs: Repairs::default(),
            notices: Notices::default(),
            succession: OnceLock::new(),
            book: Mutex::new(Book::load(store.clone())?),
            store,
            in_flight: InFlight::default(),
        })
    }

    /// Opens the tunnel that `spec` asks for, where it is not open yet, notes that `user` holds it, and asks
    /// the mount target for one answer through it. May be repeated. Must not be dropped half-way: run it in a
    /// task of its own.
    ///
    /// # Errors
    /// Says what was tried and what to do. A user that was not there before is not there after.
    pub async fn acquire(&self, spec: TunnelSpec, user: User) -> Result<Acquired, AcquireError> {
        let _until_done = self.in_flight.begin(&user.to_string())?;
        let deadline = Instant::now() + WORK_DEADLINE;
        let already = self.held_already(&spec, &user)?;
        match self.establish(&spec, &user, deadline).await {
            Ok((endpoint, report)) => Ok(Acquired { endpoint, report, already }),
            Err(error) => {
                if !already {
                    self.undo(&spec, &user).await;
                }
                Err(error)
            }
        }
    }

    /// Takes a user out of the record. Their tunnel is closed later, once the kernel has let it go.
    ///
    /// # Errors
    /// While the user is being acquired, or when the record cannot be written.
    pub fn release(&self, volume_id: &str, staging_path: &str) -> Result<(), ReleaseError> {
        let name = User {
            volume_id: volume_id.to_owned(),
            staging_path: staging_path.to_owned(),
            source: String::new(),
            options: String::new(),
        };
        let _until_done = self.in_flight.begin(&name.to_string())?;
        self.book().remove_user(volume_id, staging_path).map_err(ReleaseError::Unwritable)?;
        FailurePoint::ReleaseRecorded.pass();
        Ok(())
    }

    /// Every tunnel that is recorded.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let book = self.book();
        let listed = book.entries().map(|entry| Listed {
            record: entry.record.clone(),
            closing: entry.record.users.is_empty(),
            health: entry.condition.shown(),
        });
        listed.collect()
    }

    /// Agrees to end for another watchdog: by cancelling `stop`, on which the tunnel process is left to it.
    pub fn may_be_succeeded(&self, stop: CancellationToken) {
        let _only_once = self.succession.set(stop);
    }

    /// Ends this watchdog for another one, where it may be. Answers whether it does.
    pub(super) fn make_way(&self) -> bool {
        let Some(stop) = self.succession.get() else { return false };
        tracing::info!("another watchdog takes over");
        stop.cancel();
        true
    }

    /// What an operator should know of this node.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// How often broken tunnels were repaired.
    #[must_use]
    pub fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// The tunnels with users that are to be looked at, the longest waiting first.
    pub(super) fn due_for_a_look(&self) -> Vec<(SocketAddrV4, TunnelSpec)> {
        self.book().due_for_a_look(Instant::now())
    }

    /// Takes note of what happened to a tunnel, and why; says what to do. A tunnel that is gone needs nothing.
    pub(super) fn note_health(&self, endpoint: SocketAddrV4, event: Event, why: &str) -> Action {
        self.on_condition(endpoint, Action::Rest, |condition, spec| {
            condition.note(spec, event, why)
        })
    }

    /// Takes note of an answer through a tunnel.
    pub(super) fn note_answer(&self, endpoint: SocketAddrV4, report: &ProbeReport) -> Action {
        let round_trip = Duration::from_micros(report.call_micros);
        self.on_condition(endpoint, Action::Rest, |condition, spec| {
            condition.answered(spec, round_trip)
        })
    }

    /// Takes note of the bytes that a tunnel has carried by now, and says whether some came since the last look.
    pub(super) fn note_carried(&self, endpoint: SocketAddrV4, total: Option<u64>) -> bool {
        self.on_condition(endpoint, true, |condition, spec| {
            let carried = total.is_some_and(|total| condition.has_carried(total));
            if carried {
                condition.note(spec, Event::Carried, "");
            }
            carried
        })
    }

    fn on_condition<T>(
        &self,
        endpoint: SocketAddrV4,
        without: T,
        change: impl FnOnce(&mut Condition, &TunnelSpec) -> T,
    ) -> T {
        let mut book = self.book();
        let entry = book.at(*endpoint.ip());
        entry.map_or(without, |entry| change(&mut entry.condition, &entry.record.spec))
    }

    /// How the tunnel process is.
    #[must_use]
    pub fn process(&self) -> Life {
        self.life.borrow().clone()
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_already(&self, spec: &TunnelSpec, user: &User) -> Result<bool, AcquireError> {
        let book = self.book();
        match book.holder(&user.volume_id, &user.staging_path) {
            None => Ok(false),
            Some((record, held_by)) if record.spec == *spec && held_by == user => Ok(true),
            Some((record, held_by)) => Err(AcquireError::UserDiffers {
                held: Box::new(record.spec.clone()),
                held_by: Box::new(held_by.clone()),
                wanted: Box::new(spec.clone()),
                wanted_by: Box::new(user.clone()),
            }),
        }
    }

    async fn establish(
        &self,
        spec: &TunnelSpec,
        user: &User,
        deadline: Instant,
    ) -> Result<(SocketAddrV4, ProbeReport), AcquireError> {
        let guard = self.guards.lock(spec, deadline).await;
        let guard = guard.ok_or_else(|| AcquireError::NoAnswer(Box::new(spec.clone())))?;
        let endpoint = self.ensure_open(spec, user, deadline).await?;
        FailurePoint::AcquireOpened.pass();
        drop(guard);
        let probe = |relay: Arc<dyn Relay>| async move { relay.probe(spec).await };
        let report = self.ask(spec, deadline, probe).await?;
        self.note_answer(endpoint, &report);
        FailurePoint::AcquireProbed.pass();
        if let Some(entry) = self.book().at(*endpoint.ip()) {
            entry.handed_out = true;
        }
        Ok((endpoint, report))
    }

    /// Notes the user and has the tunnel opened; where its address is taken, at another one.
    async fn ensure_open(
        &self,
        spec: &TunnelSpec,
        user: &User,
        deadline: Instant,
    ) -> Result<SocketAddrV4, AcquireError> {
        let mut tried = 0;
        loop {
            let endpoint = self.note(spec, user)?;
            FailurePoint::AcquireRecorded.pass();
            // Not before there is a process: a socket of an earlier watchdog is taken over first.
            let open = |relay: Arc<dyn Relay>| async move {
                relay.open(spec, endpoint, self.sockets.ensure(endpoint)).await
            };
            let error = match self.ask(spec, deadline, open).await {
                Ok(()) => return Ok(endpoint),
                Err(error) => error,
            };
            tried += 1;
            if !is_address_taken(&error)
                || tried >= ADDRESSES_TRIED
                || !self.may_move(endpoint, user)?
            {
                return Err(error);
            }
            tracing::warn!(tunnel.address = %endpoint.ip(), "address taken by another process; trying the next");
            let mut book = self.book();
            book.set_aside(*endpoint.ip(), Instant::now());
            book.delete(*endpoint.ip())
                .map_err(|source| self.unwritable(*endpoint.ip(), source))?;
            self.sockets.release(endpoint);
        }
    }

    /// Writes down that `user` holds the tunnel to `spec`, at its address or at a new one.
    fn note(&self, spec: &TunnelSpec, user: &User) -> Result<SocketAddrV4, AcquireError> {
        let port = self.settings.port.number();
        let mut book = self.book();
        if let Some(endpoint) = book.leading_to(spec).map(|entry| entry.record.endpoint) {
            book.add_user(endpoint, user)
                .map_err(|source| self.unwritable(*endpoint.ip(), source))?;
            return Ok(endpoint);
        }
        let taken = self.kernel.addresses_taken().map_err(AcquireError::KernelUnreadable)?;
        let address =
            book.free_address(&taken, Instant::now()).ok_or(AcquireError::OutOfAddresses)?;
        let endpoint = SocketAddrV4::new(address, port);
        let record = Record { endpoint, spec: spec.clone(), users: vec![user.clone()] };
        book.create(record).map_err(|source| self.unwritable(address, source))?;
        Ok(endpoint)
    }

    /// A tunnel may get another address while nobody relies on the one it has.
    fn may_move(&self, endpoint: SocketAddrV4, user: &User) -> Result<bool, AcquireError> {
        let kernel = self.kernel.addresses_in_use().map_err(AcquireError::KernelUnreadable)?;
        let alone = self.book().at(*endpoint.ip()).is_some_and(|entry| entry.is_only_for(user));
        Ok(alone && !kernel.contains(endpoint.ip()))
    }

    /// Takes a new user out again, and the tunnel with them if it was opened for nobody else.
    async fn undo(&self, spec: &TunnelSpec, user: &User) {
        let guard = self.guards.lock(spec, Instant::now() + UNDO_DEADLINE).await;
        if let Err(error) = self.book().remove_user(&user.volume_id, &user.staging_path) {
            tracing::error!(volume.id = user.volume_id, %error, "failed to take a user out of its record");
            return;
        }
        FailurePoint::AcquireUndone.pass();
        let unused = self
            .book()
            .leading_to(spec)
            .filter(|entry| entry.record.users.is_empty() && !entry.handed_out)
            .map(|entry| entry.record.endpoint);
        let relay = self.process().relay;
        // Without guard or process the tunnel goes the way of every tunnel without users.
        if let (Some(_guard), Some(endpoint), Some(relay)) = (&guard, unused, relay) {
            self.close(relay.as_ref(), endpoint, UNDO_DEADLINE).await;
        }
    }

    /// Closes a tunnel and forgets it. The caller holds its guard. A failure is logged; the reaper tries again.
    pub(super) async fn close(
        &self,
        relay: &dyn Relay,
        endpoint: SocketAddrV4,
        deadline: Duration,
    ) {
        match timeout(deadline, relay.close(endpoint)).await {
            Ok(Ok(())) => match self.forget_closed(endpoint) {
                Ok(()) => {
                    FailurePoint::CloseForgotten.pass();
                    self.sockets.release(endpoint);
                    tracing::info!(tunnel.address = %endpoint.ip(), "tunnel closed");
                }
                Err(error) => {
                    tracing::error!(tunnel.address = %endpoint.ip(), %error, "failed to remove a record");
                }
            },
            Ok(Err(error)) => {
                tracing::warn!(tunnel.address = %endpoint.ip(), error = %Chain(&error), "failed to close a tunnel");
            }
            Err(_) => {
                tracing::warn!(tunnel.address = %endpoint.ip(), "closing a tunnel took too long")
            }
        }
    }

    fn forget_closed(&self, endpoint: SocketAddrV4) -> io::Result<()> {
        FailurePoint::CloseClosed.pass();
        self.book().delete(*endpoint.ip())
    }

    /// Asks the tunnel process; one that is just being started again is waited for.
    async fn ask<T, Answer>(
        &self,
        spec: &TunnelSpec,
        deadline: Instant,
        question: impl Fn(Arc<dyn Relay>) -> Answer,
    ) -> Result<T, AcquireError>
    where
        Answer: Future<Output = Result<T, RelayError>>,
    {
        let mut last = None;
        loop {
            let Some(relay) = self.relay(deadline).await else {
                return Err(AcquireError::Unavailable { spec: Box::new(spec.clone()), last });
            };
            match timeout_at(deadline, question(relay)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(RelayError::Refused(failure))) => {
                    return Err(AcquireError::Refused(failure));
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => return Err(AcquireError::NoAnswer(Box::new(spec.clone()))),
            }
            if Instant::now() + RETRY_AFTER >= deadline {
                return Err(AcquireError::Unavailable { spec: Box::new(spec.clone()), last });
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// The running process; one that starts is waited for.
    async fn relay(&self, deadline: Instant) -> Option<Arc<dyn Relay>> {
        let mut life = self.life.clone();
        let running = timeout_at(deadline, life.wait_for(|life| life.relay.is_some())).await;
        running.ok()?.ok()?.relay.clone()
    }

    fn unwritable(&self, address: Ipv4Addr, source: io::Error) -> AcquireError {
        AcquireError::Unwritable { file: self.store.file(address), source }
    }
}

impl Wanted for Tunnels {
    fn bindings(&self) -> Bindings {
        let listeners: Vec<_> =
            self.book().entries().map(|entry| Listener::from(&entry.record)).collect();
        let endpoints = listeners
            .iter()
            .map(|listener| SocketAddrV4::new(listener.address, listener.local_port));
        let sockets = endpoints.filter_map(|endpoint| self.sockets.ensure(endpoint)).collect();
        Bindings { listeners, sockets }
    }

    fn adopt(&self, sockets: Vec<OwnedFd>) {
        let strays = self.strays();
        {
            let book = self.book();
            let recorded = |endpoint| book.entries().any(|entry| entry.record.endpoint == endpoint);
            let wanted = |endpoint| recorded(endpoint) || strays.contains_key(&endpoint);
            let held = self.sockets.adopt(sockets, wanted);
            tracing::debug!(sockets = held, "sockets of an earlier watchdog");
        }
        self.name_vendors();
        for (endpoint, stray) in strays {
            self.take_in(endpoint, &stray);
        }
    }
}

fn is_address_taken(error: &AcquireError) -> bool {
    matches!(error, AcquireError::Refused(failure) if failure.kind() == Kind::AddressTaken)
}

/// Why a user could not be released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The same user is being acquired or released.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The record cannot be written.
    #[error("failed to write the tunnel record")]
    Unwritable(#[source] io::Error),
}

/// One guard for each tunnel: who holds it opens or closes that tunnel, alone.
#[derive(Debug, Default)]
pub(super) struct Guards(Mutex<HashMap<TunnelSpec, Arc<tokio::sync::Mutex<()>>>>);

impl Guards {
    /// The guard, if it becomes free in time.
    async fn lock(&self, spec: &TunnelSpec, deadline: Instant) -> Option<OwnedMutexGuard<()>> {
        timeout_at(deadline, self.of(spec).lock_owned()).await.ok()
    }

    /// The guard, if it is free.
    pub(super) fn try_lock(&self, spec: &TunnelSpec) -> Option<OwnedMutexGuard<()>> {
        self.of(spec).try_lock_owned().ok()
    }

    fn of(&self, spec: &TunnelSpec) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody holds or waits for a guard that only the map knows.
        all.retain(|known, guard| known == spec || Arc::strong_count(guard) > 1);
        Arc::clone(all.entry(spec.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::fake::Node;
    use crate::watchdog::fake::spec;
    use crate::watchdog::fake::user;

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn recorded(address: &str, users: usize) -> Vec<(String, usize)> {
        vec![(address.to_owned(), users)]
    }

    #[tokio::test]
    async fn volumes_on_one_mount_target_share_a_tunnel_and_others_do_not() {
        let node = Node::new();
        let first = node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        let second = node.tunnels.acquire(spec("a"), user(2)).await.unwrap();
        let third = node.tunnels.acquire(spec("b"), user(3)).await.unwrap();
        assert_eq!(first.endpoint, second.endpoint);
        assert_ne!(first.endpoint, third.endpoint);
        assert_eq!(node.recorded(), [("127.0.1.1".to_owned(), 2), ("127.0.1.2".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn acquiring_again_says_so_and_changes_nothing() {
        let node = Node::new();
        let first = node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        let again = node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        assert!(!first.already && again.already);
        assert_eq!(first.endpoint, again.endpoint);
        assert_eq!(node.recorded(), recorded("127.0.1.1", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_between_record_and_open_is_mended_by_the_next_watchdog() {
        let node = Node::new();
        node.relay.script().hung = true;
        let tunnels = Arc::clone(&node.tunnels);
        let acquiring = tokio::spawn(async move { tunnels.acquire(spec("a"), user(1)).await });
        while node.recorded().is_empty() {
            tokio::task::yield_now().await;
        }
        acquiring.abort();
        let node = node.crash();
        let adopted = node.tunnels.bindings().listeners;
        assert_eq!(adopted[0].address, address("127.0.1.1"));
        let again = node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        assert!(again.already);
        assert_eq!(*again.endpoint.ip(), adopted[0].address);
    }

    #[tokio::test]
    async fn releasing_who_is_unknown_is_success() {
        let node = Node::new();
        node.tunnels.release("nobody", "/nowhere").unwrap();
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        node.tunnels.release("pv-1", "/elsewhere").unwrap();
        assert_eq!(node.recorded(), recorded("127.0.1.1", 1));
        node.tunnels.release("pv-1", "/stage/1").unwrap();
        assert_eq!(node.recorded(), recorded("127.0.1.1", 0));
        assert!(node.tunnels.list()[0].closing);
    }

    #[tokio::test]
    async fn an_address_that_the_kernel_names_is_not_given_out() {
        let node = Node::new();
        node.clients.hold(&[address("127.0.1.1"), address("127.0.1.2")]);
        let acquired = node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        assert_eq!(*acquired.endpoint.ip(), address("127.0.1.3"));
        node.clients.fail();
        let error = node.tunnels.acquire(spec("b"), user(2)).await.unwrap_err();
        assert!(matches!(error, AcquireError::KernelUnreadable(_)), "{error}");
    }

    #[tokio::test]
    async fn an_address_whose_record_is_damaged_is_not_given_out() {
        let node = Node::new();
        let damaged = node.dir.path().join("tunnels/127.0.1.1.json");
        std::fs::write(&damaged, "{\"version\": 1").unwrap();
        let node = node.crash();
        let acquired = node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        assert_eq!(*acquired.endpoint.ip(), address("127.0.1.2"));
        assert!(damaged.exists());
    }

    #[tokio::test]
    async fn an_address_that_another_process_holds_is_passed_over() {
        let node = Node::new();
        node.relay.script().taken.extend([address("127.0.1.1"), address("127.0.1.2")]);
        let acquired = node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        assert_eq!(*acquired.endpoint.ip(), address("127.0.1.3"));
        assert_eq!(node.recorded(), recorded("127.0.1.3", 1));
    }

    #[tokio::test]
    async fn an_address_that_a_mount_relies_on_is_not_exchanged_for_another() {
        let node = Node::new();
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        node.clients.hold(&[address("127.0.1.1")]);
        node.relay.script().open.clear();
        node.relay.script().taken.insert(address("127.0.1.1"));
        let error = node.tunnels.acquire(spec("a"), user(1)).await.unwrap_err();
        assert!(is_address_taken(&error), "{error}");
        assert_eq!(node.recorded(), recorded("127.0.1.1", 1));
    }

    #[tokio::test]
    async fn only_so_many_addresses_are_tried() {
        let node = Node::new();
        node.relay.script().taken.extend((1..=254).map(|last| Ipv4Addr::new(127, 0, 1, last)));
        let error = node.tunnels.acquire(spec("a"), user(1)).await.unwrap_err();
        assert!(is_address_taken(&error), "{error}");
        let opens =
            node.relay.script().calls.iter().filter(|call| call.starts_with("open")).count();
        assert_eq!(opens, 16);
        assert!(node.recorded().is_empty());
    }

    #[tokio::test]
    async fn a_mount_target_that_fails_leaves_no_new_user_and_no_new_tunnel() {
        let node = Node::new();
        node.relay.script().refusing.insert("a".to_owned());
        let error = node.tunnels.acquire(spec("a"), user(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "no TLS there");
        assert!(node.recorded().is_empty());
        assert!(node.relay.script().open.is_empty());
    }

    #[tokio::test]
    async fn a_user_that_was_there_stays_when_the_mount_target_fails_and_a_new_one_does_not() {
        let node = Node::new();
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        node.relay.script().refusing.insert("a".to_owned());
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap_err();
        node.tunnels.acquire(spec("a"), user(2)).await.unwrap_err();
        assert_eq!(node.recorded(), recorded("127.0.1.1", 1));
        assert_eq!(node.relay.script().open.len(), 1);
    }

    #[tokio::test]
    async fn a_user_that_wants_something_else_is_told_both() {
        let node = Node::new();
        node.tunnels.acquire(spec("a"), user(1)).await.unwrap();
        let other_mount = User { options: "vers=4.0".to_owned(), ..user(1) };
        for (spec, user, words) in [
            (spec("b"), user(1), ["tunnel to a,", "tunnel to b;"]),
            (spec("a"), other_mount, ["vers=3", "vers=4.0"]),
        ] {
            let error = node.tunnels.acquire(spec, user).await.unwrap_err();
            assert!(matches!(error, AcquireError::UserDiffers { .. }), "{error}");
            assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
        }
        assert_eq!(node.recorded(), recorded("127.0.1.1", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_mount_target_delays_nobody_else_and_ends_in_time() {
        let node = Node::new();
        node.relay.script().dead.insert("dead".to_owned());
        let begin = Instant::now();
        let tunnels = Arc::clone(&node.tunnels);
        let dead = tokio::spawn(async move { tunnels.acquire(spec("dead"), user(1)).await });
        while node.recorded().is_empty() {
            tokio::task::yield_now().await;
        }
        node.tunnels.acquire(spec("alive"), user(2)).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1));
        let busy = node.tunnels.acquire(spec("dead"), user(1)).await.unwrap_err();
        assert!(matches!(busy, AcquireError::Busy(_)), "{busy}");
        let error = dead.await.unwrap().unwrap_err();
        assert!(matches!(error, AcquireError::NoAnswer(_)), "{error}");
        assert!(begin.elapsed() <= ACQUIRE_DEADLINE);
        assert_eq!(node.recorded(), recorded("127.0.1.2", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_process_that_is_just_starting_is_waited_for_and_a_missing_one_not_for_ever() {
        let node = Node::new();
        let relay = node.life.send_replace(Life::default()).relay;
        let error = node.tunnels.acquire(spec("a"), user(1)).await.unwrap_err();
        assert!(matches!(error, AcquireError::Unavailable { .. }), "{error}");
        let tunnels = Arc::clone(&node.tunnels);
        let waiting = tokio::spawn(async move { tunnels.acquire(spec("b"), user(2)).await });
        sleep(Duration::from_secs(3)).await;
        node.life.send_modify(|life| life.relay = relay);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_written_opens_no_tunnel() {
        let node = Node::new();
        std::fs::remove_dir(node.dir.path().join("tunnels")).unwrap();
        let error = node.tunnels.acquire(spec("a"), user(1)).await.unwrap_err();
        assert!(error.to_string().contains("tunnels/127.0.1.1.json"), "{error}");
        assert!(node.relay.script().calls.is_empty());
    }
}
