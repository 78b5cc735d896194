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
/// Before anything is measured: programs and tables of the kernel are read for the first time.
const TO_WARM_UP: usize = 40;
const AT_ONCE: usize = 200;
/// Of those at once, so many are kept for the dead server, all the time: in the run without it they stay empty, so
/// that the others are as many at once in both.
const FOR_THE_DEAD: usize = 20;
/// With the flavour said. Else Linux asks knfsd, which names Kerberos three times, and starts modprobe for each of
/// them at every mount, also where the module is there (net/sunrpc/auth_gss/gss_mech_switch.c: gss_mech_get_by_OID).
/// In the emulated machine that costs more than a second a mount, and nothing else would be measured.
const OPTIONS: &str = "vers=4.2,sec=sys";
/// Longer than all of them take together on a busy machine: the dead server is waited for from the first to the last.
const PATIENCE: Duration = Duration::from_secs(900);
/// How much longer a share of the others may take beside the dead server: two runs of the same on a shared machine
/// differ as well. One that waited for it would take tens of times as long.
const AT_MOST_LONGER: f64 = 2.5;
/// The shares that are compared, in hundredths.
const COMPARED: [usize; 2] = [50, 99];

fn a_thousand_mounts_are_not_delayed_by_a_dead_server(stage: &mut Stage) -> Result<()> {
    let folder = stage.world.folder().join("targets/scale");
    std::fs::create_dir_all(&folder)?;
    let outcome = compare(&folder);
    unmount_all(&folder)?;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn compare(folder: &Path) -> Result<()> {
    run(&folder.join("warm-up"), TO_WARM_UP, 0)?;
    let alone = run(&folder.join("alone"), MANY, 0)?;
    let beside = run(&folder.join("beside"), MANY, FOR_THE_DEAD)?;
    for hundredths in COMPARED {
        let (without, with) = (alone.share(hundredths), beside.share(hundredths));
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        println!(
            "{hundredths} of 100: {without:.2?} without the dead server, {with:.2?} with it: {ratio:.2}"
        );
        let sentence =
            format!("{hundredths} of 100 took {ratio:.2} times as long; {alone}; {beside}");
        ensure(ratio <= AT_MOST_LONGER, sentence)?;
    }
    Ok(())
}

/// Mounts, counts and unmounts.
fn run(folder: &Path, count: usize, dead: usize) -> Result<Times> {
    let times = mount_many(folder, count, dead)?;
    println!("{times}");
    let mounted = lab::mounts_below(folder)?.len();
    ensure(mounted == count, format!("{mounted} of {count} are mounted"))?;
    unmount_all(folder)?;
    Ok(times)
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
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} mounts in {:.1?}, {} others to a dead server: median {:.2?}, 99 of 100 within {:.2?}, last {:.2?}",
            self.each.len(),
            self.whole,
            self.dead,
            self.share(50),
            self.share(99),
            self.share(100)
        )
    }
}

/// The mounts are made as many at once as there is room for; those from the dead server are under way meanwhile.
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
        let start = Instant::now();
        let each = mount_the_others(folder, count, &engine).await?;
        let whole = start.elapsed();
        let still = hanging.len();
        let early = hanging.try_join_next();
        cancel.cancel();
        while let Some(ended) = hanging.join_next().await {
            ensure(ended?.is_err(), "a mount from the dead server succeeded")?;
        }
        let all_the_time = early.is_none() && still == dead;
        ensure(all_the_time, format!("one of the {dead} was not outstanding all the time"))?;
        Ok(Times { each, whole, dead })
    })
}

async fn mount_the_others(folder: &Path, count: usize, engine: &Engine) -> Result<Vec<Duration>> {
    let slots = Arc::new(Semaphore::new(AT_ONCE - FOR_THE_DEAD));
    let mut running = JoinSet::new();
    for number in 0..count {
        let target = folder.join(format!("target-{number}"));
        let request = request(Front::Good, &target, number % SMALL_EXPORTS + 1)?;
        let (engine, slots) = (engine.clone(), Arc::clone(&slots));
        running.spawn(async move {
            let _slot = slots.acquire_owned().await;
            let start = Instant::now();
            let mounted = mount(engine, request, CancellationToken::new()).await;
            mounted.map(|()| start.elapsed())
        });
    }
    let mut each = Vec::new();
    while let Some(ended) = running.join_next().await {
        each.push(ended??);
    }
    each.sort();
    Ok(each)
}

fn request(front: Front, target: &Path, export: usize) -> Result<MountRequest> {
    std::fs::create_dir_all(target)?;
    let spec = format!("{}:/e{export:02}", front.address());
    Ok(MountRequest {
        device: DeviceName::parse(&spec)?,
        target: target.to_owned(),
        options: MountOptions::parse(Rules::Direct, [OPTIONS])?,
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
