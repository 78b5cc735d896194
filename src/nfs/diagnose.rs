//! From a refusal to its meaning.
//!
//! The kernel answers with one errno, and at best a word; which of them comes when was observed with a kernel
//! client against many kinds of servers, and stands in the golden file. Where a tunnel stands between kernel
//! and server, a refused connection is one that the tunnel refused.

use std::time::Duration;

use rustix::io::Errno;

use super::cause::Cause;
use super::class::Class;
use super::class::Fallback;
use super::fault::Event;
use super::probe::Peer;
use super::probe::RpcFault;
use super::probe::Service;
use crate::host::daemon::Daemon;
use crate::host::errno::errno_name;
use crate::host::mount_syscalls::call;
use crate::host::worker::Failure;
use crate::model::NfsVersion;
use crate::model::nfs_option::Transport;

/// What was tried when it failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// The version.
    pub(super) version: NfsVersion,
    /// The transport.
    pub(super) transport: Transport,
    /// Whether a tunnel stands between.
    pub(super) through_tunnel: bool,
    /// How long it took.
    pub(super) took: Duration,
}

/// What a failure means, and what may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) cause: Cause,
    pub(super) class: Class,
    pub(super) event: Event,
}

impl Diagnosis {
    pub(super) fn new(cause: Cause, class: Class, outcome: impl Into<String>) -> Self {
        let event = Event { outcome: outcome.into(), ..Event::default() };
        Self { cause, class, event }
    }

    /// What the failure of [`crate::host::worker::Job::MountNfs`] means.
    pub(super) fn of_mount(failure: &Failure, tried: Tried) -> Self {
        let (cause, class) = match failure {
            Failure::Refused { call, errno, kernel, .. } => {
                refusal(call, Errno::from_raw_os_error(*errno), kernel, tried)
            }
            Failure::Deadline(deadline) => (
                Cause::NoAnswer(Peer::Nfs, Some(*deadline)),
                Class::of_server(Errno::TIMEDOUT, *deadline),
            ),
            Failure::Worker(_) => (Cause::WorkerFailed, Class::DOUBTFUL),
        };
        let event = Event { version: Some(tried.version), ..event_of(failure) };
        Self { cause, class, event }
    }

    /// What the failure of [`crate::host::worker::Job::CheckTarget`] means.
    pub(super) fn of_target(failure: &Failure) -> Self {
        let (cause, class) = match failure {
            Failure::Refused { errno, .. } => {
                let errno = Errno::from_raw_os_error(*errno);
                (target_cause(errno), Class::of_this_host(errno))
            }
            Failure::Deadline(_) => (Cause::TargetNoAnswer, Class::TEMPORARY),
            Failure::Worker(_) => (Cause::WorkerFailed, Class::DOUBTFUL),
        };
        Self { cause, class, event: event_of(failure) }
    }

    /// What a failed question to rpcbind means; `asked` is its text.
    pub(super) fn of_rpcbind(
        fault: &RpcFault,
        service: Service,
        transport: Transport,
        asked: &str,
    ) -> Self {
        let cause = match fault {
            RpcFault::NotRegistered => Cause::NotRegistered(service, transport),
            other => call_cause(other, Peer::Rpcbind),
        };
        Self::new(cause, Class::of_call(fault), format!("{asked}: {fault}"))
    }

    /// What a failed NULL call means; `asked` is its text.
    pub(super) fn of_ping(fault: &RpcFault, service: Service, asked: &str) -> Self {
        let cause = match (fault, service) {
            (RpcFault::NoSuchVersion { .. }, Service::Nfs(_)) => Cause::VersionNotServed,
            (RpcFault::NoSuchVersion { .. }, Service::Mount(version)) => {
                Cause::MountdVersion(version)
            }
            _ => call_cause(fault, service.peer()),
        };
        Self::new(cause, Class::of_call(fault), format!("{asked}: {fault}"))
    }
}

