//! CreateVolume: a directory with a record.
//!
//! ```text
//! record of this volume?  yes: compare what is asked with it
//!                         no:  nothing in the directory's place -> write the record
//! make the directory, where it is missing -> owner and mode
//! ```
//!
//! A copy is on record, too, before anything is copied, and its directory comes into its place whole: one that is
//! missing is still being copied ([`copier`](crate::controller::copier)).
//!
//! A directory without a record that has something in it is not taken for a volume: it may be somebody's data.
//!
//! LONG: one operation, its refusals, and a test for each way in which it can be cut short.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::controller::Controller;
use crate::controller::api::CloudFault;
use crate::controller::api::Need;
use crate::controller::cloud::before;
use crate::controller::cloud::begun;
use crate::controller::copier::Becomes;
use crate::controller::copier::CopyError;
use crate::controller::copier::Job;
use crate::controller::domain::choose::in_order;
use crate::controller::home::Home;
use crate::controller::home::HomeFault;
use crate::controller::home::find_directory;
use crate::controller::origin::Source;
use crate::controller::quota::SizeError;
use crate::controller::quota::size_of_quota;
use crate::controller::record::Origin;
use crate::controller::record::VolumeRecord;
use crate::controller::tree::ExportFault;
use crate::controller::tree::Exports;
use crate::controller::tree::Tree;
use crate::model::ExportPath;
use crate::model::StorageClass;
use crate::model::VolumeHandle;
use crate::model::VolumeId;
use crate::model::VolumeKey;
use crate::model::storage_class::Place;
use crate::model::volume_handle::HandleError;
use crate::nfs::client::Handle;
use crate::nfs::client::Name;
use crate::nfs::client::NfsFault;
use crate::nfs::client::Ownership;
use crate::runtime::FailurePoint;
use crate::runtime::in_flight::Busy;
use crate::runtime::request::carried;

/// A volume that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// Its name: whoever asks for the same name asks for the same volume.
    pub name: String,
    /// The least size in bytes, 0 for any.
    pub least: i64,
    /// The most, 0 for any.
    pub most: i64,
    /// What the class says.
    pub class: StorageClass,
    /// What it is to be a copy of; none for an empty volume.
    pub origin: Option<Origin>,
}

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: VolumeId,
    /// What is known about it.
    pub record: VolumeRecord,
}

/// Why there is no volume.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Another call for it is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Its id would not fit.
    #[error(transparent)]
    Id(#[from] HandleError),
    /// It is a copy, and not whole.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// No mount target can be used.
    #[error(transparent)]
    Export(Box<ExportFault>),
    /// None of several.
    #[error("none of {count} mount targets can be used; the last one: {last}")]
    NoExport {
        /// How many there are.
        count: usize,
        /// Why the last one cannot.
        last: Box<ExportFault>,
    },
    /// Our own directory there, or a record in it.
    #[error("{server}: {source}")]
    Home {
        /// The mount target.
        server: String,
        /// Why.
        source: HomeFault,
    },
    /// The directory.
    #[error("{server}: {source}")]
    Directory {
        /// The mount target.
        server: String,
        /// Why.
        source: NfsFault,
    },
    /// It exists, and not as it is asked for.
    #[error(
        "volume {name:?} exists already with another {what}: it has {held}, asked for is {wanted}"
    )]
    Different {
        /// The volume.
        name: String,
        /// What differs.
        what: &'static str,
        /// What it has.
        held: String,
        /// What was asked for.
        wanted: String,
    },
    /// The directory belongs to another volume.
    #[error(
        "the directory {directory:?} belongs to volume {other:?}; choose a \"nameTemplate\" that gives each volume a \
         name of its own"
    )]
    Taken {
        /// The directory.
        directory: String,
        /// Whose it is.
        other: String,
    },
    /// The vendor's API.
    #[error("{source}")]
    Cloud {
        /// Why. Its text is ours.
        source: CloudFault,
        /// Whether something has been made already, which is to be asked for again or deleted.
        is_begun: bool,
    },
    /// The size is none of a quota.
    #[error(transparent)]
    Size(SizeError),
    /// Somebody's data are where the directory is to be.
    #[error(
        "{server}: the directory {directory:?} exists already, has something in it and belongs to no volume; move it \
         away, or choose another \"nameTemplate\""
    )]
    Occupied {
        /// The mount target.
        server: String,
        /// The directory.
        directory: String,
    },
}

