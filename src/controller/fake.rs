//! A file system in memory, for tests: what several connections see, and where they break.
//!
//! LONG: every call of a tree, in a few lines each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;

use crate::controller::Controller;
use crate::controller::tree::ExportFault;
use crate::controller::tree::Exports;
use crate::controller::tree::Tree;
use crate::model::Export;
use crate::nfs::client::Attributes;
use crate::nfs::client::Entry;
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
use crate::nfs::client::Status;
use crate::nfs::client::Time;
use crate::nfs::client::Verifier;
use crate::runtime::Clock;
use crate::runtime::Moment;

/// Entries of a directory in one page, so that tests have several.
const PAGE: usize = 3;
/// Bytes of a file in one call, so that tests need several.
const PORTION: usize = 4;
const ROOT: u64 = 1;

/// Servers by their names. A clone is the same ones.
#[derive(Clone, Default)]
pub(crate) struct Servers(Arc<Mutex<BTreeMap<String, Server>>>, Arc<AtomicBool>);

#[derive(Default)]
struct Server {
    nodes: BTreeMap<u64, Node>,
    newest: u64,
    is_silent: bool,
    /// Calls until one fails, and whether that one was carried out all the same.
    fails: Option<(usize, Carried)>,
    calls: usize,
}

/// Whether a call was carried out whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    Out,
    Not,
}

struct Node {
    attributes: Attributes,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Directory(BTreeMap<Vec<u8>, u64>),
    File(Vec<u8>),
    Link(Vec<u8>),
}

struct Connection {
    servers: Servers,
    name: String,
    is_broken: bool,
}

/// Time that stands still.
#[derive(Debug)]
pub(crate) struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Moment {
        Moment { steady: Instant::now(), wall: Duration::from_secs(1_700_000_000) }
    }
}

impl Servers {
    pub(crate) fn controller(&self) -> Controller {
        Controller::new(Arc::new(self.clone()), Arc::new(StoppedClock))
    }

    /// With an empty file system.
    pub(crate) fn with(self, name: &str) -> Self {
        let is_silent = self.1.load(Ordering::Relaxed);
        let mut server = Server { is_silent, ..Server::default() };
        server.put(ROOT, Kind::Directory);
        self.all().insert(name.to_owned(), server);
        self
    }

    /// Those that come now answer nobody.
    pub(crate) fn silence_new_ones(&self, are_silent: bool) {
        self.1.store(are_silent, Ordering::Relaxed);
    }

    pub(crate) fn ownership_of_root(&self, name: &str) -> Option<(u32, u32, u32)> {
        self.server(name, |server| {
            let Attributes { mode, uid, gid, .. } = server.nodes.get(&ROOT)?.attributes;
            Some((mode, uid, gid))
        })
    }

    /// Answers nobody any more.
    pub(crate) fn silence(&self, name: &str) {
        self.server(name, |server| server.is_silent = true);
    }

    /// Answers again.
    pub(crate) fn speak(&self, name: &str) {
        self.server(name, |server| server.is_silent = false);
    }

    /// The connection breaks at a call, from now on.
    pub(crate) fn break_at(&self, name: &str, call: usize, carried: Carried) {
        self.server(name, |server| server.fails = Some((call, carried)));
    }

    /// Whether it has broken.
    pub(crate) fn has_broken(&self, name: &str) -> bool {
        self.server(name, |server| server.fails.take().is_none())
    }

    /// Calls that were made.
    pub(crate) fn calls(&self, name: &str) -> usize {
        self.server(name, |server| server.calls)
    }

    /// Makes directories and a file or a link at their end.
    pub(crate) fn plant(&self, name: &str, path: &str, kind: Kind) {
        self.server(name, |server| {
            let parts: Vec<&str> = path.split('/').collect();
            let mut at = ROOT;
            for (number, part) in parts.iter().enumerate() {
                let kind = if number + 1 == parts.len() { kind } else { Kind::Directory };
                at = match server.child(at, part.as_bytes()) {
                    Some(child) => child,
                    None => server.make(at, part.as_bytes(), kind),
                };
            }
        });
    }

    /// Every path, in order; directories end in a slash.
    pub(crate) fn paths(&self, name: &str) -> Vec<String> {
        self.server(name, |server| {
            let mut paths = Vec::new();
            server.walk(ROOT, "", &mut paths);
            paths
        })
    }

    /// What a file holds.
    pub(crate) fn content(&self, name: &str, path: &str) -> Option<Vec<u8>> {
        self.server(name, |server| match server.node(path)?.content.clone() {
            Content::File(content) => Some(content),
            Content::Directory(_) | Content::Link(_) => None,
        })
    }

