//! The set of open tunnels of this process.
//!
//! Opening and closing may be repeated. Ending has two steps, [`TunnelProcess::stop_listening`] and
//! [`TunnelProcess::drain`]: between them another process can take the addresses over.
//!
//! A socket that the watchdog has given is taken before one is bound. Where none was given this process binds its own.
//!
//! LONG: a third of it are tests; opening, closing and ending share one set.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::host::occupant::Occupant;
use crate::model::TunnelSpec;
use crate::proto::tunnel::ListenerStatus;
use crate::proto::tunnel::TunnelFailure;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::tunnel::admission::Admission;
use crate::tunnel::carriers::Carriers;
use crate::tunnel::dial::Dialer;
use crate::tunnel::expiry;
use crate::tunnel::gate::Gate;
use crate::tunnel::given::GivenSockets;
use crate::tunnel::listener::Ends;
use crate::tunnel::listener::Listener;
use crate::tunnel::listener::bind;
use crate::tunnel::open_tunnel::OpenTunnel;
use crate::tunnel::relay::buffers::Buffers;

/// Between two attempts at an address that somebody else has.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at the client certificates.
const RENEW_EVERY: Duration = Duration::from_secs(30);
/// For connections that were told to end at once.
const CUT_DEADLINE: Duration = Duration::from_secs(2);

/// Every tunnel of this process.
#[derive(Debug)]
pub struct TunnelProcess {
    dialer: Dialer,
    admission: Admission,
    gate: Gate,
    buffers: Buffers,
    carriers: Carriers,
    given: Arc<GivenSockets>,
    tunnels: Mutex<Tunnels>,
}

#[derive(Debug, Default)]
struct Tunnels {
    ending: bool,
    open: BTreeMap<SocketAddrV4, Tunnel>,
}

/// A tunnel and its tasks.
#[derive(Clone, Debug)]
struct Tunnel {
    known: Arc<OpenTunnel>,
    /// Where it listens, while it does.
    socket: Arc<OnceLock<Weak<TcpListener>>>,
    ends: Ends,
    accepting: TaskTracker,
    connections: TaskTracker,
}

/// What opening found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The tunnel is open at this address now.
    Now(SocketAddrV4),
    /// It was open already.
    Already(SocketAddrV4),
}

/// What draining did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every connection ended between two calls.
    Whole,
    /// The rest was cut.
    Cut {
        /// How many.
        left: usize,
    },
}

/// Why a tunnel cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFault {
    /// Another tunnel has the address.
    #[error("failed to listen on {address}: it already leads to {other}; close that tunnel first")]
    OtherTunnel {
        /// The address.
        address: SocketAddrV4,
        /// Where it leads.
        other: Box<TunnelSpec>,
    },
    /// Another process has the address.
    #[error(
        "failed to listen on {address}: {}; end it, or choose another port: proxy_port in \
         /etc/aliyun/alinas/alinas-utils.conf, --proxy-port of the watchdog, or tunnel.proxyPort of the chart",
        described(.occupant.as_deref())
    )]
    Taken {
        /// The address.
        address: SocketAddrV4,
        /// Who it is, where somebody has looked and found it; see [`TunnelProcess::named`].
        occupant: Option<Box<Occupant>>,
    },
    /// bind(2) failed otherwise.
    #[error("failed to listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddrV4,
        /// The errno.
        source: io::Error,
    },
    /// It is one of the initial tunnels, and its address is still not free.
    #[error("{0}")]
    StillWaiting(String),
    /// This process is about to exit.
    #[error("failed to open a tunnel: this process is ending; try again")]
    Ending,
}

fn described(occupant: Option<&Occupant>) -> String {
    occupant.map_or_else(|| "another process has it".to_owned(), Occupant::to_string)
}

impl From<&OpenFault> for TunnelFailure {
    fn from(fault: &OpenFault) -> Self {
        let kind = match fault {
            OpenFault::OtherTunnel { .. }
            | OpenFault::Taken { .. }
            | OpenFault::StillWaiting(_) => Kind::AddressTaken,
            OpenFault::Bind { .. } | OpenFault::Ending => Kind::TunnelUnavailable,
        };
        Self { kind: kind.into(), message: fault.to_string() }
    }
}

