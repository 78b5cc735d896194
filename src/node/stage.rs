//! Stages a volume: a tunnel, and one NFS mount through it, at the staging path. A volume of plain NFS has the
//! mount only, and may be mounted in the background ([`super::background`]).
//!
//! ```text
//! what is at the staging path   what is done
//! nothing                       acquire, mount; where mounting fails: unmount, release
//! this volume                   acquire again (the watchdog may have lost its records), nothing else
//! this volume, other options    refused, by the record of the watchdog's or of our own
//! this volume, not yet shared   a mount that was cut half way: unmount, then as nothing
//! this volume, unencrypted      refused where it is to be encrypted
//! another mount                 refused
//! ```
//!
//! LONG: nearly half of it are the tests of each step that can fail.

use std::path::Path;
use std::path::PathBuf;

use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::host::mount_table::MountEntry;
use crate::host::mount_table::topmost_at;
use crate::host::route;
use crate::model::DeviceName;
use crate::model::MountProtocol;
use crate::model::TunnelSpec;
use crate::model::VolumeAttributes;
use crate::model::VolumeId;
use crate::model::nfs_option::Note;
use crate::nfs::MountFault;
use crate::nfs::MountRequest;
use crate::nfs::Patience;
use crate::nfs::Start;
use crate::nfs::Way;
use crate::nfs::farewell::is_tunnel;
use crate::node::Node;
use crate::node::deadline;
use crate::node::directory;
use crate::node::directory::DirectoryFault;
use crate::node::mounts;
use crate::node::mounts::ReadMounts;
use crate::node::place;
use crate::node::place::PathFault;
use crate::node::plain_record::PlainRecord;
use crate::node::tunnels::Acquired;
use crate::node::tunnels::TunnelFault;
use crate::node::tunnels::TunnelUser;
use crate::node::unmount;
use crate::node::unmount::UnmountError;
use crate::runtime::Chain;
use crate::runtime::FailurePoint;
use crate::runtime::in_flight::Busy;
use crate::runtime::request::carried;

/// A volume to stage.
#[derive(Clone, Debug)]
pub struct StageRequest {
    /// The volume.
    pub volume: VolumeId,
    /// An existing directory.
    pub staging_path: PathBuf,
    /// What to mount, and how.
    pub attributes: VolumeAttributes,
}

/// What [`Node::stage`] found. Both are success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staged {
    /// Nothing was there; now the volume is.
    Now,
    /// The volume was there.
    Already,
}

