//! One round: every version and every address of the server, each at most once.
//!
//! What is known so far stands here; what is not known is asked for next. Versions come in the order of
//! [`versions`], within each of them the addresses in the resolver's order.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::KernelFacts;
use super::job::Endpoint;
use super::job::MountEnd;
use super::search::Candidate;
use super::search::Search;
use crate::host::daemon::Daemon;
use crate::host::resolve::ServerAddress;
use crate::model::MountOptions;
use crate::model::NfsVersion;
use crate::model::nfs_option::Transport;
use crate::model::nfs_option::VersionWish;
use crate::nfs::cause::Weight;
use crate::nfs::class::Fallback;
use crate::nfs::diagnose::Diagnosis;
use crate::nfs::probe::Service;
use crate::nfs::request::MountRequest;
use crate::nfs::request::Start;
use crate::nfs::request::Way;

/// RFC 8267, section 6; RFC 8881, section 2.9.3.
const RDMA_PORT: u16 = 20049;
/// RFC 7530, section 3.1.
pub(super) const NFS4_PORT: u16 = 2049;
/// The version that belongs to NFSv3.
const MOUNT_VERSION: u8 = 3;

/// What is known in one round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) number: u32,
    pub(super) began: Instant,
    /// The directory to mount at is there.
    pub(super) target_is_there: bool,
    /// Daemons of this host that need not be looked for any more.
    pub(super) daemons: Vec<Daemon>,
    pub(super) servers: Option<Vec<ServerAddress>>,
    /// Of `mounthost`.
    pub(super) mount_hosts: Option<Vec<ServerAddress>>,
    /// This host's own addresses, by the server's.
    pub(super) sources: Vec<(ServerAddress, Option<IpAddr>)>,
    /// What came of the search for NFSv4, which is one search for all of its minor versions.
    pub(super) searched: Vec<(ServerAddress, Result<Endpoint, Diagnosis>)>,
    /// Whether the server is to be tried with NFSv4 again where it answers to NFSv3.
    pub(super) back: Back,
    /// The version and address at hand, once there are addresses.
    pub(super) attempt: Option<Attempt>,
    /// What came of each version that is over.
    pub(super) faults: Vec<Diagnosis>,
    /// What came of each address for the version at hand.
    version_faults: Vec<Diagnosis>,
    /// The versions that are left, the one at hand first.
    versions: VecDeque<NfsVersion>,
    /// The addresses that are left for the version at hand.
    addresses: VecDeque<ServerAddress>,
    /// All of them, for when the server turns out to be up.
    all_versions: Vec<NfsVersion>,
}

/// A server that refuses NFSv4 may just be starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// It did not refuse.
    NotDue,
    /// It did; once it answers to NFSv3 it is to be asked again.
    Due,
    /// It was asked again.
    Done,
}

/// One version at one address.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) version: NfsVersion,
    pub(super) address: ServerAddress,
    pub(super) nfs: Search,
    /// Of NFSv3, once its addresses are known.
    pub(super) mount: Option<Search>,
}

/// The versions that may be tried, best first.
pub(super) fn versions(options: &MountOptions, start: Start) -> Vec<NfsVersion> {
    use NfsVersion::V3;
    use NfsVersion::V40;
    use NfsVersion::V41;
    use NfsVersion::V42;
    match options.version_wish() {
        VersionWish::Exactly(version) => vec![version],
        VersionWish::AnyMinor => vec![V42, V41, V40],
        VersionWish::Open if options.selects_version_3() => vec![V3],
        VersionWish::Open => {
            let all = [V42, V41, V40, V3].into_iter();
            all.skip_while(|version| start.version.is_some_and(|first| first != *version)).collect()
        }
    }
}

