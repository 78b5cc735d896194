//! R1: many mounts, many at once, and a dead server among them that delays nobody.
//!
//! By the library, in this process: a thousand starts of the command line would measure the emulated
//! machine. Each mount still costs a worker process, as in the node plugin.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use alinas_csi::model::DeviceName;
use alinas_csi::model::MountOptions;
use alinas_csi::model::nfs_option::Rules;
use alinas_csi::nfs::Engine;
use alinas_csi::nfs::MountRequest;
use alinas_csi::nfs::Patience;
use alinas_csi::nfs::Start;
use alinas_csi::nfs::Way;
use e2e::cases::stage::Stage;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::lab;
use e2e::plain::Front;
use e2e::plain::SMALL_EXPORTS;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Steps;

pub(crate) const TESTS: &[Steps] = &[(
    "a_thousand_mounts_are_not_delayed_by_a_dead_server",
    a_thousand_mounts_are_not_delayed_by_a_dead_server,
)];

const MANY: usize = 1000;
/// How many without a dead server, to compare with.
const SOME: usize = 200;
const AT_ONCE: usize = 200;
/// Of those at once, so many are to the dead server, all the time.
const TO_THE_DEAD: usize = 20;
const PATIENCE: Duration = Duration::from_secs(900);
/// How much longer the median may be with the dead server: the machine has other work as well.
const AT_MOST_LONGER: u32 = 2;

fn a_thousand_mounts_are_not_delayed_by_a_dead_server(stage: &mut Stage) -> Result<()> {
    let folder = stage.world.folder().join("targets/scale");
    std::fs::create_dir_all(&folder)?;
    let outcome = compare(&folder);
    unmount_all(&folder)?;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn compare(folder: &Path) -> Result<()> {
    let alone = mount_many(&folder.join("alone"), SOME, 0)?;
    println!("{alone}");
    unmount_all(folder)?;
    let beside = mount_many(&folder.join("beside"), MANY, TO_THE_DEAD)?;
    println!("{beside}");
    let mounted = lab::mounts_below(folder)?.len();
    ensure(mounted == MANY, format!("{mounted} of {MANY} are mounted"))?;
    let allowed = alone.median() * AT_MOST_LONGER;
    ensure(beside.median() <= allowed, format!("{beside}; alone: {alone}"))
}

/// How long each mount took, sorted, and all of them together.
struct Times {
    each: Vec<Duration>,
    whole: Duration,
    dead: usize,
}

impl Times {
    fn share(&self, hundredths: usize) -> Duration {
        let last = self.each.len().saturating_sub(1);
        self.each.get(last * hundredths / 100).copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        self.share(50)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} mounts in {:.1?}, {} others to a dead server: median {:.2?}, 95 of 100 within {:.2?}, last {:.2?}",
            self.each.len(),
            self.whole,
            self.dead,
            self.median(),
            self.share(95),
            self.share(100)
        )
    }
}

fn mount_many(folder: &Path, count: usize, dead: usize) -> Result<Times> {
    std::fs::create_dir_all(folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::of_this_host();
        let cancel = CancellationToken::new();
        let mut hanging = JoinSet::new();
        for number in 0..dead {
            let request = request(Front::BlackHole, &folder.join(format!("dead-{number}")), 1)?;
            hanging.spawn(mount(engine.clone(), request, cancel.clone()));
        }
        let slots = Arc::new(Semaphore::new(AT_ONCE - dead));
        let mut running = JoinSet::new();
        let start = Instant::now();
        for number in 0..count {
            let target = folder.join(format!("target-{number}"));
            let request = request(Front::Good, &target, number % SMALL_EXPORTS + 1)?;
            let (engine, cancel, slots) = (engine.clone(), cancel.clone(), Arc::clone(&slots));
            running.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let start = Instant::now();
                mount(engine, request, cancel).await.map(|()| start.elapsed())
            });
        }
        let mut each = Vec::new();
        while let Some(ended) = running.join_next().await {
            each.push(ended??);
        }
        let whole = start.elapsed();
        each.sort();
        let still = hanging.len();
        cancel.cancel();
        while let Some(ended) = hanging.join_next().await {
            ensure(ended?.is_err(), "a mount from the dead server succeeded")?;
        }
        ensure(still == dead, format!("only {still} of {dead} were outstanding all the time"))?;
        Ok(Times { each, whole, dead })
    })
}

fn request(front: Front, target: &Path, export: usize) -> Result<MountRequest> {
    std::fs::create_dir_all(target)?;
    let spec = format!("{}:/e{export:02}", front.address());
    Ok(MountRequest {
        device: DeviceName::parse(&spec)?,
        target: target.to_owned(),
        options: MountOptions::parse(Rules::Direct, ["vers=4.2"])?,
        way: Way::Direct,
        start: Start::default(),
        patience: Patience::Deadline(PATIENCE),
    })
}

async fn mount(engine: Engine, request: MountRequest, cancel: CancellationToken) -> Result<()> {
    let what = request.target.display().to_string();
    let mounted = engine.mount(request, cancel, |_| ()).await;
    mounted.map(drop).map_err(|fault| Failure::new(format!("{what}: {fault}")))
}

/// In the order of the table, backwards; the server is alive, so that none of them waits.
fn unmount_all(folder: &Path) -> Result<()> {
    for mount in lab::mounts_below(folder)?.iter().rev() {
        rustix::mount::unmount(&mount.point, rustix::mount::UnmountFlags::empty())?;
    }
    let left = lab::mounts_below(folder)?;
    ensure(left.is_empty(), format!("{} mounts are left", left.len()))
}
