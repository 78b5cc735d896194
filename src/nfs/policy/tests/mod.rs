//! The machine against a world made of a few facts: a resolver, servers, daemons and a kernel.
//!
//! [`World::run`] plays the shell: it answers each step at once or after the time that it would take, and keeps
//! a journal of the steps.

mod daemons;
mod errnos;
mod patience;
mod property;
mod story;
mod tunnel;
mod version_3;
mod versions;

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use super::*;
use crate::host::mount_syscalls::call;
use crate::host::mount_table::MountEntry;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::host::worker::Job;
use crate::model::DeviceName;
use crate::model::MountOptions;
use crate::model::nfs_option::Rules;
use crate::model::nfs_option::Transport;
use crate::nfs::Patience;
use crate::nfs::Start;
use crate::nfs::Way;

pub(in crate::nfs) const SERVER: &str = "192.0.2.1";
pub(in crate::nfs) const TUNNEL: ([u8; 4], u16) = ([127, 0, 1, 1], 12049);

type PortOf = Box<dyn FnMut(IpAddr, Service, Transport) -> Result<u16, RpcFault>>;
type RpcbindOf = Box<dyn FnMut(Transport) -> Result<(), RpcFault>>;
type PingOf = Box<dyn FnMut(SocketAddr, Service, Transport) -> Result<(), RpcFault>>;
type KernelOf = Box<dyn FnMut(NfsVersion, &str) -> (Result<Done, Failure>, Duration)>;

/// Everything outside of the machine.
pub(in crate::nfs) struct World {
    pub(in crate::nfs) facts: KernelFacts,
    pub(in crate::nfs) addresses: Result<Vec<ServerAddress>, ResolveFault>,
    pub(in crate::nfs) target: Result<Done, Failure>,
    pub(in crate::nfs) daemons: Presence,
    pub(in crate::nfs) source: Option<IpAddr>,
    /// Whether rpcbind answers what is asked over a transport.
    pub(in crate::nfs) rpcbind: RpcbindOf,
    pub(in crate::nfs) port: PortOf,
    pub(in crate::nfs) ping: PingOf,
    pub(in crate::nfs) kernel: KernelOf,
    /// mountd's word on every directory.
    pub(in crate::nfs) export: Result<Export, RpcFault>,
    pub(in crate::nfs) there: Option<MountEntry>,
    /// Instead of the answer to the step of this number, the caller goes away.
    pub(in crate::nfs) cancelled_at: Option<usize>,
}

/// How it went.
pub(in crate::nfs) struct Run {
    /// Every step, the last one too.
    pub(in crate::nfs) journal: Vec<String>,
    pub(in crate::nfs) end: Step,
    pub(in crate::nfs) took: Duration,
}

/// Everything is well: the server has every version, with mountd on port 20048.
impl Default for World {
    fn default() -> Self {
        Self {
            facts: KernelFacts::default(),
            addresses: Ok(vec![address(SERVER)]),
            target: Ok(Done::Done),
            daemons: Presence::Runs,
            source: Some([192, 0, 2, 7].into()),
            rpcbind: Box::new(|_| Ok(())),
            port: Box::new(|_, service, _| {
                Ok(if matches!(service, Service::Nfs(_)) { 2049 } else { 20048 })
            }),
            ping: Box::new(|_, _, _| Ok(())),
            kernel: Box::new(|_, _| (Ok(Done::Done), Duration::ZERO)),
            export: Ok(Export::Flavours(vec![Flavour::SYS])),
            there: None,
            cancelled_at: None,
        }
    }
}

impl World {
    /// The kernel's answer to each version.
    pub(in crate::nfs) fn kernel(
        mut self,
        mut answer: impl FnMut(NfsVersion) -> Result<Done, Failure> + 'static,
    ) -> Self {
        self.kernel = Box::new(move |version, _| (answer(version), Duration::ZERO));
        self
    }

    /// The kernel's answer to each version, and how long it takes.
    pub(in crate::nfs) fn kernel_in_time(
        mut self,
        mut answer: impl FnMut(NfsVersion) -> (Result<Done, Failure>, Duration) + 'static,
    ) -> Self {
        self.kernel = Box::new(move |version, _| answer(version));
        self
    }

    pub(in crate::nfs) fn ping(
        mut self,
        answer: impl FnMut(SocketAddr, Service, Transport) -> Result<(), RpcFault> + 'static,
    ) -> Self {
        self.ping = Box::new(answer);
        self
    }

    pub(in crate::nfs) fn port(
        mut self,
        answer: impl FnMut(IpAddr, Service, Transport) -> Result<u16, RpcFault> + 'static,
    ) -> Self {
        self.port = Box::new(answer);
        self
    }

    pub(in crate::nfs) fn rpcbind(
        mut self,
        answer: impl FnMut(Transport) -> Result<(), RpcFault> + 'static,
    ) -> Self {
        self.rpcbind = Box::new(answer);
        self
    }

    /// Runs a mount to its end.
    pub(in crate::nfs) fn run(mut self, request: MountRequest) -> Run {
        let began = Instant::now();
        let mut now = began;
        let mut policy = Policy::new(request, self.facts, now);
        let mut journal = Vec::new();
        let mut step = policy.next(Answer::Begin, now);
        loop {
            journal.push(shown(&step));
            assert!(journal.len() < 100_000, "it does not end: {:?}", &journal[..50]);
            if matches!(step, Step::Finish(_) | Step::GiveUp(_)) {
                assert_eq!(policy.next(Answer::Waited, now), step, "the end is the end");
                return Run { journal, end: step, took: now - began };
            }
            let (answer, took) = self.answer(&step);
            now += took;
            let cancelled = self.cancelled_at == Some(journal.len() - 1);
            step = policy.next(if cancelled { Answer::Cancelled } else { answer }, now);
        }
    }