impl TunnelProcess {
    /// A process without tunnels.
    #[must_use]
    pub fn new(dialer: Dialer, admission: Admission) -> Self {
        Self {
            dialer,
            admission,
            gate: Gate::default(),
            buffers: Buffers::default(),
            carriers: Carriers::start(),
            given: Arc::default(),
            tunnels: Mutex::default(),
        }
    }

    /// Makes and uses no tunnel, only its dialler.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Sockets that the watchdog has given and no tunnel has taken yet.
    #[must_use]
    pub fn given(&self) -> &Arc<GivenSockets> {
        &self.given
    }

    /// A further descriptor of each socket that listens, for a watchdog to keep.
    ///
    /// # Errors
    /// When this process may have no more descriptors.
    pub fn listening_sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let tunnels = self.tunnels();
        let sockets = tunnels.open.values().filter_map(|tunnel| tunnel.socket.get()?.upgrade());
        sockets.map(|socket| socket.as_fd().try_clone_to_owned()).collect()
    }

    /// Listens at `address` for `spec`. Port 0 takes any.
    ///
    /// # Errors
    /// When the address is not to be had. Nothing is left behind. [`Self::named`] says who has it.
    pub fn ensure_open(
        &self,
        spec: &TunnelSpec,
        address: SocketAddrV4,
    ) -> Result<Opened, OpenFault> {
        let mut tunnels = self.tunnels();
        if tunnels.ending {
            return Err(OpenFault::Ending);
        }
        if let Some(tunnel) = tunnels.open.get(&address) {
            let found = same_tunnel(&tunnel.known, spec);
            let waits = matches!(found, Err(OpenFault::StillWaiting(_)));
            if !(waits && self.given.has(address)) {
                // Where it is open, this is one more descriptor of its socket.
                drop(self.given.take(address));
                return found;
            }
            // Its address has come: the tunnel below takes the place of the one that waits.
            tunnel.ends.stop.cancel();
        }
        let (socket, address) = self.take(address)?;
        let known = OpenTunnel::listening(spec.clone(), address);
        known.bound();
        tunnels.open.insert(address, self.start(known, Some(socket)));
        Ok(Opened::Now(address))
    }

    /// The same fault, with who has the address. Looks through `/proc`, for a third of a second at most.
    #[must_use]
    pub fn named(&self, fault: OpenFault) -> OpenFault {
        match fault {
            OpenFault::Taken { address, occupant: None } => {
                let occupant = self.admission.occupant(address).map(Box::new);
                OpenFault::Taken { address, occupant }
            }
            fault => fault,
        }
    }

    /// As [`Self::ensure_open`], but an address that is not to be had now is tried again until it is.
    pub fn open_or_wait(&self, spec: &TunnelSpec, address: SocketAddrV4) {
        let Err(fault) = self.ensure_open(spec, address) else { return };
        let fault = self.named(fault);
        let mut tunnels = self.tunnels();
        if tunnels.ending || tunnels.open.contains_key(&address) {
            tracing::error!(error = %fault, "an initial tunnel is passed over");
            return;
        }
        tracing::error!(error = %fault, "an initial tunnel has to wait for its address");
        let known = OpenTunnel::waiting(spec.clone(), address, fault.to_string());
        tunnels.open.insert(address, self.start(known, None));
    }

    /// Stops listening and ends the connections. An unknown address is none's.
    pub async fn ensure_closed(&self, address: SocketAddrV4) {
        let tunnel = self.tunnels().open.remove(&address);
        drop(self.given.take(address));
        if let Some(tunnel) = tunnel {
            tunnel.stop_listening().await;
            tunnel.cut().await;
            tracing::info!(tunnel.address = %address, tunnel.target = %tunnel.known.spec, "closed");
        }
    }

    /// The memory that connections have in use.
    #[must_use]
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Every tunnel, by address.
    #[must_use]
    pub fn status(&self) -> Vec<ListenerStatus> {
        self.tunnels().open.values().map(|tunnel| tunnel.known.status()).collect()
    }

    /// Watches the certificates of all servers until dropped.
    pub async fn watch_expiry(&self) {
        loop {
            sleep(expiry::LOOK_EVERY).await;
            self.look_at_expiry(epoch_seconds()).await;
        }
    }

    /// Keeps the client certificates of open tunnels new until dropped. A handshake sees for itself that it has
    /// one that holds; this shows in time that there will be none, hours before somebody needs one.
    pub async fn renew_client_certificates(&self) {
        loop {
            sleep(RENEW_EVERY).await;
            let subjects =
                self.tunnels().open.values().map(|tunnel| tunnel.known.spec.client()).collect();
            self.dialer.clients().renew(&subjects).await;
        }
    }

    /// Warns of certificates that end soon. A tunnel that nobody has used yet has shown none.
    async fn look_at_expiry(&self, now: i64) {
        let known: Vec<_> =
            self.tunnels().open.values().map(|tunnel| Arc::clone(&tunnel.known)).collect();
        for tunnel in known.iter().filter(|tunnel| tunnel.warning_due(now).is_some()) {
            let dialled = self.dialer.dial_anew(&tunnel.spec).await;
            let certificate = dialled.ok().and_then(|dialled| dialled.negotiated.first_to_end);
            tunnel.warn_of_expiry(certificate.as_ref(), now);
        }
    }

    /// Gives every address back, and takes none again. Connections go on.
    pub async fn stop_listening(&self) {
        for tunnel in self.end() {
            tunnel.stop_listening().await;
        }
    }

    /// Ends each connection between two calls, and those that have one under way at the end of `grace`.
    pub async fn drain(&self, grace: Duration) -> Drained {
        let tunnels = self.end();
        let silent = async {
            for tunnel in &tunnels {
                tunnel.ends.drain.cancel();
            }
            for tunnel in &tunnels {
                tunnel.stop_listening().await;
                tunnel.connections.close();
                tunnel.connections.wait().await;
            }
        };
        if timeout(grace, silent).await.is_ok() {
            return Drained::Whole;
        }
        let left = tunnels.iter().map(|tunnel| tunnel.connections.len()).sum();
        for tunnel in &tunnels {
            tunnel.cut().await;
        }
        Drained::Cut { left }
    }

    fn end(&self) -> Vec<Tunnel> {
        let mut tunnels = self.tunnels();
        tunnels.ending = true;
        tunnels.open.values().cloned().collect()
    }

    fn take(&self, address: SocketAddrV4) -> Result<(TcpListener, SocketAddrV4), OpenFault> {
        let socket = match self.given.take(address) {
            Some(given) => TcpListener::from_std(given),
            None => bind(address),
        };
        let taken = socket.and_then(|socket| Ok((socket.local_addr()?, socket)));
        match taken {
            Ok((bound, socket)) => Ok((socket, SocketAddrV4::new(*address.ip(), bound.port()))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(OpenFault::Taken { address, occupant: None })
            }
            Err(source) => Err(OpenFault::Bind { address, source }),
        }
    }

    fn start(&self, known: OpenTunnel, socket: Option<TcpListener>) -> Tunnel {
        let tunnel = Tunnel {
            known: Arc::new(known),
            socket: Arc::default(),
            ends: Ends::default(),
            accepting: TaskTracker::new(),
            connections: TaskTracker::new(),
        };
        let listener = Arc::new(Listener {
            tunnel: Arc::clone(&tunnel.known),
            dialer: self.dialer.clone(),
            admission: self.admission.clone(),
            gate: self.gate.clone(),
            buffers: self.buffers.clone(),
            carriers: self.carriers.clone(),
            ends: tunnel.ends.clone(),
            connections: tunnel.connections.clone(),
        });
        let stop = tunnel.ends.stop.clone();
        let socket = socket.map(|socket| tunnel.holds(socket));
        let here = tunnel.clone();
        tunnel.accepting.spawn(async move {
            let socket = match socket {
                Some(socket) => Some(socket),
                None => stop
                    .run_until_cancelled(bind_when_free(&listener.tunnel))
                    .await
                    .map(|socket| here.holds(socket)),
            };
            if let Some(socket) = socket {
                listener.accept(socket).await;
            }
        });
        tunnel
    }

    fn tunnels(&self) -> MutexGuard<'_, Tunnels> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tunnel {
    /// Notes the socket for as long as somebody accepts on it.
    fn holds(&self, socket: TcpListener) -> Arc<TcpListener> {
        let socket = Arc::new(socket);
        // Once per tunnel: who waited for an address binds it once.
        let _first = self.socket.set(Arc::downgrade(&socket));
        socket
    }

    async fn stop_listening(&self) {
        self.ends.stop.cancel();
        self.accepting.close();
        self.accepting.wait().await;
    }

    async fn cut(&self) {
        self.ends.cut.cancel();
        self.connections.close();
        if timeout(CUT_DEADLINE, self.connections.wait()).await.is_err() {
            tracing::warn!(tunnel.target = %self.known.spec, "connections did not end when cut");
        }
    }
}

