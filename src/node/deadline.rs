//! How long each step may take. The numbers depend on each other, so the compiler compares them.

use std::time::Duration;

/// The kubelet gives every CSI call two minutes (`csiTimeout`); we end well before, with an answer.
pub const CALL: Duration = Duration::from_secs(100);

/// The watchdog opens a tunnel and has the mount target answer through it.
pub const ACQUIRE: Duration = Duration::from_secs(30);
/// The watchdog writes a record.
pub const RELEASE: Duration = Duration::from_secs(5);
/// The watchdog says that it lives. A probe of the kubelet's waits for 5 s.
pub const PROBE: Duration = Duration::from_secs(1);

/// The tunnel was proven just before, so a mount that takes this long will not succeed.
pub const MOUNT: Duration = Duration::from_secs(45);
/// A mount without a tunnel has the time of both.
pub const PLAIN_MOUNT: Duration = Duration::from_secs(75);
/// Binding asks no server.
pub const BIND: Duration = Duration::from_secs(15);
/// statfs(2) asks the server once.
pub const STATFS: Duration = Duration::from_secs(10);

/// umount2(2) that waits for the server.
pub const UNMOUNT_PLAIN: Duration = Duration::from_secs(20);
/// umount2(2) with MNT_FORCE.
pub const UNMOUNT_FORCED: Duration = Duration::from_secs(10);
/// umount2(2) with MNT_DETACH.
pub const UNMOUNT_LAZY: Duration = Duration::from_secs(10);
/// All that is stacked at one path.
pub const UNMOUNT_ALL: Duration = Duration::from_secs(90);

const _: () = assert!(
    ACQUIRE.as_secs() + MOUNT.as_secs() + UNMOUNT_LAZY.as_secs() + RELEASE.as_secs()
        < CALL.as_secs(),
    "NodeStageVolume could not undo a failed mount before the kubelet gives up"
);
const _: () = assert!(
    PLAIN_MOUNT.as_secs() + UNMOUNT_LAZY.as_secs() < CALL.as_secs(),
    "NodeStageVolume could not undo a failed plain mount before the kubelet gives up"
);
const _: () = assert!(
    UNMOUNT_ALL.as_secs() + RELEASE.as_secs() < CALL.as_secs(),
    "NodeUnstageVolume could not answer before the kubelet gives up"
);
const _: () = assert!(
    UNMOUNT_PLAIN.as_secs() + UNMOUNT_FORCED.as_secs() + UNMOUNT_LAZY.as_secs()
        < UNMOUNT_ALL.as_secs(),
    "one mount could use up the time of all that are stacked"
);
