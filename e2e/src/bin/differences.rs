//! Runs every case with mount.nfs(8) and with ours, and prints the table of differences in Markdown.
//!
//!     e2e/lab/run target/debug/differences [--only mount.nfs|ours] [--reference FILE] [FILTER]...
//!
//! Each takes minutes where the lab is emulated. `--only mount.nfs` writes what mount.nfs did,
//! for a later `--reference`: it does not change while ours does. Results are `mount.nfs.tsv` and `table.md` in
//! `$ALINAS_CSI_LAB_OUT`; `e2e/differences` makes the whole document of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use clap::Parser;
use clap::ValueEnum;
use e2e::cases;
use e2e::cases::Case;
use e2e::cases::lanes::AT_ONCE;
use e2e::cases::lanes::Lanes;
use e2e::cases::program::Program;
use e2e::cases::trial;
use e2e::cases::trial::Outcome;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::failure::ensure;

#[derive(Parser)]
struct Arguments {
    /// Only one of the two.
    #[arg(long)]
    only: Option<Which>,
    /// What mount.nfs did, from an earlier run.
    #[arg(long)]
    reference: Option<PathBuf>,
    /// Only cases whose name contains one of these.
    filters: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    #[value(name = "mount.nfs")]
    Reference,
    Ours,
}

/// What one program did, in the three columns of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    result: String,
    time: String,
    message: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("differences: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut cases = cases::all();
    if !arguments.filters.is_empty() {
        cases.retain(|case| arguments.filters.iter().any(|filter| case.name.contains(filter)));
    }
    let lanes = Lanes::default();
    let reference = match (&arguments.reference, arguments.only) {
        (Some(file), _) => read_table(&fs::read_to_string(file)?)?,
        (None, Some(Which::Ours)) => BTreeMap::new(),
        (None, _) => run_all(&lanes, Which::Reference, &cases)?,
    };
    if arguments.only == Some(Which::Reference) {
        return write_result("mount.nfs.tsv", &written_table(&reference));
    }
    let ours = run_all(&lanes, Which::Ours, &cases)?;
    write_result("table.md", &markdown(&cases, &reference, &ours))?;
    let unexplained = cases.iter().filter(|case| case.reason.is_empty());
    let unexplained: Vec<_> = unexplained
        .filter(|case| differ(case, &reference, &ours))
        .map(|case| case.name.as_str())
        .collect();
    ensure(unexplained.is_empty(), format!("these differ without a reason: {unexplained:?}"))
}

fn write_result(name: &str, text: &str) -> Result<()> {
    let folder = std::env::var_os("ALINAS_CSI_LAB_OUT")
        .ok_or_else(|| Failure::new("run it by e2e/lab/run: ALINAS_CSI_LAB_OUT is not set"))?;
    fs::write(PathBuf::from(folder).join(name), text)?;
    Ok(())
}

fn run_all(lanes: &Lanes, which: Which, cases: &[Case]) -> Result<BTreeMap<String, Told>> {
    let left = Mutex::new(cases.iter());
    let told = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(case) = next(&left) {
            let line = run_one(lanes, which, case)?;
            told.lock().unwrap_or_else(PoisonError::into_inner).insert(case.name.clone(), line);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Failure::new("a worker panicked"))));
        ended.collect::<Result<Vec<()>>>()
    })?;
    Ok(told.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn next<'a>(left: &Mutex<std::slice::Iter<'a, Case>>) -> Option<&'a Case> {
    left.lock().unwrap_or_else(PoisonError::into_inner).next()
}

fn run_one(lanes: &Lanes, which: Which, case: &Case) -> Result<Told> {
    lanes.perform(case.condition, |stage| {
        let program = match which {
            Which::Reference => &Program::Reference,
            Which::Ours => &stage.program,
        };
        let outcome = trial::perform(&mut stage.world, program, case)?;
        // The lab's folder and the case's name say nothing to a reader.
        let target = stage.world.folder().join("targets").join(&case.name).join("target");
        let line = tell(&outcome, &target.display().to_string());
        println!("{}: {line:?} {:?}", case.name, outcome.trouble);
        Ok(line)
    })
}

