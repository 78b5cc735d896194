//! Named places at which a test ends a process, as a crash would: no guard is dropped, nothing is said.
//!
//! Always compiled in: what the tests kill is the binary that is released, and no second build is needed. While none
//! is armed, a place costs one relaxed load. The environment of a process names at most one ([`VARIABLE`]); whoever
//! may set that may kill the process anyway. A child inherits it.
//!
//! [`FailurePoint::ALL`] is the list. Each [`Part`] has a test that fails while one of its points is not passed in it.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// The variable of the environment that names the point at which a process is to end.
pub const VARIABLE: &str = "ALINAS_CSI_FAILURE_POINT";

/// One more than the index of the armed point in [`FailurePoint::ALL`]; 0 while none is. Static, because it belongs
/// to the process and not to any part of it: a value handed down to each place would cost each of them an argument.
static ARMED: AtomicUsize = AtomicUsize::new(0);

macro_rules! failure_points {
    ($($part:ident { $($(#[$doc:meta])* $name:ident = $word:literal,)* })*) => {
        /// A place between two steps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FailurePoint {
            $($($(#[$doc])* $name,)*)*
        }

        impl FailurePoint {
            /// Every point.
            pub const ALL: &[Self] = &[$($(Self::$name),*),*];

            /// Its name in the environment.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $($(Self::$name => $word,)*)*
                }
            }

            /// What passes it.
            #[must_use]
            pub const fn part(self) -> Part {
                match self {
                    $($(Self::$name)|* => Part::$part,)*
                }
            }
        }
    };
}

/// What passes a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The node plugin and its workers: `e2e/tests/root_survival.rs`.
    Node,
    /// The watchdog: `e2e/tests/wire_failure_points.rs`.
    Watchdog,
    /// The controller, on an export: `e2e/tests/host_failure_points.rs`.
    Export,
    /// The controller, with the API of NAS: `e2e/tests/host_cloud_points.rs`.
    Cloud,
}

failure_points! {
    Node {
        /// NodeStageVolume: there is a tunnel, and no mount.
        StageAcquired = "stage.acquired",
        /// NodeStageVolume: the volume is mounted, and nobody has been told.
        StageMounted = "stage.mounted",
        /// NodeStageVolume of a volume that cannot be mounted: what it left is unmounted, and the tunnel is still held.
        StageUndone = "stage.undone",
        /// NodeStageVolume of plain NFS: the options are on record, and there is no mount.
        StageRemembered = "stage.remembered",
        /// NodeUnstageVolume: the volume is unmounted, and the tunnel is still held.
        UnstageUnmounted = "unstage.unmounted",
        /// NodeUnstageVolume: the record of its options is gone, too.
        UnstageForgotten = "unstage.forgotten",
        /// NodeUnstageVolume: the tunnel is released, and nobody has been told.
        UnstageReleased = "unstage.released",
        /// NodePublishVolume: there is a directory, and nothing bound to it.
        PublishDirectory = "publish.directory",
        /// NodePublishVolume: the volume is bound, and nobody has been told.
        PublishBound = "publish.bound",
        /// NodeUnpublishVolume: the volume is unmounted, and the directory is there.
        UnpublishUnmounted = "unpublish.unmounted",
        /// NodeUnpublishVolume: the directory is gone, and nobody has been told.
        UnpublishRemoved = "unpublish.removed",
        /// The worker: an NFS mount is in its place, and not shared yet.
        WorkerPlaced = "worker.placed",
        /// The worker: a directory is bound, and not yet read-only.
        WorkerBound = "worker.bound",
    }
    Watchdog {
        /// A file of the state directory is written whole, and not in its place.
        StateUnfinished = "state.unfinished",
        /// Acquire: the user is on record, and the tunnel is not open.
        AcquireRecorded = "acquire.recorded",
        /// Acquire: the tunnel is open, and nobody knows whether it leads anywhere.
        AcquireOpened = "acquire.opened",
        /// Acquire: the mount target has answered, and nobody has been told.
        AcquireProbed = "acquire.probed",
        /// Acquire of a tunnel that leads nowhere: the user is off the record, and the tunnel is open.
        AcquireUndone = "acquire.undone",
        /// Release: the user is off the record, and nobody has been told.
        ReleaseRecorded = "release.recorded",
        /// The tunnel process has closed a tunnel, and its record is there.
        CloseClosed = "close.closed",
        /// The record of a closed tunnel is gone, and the watchdog holds its socket.
        CloseForgotten = "close.forgotten",
        /// The watchdog has the sockets of an earlier tunnel process, and no process of its own.
        HandOverReceived = "hand-over.received",
        /// The watchdog has started a tunnel process, which does not serve yet.
        ProcessStarted = "process.started",
        /// The watchdog has started a process that is to take the place of the one that serves.
        UpgradeStarted = "upgrade.started",
        /// The next tunnel process serves, and the former one has not been told to end.
        UpgradeServed = "upgrade.served",
    }
    Export {
        /// The controller has made the file of a record, and nothing is in it.
        RecordBegun = "record.begun",
        /// The controller has written a volume's next record, and the former one is in force.
        RecordAside = "record.aside",
        /// The next record is in force, and nobody has been told.
        RecordReplaced = "record.replaced",
        /// CreateVolume: the volume is on record, and there is no directory.
        CreateRecorded = "create.recorded",
        /// CreateVolume: there is a directory, and it has not its owner.
        CreateMade = "create.made",
        /// CreateVolume: the volume is there, and nobody has been told.
        CreateOwned = "create.owned",
        /// DeleteVolume: the directory is where it is to go, and the record is there.
        DeleteMoved = "delete.moved",
        /// DeleteVolume: the record is gone, and nobody has been told.
        DeleteForgotten = "delete.forgotten",
        /// The trash: a directory has come out of another one.
        SweepLifted = "sweep.lifted",
        /// The trash: something is removed.
        SweepRemoved = "sweep.removed",
        /// A copy: there is a place to work in, and nothing is copied.
        CopyBegun = "copy.begun",
        /// A copy: a directory is made, and nothing is in it.
        CopyDirectory = "copy.directory",
        /// A copy: a file is whole, and not in its place.
        CopyPart = "copy.part",
        /// A copy: a file with several names is kept for the other ones, and not in its place.
        CopyKept = "copy.kept",
        /// A copy: something is in its place.
        CopyPlaced = "copy.placed",
        /// A copy is whole, and hidden.
        CopyWhole = "copy.whole",
        /// A copy is where it is to be, and the place that it was made in is there.
        CopyShown = "copy.shown",
        /// CreateSnapshot: there is a directory, and no record.
        SnapshotMade = "snapshot.made",
        /// CreateSnapshot: the snapshot is on record, and nothing is copied.
        SnapshotRecorded = "snapshot.recorded",
        /// DeleteSnapshot: it is in the trash, and nobody has been told.
        SnapshotMoved = "snapshot.moved",
    }
    Cloud {
        /// CreateVolume of a file system: the API has made it, and nothing more.
        FileSystemMade = "file-system.made",
        /// CreateVolume of a file system: it has been given a mount target, which is not active yet.
        FileSystemTarget = "file-system.target",
        /// CreateVolume of a file system: its root has its owner, and nobody has been told.
        FileSystemOwned = "file-system.owned",
        /// ControllerExpandVolume of a file system: the size is noted, and nobody has been told.
        FileSystemNoted = "file-system.noted",
        /// DeleteVolume of a file system: no mount target leads to it, and it is there.
        FileSystemClosed = "file-system.closed",
        /// DeleteVolume of a file system: it is gone, and nobody has been told.
        FileSystemRemoved = "file-system.removed",
        /// DeleteVolume of a file system that stays: it is marked, and nobody has been told.
        FileSystemReleased = "file-system.released",
        /// CreateVolume of an access point: the API has made it, and it is not active yet.
        AccessPointMade = "access-point.made",
        /// CreateVolume of an access point: it is active, and nothing bounds its directory.
        AccessPointActive = "access-point.active",
        /// DeleteVolume of an access point: nothing bounds its directory any more, and it is there.
        AccessPointUnbound = "access-point.unbound",
        /// DeleteVolume of an access point: it is gone, and nobody has been told.
        AccessPointRemoved = "access-point.removed",
        /// A quota has been asked for, and is not seen yet.
        QuotaSet = "quota.set",
        /// A quota has been taken away, and what it bounded is there.
        QuotaCancelled = "quota.cancelled",
    }
}

/// No point has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE} is {0:?}, and there is no such point; leave it unset")]
pub struct UnknownPoint(String);

impl FailurePoint {
    /// Every point of a part.
    pub fn of(part: Part) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |point| point.part() == part)
    }

    /// Arms the point that the environment names, if it names one. An empty value names none.
    ///
    /// # Errors
    /// Where no point has that name.
    pub fn arm(
        look_up: impl FnOnce(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, UnknownPoint> {
        let Some(word) = look_up(VARIABLE).filter(|word| !word.is_empty()) else { return Ok(None) };
        let Some(index) = Self::ALL.iter().position(|point| point.word() == word) else {
            return Err(UnknownPoint(word));
        };
        ARMED.store(index + 1, Ordering::Relaxed);
        Ok(Some(Self::ALL[index]))
    }

    /// Ends the process here, if it is to end here.
    #[inline]
    pub fn pass(self) {
        // Armed once, before any thread is started that could pass here; so no order is needed.
        if ARMED.load(Ordering::Relaxed) == self as usize + 1 {
            self.end();
        }
    }

    #[cold]
    #[expect(
        clippy::disallowed_methods,
        reason = "it is a crash that is wanted: no guard may be dropped"
    )]
    fn end(self) -> ! {
        tracing::error!(point = %self, "ending at a failure point");
        std::process::abort()
    }
}

impl fmt::Display for FailurePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_point_has_a_name_of_its_own_and_stands_at_its_index() {
        let words: BTreeSet<_> = FailurePoint::ALL.iter().map(|point| point.word()).collect();
        assert_eq!(words.len(), FailurePoint::ALL.len());
        for (index, point) in FailurePoint::ALL.iter().enumerate() {
            assert_eq!(*point as usize, index);
        }
    }

    #[test]
    fn nothing_is_armed_unless_a_point_is_named_and_a_wrong_name_is_refused() {
        for empty in [None, Some(String::new())] {
            assert_eq!(FailurePoint::arm(|_| empty), Ok(None));
        }
        let refusal = FailurePoint::arm(|_| Some("stage.begun".to_owned())).unwrap_err();
        assert!(refusal.to_string().contains("ALINAS_CSI_FAILURE_POINT is \"stage.begun\""));
        FailurePoint::ALL.iter().for_each(|point| point.pass());
    }
}
