//! Exports as they are: through TLS, from the dialler that the tunnels have, too.

use std::fmt;

use async_trait::async_trait;

use crate::controller::tree::ExportFault;
use crate::controller::tree::Exports;
use crate::controller::tree::Tree;
use crate::model::Export;
use crate::nfs::client::Attributes;
use crate::nfs::client::Handle;
use crate::nfs::client::Name;
use crate::nfs::client::NfsClient;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Ownership;
use crate::nfs::client::Page;
use crate::nfs::client::Place;
use crate::nfs::client::Status;
use crate::tunnel::Dialer;
use crate::tunnel::TlsStream;

/// Opens exports over the network.
#[derive(Clone)]
pub struct NetworkExports {
    dialer: Dialer,
}

impl NetworkExports {
    /// Dials with `dialer`.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }

    async fn connect(&self, export: &Export) -> Result<NfsClient<TlsStream>, ExportFault> {
        Ok(NfsClient::new(self.dialer.dial(&export.spec).await?.into_stream()))
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
        // Servers send a connection where its first call goes: MOUNT has one of its own.
        let root = self.connect(export).await?.mount(&export.path).await;
        let root = root.map_err(|fault| no_mount(export, fault))?;
        let client = self.connect(export).await?;
        Ok(Box::new(NetworkTree { client, root }))
    }
}

/// mountstat3 has the numbers of nfsstat3 for what both have (RFC 1813, section 5.1.5).
fn no_mount(export: &Export, fault: NfsFault) -> ExportFault {
    let (server, path) = (export.spec.to_string(), export.path.clone());
    match fault.status() {
        Some(Status::NOENT | Status::NOTDIR) => ExportFault::NoSuchPath { server, path },
        Some(Status::ACCES | Status::PERM) => ExportFault::Denied { server, path },
        _ => ExportFault::Mount { server, source: fault },
    }
}

struct NetworkTree {
    client: NfsClient<TlsStream>,
    root: Handle,
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
        self.client.look_up(directory, name).await
    }

    async fn make_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        mode: u32,
    ) -> Result<bool, NfsFault> {
        self.client.make_directory(directory, name, mode).await
    }

    async fn set_ownership(
        &mut self,
        of: &Handle,
        name: &Name,
        to: Ownership,
    ) -> Result<(), NfsFault> {
        self.client.set_ownership(of, name, to).await
    }

    async fn create_file(&mut self, directory: &Handle, name: &Name) -> Result<bool, NfsFault> {
        self.client.create_file(directory, name).await
    }

    async fn write_file(
        &mut self,
        file: &Handle,
        name: &Name,
        content: &[u8],
    ) -> Result<(), NfsFault> {
        self.client.write_file(file, name, content).await
    }

    async fn read_file(&mut self, file: &Handle, name: &Name) -> Result<Vec<u8>, NfsFault> {
        self.client.read_file(file, name).await
    }

    async fn rename(
        &mut self,
        from: (&Handle, &Name),
        to: (&Handle, &Name),
    ) -> Result<bool, NfsFault> {
        self.client.rename(from, to).await
    }

    async fn remove_file(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault> {
        self.client.remove_file(directory, name).await
    }

    async fn remove_directory(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault> {
        self.client.remove_directory(directory, name).await
    }

    async fn read_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        from: Place,
    ) -> Result<Page, NfsFault> {
        self.client.read_directory(directory, name, from).await
    }
}