fn event_of(failure: &Failure) -> Event {
    let (outcome, kernel) = match failure {
        Failure::Refused { call, errno, kernel, .. } => {
            (format!("{call}: {}", errno_name(*errno)), kernel.clone())
        }
        Failure::Deadline(after) => (format!("killed after {} s", after.as_secs()), Vec::new()),
        other => (other.to_string(), Vec::new()),
    };
    Event { outcome, kernel, ..Event::default() }
}

fn call_cause(fault: &RpcFault, peer: Peer) -> Cause {
    match fault {
        RpcFault::Refused => Cause::Refused(peer),
        RpcFault::NoAnswer(after) => Cause::NoAnswer(peer, Some(*after)),
        RpcFault::Unreachable(_) => Cause::Unreachable,
        RpcFault::Closed => Cause::ConnectionLost(peer),
        RpcFault::Garbage(_) | RpcFault::NoSuchProgram | RpcFault::NotRegistered => {
            Cause::OtherProtocol(peer)
        }
        RpcFault::NoSuchVersion { .. } => Cause::VersionNotServed,
        RpcFault::Denied => Cause::ExportDenied,
    }
}

fn refusal(name: &str, errno: Errno, kernel: &[String], tried: Tried) -> (Cause, Class) {
    let option = name.strip_prefix("fsconfig(").and_then(|rest| rest.strip_suffix(')'));
    match name {
        call::CREATE | call::MOUNT => {
            let cause = server_cause(errno, kernel, tried);
            (cause, server_class(errno, tried))
        }
        call::OPEN_TARGET => (target_cause(errno), Class::of_this_host(errno)),
        call::FSOPEN => (client_cause(errno), Class::of_this_host(errno)),
        call::MOVE_MOUNT | call::MOUNT_TABLE => (place_cause(errno), Class::of_this_host(errno)),
        _ => match option {
            Some(option) => option_refusal(option, errno, kernel, tried),
            None => (privilege_cause(errno), Class::of_this_host(errno)),
        },
    }
}

fn target_cause(errno: Errno) -> Cause {
    match errno {
        Errno::NOENT => Cause::TargetMissing,
        Errno::NOTDIR => Cause::TargetNotADirectory,
        Errno::LOOP => Cause::TargetLoops,
        Errno::NAMETOOLONG => Cause::NameTooLong,
        Errno::ACCESS => Cause::NotPrivileged,
        other => privilege_cause(other),
    }
}

fn client_cause(errno: Errno) -> Cause {
    match errno {
        Errno::NODEV => Cause::KernelLacksNfs,
        other => privilege_cause(other),
    }
}

/// A kernel that does not know the version takes a lower one; what else it does not take, it never does.
fn option_refusal(option: &str, errno: Errno, kernel: &[String], tried: Tried) -> (Cause, Class) {
    let lower = Class { version: Fallback::Lower, ..Class::PERMANENT };
    match errno {
        Errno::NAMETOOLONG => (Cause::NameTooLong, Class::PERMANENT),
        Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT => {
            if option == "vers" || client_is_missing(kernel) {
                (Cause::KernelLacksNfs, lower)
            } else if transport_is_missing(kernel) {
                (Cause::TransportNotInKernel(tried.transport), Class::PERMANENT)
            } else {
                (Cause::OptionRefused(Some(option.to_owned())), Class::PERMANENT)
            }
        }
        other => (privilege_cause(other), Class::of_this_host(other)),
    }
}

