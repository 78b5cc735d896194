//! An export as the controller sees it: directories with entries, over one connection.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::Export;
use crate::model::ExportPath;
use crate::nfs::client::Attributes;
use crate::nfs::client::Handle;
use crate::nfs::client::Kind;
use crate::nfs::client::Metadata;
use crate::nfs::client::Name;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Ownership;
use crate::nfs::client::Page;
use crate::nfs::client::Place;
use crate::nfs::client::Portion;
use crate::nfs::client::Special;
use crate::nfs::client::Stability;
use crate::nfs::client::Verifier;
use crate::tunnel::DialFault;

/// Opens exports.
#[async_trait]
pub trait Exports: Send + Sync + fmt::Debug {
    /// A connection to an export, whose directory exists.
    ///
    /// # Errors
    /// Says what is wrong with the name, the server, its certificate or the directory.
    async fn open(&self, export: &Export) -> Result<Box<dyn Tree>, ExportFault>;
}

/// One connection. Every call names one entry of a directory, and none follows a link.
#[async_trait]
pub trait Tree: Send {
    /// The exported directory.
    fn root(&self) -> Handle;

    /// One entry of a directory; none where there is no such entry.
    async fn look_up(
        &mut self,
        directory: &Handle,
        name: &Name,
    ) -> Result<Option<(Handle, Attributes)>, NfsFault>;

    /// Makes a directory. `false`: something of that name exists.
    async fn make_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        mode: u32,
    ) -> Result<bool, NfsFault>;

    /// Owner, group and permission bits.
    async fn set_ownership(
        &mut self,
        of: &Handle,
        name: &Name,
        to: Ownership,
    ) -> Result<(), NfsFault>;

    /// Makes an empty file. `false`: something of that name exists.
    async fn create_file(&mut self, directory: &Handle, name: &Name) -> Result<bool, NfsFault>;

    /// Writes a small file, whole.
    async fn write_file(
        &mut self,
        file: &Handle,
        name: &Name,
        content: &[u8],
    ) -> Result<(), NfsFault>;

    /// Reads a small file, whole.
    async fn read_file(&mut self, file: &Handle, name: &Name) -> Result<Vec<u8>, NfsFault>;

    /// Gives an entry another name and directory. `false`: there is no such entry.
    async fn rename(
        &mut self,
        from: (&Handle, &Name),
        to: (&Handle, &Name),
    ) -> Result<bool, NfsFault>;

    /// Removes what is no directory; a link itself. One that is gone is no error.
    async fn remove_file(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault>;

    /// Removes an empty directory. One that is gone is no error.
    async fn remove_directory(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault>;

    /// Some entries of a directory, from a place on.
    async fn read_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        from: Place,
    ) -> Result<Page, NfsFault>;

    /// Some bytes of a file.
    async fn read_at(
        &mut self,
        file: &Handle,
        name: &Name,
        offset: u64,
    ) -> Result<Portion, NfsFault>;

    /// Writes some bytes of a file, all of them.
    async fn write_at(
        &mut self,
        file: &Handle,
        name: &Name,
        offset: u64,
        content: &[u8],
        stability: Stability,
    ) -> Result<Verifier, NfsFault>;

    /// Makes sure that what was written is kept.
    async fn commit(&mut self, file: &Handle, name: &Name, wrote: Verifier)
    -> Result<(), NfsFault>;

    /// Cuts a file off, or makes it longer by a hole.
    async fn set_length(&mut self, file: &Handle, name: &Name, length: u64)
    -> Result<(), NfsFault>;

    /// Owner, permission bits and times; of a link without the bits, which it has not.
    async fn set_metadata(
        &mut self,
        of: &Handle,
        name: &Name,
        kind: Kind,
        to: Metadata,
    ) -> Result<(), NfsFault>;

    /// What is known about something.
    async fn attributes(&mut self, of: &Handle, name: &Name) -> Result<Attributes, NfsFault>;

    /// What a link says.
    async fn read_link(&mut self, link: &Handle, name: &Name) -> Result<Vec<u8>, NfsFault>;

    /// Makes a link. `false`: something of that name exists.
    async fn make_link(
        &mut self,
        directory: &Handle,
        name: &Name,
        says: &[u8],
    ) -> Result<bool, NfsFault>;

    /// Makes a device, socket or pipe. `false`: something of that name exists.
    async fn make_special(
        &mut self,
        directory: &Handle,
        name: &Name,
        what: Special,
    ) -> Result<bool, NfsFault>;

    /// Gives a file another name. `false`: something of that name exists.
    async fn link(&mut self, file: &Handle, to: (&Handle, &Name)) -> Result<bool, NfsFault>;

    /// The bytes that are free on the file system.
    async fn free_bytes(&mut self) -> Result<u64, NfsFault>;
}

/// Why an export cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    /// There is no session.
    #[error(transparent)]
    Dial(#[from] DialFault),
    /// The name does not resolve, and its region is none that is known.
    #[error("{source}; {doubt}")]
    Region {
        /// What may be wrong with it.
        doubt: String,
        /// Why there is no session. Its text is part of ours.
        source: Box<DialFault>,
    },
    /// There is no such directory.
    #[error(
        "{server} has no directory {path}; make it on the file system, or correct \"path\" in the StorageClass"
    )]
    NoSuchPath {
        /// The mount target.
        server: String,
        /// The directory.
        path: ExportPath,
    },
    /// The server does not let us in, or there is no such directory: it does not say which.
    #[error(
        "{server} does not let this client into {path}: make the directory on the file system or correct \"path\" in \
         the StorageClass, or add the addresses of the cluster's nodes to the permission group of the mount target"
    )]
    DeniedOrMissing {
        /// The mount target.
        server: String,
        /// The directory.
        path: ExportPath,
    },
    /// All connections to it are in use.
    #[error("{server}: all connections are in use for {} s already; it is tried again", .waited.as_secs())]
    Crowded {
        /// The mount target.
        server: String,
        /// For how long one was waited for.
        waited: Duration,
    },
    /// The server does not let us in.
    #[error(
        "{server} does not let this client in ({path}): add the addresses of the cluster's nodes to the permission group \
         of the mount target"
    )]
    Denied {
        /// The mount target.
        server: String,
        /// The directory.
        path: ExportPath,
    },
    /// Another refusal, or none at all.
    #[error("{server}: {source}")]
    Mount {
        /// The mount target.
        server: String,
        /// Why.
        source: NfsFault,
    },
}
