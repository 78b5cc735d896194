//! What an answer says, by the question that it is to.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::Answer;
use super::Learned;
use super::Mounted;
use super::Note;
use super::Policy;
use super::Question;
use super::Step;
use super::round::Attempt;
use super::round::Back;
use super::search::Next;
use super::search::Search;
use super::there;
use crate::host::daemon::Daemon;
use crate::host::daemon::Presence;
use crate::host::mount_syscalls::call;
use crate::host::mount_table::MountEntry;
use crate::host::resolve::ResolveFault;
use crate::host::resolve::ServerAddress;
use crate::host::worker::Done;
use crate::host::worker::Failure;
use crate::model::nfs_option::Transport;
use crate::nfs::cause::Cause;
use crate::nfs::class::Class;
use crate::nfs::diagnose::Diagnosis;
use crate::nfs::diagnose::Tried;
use crate::nfs::probe::Export;
use crate::nfs::probe::Flavour;
use crate::nfs::probe::RpcFault;
use crate::nfs::request::Way;

impl Policy {
    /// `asked` is the question in words, and `took` how long the answer took.
    pub(super) fn learn(
        &mut self,
        question: Question,
        answer: Answer,
        asked: &str,
        took: Duration,
    ) -> Learned {
        match (question, answer) {
            (Question::Begin, Answer::Begin) => self.begin(),
            (Question::Target, Answer::Target(answer)) => self.learn_target(answer),
            (Question::Daemon(daemon), Answer::Daemon(presence)) => {
                self.learn_daemon(daemon, presence)
            }
            (Question::Servers, Answer::Addresses(answer)) => self.learn_servers(answer),
            (Question::MountHosts, Answer::Addresses(answer)) => self.learn_mount_hosts(answer),
            (Question::Source(server), Answer::Source(answer)) => self.learn_source(server, answer),
            (Question::NfsPort, Answer::Port(answer)) => {
                self.learn_of_nfs(|search| search.port_told(answer, asked))
            }
            (Question::NfsPing, Answer::Pinged(answer)) => {
                self.learn_of_nfs(|search| search.pinged(answer, asked))
            }
            (Question::MountPort, Answer::Port(answer)) => {
                self.learn_of_mount(|search| search.port_told(answer, asked))
            }
            (Question::MountPing, Answer::Pinged(answer)) => {
                self.learn_of_mount(|search| search.pinged(answer, asked))
            }
            (Question::PingAgain, Answer::Pinged(answer)) => self.learn_whether_up(&answer),
            (Question::Kernel(mounted), Answer::Mounted(answer)) => {
                self.learn_of_kernel(mounted, answer, took)
            }
            (Question::Export(diagnosis), Answer::Export(answer)) => {
                Learned::AttemptFailed(self.learn_export(*diagnosis, answer))
            }
            (Question::TargetTable(mounted, diagnosis), Answer::MountedThere(answer)) => {
                self.learn_what_is_there(mounted, *diagnosis, answer)
            }
            (Question::Background, Answer::InBackground) => {
                self.in_background = true;
                Learned::RoundOver
            }
            (Question::Wait, Answer::Waited) => Learned::NextRound,
            (_, answer) => Learned::RoundFailed(Diagnosis::new(
                Cause::Internal,
                Class::PERMANENT,
                format!("an answer to no question of ours: {answer:?}"),
            )),
        }
    }

    /// What cannot work with this kernel is said at once.
    fn begin(&mut self) -> Learned {
        self.note_client_address();
        let over_udp = self.request.way == Way::Direct
            && matches!(self.request.options.netid(), Some((Transport::Udp, _)));
        let refused = |cause| Learned::RoundFailed(Diagnosis::new(cause, Class::PERMANENT, ""));
        if over_udp && self.versions.iter().any(|version| version.is_4()) {
            return refused(Cause::UdpNeedsVersion3);
        }
        if over_udp && !self.facts.nfs_over_udp {
            return refused(Cause::TransportNotInKernel(Transport::Udp));
        }
        Learned::NextRound
    }

    fn note_client_address(&mut self) {
        let given = self.request.options.client_address();
        if self.request.way == Way::Direct {
            self.notes.extend(given.map(Note::ClientAddressOfUser));
        }
    }

    fn learn_target(&mut self, answer: Result<Done, Failure>) -> Learned {
        match (answer, self.round.as_mut()) {
            (Err(failure), _) => {
                Learned::RoundFailed(self.patient_with_target(Diagnosis::of_target(&failure)))
            }
            (Ok(_), Some(round)) => {
                round.target_is_there = true;
                Learned::Fact
            }
            (Ok(_), None) => Learned::Fact,
        }
    }

