//! What is told of a mount: each step as it is done, and the whole of it once at the end.

use std::path::Path;
use std::time::Duration;

use crate::host::daemon::Presence;
use crate::host::worker::Job;
use crate::nfs::MountFault;
use crate::nfs::policy::Answer;
use crate::nfs::policy::History;
use crate::nfs::policy::Mounted;
use crate::nfs::policy::Service;
use crate::nfs::policy::Step;

/// What came of a step, in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Fine(String),
    Failed(String),
}

impl Said {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Fine(text) | Self::Failed(text) => text,
        }
    }

    fn of<T, E: ToString>(answer: &Result<T, E>, fine: impl Fn(&T) -> String) -> Self {
        match answer {
            Ok(answer) => Self::Fine(fine(answer)),
            Err(why) => Self::Failed(why.to_string()),
        }
    }
}

pub(super) fn question(step: &Step) -> String {
    match step {
        Step::Resolve { host, .. } => format!("resolve {host}"),
        Step::CheckTarget { .. } => "look at the target and the options".to_owned(),
        Step::Locate { destination } => format!("find the way to {destination}"),
        Step::LookFor(daemon) => format!("look for {daemon:?}").to_lowercase(),
        Step::AskPort { server, service, transport, .. } => {
            format!("ask rpcbind of {server} for {} over {transport:?}", shown(*service))
        }
        Step::Ping { server, service, transport, .. } => {
            format!("call {} at {server} over {transport:?}", shown(*service))
        }
        Step::Mount { job, .. } => format!("mount with {}", options_of(job)),
        Step::LookAtTarget(_) => "look at what is mounted there".to_owned(),
        Step::Wait(time) => format!("wait {} s", time.as_secs_f32()),
        Step::GoToBackground(_) => "go to the background".to_owned(),
        Step::Finish(_) | Step::GiveUp(_) => "end".to_owned(),
    }
}

pub(super) fn said(answer: &Answer) -> Said {
    let fine = |text: &str| Said::Fine(text.to_owned());
    match answer {
        Answer::Begin => fine("begun"),
        Answer::Addresses(addresses) => Said::of(addresses, |addresses| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }),
        Answer::Target(target) => Said::of(target, |_| "fine".to_owned()),
        Answer::Source(address) => Said::of(address, ToString::to_string),
        Answer::Daemon(Presence::Runs) => fine("it runs"),
        Answer::Daemon(Presence::Missing(why)) => Said::Failed(why.clone()),
        Answer::Daemon(Presence::Unknown(why)) => Said::Fine(format!("unknown: {why}")),
        Answer::Port(port) => Said::of(port, |port| format!("port {port}")),
        Answer::Pinged(pinged) => Said::of(pinged, |()| "it answers".to_owned()),
        Answer::Mounted(mounted) => Said::of(mounted, |_| "mounted".to_owned()),
        Answer::MountedThere(found) => Said::of(found, |found| match found {
            Some(mount) => mount.source.clone(),
            None => "nothing".to_owned(),
        }),
        Answer::Waited => fine("waited"),
        Answer::InBackground => fine("told"),
        Answer::Cancelled => fine("cancelled"),
    }
}

fn shown(service: Service) -> String {
    match service {
        Service::Nfs(version) => format!("NFS {version}"),
        Service::Mount(version) => format!("MOUNT {version}"),
    }
}

/// As mount(8) would show them.
pub(super) fn options_of(job: &Job) -> String {
    let Job::MountNfs { options, attributes, .. } = job else { return String::new() };
    let shown = |(key, value): &(String, Option<String>)| match value {
        Some(value) if value.contains(',') => format!("{key}=\"{value}\""),
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    };
    let all = options.iter().map(shown).chain(attributes.iter().cloned());
    all.collect::<Vec<_>>().join(",")
}

pub(super) fn success(source: &str, target: &Path, mounted: &Mounted, took: Duration) {
    for note in &mounted.notes {
        tracing::warn!(mount.source = source, ?note, "mounted, but");
    }
    tracing::info!(
        mount.source = source, mount.target = %target.display(), version = %mounted.version,
        server = %mounted.server, options = mounted.options, already = mounted.already, ?took,
        story = %one_line(&mounted.history), "mounted"
    );
}

pub(super) fn failure(fault: &MountFault, took: Duration) {
    tracing::warn!(error = %fault, ?took, "not mounted");
}

fn one_line(history: &History) -> String {
    history.to_string().replace('\n', "; ")
}
