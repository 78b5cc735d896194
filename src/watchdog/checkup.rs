//! Looks after the health of the tunnels: does what [`health`](super::health) decides.
//!
//! Every two seconds the tunnel process is asked once what it has carried, and those tunnels that were idle are asked
//! about one by one, within the node's budget, the longest waiting first. Nothing here touches a mount.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::model::TunnelSpec;
use crate::runtime::Chain;
use crate::tls::Trust;
use crate::tunnel::Dialer;
use crate::watchdog::health::Action;
use crate::watchdog::health::Budget;
use crate::watchdog::health::Event;
use crate::watchdog::relay::Relay;
use crate::watchdog::relay::RelayError;
use crate::watchdog::tunnels::Tunnels;

/// Between two looks at all tunnels.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// For a call to the tunnel process that it answers from memory.
const LOCAL_DEADLINE: Duration = Duration::from_secs(3);
/// For an NFS NULL call by the tunnel process, handshake included.
const PROBE_DEADLINE: Duration = Duration::from_secs(8);
/// The same by the watchdog. Shorter: who answers so late is no proof against the tunnel process.
const DIRECT_DEADLINE: Duration = Duration::from_secs(5);
const _: () = assert!(
    DIRECT_DEADLINE.as_secs() < PROBE_DEADLINE.as_secs(),
    "a slow server would be held against the tunnel"
);
/// Calls under way at once, most of them to servers that are down.
const MOST_AT_ONCE: usize = 32;
/// Between two replacements of the process, whichever tunnels they are for.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(60);

/// The servers, without the tunnel process.
#[async_trait]
pub trait Servers: Send + Sync + fmt::Debug {
    /// Makes one NFS NULL call through TLS, within a short time.
    async fn ask(&self, target: &TunnelSpec) -> Result<(), String>;
}

/// Dials itself, knowing nothing of earlier dials, so that nothing is wrong with what it remembers.
#[derive(Clone, Debug)]
pub struct DirectServers {
    /// What the tunnel process trusts besides.
    pub ca_file: Option<PathBuf>,
}

#[async_trait]
impl Servers for DirectServers {
    async fn ask(&self, target: &TunnelSpec) -> Result<(), String> {
        let ca_file = self.ca_file.clone();
        let trust = tokio::task::spawn_blocking(move || Trust::new(ca_file.as_deref()));
        let trust = trust.await.map_err(|error| error.to_string())?;
        let dialer = Dialer::new(Arc::new(trust.map_err(|error| Chain(&error).to_string())?));
        match timeout(DIRECT_DEADLINE, Box::pin(dialer.probe(target))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_) => Err(format!("no answer within {} s", DIRECT_DEADLINE.as_secs())),
        }
    }
}

/// Looks after the tunnels of a node.
#[derive(Debug)]
pub struct Checkup {
    tunnels: Arc<Tunnels>,
    servers: Arc<dyn Servers>,
    /// Has the tunnel process replaced.
    replace: Arc<Notify>,
    budget: Budget,
    under_way: JoinSet<Option<Action>>,
    replaced: Option<Instant>,
}

impl Checkup {
    /// For those tunnels, asking those servers. `replace` is notified where another process is to take over.
    #[must_use]
    pub fn new(tunnels: Arc<Tunnels>, servers: Arc<dyn Servers>, replace: Arc<Notify>) -> Self {
        let budget = Budget::new(Instant::now());
        Self { tunnels, servers, replace, budget, under_way: JoinSet::new(), replaced: None }
    }

