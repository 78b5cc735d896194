//! Steps and answers in words, for the history. No secret is in them.

use std::fmt::Display;

use super::step::Answer;
use super::step::Step;
use crate::host::errno::errno_name;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::nfs::cause::name;
use crate::nfs::policy::job;

impl Step {
    /// The question that this step puts to somebody; none for a step that only tells or waits.
    #[must_use]
    pub fn question(&self) -> Option<String> {
        Some(match self {
            Self::Resolve { host, .. } => format!("addresses of {host:?}"),
            Self::CheckTarget { job: Job::CheckTarget { target }, .. } => {
                format!("directory {target:?}")
            }
            Self::CheckTarget { .. } => "directory to mount at".to_owned(),
            Self::Locate { destination } => format!("own address towards {destination}"),
            Self::LookFor(daemon) => format!("{daemon:?}"),
            Self::AskPort { server, service, transport, over, .. } => {
                let asked =
                    if over == transport { "" } else { &format!(", asked over {},", name(*over)) };
                format!("rpcbind of {server}{asked} for {service} over {}", name(*transport))
            }
            Self::Ping { server, service, transport, .. } => {
                format!("NULL call of {service} to {server} over {}", name(*transport))
            }
            Self::Mount { job, .. } => format!("mount with {:?}", job::text(job)),
            Self::AskExport { mountd, transport, path, .. } => {
                format!("flavours of {path:?} from mountd at {mountd} over {}", name(*transport))
            }
            Self::LookAtTarget(target) => format!("what is mounted at {target:?}"),
            Self::Wait(_) | Self::GoToBackground(_) | Self::Finish(_) | Self::GiveUp(_) => {
                return None;
            }
        })
    }
}

impl Answer {
    /// What was said.
    pub(in crate::nfs) fn told(&self) -> String {
        match self {
            Self::Addresses(Ok(addresses)) => {
                addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            Self::Addresses(Err(fault)) => fault.to_string(),
            Self::Target(answer) | Self::Mounted(answer) => match answer {
                Ok(_) => "done".to_owned(),
                Err(failure) => told_of(failure),
            },
            Self::Source(answer) => shown(answer),
            Self::Daemon(presence) => format!("{presence:?}"),
            Self::Port(answer) => shown(answer),
            Self::Pinged(Ok(())) => "answered".to_owned(),
            Self::Pinged(Err(fault)) => fault.to_string(),
            Self::Export(answer) => shown(answer),
            Self::MountedThere(Ok(Some(entry))) => format!("{:?}", entry.source),
            Self::MountedThere(Ok(None)) => "nothing".to_owned(),
            Self::MountedThere(Err(error)) => error.to_string(),
            Self::Begin | Self::Waited | Self::InBackground => String::new(),
            Self::Cancelled => "cancelled".to_owned(),
        }
    }
}

fn told_of(failure: &Failure) -> String {
    match failure {
        Failure::Refused { call, errno, kernel, .. } if kernel.is_empty() => {
            format!("{call}: {}", errno_name(*errno))
        }
        Failure::Refused { call, errno, kernel, .. } => {
            format!("{call}: {}; kernel: {}", errno_name(*errno), kernel.join("; "))
        }
        other => other.to_string(),
    }
}

fn shown<T: Display, E: Display>(answer: &Result<T, E>) -> String {
    match answer {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    }
}
