//! The controller ends at every one of its failure points between two calls of the API of NAS, as by a crash, and is
//! followed by another one: what was asked for is there when it is asked for again, once, and in the end no file system,
//! mount target, access point or quota is left, and none is lost.

use std::time::Duration;

use alinas_csi::proto::csi;
use alinas_csi::runtime::FailurePoint;
use alinas_csi::runtime::failure_point::Part;
use e2e::cloud::Cloud;
use e2e::cloud::NETWORK;
use e2e::cloud::file_system;
use e2e::failure::During;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::ganesha::Ganesha;
use e2e::ganesha::Target;
use e2e::openapi::Timing;
use e2e::sidecar::GIB;
use e2e::sidecar::SWEPT;
use e2e::sidecar::Sidecar;
use e2e::sidecar::claim;

const MINUTE: Duration = Duration::from_secs(60);
/// The file system that is the whole disk of the NAS.
const DISK: &str = "0123456789";

/// What the controller is asked for when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Create,
    Expand,
    Delete,
}

/// Of which volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    FileSystem,
    /// One that stays when its volume is deleted.
    Retained,
    /// With a quota on its directory.
    AccessPoint,
    /// A directory with a quota.
    Directory,
}

/// What leads to a point.
fn asked(point: FailurePoint) -> &'static [(Kind, Call)] {
    use FailurePoint as At;
    match point {
        At::FileSystemMade | At::FileSystemTarget | At::FileSystemOwned => {
            &[(Kind::FileSystem, Call::Create)]
        }
        At::FileSystemNoted => &[(Kind::FileSystem, Call::Expand)],
        At::FileSystemClosed | At::FileSystemRemoved => &[(Kind::FileSystem, Call::Delete)],
        At::FileSystemReleased => &[(Kind::Retained, Call::Delete)],
        At::AccessPointMade | At::AccessPointActive => &[(Kind::AccessPoint, Call::Create)],
        At::AccessPointUnbound | At::AccessPointRemoved => &[(Kind::AccessPoint, Call::Delete)],
        At::QuotaSet => &[
            (Kind::Directory, Call::Create),
            (Kind::Directory, Call::Expand),
            (Kind::AccessPoint, Call::Create),
            (Kind::AccessPoint, Call::Expand),
        ],
        At::QuotaCancelled => &[(Kind::Directory, Call::Delete), (Kind::AccessPoint, Call::Delete)],
        _ => &[],
    }
}

impl Kind {
    fn request(self, name: &str) -> csi::CreateVolumeRequest {
        let quota = ("volumeCapacity", "true");
        match self {
            Self::FileSystem => file_system(name, &[("uid", "1000")]),
            Self::Retained => file_system(name, &[("onDelete", "retain")]),
            Self::AccessPoint => {
                let class = [("volumeAs", "accesspoint"), ("fileSystemId", DISK), quota];
                claim(name, &[&class[..], &NETWORK].concat())
            }
            Self::Directory => claim(name, &[("server", Target::Good.domain()), quota]),
        }
    }
}

/// What the account holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    file_systems: usize,
    mount_targets: usize,
    access_points: usize,
    quotas: Vec<Option<u64>>,
}

impl Held {
    fn by(cloud: &Cloud) -> Self {
        let simulator = &cloud.simulator;
        Self {
            file_systems: simulator.file_systems(),
            mount_targets: simulator.mount_targets(),
            access_points: simulator.access_points(),
            quotas: simulator.quotas().into_iter().map(|(_, size)| size).collect(),
        }
    }

    /// The same, with one whole volume more.
    fn with(self, kind: Kind, gibibytes: u64) -> Self {
        let Self { mut file_systems, mut mount_targets, mut access_points, mut quotas } = self;
        match kind {
            Kind::FileSystem | Kind::Retained => {
                file_systems += 1;
                mount_targets += 1;
            }
            Kind::AccessPoint => {
                access_points += 1;
                quotas.push(Some(gibibytes));
            }
            Kind::Directory => quotas.push(Some(gibibytes)),
        }
        Self { file_systems, mount_targets, access_points, quotas }
    }
}

/// One volume, the subject of what is asked.
struct Subject {
    kind: Kind,
    call: Call,
    name: String,
    /// There is one before, unless it is to be made.
    volume: Option<csi::Volume>,
}

