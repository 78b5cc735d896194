//! Runs a case, tells what came of it, and leaves the machine as it was.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::cases::Case;
use crate::cases::Expected;
use crate::cases::Repaired;
use crate::cases::Target;
use crate::cases::program::Program;
use crate::failure::Failure;
use crate::failure::Result;
use crate::lab;
use crate::lab::Mount;
use crate::plain::Condition;
use crate::plain::Plain;
use crate::process::Observed;
use crate::process::observe;
use crate::process::run;
use crate::process::wait_until;

/// What a program did with a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended, what it said, and how long it ran.
    pub observed: Observed,
    /// What was mounted at the target when it had ended, or once the fault was repaired.
    pub mounts: Vec<Mount>,
    /// How long after the repair it was mounted. `None`: nothing was repaired, or it never was mounted.
    pub after_repair: Option<Duration>,
    /// What was mounted before the repair; processes that nobody needs any more; mounts that stayed.
    pub trouble: Vec<String>,
}

/// So long a fault lasts.
const FAULT: Duration = Duration::from_secs(5);
/// A program that has ended may have children that end a moment later.
const MOMENT: Duration = Duration::from_secs(10);
const UNMOUNT: Duration = Duration::from_secs(60);

/// Brings the world into the case's condition and runs a program in it.
///
/// # Errors
/// When the world cannot be prepared or cleaned up; never because of what the program does.
pub fn perform(world: &mut Plain, program: &Program, case: &Case) -> Result<Outcome> {
    world.turn(case.condition)?;
    let target = prepare(world, case)?;
    if case.target == Target::Taken {
        observe(case.within, &mut program.mount(case, &target))?;
    }
    let mut outcome = match case.expected {
        Expected::MountedOnce(repaired) => repair(world, program, case, &target, repaired)?,
        _ => once(program, case, &target)?,
    };
    outcome.trouble.extend(clean_up(world, program, case, &target, &outcome)?);
    Ok(outcome)
}

fn once(program: &Program, case: &Case, target: &Path) -> Result<Outcome> {
    // Longer than allowed, so that a program that is late is seen to be late, and how much.
    let observed = observe(case.within * 2, &mut program.mount(case, target))?;
    let mounts = lab::mounts_below(target)?;
    Ok(Outcome { observed, mounts, after_repair: None, trouble: Vec::new() })
}

fn repair(
    world: &mut Plain,
    program: &Program,
    case: &Case,
    target: &Path,
    repaired: Repaired,
) -> Result<Outcome> {
    thread::scope(|scope| {
        let running = scope.spawn(|| observe(case.within * 2, &mut program.mount(case, target)));
        let waits = matches!(repaired, Repaired::Waiting(_));
        // One that goes to the background has tried once, and the kernel takes its time.
        let deadline = if waits { FAULT } else { case.within };
        let ended = wait_until("the program ends", deadline, || running.is_finished());
        let mut trouble = Vec::new();
        if waits == ended.is_ok() {
            trouble.push(format!("while the fault lasted: ended? {}", ended.is_ok()));
        }
        if !lab::mounts_below(target)?.is_empty() {
            trouble.push("mounted although the fault was there".to_owned());
        }
        match repaired {
            Repaired::Waiting(front) | Repaired::Background(front) => world.lift(front)?,
            Repaired::Server => world.turn(Condition::Healthy)?,
            Repaired::Target => fs::create_dir_all(target)?,
        }
        let start = Instant::now();
        let mounted = wait_until("it is mounted", case.within, || {
            lab::mounts_below(target).is_ok_and(|mounts| !mounts.is_empty())
        });
        let after_repair = mounted.is_ok().then(|| start.elapsed());
        let mounts = lab::mounts_below(target)?;
        let observed = running.join().map_err(|_| Failure::new("the observer panicked"))??;
        Ok(Outcome { observed, mounts, after_repair, trouble })
    })
}