    /// Overwrites a file.
    pub(crate) fn tamper(&self, name: &str, path: &str, content: &[u8]) {
        self.server(name, |server| {
            let number = server.find(path).unwrap();
            server.nodes.get_mut(&number).unwrap().content = Content::File(content.to_owned());
        });
    }

    /// A file with content, or a link that says something.
    pub(crate) fn fill(&self, name: &str, path: &str, content: &[u8]) {
        self.server(name, |server| {
            let number = server.find(path).unwrap();
            let node = server.nodes.get_mut(&number).unwrap();
            node.attributes.size = content.len().try_into().unwrap();
            match &mut node.content {
                Content::File(held) | Content::Link(held) => content.clone_into(held),
                Content::Directory(_) => unreachable!("a directory has no content"),
            }
        });
    }

    /// Another name for a file.
    pub(crate) fn link(&self, name: &str, path: &str, other: &str) {
        self.plant(name, other, Kind::File);
        self.server(name, |server| {
            let number = server.find(path).unwrap();
            let (directory, last) = other.rsplit_once('/').unwrap();
            let directory = server.find(directory).unwrap();
            server.entries(directory).unwrap().insert(last.into(), number);
            server.nodes.get_mut(&number).unwrap().attributes.links += 1;
        });
    }

    /// A tree as lines: path, kind, mode, owner, time, content, and the first path of the same file.
    pub(crate) fn tree(&self, name: &str, path: &str) -> Vec<String> {
        self.server(name, |server| {
            let at = server.find(path).unwrap();
            let mut paths = Vec::new();
            server.walk(at, "", &mut paths);
            let mut first_names: BTreeMap<u64, String> = BTreeMap::new();
            paths
                .into_iter()
                .map(|inner| {
                    let number = server.find(&format!("{path}/{}", inner.trim_end_matches('/')));
                    let Node { attributes, content } = &server.nodes[&number.unwrap()];
                    let Attributes { kind, mode, uid, gid, modified, .. } = attributes;
                    let held = match content {
                        Content::File(held) | Content::Link(held) => held.clone(),
                        Content::Directory(_) => Vec::new(),
                    };
                    let first = first_names.entry(number.unwrap()).or_insert(inner.clone());
                    let held = String::from_utf8_lossy(&held);
                    format!("{inner} {kind:?} {mode:o} {uid}:{gid} {modified:?} {held} ={first}")
                })
                .collect()
        })
    }

    /// Puts a link in the place of a directory.
    pub(crate) fn replace_by_link(&self, name: &str, path: &str) {
        self.server(name, |server| {
            let number = server.find(path).unwrap();
            server.put(number, Kind::Link);
        });
    }

    pub(crate) fn ownership(&self, name: &str, path: &str) -> Option<(u32, u32, u32)> {
        self.server(name, |server| {
            let Attributes { mode, uid, gid, .. } = server.node(path)?.attributes;
            Some((mode, uid, gid))
        })
    }

    fn server<T>(&self, name: &str, work: impl FnOnce(&mut Server) -> T) -> T {
        work(self.all().get_mut(name).unwrap())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        self.0.lock().unwrap()
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Servers")
    }
}

impl Server {
    fn put(&mut self, number: u64, kind: Kind) {
        let content = match kind {
            Kind::Directory => Content::Directory(BTreeMap::new()),
            Kind::File | Kind::Other => Content::File(Vec::new()),
            Kind::Link => Content::Link(Vec::new()),
        };
        let attributes = Attributes {
            kind,
            special: (kind == Kind::Other).then_some(Special::Pipe),
            links: 1,
            mode: 0o755,
            uid: 9,
            gid: 9,
            size: 0,
            number,
            accessed: Time::default(),
            modified: Time { seconds: u32::try_from(number).unwrap(), nanoseconds: 7 },
        };
        self.nodes.insert(number, Node { attributes, content });
    }

    fn make(&mut self, directory: u64, name: &[u8], kind: Kind) -> u64 {
        self.newest = self.newest.max(ROOT) + 1;
        let number = self.newest;
        self.put(number, kind);
        self.entries(directory).unwrap().insert(name.to_owned(), number);
        number
    }

    /// A name less. What has none is gone for whoever holds its handle, too.
    fn let_go(&mut self, number: u64) {
        let links = &mut self.nodes.get_mut(&number).unwrap().attributes.links;
        *links -= 1;
        if *links == 0 {
            self.nodes.remove(&number);
        }
    }

