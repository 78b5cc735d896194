//! One mount under way: each step done, and what it must not leave behind taken back.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::topmost_at;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::host::worker::Unmounting;
use crate::model::MountOptions;
use crate::model::NfsVersion;
use crate::nfs::MountFault;
use crate::nfs::MountRequest;
use crate::nfs::Way;
use crate::nfs::engine::Engine;
use crate::nfs::engine::Progress;
use crate::nfs::engine::story;
use crate::nfs::policy::Answer;
use crate::nfs::policy::KernelFacts;
use crate::nfs::policy::Mounted;
use crate::nfs::policy::Note;
use crate::nfs::policy::Step;
use crate::nfs::policy::job;
use crate::runtime::request;

/// How long taking back a mount may keep the caller. MNT_DETACH takes it out of the tree at once; what then
/// ends the session with the server goes on by itself.
const UNDO: Duration = Duration::from_millis(400);
/// How long that may last.
const UNMOUNT: Duration = Duration::from_secs(10);
/// How long looking at the target may take, before the table is read instead.
const LOOK: Duration = Duration::from_secs(10);
/// Between two looks at the mount table.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One mount under way.
pub(super) struct Underway {
    engine: Engine,
    source: String,
    target: PathBuf,
    options: MountOptions,
    way: Way,
    cancel: CancellationToken,
    progress: Box<dyn Fn(Progress) + Send + Sync>,
    began: Instant,
}

impl Underway {
    pub(super) fn new(
        engine: Engine,
        request: &MountRequest,
        cancel: CancellationToken,
        progress: Box<dyn Fn(Progress) + Send + Sync>,
    ) -> Self {
        Self {
            engine,
            source: request.device.to_string(),
            target: request.target.clone(),
            options: request.options.clone(),
            way: request.way,
            cancel,
            progress,
            began: Instant::now(),
        }
    }

    /// What the policy must know of the kernel. A tunnel has only one way to it.
    pub(super) async fn facts(&self) -> KernelFacts {
        match self.way {
            Way::Tunnel { .. } => KernelFacts::default(),
            Way::Direct => {
                let udp = self.cancel.run_until_cancelled(self.engine.kernel.has_udp()).await;
                KernelFacts { nfs_over_udp: udp.unwrap_or_default() }
            }
        }
    }

    /// Does what `next` says until it says that there is nothing more to do.
    pub(super) async fn drive(
        self,
        mut next: impl FnMut(Answer, Instant) -> Step,
    ) -> Result<Mounted, MountFault> {
        let mut answer = Answer::Begin;
        let mut attempt = 1;
        let mut span = request::attempt(attempt);
        loop {
            let was_in_vain = matches!(&answer, Answer::Mounted(Err(_)));
            let step = match next(answer, Instant::now()) {
                Step::Finish(mounted) => return Ok(span.in_scope(|| self.finish(*mounted))),
                Step::GiveUp(fault) => return Err(span.in_scope(|| self.give_up(*fault))),
                step => step,
            };
            if was_in_vain {
                attempt += 1;
                span = request::attempt(attempt);
            }
            answer = self.answer_timed(step).instrument(span.clone()).await;
        }
    }

    async fn answer_timed(&self, step: Step) -> Answer {
        let (began, question) = (Instant::now(), step.question());
        let answer = self.answer(step).await;
        let Some(question) = question else { return answer };
        let told = answer.told();
        tracing::debug!(
            mount.source = %self.source, mount.target = %self.target.display(), question, answer = told,
            took = ?began.elapsed(), "tried"
        );
        if story::is_failure(&answer) {
            (self.progress)(Progress::Failed(format!("{question}: {told}")));
        }
        answer
    }

    /// Whatever it is, it ends when the mount is cancelled.
    async fn answer(&self, step: Step) -> Answer {
        if self.cancel.is_cancelled() {
            return Answer::Cancelled;
        }
        if let Step::Mount { job, deadline } = step {
            return self.mount(job, deadline).await;
        }
        let answer = self.cancel.run_until_cancelled(self.ask(step)).await;
        answer.unwrap_or(Answer::Cancelled)
    }

    async fn ask(&self, step: Step) -> Answer {
        let network = &self.engine.network;
        match step {
            Step::Resolve { host, family, limit } => {
                Answer::Addresses(network.resolve(&host, family, limit).await)
            }
            Step::CheckTarget { job, deadline } => {
                Answer::Target(self.engine.worker.run(job, deadline).await)
            }
            Step::Locate { destination } => Answer::Source(network.locate(destination)),
            Step::LookFor(daemon) => Answer::Daemon(network.look_for(daemon).await),
            Step::AskPort { server, service, transport, over, limit } => {
                Answer::Port(network.ask_port(server, service, transport, over, limit).await)
            }
            Step::Ping { server, service, transport, limit } => {
                Answer::Pinged(network.ping(server, service, transport, limit).await)
            }
            Step::AskExport { mountd, transport, path, limit } => {
                Answer::Export(network.ask_export(mountd, transport, &path, limit).await)
            }
            Step::LookAtTarget(path) => Answer::MountedThere(self.top_of(&path)),
            Step::Wait(time) => {
                tokio::time::sleep(time).await;
                Answer::Waited
            }
            Step::GoToBackground(fault) => {
                tracing::warn!(error = %fault, "the mount goes on being tried in the background");
                (self.progress)(Progress::InBackground(fault));
                Answer::InBackground
            }
            // They are answered before it comes to this.
            Step::Mount { .. } | Step::Finish(_) | Step::GiveUp(_) => Answer::Cancelled,
        }
    }

