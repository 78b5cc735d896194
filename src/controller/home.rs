//! The hidden directory of an export: records and trash.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::controller::record::RecordError;
use crate::controller::record::VolumeRecord;
use crate::controller::tree::Tree;
use crate::model::VolumeKey;
use crate::nfs::client::Handle;
use crate::nfs::client::Kind;
use crate::nfs::client::Name;
use crate::nfs::client::NameError;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Place;
use crate::nfs::client::Status;
use crate::runtime::FailurePoint;

/// What everything of ours on an export is in. A volume's directory is never hidden.
pub const HOME: &str = ".alinas-csi";
const VOLUMES: &str = "volumes";
const ENDING: &str = ".json";
const TRASH: &str = "trash";
/// Nobody but root looks in.
const PRIVATE: u32 = 0o700;
/// At a file that a sweep of the trash takes away meanwhile.
const ATTEMPTS: usize = 20;

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

    /// The keys of all records; what somebody else has put there is none.
    pub(super) async fn keys(&self, tree: &mut dyn Tree) -> Result<Vec<VolumeKey>, HomeFault> {
        let names = names_in(tree, &self.volumes, &Name::parse(VOLUMES)?).await?;
        let key = |name: &String| VolumeKey::parse(name.strip_suffix(ENDING)?);
        Ok(names.iter().filter_map(key).collect())
    }

    /// Writes the record of a volume that has none. Where another process has done so meanwhile, its record is
    /// answered, and left as it is.
    pub(super) async fn write_first(
        &self,
        tree: &mut dyn Tree,
        key: &VolumeKey,
        record: &VolumeRecord,
    ) -> Result<Option<VolumeRecord>, HomeFault> {
        let (file, content) = (file_of(key)?, bytes_of(key, record)?);
        if place_first(tree, &self.trash, (&self.volumes, &file), &content).await? {
            return Ok(None);
        }
        let other = self.record(tree, key).await?;
        if other.is_none() {
            // An empty one, begun in its place by an earlier release.
            write_within(tree, &self.volumes, &file, &content).await?;
        }
        Ok(other)
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
        write_within(tree, &self.volumes, &aside, &bytes_of(key, record)?).await?;
        FailurePoint::RecordAside.pass();
        tree.rename((&self.volumes, &aside), (&self.volumes, &file_of(key)?)).await?;
        FailurePoint::RecordReplaced.pass();
        Ok(())
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

fn bytes_of(key: &VolumeKey, record: &VolumeRecord) -> Result<Vec<u8>, HomeFault> {
    let file = file_of(key)?;
    record.to_bytes().map_err(|source| HomeFault::Record { file, source })
}

fn aside_of(key: &VolumeKey) -> Result<Name, NameError> {
    Name::parse(&format!(".{key}.new"))
}

fn file_of(key: &VolumeKey) -> Result<Name, NameError> {
    Name::parse(&format!("{key}{ENDING}"))
}

/// The names in a directory that are text.
pub(super) async fn names_in(
    tree: &mut dyn Tree,
    directory: &Handle,
    shown: &Name,
) -> Result<Vec<String>, HomeFault> {
    let (mut names, mut from) = (Vec::new(), Some(Place::default()));
    while let Some(place) = from {
        let page = tree.read_directory(directory, shown, place).await?;
        let texts = page.entries.iter().map(|entry| std::str::from_utf8(entry.name.as_bytes()));
        names.extend(texts.filter_map(Result::ok).map(str::to_owned));
        from = page.next;
    }
    Ok(names)
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

/// Puts a small file where there is none, whole or not at all. `false`: there is one, of another process.
///
/// Of several processes that do so at once one alone is given the place, by a link to what it has written in the trash
/// under a name of its own (NAS has hard links: product-overview/limits). What is left there goes with the trash; so it
/// may also go while it is needed.
pub(super) async fn place_first(
    tree: &mut dyn Tree,
    trash: &Handle,
    place: (&Handle, &Name),
    content: &[u8],
) -> Result<bool, HomeFault> {
    for _ in 0..ATTEMPTS {
        match placed(tree, trash, place, content).await {
            Err(fault) if is_swept(&fault) => {}
            outcome => return outcome,
        }
    }
    Err(HomeFault::Gone(place.1.clone()))
}

async fn placed(
    tree: &mut dyn Tree,
    trash: &Handle,
    place: (&Handle, &Name),
    content: &[u8],
) -> Result<bool, HomeFault> {
    let aside = unique_name("new")?;
    write_within(tree, trash, &aside, content).await?;
    let (file, _) = tree.look_up(trash, &aside).await?.ok_or(HomeFault::Gone(aside.clone()))?;
    let is_placed = tree.link(&file, place).await?;
    tree.remove_file(trash, &aside).await?;
    Ok(is_placed)
}

/// A name that no other process gives anything. Process ids will not do: in its pod each is the first one.
pub(super) fn unique_name(what: &str) -> Result<Name, NameError> {
    // Its keys are random, and so is what nothing is hashed to.
    Name::parse(&format!("{what}.{:x}", RandomState::new().hash_one(())))
}

fn is_swept(fault: &HomeFault) -> bool {
    match fault {
        HomeFault::Gone(_) => true,
        HomeFault::Nfs(fault) => matches!(fault.status(), Some(Status::STALE | Status::NOENT)),
        HomeFault::NotADirectory(..) | HomeFault::Record { .. } | HomeFault::Name(_) => false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fake::Servers;
    use crate::controller::tree::Exports;
    use crate::model::VolumeHandle;

    #[tokio::test]
    async fn of_two_that_write_one_file_the_second_one_changes_nothing_and_leaves_nothing() {
        let servers = Servers::default().with("a.test");
        let handle = VolumeHandle::parse("v1:a.test:/:pvc-1").unwrap();
        let mut tree = servers.open(&handle.export).await.unwrap();
        let home = Home::ensure(tree.as_mut()).await.unwrap();
        let file = Name::parse("pvc-1.json").unwrap();
        for (content, is_first) in [("the first one's", true), ("another", false)] {
            let place = (&home.volumes, &file);
            let placed = place_first(tree.as_mut(), &home.trash, place, content.as_bytes()).await;
            assert_eq!(placed.unwrap(), is_first, "{content}");
        }
        let held = servers.content("a.test", ".alinas-csi/volumes/pvc-1.json");
        assert_eq!(held.as_deref(), Some(&b"the first one's"[..]));
        assert!(
            !servers
                .paths("a.test")
                .iter()
                .any(|path| path.contains("trash/") && !path.ends_with("trash/"))
        );
    }
}