    /// nfs(5), `bg`: a missing mount point counts as a request without an answer, for mounts within mounts.
    fn patient_with_target(&self, diagnosis: Diagnosis) -> Diagnosis {
        if self.request.options.background() && diagnosis.cause == Cause::TargetMissing {
            return Diagnosis { class: Class::TEMPORARY, ..diagnosis };
        }
        diagnosis
    }

    fn learn_daemon(&mut self, daemon: Daemon, presence: Presence) -> Learned {
        match presence {
            Presence::Missing(how) => {
                let cause = Cause::DaemonMissing(daemon, how);
                let diagnosis = Diagnosis::new(cause, Class::PERMANENT, "");
                return match daemon {
                    Daemon::Statd => Learned::AttemptFailed(diagnosis),
                    Daemon::Gssd | Daemon::Tlshd => Learned::RoundFailed(diagnosis),
                };
            }
            Presence::Unknown(why) => self.note(Note::DaemonUnknown(daemon, why)),
            Presence::Runs => {}
        }
        if let Some(round) = self.round.as_mut() {
            round.daemons.push(daemon);
        }
        Learned::Fact
    }

    fn learn_servers(&mut self, answer: Result<Vec<ServerAddress>, ResolveFault>) -> Learned {
        match addresses(self.request.device.host(), answer) {
            Err(diagnosis) => Learned::RoundFailed(*diagnosis),
            Ok(addresses) => {
                if let Some(round) = self.round.as_mut() {
                    round.servers = Some(addresses);
                }
                Learned::Fact
            }
        }
    }

    fn learn_mount_hosts(&mut self, answer: Result<Vec<ServerAddress>, ResolveFault>) -> Learned {
        let host = self.request.options.mount_service().host;
        let host = host.as_deref().unwrap_or(self.request.device.host());
        match addresses(host, answer) {
            Err(diagnosis) => Learned::AttemptFailed(*diagnosis),
            Ok(addresses) => {
                if let Some(round) = self.round.as_mut() {
                    round.mount_hosts = Some(addresses);
                }
                Learned::Fact
            }
        }
    }

    /// Without it the kernel finds one by itself.
    fn learn_source(&mut self, server: ServerAddress, answer: io::Result<IpAddr>) -> Learned {
        if let Err(error) = &answer {
            self.note(Note::NoClientAddress(error.to_string()));
        }
        if let Some(round) = self.round.as_mut() {
            round.sources.push((server, answer.ok()));
        }
        Learned::Fact
    }

    fn learn_of_nfs(&mut self, take_in: impl FnOnce(&mut Search)) -> Learned {
        let Some(round) = self.round.as_mut() else { return Learned::Fact };
        if let Some(Attempt { version, address, nfs, .. }) = round.attempt.as_mut() {
            take_in(nfs);
            if let (true, Next::Ended(end)) = (version.is_4(), nfs.next()) {
                round.searched.push((*address, end));
            }
        }
        Learned::Fact
    }

    fn learn_of_mount(&mut self, take_in: impl FnOnce(&mut Search)) -> Learned {
        let attempt = self.round.as_mut().and_then(|round| round.attempt.as_mut());
        if let Some(search) = attempt.and_then(|attempt| attempt.mount.as_mut()) {
            take_in(search);
        }
        Learned::Fact
    }

    fn learn_whether_up(&mut self, answer: &Result<(), RpcFault>) -> Learned {
        if let Some(round) = self.round.as_mut() {
            match answer {
                Ok(()) => round.start_over(),
                Err(_) => round.back = Back::Done,
            }
        }
        Learned::Fact
    }

