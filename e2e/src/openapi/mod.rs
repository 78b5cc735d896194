//! The vendor's API of NAS, in this process: over HTTPS, with signatures, asynchronous states, throttling and
//! whatever fault a test wants; beside it STS and the metadata service of ECS.
//!
//! Written from the vendor's documentation, not from our client: it checks signatures by code of its own
//! (`signature`), and answers field by field as the vendor's pages show. A file system is a folder, so that a server
//! which exports [`Simulator::folder`] makes it mountable. Where the vendor does not document a code, the place says so.
//!
//! Start with [`Simulator`]; what the calls do is in `account`.

mod access_points;
mod account;
mod answer;
mod directories;
mod faults;
mod identities;
mod metadata;
mod server;
mod signature;

use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::certificates::Authority;
use crate::certificates::Validity;
use crate::failure::During;
use crate::failure::Result;

use account::Account;
pub use faults::Fault;
use faults::Faults;
use identities::Identities;
use server::Served;

/// For how long things are on their way.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A file system is `Pending`, a mount target and an access point too.
    pub pending: Duration,
    /// A quota is `Initializing`.
    pub initializing: Duration,
    /// A mount target is `Deleting`.
    pub deleting: Duration,
    /// Temporary credentials hold.
    pub session: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let soon = Duration::from_millis(300);
        let session = Duration::from_secs(3600);
        Self { pending: soon, initializing: soon, deleting: soon, session }
    }
}

/// The API of the region `cn-test`. It ends when dropped.
#[derive(Debug)]
pub struct Simulator {
    /// `localhost:PORT`, over TLS. STS is there too.
    pub endpoint: String,
    /// `http://127.0.0.1:PORT`: the metadata service.
    pub metadata: String,
    /// Whom to trust.
    pub ca_file: PathBuf,
    folder: tempfile::TempDir,
    root: PathBuf,
    state: Arc<Shared>,
    serving: [JoinHandle<()>; 2],
}

/// What the servers and the test both see. The lock is never held while somebody waits.
#[derive(Debug)]
struct Shared {
    account: Mutex<Account>,
    identities: Mutex<Identities>,
    faults: Mutex<Faults>,
    served: Mutex<Vec<Served>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulator {
    /// Listens at ports that the system gives.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn start(timing: Timing) -> Result<Self> {
        let folder = tempfile::tempdir().during("failed to make a folder")?;
        let root = folder.path().join("file-systems");
        std::fs::create_dir(&root).during("failed to make a folder")?;
        Self::start_in(timing, folder, root).await
    }

    /// The same with file systems below `root`, where somebody exports them.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start_at(timing: Timing, root: PathBuf) -> Result<Self> {
        let folder = tempfile::tempdir().during("failed to make a folder")?;
        Self::start_in(timing, folder, root).await
    }

    async fn start_in(timing: Timing, folder: tempfile::TempDir, root: PathBuf) -> Result<Self> {
        let authority = Authority::create(folder.path(), "openapi-ca")?;
        let certificate = authority.sign("openapi", "localhost", Validity::Now)?;
        let state = Arc::new(Shared {
            account: Mutex::new(Account::new(root.clone(), timing)),
            identities: Mutex::new(Identities::new(timing.session)),
            faults: Mutex::default(),
            served: Mutex::default(),
        });
        let secure = TcpListener::bind("127.0.0.1:0").await.during("failed to listen")?;
        let plain = TcpListener::bind("127.0.0.1:0").await.during("failed to listen")?;
        let endpoint = format!("localhost:{}", secure.local_addr()?.port());
        let metadata = format!("http://{}", plain.local_addr()?);
        let acceptor = server::acceptor(&certificate)?;
        let serving = [
            tokio::spawn(server::serve(secure, acceptor, Arc::clone(&state))),
            tokio::spawn(metadata::serve(plain, Arc::clone(&state))),
        ];
        Ok(Self { endpoint, metadata, ca_file: authority.file(), folder, root, state, serving })
    }

    /// Below it each file system has a folder with its id.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.clone()
    }

    /// Domains that are made from now on are written into a hosts file, at an address.
    pub fn write_names(&self, hosts: &Path, address: IpAddr) {
        locked(&self.state.account).names.hosts = Some((hosts.to_owned(), address));
    }

    /// Where a domain leads, below [`Self::folder`]; with a slash in front.
    #[must_use]
    pub fn root_of_domain(&self, domain: &str) -> Option<String> {
        locked(&self.state.account).names.root(domain)
    }

    /// Takes a file system in that somebody has made elsewhere. Its folder is the caller's affair.
    pub fn adopt(&self, file_system_id: &str) {
        locked(&self.state.account).adopt(file_system_id);
    }

    /// A directory of a file system has a quota from now on, which somebody has set elsewhere.
    pub fn limit(&self, file_system_id: &str, path: &str, gibibytes: u64) {
        locked(&self.state.account).limit(file_system_id, path, gibibytes);
    }

    /// Mount targets that there are, with everything on its way.
    #[must_use]
    pub fn mount_targets(&self) -> usize {
        locked(&self.state.account).mount_targets()
    }

    /// Access points that there are.
    #[must_use]
    pub fn access_points(&self) -> usize {
        locked(&self.state.account).access_points()
    }

    /// Paths with the GiB that are allowed there.
    #[must_use]
    pub fn quotas(&self) -> Vec<(String, Option<u64>)> {
        locked(&self.state.account).quotas()
    }

    /// The root of one file system.
    #[must_use]
    pub fn root_of(&self, file_system_id: &str) -> PathBuf {
        self.folder().join(file_system_id)
    }

    /// A RAM user who may do everything.
    pub fn add_user(&self, access_key_id: &str, secret: &str) {
        self.identities().add_user(access_key_id, secret);
    }

    /// Takes one permission away, `nas:CreateDir`.
    pub fn deny(&self, access_key_id: &str, permission: &str) {
        self.identities().deny(access_key_id, permission);
    }

    /// The service takes no session that was given out so far.
    pub fn end_sessions(&self) {
        self.identities().end_sessions();
    }

    /// A role for whoever has the token of a service account.
    pub fn add_role(&self, role_arn: &str, provider_arn: &str, token: &str) {
        self.identities().add_role(role_arn, provider_arn, token);
    }

    /// The instance that this process is on has a role.
    pub fn give_instance_role(&self, role: &str) {
        self.identities().instance_role = Some(role.to_owned());
    }

    /// The next `times` calls of `action` go wrong. Faults of one action come in the order of these calls.
    pub fn fail(&self, action: &str, times: u32, fault: Fault) {
        locked(&self.state.faults).add(action, times, fault);
    }

    /// Which calls have come, and with which access key.
    #[must_use]
    pub fn served(&self) -> Vec<(String, String)> {
        let served = locked(&self.state.served);
        served.iter().map(|one| (one.action.clone(), one.access_key_id.clone())).collect()
    }

    /// How often `action` has come.
    #[must_use]
    pub fn times_served(&self, action: &str) -> usize {
        locked(&self.state.served).iter().filter(|one| one.action == action).count()
    }

    /// File systems that there are, with everything on its way.
    #[must_use]
    pub fn file_systems(&self) -> usize {
        locked(&self.state.account).file_systems()
    }

    /// The folder in which the files of the simulator are, its authority included.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.folder.path()
    }

    fn identities(&self) -> MutexGuard<'_, Identities> {
        locked(&self.state.identities)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}
