//! The hidden place that a copy is made in, so that nobody sees it before it is whole.
//!
//! ```text
//! .alinas-csi/copies/<name>/data     the copy
//! .alinas-csi/copies/<name>/links    files with several names, by their numbers in the source
//! .alinas-csi/copies/<name>/<token>  what one process has under way
//! ```
//!
//! What has its name in `data` is whole, so whoever begins anew goes on. Each process makes its files in a folder of
//! its own; who comes later removes the folders of others, and from then on these can put nothing in its place: a
//! process that was believed dead ends at its next step. Of two that come at once, each with its folder, one is left, or
//! none.
//!
//! `data` becomes the copy by way of that folder, too: whoever has been shut out cannot move it, and whoever is at work in
//! `data` knows that nobody shows it meanwhile.

use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::home::ensure_directory;
use crate::controller::home::find_directory;
use crate::controller::tree::Tree;
use crate::nfs::client::Handle;
use crate::nfs::client::Kind;
use crate::nfs::client::Name;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Place;
use crate::nfs::client::Status;

const COPIES: &str = "copies";
const DATA: &str = "data";
const LINKS: &str = "links";
/// Attempts at a folder that somebody goes on filling.
const ATTEMPTS: usize = 100;

/// Where one copy is made.
#[derive(Clone, Debug)]
pub(super) struct Work {
    directory: Handle,
    /// The name of what was made in here, and becomes the copy.
    pub(super) data_name: Name,
    pub(super) data: Handle,
    pub(super) links: Handle,
    /// This process's own folder.
    pub(super) parts: Handle,
    token: Name,
}

impl Work {
    /// Opens it, makes what is missing, and shuts every other process out.
    pub(super) async fn begin(
        tree: &mut dyn Tree,
        home: &Home,
        name: &Name,
        token: &Name,
    ) -> Result<Self, HomeFault> {
        let copies = ensure_directory(tree, &home.directory, &Name::parse(COPIES)?).await?;
        let directory = ensure_directory(tree, &copies, name).await?;
        let data_name = Name::parse(DATA)?;
        // In this order: nobody has a folder now that was not seen, and nobody moves what is found after it.
        let parts = ensure_directory(tree, &directory, token).await?;
        shut_out(tree, &directory, name, Some(token)).await?;
        let data = ensure_directory(tree, &directory, &data_name).await?;
        let links = ensure_directory(tree, &directory, &Name::parse(LINKS)?).await?;
        Ok(Self { directory, data_name, data, links, parts, token: token.clone() })
    }

    /// Gives the copy its place. Whoever was shut out meanwhile is told [`HomeFault::Gone`].
    pub(super) async fn show(
        &self,
        tree: &mut dyn Tree,
        to: (&Handle, &Name),
    ) -> Result<(), HomeFault> {
        let name = &self.data_name;
        // Refused where the folder has been removed, even if its handle is still good for something.
        let is_ours = match tree.rename((&self.directory, name), (&self.parts, name)).await {
            Err(fault) if fault.status() == Some(Status::STALE) => false,
            moved => moved?,
        };
        // Whoever shuts us out now takes it back, or comes too late.
        let is_shown = is_ours && tree.rename((&self.parts, name), to).await?;
        if is_shown { Ok(()) } else { Err(HomeFault::Gone(self.token.clone())) }
    }
}

/// Throws away the place of a copy that is there already, or wanted no more, with whatever is in it. `true`: there
/// was one, and the trash has it now, under a name that ends in `mark`.
pub(super) async fn discard(
    tree: &mut dyn Tree,
    home: &Home,
    name: &Name,
    mark: &str,
) -> Result<bool, HomeFault> {
    let Some(copies) = find_directory(tree, &home.directory, &Name::parse(COPIES)?).await? else {
        return Ok(false);
    };
    let Some(directory) = find_directory(tree, &copies, name).await? else { return Ok(false) };
    shut_out(tree, &directory, name, None).await?;
    let free = Name::parse(&format!("{name}.{mark}"))?;
    Ok(tree.rename((&copies, name), (&home.trash, &free)).await?)
}

/// Removes the folders of every process but one.
async fn shut_out(
    tree: &mut dyn Tree,
    directory: &Handle,
    name: &Name,
    own: Option<&Name>,
) -> Result<(), HomeFault> {
    let (data, links) = (Name::parse(DATA)?, Name::parse(LINKS)?);
    let page = tree.read_directory(directory, name, Place::default()).await?;
    for entry in page.entries {
        if entry.name == data || entry.name == links || Some(&entry.name) == own {
            continue;
        }
        if let Some((folder, found)) = tree.look_up(directory, &entry.name).await?
            && found.kind == Kind::Directory
        {
            remove_flat(tree, directory, &folder, &entry.name).await?;
        }
    }
    Ok(())
}

/// Removes a folder, and takes back what was about to be shown from it. Its process may still put a file in, until it is
/// gone.
async fn remove_flat(
    tree: &mut dyn Tree,
    within: &Handle,
    folder: &Handle,
    name: &Name,
) -> Result<(), HomeFault> {
    let (mut last, data) = (None, Name::parse(DATA)?);
    for _ in 0..ATTEMPTS {
        match tree.read_directory(folder, name, Place::default()).await {
            Ok(page) => {
                for entry in page.entries {
                    if entry.name == data {
                        tree.rename((folder, &data), (within, &data)).await?;
                    } else {
                        tree.remove_file(folder, &entry.name).await?;
                    }
                }
            }
            // Its own process has removed it.
            Err(fault) if matches!(fault.status(), Some(Status::STALE | Status::NOENT)) => {
                return Ok(());
            }
            Err(fault) => return Err(fault.into()),
        }
        match tree.remove_directory(within, name).await {
            Ok(()) => return Ok(()),
            Err(fault) if matches!(fault.status(), Some(Status::NOTEMPTY | Status::EXIST)) => {
                last = Some(fault);
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    let never = || NfsFault::Garbage { action: "remove a folder".to_owned(), why: String::new() };
    Err(last.unwrap_or_else(never).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fake::Servers;
    use crate::controller::tree::Exports;
    use crate::model::VolumeHandle;

    #[tokio::test]
    async fn what_a_process_was_about_to_show_is_taken_back_by_who_follows_it() {
        let servers = Servers::default().with("a.test");
        let handle = VolumeHandle::parse("v1:a.test:/:pvc-1").unwrap();
        let mut tree = servers.open(&handle.export).await.unwrap();
        let tree = tree.as_mut();
        let home = Home::ensure(tree).await.unwrap();
        let name = |text: &str| Name::parse(text).unwrap();
        let (work, data, root) = (name("volume.pvc-2"), name(DATA), tree.root());
        let first = Work::begin(tree, &home, &work, &name("1.a")).await.unwrap();
        // As after the first of the two steps of showing.
        servers.plant("a.test", ".alinas-csi/copies/volume.pvc-2/1.a/data/copied", Kind::File);
        let second = Work::begin(tree, &home, &work, &name("2.b")).await.unwrap();
        let late = tree.rename((&first.parts, &data), (&root, &name("pvc-2"))).await;
        assert_ne!(late.ok(), Some(true));
        second.show(tree, (&root, &name("pvc-2"))).await.unwrap();
        assert!(servers.paths("a.test").contains(&"pvc-2/copied".to_owned()));
    }
}