    fn file(&mut self, number: u64) -> Result<(&mut Vec<u8>, &mut Attributes), Status> {
        let Node { content, attributes } = self.nodes.get_mut(&number).ok_or(Status::STALE)?;
        match content {
            Content::File(content) => Ok((content, attributes)),
            Content::Directory(_) | Content::Link(_) => Err(Status(22)),
        }
    }

    fn entries(&mut self, directory: u64) -> Result<&mut BTreeMap<Vec<u8>, u64>, Status> {
        match self.nodes.get_mut(&directory).map(|node| &mut node.content) {
            Some(Content::Directory(entries)) => Ok(entries),
            Some(_) => Err(Status::NOTDIR),
            None => Err(Status::STALE),
        }
    }

    fn child(&mut self, directory: u64, name: &[u8]) -> Option<u64> {
        self.entries(directory).ok()?.get(name).copied()
    }

    fn find(&mut self, path: &str) -> Option<u64> {
        path.split('/').try_fold(ROOT, |at, part| self.child(at, part.as_bytes()))
    }

    fn node(&mut self, path: &str) -> Option<&Node> {
        let number = self.find(path)?;
        self.nodes.get(&number)
    }

    fn walk(&self, at: u64, path: &str, paths: &mut Vec<String>) {
        let Content::Directory(entries) = &self.nodes[&at].content else { return };
        for (name, number) in entries {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            if matches!(self.nodes[number].content, Content::Directory(_)) {
                paths.push(format!("{path}/"));
                self.walk(*number, &format!("{path}/"), paths);
            } else {
                paths.push(path);
            }
        }
    }
}

#[async_trait]
impl Exports for Servers {
    async fn open(&self, export: &Export) -> Result<Box<dyn Tree>, ExportFault> {
        let name = export.spec.host.to_string();
        let all = self.all();
        match all.get(&name) {
            Some(server) if !server.is_silent => {
                let servers = self.clone();
                Ok(Box::new(Connection { servers, name, is_broken: false }))
            }
            Some(_) => Err(ExportFault::Crowded { server: name, waited: Duration::ZERO }),
            None => Err(ExportFault::NoSuchPath { server: name, path: export.path.clone() }),
        }
    }
}

fn handle(number: u64) -> Handle {
    Handle::from_bytes(&number.to_be_bytes()).unwrap()
}

fn number(handle: &Handle) -> u64 {
    u64::from_be_bytes(handle.as_bytes().try_into().unwrap())
}

impl Connection {
    fn call<T>(
        &mut self,
        action: &str,
        work: impl FnOnce(&mut Server) -> Result<T, Status>,
    ) -> Result<T, NfsFault> {
        let lost = || NfsFault::Lost {
            action: action.to_owned(),
            source: std::io::ErrorKind::ConnectionReset.into(),
        };
        if self.is_broken {
            return Err(lost());
        }
        let mut all = self.servers.all();
        let server = all.get_mut(&self.name).unwrap();
        server.calls += 1;
        match &mut server.fails {
            Some((0, carried)) => {
                let carried = *carried;
                server.fails = None;
                self.is_broken = true;
                if carried == Carried::Out {
                    let _ = work(server);
                }
                return Err(lost());
            }
            Some((calls, _)) => *calls -= 1,
            None => {}
        }
        let refused = |status| NfsFault::Refused { action: action.to_owned(), status };
        work(server).map_err(refused)
    }
}

impl Connection {
    fn make(
        &mut self,
        directory: &Handle,
        name: &Name,
        kind: Kind,
        content: Content,
    ) -> Result<bool, NfsFault> {
        let made = self.call("make", |server| {
            if server.entries(number(directory))?.contains_key(name.as_bytes()) {
                return Err(Status::EXIST);
            }
            let made = server.make(number(directory), name.as_bytes(), kind);
            server.nodes.get_mut(&made).unwrap().content = content;
            Ok(())
        });
        Ok(unless(made, Status::EXIST)?.is_some())
    }
}

fn unless<T>(result: Result<T, NfsFault>, status: Status) -> Result<Option<T>, NfsFault> {
    crate::nfs::client::Unless::unless(result, status)
}

#[async_trait]
impl Tree for Connection {
    fn root(&self) -> Handle {
        handle(ROOT)
    }

    async fn look_up(
        &mut self,
        directory: &Handle,
        name: &Name,
    ) -> Result<Option<(Handle, Attributes)>, NfsFault> {
        let found = self.call("look up", |server| {
            let entries = server.entries(number(directory))?;
            let number = *entries.get(name.as_bytes()).ok_or(Status::NOENT)?;
            Ok((handle(number), server.nodes[&number].attributes))
        });
        unless(found, Status::NOENT)
    }

