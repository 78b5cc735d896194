//! Stages a volume: a tunnel, and one NFS mount through it, at the staging path.
//!
//! ```text
//! what is at the staging path   what is done
//! nothing                       acquire, mount; where mounting fails: unmount, release
//! this volume                   acquire again (the watchdog may have lost its records), nothing else
//! this volume, not yet shared   a mount that was cut half way: unmount, then as nothing
//! another mount                 refused
//! ```
//!
//! LONG: nearly half of it are the tests of each step that can fail.

use std::path::Path;
use std::path::PathBuf;

use tokio::task::JoinError;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::topmost_at;
use crate::host::route;
use crate::host::worker::Failure;
use crate::model::VolumeAttributes;
use crate::model::VolumeId;
use crate::nfs;
use crate::nfs::MountFault;
use crate::nfs::NfsMount;
use crate::node::Node;
use crate::node::deadline;
use crate::node::directory;
use crate::node::directory::DirectoryFault;
use crate::node::mounts;
use crate::node::mounts::ReadMounts;
use crate::node::place;
use crate::node::place::PathFault;
use crate::node::tunnels::Acquired;
use crate::node::tunnels::TunnelFault;
use crate::node::tunnels::TunnelUser;
use crate::node::unmount;
use crate::node::unmount::UnmountError;
use crate::runtime::Chain;
use crate::runtime::in_flight::Busy;

/// A volume to stage.
#[derive(Clone, Debug)]
pub struct StageRequest {
    /// The volume.
    pub volume: VolumeId,
    /// An existing directory.
    pub staging_path: PathBuf,
    /// What to mount, and how.
    pub attributes: VolumeAttributes,
}

/// What [`Node::stage`] found. Both are success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staged {
    /// Nothing was there; now the volume is.
    Now,
    /// The volume was there.
    Already,
}