    /// Until `stop`. Calls that are under way then are dropped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let forever = async {
            loop {
                tokio::select! {
                    _ = ticks.tick() => self.look().await,
                    Some(ended) = self.under_way.join_next() => self.ended(ended.ok().flatten()),
                }
            }
        };
        stop.run_until_cancelled(forever).await;
    }

    async fn look(&mut self) {
        let due = self.tunnels.due_for_a_look();
        let Some(relay) = self.tunnels.process().relay else { return };
        if due.is_empty() {
            return;
        }
        let Some(carried) = carried(relay.as_ref()).await else { return };
        for (endpoint, target) in due {
            if self.tunnels.note_carried(endpoint, carried.get(&endpoint).copied()) {
                continue;
            }
            if self.under_way.len() >= MOST_AT_ONCE || !self.budget.take(Instant::now()) {
                // The rest is still due at the next look, and comes first then.
                continue;
            }
            if self.tunnels.note_health(endpoint, Event::Due, "") == Action::Ask {
                let (tunnels, servers) = (Arc::clone(&self.tunnels), Arc::clone(&self.servers));
                let relay = Arc::clone(&relay);
                let look = Look { tunnels, servers, relay, endpoint, target };
                self.under_way.spawn(look.take());
            }
        }
    }

    fn ended(&mut self, repair: Option<Action>) {
        let recently = |at: Instant| at.elapsed() < BETWEEN_REPLACEMENTS;
        if repair == Some(Action::Replace) && !self.replaced.is_some_and(recently) {
            self.replaced = Some(Instant::now());
            self.tunnels.repairs.count_replacement();
            tracing::warn!(
                "replacing the tunnel process: it does not reach a server that answers the watchdog"
            );
            self.replace.notify_one();
        }
    }
}

/// What each tunnel has handed to the kernel. None where the process does not say.
async fn carried(relay: &dyn Relay) -> Option<HashMap<SocketAddrV4, u64>> {
    let report = timeout(LOCAL_DEADLINE, relay.report()).await.ok()?.ok()?;
    let of = |listener: crate::proto::tunnel::ListenerStatus| {
        let endpoint = listener.endpoint?;
        let port = u16::try_from(endpoint.port).ok()?;
        let endpoint = SocketAddrV4::new(endpoint.address.parse().ok()?, port);
        Some((endpoint, listener.bytes_to_kernel))
    };
    Some(report.listeners.into_iter().filter_map(of).collect())
}

/// One look at one tunnel.
struct Look {
    tunnels: Arc<Tunnels>,
    servers: Arc<dyn Servers>,
    relay: Arc<dyn Relay>,
    endpoint: SocketAddrV4,
    target: TunnelSpec,
}

impl Look {
    /// Answers with a repair that is more than this tunnel's own.
    async fn take(self) -> Option<Action> {
        let mut action = self.ask_process().await;
        if action == Action::AskServer {
            action = match self.servers.ask(&self.target).await {
                Ok(()) => self.note(Event::ServerAnswered, ""),
                Err(why) => self.note(Event::ServerSilent, &why),
            };
        }
        if action == Action::Refresh {
            self.refresh().await;
        }
        Some(action)
    }

    async fn ask_process(&self) -> Action {
        match timeout(PROBE_DEADLINE, self.relay.probe(&self.target)).await {
            Ok(Ok(report)) => self.tunnels.note_answer(self.endpoint, &report),
            Ok(Err(RelayError::Refused(failure))) => self.note(Event::Failed, &failure.message),
            Ok(Err(error)) => self.note(Event::Unasked, &Chain(&error).to_string()),
            Err(_) => {
                let why = format!("no answer within {} s", PROBE_DEADLINE.as_secs());
                self.note(Event::Failed, &why)
            }
        }
    }

