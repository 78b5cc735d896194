//! Unstages a volume: unmounts the staging path, then ends its use of the tunnel. Never the other way round.
//!
//! What is still tried in the background ends first. Nothing tells a volume of plain NFS from one with a tunnel
//! here, and the watchdog takes no offence at a release of what it does not know.
//!
//! An NFSv3 server is told of it (UMNT), but not waited for.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;

use crate::host::mount_table::topmost_at;
use crate::model::VolumeId;
use crate::nfs::farewell;
use crate::nfs::farewell::Farewell;
use crate::node::Node;
use crate::node::mounts;
use crate::node::place;
use crate::node::place::PathFault;
use crate::node::tunnels::TunnelFault;
use crate::node::unmount;
use crate::node::unmount::UnmountError;
use crate::node::unmount::Unmounted;
use crate::runtime::FailurePoint;
use crate::runtime::in_flight::Busy;
use crate::runtime::request::carried;

/// A question to rpcbind, where there is one, and UMNT.
const FAREWELL: Duration = Duration::from_secs(2 * farewell::LIMIT.as_secs());

/// A volume to unstage.
#[derive(Clone, Debug)]
pub struct UnstageRequest {
    /// The volume.
    pub volume: VolumeId,
    /// Where it was staged.
    pub staging_path: PathBuf,
}

/// Why a volume is still staged, or its tunnel still in use.
#[derive(Debug, thiserror::Error)]
pub enum UnstageError {
    /// Another operation on the volume is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The staging path cannot be worked on.
    #[error("staging path: {0}")]
    Path(#[source] PathFault),
    /// It is still mounted.
    #[error(transparent)]
    Unmount(#[from] UnmountError),
    /// It is unmounted, and the watchdog did not take note.
    #[error("unmounted, but failed to release the tunnel")]
    Release(#[source] TunnelFault),
    /// A fault in this program.
    #[error("unstaging ended unexpectedly")]
    Crashed(#[source] JoinError),
}

impl Node {
    /// Unstages a volume; one that is not staged is success. Goes on to its end when the caller stops waiting.
    ///
    /// # Errors
    /// Says what is left.
    pub async fn unstage(&self, request: UnstageRequest) -> Result<(), UnstageError> {
        let operation = self.in_flight.begin(request.volume.as_str())?;
        let node = self.clone();
        let work = async move {
            let _until_done = operation;
            let path = place::resolve(&request.staging_path).await.map_err(UnstageError::Path)?;
            node.background.end(&request.volume, &path).await;
            let farewell = node.farewell_to(&path);
            if node.ensure_unmounted(&path, unmount::STAGED).await? == Unmounted::Now {
                node.say(farewell);
            }
            FailurePoint::UnstageUnmounted.pass();
            if let Err(error) = node.records.remove(&path).await {
                // The next stage at this path writes over it.
                tracing::debug!(volume.id = %request.volume, %error, "a record stays behind");
            }
            FailurePoint::UnstageForgotten.pass();
            node.tunnels.release(&request.volume, &path).await.map_err(UnstageError::Release)?;
            FailurePoint::UnstageReleased.pass();
            Ok(())
        };
        self.operations.spawn(carried(work)).await.map_err(UnstageError::Crashed)?
    }

    /// Read off the mount before it is gone.
    fn farewell_to(&self, path: &Path) -> Option<Farewell> {
        let table = mounts::read(&*self.mounts).ok()?;
        Farewell::of(topmost_at(&table, path)?, &table, "")
    }

    /// Good manners: the kubelet has its answer whatever the server does.
    fn say(&self, farewell: Option<Farewell>) {
        if let Some(farewell) = farewell {
            let mountd = Arc::clone(&self.mountd);
            self.operations.spawn(carried(async move {
                let _ = tokio::time::timeout(FAREWELL, farewell.say(&*mountd)).await;
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::fake::Answer;
    use crate::node::fake::World;
    use crate::node::fake::entry;
    use crate::node::fake::refused;

    fn request() -> UnstageRequest {
        UnstageRequest {
            volume: VolumeId::parse("vol").unwrap(),
            staging_path: PathBuf::from("/nowhere/stage"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_mount_goes_before_the_tunnel_and_both_may_be_repeated() {
        let world = World::default().mounted(entry(1, "/nowhere/stage", "nas:/"));
        world.node().unstage(request()).await.unwrap();
        world.node().unstage(request()).await.unwrap();
        assert_eq!(world.journal(), ["unmount Plain /nowhere/stage", "release", "release"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_3_server_is_told_and_not_waited_for() {
        let told = |world: &World| world.mountd().told.lock().unwrap().len();
        for (options, tells) in [
            ("vers=3,addr=192.0.2.7,mountaddr=192.0.2.7,mountport=20048,mountproto=tcp", 1),
            ("vers=3,addr=127.0.1.1,mountaddr=127.0.1.1", 0),
            ("vers=4.2,addr=192.0.2.7", 0),
        ] {
            let mut mount = entry(1, "/nowhere/stage", "nas:/a");
            mount.super_options = options.split(',').map(str::to_owned).collect();
            let world = World::default().mounted(mount);
            world.silence_mountd();
            let node = world.node();
            let began = tokio::time::Instant::now();
            node.unstage(request()).await.unwrap();
            assert_eq!(began.elapsed(), Duration::ZERO, "{options}");
            node.unstage(request()).await.unwrap();
            node.drained().await;
            assert_eq!(told(&world), tells, "{options}");
            assert!(began.elapsed() <= FAREWELL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_tunnel_stays_while_the_mount_does() {
        let world = World::default().mounted(entry(1, "/nowhere/stage", "nas:/"));
        (0..3).for_each(|step| world.answer(step, Answer::Fail(refused())));
        let error = world.node().unstage(request()).await.unwrap_err();
        assert!(matches!(error, UnstageError::Unmount(UnmountError::Failed { .. })));
        assert!(!world.journal().contains(&"release".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_that_is_lost_is_an_error_so_that_it_is_repeated() {
        let world = World::default();
        world.answer(0, Answer::Hang);
        let error = world.node().unstage(request()).await.unwrap_err();
        assert!(matches!(error, UnstageError::Release(_)));
    }
}
