//! A tunnel process and its relay that tests steer.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::host::mount_table::MountTable;
use crate::host::neighbours::Neighbours;
use crate::host::neighbours::fake::FakeNeighbours;
use crate::host::nfs_clients::NfsClients;
use crate::host::nfs_clients::fake::FakeNfsClients;
use crate::host::state_dir::StateDir;
use crate::model::RemotePort;
use crate::model::ServerName;
use crate::model::TunnelSpec;
use crate::proto::tunnel::ListenerStatus;
use crate::proto::tunnel::ProbeReport;
use crate::proto::tunnel::StatusResponse;
use crate::proto::tunnel::TunnelFailure;
use crate::proto::tunnel::tunnel_failure::Kind;
use crate::watchdog::address::KernelView;
use crate::watchdog::address::fake::FakeMounts;
use crate::watchdog::checkup::Servers;
use crate::watchdog::driver::Life;
use crate::watchdog::process::Bindings;
use crate::watchdog::process::Farewell;
use crate::watchdog::process::Inheritance;
use crate::watchdog::process::Launcher;
use crate::watchdog::process::TunnelProcess;
use crate::watchdog::process::Version;
use crate::watchdog::record::RecordStore;
use crate::watchdog::record::User;
use crate::watchdog::relay::Relay;
use crate::watchdog::relay::RelayError;
use crate::watchdog::relay::endpoint_to_wire;
use crate::watchdog::sockets::Sockets;
use crate::watchdog::sockets::fake::FakeSockets;
use crate::watchdog::tunnels::LocalPort;
use crate::watchdog::tunnels::TunnelSettings;
use crate::watchdog::tunnels::Tunnels;

/// A mount target of that name.
pub(super) fn spec(host: &str) -> TunnelSpec {
    let host = ServerName::parse(host).unwrap();
    TunnelSpec::to(host, RemotePort::Known)
}

/// The user of that number.
pub(super) fn user(number: u32) -> User {
    User {
        volume_id: format!("pv-{number}"),
        staging_path: format!("/stage/{number}"),
        source: "nas:/".to_owned(),
        options: "vers=3".to_owned(),
    }
}

/// What a relay does and did.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// What is served.
    pub(super) open: BTreeMap<SocketAddrV4, TunnelSpec>,
    /// Addresses that another process holds.
    pub(super) taken: BTreeSet<Ipv4Addr>,
    /// Hosts that refuse.
    pub(super) refusing: BTreeSet<String>,
    /// Hosts that never answer.
    pub(super) dead: BTreeSet<String>,
    /// The process answers no call at all.
    pub(super) hung: bool,
    /// Bytes come from every server between two reports.
    pub(super) carries: bool,
    carried: u64,
    /// Every call but the heartbeat.
    pub(super) calls: Vec<String>,
}

/// A relay without a process.
#[derive(Debug, Default)]
pub(super) struct FakeRelay(Mutex<Script>);

impl FakeRelay {
    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    async fn called(&self, call: String) {
        self.script().calls.push(call);
        self.answering().await;
    }

    async fn answering(&self) {
        let hung = self.script().hung;
        if hung {
            std::future::pending::<()>().await;
        }
    }
}

fn refused(kind: Kind, message: &str) -> RelayError {
    RelayError::Refused(TunnelFailure { kind: kind.into(), message: message.to_owned() })
}

#[async_trait]
impl Relay for FakeRelay {
    async fn open(
        &self,
        spec: &TunnelSpec,
        endpoint: SocketAddrV4,
        _: Option<OwnedFd>,
    ) -> Result<(), RelayError> {
        self.called(format!("open {} {}", endpoint.ip(), spec.host)).await;
        let mut script = self.script();
        let other = script.open.get(&endpoint).is_some_and(|open| open != spec);
        if other || script.taken.contains(endpoint.ip()) {
            return Err(refused(Kind::AddressTaken, "address taken"));
        }
        script.open.insert(endpoint, spec.clone());
        Ok(())
    }

    async fn close(&self, endpoint: SocketAddrV4) -> Result<(), RelayError> {
        self.called(format!("close {}", endpoint.ip())).await;
        self.script().open.remove(&endpoint);
        Ok(())
    }

    async fn probe(&self, spec: &TunnelSpec) -> Result<ProbeReport, RelayError> {
        self.called(format!("probe {}", spec.host)).await;
        let (dead, refusing) = {
            let script = self.script();
            (script.dead.contains(spec.host.as_str()), script.refusing.contains(spec.host.as_str()))
        };
        if dead {
            std::future::pending::<()>().await;
        }
        if refusing {
            Err(refused(Kind::NotTls, "no TLS there"))
        } else {
            Ok(ProbeReport::default())
        }
    }

    async fn status(&self) -> Result<Vec<SocketAddrV4>, RelayError> {
        self.answering().await;
        Ok(self.script().open.keys().copied().collect())
    }

    async fn report(&self) -> Result<StatusResponse, RelayError> {
        let carried = {
            let mut script = self.script();
            script.carried += u64::from(script.carries);
            script.carried
        };
        let to_wire = |endpoint| ListenerStatus {
            endpoint: Some(endpoint_to_wire(endpoint)),
            bytes_to_kernel: carried,
            ..ListenerStatus::default()
        };
        let listeners = self.status().await?.into_iter().map(to_wire).collect();
        Ok(StatusResponse { listeners, ..StatusResponse::default() })
    }

    async fn refresh(&self, spec: &TunnelSpec) -> Result<(), RelayError> {
        self.called(format!("refresh {}", spec.host)).await;
        Ok(())
    }