    /// The kernel's refusal of an option that it does not know, before anything is sent to a server. Through a
    /// tunnel, the mount itself says so just as soon.
    pub(super) async fn unknown_option(&self) -> Option<Failure> {
        if self.options.sloppy() || matches!(self.way, Way::Tunnel { .. }) {
            return None;
        }
        let versions = match self.options.version_wish().exact() {
            Some(version) => vec![version],
            None => vec![NfsVersion::V42, NfsVersion::V3],
        };
        let options: Vec<_> =
            versions.iter().flat_map(|version| self.options.kernel_options(*version)).collect();
        let known = self.engine.kernel.first_unknown(&options);
        self.cancel.run_until_cancelled(known).await.flatten()
    }

    /// After an answer by the kernel, what it says holds. Where it was cut short, what it made is taken back.
    async fn mount(&self, job: Job, deadline: Duration) -> Answer {
        (self.progress)(Progress::Asking { options: job::text(&job) });
        let Some(before) = self.cancel.run_until_cancelled(self.mounts_before()).await else {
            return Answer::Cancelled;
        };
        let answer = self.engine.worker.run_until(job, deadline, &self.cancel).await;
        match answer {
            Some(answer) if !self.cancel.is_cancelled() => {
                if matches!(answer, Err(Failure::Deadline(_) | Failure::Worker(_))) {
                    self.undo(before).await;
                }
                Answer::Mounted(answer)
            }
            _ => {
                self.undo(before).await;
                Answer::Cancelled
            }
        }
    }

    /// The ids of the NFS mounts at the target, before there is one of ours. By a worker, which need not read the whole
    /// table for it: with a thousand mounts in it, that costs more than the mount.
    async fn mounts_before(&self) -> io::Result<HashSet<u64>> {
        let job = Job::FindNfs { target: self.target.clone() };
        match self.engine.worker.run(job, LOOK).await {
            Ok(Done::Found(ids)) => Ok(ids.into_iter().collect()),
            Ok(_) | Err(_) => self.mounts_there(),
        }
    }

    /// The ids of the NFS mounts at the target.
    fn mounts_there(&self) -> io::Result<HashSet<u64>> {
        let entries = self.engine.mounts.read()?;
        let there = |entry: &&MountEntry| entry.mount_point == self.target && entry.is_nfs();
        Ok(entries.iter().filter(there).map(|entry| entry.id).collect())
    }

    /// Takes away what is on top at the target and was not there before.
    async fn undo(&self, before: io::Result<HashSet<u64>>) {
        let taken_back = async {
            let before = before?;
            while !self.mounts_there()?.is_subset(&before) {
                let top = self.top_of(&self.target)?;
                if top.is_none_or(|top| before.contains(&top.id)) {
                    return Err(io::Error::other("another mount hides it"));
                }
                self.unmount().await;
            }
            Ok(())
        };
        let taken_back = tokio::time::timeout(UNDO, taken_back).await;
        if let Err(error) = taken_back.unwrap_or_else(|late| Err(late.into())) {
            tracing::warn!(
                mount.source = %self.source, mount.target = %self.target.display(), %error,
                "what a mount that was cut short has left could not be taken back yet"
            );
        }
    }

    /// Returns once the mount is out of the tree; the rest is waited for by nobody.
    async fn unmount(&self) {
        let worker = std::sync::Arc::clone(&self.engine.worker);
        let job = Job::Unmount { target: self.target.clone(), force: Unmounting::Lazy };
        let unmounting = tokio::spawn(async move {
            if let Err(failure) = worker.run(job, UNMOUNT).await {
                tracing::debug!(%failure, "a detached mount did not end in peace");
            }
        });
        let there = self.mounts_there().ok();
        while !unmounting.is_finished() && self.mounts_there().ok() == there {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn top_of(&self, path: &Path) -> io::Result<Option<MountEntry>> {
        Ok(topmost_at(&self.engine.mounts.read()?, path).cloned())
    }

    pub(super) fn give_up(&self, fault: MountFault) -> MountFault {
        story::failure(&fault, self.began.elapsed());
        fault
    }

    fn finish(&self, mut mounted: Mounted) -> Mounted {
        let version = mounted.version;
        mounted.notes.retain(|note| self.is_worth_saying(note, version));
        story::success(&self.source, &self.target, &mounted, self.began.elapsed());
        mounted
    }

    /// An address for calls back is only remarkable where it is somebody else's (a NAT may well want that), and where
    /// the server calls back to it: a later version does so over the connection that is there.
    fn is_worth_saying(&self, note: &Note, version: NfsVersion) -> bool {
        match note {
            Note::ClientAddressOfUser(address) => {
                version == NfsVersion::V40 && !self.engine.network.is_ours(*address).unwrap_or(true)
            }
            Note::NoClientAddress(_) | Note::DaemonUnknown(..) => true,
        }
    }
}

impl fmt::Debug for Underway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Underway").field("source", &self.source).finish_non_exhaustive()
    }
}
