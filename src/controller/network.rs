//! Exports as they are: through TLS, from the dialler that the tunnels have, too.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle as Runtime;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::controller::domain::region::explained;
use crate::controller::tree::ExportFault;
use crate::controller::tree::Exports;
use crate::controller::tree::Tree;
use crate::model::Export;
use crate::model::ExportPath;
use crate::nfs::client::Attributes;
use crate::nfs::client::Handle;
use crate::nfs::client::Kind;
use crate::nfs::client::Metadata;
use crate::nfs::client::Name;
use crate::nfs::client::NfsClient;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Ownership;
use crate::nfs::client::Page;
use crate::nfs::client::Place;
use crate::nfs::client::Portion;
use crate::nfs::client::Special;
use crate::nfs::client::Stability;
use crate::nfs::client::Status;
use crate::nfs::client::Verifier;
use crate::tunnel::Dialer;
use crate::tunnel::TlsStream;

/// Connections to one export at the same time.
const LANES: usize = 8;
/// For one of them to be free. A sidecar gives up later.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// Opens exports over the network. A clone has the same connections.
#[derive(Clone)]
pub struct NetworkExports {
    dialer: Dialer,
    lanes: Arc<Mutex<HashMap<Export, Arc<Lane>>>>,
}

/// The connections to one export. A handshake costs more than a volume, so they are used again.
struct Lane {
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    client: NfsClient<TlsStream>,
    root: Handle,
    used: Instant,
}