/// Why a volume is not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Another operation on the volume is under way.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The staging path cannot be worked on.
    #[error("staging path: {0}")]
    Path(#[source] PathFault),
    /// The staging path cannot be mounted on.
    #[error("staging path: {0}")]
    Directory(#[source] DirectoryFault),
    /// We could not look.
    #[error(transparent)]
    ReadMounts(#[from] ReadMounts),
    /// Another export is mounted there.
    #[error(
        "{path:?} holds a mount of {held:?}, but the volume is {wanted:?}; unstage the other volume first"
    )]
    StagedDifferently {
        /// Where.
        path: PathBuf,
        /// The source of the mount that is there.
        held: String,
        /// The source of the volume.
        wanted: String,
    },
    /// The volume is mounted there with other options, or being tried with them.
    #[error(
        "{path:?} holds this volume with the options {held:?}, and it is asked for with {wanted:?}; unstage it first"
    )]
    OtherOptions {
        /// Where.
        path: PathBuf,
        /// The options on record.
        held: String,
        /// The options that are wanted.
        wanted: String,
    },
    /// The server is mounted both with and without encryption.
    #[error(
        "{server} is mounted {held} TLS at {at:?}, and this volume asks for a mount {wanted} TLS; mount all of its \
         volumes in one way, or set the volume attribute \"allowMixedEncryption\" to \"true\""
    )]
    MixedEncryption {
        /// The mount target.
        server: String,
        /// Where it is mounted.
        at: PathBuf,
        /// `with` or `without`.
        held: &'static str,
        /// `with` or `without`.
        wanted: &'static str,
    },
    /// Something is mounted there that we did not make.
    #[error(
        "{path:?} holds a mount of type {fs_type:?}, which this driver did not make; unmount it by hand"
    )]
    TakenByAnother {
        /// Where.
        path: PathBuf,
        /// What.
        fs_type: String,
    },
    /// What was left of a mount that was cut half way does not go away.
    #[error("failed to clear what an earlier attempt left behind")]
    HalfMade(#[source] UnmountError),
    /// No tunnel.
    #[error("{fault}{id}", fault = .0, id = .0.id().map(|id| format!(" [{id}]")).unwrap_or_default())]
    Tunnel(TunnelFault),
    /// It cannot be mounted. Nothing is left behind.
    #[error("{fault} [{id}]", fault = .0, id = .0.id())]
    Mount(Box<MountFault>),
    /// `bg`: it is not mounted yet.
    #[error("the mount has been tried in the background for {} s; the last failure: {last}", .tried.as_secs())]
    InBackground {
        /// Since it was first asked for.
        tried: Duration,
        /// In words.
        last: String,
    },
    /// The kernel does not mount, and what it left could not be undone yet.
    #[error("{fault} [{id}]; and failed to clean up after it: {left}", id = fault.id())]
    NotUndone {
        /// Why.
        fault: Box<MountFault>,
        /// What is left.
        left: LeftBehind,
    },
    /// A fault in this program.
    #[error("staging ended unexpectedly")]
    Crashed(#[source] JoinError),
}

impl From<TunnelFault> for StageError {
    fn from(fault: TunnelFault) -> Self {
        Self::Tunnel(fault)
    }
}

/// What a failed mount may have left.
#[derive(Debug, thiserror::Error)]
pub enum LeftBehind {
    /// A mount, and the tunnel that it needs.
    #[error("{}", Chain(.0.as_ref()))]
    Mount(Box<UnmountError>),
    /// A tunnel that nobody uses.
    #[error("{}", Chain(.0))]
    TunnelUser(TunnelFault),
}

impl Node {
    /// Stages a volume. Goes on to its end when the caller stops waiting.
    ///
    /// # Errors
    /// Says why the volume is not staged; see [`StageError::NotUndone`] for the one that leaves something.
    pub async fn stage(&self, request: StageRequest) -> Result<Staged, StageError> {
        let operation = self.in_flight.begin(request.volume.as_str())?;
        let node = self.clone();
        let work = async move {
            let _until_done = operation;
            node.stage_alone(&request).await
        };
        self.operations.spawn(carried(work)).await.map_err(StageError::Crashed)?
    }

    async fn stage_alone(&self, request: &StageRequest) -> Result<Staged, StageError> {
        let path = place::resolve(&request.staging_path).await.map_err(StageError::Path)?;
        let user = TunnelUser {
            volume: request.volume.clone(),
            staging_path: path.clone(),
            source: request.attributes.source(),
            options: request.attributes.options.to_string(),
        };
        if self.background.is_trying(&user) {
            self.refuse_other_options(request, &path).await?;
        }
        if let Some(known) = self.background.news_of(&user) {
            return known;
        }
        let table = mounts::read(&*self.mounts)?;
        match occupant(topmost_at(&table, &path), &user, &request.attributes.protocol)? {
            Occupant::Nobody => {}
            Occupant::ThisVolume => {
                match &request.attributes.protocol {
                    MountProtocol::Alinas(tunnel) => {
                        self.tunnels.acquire(tunnel, &user).await?;
                    }
                    MountProtocol::Nfs => self.refuse_other_options(request, &path).await?,
                }
                return Ok(Staged::Already);
            }
            Occupant::HalfMade => {
                let cleared = self.ensure_unmounted(&path, unmount::FAILED).await;
                cleared.map_err(StageError::HalfMade)?;
            }
        }
        refuse_mixed_encryption(&table, &request.attributes)?;
        directory::require(&path).await.map_err(StageError::Directory)?;
        log_notes(&request.volume, &request.attributes.notes);
        match &request.attributes.protocol {
            MountProtocol::Alinas(tunnel) => {
                self.stage_through(tunnel, &request.attributes, &user).await
            }
            MountProtocol::Nfs => {
                self.remember(request, &path).await;
                FailurePoint::StageRemembered.pass();
                self.stage_plain(&request.attributes, &user).await
            }
        }
    }

    /// CSI 1.13, NodeStageVolume: ALREADY_EXISTS where the volume is staged, but not as it is wanted now.
    async fn refuse_other_options(
        &self,
        request: &StageRequest,
        path: &Path,
    ) -> Result<(), StageError> {
        let known = self.records.read(path).await.unwrap_or_else(|error| {
            tracing::warn!(
                volume.id = %request.volume, %error, "the options that a volume was staged with cannot be read"
            );
            None
        });
        let wanted = record_of(request, path);
        match known {
            Some(known) if known.options != wanted.options => Err(StageError::OtherOptions {
                path: path.to_owned(),
                held: known.options,
                wanted: wanted.options,
            }),
            _ => Ok(()),
        }
    }

    /// Before the mount, so that there is none without a record. Without one, all that is lost is to notice later
    /// that the options have changed.
    async fn remember(&self, request: &StageRequest, path: &Path) {
        if let Err(error) = self.records.write(record_of(request, path)).await {
            tracing::warn!(
                volume.id = %request.volume, %error, "the options of a volume cannot be remembered"
            );
        }
    }

    async fn stage_through(
        &self,
        tunnel: &TunnelSpec,
        attributes: &VolumeAttributes,
        user: &TunnelUser,
    ) -> Result<Staged, StageError> {
        let acquired = self.acquire_or_nothing(tunnel, user).await?;
        FailurePoint::StageAcquired.pass();
        let remote = acquired.remote;
        let way = Way::Tunnel {
            endpoint: acquired.endpoint,
            client_address: remote
                .and_then(|remote| route::source_address_towards(remote.into()).ok()),
        };
        let mount = mount_request(attributes, user, way, Patience::Deadline(deadline::MOUNT));
        match self.engine.mount(mount, CancellationToken::new(), |_| ()).await {
            Ok(_) => {
                FailurePoint::StageMounted.pass();
                Ok(Staged::Now)
            }
            Err(fault) => Err(self.undo(Box::new(fault), user).await),
        }
    }

    /// No tunnel, and nobody who holds one: the watchdog never hears of the volume.
    async fn stage_plain(
        &self,
        attributes: &VolumeAttributes,
        user: &TunnelUser,
    ) -> Result<Staged, StageError> {
        if attributes.options.background() {
            let mount = mount_request(attributes, user, Way::Direct, Patience::AsOptionsSay);
            return self.background.begin(&self.engine, mount, user).await;
        }
        let patience = Patience::Deadline(deadline::PLAIN_MOUNT);
        let mount = mount_request(attributes, user, Way::Direct, patience);
        match self.engine.mount(mount, CancellationToken::new(), |_| ()).await {
            Ok(_) => Ok(Staged::Now),
            Err(fault) => {
                let fault = Box::new(fault);
                match self.ensure_unmounted(&user.staging_path, unmount::FAILED).await {
                    Ok(_) => Err(StageError::Mount(fault)),
                    Err(error) => Err(StageError::NotUndone {
                        fault,
                        left: LeftBehind::Mount(Box::new(error)),
                    }),
                }
            }
        }
    }

    /// Acquires a tunnel for a mount that does not exist. Where the watchdog's answer is lost, the user may be
    /// on record, so it is taken off; if that is lost too, the kubelet's NodeUnstageVolume does it.
    async fn acquire_or_nothing(
        &self,
        tunnel: &TunnelSpec,
        user: &TunnelUser,
    ) -> Result<Acquired, TunnelFault> {
        let acquired = self.tunnels.acquire(tunnel, user).await;
        if let Err(fault) = &acquired
            && fault.leaves_doubt()
            && let Err(error) = self.tunnels.release(&user.volume, &user.staging_path).await
        {
            tracing::debug!(volume.id = %user.volume, error = %Chain(&error), "release not sure");
        }
        acquired
    }

    /// Takes back what a mount that failed may have left: first the mount, then the tunnel under it.
    async fn undo(&self, fault: Box<MountFault>, user: &TunnelUser) -> StageError {
        if let Err(error) = self.ensure_unmounted(&user.staging_path, unmount::FAILED).await {
            return StageError::NotUndone { fault, left: LeftBehind::Mount(Box::new(error)) };
        }
        FailurePoint::StageUndone.pass();
        match self.tunnels.release(&user.volume, &user.staging_path).await {
            Ok(()) => StageError::Mount(fault),
            Err(error) => StageError::NotUndone { fault, left: LeftBehind::TunnelUser(error) },
        }
    }
}

/// Where a volume is staged again and again in vain, the kubelet asks each time anew, and so this is said each time.
fn log_notes(volume: &VolumeId, notes: &[Note]) {
    for note in notes {
        if note.is_warning() {
            tracing::warn!(volume.id = %volume, "{note}");
        } else {
            tracing::info!(volume.id = %volume, "{note}");
        }
    }
}

fn mount_request(
    attributes: &VolumeAttributes,
    user: &TunnelUser,
    way: Way,
    patience: Patience,
) -> MountRequest {
    MountRequest {
        device: attributes.device(),
        target: user.staging_path.clone(),
        options: attributes.options.clone(),
        way,
        start: Start::default(),
        patience,
    }
}

fn record_of(request: &StageRequest, path: &Path) -> PlainRecord {
    let StageRequest { volume, attributes, .. } = request;
    let options = attributes.options.lasting().to_string();
    PlainRecord::new(volume.as_str(), path, &attributes.source(), &options)
}

enum Occupant {
    Nobody,
    ThisVolume,
    HalfMade,
}

fn occupant(
    top: Option<&MountEntry>,
    user: &TunnelUser,
    protocol: &MountProtocol,
) -> Result<Occupant, StageError> {
    let Some(top) = top else { return Ok(Occupant::Nobody) };
    let path: &Path = &user.staging_path;
    if !top.is_nfs() {
        let fs_type = top.fs_type.clone();
        return Err(StageError::TakenByAnother { path: path.to_owned(), fs_type });
    }
    let differs = |held: String, wanted: String| StageError::StagedDifferently {
        path: path.to_owned(),
        held,
        wanted,
    };
    if top.source != user.source {
        return Err(differs(top.source.clone(), user.source.clone()));
    }
    // The other way round, where plain NFS is wanted, an encrypted mount does no harm.
    if matches!(protocol, MountProtocol::Alinas(_)) && leads_to_no_tunnel(top) {
        let [held, wanted] = ["without", "with"].map(|word| format!("{} {word} TLS", top.source));
        return Err(differs(held, wanted));
    }
    // Making it shared is the worker's last step: without it, no publication could be told.
    Ok(if top.peer_group.is_some() { Occupant::ThisVolume } else { Occupant::HalfMade })
}

/// Whoever believes a file system to be encrypted on its way is not to find it mounted in the clear beside. The mount
/// table is asked, so that mounts by hand count too, and only names are compared: a volume that names its server by
/// an address is another one.
fn refuse_mixed_encryption(
    table: &[MountEntry],
    attributes: &VolumeAttributes,
) -> Result<(), StageError> {
    let wanted = matches!(attributes.protocol, MountProtocol::Alinas(_));
    let device = attributes.device();
    let is_of_server = |mount: &MountEntry| {
        let mounted = DeviceName::parse(&mount.source);
        mounted.is_ok_and(|mounted| mounted.host().eq_ignore_ascii_case(device.host()))
    };
    let other = table
        .iter()
        .find(|mount| mount.is_nfs() && has_tunnel(mount) == Some(!wanted) && is_of_server(mount));
    match other {
        Some(other) if !attributes.mixed_encryption => Err(StageError::MixedEncryption {
            server: device.host().to_owned(),
            at: other.mount_point.clone(),
            held: word_for(!wanted),
            wanted: word_for(wanted),
        }),
        _ => Ok(()),
    }
}

fn word_for(with_tls: bool) -> &'static str {
    if with_tls { "with" } else { "without" }
}

