//! Does what [`supervise`](super::supervise) decides, and turns what happens to the process into its events.
//!
//! LONG: a third of it are tests; all processes, the one that serves, the next and the former, are kept by one hand.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::runtime::Chain;
use crate::runtime::FailurePoint;
use crate::watchdog::process::Bindings;
use crate::watchdog::process::Farewell;
use crate::watchdog::process::Inheritance;
use crate::watchdog::process::Launcher;
use crate::watchdog::process::TunnelProcess;
use crate::watchdog::process::Version;
use crate::watchdog::relay::Relay;
use crate::watchdog::supervise::Action;
use crate::watchdog::supervise::Event;
use crate::watchdog::supervise::HEARTBEAT_DEADLINE;
use crate::watchdog::supervise::HEARTBEAT_EVERY;
use crate::watchdog::supervise::RestartReason;
use crate::watchdog::supervise::Restarts;
use crate::watchdog::supervise::State;
use crate::watchdog::supervise::step;

/// From the start of the process until it serves.
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// How often that is doubled, after as many failures in a row. On a node that has too much to do, a process that is
/// killed and started again for ever, always in the same time, would never come to serve.
const DOUBLINGS: u32 = 3;
/// At the end: how long the process lets its connections finish what is under way.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// At the end: how long the process may take altogether.
pub const STOP_DEADLINE: Duration = Duration::from_secs(5);
const _: () =
    assert!(STOP_GRACE.as_secs() < STOP_DEADLINE.as_secs(), "it would be killed within its grace");

/// The tunnel process as everyone else sees it.
#[derive(Clone, Debug)]
pub struct Life {
    /// Where it is in its life.
    pub state: State,
    /// Its process id, 0 where there is none.
    pub process_id: u32,
    /// How often it was started again.
    pub restarts: Restarts,
    /// How to talk to it, while it runs.
    pub relay: Option<Arc<dyn Relay>>,
}

impl Default for Life {
    fn default() -> Self {
        Self { state: State::Absent, process_id: 0, restarts: Restarts::default(), relay: None }
    }
}

/// What is to be served, as the records say at that moment.
pub trait Wanted: Send + Sync {
    /// For the next process.
    fn bindings(&self) -> Bindings;
    /// Keeps the sockets of an earlier watchdog that are wanted.
    fn adopt(&self, sockets: Vec<OwnedFd>);
}

/// Keeps one tunnel process running.
pub struct Driver {
    launcher: Arc<dyn Launcher>,
    wanted: Arc<dyn Wanted>,
    life: watch::Sender<Life>,
    process: Option<Box<dyn TunnelProcess>>,
    /// Started beside the process, to take its place.
    next: Option<Box<dyn TunnelProcess>>,
    /// The end of an earlier watchdog's process, which serves until ours does.
    predecessor: Option<Farewell>,
    /// Processes that were replaced and let their connections finish.
    retiring: JoinSet<()>,
    upgrade: Arc<Notify>,
    replace: Arc<Notify>,
    last: Last,
}

/// What follows when the watchdog is stopped.
#[derive(Clone, Debug)]
enum Last {
    /// The process is ended.
    Stop,
    /// It goes on, for the next watchdog to take over from.
    Leave,
    /// It goes on where another watchdog is there to take over by then, and is ended otherwise.
    LeaveTo(CancellationToken),
}

impl Last {
    fn event(&self) -> Event {
        match self {
            Self::Stop => Event::Stop,
            Self::Leave => Event::Leave,
            Self::LeaveTo(successor) if successor.is_cancelled() => Event::Leave,
            Self::LeaveTo(_) => Event::Stop,
        }
    }
}

impl Driver {
    /// A driver that shows the life of its process in `life`.
    pub fn new(
        launcher: Arc<dyn Launcher>,
        wanted: Arc<dyn Wanted>,
        life: watch::Sender<Life>,
    ) -> Self {
        Self {
            launcher,
            wanted,
            life,
            process: None,
            next: None,
            predecessor: None,
            retiring: JoinSet::new(),
            upgrade: Arc::default(),
            replace: Arc::default(),
            last: Last::Stop,
        }
    }