impl NetworkExports {
    /// Dials with `dialer`.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, lanes: Arc::default() }
    }

    fn lane(&self, export: &Export) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            || Arc::new(Lane { slots: Arc::new(Semaphore::new(LANES)), idle: Mutex::default() });
        Arc::clone(lanes.entry(export.clone()).or_insert_with(new))
    }

    async fn connect(&self, export: &Export) -> Result<NfsClient<TlsStream>, ExportFault> {
        let dialled = self.dialer.dial(&export.spec).await;
        let dialled = dialled.map_err(|fault| explained(&export.spec.host, fault))?;
        Ok(NfsClient::new(dialled.into_stream()))
    }

    async fn mount(&self, export: &Export, path: &ExportPath) -> Result<Handle, ExportFault> {
        let server = || export.spec.to_string();
        // Servers send a connection where its first call goes: MOUNT has one of its own.
        let mounted = self.connect(export).await?.mount(path).await;
        // mountstat3 has the numbers of nfsstat3 for what both have (RFC 1813, section 5.1.5).
        mounted.map_err(|fault| match fault.status() {
            Some(Status::NOENT | Status::NOTDIR) => {
                ExportFault::NoSuchPath { server: server(), path: path.clone() }
            }
            Some(Status::ACCES | Status::PERM) => {
                ExportFault::Denied { server: server(), path: path.clone() }
            }
            _ => ExportFault::Mount { server: server(), source: fault },
        })
    }

    async fn new_connection(&self, export: &Export) -> Result<Connection, ExportFault> {
        let root = match self.mount(export, &export.path).await {
            Err(ExportFault::Denied { .. }) => return Err(self.why_denied(export).await),
            mounted => mounted?,
        };
        let client = self.connect(export).await?;
        Ok(Connection { client, root, used: Instant::now() })
    }

    /// Many servers deny what is not there, so that nobody learns what is. Whoever may look from above finds out.
    async fn why_denied(&self, export: &Export) -> ExportFault {
        let (server, path) = (export.spec.to_string(), export.path.clone());
        match self.look_from_above(export).await {
            Ok(true) => ExportFault::Denied { server, path },
            Ok(false) => ExportFault::NoSuchPath { server, path },
            Err(fault) => {
                tracing::debug!(%server, error = %fault, "no look from above");
                ExportFault::DeniedOrMissing { server, path }
            }
        }
    }

    async fn look_from_above(&self, export: &Export) -> Result<bool, ExportFault> {
        let failed = |source| ExportFault::Mount { server: export.spec.to_string(), source };
        let mut directory = self.mount(export, &ExportPath::root()).await?;
        let mut client = self.connect(export).await?;
        for part in export.path.as_str().split('/').filter(|part| !part.is_empty()) {
            let Ok(name) = Name::parse(part) else { return Ok(false) };
            match client.look_up(&directory, &name).await.map_err(failed)? {
                Some((handle, found)) if found.kind == Kind::Directory => directory = handle,
                Some(_) | None => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Lane {
    /// A connection of before that still answers.
    async fn reuse(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle().pop()?;
            let root = connection.root.clone();
            let Ok(name) = Name::parse("the export") else { return None };
            if connection.client.attributes(&root, &name).await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(self: &Arc<Self>, mut connection: Connection) {
        connection.used = Instant::now();
        self.idle().push(connection);
        let lane = Arc::clone(self);
        // Outside of a runtime there is nobody to close it later, and nobody to use it again.
        if let Ok(runtime) = Runtime::try_current() {
            runtime.spawn(async move {
                sleep(IDLE).await;
                lane.idle().retain(|connection| connection.used.elapsed() < IDLE);
            });
        }
    }
}

impl fmt::Debug for NetworkExports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkExports").finish_non_exhaustive()
    }
}

#[async_trait]
impl Exports for NetworkExports {
    async fn open(&self, export: &Export) -> Result<Box<dyn Tree>, ExportFault> {
        let lane = self.lane(export);
        let slot = timeout(PATIENCE, Arc::clone(&lane.slots).acquire_owned()).await;
        let Ok(Ok(slot)) = slot else {
            let server = export.spec.to_string();
            return Err(ExportFault::Crowded { server, waited: PATIENCE });
        };
        let connection = match lane.reuse().await {
            Some(connection) => connection,
            None => self.new_connection(export).await?,
        };
        let Connection { client, root, .. } = connection;
        Ok(Box::new(NetworkTree { client: Some(client), root, lane, _slot: slot }))
    }
}

/// A connection in use. It goes back when it is dropped between two calls.
struct NetworkTree {
    client: Option<NfsClient<TlsStream>>,
    root: Handle,
    lane: Arc<Lane>,
    // Free only once the connection is back.
    _slot: OwnedSemaphorePermit,
}

impl NetworkTree {
    fn client(&mut self) -> Result<&mut NfsClient<TlsStream>, NfsFault> {
        let gone =
            || NfsFault::Garbage { action: "call".to_owned(), why: "no connection".to_owned() };
        self.client.as_mut().ok_or_else(gone)
    }
}

impl Drop for NetworkTree {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(NfsClient::is_usable) {
            let (root, used) = (self.root.clone(), Instant::now());
            self.lane.give_back(Connection { client, root, used });
        }
    }
}

#[async_trait]
impl Tree for NetworkTree {
    fn root(&self) -> Handle {
        self.root.clone()
    }

    async fn look_up(
        &mut self,
        directory: &Handle,
        name: &Name,
    ) -> Result<Option<(Handle, Attributes)>, NfsFault> {
        self.client()?.look_up(directory, name).await
    }

    async fn make_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        mode: u32,
    ) -> Result<bool, NfsFault> {
        self.client()?.make_directory(directory, name, mode).await
    }

    async fn set_ownership(
        &mut self,
        of: &Handle,
        name: &Name,
        to: Ownership,
    ) -> Result<(), NfsFault> {
        self.client()?.set_ownership(of, name, to).await
    }

    async fn create_file(&mut self, directory: &Handle, name: &Name) -> Result<bool, NfsFault> {
        self.client()?.create_file(directory, name).await
    }

    async fn write_file(
        &mut self,
        file: &Handle,
        name: &Name,
        content: &[u8],
    ) -> Result<(), NfsFault> {
        self.client()?.write_file(file, name, content).await
    }

    async fn read_file(&mut self, file: &Handle, name: &Name) -> Result<Vec<u8>, NfsFault> {
        self.client()?.read_file(file, name).await
    }

    async fn rename(
        &mut self,
        from: (&Handle, &Name),
        to: (&Handle, &Name),
    ) -> Result<bool, NfsFault> {
        self.client()?.rename(from, to).await
    }

    async fn remove_file(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault> {
        self.client()?.remove_file(directory, name).await
    }

    async fn remove_directory(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault> {
        self.client()?.remove_directory(directory, name).await
    }

    async fn read_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        from: Place,
    ) -> Result<Page, NfsFault> {
        self.client()?.read_directory(directory, name, from).await
    }

    async fn read_at(
        &mut self,
        file: &Handle,
        name: &Name,
        offset: u64,
    ) -> Result<Portion, NfsFault> {
        self.client()?.read_at(file, name, offset).await
    }

    async fn write_at(
        &mut self,
        file: &Handle,
        name: &Name,
        offset: u64,
        content: &[u8],
        stability: Stability,
    ) -> Result<Verifier, NfsFault> {
        self.client()?.write_at(file, name, offset, content, stability).await
    }

    async fn commit(
        &mut self,
        file: &Handle,
        name: &Name,
        wrote: Verifier,
    ) -> Result<(), NfsFault> {
        self.client()?.commit(file, name, wrote).await
    }

    async fn set_length(
        &mut self,
        file: &Handle,
        name: &Name,
        length: u64,
    ) -> Result<(), NfsFault> {
        self.client()?.set_length(file, name, length).await
    }

    async fn set_metadata(
        &mut self,
        of: &Handle,
        name: &Name,
        kind: Kind,
        to: Metadata,
    ) -> Result<(), NfsFault> {
        match kind {
            Kind::Link => self.client()?.set_link_metadata(of, name, to).await,
            Kind::Directory | Kind::File | Kind::Other => {
                self.client()?.set_metadata(of, name, to).await
            }
        }
    }

    async fn attributes(&mut self, of: &Handle, name: &Name) -> Result<Attributes, NfsFault> {
        self.client()?.attributes(of, name).await
    }

    async fn read_link(&mut self, link: &Handle, name: &Name) -> Result<Vec<u8>, NfsFault> {
        self.client()?.read_link(link, name).await
    }

    async fn make_link(
        &mut self,
        directory: &Handle,
        name: &Name,
        says: &[u8],
    ) -> Result<bool, NfsFault> {
        self.client()?.make_link(directory, name, says).await
    }

    async fn make_special(
        &mut self,
        directory: &Handle,
        name: &Name,
        what: Special,
    ) -> Result<bool, NfsFault> {
        self.client()?.make_special(directory, name, what).await
    }

    async fn link(&mut self, file: &Handle, to: (&Handle, &Name)) -> Result<bool, NfsFault> {
        self.client()?.link(file, to).await
    }

    async fn free_bytes(&mut self) -> Result<u64, NfsFault> {
        let root = self.root.clone();
        self.client()?.free_bytes(&root).await
    }
}
