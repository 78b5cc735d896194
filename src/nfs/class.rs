//! What a failure means for what is tried next: the one table from errno to what may help.
//!
//! After nfs-utils (utils/mount/stropts.c: `nfs_is_permanent_error`, `nfs_autonegotiate`), with two differences:
//! a network that is not up yet passes (ENETUNREACH, EPIPE, a slow EIO), and what we do not know is tried again
//! a few times before it is called permanent.

use std::time::Duration;

use rustix::io::Errno;

use super::probe::RpcFault;

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// The next address of the same name.
    pub(super) elsewhere: bool,
    /// Another version.
    pub(super) version: Fallback,
    /// What it is when neither does.
    pub(super) finally: Finally,
}

/// Which version may help, where the user left it open; the last leaves most to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fallback {
    /// None.
    None,
    /// 3 at once; and where the server turns out to be up after all, the highest again.
    ThreeAndBack,
    /// 3 at once: the minor versions do not differ in this.
    Three,
    /// The next lower one.
    Lower,
}

/// Whether time may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finally {
    /// Only somebody who changes something.
    Permanent,
    /// It may, any number of times.
    Temporary,
    /// It may, but [`IN_A_ROW`] times in a row it is permanent.
    Doubtful,
}

/// How often in a row a [`Finally::Doubtful`] failure is believed to pass (nfs-utils: 3).
pub(super) const IN_A_ROW: u32 = 3;

/// An EIO that took at least this long stands for RPCs without an answer; the kernel does not say so otherwise.
const SILENCE: Duration = Duration::from_secs(1);

const HERE: bool = false;
const ELSEWHERE: bool = true;

/// Every errno that a mount is known to end with (mount(2), and fs/nfs of Linux 6.12).
pub(super) const CLASSES: &[(Errno, bool, Fallback, Finally)] = &[
    (Errno::ACCESS, ELSEWHERE, Fallback::Lower, Finally::Permanent),
    (Errno::ADDRINUSE, HERE, Fallback::None, Finally::Temporary),
    (Errno::ADDRNOTAVAIL, HERE, Fallback::None, Finally::Temporary),
    (Errno::AGAIN, HERE, Fallback::None, Finally::Temporary),
    (Errno::BUSY, HERE, Fallback::None, Finally::Permanent),
    (Errno::CONNABORTED, ELSEWHERE, Fallback::None, Finally::Temporary),
    (Errno::CONNREFUSED, ELSEWHERE, Fallback::ThreeAndBack, Finally::Temporary),
    (Errno::CONNRESET, ELSEWHERE, Fallback::None, Finally::Temporary),
    (Errno::FAULT, HERE, Fallback::None, Finally::Permanent),
    (Errno::HOSTDOWN, ELSEWHERE, Fallback::None, Finally::Temporary),
    (Errno::HOSTUNREACH, ELSEWHERE, Fallback::None, Finally::Temporary),
    // A kernel without the minor version says so too.
    (Errno::INVAL, HERE, Fallback::Lower, Finally::Permanent),
    (Errno::IO, HERE, Fallback::None, Finally::Permanent),
    (Errno::LOOP, HERE, Fallback::None, Finally::Permanent),
    (Errno::MFILE, HERE, Fallback::None, Finally::Temporary),
    (Errno::NAMETOOLONG, HERE, Fallback::None, Finally::Permanent),
    (Errno::NETDOWN, ELSEWHERE, Fallback::None, Finally::Temporary),
    (Errno::NETUNREACH, ELSEWHERE, Fallback::None, Finally::Temporary),
    (Errno::NFILE, HERE, Fallback::None, Finally::Temporary),
    (Errno::NODEV, HERE, Fallback::None, Finally::Permanent),
    // An NFSv4 server without a pseudo root.
    (Errno::NOENT, HERE, Fallback::Three, Finally::Permanent),
    (Errno::NOMEM, HERE, Fallback::None, Finally::Temporary),
    (Errno::NOTBLK, HERE, Fallback::None, Finally::Permanent),
    (Errno::NOTCONN, ELSEWHERE, Fallback::None, Finally::Temporary),
    (Errno::NOTDIR, HERE, Fallback::None, Finally::Permanent),
    (Errno::NXIO, HERE, Fallback::None, Finally::Permanent),
    (Errno::OPNOTSUPP, ELSEWHERE, Fallback::Three, Finally::Doubtful),
    (Errno::PERM, HERE, Fallback::Three, Finally::Permanent),
    (Errno::PIPE, ELSEWHERE, Fallback::None, Finally::Temporary),
    (Errno::PROTO, HERE, Fallback::None, Finally::Permanent),
    (Errno::PROTONOSUPPORT, HERE, Fallback::Lower, Finally::Permanent),
    (Errno::REMOTEIO, HERE, Fallback::None, Finally::Doubtful),
    (Errno::SRCH, HERE, Fallback::None, Finally::Permanent),
    (Errno::STALE, HERE, Fallback::None, Finally::Doubtful),
    (Errno::TIMEDOUT, ELSEWHERE, Fallback::None, Finally::Temporary),
    (Errno::TOOBIG, HERE, Fallback::None, Finally::Permanent),
];

impl Class {
    /// Nothing helps.
    pub(super) const PERMANENT: Self =
        Self { elsewhere: HERE, version: Fallback::None, finally: Finally::Permanent };
    /// Time helps.
    pub(super) const TEMPORARY: Self =
        Self { elsewhere: HERE, version: Fallback::None, finally: Finally::Temporary };
    /// Time may help.
    pub(super) const DOUBTFUL: Self =
        Self { elsewhere: HERE, version: Fallback::None, finally: Finally::Doubtful };

    /// What the server's answer to a mount means, and the network's on the way to it.
    pub(super) fn of_server(errno: Errno, took: Duration) -> Self {
        match errno {
            Errno::IO if took >= SILENCE => Self::of(Errno::TIMEDOUT),
            other => Self::of(other),
        }
    }

    /// What a refusal that no server had a part in means.
    pub(super) fn of_this_host(errno: Errno) -> Self {
        Self { elsewhere: HERE, version: Fallback::None, ..Self::of(errno) }
    }

    /// What a failed call of ours means (nfs-utils maps them to errnos too: `nfs_probe_statd`, `mount_error`).
    pub(super) fn of_call(fault: &RpcFault) -> Self {
        match fault {
            RpcFault::Refused => Self::of(Errno::CONNREFUSED),
            RpcFault::NoAnswer(_) => Self::of(Errno::TIMEDOUT),
            RpcFault::Unreachable(_) => Self::of(Errno::HOSTUNREACH),
            RpcFault::NotRegistered | RpcFault::NoSuchProgram => Self::of(Errno::OPNOTSUPP),
            // A NULL call has no minor version: what it says, it says of all of them.
            RpcFault::NoSuchVersion { .. } => {
                Self { version: Fallback::Three, ..Self::of(Errno::PROTONOSUPPORT) }
            }
            RpcFault::Denied => Self::of(Errno::ACCESS),
            RpcFault::Closed | RpcFault::Garbage(_) => Self::of(Errno::CONNRESET),
        }
    }

    fn of(errno: Errno) -> Self {
        CLASSES.iter().find(|(known, ..)| *known == errno).map_or(
            Self::DOUBTFUL,
            |(_, elsewhere, version, finally)| Self {
                elsewhere: *elsewhere,
                version: *version,
                finally: *finally,
            },
        )
    }
}