impl Round {
    pub(super) fn new(number: u32, versions: &[NfsVersion], now: Instant) -> Self {
        Self {
            number,
            began: now,
            target_is_there: false,
            daemons: Vec::new(),
            servers: None,
            mount_hosts: None,
            sources: Vec::new(),
            searched: Vec::new(),
            back: Back::NotDue,
            attempt: None,
            faults: Vec::new(),
            version_faults: Vec::new(),
            versions: versions.iter().copied().collect(),
            addresses: VecDeque::new(),
            all_versions: versions.to_vec(),
        }
    }

    /// The version and address at hand; the first ones where there are none yet.
    pub(super) fn attempt(
        &mut self,
        request: &MountRequest,
        facts: KernelFacts,
    ) -> Option<&mut Attempt> {
        if self.attempt.is_none() {
            let version = *self.versions.front()?;
            if self.addresses.is_empty() {
                self.addresses = self.servers.iter().flatten().copied().collect();
            }
            let address = *self.addresses.front()?;
            self.attempt = Some(self.new_attempt(version, address, request, facts));
        }
        self.attempt.as_mut()
    }

    fn new_attempt(
        &self,
        version: NfsVersion,
        address: ServerAddress,
        request: &MountRequest,
        facts: KernelFacts,
    ) -> Attempt {
        if let Way::Tunnel { endpoint, .. } = request.way {
            return Attempt::through_tunnel(version, endpoint);
        }
        let searched = self.searched.iter().find(|(known, _)| *known == address && version.is_4());
        let nfs = match searched {
            Some((_, end)) => Search::ended(Service::Nfs(version), end.clone()),
            None => search_nfs(version, address, request, facts),
        };
        Attempt { version, address, nfs, mount: None }
    }

    /// The attempt at hand failed. Says whether there is another version or address.
    pub(super) fn fail(&mut self, diagnosis: Diagnosis) -> bool {
        self.attempt = None;
        self.addresses.pop_front();
        let elsewhere = diagnosis.class.elsewhere;
        self.version_faults.push(diagnosis);
        if elsewhere && !self.addresses.is_empty() {
            return true;
        }
        self.addresses.clear();
        self.end_version()
    }

    fn end_version(&mut self) -> bool {
        let fallbacks = self.version_faults.iter().map(|fault| fault.class.version);
        let fallback = fallbacks.max().unwrap_or(Fallback::None);
        self.faults.extend(of_all_addresses(std::mem::take(&mut self.version_faults)));
        self.versions.pop_front();
        match fallback {
            Fallback::None => self.versions.clear(),
            Fallback::Lower => {}
            Fallback::Three | Fallback::ThreeAndBack => {
                self.versions.retain(|version| !version.is_4());
            }
        }
        if fallback == Fallback::ThreeAndBack && self.back == Back::NotDue {
            self.back = Back::Due;
        }
        !self.versions.is_empty()
    }

    /// The server is up after all: everything once more, from the best version on.
    pub(super) fn start_over(&mut self) {
        self.back = Back::Done;
        self.attempt = None;
        self.version_faults.clear();
        self.faults.clear();
        self.searched.clear();
        self.addresses.clear();
        self.versions = self.all_versions.iter().copied().collect();
    }

    /// The failure that says most, and the others; of two that say as much, the better version's.
    pub(super) fn faults(&mut self) -> Option<(Diagnosis, Vec<Diagnosis>)> {
        let mut faults = std::mem::take(&mut self.faults);
        faults.extend(of_all_addresses(std::mem::take(&mut self.version_faults)));
        let weight = |place: usize| faults.get(place).map(|fault| fault.cause.weight());
        let deciding = (0..faults.len()).rev().max_by_key(|place| weight(*place))?;
        let decides = faults.remove(deciding);
        Some((decides, faults))
    }
}

/// Of one version at several addresses, the failure that says most, and the last of them. An address that
/// answers is believed before one that does not.
fn of_all_addresses(faults: Vec<Diagnosis>) -> Option<Diagnosis> {
    let weight = |fault: &Diagnosis| {
        let weight = fault.cause.weight();
        (weight != Weight::NoAnswer, weight)
    };
    faults.into_iter().max_by_key(weight)
}

