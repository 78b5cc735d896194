//! A tree copied through two connections: content, owners, modes, times, links as they are, devices, names of one file.
//!
//! ```text
//! for each entry of a directory:
//!     its name is in the copy -> it is whole: an earlier attempt has done it (a directory is gone into all the same)
//!     a directory             -> made, gone into; its owner, mode and times when everything in it is there
//!     anything else           -> made aside, whole, with owner, mode and times -> renamed into its place
//! ```
//!
//! One entry after the other. What is remembered is a page of the innermost directories, and of each further one
//! where it goes on, so neither wide nor deep trees need memory. A portion of a file that is all zeros is left out:
//! a sparse file stays one. A link is copied and never followed.
//!
//! Somebody may work on the source meanwhile. What goes away is passed over, what changes is copied as it is found:
//! a copy of a source at work is no picture of one moment.

use std::collections::VecDeque;

use crate::controller::copier::Progress;
use crate::controller::tree::Tree;
use crate::controller::work::Work;
use crate::nfs::client::Attributes;
use crate::nfs::client::Entry;
use crate::nfs::client::Handle;
use crate::nfs::client::Kind;
use crate::nfs::client::Metadata;
use crate::nfs::client::Name;
use crate::nfs::client::NameError;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Ownership;
use crate::nfs::client::Place;
use crate::nfs::client::Stability;
use crate::nfs::client::Status;
use crate::nfs::client::Verifier;
use crate::runtime::FailurePoint;

/// The innermost directories whose page is kept. One further out is read again from where it goes on.
const PAGES: usize = 8;
/// What is being made is called so, in the folder of its process.
const PART: &str = "part";

/// Why a tree is not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeFault {
    /// Of the source.
    #[error("in the source: {0}")]
    Source(#[source] NfsFault),
    /// Of the copy.
    #[error("in the copy: {0}")]
    Target(#[source] NfsFault),
    /// What was to be a name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It was written, and is not there so.
    #[error("the copy of {name:?} has {found} bytes instead of {expected}; it is copied again")]
    Size {
        /// Which file.
        name: Name,
        /// What the server says.
        found: u64,
        /// What was written.
        expected: u64,
    },
    /// A server that gives nothing and says that there is more.
    #[error("the source gives no byte of {0:?} and does not say that it ends")]
    Stuck(Name),
}

/// One copy under way.
pub(super) struct Copy<'a> {
    pub(super) source: &'a mut dyn Tree,
    pub(super) target: &'a mut dyn Tree,
    pub(super) work: &'a Work,
    pub(super) progress: &'a Progress,
}

/// A directory that is being copied.
struct Level {
    source: Handle,
    target: Handle,
    name: Name,
    attributes: Attributes,
    /// The copy has just been made, so nothing is in it but what was put there.
    is_new: bool,
    page: VecDeque<Entry>,
    /// Where the next page begins; none once the last one is here.
    next: Option<Place>,
    /// Behind the last entry that was taken from the page.
    behind: Place,
}

impl Level {
    fn new(source: Handle, target: Handle, name: Name, attributes: Attributes) -> Self {
        let (page, next, behind) = (VecDeque::new(), Some(Place::default()), Place::default());
        Self { source, target, name, attributes, is_new: false, page, next, behind }
    }

    /// Its page is read again when it is needed.
    fn let_page_go(&mut self) {
        if !self.page.is_empty() {
            self.page = VecDeque::new();
            self.next = Some(self.behind);
        }
    }
}

