//! From the kernel's refusal to its meaning.
//!
//! The kernel answers with one errno, and at best a word; which of them comes when was observed with a kernel
//! client against many kinds of servers, and stands in the table of the tests. Between kernel and server is
//! our tunnel: a refused connection is one that the tunnel refused.

use rustix::io::Errno;

use super::NfsMount;
use super::fault::Attempt;
use super::fault::MountFault;
use super::fault::OPTION;
use crate::host::mount_syscalls::call;
use crate::host::worker::Failure;

/// What the failure of [`super::mount_job`] means.
#[must_use]
pub fn diagnose(failure: &Failure, mount: &NfsMount) -> MountFault {
    let attempt = Attempt::new(failure, mount);
    match failure {
        Failure::Refused { call, errno, .. } => {
            let errno = Errno::from_raw_os_error(*errno);
            match call.as_str() {
                call::OPEN_TARGET => target_fault(errno, attempt),
                call::FSOPEN => client_fault(errno, attempt),
                call::CREATE | call::MOUNT => server_fault(errno, attempt),
                call::MOVE_MOUNT | call::MOUNT_TABLE => place_fault(errno, attempt),
                call if call.starts_with(OPTION) => option_fault(errno, attempt),
                _ => privilege_fault(errno, attempt),
            }
        }
        Failure::Deadline(deadline) => MountFault::NoAnswer(attempt, Some(*deadline)),
        Failure::Worker(_) => MountFault::Other(attempt),
    }
}

fn target_fault(errno: Errno, attempt: Attempt) -> MountFault {
    match errno {
        Errno::NOENT => MountFault::TargetMissing(attempt),
        Errno::NOTDIR => MountFault::TargetNotADirectory(attempt),
        Errno::NAMETOOLONG => MountFault::NameTooLong(attempt),
        _ => MountFault::Other(attempt),
    }
}

fn client_fault(errno: Errno, attempt: Attempt) -> MountFault {
    match errno {
        Errno::NODEV => MountFault::KernelLacksNfs(attempt),
        other => privilege_fault(other, attempt),
    }
}

fn option_fault(errno: Errno, attempt: Attempt) -> MountFault {
    match errno {
        Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT if attempt.client_is_missing() => {
            MountFault::KernelLacksNfs(attempt)
        }
        Errno::NAMETOOLONG => MountFault::NameTooLong(attempt),
        Errno::INVAL => MountFault::OptionRefused(attempt),
        other => privilege_fault(other, attempt),
    }
}

/// The answers of the server, and of the way to it.
fn server_fault(errno: Errno, attempt: Attempt) -> MountFault {
    match errno {
        Errno::NOENT => MountFault::NoSuchExport(attempt),
        // NFSv3: MNT3ERR_ACCES, MNT3ERR_PERM; NFSv4: NFS4ERR_ACCESS, NFS4ERR_WRONGSEC.
        Errno::ACCESS | Errno::PERM => MountFault::ExportDenied(attempt),
        Errno::NOTDIR => MountFault::ExportNotADirectory(attempt),
        Errno::NAMETOOLONG => MountFault::NameTooLong(attempt),
        Errno::NODEV => MountFault::KernelLacksNfs(attempt),
        Errno::PROTONOSUPPORT if attempt.client_is_missing() => MountFault::KernelLacksNfs(attempt),
        Errno::PROTONOSUPPORT | Errno::OPNOTSUPP => MountFault::VersionNotServed(attempt),
        Errno::INVAL | Errno::TOOBIG => MountFault::OptionRefused(attempt),
        Errno::TIMEDOUT => MountFault::NoAnswer(attempt, None),
        Errno::BUSY => MountFault::AlreadyMounted(attempt),
        // A tunnel that accepts and closes shows as EPIPE to NFSv4 and as EIO to NFSv3.
        Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::CONNABORTED
        | Errno::NOTCONN
        | Errno::PIPE
        | Errno::IO
        | Errno::HOSTUNREACH
        | Errno::HOSTDOWN
        | Errno::NETUNREACH
        | Errno::NETDOWN => MountFault::Unreachable(attempt),
        _ => MountFault::Other(attempt),
    }
}

/// The target was opened as a directory, so where move_mount finds that the two do not match, it is the
/// server's end that is a file.
fn place_fault(errno: Errno, attempt: Attempt) -> MountFault {
    match errno {
        Errno::BUSY => MountFault::AlreadyMounted(attempt),
        Errno::NOENT => MountFault::TargetMissing(attempt),
        Errno::INVAL | Errno::NOTDIR => MountFault::ExportNotADirectory(attempt),
        other => privilege_fault(other, attempt),
    }
}

