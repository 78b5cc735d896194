//! What the watchdog and its tunnel process know together, for whoever lists the tunnels or scrapes them.
//!
//! The records say what is wanted; the tunnel process says how it fares. Where it does not answer, the records
//! are shown without it, and why.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::timeout;

use crate::host::net_namespace::NetNamespace;
use crate::proto::tunnel as proto;
use crate::runtime::Chain;
use crate::tunnel::convert::histogram_to_wire;
use crate::tunnel::convert::spec_to_wire;
use crate::watchdog::condition::Shown;
use crate::watchdog::driver::Life;
use crate::watchdog::relay::endpoint_to_wire;
use crate::watchdog::supervise::State;
use crate::watchdog::tunnels::Listed;
use crate::watchdog::tunnels::Tunnels;

/// How long the tunnel process has to say what it knows: it only reads its own memory.
pub const STATUS_DEADLINE: Duration = Duration::from_secs(2);
/// Where the tunnel process does not serve.
const REMEDY: &str =
    "the watchdog starts another one, and its log says what is wrong with this one";

/// Every tunnel that is recorded, and the life of the process.
#[must_use]
pub fn recorded(tunnels: &Tunnels) -> proto::ListResponse {
    let life = tunnels.process();
    let restarts_by_reason = life.restarts.by_reason().map(|(reason, count)| {
        let reason = reason.word().to_owned();
        proto::RestartCount { reason, count }
    });
    proto::ListResponse {
        tunnels: tunnels.list().iter().map(listed_to_wire).collect(),
        process: process_word(life.state).to_owned(),
        process_id: life.process_id,
        restarts: life.restarts.total(),
        restarts_by_reason: restarts_by_reason.collect(),
        process_seconds: match life.state {
            State::Running { since, .. } => Instant::now().duration_since(since).as_secs(),
            _ => 0,
        },
        listeners_missing_because: String::new(),
        fips: false,
        buffer_bytes: 0,
        notices: tunnels.notices().all(),
        network_namespace: NetNamespace::own().map(|own| own.to_string()).unwrap_or_default(),
        repairs: tunnels
            .repairs()
            .counts()
            .map(|(repair, count)| proto::RepairCount { repair: repair.to_owned(), count })
            .into(),
    }
}

/// As [`recorded`], and what goes through each tunnel.
pub async fn with_listeners(tunnels: &Tunnels) -> proto::ListResponse {
    let mut report = recorded(tunnels);
    match ask(tunnels.process()).await {
        Ok(status) => {
            report.fips = status.fips;
            report.buffer_bytes = status.buffer_bytes;
            fill_in(&mut report.tunnels, status.listeners);
        }
        Err(why) => report.listeners_missing_because = why,
    }
    report
}

async fn ask(life: Life) -> Result<proto::StatusResponse, String> {
    let Some(relay) = life.relay else {
        let state = process_word(life.state);
        return Err(format!("no tunnel process runs: it is {state}; {REMEDY}"));
    };
    match timeout(STATUS_DEADLINE, relay.report()).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(error)) => Err(format!("{}; {REMEDY}", Chain(&error))),
        Err(_) => Err(format!(
            "the tunnel process did not answer within {} s; {REMEDY}",
            STATUS_DEADLINE.as_secs()
        )),
    }
}

fn fill_in(tunnels: &mut [proto::TunnelState], listeners: Vec<proto::ListenerStatus>) {
    let key = |endpoint: &Option<proto::LocalEndpoint>| {
        endpoint.as_ref().map(|endpoint| (endpoint.address.clone(), endpoint.port))
    };
    let mut known: HashMap<_, _> =
        listeners.into_iter().map(|listener| (key(&listener.endpoint), listener)).collect();
    for tunnel in tunnels {
        tunnel.listener = known.remove(&key(&tunnel.endpoint));
    }
}

fn listed_to_wire(listed: &Listed) -> proto::TunnelState {
    let users = listed.record.users.iter().cloned().map(|user| proto::TunnelUser {
        volume_id: user.volume_id,
        staging_path: user.staging_path,
        source: user.source,
        options: user.options,
    });
    proto::TunnelState {
        spec: Some(spec_to_wire(&listed.record.spec)),
        endpoint: Some(endpoint_to_wire(listed.record.endpoint)),
        users: users.collect(),
        life: if listed.closing { "closing" } else { "open" }.to_owned(),
        listener: None,
        health: Some(health_to_wire(&listed.health)),
    }
}

fn health_to_wire(health: &Shown) -> proto::TunnelHealth {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    proto::TunnelHealth {
        state: health.verdict.word().to_owned(),
        seconds: health.lasting.as_secs(),
        round_trip_micros: health.round_trip.map_or(0, micros),
        why: health.why.clone(),
        round_trips: Some(histogram_to_wire(&health.round_trips)),
    }
}

fn process_word(state: State) -> &'static str {
    match state {
        State::Absent | State::Starting { .. } => "starting",
        State::Running { .. } | State::Replacing { .. } => "running",
        State::Waiting { .. } => "waiting",
        State::Stopping => "stopping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::fake::Node;
    use crate::watchdog::fake::spec;
    use crate::watchdog::fake::user;

    #[tokio::test]
    async fn each_tunnel_is_shown_with_what_its_process_knows_about_it() {
        let node = Node::new();
        node.tunnels.acquire(spec("nas"), user(1)).await.unwrap();
        assert_eq!(recorded(&node.tunnels).tunnels[0].listener, None);
        let report = with_listeners(&node.tunnels).await;
        assert_eq!(report.listeners_missing_because, "");
        let listener = report.tunnels[0].listener.clone().unwrap();
        assert_eq!(listener.endpoint, report.tunnels[0].endpoint);
        let reasons: Vec<_> =
            report.restarts_by_reason.iter().map(|one| (one.reason.as_str(), one.count)).collect();
        assert_eq!(reasons, [("ended", 0), ("unanswering", 0), ("not-ready", 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_hangs_or_is_not_there_is_said_after_two_seconds_and_the_records_are_shown()
     {
        let node = Node::new();
        node.tunnels.acquire(spec("nas"), user(1)).await.unwrap();
        node.relay.script().hung = true;
        let before = Instant::now();
        let report = with_listeners(&node.tunnels).await;
        assert_eq!(before.elapsed(), STATUS_DEADLINE);
        assert!(report.listeners_missing_because.contains("within 2 s"), "{report:?}");
        assert_eq!((report.tunnels.len(), report.tunnels[0].users.len()), (1, 1));

        node.life.send_modify(|life| life.relay = None);
        let report = with_listeners(&node.tunnels).await;
        assert!(report.listeners_missing_because.contains("no tunnel process"), "{report:?}");
        assert!(report.listeners_missing_because.ends_with(REMEDY), "{report:?}");
    }
}