    async fn shut_down(&self, _grace: Duration) -> Result<(), RelayError> {
        self.called("shut down".to_owned()).await;
        Ok(())
    }
}

/// Servers that answer, or do not, whoever asks without a tunnel.
#[derive(Debug, Default)]
pub(super) struct FakeServers {
    down: AtomicBool,
    asked: AtomicU32,
}

impl FakeServers {
    pub(super) fn down(&self) {
        self.down.store(true, Ordering::Relaxed);
    }

    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Servers for FakeServers {
    async fn ask(&self, _: &TunnelSpec) -> Result<(), String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) { Err("nobody there".to_owned()) } else { Ok(()) }
    }
}

/// How the next processes behave, and what became of the ones before.
#[derive(Debug, Default)]
pub(super) struct FakeLauncher {
    /// The relay of every process.
    pub(super) relay: Arc<FakeRelay>,
    /// Processes never become ready.
    pub(super) never_ready: Mutex<bool>,
    /// An earlier watchdog has left a process.
    pub(super) predecessor: Mutex<bool>,
    /// What happened, in order.
    pub(super) log: Arc<Mutex<Vec<String>>>,
    /// Ends the process that runs.
    pub(super) crash: Arc<Notify>,
    launched: AtomicU32,
}

impl FakeLauncher {
    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

#[async_trait]
impl Launcher for FakeLauncher {
    async fn take_over(&self) -> Inheritance {
        self.log.lock().unwrap().push("took over".to_owned());
        let log = Arc::clone(&self.log);
        let farewell = self.predecessor.lock().unwrap().then(|| -> Farewell {
            Box::pin(async move { log.lock().unwrap().push("predecessor ended".to_owned()) })
        });
        Inheritance { sockets: Vec::new(), farewell }
    }

    fn launch(&self, bindings: Bindings, version: Version) -> io::Result<Box<dyn TunnelProcess>> {
        self.log.lock().unwrap().push(match version {
            Version::Ours => format!("launched with {}", bindings.listeners.len()),
            Version::Installed => "launched the installed one".to_owned(),
        });
        Ok(Box::new(FakeProcess {
            id: self.launched.fetch_add(1, Ordering::Relaxed) + 1,
            relay: Arc::clone(&self.relay),
            never_ready: *self.never_ready.lock().unwrap(),
            log: Arc::clone(&self.log),
            crash: Arc::clone(&self.crash),
        }))
    }
}

#[derive(Debug)]
struct FakeProcess {
    id: u32,
    relay: Arc<FakeRelay>,
    never_ready: bool,
    log: Arc<Mutex<Vec<String>>>,
    crash: Arc<Notify>,
}

#[async_trait]
impl TunnelProcess for FakeProcess {
    fn id(&self) -> u32 {
        self.id
    }

    async fn ready(&mut self) -> io::Result<()> {
        if self.never_ready {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn exited(&mut self) -> String {
        let asked = self.relay.script().calls.iter().any(|call| call == "shut down");
        if !asked {
            self.crash.notified().await;
        }
        "exit status: 1".to_owned()
    }

    async fn kill(&mut self) {
        self.log.lock().unwrap().push("killed".to_owned());
    }

    fn retire(self: Box<Self>) -> Farewell {
        Box::pin(async move { self.log.lock().unwrap().push("retired".to_owned()) })
    }

    fn relay(&self) -> io::Result<Arc<dyn Relay>> {
        Ok(Arc::clone(&self.relay) as Arc<dyn Relay>)
    }
}

/// The tunnels of a node whose kernel, disk and tunnel process a test steers.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) relay: Arc<FakeRelay>,
    pub(super) clients: Arc<FakeNfsClients>,
    pub(super) mounts: Arc<FakeMounts>,
    pub(super) neighbours: Arc<FakeNeighbours>,
    pub(super) life: watch::Sender<Life>,
    pub(super) dir: tempfile::TempDir,
}

impl Node {
    /// A node without tunnels whose tunnel process runs.
    pub(super) fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap())
    }

    /// The same node after watchdog and tunnel process have died.
    pub(super) fn crash(self) -> Self {
        Self::in_dir(self.dir)
    }

    fn in_dir(dir: tempfile::TempDir) -> Self {
        let relay = Arc::new(FakeRelay::default());
        let clients = Arc::new(FakeNfsClients::default());
        let mounts = Arc::<FakeMounts>::default();
        let neighbours = Arc::<FakeNeighbours>::default();
        let kernel = KernelView {
            clients: Arc::clone(&clients) as Arc<dyn NfsClients>,
            mounts: Arc::clone(&mounts) as Arc<dyn MountTable>,
            neighbours: Arc::clone(&neighbours) as Arc<dyn Neighbours>,
        };
        let running = Some(Arc::clone(&relay) as Arc<dyn Relay>);
        let (life, shown) = watch::channel(Life { relay: running, ..Life::default() });
        let settings = TunnelSettings {
            port: LocalPort::fixed(12049),
            unmount_grace: Duration::from_secs(30),
        };
        let store = RecordStore::new(StateDir::open(dir.path().join("tunnels")).unwrap());
        let tunnels = Arc::new(
            Tunnels::load(settings, store, kernel, Sockets::new(FakeSockets), shown).unwrap(),
        );
        Self { tunnels, relay, clients, mounts, neighbours, life, dir }
    }

    /// The addresses that records name, each with its number of users.
    pub(super) fn recorded(&self) -> Vec<(String, usize)> {
        let store = RecordStore::new(StateDir::open(self.dir.path().join("tunnels")).unwrap());
        let records = store.load().unwrap().0.into_iter();
        records.map(|record| (record.endpoint.ip().to_string(), record.users.len())).collect()
    }
}