fn privilege_fault(errno: Errno, attempt: Attempt) -> MountFault {
    match errno {
        Errno::PERM => MountFault::NotPrivileged(attempt),
        _ => MountFault::Other(attempt),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::mount_with;
    use std::time::Duration;

    use super::*;
    use crate::host::errno::errno_name;

    type Variant = fn(Attempt) -> MountFault;

    fn no_answer(attempt: Attempt) -> MountFault {
        MountFault::NoAnswer(attempt, None)
    }

    /// Situation, version, call, errno, kernel's words, meaning (facts C.5 and C.7, Linux 6.12).
    const SITUATIONS: &[(&str, &str, &str, Errno, &str, Variant)] = &[
        (
            "the tunnel does not listen",
            "3",
            call::CREATE,
            Errno::CONNREFUSED,
            "",
            MountFault::Unreachable,
        ),
        (
            "the tunnel does not listen",
            "4",
            call::CREATE,
            Errno::CONNREFUSED,
            "",
            MountFault::Unreachable,
        ),
        (
            "the tunnel accepts and closes",
            "3",
            call::CREATE,
            Errno::IO,
            "",
            MountFault::Unreachable,
        ),
        (
            "the tunnel accepts and closes",
            "4",
            call::CREATE,
            Errno::PIPE,
            "",
            MountFault::Unreachable,
        ),
        ("the tunnel resets", "3", call::CREATE, Errno::CONNRESET, "", MountFault::Unreachable),
        ("no route", "3", call::CREATE, Errno::NETUNREACH, "", MountFault::Unreachable),
        ("host unreachable", "4", call::CREATE, Errno::HOSTUNREACH, "", MountFault::Unreachable),
        ("dropped", "3", call::CREATE, Errno::TIMEDOUT, "", no_answer),
        ("dropped", "4", call::CREATE, Errno::TIMEDOUT, "", no_answer),
        (
            "no such version",
            "4",
            call::CREATE,
            Errno::PROTONOSUPPORT,
            "",
            MountFault::VersionNotServed,
        ),
        (
            "no such version",
            "3",
            call::CREATE,
            Errno::PROTONOSUPPORT,
            "",
            MountFault::VersionNotServed,
        ),
        ("no such program", "3", call::CREATE, Errno::OPNOTSUPP, "", MountFault::VersionNotServed),
        ("path absent", "4", call::CREATE, Errno::NOENT, FOLLOW, MountFault::NoSuchExport),
        ("path absent in an export", "3", call::CREATE, Errno::NOENT, "", MountFault::NoSuchExport),
        ("path absent", "3", call::CREATE, Errno::ACCESS, "", MountFault::ExportDenied),
        ("not allowed", "3", call::CREATE, Errno::ACCESS, "", MountFault::ExportDenied),
        (
            "not allowed (MNT3ERR_PERM)",
            "3",
            call::CREATE,
            Errno::PERM,
            "",
            MountFault::ExportDenied,
        ),
        ("root not visible", "4", call::CREATE, Errno::ACCESS, "", MountFault::ExportDenied),
        ("sec=none refused", "4", call::CREATE, Errno::PERM, FOLLOW, MountFault::ExportDenied),
        (
            "export is a file",
            "3",
            call::MOVE_MOUNT,
            Errno::INVAL,
            "",
            MountFault::ExportNotADirectory,
        ),
        ("export is a file", "4", call::MOUNT, Errno::NOTDIR, "", MountFault::ExportNotADirectory),
        ("target missing", "3", call::OPEN_TARGET, Errno::NOENT, "", MountFault::TargetMissing),
        (
            "target a file",
            "3",
            call::OPEN_TARGET,
            Errno::NOTDIR,
            "",
            MountFault::TargetNotADirectory,
        ),
        (
            "target too long",
            "3",
            call::OPEN_TARGET,
            Errno::NAMETOOLONG,
            "",
            MountFault::NameTooLong,
        ),
        ("export too long", "3", call::CREATE, Errno::NAMETOOLONG, "", MountFault::NameTooLong),
        ("links in a circle", "3", call::OPEN_TARGET, Errno::LOOP, "", MountFault::Other),
        ("mounted before", "3", call::MOUNT_TABLE, Errno::BUSY, "", MountFault::AlreadyMounted),
        ("mounted before", "3", call::MOUNT, Errno::BUSY, "", MountFault::AlreadyMounted),
        ("no NFS", "3", call::FSOPEN, Errno::NODEV, "", MountFault::KernelLacksNfs),
        ("no NFS", "3", call::MOUNT, Errno::NODEV, "", MountFault::KernelLacksNfs),
        (
            "no nfsv4",
            "4",
            call::CREATE,
            Errno::PROTONOSUPPORT,
            UNAVAILABLE,
            MountFault::KernelLacksNfs,
        ),
        ("not root", "3", call::FSOPEN, Errno::PERM, "", MountFault::NotPrivileged),
        ("not root", "3", call::MOVE_MOUNT, Errno::PERM, "", MountFault::NotPrivileged),
        (
            "old kernel",
            "3",
            "fsconfig(rdirplus)",
            Errno::INVAL,
            UNEXPECTED,
            MountFault::OptionRefused,
        ),
        ("combination", "4", call::CREATE, Errno::INVAL, "", MountFault::OptionRefused),
        ("server fault", "3", call::CREATE, Errno::REMOTEIO, "", MountFault::Other),
        ("removed meanwhile", "3", call::CREATE, Errno::STALE, "", MountFault::Other),
        ("ports used up", "3", call::CREATE, Errno::ADDRINUSE, "", MountFault::Other),
        ("no memory", "3", call::FSMOUNT, Errno::NOMEM, "", MountFault::Other),
    ];

    const FOLLOW: &str = "NFS4: Couldn't follow remote path";
    const UNAVAILABLE: &str = "NFS: Version unavailable";
    const UNEXPECTED: &str = "nfs: Unexpected value for 'rdirplus'";

    #[test]
    fn each_situation_is_recognised_and_told_in_one_line() {
        for (situation, version, call, errno, words, variant) in SITUATIONS {
            let mount = mount_with(&format!("vers={version}"));
            let kernel = words.lines().map(ToOwned::to_owned).collect();
            let failure = Failure::refused(call, *errno, kernel);
            let fault = diagnose(&failure, &mount);
            assert_eq!(fault, variant(Attempt::new(&failure, &mount)), "{situation}");
            let line = fault.to_string();
            let name = errno_name(errno.raw_os_error());
            for part in ["\"nas.example:/a\" at \"/t\" over NFS ", call, &name] {
                assert!(line.contains(part), "{situation}: {line}");
            }
            assert!(!line.contains('\n') && !line.contains("follow remote path"), "{line}");
        }
    }

    fn told(version: &str, call: &str, errno: Errno, kernel: &str) -> String {
        let kernel = kernel.lines().map(ToOwned::to_owned).collect();
        let mount = mount_with(&format!("vers={version}"));
        diagnose(&Failure::refused(call, errno, kernel), &mount).to_string()
    }

    #[test]
    fn a_fault_says_what_to_do() {
        assert_eq!(
            told("3", call::CREATE, Errno::ACCESS, ""),
            "failed to mount \"nas.example:/a\" at \"/t\" over NFS 3: the mount target denied access; allow \
             this node's address in the permission group of the mount target, and check that the path of the \
             volume exists there (fsconfig(create): EACCES)"
        );
        assert_eq!(
            told("3", "fsconfig(rdirplus)", Errno::INVAL, UNEXPECTED),
            "failed to mount \"nas.example:/a\" at \"/t\" over NFS 3: the kernel refused the mount option \
             \"rdirplus\"; correct or remove it in the mount options (fsconfig(rdirplus): EINVAL; kernel: \
             nfs: Unexpected value for 'rdirplus')"
        );
        assert!(
            told("3", call::CREATE, Errno::CONNREFUSED, "").contains("tunnel at 127.0.1.1:12049")
        );
        assert!(told("4", call::CREATE, Errno::OPNOTSUPP, "").contains("vers=3"));
    }

    #[test]
    fn a_mount_that_was_killed_got_no_answer_and_may_be_tried_again() {
        let fault = diagnose(&Failure::Deadline(Duration::from_secs(90)), &mount_with(""));
        assert!(fault.to_string().contains("tunnel at 127.0.1.1:12049 within 90 s"), "{fault}");
        assert!(!fault.is_permanent());
        let fault = diagnose(&Failure::Worker("gone".to_owned()), &mount_with(""));
        assert!(fault.to_string().contains("the worker process failed: gone"), "{fault}");
        assert!(!fault.is_permanent());
    }

    #[test]
    fn what_only_a_change_can_mend_is_permanent() {
        let mount = mount_with("");
        for (errno, permanent) in
            [(Errno::NOENT, true), (Errno::ACCESS, true), (Errno::CONNREFUSED, false)]
        {
            let fault = diagnose(&Failure::refused(call::CREATE, errno, Vec::new()), &mount);
            assert_eq!(fault.is_permanent(), permanent, "{fault}");
        }
    }
}
