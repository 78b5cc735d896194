//! The seed's test plans against the command line: every case of `e2e::cases`, and what needs more than a
//! row of a table, in one world.
//!
//! Prints as libtest does and takes its arguments: `e2e/run-tests plans bg_`, or by itself in the lab
//! `e2e/lab/guest -- <this> --test-threads=1 [FILTER]`.

mod cancel;
mod mtab;
mod scale;
mod stage;
mod umount;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;

use alinas_csi::host::worker;
use e2e::cases;
use e2e::cases::Case;
use e2e::cases::trial;
use e2e::failure::Failure;
use e2e::failure::Result;
use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;

use crate::stage::Stage;

/// A test that needs more than a row: its name and its steps.
type Steps = (&'static str, fn(&mut Stage) -> Result<()>);

fn main() -> ExitCode {
    // The engine runs this program again for each system call that may block.
    if std::env::args().nth(1).is_some_and(|argument| argument == worker::ARGUMENT) {
        return worker::child_main();
    }
    let mut arguments = Arguments::from_args();
    // One world, one mount table.
    arguments.test_threads = Some(1);
    let stage = Arc::new(Mutex::new(None));
    let rows = cases::all().into_iter().map(|case| row(&stage, case));
    let steps = [umount::TESTS, mtab::TESTS, cancel::TESTS, scale::TESTS].concat();
    let steps = steps.into_iter().map(|(name, steps)| test(&stage, name.to_owned(), steps));
    let conclusion = libtest_mimic::run(&arguments, rows.chain(steps).collect());
    // Takes the world down; `exit` would not.
    drop(stage);
    conclusion.exit_code()
}

/// Shared by all tests, and started by the first one: a start takes seconds.
type SharedStage = Arc<Mutex<Option<Result<Stage, String>>>>;

fn row(stage: &SharedStage, case: Case) -> Trial {
    test(stage, case.name.clone(), move |stage| {
        let outcome = trial::perform(&mut stage.world, &stage.program, &case)?;
        let faults = trial::judge(&case, &outcome);
        e2e::failure::ensure(faults.is_empty(), faults.join("\n"))
    })
}

fn test(
    stage: &SharedStage,
    name: String,
    steps: impl FnOnce(&mut Stage) -> Result<()> + Send + 'static,
) -> Trial {
    let stage = Arc::clone(stage);
    Trial::test(name, move || {
        let mut stage = stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let started = stage.get_or_insert_with(|| Stage::start().map_err(|why| why.to_string()));
        let outcome = match started {
            Ok(stage) => steps(stage),
            Err(why) => Err(Failure::new(format!("there is no world: {why}"))),
        };
        outcome.map_err(|failure| Failed::from(failure.to_string()))
    })
}
