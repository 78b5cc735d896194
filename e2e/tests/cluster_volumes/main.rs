//! The chart on a real Kubernetes: installed by helm, used as deploy/examples say, maltreated, upgraded and removed.
//!
//! One cluster for all tests, which run in this order: each may stand on what the one before has left, the first
//! installs and the last uninstalls. So a filter is of use only where it names all that a test needs.

mod accidents;
mod life;
mod manifests;
mod sharing;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use e2e::cluster::Cluster;
use e2e::failure::Failure;
use e2e::failure::Result;
use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;

use crate::world::World;

/// A test: its name and its steps.
pub(crate) type Steps = (&'static str, fn(&mut World) -> Result<()>);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&Arc::default())).exit_code();
    }
    let begin = Instant::now();
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(failure) => {
            println!("the cluster does not start: {failure}");
            return ExitCode::FAILURE;
        }
    };
    println!("the node is ready after {} s", begin.elapsed().as_secs());
    let world = Arc::new(Mutex::new(Some(World::new(cluster))));
    let conclusion = libtest_mimic::run(&arguments, trials(&world));
    // Takes the cluster down; `exit` would not.
    drop(world.lock().map(|mut world| world.take()));
    conclusion.exit_code()
}

fn trials(world: &Arc<Mutex<Option<World>>>) -> Vec<Trial> {
    let steps =
        [manifests::FIRST, life::TESTS, sharing::TESTS, accidents::TESTS, manifests::LAST].concat();
    steps.into_iter().map(|(name, steps)| trial(Arc::clone(world), name, steps)).collect()
}

fn trial(
    world: Arc<Mutex<Option<World>>>,
    name: &'static str,
    steps: fn(&mut World) -> Result<()>,
) -> Trial {
    Trial::test(name, move || {
        let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
        let world = world.as_mut().ok_or_else(|| Failure::new("there is no cluster"))?;
        let begin = Instant::now();
        let outcome = steps(world);
        println!("     {name}: {} s", begin.elapsed().as_secs());
        outcome.map_err(|failure| Failed::from(format!("{failure}\n{}", world.seen())))
    })
}