impl Copy<'_> {
    /// Copies everything in a directory, and its own owner, mode and times, into the place of work.
    pub(super) async fn run(
        &mut self,
        root: &Handle,
        attributes: Attributes,
    ) -> Result<(), TreeFault> {
        let name = self.work.data_name.clone();
        let mut levels = vec![Level::new(root.clone(), self.work.data.clone(), name, attributes)];
        while let Some(level) = levels.last_mut() {
            if let Some(entry) = level.page.pop_front() {
                level.behind = entry.behind;
                if let Some(inner) = self.entry(level, &entry.name).await? {
                    levels.push(inner);
                    if let Some(outer) = levels.len().checked_sub(PAGES + 1) {
                        levels[outer].let_page_go();
                    }
                }
            } else if let Some(place) = level.next {
                let read = self.source.read_directory(&level.source, &level.name, place).await;
                let page = read.map_err(TreeFault::Source)?;
                (level.page, level.next) = (page.entries.into(), page.next);
            } else {
                self.finish(level).await?;
                levels.pop();
            }
        }
        Ok(())
    }

    /// Copies one entry; a directory is answered, to be gone into.
    async fn entry(&mut self, level: &Level, name: &Name) -> Result<Option<Level>, TreeFault> {
        let found = self.source.look_up(&level.source, name).await;
        let Some((source, found)) = found.map_err(TreeFault::Source)? else { return Ok(None) };
        if !level.is_new {
            let there = self.target.look_up(&level.target, name).await;
            match (found.kind, there.map_err(TreeFault::Target)?) {
                (Kind::Directory, Some((target, there))) if there.kind == Kind::Directory => {
                    return Ok(Some(Level::new(source, target, name.clone(), found)));
                }
                (_, Some(_)) => {
                    self.progress.entry();
                    return Ok(None);
                }
                (_, None) => {}
            }
        }
        if found.kind == Kind::Directory {
            return self.directory(level, name, source, found).await;
        }
        if self.is_placed(level, name, &source, &found).await? {
            FailurePoint::CopyPlaced.pass();
            self.progress.entry();
        }
        Ok(None)
    }

    async fn directory(
        &mut self,
        level: &Level,
        name: &Name,
        source: Handle,
        found: Attributes,
    ) -> Result<Option<Level>, TreeFault> {
        let made = self.target.make_directory(&level.target, name, 0o700).await;
        let is_new = made.map_err(TreeFault::Target)?;
        FailurePoint::CopyDirectory.pass();
        let there = self.target.look_up(&level.target, name).await.map_err(TreeFault::Target)?;
        let there = there.filter(|(_, there)| there.kind == Kind::Directory);
        Ok(there
            .map(|(target, _)| Level { is_new, ..Level::new(source, target, name.clone(), found) }))
    }

    /// `false`: it went away meanwhile.
    async fn is_placed(
        &mut self,
        level: &Level,
        name: &Name,
        source: &Handle,
        found: &Attributes,
    ) -> Result<bool, TreeFault> {
        let place = (&level.target, name);
        let kept = match (found.kind, found.links) {
            (Kind::File, 2..) => Some(Name::parse(&format!("{:x}", found.number))?),
            _ => None,
        };
        if let Some(kept) = &kept {
            let there = self.target.look_up(&self.work.links, kept).await;
            if let Some((file, _)) = there.map_err(TreeFault::Target)? {
                self.target.link(&file, place).await.map_err(TreeFault::Target)?;
                return Ok(true);
            }
        }
        let part = Name::parse(PART)?;
        let Some(made) = self.made(source, name, found, &part).await? else { return Ok(false) };
        FailurePoint::CopyPart.pass();
        if let Some(kept) = &kept {
            let keep = self.target.link(&made, (&self.work.links, kept)).await;
            keep.map_err(TreeFault::Target)?;
            FailurePoint::CopyKept.pass();
        }
        let placed = self.target.rename((&self.work.parts, &part), place).await;
        match placed.map_err(TreeFault::Target)? {
            true => Ok(true),
            // Another process has shut us out.
            false => Err(TreeFault::Target(gone(&part))),
        }
    }

    /// Makes it aside, whole.
    async fn made(
        &mut self,
        source: &Handle,
        name: &Name,
        found: &Attributes,
        part: &Name,
    ) -> Result<Option<Handle>, TreeFault> {
        let says = match found.kind {
            Kind::Link => match unless_gone(self.source.read_link(source, name).await)? {
                Some(says) => says,
                None => return Ok(None),
            },
            Kind::File | Kind::Directory | Kind::Other => Vec::new(),
        };
        if !self.is_begun(found, &says, part).await? {
            // What a failure has left.
            let removed = self.target.remove_file(&self.work.parts, part).await;
            removed.map_err(TreeFault::Target)?;
            self.is_begun(found, &says, part).await?;
        }
        let there = self.target.look_up(&self.work.parts, part).await.map_err(TreeFault::Target)?;
        let (made, _) = there.ok_or_else(|| TreeFault::Target(gone(part)))?;
        if found.kind != Kind::File {
            self.metadata(&made, part, found).await?;
            return Ok(Some(made));
        }
        let Some(length) = self.content(source, name, &made, part).await? else { return Ok(None) };
        self.metadata(&made, part, found).await?;
        let now = self.target.attributes(&made, part).await.map_err(TreeFault::Target)?;
        if now.size != length {
            let (name, found, expected) = (name.clone(), now.size, length);
            return Err(TreeFault::Size { name, found, expected });
        }
        Ok(Some(made))
    }

    /// Makes it aside, empty. `false`: something is there.
    async fn is_begun(
        &mut self,
        found: &Attributes,
        says: &[u8],
        part: &Name,
    ) -> Result<bool, TreeFault> {
        let parts = &self.work.parts;
        let begun = match (found.kind, found.special) {
            (Kind::Link, _) => self.target.make_link(parts, part, says).await,
            (_, Some(special)) => self.target.make_special(parts, part, special).await,
            (Kind::File | Kind::Directory | Kind::Other, None) => {
                self.target.create_file(parts, part).await
            }
        };
        begun.map_err(TreeFault::Target)
    }

    /// The length of what was copied; none where the source went away.
    async fn content(
        &mut self,
        source: &Handle,
        name: &Name,
        made: &Handle,
        part: &Name,
    ) -> Result<Option<u64>, TreeFault> {
        let (mut offset, mut written, mut uncommitted) = (0_u64, 0_u64, None);
        loop {
            let read = self.source.read_at(source, name, offset).await;
            let Some(portion) = unless_gone(read)? else { return Ok(None) };
            let from = offset;
            offset += u64::try_from(portion.bytes.len()).unwrap_or_default();
            if portion.bytes.iter().any(|byte| *byte != 0) {
                let is_all = from == 0 && portion.is_end;
                let stability = if is_all { Stability::Now } else { Stability::Later };
                let write = self.target.write_at(made, part, from, &portion.bytes, stability).await;
                let verifier: Verifier = write.map_err(TreeFault::Target)?;
                written = offset;
                if !is_all && *uncommitted.get_or_insert(verifier) != verifier {
                    // The next commit says so.
                    uncommitted = Some(Verifier(!verifier.0));
                }
                self.progress.bytes(portion.bytes.len());
            }
            if portion.is_end {
                break;
            }
            if portion.bytes.is_empty() {
                return Err(TreeFault::Stuck(name.clone()));
            }
        }
        if written < offset {
            let set = self.target.set_length(made, part, offset).await;
            set.map_err(TreeFault::Target)?;
        }
        if let Some(verifier) = uncommitted {
            self.target.commit(made, part, verifier).await.map_err(TreeFault::Target)?;
        }
        Ok(Some(offset))
    }

    /// Everything in it is there.
    async fn finish(&mut self, level: &Level) -> Result<(), TreeFault> {
        self.metadata(&level.target, &level.name, &level.attributes).await?;
        self.progress.entry();
        Ok(())
    }

    async fn metadata(
        &mut self,
        of: &Handle,
        name: &Name,
        as_of: &Attributes,
    ) -> Result<(), TreeFault> {
        let Attributes { kind, mode, uid, gid, accessed, modified, .. } = *as_of;
        let ownership = Ownership { mode, uid, gid };
        let to = Metadata { ownership, accessed, modified };
        self.target.set_metadata(of, name, kind, to).await.map_err(TreeFault::Target)
    }
}

fn gone(name: &Name) -> NfsFault {
    NfsFault::Refused { action: format!("find {name:?} again"), status: Status::NOENT }
}

/// Somebody may remove what is being copied.
fn unless_gone<T>(result: Result<T, NfsFault>) -> Result<Option<T>, TreeFault> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(fault) if matches!(fault.status(), Some(Status::STALE | Status::NOENT)) => Ok(None),
        Err(fault) => Err(TreeFault::Source(fault)),
    }
}
