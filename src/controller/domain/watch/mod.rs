//! Watches the mount targets that PersistentVolumes of this driver use, and says what becomes of them.
//!
//! ```text
//! PersistentVolumes (every five minutes) -> mount targets -> looks, a few at a time -> step -> events, metrics
//! ```
//!
//! [`step`] decides, [`look`] looks, and what is here is the pace: each mount target has a moment of its own, so that a
//! thousand are not asked at once. Every replica of the controller watches; the API server takes an event of the same
//! name but once. Volumes without encryption are not watched: there is nothing to shake hands with.

pub mod look;
pub mod step;

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::controller::domain::watch::look::Sights;
use crate::controller::domain::watch::step::Known;
use crate::controller::domain::watch::step::Notice;
use crate::controller::domain::watch::step::Sight;
use crate::controller::domain::watch::step::Trouble;
use crate::controller::domain::watch::step::step;
use crate::kubernetes::About;
use crate::kubernetes::Reason;
use crate::kubernetes::Report;
use crate::kubernetes::Reporter;
use crate::kubernetes::Volumes;
use crate::kubernetes::volumes::UsedVolume;
use crate::model::MountProtocol;
use crate::model::TunnelSpec;
use crate::model::VolumeAttributes;
use crate::runtime::Clock;
use crate::tls::certificate::date;

/// Between two lists of all volumes.
const LIST_EVERY: Duration = Duration::from_secs(300);
/// After a list that failed.
const LIST_AGAIN: Duration = Duration::from_secs(30);
/// Looks at the same time.
const AT_ONCE: usize = 4;
/// Mount targets that are new to us are looked at within this.
const SPREAD: Duration = Duration::from_secs(20);

/// What is known, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchReport {
    /// Each mount target, in order.
    pub targets: Vec<TargetReport>,
    /// How often volumes could not be listed.
    pub list_failures: u64,
}

/// One mount target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetReport {
    /// Which, with how it is secured.
    pub target: String,
    /// How it fares.
    pub life: &'static str,
    /// PersistentVolumes that use it.
    pub volumes: u64,
    /// How often it was looked at.
    pub looks: u64,
    /// How often its domain led to another address.
    pub moves: u64,
    /// When the first certificate of its chain ends, seconds since the epoch.
    pub certificate_ends: Option<i64>,
}

/// Where the report is read.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<WatchReport>>);

impl Board {
    /// What is known now.
    #[must_use]
    pub fn report(&self) -> WatchReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut WatchReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Watches mount targets.
#[derive(Debug)]
pub struct Watcher {
    driver: String,
    volumes: Arc<dyn Volumes>,
    sights: Arc<dyn Sights>,
    events: Reporter,
    clock: Arc<dyn Clock>,
    board: Board,
    targets: HashMap<TunnelSpec, Target>,
}

#[derive(Debug)]
struct Target {
    known: Known,
    users: Vec<(About, Option<About>)>,
    due: Instant,
    is_looked_at: bool,
    looks: u64,
    moves: u64,
}

impl Watcher {
    /// Knows of none yet.
    #[must_use]
    pub fn new(
        driver: &str,
        volumes: Arc<dyn Volumes>,
        sights: Arc<dyn Sights>,
        events: Reporter,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (board, targets) = (Board::default(), HashMap::new());
        Self { driver: driver.to_owned(), volumes, sights, events, clock, board, targets }
    }

    /// Where what is known is read.
    #[must_use]
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Watches until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
    }

