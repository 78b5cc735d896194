//! The seed's test plans against the command line: every case of `e2e::cases`, and what needs more than a
//! row of a table. Several at once: see [`e2e::cases::lanes`].
//!
//! Prints as libtest does and takes its arguments: `e2e/run-tests plans bg_`, or by itself in the lab
//! `e2e/lab/guest -- <this> [FILTER]`.

mod by_mount8;
mod cancel;
mod locks;
mod mtab;
mod outage;
mod scale;
mod seconds;
mod umount;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use alinas_csi::host::worker;
use e2e::cases;
use e2e::cases::Case;
use e2e::cases::lanes::AT_ONCE;
use e2e::cases::lanes::Lanes;
use e2e::cases::stage::Stage;
use e2e::cases::trial;
use e2e::failure::Result;
use e2e::plain::Condition;
use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;

use crate::seconds::Seconds;

/// A test that needs more than a row: its name and its steps.
type Steps = (&'static str, fn(&mut Stage) -> Result<()>);

fn main() -> ExitCode {
    // The engine runs this program again for each system call that may block.
    if std::env::args().nth(1).is_some_and(|argument| argument == worker::ARGUMENT) {
        return worker::child_main();
    }
    let mut arguments = Arguments::from_args();
    // Of the lab's programs this one alone knows how to share the machine with itself.
    arguments.test_threads = Some(AT_ONCE);
    let theatre = Arc::new(Theatre::default());
    let rows = cases::all().into_iter().map(|case| row(&theatre, case));
    let steps = [umount::TESTS, outage::TESTS, locks::TESTS].concat();
    let steps = steps.into_iter().map(|(name, steps)| test(&theatre, name, steps));
    let alone = [cancel::TESTS, mtab::TESTS, by_mount8::TESTS, scale::TESTS].concat();
    let alone = alone.into_iter().map(|(name, steps)| test_alone(&theatre, name, steps));
    let conclusion = libtest_mimic::run(&arguments, steps.chain(rows).chain(alone).collect());
    println!("{}", theatre.seconds);
    // Takes the worlds down; `exit` would not.
    drop(theatre);
    conclusion.exit_code()
}

/// What all tests share.
#[derive(Default)]
struct Theatre {
    lanes: Lanes,
    /// Held for writing by a test that nothing may run beside.
    alone: RwLock<()>,
    seconds: Seconds,
}

fn row(theatre: &Arc<Theatre>, case: Case) -> Trial {
    let theatre = Arc::clone(theatre);
    trial_of(case.name.clone(), move || {
        let _beside = theatre.alone.read().unwrap_or_else(PoisonError::into_inner);
        theatre.perform(&case.name, case.condition, |stage| {
            let outcome = trial::perform(&mut stage.world, &stage.program, &case)?;
            let faults = trial::judge(&case, &outcome);
            e2e::failure::ensure(faults.is_empty(), faults.join("\n"))
        })
    })
}

fn test(theatre: &Arc<Theatre>, name: &'static str, steps: fn(&mut Stage) -> Result<()>) -> Trial {
    let theatre = Arc::clone(theatre);
    trial_of(name.to_owned(), move || {
        let _beside = theatre.alone.read().unwrap_or_else(PoisonError::into_inner);
        theatre.healthy(name, steps)
    })
}

/// For what measures the machine, or changes what all lanes share.
fn test_alone(
    theatre: &Arc<Theatre>,
    name: &'static str,
    steps: fn(&mut Stage) -> Result<()>,
) -> Trial {
    let theatre = Arc::clone(theatre);
    trial_of(name.to_owned(), move || {
        let _alone = theatre.alone.write().unwrap_or_else(PoisonError::into_inner);
        theatre.healthy(name, steps)
    })
}

fn trial_of(name: String, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || run().map_err(|failure| Failed::from(failure.to_string())))
}

impl Theatre {
    fn perform(
        &self,
        name: &str,
        condition: Condition,
        steps: impl FnOnce(&mut Stage) -> Result<()> + Send,
    ) -> Result<()> {
        self.lanes.perform(condition, |stage| self.seconds.measure(name, || steps(stage)))
    }

    fn healthy(&self, name: &str, steps: fn(&mut Stage) -> Result<()>) -> Result<()> {
        self.perform(name, Condition::Healthy, |stage| {
            stage.world.turn(Condition::Healthy)?;
            steps(stage)
        })
    }
}
