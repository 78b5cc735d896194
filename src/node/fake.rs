//! A node for tests: a mount table, a worker that changes it, and a watchdog, in one value.
//!
//! Every call is a numbered step; [`World::answer`] makes one of them go wrong.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;

use crate::host::mount_syscalls::call;
use crate::host::mount_table::MountEntry;
use crate::host::mount_table::MountTable;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::FsStats;
use crate::host::worker::Job;
use crate::host::worker::Worker;
use crate::model::TunnelSpec;
use crate::model::VolumeId;
use crate::nfs::engine::fake::FakeNetwork;
use crate::nfs::farewell::fake::FakeMountd;
use crate::node::Node;
use crate::node::plain_record::PlainRecord;
use crate::node::plain_record::PlainRecords;
use crate::node::tunnels::Acquired;
use crate::node::tunnels::TunnelFault;
use crate::node::tunnels::TunnelUser;
use crate::node::tunnels::Tunnels;
use crate::proto::tunnel::tunnel_failure::Kind;

/// How a step goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It fails, and did nothing.
    Fail(Failure),
    /// It fails, and did it all the same.
    FailButDo(Failure),
    /// It is cut at its deadline, and did nothing.
    Hang,
    /// It is cut at its deadline, and did it all the same.
    HangButDo,
}

/// The whole machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    mounts: Vec<MountEntry>,
    users: Vec<TunnelUser>,
    journal: Vec<String>,
    answers: BTreeMap<usize, Answer>,
    /// For every NFS mount that has no answer of its own.
    of_mounts: Option<Answer>,
    ids: u64,
    unreadable: bool,
    records: Vec<PlainRecord>,
    forgets: bool,
    mountd: Arc<FakeMountd>,
}

/// An NFS mount of a superblock and a peer group that all entries made here share.
pub(crate) fn entry(id: u64, mount_point: &str, source: &str) -> MountEntry {
    MountEntry {
        id,
        device: "0:42".to_owned(),
        root: "/".to_owned(),
        mount_point: PathBuf::from(mount_point),
        options: vec!["rw".to_owned()],
        peer_group: Some(7),
        fs_type: "nfs".to_owned(),
        source: source.to_owned(),
        super_options: Vec::new(),
    }
}

/// The kernel says no.
pub(crate) fn refused() -> Failure {
    Failure::Refused {
        call: "call".to_owned(),
        errno: 5,
        errno_text: "Input/output error".to_owned(),
        kernel: Vec::new(),
    }
}

/// Nobody listens where the kernel connects to.
pub(crate) fn refused_connection() -> Failure {
    Failure::refused(call::CREATE, Errno::CONNREFUSED, Vec::new())
}

impl World {
    pub(crate) fn mounted(self, entry: MountEntry) -> Self {
        self.state().mounts.push(entry);
        self
    }

    pub(crate) fn answer(&self, step: usize, answer: Answer) {
        self.state().answers.insert(step, answer);
    }

    /// From now on every NFS mount is answered so.
    pub(crate) fn answer_mounts(&self, answer: &Answer) {
        self.state().of_mounts = Some(answer.clone());
    }

    /// From now on every NFS mount succeeds again.
    pub(crate) fn answer_mounts_well(&self) {
        self.state().of_mounts = None;
    }

    /// From now on the mount table cannot be read.
    pub(crate) fn hide_mounts(&self) {
        self.state().unreadable = true;
    }

    pub(crate) fn node(&self) -> Node {
        let world = Arc::new(self.clone());
        let (table, worker, tunnels) = (world.clone(), world.clone(), world.clone());
        let network = Arc::new(FakeNetwork::default());
        Node::new(table, worker, tunnels, network, world, self.mountd())
    }

    /// Who is told of unmounts.
    pub(crate) fn mountd(&self) -> Arc<FakeMountd> {
        Arc::clone(&self.state().mountd)
    }

    /// From now on mountd takes note and never answers.
    pub(crate) fn silence_mountd(&self) {
        self.state().mountd = Arc::new(FakeMountd { silent: true, ..FakeMountd::default() });
    }

    /// What is remembered of volumes of plain NFS.
    pub(crate) fn records(&self) -> Vec<PlainRecord> {
        self.state().records.clone()
    }

    /// From now on nothing can be remembered.
    pub(crate) fn forget_everything(&self) {
        let mut state = self.state();
        state.records.clear();
        state.forgets = true;
    }

    pub(crate) fn mounts(&self) -> Vec<MountEntry> {
        self.state().mounts.clone()
    }

    pub(crate) fn users(&self) -> Vec<TunnelUser> {
        self.state().users.clone()
    }