/// Why a volume is not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Another operation on the volume is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The staging path cannot be worked on.
    #[error("staging path: {0}")]
    Path(#[source] PathFault),
    /// The staging path cannot be mounted on.
    #[error("staging path: {0}")]
    Directory(#[source] DirectoryFault),
    /// We could not look.
    #[error(transparent)]
    ReadMounts(#[from] ReadMounts),
    /// Another export is mounted there.
    #[error(
        "{path:?} holds a mount of {held:?}, but the volume is {wanted:?}; unstage the other volume first"
    )]
    StagedDifferently {
        /// Where.
        path: PathBuf,
        /// The source of the mount that is there.
        held: String,
        /// The source of the volume.
        wanted: String,
    },
    /// Something is mounted there that we did not make.
    #[error(
        "{path:?} holds a mount of type {fs_type:?}, which this driver did not make; unmount it by hand"
    )]
    TakenByAnother {
        /// Where.
        path: PathBuf,
        /// What.
        fs_type: String,
    },
    /// What was left of a mount that was cut half way does not go away.
    #[error("failed to clear what an earlier attempt left behind")]
    HalfMade(#[source] UnmountError),
    /// No tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelFault),
    /// The tunnel works and the kernel does not mount. Nothing is left behind.
    #[error(transparent)]
    Mount(Box<MountFault>),
    /// The kernel does not mount, and what it left could not be undone yet.
    #[error("{fault}; and failed to clean up after it: {left}")]
    NotUndone {
        /// Why.
        fault: Box<MountFault>,
        /// What is left.
        left: LeftBehind,
    },
    /// A fault in this program.
    #[error("staging ended unexpectedly")]
    Crashed(#[source] JoinError),
}

/// What a failed mount may have left.
#[derive(Debug, thiserror::Error)]
pub enum LeftBehind {
    /// A mount, and the tunnel that it needs.
    #[error("{}", Chain(.0.as_ref()))]
    Mount(Box<UnmountError>),
    /// A tunnel that nobody uses.
    #[error("{}", Chain(.0))]
    TunnelUser(TunnelFault),
}

impl Node {
    /// Stages a volume. Goes on to its end when the caller stops waiting.
    ///
    /// # Errors
    /// Says why the volume is not staged; see [`StageError::NotUndone`] for the one that leaves something.
    pub async fn stage(&self, request: StageRequest) -> Result<Staged, StageError> {
        let operation = self.in_flight.begin(request.volume.as_str())?;
        let node = self.clone();
        let work = async move {
            let _until_done = operation;
            node.stage_alone(&request).await
        };
        self.operations.spawn(work).await.map_err(StageError::Crashed)?
    }

    async fn stage_alone(&self, request: &StageRequest) -> Result<Staged, StageError> {
        let path = place::resolve(&request.staging_path).await.map_err(StageError::Path)?;
        let user = TunnelUser {
            volume: request.volume.clone(),
            staging_path: path.clone(),
            source: request.attributes.source(),
            options: request.attributes.options.to_string(),
        };
        let table = mounts::read(&*self.mounts)?;
        match occupant(topmost_at(&table, &path), &user)? {
            Occupant::Nobody => {}
            Occupant::ThisVolume => {
                self.tunnels.acquire(&request.attributes.tunnel, &user).await?;
                return Ok(Staged::Already);
            }
            Occupant::HalfMade => {
                let cleared = self.ensure_unmounted(&path, unmount::FAILED).await;
                cleared.map_err(StageError::HalfMade)?;
            }
        }
        directory::require(&path).await.map_err(StageError::Directory)?;
        self.stage_on_nothing(&request.attributes, &user).await
    }

    async fn stage_on_nothing(
        &self,
        attributes: &VolumeAttributes,
        user: &TunnelUser,
    ) -> Result<Staged, StageError> {
        let acquired = self.acquire_or_nothing(attributes, user).await?;
        let mount = NfsMount {
            source: user.source.clone(),
            options: attributes.options.clone(),
            endpoint: acquired.endpoint,
            client_address: acquired
                .remote
                .and_then(|remote| route::source_address_towards(remote).ok()),
            target: user.staging_path.clone(),
        };
        match self.worker.run(nfs::mount_job(&mount), deadline::MOUNT).await {
            Ok(_) => Ok(Staged::Now),
            Err(failure) => Err(self.undo(&failure, &mount, user).await),
        }
    }

    /// Acquires a tunnel for a mount that does not exist. Where the watchdog's answer is lost, the user may be
    /// on record, so it is taken off; if that is lost too, the kubelet's NodeUnstageVolume does it.
    async fn acquire_or_nothing(
        &self,
        attributes: &VolumeAttributes,
        user: &TunnelUser,
    ) -> Result<Acquired, TunnelFault> {
        let acquired = self.tunnels.acquire(&attributes.tunnel, user).await;
        if let Err(fault) = &acquired
            && fault.leaves_doubt()
            && let Err(error) = self.tunnels.release(&user.volume, &user.staging_path).await
        {
            tracing::debug!(volume.id = %user.volume, error = %Chain(&error), "release not sure");
        }
        acquired
    }

    /// Takes back what a mount that failed may have left: first the mount, then the tunnel under it.
    async fn undo(&self, failure: &Failure, mount: &NfsMount, user: &TunnelUser) -> StageError {
        let fault = Box::new(nfs::diagnose(failure, mount));
        if let Err(error) = self.ensure_unmounted(&mount.target, unmount::FAILED).await {
            return StageError::NotUndone { fault, left: LeftBehind::Mount(Box::new(error)) };
        }
        match self.tunnels.release(&user.volume, &user.staging_path).await {
            Ok(()) => StageError::Mount(fault),
            Err(error) => StageError::NotUndone { fault, left: LeftBehind::TunnelUser(error) },
        }
    }
}

enum Occupant {
    Nobody,
    ThisVolume,
    HalfMade,
}

fn occupant(top: Option<&MountEntry>, user: &TunnelUser) -> Result<Occupant, StageError> {
    let Some(top) = top else { return Ok(Occupant::Nobody) };
    let path: &Path = &user.staging_path;
    if !top.is_nfs() {
        let fs_type = top.fs_type.clone();
        return Err(StageError::TakenByAnother { path: path.to_owned(), fs_type });
    }
    if top.source != user.source {
        return Err(StageError::StagedDifferently {
            path: path.to_owned(),
            held: top.source.clone(),
            wanted: user.source.clone(),
        });
    }
    // Making it shared is the worker's last step: without it, no publication could be told.
    Ok(if top.peer_group.is_some() { Occupant::ThisVolume } else { Occupant::HalfMade })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::node::fake::Answer;
    use crate::node::fake::World;
    use crate::node::fake::entry;
    use crate::node::fake::refused;
    use crate::proto::tunnel::tunnel_failure::Kind;

    const SOURCE: &str = "nas.example.com:/a";

    struct Stage {
        home: tempfile::TempDir,
    }

    impl Stage {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            std::fs::create_dir(home.path().join("stage")).unwrap();
            Self { home }
        }

        fn path(&self) -> PathBuf {
            self.home.path().canonicalize().unwrap().join("stage")
        }

        fn request(&self) -> StageRequest {
            let attributes = [("server", "nas.example.com"), ("path", "/a")];
            let attributes: HashMap<_, _> =
                attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            StageRequest {
                volume: VolumeId::parse("vol").unwrap(),
                staging_path: self.path(),
                attributes: VolumeAttributes::parse(&attributes, &[]).unwrap(),
            }
        }

        fn entry(&self, source: &str) -> MountEntry {
            entry(1, &self.path().to_string_lossy(), source)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_is_mounted_through_a_tunnel_once_however_often_it_is_staged() {
        let (stage, world) = (Stage::new(), World::default());
        let node = world.node();
        assert_eq!(node.stage(stage.request()).await.unwrap(), Staged::Now);
        assert_eq!(node.stage(stage.request()).await.unwrap(), Staged::Already);
        assert_eq!(world.mounts().len(), 1);
        assert_eq!(world.mounts()[0].source, SOURCE);
        assert_eq!(world.users().len(), 1);
        let mount = format!("mount {SOURCE} {}", stage.path().display());
        let acquire = "acquire nas.example.com";
        assert_eq!(world.journal(), [acquire, &mount, acquire]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_behind_whichever_step_fails_and_however() {
        let worker_gone = Failure::Worker("gone".to_owned());
        for step in 0..2 {
            for answer in [
                Answer::Fail(refused()),
                Answer::Fail(worker_gone.clone()),
                Answer::FailButDo(worker_gone.clone()),
                Answer::Hang,
                Answer::HangButDo,
            ] {
                let (stage, world) = (Stage::new(), World::default());
                world.answer(step, answer.clone());
                let start = Instant::now();
                world.node().stage(stage.request()).await.unwrap_err();
                assert!(world.mounts().is_empty(), "step {step}: {answer:?}");
                assert!(world.users().is_empty(), "step {step}: {answer:?}");
                assert!(stage.path().is_dir());
                assert!(start.elapsed() < deadline::CALL);
                assert_eq!(world.node().stage(stage.request()).await.unwrap(), Staged::Now);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mount_that_cannot_be_taken_back_keeps_its_tunnel_and_says_so() {
        let (stage, world) = (Stage::new(), World::default());
        world.answer(1, Answer::HangButDo);
        world.answer(2, Answer::Hang);
        let start = Instant::now();
        let error = world.node().stage(stage.request()).await.unwrap_err();
        let StageError::NotUndone { left: LeftBehind::Mount(_), fault } = error else {
            panic!("{error}");
        };
        assert!(matches!(*fault, MountFault::NoAnswer(_, Some(deadline::MOUNT))), "{fault}");
        assert_eq!(world.users().len(), 1);
        assert!(start.elapsed() < deadline::CALL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_cannot_be_released_is_reported() {
        let (stage, world) = (Stage::new(), World::default());
        world.answer(1, Answer::Fail(refused()));
        world.answer(2, Answer::Fail(refused()));
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::NotUndone { left: LeftBehind::TunnelUser(_), .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_staged_volume_keeps_its_tunnel_when_acquiring_it_again_fails() {
        let (stage, world) = (Stage::new(), World::default());
        world.node().stage(stage.request()).await.unwrap();
        world.answer(2, Answer::Hang);
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::Tunnel(TunnelFault::NoAnswer { .. })));
        assert_eq!(world.users().len(), 1);
        assert_eq!(world.mounts().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_staged_otherwise_is_told_from_one_staged_the_same() {
        let (stage, world) = (Stage::new(), World::default());
        world.node().stage(stage.request()).await.unwrap();
        let mut other = stage.request();
        other.volume = VolumeId::parse("other").unwrap();
        let error = world.node().stage(other).await.unwrap_err();
        assert!(matches!(
            error,
            StageError::Tunnel(TunnelFault::Refused { kind: Kind::UserDiffers, .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_mounted_there_is_left_alone_and_named() {
        let stage = Stage::new();
        let world = World::default().mounted(stage.entry("other:/"));
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::StagedDifferently { .. }), "{error}");

        let tmpfs = MountEntry { fs_type: "tmpfs".to_owned(), ..stage.entry(SOURCE) };
        let world = World::default().mounted(tmpfs);
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::TakenByAnother { .. }), "{error}");
        assert!(world.journal().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mount_that_was_cut_half_way_is_made_anew() {
        let stage = Stage::new();
        let half = MountEntry { peer_group: None, ..stage.entry(SOURCE) };
        let world = World::default().mounted(half);
        assert_eq!(world.node().stage(stage.request()).await.unwrap(), Staged::Now);
        assert_eq!(world.mounts().len(), 1);
        assert!(world.mounts()[0].peer_group.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_staging_path_that_is_no_directory_costs_no_tunnel() {
        let (stage, world) = (Stage::new(), World::default());
        std::fs::remove_dir(stage.path()).unwrap();
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::Directory(DirectoryFault::Missing(_))));
        std::fs::write(stage.path(), "").unwrap();
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::Directory(DirectoryFault::NotADirectory(_))));
        assert!(world.journal().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_mount_table_nothing_is_tried() {
        let (stage, world) = (Stage::new(), World::default());
        world.hide_mounts();
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::ReadMounts(_)));
        assert!(world.journal().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn work_whose_caller_hung_up_goes_on_and_holds_the_volume_until_it_ends() {
        let (stage, world) = (Stage::new(), World::default());
        world.answer(1, Answer::HangButDo);
        let node = world.node();
        let call = node.stage(stage.request());
        tokio::time::timeout(Duration::from_secs(1), call).await.unwrap_err();
        let error = node.stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::Busy(_)));
        node.drained().await;
        assert!(world.mounts().is_empty() && world.users().is_empty());
        assert_eq!(node.stage(stage.request()).await.unwrap(), Staged::Now);
    }
}