impl Subject {
    fn prepare(calm: &Sidecar, (kind, call): (Kind, Call), name: String) -> Result<Self> {
        let volume = match call {
            Call::Create => None,
            Call::Expand | Call::Delete => Some(calm.made(kind.request(&name))?),
        };
        Ok(Self { kind, call, name, volume })
    }

    fn id(&self) -> &str {
        self.volume.as_ref().map(|volume| volume.volume_id.as_str()).unwrap_or_default()
    }

    /// Asks, and answers with the id of what there is now.
    fn ask(&self, controller: &Sidecar) -> Result<String> {
        match self.call {
            Call::Create => Ok(controller.create(self.kind.request(&self.name))?.volume_id),
            Call::Expand => {
                let size = controller.expand(self.id(), 2 * GIB)?;
                ensure(size == 2 * GIB, format!("it has {size} bytes"))?;
                Ok(self.id().to_owned())
            }
            Call::Delete => {
                controller.delete(self.id())?;
                Ok(String::new())
            }
        }
    }

    /// What was asked for is as it is to be, once; then everything goes.
    fn check_and_clean(&self, next: &Sidecar, made: &str, world: &World) -> Result<()> {
        let held = Held::by(&world.cloud);
        let before = world.held();
        let expected = match self.call {
            Call::Create => before.with(self.kind, 1),
            Call::Expand => before.with(self.kind, 2),
            Call::Delete if self.kind == Kind::Retained => before.with(self.kind, 1),
            Call::Delete => before,
        };
        ensure(held == expected, format!("{held:?} instead of {expected:?}"))?;
        if self.call != Call::Delete {
            next.delete(made)?;
            let left = Held::by(&world.cloud);
            ensure(left == world.held(), format!("left: {left:?}"))?;
        }
        if self.kind == Kind::Directory {
            next.wait_for_empty_trash(&world.nas, SWEPT)?;
            ensure(!world.nas.disk().join(&self.name).exists(), "the directory is still there")?;
        }
        Ok(())
    }
}

struct World {
    cloud: Cloud,
    nas: Ganesha,
    /// File systems that were retained.
    retained: usize,
}

impl World {
    /// What the account holds between two volumes.
    fn held(&self) -> Held {
        let (file_systems, mount_targets) = (1 + self.retained, self.retained);
        Held { file_systems, mount_targets, access_points: 0, quotas: Vec::new() }
    }

    fn survives(
        &mut self,
        calm: &Sidecar,
        point: FailurePoint,
        (kind, call): (Kind, Call),
    ) -> Result<()> {
        let name = format!("{call:?}-{kind:?}-{point}").to_lowercase().replace('.', "-");
        let subject = Subject::prepare(calm, (kind, call), name.clone())?;
        let mut victim = self.cloud.sidecar(&self.nas, &format!("{name}-victim"), Some(point))?;
        let answered = subject.ask(&victim);
        ensure(answered.is_err(), "it never came to the point")?;
        let ended = victim.process.wait_for_end(MINUTE);
        let ended = ended.err().map(|failure| failure.to_string()).unwrap_or_default();
        ensure(ended.contains("SIGABRT"), format!("{ended}; {answered:?}\n{}", victim.log()))?;
        let next = self.cloud.sidecar(&self.nas, &format!("{name}-next"), None)?;
        let with_log = |failure: Failure| Failure::new(format!("{failure}\n{}", next.log()));
        let made = subject.ask(&next).map_err(with_log)?;
        subject.check_and_clean(&next, &made, self)?;
        self.retained += usize::from(kind == Kind::Retained);
        Ok(())
    }
}

#[test]
fn a_controller_that_ends_between_any_two_calls_leaks_and_loses_nothing_that_the_api_made()
-> Result<()> {
    let nas = Ganesha::start()?;
    let cloud = Cloud::start(&nas, Timing::default())?;
    cloud.adopt_disk(DISK)?;
    let mut world = World { cloud, nas, retained: 0 };
    let calm = world.cloud.sidecar(&world.nas, "calm", None)?;
    let held = Held::by(&world.cloud);
    ensure(held == world.held(), format!("{held:?}"))?;
    for point in FailurePoint::of(Part::Cloud) {
        ensure(!asked(point).is_empty(), format!("nothing leads to {point}"))?;
        for way in asked(point) {
            println!("{point}: {way:?}");
            world.survives(&calm, point, *way).during(format!("{point}, {way:?}"))?;
        }
    }
    Ok(())
}
