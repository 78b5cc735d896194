//! Snapshots: a copy of a volume, whole, in the export's hidden directory.
//!
//! ```text
//! .alinas-csi/snapshots/<key>/record.json   what is known about it: written before anything is copied
//! .alinas-csi/snapshots/<key>/data          the copy: there once it is whole
//! ```
//!
//! A snapshot goes by one renaming of its directory into the trash. A volume whose snapshots are there may be deleted,
//! and a snapshot whose copies are there, too.
//!
//! LONG: one record, and a short operation for each call about it.

use serde::Deserialize;
use serde::Serialize;

use crate::controller::Controller;
use crate::controller::copier::Becomes;
use crate::controller::copier::CopyError;
use crate::controller::copier::Job;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::home::ensure_directory;
use crate::controller::home::find_directory;
use crate::controller::home::names_in;
use crate::controller::home::place_first;
use crate::controller::home::write_within;
use crate::controller::origin::Source;
use crate::controller::record::Origin;
use crate::controller::record::RecordError;
use crate::controller::tree::ExportFault;
use crate::controller::tree::Tree;
use crate::model::Export;
use crate::model::SnapshotHandle;
use crate::model::VolumeHandle;
use crate::model::VolumeKey;
use crate::model::volume_handle::HandleError;
use crate::nfs::client::Handle;
use crate::nfs::client::Name;
use crate::runtime::FailurePoint;
use crate::runtime::in_flight::Busy;

const SNAPSHOTS: &str = "snapshots";
const RECORD: &str = "record.json";
/// The copy, within a snapshot's directory.
pub(super) const DATA: &str = "data";
/// The format that is written. Every released one stands in `e2e/records`.
const VERSION: u32 = 1;

/// What is known about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotRecord {
    version: u32,
    /// The name that it was asked for by.
    pub name: String,
    /// The id of the volume that it is one of.
    pub volume: String,
    /// The size of that volume, in bytes.
    pub capacity: i64,
    /// When it was asked for, in seconds since the epoch.
    pub created: i64,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// What is known about it.
    pub record: SnapshotRecord,
    /// Whether it is whole.
    pub is_ready: bool,
}

/// Why there is no snapshot, or nothing can be said about it.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Another call for it is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Its id would not fit.
    #[error(transparent)]
    Id(#[from] HandleError),
    /// There is none.
    #[error("there is no snapshot {0:?}")]
    NotFound(String),
    /// It exists, of another volume.
    #[error("snapshot {name:?} exists already, of volume {held:?}, and is asked for of {wanted:?}")]
    Different {
        /// The snapshot.
        name: String,
        /// Whose it is.
        held: String,
        /// Whose it is to be.
        wanted: String,
    },
    /// It cannot be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Its mount target cannot be used.
    #[error(transparent)]
    Export(Box<ExportFault>),
    /// What is on it cannot be.
    #[error("{server}: {source}")]
    Home {
        /// The mount target.
        server: String,
        /// Why.
        source: HomeFault,
    },
    /// What a listing was to go on from.
    #[error("there is no listing to go on with from {0:?}; list from the beginning")]
    Token(String),
}

/// Some snapshots, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Where the rest begins; none where there is none.
    pub next: Option<String>,
}