fn tell(outcome: &Outcome, target: &str) -> Told {
    let observed = &outcome.observed;
    let mut result = match (observed.overdue, observed.code) {
        (true, _) => "never ended".to_owned(),
        (false, Some(code)) => code.to_string(),
        (false, None) => "killed".to_owned(),
    };
    match (outcome.mounts.as_slice(), outcome.after_repair) {
        ([], _) => {}
        ([mount], after) => {
            let version = mount.options.split(',').find(|option| option.starts_with("vers="));
            let _ = write!(result, ", mounted {}", version.unwrap_or("?"));
            if after.is_some() {
                result += " after the repair";
            }
        }
        (more, _) => {
            let _ = write!(result, ", mounted {} times", more.len());
        }
    }
    let message = observed.output.trim().replace(target, "DIR").replace('\n', " / ");
    Told { result, time: time(observed.took.as_secs()), message }
}

/// In classes: an emulated machine with neighbours is not exact.
fn time(seconds: u64) -> String {
    match seconds {
        0..=2 => "< 3 s".to_owned(),
        3..=7 => "5 s".to_owned(),
        8..=12 => "10 s".to_owned(),
        more => format!("{} s", (more + 5) / 10 * 10),
    }
}

fn written_table(table: &BTreeMap<String, Told>) -> String {
    let line = |(name, told): (&String, &Told)| {
        format!("{name}\t{}\t{}\t{}\n", told.result, told.time, told.message)
    };
    table.iter().map(line).collect()
}

fn read_table(text: &str) -> Result<BTreeMap<String, Told>> {
    let line = |line: &str| match line.split('\t').collect::<Vec<_>>().as_slice() {
        [name, result, time, message] => {
            let told = Told {
                result: (*result).to_owned(),
                time: (*time).to_owned(),
                message: (*message).to_owned(),
            };
            Ok(((*name).to_owned(), told))
        }
        _ => Err(Failure::new(format!("not four columns: {line:?}"))),
    };
    text.lines().map(line).collect()
}

/// Two tables: where the results differ, and every case.
fn markdown(
    cases: &[Case],
    reference: &BTreeMap<String, Told>,
    ours: &BTreeMap<String, Told>,
) -> String {
    const HEAD: &str = "| case | mount.nfs | time | message | ours | time | message | why |\n\
                        | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    let row = |case: &Case| row(case, reference.get(&case.name), ours.get(&case.name));
    let differ = |case: &&Case| differ(case, reference, ours);
    let other: String = cases.iter().filter(differ).map(row).collect();
    let all: String = cases.iter().map(row).collect();
    format!("## Where the result differs\n\n{HEAD}{other}\n## Every case\n\n{HEAD}{all}")
}

fn differ(case: &Case, reference: &BTreeMap<String, Told>, ours: &BTreeMap<String, Told>) -> bool {
    let result = |table: &BTreeMap<String, Told>| Some(table.get(&case.name)?.result.clone());
    result(reference) != result(ours)
}

fn row(case: &Case, theirs: Option<&Told>, ours: Option<&Told>) -> String {
    let cells = |told: Option<&Told>| {
        told.map_or("| | | ".to_owned(), |told| {
            format!("| {} | {} | {} ", told.result, told.time, cell(&told.message, 400))
        })
    };
    let options = if case.options.is_empty() { "" } else { "<br>-o " };
    format!(
        "| `{}`<br>{}{options}{} {}{}| {} |\n",
        case.name,
        cell(&case.spec, 80),
        cell(&case.options, 100),
        cells(theirs),
        cells(ours),
        case.reason
    )
}

/// What stands in a cell: no longer than so many characters.
fn cell(text: &str, longest: usize) -> String {
    let mut shown: String = text.chars().take(longest).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace('|', "\\|").replace('<', "&lt;")
}
