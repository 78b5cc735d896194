//! What is copied: a volume or a snapshot, open, and whether it still is there when the copy is whole.

use crate::controller::copier::CopyError;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::home::find_directory;
use crate::controller::record::Origin;
use crate::controller::snapshot::DATA;
use crate::controller::snapshot::find_snapshot;
use crate::controller::snapshot::read_snapshot;
use crate::controller::tree::ExportFault;
use crate::controller::tree::Exports;
use crate::controller::tree::Tree;
use crate::model::Export;
use crate::model::SnapshotHandle;
use crate::model::VolumeHandle;
use crate::nfs::client::Attributes;
use crate::nfs::client::Handle;
use crate::nfs::client::Name;

impl Origin {
    /// What it is, and which.
    pub(super) fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Volume(id) => ("volume", id),
            Self::Snapshot(id) => ("snapshot", id),
        }
    }

    fn missing(&self) -> CopyError {
        let (what, id) = self.words();
        CopyError::NoSource { what, id: id.to_owned() }
    }

    fn export(&self) -> Option<Export> {
        match self {
            Self::Volume(id) => VolumeHandle::parse(id).map(|handle| handle.export),
            Self::Snapshot(id) => SnapshotHandle::parse(id).map(|handle| handle.export),
        }
    }
}

/// An origin, open.
pub(super) struct Source {
    pub(super) tree: Box<dyn Tree>,
    pub(super) directory: Handle,
    pub(super) attributes: Attributes,
    /// The size that was asked for when it was made, in bytes.
    pub(super) capacity: i64,
}

impl Source {
    /// Opens the origin on a connection of its own.
    pub(super) async fn open(exports: &dyn Exports, origin: &Origin) -> Result<Self, CopyError> {
        let export = origin.export().ok_or_else(|| origin.missing())?;
        let mut tree = match exports.open(&export).await {
            Ok(tree) => tree,
            Err(ExportFault::NoSuchPath { .. }) => return Err(origin.missing()),
            Err(fault) => return Err(CopyError::Export(Box::new(fault))),
        };
        let found = look(tree.as_mut(), origin).await;
        let server = || export.spec.host.to_string();
        match found.map_err(|source| CopyError::Home { server: server(), source })? {
            Found::Whole { directory, attributes, capacity } => {
                Ok(Self { tree, directory, attributes, capacity })
            }
            Found::NotReady => Err(CopyError::NotReady(origin.words().1.to_owned())),
            Found::Nothing => Err(origin.missing()),
        }
    }

    /// Refuses a copy whose source was deleted meanwhile: it may have been taken apart already while it was read.
    pub(super) async fn ensure_still_there(&mut self, origin: &Origin) -> Result<(), CopyError> {
        let server = || origin.export().map(|export| export.spec.host.to_string());
        let found = look(self.tree.as_mut(), origin).await;
        let found = found.map_err(|source| {
            let server = server().unwrap_or_default();
            CopyError::Home { server, source }
        })?;
        match found {
            Found::Whole { attributes, .. } if attributes.number == self.attributes.number => {
                Ok(())
            }
            Found::Whole { .. } | Found::NotReady | Found::Nothing => {
                let (what, id) = origin.words();
                Err(CopyError::SourceDeleted { what, id: id.to_owned() })
            }
        }
    }
}

enum Found {
    Whole { directory: Handle, attributes: Attributes, capacity: i64 },
    NotReady,
    Nothing,
}

async fn look(tree: &mut dyn Tree, origin: &Origin) -> Result<Found, HomeFault> {
    let Some(home) = Home::find(tree).await? else { return Ok(Found::Nothing) };
    let (within, name, capacity) = match origin {
        Origin::Volume(id) => {
            let Some(handle) = VolumeHandle::parse(id) else { return Ok(Found::Nothing) };
            let Some(record) = home.record(tree, &handle.key).await? else {
                return Ok(Found::Nothing);
            };
            (tree.root(), Name::parse(&record.directory)?, record.capacity)
        }
        Origin::Snapshot(id) => {
            let Some(handle) = SnapshotHandle::parse(id) else { return Ok(Found::Nothing) };
            let Some(within) = find_snapshot(tree, &home, &handle.key).await? else {
                return Ok(Found::Nothing);
            };
            let Some(record) = read_snapshot(tree, &within, &handle.key).await? else {
                return Ok(Found::Nothing);
            };
            (within, Name::parse(DATA)?, record.capacity)
        }
    };
    // A link or a file in its place is named.
    if find_directory(tree, &within, &name).await?.is_none() {
        return Ok(match origin {
            Origin::Volume(_) => Found::Nothing,
            Origin::Snapshot(_) => Found::NotReady,
        });
    }
    let found = tree.look_up(&within, &name).await?;
    Ok(found.map_or(Found::Nothing, |(directory, attributes)| Found::Whole {
        directory,
        attributes,
        capacity,
    }))
}