    async fn watch(&mut self) {
        let mut looks = JoinSet::new();
        let mut list_at = Instant::now();
        loop {
            if Instant::now() >= list_at {
                list_at = Instant::now() + self.list().await;
            }
            self.begin(&mut looks);
            self.show();
            let wake_at = self.wake_at(looks.len(), list_at);
            tokio::select! {
                Some(done) = looks.join_next() => match done {
                    Ok((spec, sight)) => self.note(&spec, sight),
                    // Whichever it was, it is looked at again; the others at worst twice.
                    Err(panicked) => {
                        tracing::error!(%panicked, "a look at a mount target failed");
                        self.targets.values_mut().for_each(|target| target.is_looked_at = false);
                    }
                },
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn wake_at(&self, under_way: usize, list_at: Instant) -> Instant {
        if under_way >= AT_ONCE {
            return list_at;
        }
        let waiting = self.targets.values().filter(|target| !target.is_looked_at);
        waiting.map(|target| target.due).min().map_or(list_at, |due| due.min(list_at))
    }

    /// Takes note of the volumes there are, and says when to do so again.
    async fn list(&mut self) -> Duration {
        match self.volumes.of_driver(&self.driver).await {
            Ok(volumes) => {
                self.take_volumes(volumes);
                LIST_EVERY
            }
            Err(fault) => {
                tracing::warn!(error = %fault, "mount targets in use are not known anew");
                self.board.change(|report| report.list_failures += 1);
                LIST_AGAIN
            }
        }
    }

    fn take_volumes(&mut self, volumes: Vec<UsedVolume>) {
        self.targets.values_mut().for_each(|target| target.users.clear());
        for volume in volumes {
            let Some(spec) = spec_of(&volume) else { continue };
            let due = Instant::now() + spread(&spec);
            let new = || Target {
                known: Known::default(),
                users: Vec::new(),
                due,
                is_looked_at: false,
                looks: 0,
                moves: 0,
            };
            let target = self.targets.entry(spec).or_insert_with(new);
            target.users.push((volume.about, volume.claim));
        }
        self.targets.retain(|_, target| !target.users.is_empty());
    }

    fn begin(&mut self, looks: &mut JoinSet<(TunnelSpec, Sight)>) {
        let now = Instant::now();
        let due = |target: &Target| !target.is_looked_at && target.due <= now;
        let mut waiting: Vec<_> = self.targets.iter_mut().filter(|(_, it)| due(it)).collect();
        waiting.sort_by_key(|(_, target)| target.due);
        for (spec, target) in waiting.into_iter().take(AT_ONCE.saturating_sub(looks.len())) {
            target.is_looked_at = true;
            let (sights, spec) = (Arc::clone(&self.sights), spec.clone());
            looks.spawn(async move {
                let sight = sights.look(&spec).await;
                (spec, sight)
            });
        }
    }

    fn note(&mut self, spec: &TunnelSpec, sight: Sight) {
        let Some(target) = self.targets.get_mut(spec) else { return };
        tracing::debug!(mount_target = %spec, ?sight, "looked at a mount target");
        let now = self.clock.now().epoch_seconds();
        let (known, notices) = step(std::mem::take(&mut target.known), sight, now);
        target.due = Instant::now() + known.life.pause() + spread(spec) / 4;
        target.known = known;
        target.is_looked_at = false;
        target.looks += 1;
        for notice in notices {
            target.moves += u64::from(matches!(notice, Notice::Moved { .. }));
            let (reason, message) = words(spec, &notice);
            tracing::info!(mount_target = %spec, ?reason, message, "a mount target has changed");
            for about in
                target.users.iter().flat_map(|(volume, claim)| [Some(volume), claim.as_ref()])
            {
                let Some(about) = about.cloned() else { continue };
                self.events.report(Report { about, reason, message: message.clone() });
            }
        }
    }

    fn show(&self) {
        let of = |(spec, target): (&TunnelSpec, &Target)| TargetReport {
            target: spec.to_string(),
            life: target.known.life.word(),
            volumes: target.users.len() as u64,
            looks: target.looks,
            moves: target.moves,
            certificate_ends: target.known.certificate_ends,
        };
        let mut targets: Vec<_> = self.targets.iter().map(of).collect();
        targets.sort_by(|one, other| one.target.cmp(&other.target));
        self.board.change(|report| report.targets = targets);
    }
}

/// None for a volume without encryption, and for one that no node could mount either.
fn spec_of(volume: &UsedVolume) -> Option<TunnelSpec> {
    match VolumeAttributes::parse(&volume.attributes, &volume.mount_options) {
        Ok(attributes) => match attributes.protocol {
            MountProtocol::Alinas(spec) => Some(spec),
            MountProtocol::Nfs => None,
        },
        Err(error) => {
            tracing::debug!(volume = %volume.about, %error, "a volume that cannot be mounted is not watched");
            None
        }
    }
}

/// A moment of its own for each mount target, the same in every process.
fn spread(spec: &TunnelSpec) -> Duration {
    let mut hasher = DefaultHasher::new();
    spec.hash(&mut hasher);
    let most = u64::try_from(SPREAD.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(hasher.finish() % most)
}

fn words(spec: &TunnelSpec, notice: &Notice) -> (Reason, String) {
    let host = &spec.host;
    match notice {
        Notice::Moved { from, to } => (
            Reason::MountTargetMoved,
            format!(
                "mount target {host} moved from {} to {}; mounts follow at their next connection",
                listed(from),
                listed(to)
            ),
        ),
        Notice::Trouble(trouble, why) => {
            (reason_of(*trouble), format!("mount target {host}: {why}"))
        }
        Notice::Expiring(ends) => (
            Reason::CertificateExpiring,
            format!(
                "mount target {host}: its certificate ends on {}; unless it is renewed by then, no mount is made or \
                 comes back after it",
                date(*ends)
            ),
        ),
        Notice::Back => {
            (Reason::MountTargetBack, format!("mount target {host} is as it should be again"))
        }
    }
}

fn reason_of(trouble: Trouble) -> Reason {
    match trouble {
        Trouble::Disabled => Reason::MountTargetDisabled,
        Trouble::Deleted => Reason::MountTargetDeleted,
        Trouble::Gone => Reason::MountTargetGone,
        Trouble::Silent => Reason::MountTargetNotAnswering,
        Trouble::Insecure => Reason::MountTargetInsecure,
    }
}

fn listed<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    addresses.into_iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
