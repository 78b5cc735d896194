//! The hidden directory of an export: records and trash.

use crate::controller::record::RecordError;
use crate::controller::record::VolumeRecord;
use crate::controller::tree::Tree;
use crate::model::VolumeKey;
use crate::nfs::client::Handle;
use crate::nfs::client::Kind;
use crate::nfs::client::Name;
use crate::nfs::client::NameError;
use crate::nfs::client::NfsFault;
use crate::runtime::FailurePoint;

/// What everything of ours on an export is in. A volume's directory is never hidden.
pub const HOME: &str = ".alinas-csi";
const VOLUMES: &str = "volumes";
const TRASH: &str = "trash";
/// Nobody but root looks in.
const PRIVATE: u32 = 0o700;

/// Why our own directory or a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeFault {
    /// The server's, or the connection's.
    #[error(transparent)]
    Nfs(#[from] NfsFault),
    /// Somebody put something else there.
    #[error("{0:?} is a {1}, not a directory; move it away")]
    NotADirectory(Name, &'static str),
    /// It was there and is gone.
    #[error("{0:?} is gone; somebody removes what this driver makes")]
    Gone(Name),
    /// A record cannot be believed.
    #[error("the record {file:?} in {HOME}/{VOLUMES} cannot be used: {source}")]
    Record {
        /// Its file.
        file: Name,
        /// Why.
        source: RecordError,
    },
    /// What was to be a name is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The hidden directory, open.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) directory: Handle,
    pub(super) volumes: Handle,
    pub(super) trash: Handle,
}

impl Home {
    /// Opens it, where it is.
    pub(super) async fn find(tree: &mut dyn Tree) -> Result<Option<Self>, HomeFault> {
        let root = tree.root();
        let Some(home) = find_directory(tree, &root, &Name::parse(HOME)?).await? else {
            return Ok(None);
        };
        let volumes = find_directory(tree, &home, &Name::parse(VOLUMES)?).await?;
        let trash = find_directory(tree, &home, &Name::parse(TRASH)?).await?;
        let parts = volumes.zip(trash);
        Ok(parts.map(|(volumes, trash)| Self { directory: home, volumes, trash }))
    }

    /// Opens it, and makes what is missing.
    pub(super) async fn ensure(tree: &mut dyn Tree) -> Result<Self, HomeFault> {
        let root = tree.root();
        let home = ensure_directory(tree, &root, &Name::parse(HOME)?).await?;
        Ok(Self {
            volumes: ensure_directory(tree, &home, &Name::parse(VOLUMES)?).await?,
            trash: ensure_directory(tree, &home, &Name::parse(TRASH)?).await?,
            directory: home,
        })
    }

    /// The record of a volume, where there is one. An empty file was begun by a process that has ended.
    pub(super) async fn record(
        &self,
        tree: &mut dyn Tree,
        key: &VolumeKey,
    ) -> Result<Option<VolumeRecord>, HomeFault> {
        let file = file_of(key)?;
        let Some((handle, _)) = tree.look_up(&self.volumes, &file).await? else { return Ok(None) };
        let content = tree.read_file(&handle, &file).await?;
        if content.is_empty() {
            return Ok(None);
        }
        let record = VolumeRecord::from_bytes(&content, key);
        record.map(Some).map_err(|source| HomeFault::Record { file, source })
    }

    /// Writes the record of a volume that has none.
    pub(super) async fn write_first(
        &self,
        tree: &mut dyn Tree,
        key: &VolumeKey,
        record: &VolumeRecord,
    ) -> Result<(), HomeFault> {
        self.write(tree, &file_of(key)?, record).await
    }

    /// Replaces the record of a volume. Whoever reads meanwhile sees the one or the other.
    pub(super) async fn replace(
        &self,
        tree: &mut dyn Tree,
        key: &VolumeKey,
        record: &VolumeRecord,
    ) -> Result<(), HomeFault> {
        let aside = aside_of(key)?;
        // What a process that has ended left may be longer than what is written now.
        tree.remove_file(&self.volumes, &aside).await?;
        self.write(tree, &aside, record).await?;
        FailurePoint::RecordAside.pass();
        tree.rename((&self.volumes, &aside), (&self.volumes, &file_of(key)?)).await?;
        FailurePoint::RecordReplaced.pass();
        Ok(())
    }

    async fn write(
        &self,
        tree: &mut dyn Tree,
        file: &Name,
        record: &VolumeRecord,
    ) -> Result<(), HomeFault> {
        let content =
            record.to_bytes().map_err(|source| HomeFault::Record { file: file.clone(), source })?;
        write_within(tree, &self.volumes, file, &content).await
    }

    /// Removes the record of a volume, and one that was to replace it.
    pub(super) async fn forget(
        &self,
        tree: &mut dyn Tree,
        key: &VolumeKey,
    ) -> Result<(), HomeFault> {
        tree.remove_file(&self.volumes, &aside_of(key)?).await?;
        Ok(tree.remove_file(&self.volumes, &file_of(key)?).await?)
    }
}

fn aside_of(key: &VolumeKey) -> Result<Name, NameError> {
    Name::parse(&format!(".{key}.new"))
}

fn file_of(key: &VolumeKey) -> Result<Name, NameError> {
    Name::parse(&format!("{key}.json"))
}

/// A directory that is one: a link in its place is refused, wherever it leads.
pub(super) async fn find_directory(
    tree: &mut dyn Tree,
    within: &Handle,
    name: &Name,
) -> Result<Option<Handle>, HomeFault> {
    match tree.look_up(within, name).await? {
        None => Ok(None),
        Some((handle, attributes)) => match attributes.kind {
            Kind::Directory => Ok(Some(handle)),
            Kind::File => Err(HomeFault::NotADirectory(name.clone(), "file")),
            Kind::Link => Err(HomeFault::NotADirectory(name.clone(), "symbolic link")),
            Kind::Other => Err(HomeFault::NotADirectory(name.clone(), "device")),
        },
    }
}

/// A small file that is there whole, or empty where the process ends meanwhile.
pub(super) async fn write_within(
    tree: &mut dyn Tree,
    directory: &Handle,
    file: &Name,
    content: &[u8],
) -> Result<(), HomeFault> {
    tree.create_file(directory, file).await?;
    FailurePoint::RecordBegun.pass();
    let found = tree.look_up(directory, file).await?;
    let (handle, _) = found.ok_or_else(|| HomeFault::Gone(file.clone()))?;
    Ok(tree.write_file(&handle, file, content).await?)
}

/// A directory for us alone, made where it is missing.
pub(super) async fn ensure_directory(
    tree: &mut dyn Tree,
    within: &Handle,
    name: &Name,
) -> Result<Handle, HomeFault> {
    if let Some(found) = find_directory(tree, within, name).await? {
        return Ok(found);
    }
    tree.make_directory(within, name, PRIVATE).await?;
    let made = find_directory(tree, within, name).await?;
    made.ok_or_else(|| HomeFault::Gone(name.clone()))
}