impl Controller {
    /// Makes a snapshot, or makes sure of it. While it is copied it is answered as not ready.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn create_snapshot(
        &self,
        name: &str,
        volume: &VolumeHandle,
    ) -> Result<Snapshot, SnapshotError> {
        let (key, export) = (VolumeKey::of_directory(name), volume.export.clone());
        let _operation = self.begin_snapshot(&key)?;
        let handle = SnapshotHandle { export: export.clone(), key: key.clone() };
        let id = handle.id()?;
        let origin = Origin::Volume(volume.to_string());
        let record = self.claim_snapshot(name, &handle, &origin).await?;
        let becomes = Becomes::Snapshot(key);
        if !self.is_whole(&handle, &becomes).await? {
            match self.copier.ensure(Job { export: export.clone(), becomes, origin }).await {
                Ok(()) => {}
                Err(CopyError::UnderWay { .. }) => {
                    return Ok(Snapshot { id, record, is_ready: false });
                }
                Err(error) => {
                    if error.is_final() {
                        self.forget_snapshot(&handle).await?;
                    }
                    return Err(error.into());
                }
            }
        }
        self.sweeper.notice(&export);
        Ok(Snapshot { id, record, is_ready: true })
    }

    /// Deletes a snapshot. One that is not there has been deleted.
    ///
    /// # Errors
    /// Says why it is still there; to be called again.
    pub async fn delete_snapshot(&self, handle: &SnapshotHandle) -> Result<(), SnapshotError> {
        let _operation = self.begin_snapshot(&handle.key)?;
        self.forget_snapshot(handle).await
    }

    async fn forget_snapshot(&self, handle: &SnapshotHandle) -> Result<(), SnapshotError> {
        let SnapshotHandle { export, key } = handle;
        let becomes = Becomes::Snapshot(key.clone());
        self.copier.cancel(export, &becomes).await;
        let mut tree = match self.exports.open(export).await {
            Ok(tree) => tree,
            Err(ExportFault::NoSuchPath { .. }) => return Ok(()),
            Err(fault) => return Err(SnapshotError::Export(Box::new(fault))),
        };
        let thrown = self.throw_away(tree.as_mut(), key, &becomes).await;
        thrown.map_err(|source| broken(export, source))?;
        drop(tree);
        FailurePoint::SnapshotMoved.pass();
        self.sweeper.notice(export);
        Ok(())
    }

    /// What is known about a snapshot.
    ///
    /// # Errors
    /// When there is none, or its mount target does not say.
    pub async fn snapshot(&self, handle: &SnapshotHandle) -> Result<Snapshot, SnapshotError> {
        let SnapshotHandle { export, key } = handle;
        let missing = || SnapshotError::NotFound(handle.to_string());
        let mut tree = self.open_for_snapshots(export, missing).await?;
        let found = look(tree.as_mut(), key).await.map_err(|source| broken(export, source))?;
        let (record, is_ready) = found.ok_or_else(missing)?;
        Ok(Snapshot { id: handle.to_string(), record, is_ready })
    }

    /// The snapshots of a volume; of none in particular, those of every export that this process has used. Behind
    /// `after`, at most `most`, 0 for all.
    ///
    /// # Errors
    /// When a mount target does not say, or `after` is no id of a snapshot.
    pub async fn list_snapshots(
        &self,
        volume: Option<&VolumeHandle>,
        after: &str,
        most: usize,
    ) -> Result<Listing, SnapshotError> {
        if !after.is_empty() && SnapshotHandle::parse(after).is_none() {
            return Err(SnapshotError::Token(after.to_owned()));
        }
        let exports = match volume {
            Some(volume) => vec![volume.export.clone()],
            None => self.sweeper.exports(),
        };
        let mut ids = Vec::new();
        for export in exports {
            ids.extend(self.ids_on(&export).await?);
        }
        ids.sort();
        ids.retain(|id| id.as_str() > after);
        let of = volume.map(ToString::to_string);
        let mut listing = Listing::default();
        for id in ids {
            let Some(handle) = SnapshotHandle::parse(&id) else { continue };
            let snapshot = match self.snapshot(&handle).await {
                Ok(snapshot) => snapshot,
                // It was begun and is not one yet, or has just been deleted.
                Err(SnapshotError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            if of.as_ref().is_some_and(|of| *of != snapshot.record.volume) {
                continue;
            }
            if most > 0 && listing.snapshots.len() == most {
                listing.next = listing.snapshots.last().map(|last| last.id.clone());
                break;
            }
            listing.snapshots.push(snapshot);
        }
        Ok(listing)
    }

    /// Writes the record of a snapshot that has none, once there is a volume to copy.
    async fn claim_snapshot(
        &self,
        name: &str,
        handle: &SnapshotHandle,
        origin: &Origin,
    ) -> Result<SnapshotRecord, SnapshotError> {
        let SnapshotHandle { export, key } = handle;
        let broken = |source| broken(export, source);
        let (_, volume) = origin.words();
        let missing = || {
            let (what, id) = origin.words();
            CopyError::NoSource { what, id: id.to_owned() }.into()
        };
        let mut tree = self.open_for_snapshots(export, missing).await?;
        if let Some((record, _)) = look(tree.as_mut(), key).await.map_err(broken)? {
            return compare(record, name, volume);
        }
        // It asks for a connection of its own.
        drop(tree);
        let capacity = Source::open(&*self.exports, origin).await?.capacity;
        let mut tree = self.open_for_snapshots(export, missing).await?;
        let record = SnapshotRecord {
            version: VERSION,
            name: name.to_owned(),
            volume: volume.to_owned(),
            capacity,
            created: self.clock.now().epoch_seconds(),
        };
        match write_snapshot(tree.as_mut(), key, &record).await.map_err(broken)? {
            Some(other) => compare(other, name, volume),
            None => Ok(record),
        }
    }

    /// Whether its copy is in its place; if so, nothing of the making is left.
    async fn is_whole(
        &self,
        handle: &SnapshotHandle,
        becomes: &Becomes,
    ) -> Result<bool, SnapshotError> {
        let SnapshotHandle { export, key } = handle;
        let broken = |source| broken(export, source);
        let missing = || SnapshotError::NotFound(handle.to_string());
        let mut tree = self.open_for_snapshots(export, missing).await?;
        let tree = tree.as_mut();
        if !look(tree, key).await.map_err(broken)?.is_some_and(|(_, is_ready)| is_ready) {
            return Ok(false);
        }
        let home = Home::ensure(tree).await.map_err(broken)?;
        self.copier.discard(tree, &home, becomes).await.map_err(broken)?;
        Ok(true)
    }

    async fn throw_away(
        &self,
        tree: &mut dyn Tree,
        key: &VolumeKey,
        becomes: &Becomes,
    ) -> Result<(), HomeFault> {
        let Some(home) = Home::find(tree).await? else { return Ok(()) };
        self.copier.discard(tree, &home, becomes).await?;
        let snapshots = find_directory(tree, &home.directory, &Name::parse(SNAPSHOTS)?).await?;
        let Some(snapshots) = snapshots else { return Ok(()) };
        let name = Name::parse(key.as_str())?;
        if find_directory(tree, &snapshots, &name).await?.is_some() {
            let mark = self.clock.now().wall.as_millis();
            let free = Name::parse(&format!("gone.{key}.{mark:x}"))?;
            tree.rename((&snapshots, &name), (&home.trash, &free)).await?;
        }
        Ok(())
    }

    async fn ids_on(&self, export: &Export) -> Result<Vec<String>, SnapshotError> {
        let mut tree = match self.exports.open(export).await {
            Ok(tree) => tree,
            Err(ExportFault::NoSuchPath { .. }) => return Ok(Vec::new()),
            Err(fault) => return Err(SnapshotError::Export(Box::new(fault))),
        };
        let keys = keys(tree.as_mut()).await.map_err(|source| broken(export, source))?;
        let id = |key| SnapshotHandle { export: export.clone(), key }.to_string();
        Ok(keys.into_iter().map(id).collect())
    }

    async fn open_for_snapshots(
        &self,
        export: &Export,
        missing: impl FnOnce() -> SnapshotError + Send,
    ) -> Result<Box<dyn Tree>, SnapshotError> {
        match self.exports.open(export).await {
            Ok(tree) => Ok(tree),
            Err(ExportFault::NoSuchPath { .. }) => Err(missing()),
            Err(fault) => Err(SnapshotError::Export(Box::new(fault))),
        }
    }
}

fn compare(
    record: SnapshotRecord,
    name: &str,
    volume: &str,
) -> Result<SnapshotRecord, SnapshotError> {
    if record.volume != volume || record.name != name {
        let (held, wanted) = (record.volume, volume.to_owned());
        return Err(SnapshotError::Different { name: record.name, held, wanted });
    }
    Ok(record)
}

fn broken(export: &Export, source: HomeFault) -> SnapshotError {
    SnapshotError::Home { server: export.spec.host.to_string(), source }
}

/// The directory of a snapshot.
pub(super) async fn find_snapshot(
    tree: &mut dyn Tree,
    home: &Home,
    key: &VolumeKey,
) -> Result<Option<Handle>, HomeFault> {
    let snapshots = find_directory(tree, &home.directory, &Name::parse(SNAPSHOTS)?).await?;
    match snapshots {
        Some(snapshots) => find_directory(tree, &snapshots, &Name::parse(key.as_str())?).await,
        None => Ok(None),
    }
}

/// The record in a snapshot's directory. An empty one was begun by a process that has ended.
pub(super) async fn read_snapshot(
    tree: &mut dyn Tree,
    directory: &Handle,
    key: &VolumeKey,
) -> Result<Option<SnapshotRecord>, HomeFault> {
    let file = Name::parse(RECORD)?;
    let Some((handle, _)) = tree.look_up(directory, &file).await? else { return Ok(None) };
    let content = tree.read_file(&handle, &file).await?;
    if content.is_empty() {
        return Ok(None);
    }
    let record = SnapshotRecord::from_bytes(&content, key);
    let shown = || Name::parse(&format!("{key}.{RECORD}")).unwrap_or_else(|_| file.clone());
    record.map(Some).map_err(|source| HomeFault::Record { file: shown(), source })
}

impl SnapshotRecord {
    /// Reads the record of a key, which is believed no more than a stranger's.
    fn from_bytes(bytes: &[u8], key: &VolumeKey) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(RecordError::Later(version));
        }
        let record: Self = serde_json::from_slice(bytes)?;
        if VolumeKey::of_directory(&record.name) != *key {
            return Err(RecordError::Elsewhere(record.name));
        }
        Ok(record)
    }
}