/// Unknown where the kernel does not show the address.
fn has_tunnel(mount: &MountEntry) -> Option<bool> {
    mount.super_option("addr")?.parse().ok().map(is_tunnel)
}

/// Tunnels begin on loopback. Where the kernel does not show the address, the mount is taken for ours.
fn leads_to_no_tunnel(mount: &MountEntry) -> bool {
    let address = mount.super_option("addr").and_then(|address| address.parse::<IpAddr>().ok());
    address.is_some_and(|address| !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::host::worker::Failure;
    use crate::node::UnstageRequest;
    use crate::node::fake::Answer;
    use crate::node::fake::World;
    use crate::node::fake::entry;
    use crate::node::fake::refused;
    use crate::node::fake::refused_connection;
    use crate::proto::tunnel::tunnel_failure::Kind;

    const SOURCE: &str = "nas.example.com:/a";

    struct Stage {
        home: tempfile::TempDir,
    }

    impl Stage {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            std::fs::create_dir(home.path().join("stage")).unwrap();
            Self { home }
        }

        fn path(&self) -> PathBuf {
            self.home.path().canonicalize().unwrap().join("stage")
        }

        fn request(&self) -> StageRequest {
            self.request_with(&[], &[])
        }

        fn plain(&self, options: &[&str]) -> StageRequest {
            self.request_with(&[("mountProtocol", "nfs")], options)
        }

        fn request_with(&self, more: &[(&str, &str)], options: &[&str]) -> StageRequest {
            let attributes = [&[("server", "nas.example.com"), ("path", "/a")], more].concat();
            let attributes: HashMap<_, _> = attributes
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
            StageRequest {
                volume: VolumeId::parse("vol").unwrap(),
                staging_path: self.path(),
                attributes: VolumeAttributes::parse(&attributes, &options).unwrap(),
            }
        }

        fn entry(&self, source: &str) -> MountEntry {
            entry(1, &self.path().to_string_lossy(), source)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_is_mounted_through_a_tunnel_once_however_often_it_is_staged() {
        let (stage, world) = (Stage::new(), World::default());
        let node = world.node();
        assert_eq!(node.stage(stage.request()).await.unwrap(), Staged::Now);
        assert_eq!(node.stage(stage.request()).await.unwrap(), Staged::Already);
        assert_eq!(world.mounts().len(), 1);
        assert_eq!(world.mounts()[0].source, SOURCE);
        assert_eq!(world.users().len(), 1);
        let mount = format!("mount {SOURCE} {}", stage.path().display());
        let acquire = "acquire nas.example.com";
        assert_eq!(world.journal(), [acquire, &mount, acquire]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_volume_that_is_staged_with_other_options_is_refused_until_it_is_unstaged() {
        let (stage, world) = (Stage::new(), World::default());
        let node = world.node();
        let staged = |options: &[&str]| node.stage(stage.plain(options));
        assert_eq!(staged(&["vers=4.1", "hard"]).await.unwrap(), Staged::Now);
        for same in [&["vers=4.1"][..], &["nfsvers=4.1", "retry=5"]] {
            assert_eq!(staged(same).await.unwrap(), Staged::Already, "{same:?}");
        }
        let error = staged(&["vers=4.1", "soft"]).await.unwrap_err();
        let StageError::OtherOptions { held, wanted, .. } = &error else { panic!("{error}") };
        assert_eq!((held.as_str(), wanted.as_str()), ("vers=4.1", "vers=4.1,soft"));
        let unstage =
            UnstageRequest { volume: VolumeId::parse("vol").unwrap(), staging_path: stage.path() };
        node.unstage(unstage).await.unwrap();
        assert_eq!(world.records(), []);
        assert_eq!(staged(&["vers=4.1", "soft"]).await.unwrap(), Staged::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_volume_without_a_record_is_taken_for_the_same() {
        let (stage, world) = (Stage::new(), World::default());
        let node = world.node();
        world.forget_everything();
        assert_eq!(node.stage(stage.plain(&["vers=4.1"])).await.unwrap(), Staged::Now);
        assert_eq!(node.stage(stage.plain(&["vers=3"])).await.unwrap(), Staged::Already);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_mounted_with_and_without_encryption_only_where_a_volume_asks_for_it() {
        let (plain, alinas) = (("mountProtocol", "nfs"), ("mountProtocol", "alinas"));
        for (there, source, protocol, refused) in [
            ("addr=192.0.2.1", "NAS.example.com:/b", alinas, true),
            ("addr=127.0.1.1", "nas.example.com:/b", plain, true),
            ("addr=127.0.1.1", "nas.example.com:/b", alinas, false),
            ("addr=192.0.2.1", "nas.example.com:/b", plain, false),
            ("addr=192.0.2.1", "other.example.com:/b", alinas, false),
            ("vers=3", "nas.example.com:/b", alinas, false),
        ] {
            let mut mount = entry(1, "/other", source);
            mount.super_options = vec![there.to_owned()];
            let (stage, world) = (Stage::new(), World::default().mounted(mount));
            let node = world.node();
            let staged = node.stage(stage.request_with(&[protocol], &[])).await;
            let what = format!("{there} {source} {protocol:?}: {staged:?}");
            assert_eq!(
                matches!(staged, Err(StageError::MixedEncryption { .. })),
                refused,
                "{what}"
            );
            assert_eq!(world.mounts().len(), if refused { 1 } else { 2 }, "{what}");
            if let Err(error) = staged {
                assert!(error.to_string().contains("allowMixedEncryption"), "{error}");
                let asked = [protocol, ("allowMixedEncryption", "true")];
                let request = stage.request_with(&asked, &[]);
                assert_eq!(node.stage(request).await.unwrap(), Staged::Now, "{what}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_option_does_not_do_is_logged_once_at_its_level() {
        let (stage, world) = (Stage::new(), World::default());
        let log = stage.home.path().join("log");
        let file = Arc::new(std::fs::File::create(&log).unwrap());
        let to_log = tracing_subscriber::fmt().with_ansi(false).with_writer(file);
        let _until_dropped = tracing::subscriber::set_default(to_log.finish());
        let node = world.node();
        let request = || stage.plain(&["vers=4.2", "addr=192.0.2.9", "intr"]);
        node.stage(request()).await.unwrap();
        node.stage(request()).await.unwrap();
        let log = std::fs::read_to_string(log).unwrap();
        let lines = |part: &str| log.lines().filter(|line| line.contains(part)).collect::<Vec<_>>();
        for (part, level) in [("\"addr\" is not taken", " WARN "), ("\"intr\" has no", " INFO ")] {
            let lines = lines(part);
            assert!(lines.len() == 1 && lines[0].contains(level), "{part}: {log}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_behind_whichever_step_fails_and_however() {
        let worker_gone = Failure::Worker("gone".to_owned());
        for step in 0..2 {
            for answer in [
                Answer::Fail(refused()),
                Answer::Fail(worker_gone.clone()),
                Answer::FailButDo(worker_gone.clone()),
                Answer::Hang,
                Answer::HangButDo,
            ] {
                let (stage, world) = (Stage::new(), World::default());
                match step {
                    0 => world.answer(0, answer.clone()),
                    // What may pass is tried again, so it fails again.
                    _ => world.answer_mounts(&answer),
                }
                let start = Instant::now();
                world.node().stage(stage.request()).await.unwrap_err();
                world.answer_mounts_well();
                assert!(world.mounts().is_empty(), "step {step}: {answer:?}");
                assert!(world.users().is_empty(), "step {step}: {answer:?}");
                assert!(stage.path().is_dir());
                assert!(start.elapsed() < deadline::CALL);
                assert_eq!(world.node().stage(stage.request()).await.unwrap(), Staged::Now);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mount_that_cannot_be_taken_back_keeps_its_tunnel_and_says_so() {
        let (stage, world) = (Stage::new(), World::default());
        world.answer(1, Answer::HangButDo);
        // Neither the engine nor the stage can take it back.
        world.answer(2, Answer::Hang);
        world.answer(3, Answer::Hang);
        let start = Instant::now();
        let error = world.node().stage(stage.request()).await.unwrap_err();
        let StageError::NotUndone { left: LeftBehind::Mount(_), fault } = error else {
            panic!("{error}");
        };
        assert_eq!(fault.id(), "nfs.no-answer", "{fault}");
        assert_eq!(world.users().len(), 1);
        assert!(start.elapsed() < deadline::CALL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_cannot_be_released_is_reported() {
        let (stage, world) = (Stage::new(), World::default());
        world.answer(1, Answer::Fail(refused()));
        world.answer(2, Answer::Fail(refused()));
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::NotUndone { left: LeftBehind::TunnelUser(_), .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_staged_volume_keeps_its_tunnel_when_acquiring_it_again_fails() {
        let (stage, world) = (Stage::new(), World::default());
        world.node().stage(stage.request()).await.unwrap();
        world.answer(2, Answer::Hang);
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::Tunnel(TunnelFault::NoAnswer { .. })));
        assert_eq!(world.users().len(), 1);
        assert_eq!(world.mounts().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_staged_otherwise_is_told_from_one_staged_the_same() {
        let (stage, world) = (Stage::new(), World::default());
        world.node().stage(stage.request()).await.unwrap();
        let mut other = stage.request();
        other.volume = VolumeId::parse("other").unwrap();
        let error = world.node().stage(other).await.unwrap_err();
        assert!(matches!(
            error,
            StageError::Tunnel(TunnelFault::Refused { kind: Kind::UserDiffers, .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_mounted_there_is_left_alone_and_named() {
        let stage = Stage::new();
        let world = World::default().mounted(stage.entry("other:/"));
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::StagedDifferently { .. }), "{error}");

        let tmpfs = MountEntry { fs_type: "tmpfs".to_owned(), ..stage.entry(SOURCE) };
        let world = World::default().mounted(tmpfs);
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::TakenByAnother { .. }), "{error}");
        assert!(world.journal().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mount_that_was_cut_half_way_is_made_anew() {
        let stage = Stage::new();
        let half = MountEntry { peer_group: None, ..stage.entry(SOURCE) };
        let world = World::default().mounted(half);
        assert_eq!(world.node().stage(stage.request()).await.unwrap(), Staged::Now);
        assert_eq!(world.mounts().len(), 1);
        assert!(world.mounts()[0].peer_group.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_staging_path_that_is_no_directory_costs_no_tunnel() {
        let (stage, world) = (Stage::new(), World::default());
        std::fs::remove_dir(stage.path()).unwrap();
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::Directory(DirectoryFault::Missing(_))));
        std::fs::write(stage.path(), "").unwrap();
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::Directory(DirectoryFault::NotADirectory(_))));
        assert!(world.journal().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_mount_table_nothing_is_tried() {
        let (stage, world) = (Stage::new(), World::default());
        world.hide_mounts();
        let error = world.node().stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::ReadMounts(_)));
        assert!(world.journal().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn work_whose_caller_hung_up_goes_on_and_holds_the_volume_until_it_ends() {
        let (stage, world) = (Stage::new(), World::default());
        world.answer(1, Answer::HangButDo);
        let node = world.node();
        let call = node.stage(stage.request());
        tokio::time::timeout(Duration::from_secs(1), call).await.unwrap_err();
        let error = node.stage(stage.request()).await.unwrap_err();
        assert!(matches!(error, StageError::Busy(_)));
        node.drained().await;
        assert!(world.mounts().is_empty() && world.users().is_empty());
        assert_eq!(node.stage(stage.request()).await.unwrap(), Staged::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_volume_is_mounted_without_a_tunnel_once_however_often_it_is_staged() {
        let (stage, world) = (Stage::new(), World::default());
        let node = world.node();
        assert_eq!(node.stage(stage.plain(&["vers=4.2"])).await.unwrap(), Staged::Now);
        assert_eq!(node.stage(stage.plain(&["vers=4.2"])).await.unwrap(), Staged::Already);
        assert_eq!(world.mounts().len(), 1);
        assert!(world.users().is_empty());
        assert!(!world.journal().iter().any(|call| call.starts_with("acquire")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_volume_that_cannot_be_mounted_leaves_nothing() {
        for answer in [Answer::Fail(refused()), Answer::Hang, Answer::HangButDo] {
            let (stage, world) = (Stage::new(), World::default());
            world.answer_mounts(&answer);
            let start = Instant::now();
            let error = world.node().stage(stage.plain(&["vers=4.2"])).await.unwrap_err();
            assert!(matches!(error, StageError::Mount(_)), "{answer:?}: {error}");
            assert!(world.mounts().is_empty(), "{answer:?}");
            assert!(start.elapsed() < deadline::CALL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_encrypted_volume_is_not_staged_where_it_is_mounted_in_the_clear() {
        let stage = Stage::new();
        for (address, staged) in [("192.0.2.1", false), ("127.0.1.1", true)] {
            let super_options = vec![format!("addr={address}")];
            let mount = MountEntry { super_options, ..stage.entry(SOURCE) };
            let world = World::default().mounted(mount);
            let answer = world.node().stage(stage.request()).await;
            assert_eq!(answer.is_ok(), staged, "{address}: {answer:?}");
            assert_eq!(world.users().len(), usize::from(staged));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_in_the_background_is_answered_at_once_until_it_is_mounted() {
        let (stage, world) = (Stage::new(), World::default());
        let node = world.node();
        world.answer_mounts(&Answer::Fail(refused_connection()));
        let start = Instant::now();
        for _ in 0..2 {
            let error = node.stage(stage.plain(&["bg,vers=4.2"])).await.unwrap_err();
            let StageError::InBackground { last, .. } = &error else { panic!("{error}") };
            assert!(last.contains("ECONNREFUSED"), "{last}");
        }
        assert!(start.elapsed() < deadline::CALL, "{:?}", start.elapsed());
        world.answer_mounts_well();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(world.mounts().len(), 1);
        assert_eq!(node.stage(stage.plain(&["bg,vers=4.2"])).await.unwrap(), Staged::Already);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mount_in_the_background_that_gives_up_says_so_once_and_may_be_asked_for_again() {
        let (stage, world) = (Stage::new(), World::default());
        let node = world.node();
        world.answer_mounts(&Answer::Fail(refused_connection()));
        let asked = || node.stage(stage.plain(&["bg,retry=1,vers=4.2"]));
        assert!(matches!(asked().await, Err(StageError::InBackground { .. })));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(matches!(asked().await, Err(StageError::Mount(_))));
        assert!(matches!(asked().await, Err(StageError::InBackground { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn unstaging_ends_a_mount_in_the_background_and_so_does_the_end_of_the_node() {
        for unstaged in [true, false] {
            let (stage, world) = (Stage::new(), World::default());
            let node = world.node();
            world.answer_mounts(&Answer::Fail(refused_connection()));
            node.stage(stage.plain(&["bg,vers=4.2"])).await.unwrap_err();
            let (volume, staging_path) = (VolumeId::parse("vol").unwrap(), stage.path());
            if unstaged {
                node.unstage(UnstageRequest { volume, staging_path }).await.unwrap();
            } else {
                node.drained().await;
            }
            world.answer_mounts_well();
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert!(world.mounts().is_empty(), "unstaged: {unstaged}");
        }
    }
}