    async fn make_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        mode: u32,
    ) -> Result<bool, NfsFault> {
        let made = self.call("make", |server| {
            if server.entries(number(directory))?.contains_key(name.as_bytes()) {
                return Err(Status::EXIST);
            }
            let made = server.make(number(directory), name.as_bytes(), Kind::Directory);
            server.nodes.get_mut(&made).unwrap().attributes.mode = mode;
            Ok(())
        });
        Ok(unless(made, Status::EXIST)?.is_some())
    }

    async fn set_ownership(
        &mut self,
        of: &Handle,
        _name: &Name,
        to: Ownership,
    ) -> Result<(), NfsFault> {
        self.call("set", |server| {
            let node = server.nodes.get_mut(&number(of)).ok_or(Status::STALE)?;
            let Ownership { mode, uid, gid } = to;
            node.attributes = Attributes { mode, uid, gid, ..node.attributes };
            Ok(())
        })
    }

    async fn create_file(&mut self, directory: &Handle, name: &Name) -> Result<bool, NfsFault> {
        let made = self.call("create", |server| {
            if server.entries(number(directory))?.contains_key(name.as_bytes()) {
                return Err(Status::EXIST);
            }
            server.make(number(directory), name.as_bytes(), Kind::File);
            Ok(())
        });
        Ok(unless(made, Status::EXIST)?.is_some())
    }

    async fn write_file(
        &mut self,
        file: &Handle,
        _name: &Name,
        content: &[u8],
    ) -> Result<(), NfsFault> {
        self.call("write", |server| {
            let node = server.nodes.get_mut(&number(file)).ok_or(Status::STALE)?;
            node.content = Content::File(content.to_owned());
            node.attributes.size = content.len().try_into().unwrap();
            Ok(())
        })
    }

    async fn read_file(&mut self, file: &Handle, _name: &Name) -> Result<Vec<u8>, NfsFault> {
        self.call("read", |server| {
            match &server.nodes.get(&number(file)).ok_or(Status::STALE)?.content {
                Content::File(content) => Ok(content.clone()),
                Content::Directory(_) => Err(Status::ISDIR),
                Content::Link(_) => Err(Status(22)),
            }
        })
    }

    async fn rename(
        &mut self,
        from: (&Handle, &Name),
        to: (&Handle, &Name),
    ) -> Result<bool, NfsFault> {
        let renamed = self.call("rename", |server| {
            server.entries(number(to.0))?;
            let entries = server.entries(number(from.0))?;
            let moved = *entries.get(from.1.as_bytes()).ok_or(Status::NOENT)?;
            if let Some(there) = server.child(number(to.0), to.1.as_bytes()) {
                let is_empty = server.entries(there).is_ok_and(|entries| entries.is_empty());
                let is_file = server.entries(there).is_err();
                if !is_empty && !is_file {
                    return Err(Status::NOTEMPTY);
                }
                server.let_go(there);
            }
            server.entries(number(from.0))?.remove(from.1.as_bytes());
            server.entries(number(to.0))?.insert(to.1.as_bytes().to_owned(), moved);
            Ok(())
        });
        Ok(unless(renamed, Status::NOENT)?.is_some())
    }

    async fn remove_file(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault> {
        let removed = self.call("remove", |server| {
            let entries = server.entries(number(directory))?;
            let found = *entries.get(name.as_bytes()).ok_or(Status::NOENT)?;
            if server.entries(found).is_ok() {
                return Err(Status::ISDIR);
            }
            server.entries(number(directory))?.remove(name.as_bytes());
            server.let_go(found);
            Ok(())
        });
        unless(removed, Status::NOENT).map(drop)
    }

    async fn remove_directory(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault> {
        let removed = self.call("remove directory", |server| {
            let entries = server.entries(number(directory))?;
            let found = *entries.get(name.as_bytes()).ok_or(Status::NOENT)?;
            if !server.entries(found)?.is_empty() {
                return Err(Status::NOTEMPTY);
            }
            server.entries(number(directory))?.remove(name.as_bytes());
            server.let_go(found);
            Ok(())
        });
        unless(removed, Status::NOENT).map(drop)
    }

    async fn read_directory(
        &mut self,
        directory: &Handle,
        _name: &Name,
        from: Place,
    ) -> Result<Page, NfsFault> {
        self.call("read directory", |server| {
            let entries = server.entries(number(directory))?.clone();
            let start = from.cookie();
            // A cookie is the number of the entry before it, so that removing others changes nothing.
            let mut rest: Vec<_> =
                entries.into_iter().map(|(name, number)| (number, name)).collect();
            rest.sort();
            let rest: Vec<_> = rest.into_iter().filter(|(number, _)| *number > start).collect();
            let entries: Vec<Entry> = rest
                .iter()
                .take(PAGE)
                .map(|(number, name)| Entry {
                    name: Name::shown(name).unwrap(),
                    number: *number,
                    // Some servers say it, some do not.
                    kind: (number % 2 == 0).then(|| server.nodes[number].attributes.kind),
                    behind: Place::at(*number),
                })
                .collect();
            let last = entries.last().map(|entry| entry.number);
            let next = last.filter(|_| rest.len() > PAGE).map(Place::at);
            Ok(Page { entries, next })
        })
    }

    async fn read_at(
        &mut self,
        file: &Handle,
        _name: &Name,
        offset: u64,
    ) -> Result<Portion, NfsFault> {
        self.call("read", |server| {
            let (content, _) = server.file(number(file))?;
            let rest = content.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let bytes: Vec<u8> = rest.iter().copied().take(PORTION).collect();
            Ok(Portion { is_end: bytes.len() == rest.len(), bytes })
        })
    }

    async fn write_at(
        &mut self,
        file: &Handle,
        _name: &Name,
        offset: u64,
        bytes: &[u8],
        _stability: Stability,
    ) -> Result<Verifier, NfsFault> {
        self.call("write", |server| {
            let (content, attributes) = server.file(number(file))?;
            let (from, until) = (usize::try_from(offset).unwrap(), bytes.len());
            content.resize(content.len().max(from + until), 0);
            content[from..from + until].copy_from_slice(bytes);
            attributes.size = content.len().try_into().unwrap();
            attributes.modified = Time::default();
            Ok(Verifier(0))
        })
    }

    async fn commit(
        &mut self,
        _file: &Handle,
        _name: &Name,
        _wrote: Verifier,
    ) -> Result<(), NfsFault> {
        self.call("commit", |_| Ok(()))
    }

    async fn set_length(
        &mut self,
        file: &Handle,
        _name: &Name,
        length: u64,
    ) -> Result<(), NfsFault> {
        self.call("set", |server| {
            let (content, attributes) = server.file(number(file))?;
            content.resize(usize::try_from(length).unwrap(), 0);
            attributes.size = length;
            Ok(())
        })
    }

    async fn set_metadata(
        &mut self,
        of: &Handle,
        _name: &Name,
        kind: Kind,
        to: Metadata,
    ) -> Result<(), NfsFault> {
        self.call("set", |server| {
            let node = server.nodes.get_mut(&number(of)).ok_or(Status::STALE)?;
            let Metadata { ownership: Ownership { mode, uid, gid }, accessed, modified } = to;
            let mode = if kind == Kind::Link { node.attributes.mode } else { mode };
            node.attributes = Attributes { mode, uid, gid, accessed, modified, ..node.attributes };
            Ok(())
        })
    }

    async fn attributes(&mut self, of: &Handle, _name: &Name) -> Result<Attributes, NfsFault> {
        self.call("ask", |server| {
            server.nodes.get(&number(of)).map(|node| node.attributes).ok_or(Status::STALE)
        })
    }

    async fn read_link(&mut self, link: &Handle, _name: &Name) -> Result<Vec<u8>, NfsFault> {
        self.call("read a link", |server| match &server.nodes[&number(link)].content {
            Content::Link(says) => Ok(says.clone()),
            Content::Directory(_) | Content::File(_) => Err(Status(22)),
        })
    }

    async fn make_link(
        &mut self,
        directory: &Handle,
        name: &Name,
        says: &[u8],
    ) -> Result<bool, NfsFault> {
        self.make(directory, name, Kind::Link, Content::Link(says.to_owned()))
    }

    async fn make_special(
        &mut self,
        directory: &Handle,
        name: &Name,
        _what: Special,
    ) -> Result<bool, NfsFault> {
        self.make(directory, name, Kind::Other, Content::File(Vec::new()))
    }

    async fn link(&mut self, file: &Handle, to: (&Handle, &Name)) -> Result<bool, NfsFault> {
        let linked = self.call("link", |server| {
            let entries = server.entries(number(to.0))?;
            if entries.contains_key(to.1.as_bytes()) {
                return Err(Status::EXIST);
            }
            entries.insert(to.1.as_bytes().to_owned(), number(file));
            server.nodes.get_mut(&number(file)).ok_or(Status::STALE)?.attributes.links += 1;
            Ok(())
        });
        Ok(unless(linked, Status::EXIST)?.is_some())
    }

    async fn free_bytes(&mut self) -> Result<u64, NfsFault> {
        let free = if self.name.starts_with('a') { 1000 } else { 2000 };
        self.call("ask", |_| Ok(free))
    }
}