fn same_tunnel(open: &OpenTunnel, spec: &TunnelSpec) -> Result<Opened, OpenFault> {
    if open.spec != *spec {
        let other = Box::new(open.spec.clone());
        return Err(OpenFault::OtherTunnel { address: open.address, other });
    }
    match open.waits_because() {
        Some(why) => Err(OpenFault::StillWaiting(why)),
        None => Ok(Opened::Already(open.address)),
    }
}

fn epoch_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

async fn bind_when_free(tunnel: &OpenTunnel) -> TcpListener {
    loop {
        sleep(BIND_AGAIN).await;
        if let Ok(socket) = bind(tunnel.address) {
            tunnel.bound();
            return socket;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::net::TcpListener as StdListener;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use crate::host::peer::FakePeers;
    use crate::host::peer::LinuxPeers;
    use crate::host::peer::Peer;
    use crate::host::peer::Sign;
    use crate::model::RemotePort;
    use crate::model::ServerName;
    use crate::tls::Trust;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    const ANY_PORT: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);

    fn process(admission: Admission) -> TunnelProcess {
        TunnelProcess::new(Dialer::new(Arc::new(Trust::new(None).unwrap())), admission)
    }

    fn anyone() -> TunnelProcess {
        process(Admission::Anyone)
    }

    /// A tunnel to a port where nobody listens: port 1 of an address that nobody uses.
    fn spec() -> TunnelSpec {
        let host = ServerName::parse("127.99.99.99").unwrap();
        TunnelSpec::to(host, RemotePort::Only(1))
    }

    fn opened(process: &TunnelProcess, spec: &TunnelSpec) -> SocketAddrV4 {
        match process.ensure_open(spec, ANY_PORT).unwrap() {
            Opened::Now(address) => address,
            Opened::Already(address) => panic!("{address} was open already"),
        }
    }

    /// Connects and waits for the end.
    async fn knock(address: SocketAddrV4) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let ended = timeout(DEADLINE, stream.read(&mut [0])).await.unwrap();
        assert_eq!(ended.unwrap_or(0), 0);
    }

    async fn until(condition: impl Fn() -> bool) {
        let met = async {
            while !condition() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, met).await.expect("it comes true");
    }

    #[tokio::test]
    async fn opening_twice_is_once_and_another_tunnel_does_not_get_the_address() {
        let process = anyone();
        let spec = spec();
        let address = opened(&process, &spec);
        assert_eq!(process.ensure_open(&spec, address).unwrap(), Opened::Already(address));
        let other = TunnelSpec { port: RemotePort::Only(2), ..spec };
        let fault = process.ensure_open(&other, address).unwrap_err();
        assert!(matches!(fault, OpenFault::OtherTunnel { .. }), "{fault}");
        assert_eq!(TunnelFailure::from(&fault).kind(), Kind::AddressTaken);
    }

    #[tokio::test]
    async fn a_closed_tunnel_gives_its_address_back_and_closing_may_be_repeated() {
        let process = anyone();
        let address = opened(&process, &spec());
        process.ensure_closed(address).await;
        process.ensure_closed(address).await;
        StdListener::bind(address).unwrap();
        assert_eq!(process.status(), []);
    }

    #[tokio::test]
    async fn who_has_the_address_is_named() {
        let other = StdListener::bind(ANY_PORT).unwrap();
        let SocketAddr::V4(address) = other.local_addr().unwrap() else { panic!() };
        let process = process(Admission::KernelOnly(Arc::new(LinuxPeers::default())));
        let fault = process.ensure_open(&spec(), address).unwrap_err();
        assert!(fault.to_string().contains("another process has it"), "{fault}");
        let fault = process.named(fault).to_string();
        let said = format!("(pid {}) listens there; end it, or", std::process::id());
        for part in [&said, &address.to_string(), "proxy_port", "--proxy-port", "tunnel.proxyPort"]
        {
            assert!(fault.contains(part), "{fault}");
        }
    }

    #[tokio::test]
    async fn an_initial_tunnel_waits_for_its_address_and_says_so() {
        let other = StdListener::bind(ANY_PORT).unwrap();
        let SocketAddr::V4(address) = other.local_addr().unwrap() else { panic!() };
        let process = anyone();
        let spec = spec();
        process.open_or_wait(&spec, address);
        assert!(process.status()[0].last_error.contains("listens there"));
        assert!(matches!(process.ensure_open(&spec, address), Err(OpenFault::StillWaiting(_))));
        drop(other);
        let free = async {
            while process.ensure_open(&spec, address).is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(DEADLINE, free).await.unwrap();
        assert_eq!(process.status()[0].last_error, "");
    }

    #[tokio::test]
    async fn a_connection_for_an_unreachable_server_is_held_while_its_owner_waits_and_the_reason_kept()
     {
        let process = anyone();
        let address = opened(&process, &spec());
        let kernel = TcpStream::connect(address).await.unwrap();
        until(|| process.status()[0].last_error.contains("connection refused")).await;
        assert_eq!(process.status()[0].connections_open, 1);
        drop(kernel);
        until(|| process.status()[0].connections_open == 0).await;
        let status = &process.status()[0];
        assert_eq!((status.connections_total, status.refused_intruders), (1, 0));
    }

    #[tokio::test]
    async fn a_process_is_turned_away_before_anything_is_dialled() {
        let intruder = Peer::Process { sign: Sign::Cgroup(7), process: None };
        let process = process(Admission::KernelOnly(Arc::new(FakePeers(intruder))));
        let address = opened(&process, &spec());
        knock(address).await;
        let status = &process.status()[0];
        assert_eq!((status.connections_total, status.refused_intruders), (0, 1));
        assert_eq!(status.last_error, "");
    }

    fn given(process: &TunnelProcess) -> SocketAddrV4 {
        let socket = StdListener::bind(ANY_PORT).unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!() };
        process.given().put(socket.into()).unwrap();
        address
    }

    #[tokio::test]
    async fn a_socket_that_was_given_is_served_handed_over_and_closed_with_its_tunnel() {
        let process = anyone();
        let address = given(&process);
        let waited_in_the_queue = TcpStream::connect(address).await.unwrap();
        assert_eq!(process.ensure_open(&spec(), address).unwrap(), Opened::Now(address));
        until(|| process.status()[0].connections_total == 1).await;
        let copies = process.listening_sockets().unwrap();
        process.ensure_closed(address).await;
        drop(waited_in_the_queue);
        assert!(process.listening_sockets().unwrap().is_empty());
        assert!(StdListener::bind(address).is_err(), "a copy still listens");
        drop(copies);
        StdListener::bind(address).unwrap();
    }

    #[tokio::test]
    async fn a_tunnel_that_waits_for_its_address_gets_it_from_the_watchdog() {
        let process = anyone();
        let other = StdListener::bind(ANY_PORT).unwrap();
        let SocketAddr::V4(address) = other.local_addr().unwrap() else { panic!() };
        process.open_or_wait(&spec(), address);
        process.given().put(other.into()).unwrap();
        assert_eq!(process.ensure_open(&spec(), address).unwrap(), Opened::Now(address));
        process.given().put(StdListener::bind(ANY_PORT).unwrap().into()).unwrap();
        assert_eq!(process.ensure_open(&spec(), address).unwrap(), Opened::Already(address));
    }

    #[tokio::test]
    async fn an_ending_process_gives_its_addresses_back_and_takes_none() {
        let process = anyone();
        let address = opened(&process, &spec());
        process.stop_listening().await;
        StdListener::bind(address).unwrap();
        assert!(matches!(process.ensure_open(&spec(), ANY_PORT), Err(OpenFault::Ending)));
        assert_eq!(process.drain(DEADLINE).await, Drained::Whole);
    }
}
