//! What the machine does not know and needs next.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::CALL_OVER_TCP;
use super::CALL_OVER_UDP;
use super::KERNEL;
use super::Mounted;
use super::Policy;
use super::Question;
use super::RESOLVE;
use super::Step;
use super::TARGET;
use super::job;
use super::job::Addressing;
use super::job::Endpoint;
use super::round::Back;
use super::round::NFS4_PORT;
use super::round::search_mount;
use super::search::Candidate;
use super::search::Next;
use super::search::Search;
use crate::host::daemon::Daemon;
use crate::host::resolve::ServerAddress;
use crate::host::worker::Job;
use crate::model::NfsVersion;
use crate::model::nfs_option::Family;
use crate::model::nfs_option::Locks;
use crate::model::nfs_option::Transport;
use crate::nfs::cause::Cause;
use crate::nfs::class::Class;
use crate::nfs::diagnose::Diagnosis;
use crate::nfs::history::History;
use crate::nfs::probe::Service;
use crate::nfs::request::Way;

/// A question, and the step that asks it.
type Asking = (Question, Step);

/// What is missing; nothing where it is all there; or why it cannot be had.
type Missing = Result<Option<Asking>, Box<Diagnosis>>;

impl Policy {
    /// Asks for the first thing that is needed and not known.
    pub(super) fn proceed(&mut self, now: Instant) -> Step {
        if self.clock.is_over(now) {
            return self.run_out(now);
        }
        let asking = match self.missing_for_round(now) {
            Some(asking) => Ok(Some(asking)),
            None => self.missing_for_attempt(now),
        };
        match asking {
            Ok(Some((question, step))) => self.ask(question, step, now),
            Ok(None) => self.run_out(now),
            Err(diagnosis) => self.fail_attempt(*diagnosis, now),
        }
    }

    /// This host's part comes first: what is wrong here is said before anything is sent.
    fn missing_for_round(&mut self, now: Instant) -> Option<Asking> {
        let round = self.round.as_ref()?;
        if matches!(self.request.way, Way::Tunnel { .. }) {
            return None;
        }
        if !round.target_is_there {
            let job = Job::CheckTarget { target: self.request.target.clone() };
            return Some((
                Question::Target,
                Step::CheckTarget { job, deadline: self.cut(TARGET, now) },
            ));
        }
        let options = &self.request.options;
        let needed = [(Daemon::Gssd, options.needs_gssd()), (Daemon::Tlshd, options.needs_tlshd())];
        for (daemon, is_needed) in needed {
            if is_needed && !round.daemons.contains(&daemon) {
                return Some((Question::Daemon(daemon), Step::LookFor(daemon)));
            }
        }
        if round.servers.is_none() {
            let family = options.netid().and_then(|(_, family)| family);
            let host = self.request.device.host().to_owned();
            return Some((Question::Servers, self.resolve(host, family, now)));
        }
        None
    }

    fn missing_for_attempt(&mut self, now: Instant) -> Missing {
        let Some(round) = self.round.as_mut() else { return Ok(None) };
        let Some(attempt) = round.attempt(&self.request, self.facts) else { return Ok(None) };
        let (version, address) = (attempt.version, attempt.address);
        if let Err(error) = self.request.device.check_for(version) {
            let outcome = error.to_string();
            let diagnosis = Diagnosis::new(Cause::NameTooLong, Class::PERMANENT, outcome);
            return Err(Box::new(diagnosis));
        }
        let search = attempt.nfs.clone();
        let nfs = match self.missing_for_search(&search, now) {
            Ok(endpoint) => endpoint,
            Err(missing) => return *missing,
        };
        let missing = match version {
            NfsVersion::V3 => self.missing_for_version_3(nfs, now)?,
            NfsVersion::V40 => self.missing_for_version_4_0(address),
            NfsVersion::V41 | NfsVersion::V42 => None,
        };
        Ok(missing.or_else(|| self.mount(version, nfs, now)))
    }

    /// The service that is looked for, or what is to be asked to find it.
    fn missing_for_search(&self, search: &Search, now: Instant) -> Result<Endpoint, Box<Missing>> {
        match search.next() {
            Next::Ended(Ok(endpoint)) => Ok(endpoint),
            Next::Ended(Err(diagnosis)) => Err(Box::new(Err(Box::new(diagnosis)))),
            Next::AskPort(candidate) => {
                Err(Box::new(Ok(Some(self.ask_port(candidate, search.service(), now)))))
            }
            Next::Ping(endpoint) => {
                let question = match search.service() {
                    Service::Nfs(_) => Question::NfsPing,
                    Service::Mount(_) => Question::MountPing,
                };
                Err(Box::new(Ok(Some((question, self.ping(endpoint, search.service(), now))))))
            }
        }
    }

    /// The later versions call back over the connection that is there.
    fn missing_for_version_4_0(&self, address: ServerAddress) -> Option<Asking> {
        let is_known = match self.request.way {
            Way::Tunnel { .. } => true,
            Way::Direct => {
                self.request.options.client_address().is_some()
                    || self.source_towards(address).is_some()
            }
        };
        let locate = Step::Locate { destination: address };
        (!is_known).then_some((Question::Source(address), locate))
    }