    fn learn_of_kernel(
        &mut self,
        mounted: Box<Mounted>,
        answer: Result<Done, Failure>,
        took: Duration,
    ) -> Learned {
        let failure = match answer {
            Ok(_) => return Learned::Mounted(mounted),
            Err(failure) => failure,
        };
        self.was_killed |= matches!(failure, Failure::Deadline(_));
        let through_tunnel = self.request.way != Way::Direct;
        let attempt = self.round.as_ref().and_then(|round| round.attempt.as_ref());
        let found = attempt.and_then(|attempt| attempt.nfs.found());
        let mountd = attempt.and_then(|attempt| attempt.mount.as_ref()?.found());
        let transport = found.map_or(Transport::Tcp, |nfs| nfs.transport);
        let tried = Tried { version: mounted.version, transport, through_tunnel, took };
        let mut diagnosis = Diagnosis::of_mount(&failure, tried);
        if !through_tunnel && asks_server(&failure) {
            diagnosis.event.address = Some(mounted.server.ip().to_string());
        }
        if diagnosis.cause == Cause::AlreadyMounted {
            let target = self.request.target.clone();
            let question = Question::TargetTable(mounted, Box::new(diagnosis));
            return Learned::Step(question, Step::LookAtTarget(target));
        }
        match mountd {
            Some(mountd) if !through_tunnel && self.may_be_about_flavours(&diagnosis) => {
                Learned::FlavourInDoubt(Box::new(diagnosis), mountd)
            }
            _ => Learned::AttemptFailed(self.patient_with_target(diagnosis)),
        }
    }

    /// Of NFSv3, the kernel says EACCES where the server does not have the flavour that was asked for, and EINVAL
    /// where it cannot speak the one that the server wants (fs/nfs/super.c: `nfs_verify_authflavors`,
    /// `nfs_try_mount_request`): words that it has for other failures too.
    fn may_be_about_flavours(&self, diagnosis: &Diagnosis) -> bool {
        let tells_flavours = self.request.options.mount_service().version.is_none_or(|it| it == 3);
        tells_flavours
            && match diagnosis.cause {
                Cause::OptionRefused(None) => true,
                Cause::ExportDeniedOrMissing => !self.request.options.security().is_empty(),
                _ => false,
            }
    }

    /// Where mountd does not say that it was the flavour, the kernel's word stands.
    fn learn_export(&self, diagnosis: Diagnosis, answer: Result<Export, RpcFault>) -> Diagnosis {
        let Ok(Export::Flavours(offered)) = answer else { return diagnosis };
        let asked = self.request.options.security();
        let will_do = |flavour: &Flavour| match asked.as_slice() {
            // RFC 2623, section 2.7: where nothing is said, the client chooses, and sys needs nothing else.
            [] => *flavour == Flavour::SYS,
            asked => *flavour == Flavour::NONE || asked.contains(&flavour.to_string().as_str()),
        };
        if offered.is_empty() || offered.iter().any(will_do) {
            return diagnosis;
        }
        Diagnosis { cause: Cause::FlavoursOffered(offered), ..diagnosis }
    }

    /// What we want may be there already: mounted by somebody else, or by an attempt of ours that was killed
    /// too late. Making it shared is the last that such an attempt does.
    fn learn_what_is_there(
        &mut self,
        mut mounted: Box<Mounted>,
        diagnosis: Diagnosis,
        answer: io::Result<Option<MountEntry>>,
    ) -> Learned {
        match answer {
            Ok(Some(entry))
                if there::is_the_same(&self.request, &self.versions, &entry)
                    && (!self.was_killed || entry.peer_group.is_some()) =>
            {
                mounted.already = true;
                mounted.version = there::version_of(&entry).unwrap_or(mounted.version);
                Learned::Mounted(mounted)
            }
            // The kernel is busy with something else than our target.
            Ok(None) => {
                let passing =
                    Diagnosis { cause: Cause::Other, class: Class::DOUBTFUL, ..diagnosis };
                Learned::AttemptFailed(passing)
            }
            Ok(Some(_)) | Err(_) => Learned::AttemptFailed(diagnosis),
        }
    }

    fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Whether the server had a part in it.
fn asks_server(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { call, .. } => [call::CREATE, call::MOUNT].contains(&call.as_str()),
        Failure::Deadline(_) => true,
        Failure::Worker(_) => false,
    }
}

fn addresses(
    host: &str,
    answer: Result<Vec<ServerAddress>, ResolveFault>,
) -> Result<Vec<ServerAddress>, Box<Diagnosis>> {
    let host = host.to_owned();
    let (cause, class) = match answer {
        Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
        Ok(_) => {
            let why = "the resolver gave no address".to_owned();
            (Cause::NameNotFound { host, why }, Class::PERMANENT)
        }
        Err(ResolveFault::NoSuchName(why)) => (Cause::NameNotFound { host, why }, Class::PERMANENT),
        Err(ResolveFault::TryAgain(why)) => {
            (Cause::NameServersSilent { host, why }, Class::TEMPORARY)
        }
        Err(ResolveFault::NoSuchFamily(family)) => {
            (Cause::NameWithoutFamily { host, family }, Class::PERMANENT)
        }
    };
    Err(Box::new(Diagnosis::new(cause, class, "")))
}