    /// The same, but what serves when it is stopped goes on, for the next watchdog to take over from.
    #[must_use]
    pub fn leaving(self) -> Self {
        Self { last: Last::Leave, ..self }
    }

    /// The same, where `successor` is cancelled by then: another watchdog is there. Otherwise the process is ended.
    #[must_use]
    pub fn leaving_to(self, successor: CancellationToken) -> Self {
        Self { last: Last::LeaveTo(successor), ..self }
    }

    /// Notify it, and the process is replaced by one of the installed binary, which serves before the former one
    /// ends. Where the new one does not come to serve, the former one stays.
    #[must_use]
    pub fn upgrade(&self) -> Arc<Notify> {
        Arc::clone(&self.upgrade)
    }

    /// As [`Self::upgrade`], by one of the same version.
    #[must_use]
    pub fn replace(&self) -> Arc<Notify> {
        Arc::clone(&self.replace)
    }

    /// Keeps a process running until `stop`, then ends it.
    pub async fn run(mut self, stop: CancellationToken) {
        let Inheritance { sockets, farewell } = self.launcher.take_over().await;
        FailurePoint::HandOverReceived.pass();
        self.wanted.adopt(sockets);
        self.predecessor = farewell;
        let mut state = State::Absent;
        let mut event = Event::Wanted;
        let mut reason = None;
        loop {
            let (next, action) = step(state, event, Instant::now());
            reason = RestartReason::of(state, event).or(reason);
            let again = action == Action::Spawn && state != State::Absent;
            state = next;
            self.change_places(action);
            self.show(state);
            self.act(action).await;
            if let (true, Some(reason)) = (again, reason) {
                self.life.send_modify(|life| life.restarts.count(reason));
            }
            if state == State::Absent {
                return;
            }
            event = self.next_event(state, &stop).await;
        }
    }

    /// Tells everyone. Who is told of a relay may use it at once.
    fn show(&self, state: State) {
        let serves = matches!(state, State::Running { .. } | State::Replacing { .. });
        let running = self.process.as_ref().filter(|_| serves);
        let process_id = running.map_or(0, |process| process.id());
        let relay = running.and_then(|process| process.relay().ok());
        self.life.send_modify(|life| {
            // A heartbeat changes nothing that anyone waits for: the relay at hand stays.
            if life.process_id != process_id || relay.is_none() {
                life.relay = relay;
            }
            life.state = state;
            life.process_id = process_id;
        });
    }

    /// What must have happened before anyone is told.
    fn change_places(&mut self, action: Action) {
        if matches!(action, Action::Retire | Action::Promote) {
            FailurePoint::UpgradeServed.pass();
            let former = std::mem::replace(&mut self.process, self.next.take());
            if let Some(former) = former {
                tracing::info!(
                    process.id = former.id(),
                    "tunnel process replaced; it ends once it is silent"
                );
                self.retiring.spawn(former.retire());
            }
        }
        if action == Action::LetGo && self.life.borrow().relay.is_none() {
            // It does not serve yet.
            self.next = self.process.take();
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Carry => {}
            Action::Spawn => {
                self.process = self.spawn(Version::Ours);
                FailurePoint::ProcessStarted.pass();
            }
            Action::SpawnNext => {
                self.next = self.spawn(Version::Installed);
                FailurePoint::UpgradeStarted.pass();
            }
            Action::SpawnAnother => self.next = self.spawn(Version::Ours),
            Action::Retire | Action::Promote => {} // Done by now.
            Action::KillNext => kill(self.next.take()).await,
            Action::Kill => kill(self.process.take()).await,
            Action::ShutDown => self.shut_down().await,
            Action::LetGo => self.let_go().await,
        }
        if self.life.borrow().relay.is_some()
            && let Some(farewell) = self.predecessor.take()
        {
            self.retiring.spawn(farewell);
        }
    }

    fn spawn(&self, version: Version) -> Option<Box<dyn TunnelProcess>> {
        let bindings = self.wanted.bindings();
        let (listeners, sockets) = (bindings.listeners.len(), bindings.sockets.len());
        match self.launcher.launch(bindings, version) {
            Ok(process) => {
                let id = process.id();
                tracing::info!(process.id = id, listeners, sockets, "tunnel process started");
                Some(process)
            }
            Err(error) => {
                tracing::error!(%error, "failed to start the tunnel process");
                None
            }
        }
    }