async fn look(
    tree: &mut dyn Tree,
    key: &VolumeKey,
) -> Result<Option<(SnapshotRecord, bool)>, HomeFault> {
    let Some(home) = Home::find(tree).await? else { return Ok(None) };
    let Some(directory) = find_snapshot(tree, &home, key).await? else { return Ok(None) };
    let Some(record) = read_snapshot(tree, &directory, key).await? else { return Ok(None) };
    let data = find_directory(tree, &directory, &Name::parse(DATA)?).await?;
    Ok(Some((record, data.is_some())))
}

/// Where another process has written one meanwhile, its record is answered, and left as it is.
async fn write_snapshot(
    tree: &mut dyn Tree,
    key: &VolumeKey,
    record: &SnapshotRecord,
) -> Result<Option<SnapshotRecord>, HomeFault> {
    let home = Home::ensure(tree).await?;
    let snapshots = ensure_directory(tree, &home.directory, &Name::parse(SNAPSHOTS)?).await?;
    let directory = ensure_directory(tree, &snapshots, &Name::parse(key.as_str())?).await?;
    FailurePoint::SnapshotMade.pass();
    let file = Name::parse(RECORD)?;
    let content = serde_json::to_vec(record)
        .map_err(|error| HomeFault::Record { file: file.clone(), source: error.into() })?;
    if place_first(tree, &home.trash, (&directory, &file), &content).await? {
        FailurePoint::SnapshotRecorded.pass();
        return Ok(None);
    }
    let other = read_snapshot(tree, &directory, key).await?;
    if other.is_none() {
        // An empty one, begun in its place by an earlier release.
        write_within(tree, &directory, &file, &content).await?;
    }
    Ok(other)
}

/// The names of all snapshots; what somebody else has put there is none.
async fn keys(tree: &mut dyn Tree) -> Result<Vec<VolumeKey>, HomeFault> {
    let Some(home) = Home::find(tree).await? else { return Ok(Vec::new()) };
    let name = Name::parse(SNAPSHOTS)?;
    let Some(snapshots) = find_directory(tree, &home.directory, &name).await? else {
        return Ok(Vec::new());
    };
    let names = names_in(tree, &snapshots, &name).await?;
    Ok(names.iter().filter_map(|name| VolumeKey::parse(name)).collect())
}