/// What a case's outcome lacks, a sentence for each.
#[must_use]
pub fn judge(case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut faults = outcome.trouble.clone();
    let observed = &outcome.observed;
    let code = match case.expected {
        Expected::Refused(code, says) => {
            faults.extend(faults_of_message(&observed.output, says));
            code
        }
        Expected::Mounted(_) | Expected::MountedOnce(_) | Expected::Pretended => 0,
    };
    if observed.overdue || observed.code != Some(code) {
        faults.push(format!("exit code {:?}, expected {code}", observed.code));
    }
    let took = outcome.after_repair.unwrap_or(observed.took);
    if took > case.within {
        faults.push(format!("took {took:.1?}, allowed are {:?}", case.within));
    }
    faults.extend(faults_of_mounts(case, &outcome.mounts));
    if !faults.is_empty() {
        faults.push(format!("it said: {:?}", observed.output.trim()));
    }
    faults
}

fn faults_of_message(output: &str, says: &[&[&str]]) -> Vec<String> {
    let mut faults = Vec::new();
    let message = output.to_lowercase();
    if message.lines().count() != 1 {
        faults.push(format!("{} lines instead of one", message.lines().count()));
    }
    for words in says {
        if !words.iter().any(|word| message.contains(&word.to_lowercase())) {
            faults.push(format!("says none of {words:?}"));
        }
    }
    faults
}

fn faults_of_mounts(case: &Case, mounts: &[Mount]) -> Vec<String> {
    let expected: &[&str] = match case.expected {
        Expected::Mounted(options) => options,
        Expected::MountedOnce(_) => &[],
        Expected::Refused(..) | Expected::Pretended => {
            return mounts.iter().map(|mount| format!("is mounted: {mount:?}")).collect();
        }
    };
    let [mount] = mounts else {
        return vec![format!("{} mounts instead of one: {mounts:?}", mounts.len())];
    };
    let shown: Vec<_> = mount.options.split(',').chain(mount.flags.split(',')).collect();
    let lacks = |option: &&&str| !shown.iter().any(|one| one.starts_with(**option));
    expected.iter().filter(lacks).map(|option| format!("no {option} in {shown:?}")).collect()
}

/// The target's path, made as the case wants it.
fn prepare(world: &Plain, case: &Case) -> Result<PathBuf> {
    let folder = world.folder().join("targets").join(&case.name);
    fs::create_dir_all(&folder)?;
    let target = folder.join(match case.target {
        Target::OddDirectory => "o d d & t,a=r\\g#é t".to_owned(),
        Target::TooLong => "long".repeat(70),
        _ => "target".to_owned(),
    });
    match case.target {
        Target::Directory | Target::OddDirectory | Target::Taken => fs::create_dir(&target)?,
        Target::File => fs::write(&target, "")?,
        Target::Loop => symlink(&target, &target)?,
        Target::Missing | Target::TooLong => {}
    }
    Ok(target)
}

/// Answers what should not have been there.
fn clean_up(
    world: &mut Plain,
    program: &Program,
    case: &Case,
    target: &Path,
    outcome: &Outcome,
) -> Result<Vec<String>> {
    let mut trouble = Vec::new();
    if !outcome.mounts.is_empty() {
        let unmounted = observe(UNMOUNT, &mut program.unmount(target))?;
        if unmounted.code != Some(0) || !unmounted.output.is_empty() {
            trouble.push(format!("unmounting it failed: {unmounted:?}"));
        }
    }
    for mount in lab::mounts_below(target)? {
        trouble.push(format!("still mounted: {mount:?}"));
        run(UNMOUNT, "umount", &["-f", "-l", &target.display().to_string()])?;
    }
    let left = || left_running(world.folder(), target);
    if wait_until("no process is left", MOMENT, || left().is_empty()).is_err() {
        trouble.push(format!("processes are left: {:?}", left()));
        for pid in left() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    if matches!(
        case.expected,
        Expected::MountedOnce(Repaired::Waiting(_) | Repaired::Background(_))
    ) {
        world.lower()?;
    }
    fs::remove_dir_all(world.folder().join("targets").join(&case.name))?;
    Ok(trouble)
}

/// Processes that name the target, or whose program lies in the world's folder.
fn left_running(folder: &Path, target: &Path) -> Vec<rustix::process::Pid> {
    let mut found = lab::processes_naming(target);
    found.extend(lab::processes_running(folder));
    found
}