impl Attempt {
    /// The tunnel carries NFS and MOUNT calls alike, and was proven just before.
    fn through_tunnel(version: NfsVersion, endpoint: SocketAddr) -> Self {
        let address = ServerAddress::from(endpoint);
        let end = Endpoint { address, transport: Transport::Tcp, port: endpoint.port() };
        let nfs = Search::ended(Service::Nfs(version), Ok(end));
        let mount = Search::ended(Service::Mount(MOUNT_VERSION), Ok(end));
        Self { version, address, nfs, mount: Some(mount) }
    }

    /// What the kernel is told about MOUNT calls; nothing for NFSv4.
    pub(super) fn mount_end(&self, options: &MountOptions) -> Option<MountEnd> {
        let wish = options.mount_service();
        let version = wish.version.unwrap_or(MOUNT_VERSION);
        if self.version.is_4() {
            return None;
        }
        if let Some(found) = self.mount.as_ref().and_then(Search::found) {
            let Endpoint { address, transport, port } = found;
            return Some(MountEnd { address, transport, port: Some(port), version });
        }
        // RDMA: nothing was asked.
        let transport = wish.netid.map_or(Transport::Tcp, |netid| netid.transport);
        let address = wish.address.map_or(self.address, ServerAddress::from);
        let port = wish.port.filter(|port| *port != 0);
        Some(MountEnd { address, transport, port, version })
    }
}

fn search_nfs(
    version: NfsVersion,
    address: ServerAddress,
    MountRequest { options, start, .. }: &MountRequest,
    facts: KernelFacts,
) -> Search {
    let service = Service::Nfs(version);
    let wish = options.netid().map(|(transport, _)| transport);
    let at = |transport| Candidate::new(address, transport);
    match wish {
        Some(Transport::Rdma) => {
            let port = options.port().filter(|port| *port != 0).unwrap_or(RDMA_PORT);
            let end = Endpoint { address, transport: Transport::Rdma, port };
            Search::ended(service, Ok(end))
        }
        _ if version.is_4() => {
            Search::new(service, options.port().or(Some(NFS4_PORT)), [at(Transport::Tcp)])
        }
        Some(transport) => Search::new(service, options.port(), [at(transport)]),
        None => {
            let udp = facts.nfs_over_udp.then_some(Transport::Udp);
            let mut transports = [Some(Transport::Tcp), udp];
            if start.transport == Some(Transport::Udp) {
                transports.reverse();
            }
            let candidates = transports.into_iter().flatten().map(at);
            Search::new(service, options.port(), either_way(candidates))
        }
    }
}

/// The search for the service of MOUNT calls at these addresses.
///
/// UDP goes first where nothing else is said: it leaves no port of this host in TIME_WAIT, of which a storm of
/// mounts would use up the few reserved ones.
pub(super) fn search_mount(addresses: &[ServerAddress], options: &MountOptions) -> Search {
    let wish = options.mount_service();
    let service = Service::Mount(wish.version.unwrap_or(MOUNT_VERSION));
    let said = wish.netid.map(|netid| netid.transport);
    let said = said.or(options.netid().map(|(transport, _)| transport));
    let transports = match said {
        Some(transport) => vec![transport],
        None => vec![Transport::Udp, Transport::Tcp],
    };
    let at = |address: &ServerAddress| {
        let address = *address;
        transports.iter().map(move |transport| Candidate::new(address, *transport))
    };
    let candidates = addresses.iter().flat_map(at);
    match said {
        Some(_) => Search::new(service, wish.port, candidates),
        None => Search::new(service, wish.port, either_way(candidates)),
    }
}

/// Behind each candidate, the other way to ask rpcbind for the same port.
fn either_way(candidates: impl Iterator<Item = Candidate>) -> impl Iterator<Item = Candidate> {
    candidates.flat_map(|candidate| [Some(candidate), candidate.asked_over_udp()]).flatten()
}
