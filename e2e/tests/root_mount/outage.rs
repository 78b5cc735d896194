//! What an application meets whose server has gone: `soft` ends its calls, `hard` does not (R98 to R100).

use std::fs;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use e2e::cases::stage::PATIENCE;
use e2e::cases::stage::Stage;
use e2e::cases::stage::succeeded;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;
use e2e::plain::Front;
use e2e::process::wait_until;

use crate::Steps;

pub(crate) const TESTS: &[Steps] = &[(
    "soft_ends_the_calls_of_an_application_and_hard_waits",
    soft_ends_the_calls_of_an_application_and_hard_waits,
)];

/// `timeo=10,retrans=1` over TCP: one second, and one more for the second trial (net/sunrpc/xprt.c, xprt_calc_majortimeo).
const MAJOR_TIMEOUT: Duration = Duration::from_secs(2);

fn soft_ends_the_calls_of_an_application_and_hard_waits(stage: &mut Stage) -> Result<()> {
    let (failed, took) = ask(stage, "soft", PATIENCE)?;
    ensure(failed, "soft: a call succeeded although the server was gone")?;
    ensure(took >= MAJOR_TIMEOUT, format!("soft: given up after {took:.1?}"))?;
    ensure(took < PATIENCE, format!("soft: given up only after {took:.1?}"))?;
    let (failed, took) = ask(stage, "hard", 4 * MAJOR_TIMEOUT)?;
    ensure(!failed, "hard: the call failed")?;
    ensure(took >= 4 * MAJOR_TIMEOUT, format!("hard: it did not wait, but took {took:.1?}"))
}

/// Lists a directory while the server is gone, and brings the server back when the call has ended or `outage` is
/// over. Whether the call failed, and how long it took.
fn ask(stage: &mut Stage, option: &str, outage: Duration) -> Result<(bool, Duration)> {
    let front = Front::BlackHole;
    let target = stage.target(option)?;
    stage.world.lift(front)?;
    let spec = format!("{}:/share", front.address());
    let options = format!("vers=3,nolock,noac,{option},timeo=10,retrans=1");
    let mounted = stage.mount(&options, &spec, &target);
    stage.world.lower()?;
    succeeded(&mounted?)?;
    let start = Instant::now();
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| fs::read_dir(target.join("deep")).map(drop));
        let ended = wait_until("the call ends", outage, || asking.is_finished());
        // Before anything else, or the thread would be waited for in vain.
        stage.world.lift(front)?;
        drop(ended);
        asking.join().map_err(|_| Failure::new("the asking thread panicked"))
    });
    let took = start.elapsed();
    let unmounted = stage.unmount(&[], &target);
    stage.world.lower()?;
    succeeded(&unmounted?)?;
    Ok((asked?.is_err(), took))
}