/// An export that answers.
struct Open<'a> {
    place: &'a Place,
    tree: Box<dyn Tree>,
    home: Home,
    record: Option<VolumeRecord>,
}

/// What an attempt has come to.
enum Attempt {
    /// The volume is there.
    Made(Created),
    /// It is not on record, and what it is to be a copy of has not been looked at.
    Unclaimed(Origin),
    /// It is on record, and is to be copied.
    Missing(Box<Job>),
}

impl Controller {
    /// Makes a volume, or makes sure of it.
    ///
    /// # Errors
    /// Says what is wrong with the class, the mount target or the directory.
    pub async fn create(&self, request: CreateRequest) -> Result<Created, CreateError> {
        let key = VolumeKey::of_directory(&request.class.directory);
        let _operation = self.begin(&key)?;
        let capacity = self.capacity(&request)?;
        for place in &request.class.places {
            handle(place, &key).id()?;
        }
        let (mut copied, mut is_copied) = (None, false);
        loop {
            match Box::pin(self.attempt(&request, &key, capacity, copied)).await? {
                Attempt::Made(created) => return Ok(created),
                Attempt::Unclaimed(origin) => {
                    copied = Some(Source::open(&*self.exports, &origin).await?.capacity);
                }
                // Somebody takes away what is copied.
                Attempt::Missing(_) if is_copied => return Err(CopyError::Interrupted.into()),
                Attempt::Missing(job) => match self.copier.ensure((*job).clone()).await {
                    Ok(()) => is_copied = true,
                    Err(error) if error.is_final() => {
                        self.forget_copy(&job, &key).await?;
                        return Err(error.into());
                    }
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    /// Goes on for as long as nothing else needs a connection: there are not many.
    async fn attempt(
        &self,
        request: &CreateRequest,
        key: &VolumeKey,
        capacity: i64,
        copied: Option<i64>,
    ) -> Result<Attempt, CreateError> {
        let mut open = self.choose(request, key).await?;
        let id = handle(open.place, key).id()?;
        let record = match (open.record.take(), &request.origin, copied) {
            (Some(record), ..) => {
                compare(&record, request, open.place)?;
                record
            }
            (None, Some(origin), None) => return Ok(Attempt::Unclaimed(origin.clone())),
            (None, ..) => {
                let capacity = if capacity > 0 { capacity } else { copied.unwrap_or(0) };
                self.claim(&mut open, request, key, capacity).await?
            }
        };
        let export = &open.place.export;
        if let Some(origin) = &record.origin {
            let becomes = Becomes::Volume(key.clone(), record.directory.clone());
            let is_there = open.has_directory(&record.directory).await;
            if !is_there.map_err(|fault| at(open.place, fault))? {
                let job = Job { export: export.clone(), becomes, origin: origin.clone() };
                return Ok(Attempt::Missing(Box::new(job)));
            }
            let rest = self.copier.discard(open.tree.as_mut(), &open.home, &becomes).await;
            rest.map_err(|fault| at(open.place, fault))?;
        }
        open.ensure_directory(&record).await?;
        self.ensure_quota(export, &record, record.capacity).await.map_err(begun)?;
        FailurePoint::CreateOwned.pass();
        self.sweeper.notice_once(export);
        // What was copied has left its place of work in the trash.
        if record.origin.is_some() {
            self.sweeper.notice(export);
        }
        Ok(Attempt::Made(Created { id, record }))
    }

    /// The size that the volume will have. What stands in the way of a quota is said before anything is made.
    fn capacity(&self, request: &CreateRequest) -> Result<i64, CreateError> {
        let CreateRequest { least, most, class, .. } = request;
        if class.places.iter().all(|place| place.quota_on.is_none()) {
            return Ok(*least);
        }
        let cloud = self.cloud(Need::Quota).map_err(before)?;
        cloud.ensure_region(class.region.as_deref()).map_err(before)?;
        size_of_quota(*least, *most).map_err(CreateError::Size)
    }

    /// Undoes what was begun for a volume that nobody can copy any more.
    async fn forget_copy(&self, job: &Job, key: &VolumeKey) -> Result<(), CreateError> {
        let export = &job.export;
        let opened = self.exports.open(export).await;
        let mut tree = opened.map_err(|fault| CreateError::Export(Box::new(fault)))?;
        let tree = tree.as_mut();
        let undone = async {
            let home = Home::ensure(tree).await?;
            self.copier.discard(tree, &home, &job.becomes).await?;
            home.forget(tree, key).await
        };
        let server = export.spec.host.to_string();
        undone.await.map_err(|source| CreateError::Home { server, source })?;
        self.sweeper.notice(export);
        Ok(())
    }

    /// The export that has the volume, or else the first in the volume's own order that answers.
    async fn choose<'a>(
        &self,
        request: &'a CreateRequest,
        key: &VolumeKey,
    ) -> Result<Open<'a>, CreateError> {
        let places = in_order(&request.class.places, &request.name, &request.class.wanted_zones);
        let count = places.len();
        let mut trees = open_all(&self.exports, &places).await;
        let (mut chosen, mut last) = (None, None);
        for (place, tree) in places.into_iter().zip(trees.drain(..)) {
            let mut tree = match tree {
                Ok(tree) => tree,
                Err(fault) => {
                    tracing::warn!(error = %fault, "a mount target is passed over");
                    last = Some(fault);
                    continue;
                }
            };
            let home = Home::ensure(tree.as_mut()).await.map_err(|fault| at(place, fault))?;
            let record = home.record(tree.as_mut(), key).await.map_err(|fault| at(place, fault))?;
            let is_it = record.is_some();
            let open = Open { place, tree, home, record };
            if is_it {
                return Ok(open);
            }
            chosen = chosen.or(Some(open));
        }
        match (chosen, last) {
            (Some(open), _) => Ok(open),
            (None, Some(last)) if count > 1 => {
                Err(CreateError::NoExport { count, last: Box::new(last) })
            }
            (None, Some(last)) => Err(CreateError::Export(Box::new(last))),
            // A class has a place; where it had none, its first server would be missing.
            (None, None) => Err(CreateError::Export(Box::new(ExportFault::NoSuchPath {
                server: String::new(),
                path: ExportPath::root(),
            }))),
        }
    }

    /// Writes the record, where nobody's data are in the way. Of two processes one alone does, and the other one goes by
    /// its record.
    async fn claim(
        &self,
        open: &mut Open<'_>,
        request: &CreateRequest,
        key: &VolumeKey,
        capacity: i64,
    ) -> Result<VolumeRecord, CreateError> {
        let class = &request.class;
        let place = open.place;
        // What is copied takes the place of no directory, not even of an empty one.
        let is_occupied = match &request.origin {
            Some(_) => open.has_directory(&class.directory).await,
            None => open.is_occupied(&class.directory).await,
        };
        if is_occupied.map_err(|fault| at(place, fault))? {
            // Another process may have made it since we looked.
            let found = open.home.record(open.tree.as_mut(), key).await;
            if let Some(found) = found.map_err(|fault| at(place, fault))? {
                compare(&found, request, place)?;
                return Ok(found);
            }
            let server = place.server.clone();
            return Err(CreateError::Occupied { server, directory: class.directory.clone() });
        }
        let record = VolumeRecord {
            capacity,
            mode: class.mode,
            uid: class.uid,
            gid: class.gid,
            context: class.volume_context(place),
            ..VolumeRecord::new(request.name.clone(), class.directory.clone(), class.on_delete)
                .with_quota(place.quota_on.clone())
        };
        let record = record.copied_from(request.origin.clone());
        let other = open.home.write_first(open.tree.as_mut(), key, &record).await;
        let Some(other) = other.map_err(|fault| at(place, fault))? else {
            FailurePoint::CreateRecorded.pass();
            return Ok(record);
        };
        compare(&other, request, place)?;
        Ok(other)
    }
}

impl Open<'_> {
    async fn has_directory(&mut self, directory: &str) -> Result<bool, HomeFault> {
        let (root, name) = (self.tree.root(), Name::parse(directory)?);
        Ok(find_directory(self.tree.as_mut(), &root, &name).await?.is_some())
    }

    async fn is_occupied(&mut self, directory: &str) -> Result<bool, HomeFault> {
        let name = Name::parse(directory)?;
        let root = self.tree.root();
        let Some(found) = find_directory(self.tree.as_mut(), &root, &name).await? else {
            return Ok(false);
        };
        let mut from = crate::nfs::client::Place::default();
        loop {
            let page = self.tree.read_directory(&found, &name, from).await?;
            match (page.entries.is_empty(), page.next) {
                (false, _) => return Ok(true),
                (true, Some(next)) => from = next,
                (true, None) => return Ok(false),
            }
        }
    }

    async fn ensure_directory(&mut self, record: &VolumeRecord) -> Result<(), CreateError> {
        let VolumeRecord { mode, uid, gid, .. } = *record;
        let made = self.made_directory(&record.directory, Ownership { mode, uid, gid }).await;
        made.map_err(|source| match source {
            HomeFault::Nfs(source) => {
                CreateError::Directory { server: self.place.server.clone(), source }
            }
            source => at(self.place, source),
        })
    }

    async fn made_directory(
        &mut self,
        directory: &str,
        ownership: Ownership,
    ) -> Result<(), HomeFault> {
        let name = Name::parse(directory)?;
        let root: Handle = self.tree.root();
        let tree = self.tree.as_mut();
        if find_directory(tree, &root, &name).await?.is_none() {
            // Until it has its owner nobody else looks in.
            tree.make_directory(&root, &name, 0o700).await?;
            FailurePoint::CreateMade.pass();
        }
        let Some((handle, found)) = tree.look_up(&root, &name).await? else {
            return Err(HomeFault::Gone(name));
        };
        let is_so = Ownership { mode: found.mode, uid: found.uid, gid: found.gid } == ownership;
        if !is_so {
            tree.set_ownership(&handle, &name, ownership).await?;
        }
        Ok(())
    }
}

fn at(place: &Place, source: HomeFault) -> CreateError {
    CreateError::Home { server: place.server.clone(), source }
}

fn handle(place: &Place, key: &VolumeKey) -> VolumeHandle {
    VolumeHandle { export: place.export.clone(), key: key.clone() }
}

/// All at once: a volume that was made when another one did not answer is where it is.
pub(super) async fn open_all(
    exports: &Arc<dyn Exports>,
    places: &[&Place],
) -> Vec<Result<Box<dyn Tree>, ExportFault>> {
    let mut under_way = JoinSet::new();
    for (number, place) in places.iter().enumerate() {
        let (exports, export) = (Arc::clone(exports), place.export.clone());
        under_way.spawn(carried(async move { (number, exports.open(&export).await) }));
    }
    let mut opened = under_way.join_all().await;
    opened.sort_by_key(|(number, _)| *number);
    opened.into_iter().map(|(_, tree)| tree).collect()
}

fn compare(
    record: &VolumeRecord,
    request: &CreateRequest,
    place: &Place,
) -> Result<(), CreateError> {
    let CreateRequest { name, least, most, class, origin } = request;
    if record.name != *name {
        let (directory, other) = (record.directory.clone(), record.name.clone());
        return Err(CreateError::Taken { directory, other });
    }
    let differs = |what, held: String, wanted: String| {
        Err(CreateError::Different { name: name.clone(), what, held, wanted })
    };
    if record.capacity < *least || (*most > 0 && record.capacity > *most) {
        let wanted = if *most > 0 { format!("{least} to {most}") } else { least.to_string() };
        return differs("size", format!("{} bytes", record.capacity), format!("{wanted} bytes"));
    }
    if record.origin != *origin {
        let shown = |origin: &Option<Origin>| match origin.as_ref().map(Origin::words) {
            Some((what, id)) => format!("a copy of {what} {id:?}"),
            None => "none".to_owned(),
        };
        return differs("source", shown(&record.origin), shown(origin));
    }
    let wanted = class.volume_context(place);
    if record.context != wanted {
        return differs("volume context", format!("{:?}", record.context), format!("{wanted:?}"));
    }
    if record.quota_on != place.quota_on {
        let quota = |on: &Option<String>| match on {
            Some(id) => format!("one on file system {id}"),
            None => "none".to_owned(),
        };
        return differs("quota", quota(&record.quota_on), quota(&place.quota_on));
    }
    let shown = |mode: u32, uid: u32, gid: u32, on_delete| {
        format!("dirMode {mode:04o}, uid {uid}, gid {gid}, onDelete {on_delete:?}")
    };
    let held = shown(record.mode, record.uid, record.gid, record.on_delete);
    let wanted = shown(class.mode, class.uid, class.gid, class.on_delete);
    if held == wanted { Ok(()) } else { differs("class", held, wanted) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::controller::fake::Carried;
    use crate::controller::fake::Servers;
    use crate::nfs::client::Kind;

    const RECORD: &str = ".alinas-csi/volumes/pvc-1.json";
    const WHOLE: [&str; 5] =
        [".alinas-csi/", ".alinas-csi/trash/", ".alinas-csi/volumes/", RECORD, "pvc-1/"];

    pub(in crate::controller) fn request(name: &str, parameters: &[(&str, &str)]) -> CreateRequest {
        let mut all: HashMap<String, String> = [("server".to_owned(), "a.test".to_owned())].into();
        all.extend(parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let class = StorageClass::parse(&all, &[], name).unwrap();
        CreateRequest { name: name.to_owned(), least: 10, most: 0, class, origin: None }
    }

    #[tokio::test]
    async fn a_volume_is_a_directory_with_a_record_that_names_its_class() {
        let servers = Servers::default().with("a.test");
        let wanted = request("pvc-1", &[("dirMode", "0750"), ("uid", "1"), ("gid", "2")]);
        let created = servers.controller().create(wanted.clone()).await.unwrap();
        assert_eq!(servers.paths("a.test"), WHOLE);
        assert_eq!(servers.ownership("a.test", "pvc-1"), Some((0o750, 1, 2)));
        assert_eq!(created.id.as_str(), "v1:a.test:/:pvc-1");
        assert_eq!(servers.controller().create(wanted).await.unwrap(), created);
    }

    #[tokio::test]
    async fn whichever_call_breaks_the_next_attempt_makes_the_same_volume() {
        for carried in [Carried::Out, Carried::Not] {
            for call in 0.. {
                let servers = Servers::default().with("a.test");
                servers.break_at("a.test", call, carried);
                let first = servers.controller().create(request("pvc-1", &[])).await;
                if !servers.has_broken("a.test") {
                    assert!(call > 10, "only {call} calls");
                    break;
                }
                assert!(first.is_err(), "call {call}");
                let next = servers.controller();
                let second = next.create(request("pvc-1", &[])).await.unwrap();
                next.sweeper.idle().await;
                assert_eq!(second.id.as_str(), "v1:a.test:/:pvc-1");
                assert_eq!(servers.paths("a.test"), WHOLE, "call {call}, {carried:?}");
                assert_eq!(servers.ownership("a.test", "pvc-1"), Some((0o777, 0, 0)));
            }
        }
    }

    #[tokio::test]
    async fn a_volume_that_exists_otherwise_is_refused() {
        let servers = Servers::default().with("a.test");
        let controller = servers.controller();
        controller.create(request("pvc-1", &[])).await.unwrap();
        let larger = CreateRequest { least: 11, ..request("pvc-1", &[]) };
        let smaller = CreateRequest { least: 5, most: 9, ..request("pvc-1", &[]) };
        let fits = CreateRequest { least: 5, most: 10, ..request("pvc-1", &[]) };
        controller.create(fits).await.unwrap();
        for other in [
            larger,
            smaller,
            request("pvc-1", &[("options", "hard")]),
            request("pvc-1", &[("dirMode", "0700")]),
            request("pvc-1", &[("onDelete", "retain")]),
        ] {
            let error = controller.create(other).await.unwrap_err();
            assert!(matches!(error, CreateError::Different { .. }), "{error}");
        }
        let error = controller.create(request("pvc-2", &[("nameTemplate", "pvc-1")])).await;
        assert!(matches!(error, Err(CreateError::Taken { .. })));
    }

    #[tokio::test]
    async fn somebody_s_data_are_not_taken_for_a_volume_also_not_when_asked_twice() {
        let servers = Servers::default().with("a.test");
        servers.plant("a.test", "pvc-1/data", Kind::File);
        for _ in 0..2 {
            let error = servers.controller().create(request("pvc-1", &[])).await.unwrap_err();
            assert!(matches!(error, CreateError::Occupied { .. }), "{error}");
        }
        assert!(!servers.paths("a.test").contains(&RECORD.to_owned()));
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_a_directory_is_not_followed() {
        for path in ["pvc-1", ".alinas-csi", ".alinas-csi/volumes"] {
            let servers = Servers::default().with("a.test");
            servers.plant("a.test", path, Kind::Link);
            let error = servers.controller().create(request("pvc-1", &[])).await.unwrap_err();
            assert!(error.to_string().contains("symbolic link"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_record_that_somebody_changed_is_named_and_nothing_is_done() {
        let servers = Servers::default().with("a.test");
        let controller = servers.controller();
        controller.create(request("pvc-1", &[])).await.unwrap();
        servers.tamper("a.test", RECORD, b"{\"version\":1,\"directory\":\"..\"}");
        let error = controller.create(request("pvc-1", &[])).await.unwrap_err().to_string();
        assert!(error.contains("pvc-1.json"), "{error}");
    }

    #[tokio::test]
    async fn volumes_are_spread_over_servers_by_their_names_and_stay_where_they_are() {
        let servers = Servers::default().with("a.test").with("b.test");
        let both = [("server", "a.test,b.test")];
        let mut ids = Vec::new();
        for number in 0..20 {
            let wanted = request(&format!("pvc-{number}"), &both);
            ids.push(servers.controller().create(wanted).await.unwrap().id);
        }
        let count = |server: &str| ids.iter().filter(|id| id.as_str().contains(server)).count();
        assert!(count("a.test") > 3 && count("b.test") > 3, "{ids:?}");
        for (number, id) in ids.iter().enumerate() {
            let wanted = request(&format!("pvc-{number}"), &both);
            assert_eq!(servers.controller().create(wanted).await.unwrap().id, *id);
        }
    }

    #[tokio::test]
    async fn a_volume_that_was_made_while_another_server_was_silent_is_where_it_is() {
        let both = [("server", "a.test,b.test")];
        for first in ["a.test", "b.test"] {
            let servers = Servers::default().with("a.test").with("b.test");
            servers.silence(first);
            let made = servers.controller().create(request("pvc-1", &both)).await.unwrap();
            servers.speak(first);
            let again = servers.controller().create(request("pvc-1", &both)).await.unwrap();
            assert_eq!(again, made);
        }
        let servers = Servers::default().with("a.test");
        servers.silence("a.test");
        let error = servers.controller().create(request("pvc-1", &[])).await.unwrap_err();
        assert!(matches!(error, CreateError::Export(_)), "{error}");
    }
}