    /// Whoever looked for mountd and found it asks once more for NFSv4, where that was refused, before locks
    /// are spoken of.
    fn missing_for_version_3(&mut self, nfs: Endpoint, now: Instant) -> Missing {
        if nfs.transport != Transport::Rdma {
            if let Some(resolve) = self.missing_mount_hosts(nfs.address, now) {
                return Ok(Some(resolve));
            }
            let search = self.mount_search(nfs.address);
            if let Err(missing) = self.missing_for_search(&search, now) {
                return *missing;
            }
        }
        let Some(round) = self.round.as_ref() else { return Ok(None) };
        if round.back == Back::Due {
            let port = self.request.options.port().filter(|port| *port != 0);
            let again =
                Endpoint { transport: Transport::Tcp, port: port.unwrap_or(NFS4_PORT), ..nfs };
            let step = self.ping(again, Service::Nfs(NfsVersion::V42), now);
            return Ok(Some((Question::PingAgain, step)));
        }
        let needs_statd = self.request.way == Way::Direct
            && self.request.options.locks() != Locks::Local
            && !round.daemons.contains(&Daemon::Statd);
        Ok(needs_statd.then_some((Question::Daemon(Daemon::Statd), Step::LookFor(Daemon::Statd))))
    }

    /// The host of `mounthost`; the server's own where only its addresses of another family will do.
    fn missing_mount_hosts(&self, server: ServerAddress, now: Instant) -> Option<Asking> {
        let round = self.round.as_ref()?;
        let wish = self.request.options.mount_service();
        let family = wish.netid.map(|netid| netid.family);
        let is_known = self.request.way != Way::Direct
            || wish.address.is_some()
            || round.mount_hosts.is_some()
            || (wish.host.is_none() && family.is_none_or(|it| it == Family::of(server.ip)));
        let host = wish.host.unwrap_or_else(|| self.request.device.host().to_owned());
        (!is_known).then(|| (Question::MountHosts, self.resolve(host, family, now)))
    }

    fn mount_search(&mut self, server: ServerAddress) -> Search {
        let options = &self.request.options;
        let given = options.mount_service().address.map(|ip| vec![ServerAddress::from(ip)]);
        let Some(round) = self.round.as_mut() else { return search_mount(&[server], options) };
        let addresses = given.or_else(|| round.mount_hosts.clone());
        let new = || search_mount(&addresses.unwrap_or_else(|| vec![server]), options);
        match round.attempt.as_mut() {
            Some(attempt) => attempt.mount.get_or_insert_with(new).clone(),
            None => new(),
        }
    }

    fn mount(&self, version: NfsVersion, nfs: Endpoint, now: Instant) -> Option<Asking> {
        let attempt = self.round.as_ref()?.attempt.as_ref()?;
        let addressing = Addressing {
            version,
            nfs,
            mount: attempt.mount_end(&self.request.options),
            client: self.client_address(version, nfs.address),
        };
        let job = job::job(&self.request, &addressing);
        let mounted = Mounted {
            version,
            server: nfs.address.at(nfs.port),
            options: job::text(&job),
            already: false,
            notes: Vec::new(),
            history: History::default(),
        };
        let step = Step::Mount { job, deadline: self.cut(KERNEL, now) };
        Some((Question::Kernel(Box::new(mounted)), step))
    }

    /// The user's goes before ours.
    fn client_address(&self, version: NfsVersion, server: ServerAddress) -> Option<IpAddr> {
        if version != NfsVersion::V40 {
            return None;
        }
        self.request.options.client_address().or(match self.request.way {
            Way::Tunnel { client_address, .. } => client_address,
            Way::Direct => self.source_towards(server).flatten(),
        })
    }

    fn source_towards(&self, server: ServerAddress) -> Option<Option<IpAddr>> {
        let sources = &self.round.as_ref()?.sources;
        sources.iter().find(|(known, _)| *known == server).map(|(_, source)| *source)
    }

    fn resolve(&self, host: String, family: Option<Family>, now: Instant) -> Step {
        Step::Resolve { host, family, limit: self.cut(RESOLVE, now) }
    }

    fn ask_port(&self, candidate: Candidate, service: Service, now: Instant) -> Asking {
        let question = match service {
            Service::Nfs(_) => Question::NfsPort,
            Service::Mount(_) => Question::MountPort,
        };
        let Candidate { address: server, transport, rpcbind_over: over } = candidate;
        let limit = self.cut(limit_of(over), now);
        (question, Step::AskPort { server, service, transport, over, limit })
    }

    /// Of a directory that the kernel did not mount.
    pub(super) fn ask_export(&self, mountd: Endpoint, now: Instant) -> Step {
        Step::AskExport {
            mountd: mountd.address.at(mountd.port),
            transport: mountd.transport,
            path: self.request.device.path().to_owned(),
            limit: self.cut(limit_of(mountd.transport), now),
        }
    }

    fn ping(&self, endpoint: Endpoint, service: Service, now: Instant) -> Step {
        let transport = endpoint.transport;
        Step::Ping {
            server: endpoint.address.at(endpoint.port),
            service,
            transport,
            limit: self.cut(limit_of(transport), now),
        }
    }

    fn cut(&self, wish: Duration, now: Instant) -> Duration {
        self.clock.cut(wish, now)
    }
}

fn limit_of(transport: Transport) -> Duration {
    match transport {
        Transport::Udp => CALL_OVER_UDP,
        Transport::Tcp | Transport::Rdma => CALL_OVER_TCP,
    }
}