    /// Ends every process.
    async fn shut_down(&mut self) {
        self.retiring.spawn(self.predecessor.take().unwrap_or_else(|| Box::pin(async {})));
        kill(self.next.take()).await;
        self.end_process().await;
        // They end by themselves if this takes too long.
        let retired = async { while self.retiring.join_next().await.is_some() {} };
        let _either_way = timeout(STOP_DEADLINE, retired).await;
        self.retiring.detach_all();
    }

    /// Keeps what serves alive: the process, or the one of an earlier watchdog where ours does not serve yet.
    async fn let_go(&mut self) {
        kill(self.next.take()).await;
        if let Some(process) = self.process.take() {
            let id = process.id();
            tracing::info!(process.id = id, "the tunnel process is left to the next watchdog");
        }
        self.predecessor = None;
        self.retiring.detach_all();
    }

    /// Asks a running process to end; one that does not serve yet has nothing to finish.
    async fn end_process(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let asked_and_gone = async {
            process.relay().ok()?.shut_down(STOP_GRACE).await.ok()?;
            Some(process.exited().await)
        };
        match timeout(STOP_DEADLINE, asked_and_gone).await {
            Ok(Some(how)) => tracing::info!(process.id = process.id(), how, "tunnel process ended"),
            Ok(None) | Err(_) => process.kill().await,
        }
    }

    async fn next_event(&mut self, state: State, stop: &CancellationToken) -> Event {
        let (upgrade, replace) = (Arc::clone(&self.upgrade), Arc::clone(&self.replace));
        let runs = matches!(state, State::Running { .. });
        let happened = async {
            match state {
                State::Absent => std::future::pending().await,
                State::Starting { failures } => self.started(patience(failures)).await,
                State::Running { .. } => self.heartbeat().await,
                State::Replacing { .. } => self.replaced().await,
                State::Waiting { until, .. } => {
                    sleep_until(until).await;
                    Event::Due
                }
                State::Stopping => Event::Gone,
            }
        };
        tokio::select! {
            // A process that has ended is seen before it is asked to end.
            biased;
            event = happened => event,
            () = stop.cancelled(), if state != State::Stopping => self.last.event(),
            () = upgrade.notified(), if runs => Event::Upgrade,
            () = replace.notified(), if runs => Event::Replace,
        }
    }

    async fn started(&mut self, patience: Duration) -> Event {
        match &mut self.process {
            Some(process) => ready(process.as_mut(), patience).await,
            None => Event::Exited,
        }
    }

    /// Waits for the next process, and for the end of the one that serves meanwhile.
    async fn replaced(&mut self) -> Event {
        let Some(next) = &mut self.next else { return Event::Late };
        let Some(process) = &mut self.process else { return Event::Exited };
        tokio::select! {
            biased;
            how = process.exited() => {
                tracing::error!(process.id = process.id(), how, "the tunnel process ended while it was replaced");
                self.process = None;
                Event::Exited
            }
            event = ready(next.as_mut(), READY_DEADLINE) => event,
        }
    }

    async fn heartbeat(&mut self) -> Event {
        let Some(process) = &mut self.process else { return Event::Exited };
        let relay = self.life.borrow().relay.clone();
        tokio::select! {
            biased;
            how = process.exited() => {
                tracing::error!(process.id = process.id(), how, "the tunnel process ended by itself");
                self.process = None;
                Event::Exited
            }
            event = beat(relay) => event,
        }
    }
}

/// How long a process may take to serve, when so many before it have failed.
fn patience(failures: u32) -> Duration {
    READY_DEADLINE * 2_u32.pow(failures.min(DOUBLINGS))
}

async fn ready(process: &mut dyn TunnelProcess, patience: Duration) -> Event {
    let process_id = process.id();
    match timeout(patience, process.ready()).await {
        Ok(Ok(())) => return Event::Ready,
        Ok(Err(error)) => {
            tracing::error!(process.id = process_id, %error, "the tunnel process failed to start");
        }
        Err(_) => {
            tracing::error!(process.id = process_id, "the tunnel process was not ready in time");
        }
    }
    // Whether it has ended or hangs: it is to be reaped.
    Event::Late
}