/// The answers of the server, and of the way to it.
fn server_cause(errno: Errno, kernel: &[String], tried: Tried) -> Cause {
    match errno {
        Errno::NOENT => Cause::NoSuchExport,
        // NFSv3: MNT3ERR_ACCES, MNT3ERR_PERM, which also stand for a directory in no export.
        Errno::ACCESS | Errno::PERM if !tried.version.is_4() => Cause::ExportDeniedOrMissing,
        Errno::ACCESS => Cause::ExportDenied,
        // NFS4ERR_WRONGSEC.
        Errno::PERM => Cause::SecurityRefused,
        Errno::NOTDIR => Cause::ExportNotADirectory,
        Errno::NAMETOOLONG => Cause::NameTooLong,
        Errno::NODEV => Cause::KernelLacksNfs,
        Errno::PROTONOSUPPORT | Errno::INVAL if client_is_missing(kernel) => Cause::KernelLacksNfs,
        Errno::INVAL if transport_is_missing(kernel) => {
            Cause::TransportNotInKernel(tried.transport)
        }
        Errno::PROTONOSUPPORT | Errno::OPNOTSUPP => Cause::VersionNotServed,
        Errno::INVAL => Cause::OptionRefused(None),
        Errno::TOOBIG => Cause::OptionsTooLong,
        Errno::PROTO if tried.transport == Transport::Rdma => Cause::NoRdmaDevice,
        Errno::SRCH => Cause::DaemonMissing(Daemon::Tlshd, NO_AGENT.to_owned()),
        Errno::STALE => Cause::ExportStale,
        Errno::BUSY => Cause::AlreadyMounted,
        other => way_cause(other, tried),
    }
}

/// Linux 6.12, net/handshake: `handshake_req_submit` finds nobody who listens.
const NO_AGENT: &str = "the kernel found nobody to do the TLS handshake";

fn way_cause(errno: Errno, tried: Tried) -> Cause {
    match errno {
        Errno::TIMEDOUT => Cause::NoAnswer(Peer::Nfs, None),
        Errno::CONNREFUSED => Cause::Refused(Peer::Nfs),
        Errno::CONNRESET | Errno::CONNABORTED | Errno::NOTCONN | Errno::PIPE => {
            Cause::ConnectionLost(Peer::Nfs)
        }
        // A tunnel that accepts and closes shows as EPIPE to NFSv4 and as EIO to NFSv3.
        Errno::IO if tried.through_tunnel => Cause::ConnectionLost(Peer::Nfs),
        Errno::IO if is_temporary(errno, tried) => Cause::NoAnswer(Peer::Nfs, None),
        Errno::IO | Errno::REMOTEIO => Cause::ServerFailed,
        Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NETUNREACH | Errno::NETDOWN => {
            Cause::Unreachable
        }
        other => privilege_cause(other),
    }
}

fn server_class(errno: Errno, tried: Tried) -> Class {
    match errno {
        Errno::IO if tried.through_tunnel => Class::TEMPORARY,
        // Of NFSv4 it is what the program lacks, wherever the server is.
        Errno::OPNOTSUPP if tried.version.is_4() => {
            Class { elsewhere: false, ..Class::of_server(errno, tried.took) }
        }
        other => Class::of_server(other, tried.took),
    }
}

fn is_temporary(errno: Errno, tried: Tried) -> bool {
    server_class(errno, tried).finally == Class::TEMPORARY.finally
}

/// The target was opened as a directory, so where move_mount finds that the two do not match, it is the
/// server's end that is a file.
fn place_cause(errno: Errno) -> Cause {
    match errno {
        Errno::BUSY => Cause::AlreadyMounted,
        Errno::NOENT => Cause::TargetMissing,
        Errno::INVAL | Errno::NOTDIR => Cause::ExportNotADirectory,
        other => privilege_cause(other),
    }
}

fn privilege_cause(errno: Errno) -> Cause {
    match errno {
        Errno::PERM => Cause::NotPrivileged,
        Errno::NOMEM
        | Errno::MFILE
        | Errno::NFILE
        | Errno::AGAIN
        | Errno::ADDRINUSE
        | Errno::ADDRNOTAVAIL => Cause::NoResources,
        Errno::FAULT | Errno::NOTBLK | Errno::NXIO => Cause::Internal,
        _ => Cause::Other,
    }
}

/// The kernel's way to say that it has no module for the version.
fn client_is_missing(kernel: &[String]) -> bool {
    says(kernel, &["Version unavailable", "not compiled in", "Unsupported NFS version"])
}

fn transport_is_missing(kernel: &[String]) -> bool {
    says(kernel, &["Unsupported transport protocol", "Unrecognized transport protocol"])
}

fn says(kernel: &[String], words: &[&str]) -> bool {
    kernel.iter().any(|said| words.iter().any(|words| said.contains(words)))
}