    pub(crate) fn journal(&self) -> Vec<String> {
        self.state().journal.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn step(&self, what: String) -> Option<Answer> {
        let mut state = self.state();
        let step = state.journal.len();
        let of_mounts = what.starts_with("mount ").then(|| state.of_mounts.clone()).flatten();
        state.journal.push(what);
        state.answers.remove(&step).or(of_mounts)
    }

    async fn act<T>(
        &self,
        what: String,
        deadline: Duration,
        effect: impl FnOnce(&mut State) -> T,
    ) -> Result<T, Failure> {
        match self.step(what) {
            None => Ok(effect(&mut self.state())),
            Some(Answer::Fail(failure)) => Err(failure),
            Some(Answer::FailButDo(failure)) => {
                effect(&mut self.state());
                Err(failure)
            }
            Some(Answer::Hang) => {
                tokio::time::sleep(deadline).await;
                Err(Failure::Deadline(deadline))
            }
            Some(Answer::HangButDo) => {
                tokio::time::sleep(deadline).await;
                effect(&mut self.state());
                Err(Failure::Deadline(deadline))
            }
        }
    }
}

impl State {
    fn perform(&mut self, job: Job) -> Done {
        match job {
            Job::MountNfs { source, target, .. } => {
                let id = self.next_id();
                let peer_group = Some(id);
                let device = format!("0:{id}");
                let made = entry(id, &target.to_string_lossy(), &source);
                self.mounts.push(MountEntry { peer_group, device, ..made });
            }
            Job::CheckTarget { .. } | Job::SetAttributes { .. } => {}
            Job::FindNfs { target } => return Done::Found(self.nfs_at(&target)),
            Job::Bind { from, to, read_only } => {
                let id = self.next_id();
                let origin = self.mounts.iter().rfind(|entry| entry.mount_point == from).unwrap();
                let mut bind = MountEntry { id, mount_point: to, ..origin.clone() };
                if read_only {
                    bind.options = vec!["ro".to_owned()];
                }
                self.mounts.push(bind);
            }
            Job::Unmount { target, .. } => {
                if let Some(top) = self.mounts.iter().rposition(|entry| entry.mount_point == target)
                {
                    self.mounts.remove(top);
                }
            }
            Job::ProbeOptions { options } => return Done::Probed(vec![None; options.len()]),
            Job::ProbeTogether { .. } => return Done::Probed(vec![None]),
            Job::StatFs { .. } => {
                return Done::StatFs(FsStats {
                    total_bytes: 1000,
                    available_bytes: 600,
                    free_bytes: 700,
                    total_inodes: 10,
                    free_inodes: 4,
                });
            }
        }
        Done::Done
    }

    fn nfs_at(&self, target: &Path) -> Vec<u64> {
        let there = |entry: &&MountEntry| entry.mount_point == target && entry.is_nfs();
        self.mounts.iter().filter(there).map(|entry| entry.id).collect()
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        1000 + self.ids
    }
}

impl MountTable for World {
    fn read(&self) -> io::Result<Vec<MountEntry>> {
        let state = self.state();
        if state.unreadable {
            return Err(io::Error::other("hidden"));
        }
        Ok(state.mounts.clone())
    }
}

#[async_trait]
impl PlainRecords for World {
    async fn read(&self, staging_path: &Path) -> io::Result<Option<PlainRecord>> {
        let records = self.records();
        Ok(records.into_iter().find(|record| record.staging_path == staging_path))
    }

    async fn write(&self, record: PlainRecord) -> io::Result<()> {
        if self.state().forgets {
            return Err(io::Error::other("no disk"));
        }
        PlainRecords::remove(self, &record.staging_path).await?;
        self.state().records.push(record);
        Ok(())
    }

    async fn remove(&self, staging_path: &Path) -> io::Result<()> {
        self.state().records.retain(|record| record.staging_path != staging_path);
        Ok(())
    }
}

#[async_trait]
impl Worker for World {
    async fn run(&self, job: Job, deadline: Duration) -> Result<Done, Failure> {
        let what = match &job {
            // Goes before every mount, changes nothing, and is no step of its own.
            Job::FindNfs { .. } => return Ok(self.state().perform(job)),
            Job::MountNfs { source, target, .. } => format!("mount {source} {}", target.display()),
            Job::CheckTarget { target } => format!("check {}", target.display()),
            Job::SetAttributes { target, .. } => format!("set {}", target.display()),
            Job::Bind { to, read_only, .. } => {
                format!("bind {}{}", to.display(), if *read_only { " ro" } else { "" })
            }
            Job::Unmount { target, force } => format!("unmount {force:?} {}", target.display()),
            Job::StatFs { path } => format!("statfs {}", path.display()),
            Job::ProbeOptions { options } => format!("probe {} options", options.len()),
            Job::ProbeTogether { options } => format!("probe {} options together", options.len()),
        };
        self.act(what, deadline, |state| state.perform(job)).await
    }
}

#[async_trait]
impl Tunnels for World {
    async fn acquire(&self, spec: &TunnelSpec, user: &TunnelUser) -> Result<Acquired, TunnelFault> {
        let held = self.users().iter().find(|held| held.staging_path == user.staging_path).cloned();
        if held.as_ref().is_some_and(|held| held != user) {
            return Err(TunnelFault::Refused {
                kind: Kind::UserDiffers,
                message: "staged with other options".to_owned(),
            });
        }
        let already = held.is_some();
        let note = |state: &mut State| {
            if !already {
                state.users.push(user.clone());
            }
        };
        let took = self.act(format!("acquire {spec}"), Duration::from_secs(30), note).await;
        took.map_err(fault)?;
        Ok(Acquired { endpoint: ([127, 0, 1, 1], 12049).into(), remote: None, already })
    }

    async fn release(&self, volume: &VolumeId, staging_path: &Path) -> Result<(), TunnelFault> {
        let forget = |state: &mut State| {
            state.users.retain(|user| user.volume != *volume || user.staging_path != staging_path);
        };
        self.act("release".to_owned(), Duration::from_secs(5), forget).await.map_err(fault)
    }

    async fn answers(&self) -> Result<(), TunnelFault> {
        self.act("answers".to_owned(), Duration::from_secs(1), |_| ()).await.map_err(fault)
    }
}

/// A failure of the call itself leaves doubt; a refusal by the watchdog does not.
fn fault(failure: Failure) -> TunnelFault {
    match failure {
        Failure::Deadline(waited) => {
            TunnelFault::NoAnswer { socket: PathBuf::from("/watchdog.sock"), waited }
        }
        Failure::Refused { .. } => TunnelFault::Refused {
            kind: Kind::ConnectionRefused,
            message: "connection refused".to_owned(),
        },
        Failure::Worker(why) => {
            TunnelFault::NoWatchdog { socket: PathBuf::from("/watchdog.sock"), why }
        }
    }
}