async fn kill(process: Option<Box<dyn TunnelProcess>>) {
    if let Some(mut process) = process {
        tracing::warn!(process.id = process.id(), "killing a tunnel process that does not answer");
        process.kill().await;
    }
}

async fn beat(relay: Option<Arc<dyn Relay>>) -> Event {
    sleep(HEARTBEAT_EVERY).await;
    let Some(relay) = relay else { return Event::Missed };
    match timeout(HEARTBEAT_DEADLINE, relay.status()).await {
        Ok(Ok(_)) => Event::Answered,
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "the tunnel process missed a heartbeat");
            Event::Missed
        }
        Err(_) => {
            tracing::warn!("the tunnel process missed a heartbeat: no answer in time");
            Event::Missed
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("launcher", &self.launcher).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::fake::FakeLauncher;
    use tokio::task::JoinHandle;

    struct Nothing;

    impl Wanted for Nothing {
        fn bindings(&self) -> Bindings {
            Bindings::default()
        }

        fn adopt(&self, _: Vec<OwnedFd>) {}
    }

    struct Driven {
        launcher: Arc<FakeLauncher>,
        life: watch::Receiver<Life>,
        stop: CancellationToken,
        upgrade: Arc<Notify>,
        driver: JoinHandle<()>,
    }

    fn drive(launcher: FakeLauncher) -> Driven {
        drive_as(launcher, |driver| driver)
    }

    fn drive_as(launcher: FakeLauncher, change: impl FnOnce(Driver) -> Driver) -> Driven {
        let launcher = Arc::new(launcher);
        let (shown, life) = watch::channel(Life::default());
        let stop = CancellationToken::new();
        let wanted = Arc::new(Nothing);
        let driver = Driver::new(Arc::clone(&launcher) as Arc<dyn Launcher>, wanted, shown);
        let driver = change(driver);
        let upgrade = driver.upgrade();
        let driver = tokio::spawn(driver.run(stop.clone()));
        Driven { launcher, life, stop, upgrade, driver }
    }

    #[tokio::test(start_paused = true)]
    async fn what_serves_is_left_to_the_next_watchdog_where_that_is_asked_for() {
        let mut driven = drive_as(FakeLauncher::default(), Driver::leaving);
        driven.until(|life| life.relay.is_some()).await;
        driven.stop.cancel();
        timeout(Duration::from_secs(60), driven.driver).await.unwrap().unwrap();
        assert_eq!(driven.launcher.log(), ["took over", "launched with 0"]);
        assert!(driven.launcher.relay.script().calls.is_empty(), "it was not asked to end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_serve_yet_is_not_left_but_the_one_before_it_is() {
        let launcher = FakeLauncher::default();
        *launcher.never_ready.lock().unwrap() = true;
        *launcher.predecessor.lock().unwrap() = true;
        let mut driven = drive_as(launcher, Driver::leaving);
        driven.until(|life| matches!(life.state, State::Starting { .. })).await;
        driven.stop.cancel();
        timeout(Duration::from_secs(60), driven.driver).await.unwrap().unwrap();
        assert_eq!(driven.launcher.log(), ["took over", "launched with 0", "killed"]);
    }

    impl Driven {
        async fn until(&mut self, condition: impl FnMut(&Life) -> bool) {
            let reached = timeout(Duration::from_secs(600), self.life.wait_for(condition)).await;
            reached.unwrap().unwrap();
        }

        fn restarts(&self) -> Vec<(&'static str, u64)> {
            let restarts = self.life.borrow().restarts.clone();
            restarts.by_reason().map(|(reason, count)| (reason.word(), count)).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_is_asked_to_end_before_it_is_killed() {
        let mut driven = drive(FakeLauncher::default());
        driven.until(|life| life.relay.is_some()).await;
        driven.stop.cancel();
        driven.driver.await.unwrap();
        assert_eq!(driven.launcher.log(), ["took over", "launched with 0"]);
        assert_eq!(driven.launcher.relay.script().calls, ["shut down"]);
        assert_eq!(driven.life.borrow().state, State::Absent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_hangs_at_the_end_is_killed() {
        let mut driven = drive(FakeLauncher::default());
        driven.until(|life| life.relay.is_some()).await;
        driven.launcher.relay.script().hung = true;
        driven.stop.cancel();
        timeout(2 * STOP_DEADLINE, driven.driver).await.unwrap().unwrap();
        assert_eq!(driven.launcher.log().last().unwrap(), "killed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_ends_is_started_again_at_once() {
        let mut driven = drive(FakeLauncher::default());
        driven.until(|life| life.relay.is_some()).await;
        let before = Instant::now();
        driven.launcher.crash.notify_one();
        driven.until(|life| life.restarts.total() == 1 && life.relay.is_some()).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(driven.restarts(), [("ended", 1), ("unanswering", 0), ("not-ready", 0)]);
        assert_eq!(driven.launcher.log()[1..], ["launched with 0", "launched with 0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_misses_three_heartbeats_is_killed_and_replaced() {
        let mut driven = drive(FakeLauncher::default());
        driven.until(|life| life.relay.is_some()).await;
        let before = Instant::now();
        driven.launcher.relay.script().hung = true;
        driven.until(|life| life.restarts.total() == 1).await;
        assert_eq!(before.elapsed(), 3 * (HEARTBEAT_EVERY + HEARTBEAT_DEADLINE));
        driven.launcher.relay.script().hung = false;
        driven.until(|life| life.relay.is_some()).await;
        assert_eq!(driven.launcher.log()[2..], ["killed", "launched with 0"]);
        assert_eq!(driven.restarts(), [("ended", 0), ("unanswering", 1), ("not-ready", 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_never_ready_is_killed_at_its_deadline() {
        let launcher = FakeLauncher::default();
        *launcher.never_ready.lock().unwrap() = true;
        let mut driven = drive(launcher);
        let before = Instant::now();
        driven.until(|life| life.restarts.total() == 1).await;
        assert_eq!(before.elapsed(), READY_DEADLINE);
        assert_eq!(driven.launcher.log()[2..], ["killed", "launched with 0"]);
        assert_eq!(driven.restarts(), [("ended", 0), ("unanswering", 0), ("not-ready", 1)]);
        driven.until(|life| life.restarts.total() == 3).await;
        let waits = Duration::from_secs(1);
        let expected = (1 + 2 + 4) * READY_DEADLINE;
        assert!(
            (expected..expected + waits).contains(&before.elapsed()),
            "each gets twice as long"
        );
        assert_eq!(patience(99), 8 * READY_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_is_replaced_by_one_that_serves_before_it_is_asked_to_end() {
        let mut driven = drive(FakeLauncher::default());
        driven.until(|life| life.relay.is_some()).await;
        let former = driven.life.borrow().process_id;
        driven.upgrade.notify_one();
        driven.until(|life| life.relay.is_some() && life.process_id != former).await;
        tokio::task::yield_now().await;
        assert_eq!(
            driven.launcher.log(),
            ["took over", "launched with 0", "launched the installed one", "retired"]
        );
        assert_eq!(driven.life.borrow().restarts.total(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_next_process_does_not_come_to_serve_the_former_one_stays() {
        let mut driven = drive(FakeLauncher::default());
        driven.until(|life| life.relay.is_some()).await;
        let former = driven.life.borrow().process_id;
        *driven.launcher.never_ready.lock().unwrap() = true;
        driven.upgrade.notify_one();
        driven.until(|life| matches!(life.state, State::Replacing { .. })).await;
        driven.until(|life| matches!(life.state, State::Running { .. })).await;
        assert_eq!(driven.life.borrow().process_id, former);
        tokio::task::yield_now().await;
        assert_eq!(driven.launcher.log().last().unwrap(), "killed");
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_watchdog_s_process_ends_only_once_ours_serves() {
        let launcher = FakeLauncher::default();
        *launcher.predecessor.lock().unwrap() = true;
        let mut driven = drive(launcher);
        driven.until(|life| life.relay.is_some()).await;
        tokio::task::yield_now().await;
        assert_eq!(driven.launcher.log(), ["took over", "launched with 0", "predecessor ended"]);
    }
}