    fn answer(&mut self, step: &Step) -> (Answer, Duration) {
        let mut took = Duration::ZERO;
        let answer = match step {
            Step::Resolve { limit, .. } => {
                if matches!(self.addresses, Err(ResolveFault::TryAgain(_))) {
                    took = *limit;
                }
                Answer::Addresses(self.addresses.clone())
            }
            Step::CheckTarget { .. } => Answer::Target(self.target.clone()),
            Step::Locate { .. } => {
                Answer::Source(self.source.ok_or_else(|| io::Error::other("no route")))
            }
            Step::LookFor(_) => Answer::Daemon(self.daemons.clone()),
            Step::AskPort { server, service, transport, over, limit } => {
                let answer = (self.rpcbind)(*over)
                    .and_then(|()| (self.port)(server.ip, *service, *transport));
                let answer = cut(answer, *limit);
                took = time_of(&answer);
                Answer::Port(answer)
            }
            Step::Ping { server, service, transport, limit } => {
                let answer = cut((self.ping)(*server, *service, *transport), *limit);
                took = time_of(&answer);
                Answer::Pinged(answer)
            }
            Step::Mount { job, deadline } => {
                let (answer, time) = (self.kernel)(version_of(job), &job::text(job));
                took = time.min(*deadline);
                let killed = time > *deadline || answer == Err(Failure::Deadline(Duration::MAX));
                took = if killed { *deadline } else { took };
                Answer::Mounted(if killed { Err(Failure::Deadline(*deadline)) } else { answer })
            }
            Step::AskExport { limit, .. } => {
                let answer = cut(self.export.clone(), *limit);
                took = time_of(&answer);
                Answer::Export(answer)
            }
            Step::LookAtTarget(_) => Answer::MountedThere(Ok(self.there.clone())),
            Step::Wait(time) => {
                took = *time;
                Answer::Waited
            }
            Step::GoToBackground(_) => Answer::InBackground,
            Step::Finish(_) | Step::GiveUp(_) => unreachable!(),
        };
        (answer, took)
    }
}

impl Run {
    pub(in crate::nfs) fn fault(&self) -> &MountFault {
        let Step::GiveUp(fault) = &self.end else { panic!("not given up: {:#?}", self.journal) };
        fault
    }

    pub(in crate::nfs) fn mounted(&self) -> &Mounted {
        let Step::Finish(mounted) = &self.end else { panic!("not mounted: {:#?}", self.journal) };
        mounted
    }

    /// The versions that the kernel was asked for.
    pub(in crate::nfs) fn versions(&self) -> Vec<&str> {
        let version = |line: &'_ String| line.starts_with("mount with \"vers=");
        let lines = self.journal.iter().filter(|line| version(line));
        lines.map(|line| line[17..].split(',').next().unwrap()).collect()
    }

    pub(in crate::nfs) fn waits(&self) -> Vec<u64> {
        let seconds = |line: &String| line.strip_prefix("wait ")?.parse().ok();
        self.journal.iter().filter_map(seconds).collect()
    }

    pub(in crate::nfs) fn asked(&self, beginning: &str) -> usize {
        self.journal.iter().filter(|line| line.starts_with(beginning)).count()
    }
}

/// Straight to the server.
pub(in crate::nfs) fn direct(options: &str) -> MountRequest {
    MountRequest {
        device: DeviceName::parse("nas.example:/a").unwrap(),
        target: "/t".into(),
        options: MountOptions::parse(Rules::Direct, [options]).unwrap(),
        way: Way::Direct,
        start: Start::default(),
        patience: Patience::AsOptionsSay,
    }
}

pub(in crate::nfs) fn tunnel(options: &str) -> MountRequest {
    MountRequest {
        options: MountOptions::parse(Rules::Tunnel, [options]).unwrap(),
        way: Way::Tunnel { endpoint: TUNNEL.into(), client_address: Some([10, 0, 0, 7].into()) },
        ..direct("")
    }
}

pub(in crate::nfs) fn refused(call: &str, errno: Errno) -> Failure {
    Failure::refused(call, errno, Vec::new())
}

/// What the server, or the way to it, makes of a mount.
pub(in crate::nfs) fn server_says(errno: Errno) -> Failure {
    refused(call::CREATE, errno)
}

pub(in crate::nfs) fn address(text: &str) -> ServerAddress {
    ServerAddress { ip: text.parse().unwrap(), scope: 0 }
}

/// Nothing was heard until the limit, whatever it is.
pub(in crate::nfs) const SILENCE: RpcFault = RpcFault::NoAnswer(Duration::MAX);

fn cut<T>(answer: Result<T, RpcFault>, limit: Duration) -> Result<T, RpcFault> {
    match answer {
        Err(RpcFault::NoAnswer(time)) => Err(RpcFault::NoAnswer(time.min(limit))),
        other => other,
    }
}

fn time_of<T>(answer: &Result<T, RpcFault>) -> Duration {
    match answer {
        Err(RpcFault::NoAnswer(time)) => *time,
        _ => Duration::ZERO,
    }
}

fn version_of(job: &Job) -> NfsVersion {
    let text = job::text(job);
    let all = [NfsVersion::V42, NfsVersion::V41, NfsVersion::V40, NfsVersion::V3];
    all.into_iter().find(|version| text.starts_with(&format!("vers={version},"))).unwrap()
}

fn shown(step: &Step) -> String {
    match step {
        Step::Wait(time) => format!("wait {}", time.as_secs()),
        Step::GoToBackground(fault) => format!("background: {}", fault.id()),
        Step::Finish(mounted) => format!("mounted {}", mounted.version),
        Step::GiveUp(fault) => format!("given up: {}", fault.id()),
        step => step.question().unwrap(),
    }
}