    async fn refresh(&self) {
        tracing::warn!(tunnel.target = %self.target, "the tunnel process is to find its server anew");
        self.tunnels.repairs.count_refresh();
        match timeout(LOCAL_DEADLINE, self.relay.refresh(&self.target)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "the tunnel process cannot be refreshed");
            }
            Err(_) => tracing::warn!("the tunnel process cannot be refreshed: no answer in time"),
        }
    }

    fn note(&self, event: Event, why: &str) -> Action {
        self.tunnels.note_health(self.endpoint, event, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::condition::Shown;
    use crate::watchdog::fake::FakeServers;
    use crate::watchdog::fake::Node;
    use crate::watchdog::fake::spec;
    use crate::watchdog::fake::user;
    use crate::watchdog::health::Verdict;
    use tokio::time::advance;

    struct Ward {
        node: Node,
        servers: Arc<FakeServers>,
        replace: Arc<Notify>,
        checkup: Checkup,
    }

    impl Ward {
        async fn with(hosts: &[&str]) -> Self {
            let node = Node::new();
            for (number, host) in (1..).zip(hosts) {
                node.tunnels.acquire(spec(host), user(number)).await.unwrap();
            }
            node.relay.script().calls.clear();
            let (servers, replace) = (Arc::<FakeServers>::default(), Arc::<Notify>::default());
            let asked = Arc::clone(&servers) as Arc<dyn Servers>;
            let tunnels = Arc::clone(&node.tunnels);
            let checkup = Checkup::new(tunnels, asked, Arc::clone(&replace));
            Self { node, servers, replace, checkup }
        }

        async fn pass(&mut self, time: Duration) {
            let end = Instant::now() + time;
            while Instant::now() < end {
                advance(LOOK_EVERY).await;
                self.checkup.look().await;
                while let Some(ended) = self.checkup.under_way.join_next().await {
                    self.checkup.ended(ended.unwrap());
                }
            }
        }

        fn shown(&self) -> Shown {
            self.node.tunnels.list()[0].health.clone()
        }

        fn calls(&self, call: &str) -> usize {
            self.node.relay.script().calls.iter().filter(|made| made.starts_with(call)).count()
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_idle_tunnel_is_asked_every_few_seconds_and_a_busy_one_is_not() {
        let mut ward = Ward::with(&["a"]).await;
        ward.pass(MINUTE).await;
        assert!((8..=12).contains(&ward.calls("probe")), "{}", ward.calls("probe"));
        assert_eq!(ward.shown().verdict, Verdict::Healthy);
        ward.node.relay.script().carries = true;
        // The first look after the calls had nothing to compare with.
        ward.pass(MINUTE / 4).await;
        ward.node.relay.script().calls.clear();
        ward.pass(10 * MINUTE).await;
        assert_eq!((ward.calls("probe"), ward.shown().verdict), (0, Verdict::Healthy));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_without_users_is_not_asked() {
        let mut ward = Ward::with(&["a"]).await;
        ward.node.tunnels.release("pv-1", "/stage/1").unwrap();
        ward.pass(MINUTE).await;
        assert_eq!((ward.calls("probe"), ward.shown().verdict), (0, Verdict::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_down_is_told_from_a_broken_tunnel_and_left_alone() {
        let mut ward = Ward::with(&["a"]).await;
        ward.node.relay.script().refusing.insert("a".to_owned());
        ward.servers.down();
        ward.pass(10 * MINUTE).await;
        assert_eq!(ward.shown().verdict, Verdict::ServerDown);
        assert_eq!(ward.shown().why, "nobody there");
        assert_eq!(ward.calls("refresh"), 0);
        assert_eq!(ward.node.tunnels.repairs.counts(), [("refresh", 0), ("replace", 0)]);
        ward.node.relay.script().refusing.clear();
        ward.pass(2 * MINUTE).await;
        assert_eq!(ward.shown().verdict, Verdict::Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_tunnel_is_refreshed_and_then_its_process_is_replaced_seldom() {
        let mut ward = Ward::with(&["a", "b"]).await;
        ward.node.relay.script().refusing.extend(["a".to_owned(), "b".to_owned()]);
        ward.pass(MINUTE / 2).await;
        assert_eq!(ward.shown().verdict, Verdict::Broken);
        assert_eq!(ward.calls("refresh"), 4, "two for each");
        tokio::time::timeout(MINUTE, ward.replace.notified()).await.unwrap();
        assert_eq!(ward.node.tunnels.repairs.counts()[1], ("replace", 1), "one for both");
        ward.pass(60 * MINUTE).await;
        assert!(ward.node.tunnels.repairs.counts()[1].1 < 15, "it backs off");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_answer_is_its_driver_s_business() {
        let mut ward = Ward::with(&["a"]).await;
        ward.node.relay.script().hung = true;
        ward.pass(MINUTE).await;
        assert_eq!(ward.servers.asked(), 0);
        ward.node.life.send_modify(|life| life.relay = None);
        ward.pass(MINUTE).await;
        assert_eq!(ward.servers.asked(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_idle_tunnels_share_the_budget_and_each_has_its_turn() {
        let hosts: Vec<String> = (0..200).map(|number| format!("h{number}")).collect();
        let mut ward = Ward::with(&hosts.iter().map(String::as_str).collect::<Vec<_>>()).await;
        ward.pass(MINUTE).await;
        assert!(ward.calls("probe") <= 4 * 60 + 8, "{}", ward.calls("probe"));
        let asked: std::collections::BTreeSet<_> =
            ward.node.relay.script().calls.iter().cloned().collect();
        assert_eq!(asked.len(), 200, "the longest waiting come first");
    }
}
