//! `e2e/nfs-checklist.md` and `e2e/tunnel-checklist.md` are true: every requirement has its row, every row its test
//! or its reason, and every test that a row names exists. A case and the rows that it says to show name each other.
//!
//! What a row lacks is printed as the row should be.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use e2e::cases;

/// One checklist: the rows from its letter and 1 on.
struct List {
    letter: char,
    rows: u8,
}

const NFS: List = List { letter: 'R', rows: 148 };
const TUNNEL: List = List { letter: 'T', rows: 68 };

#[test]
fn the_checklist_has_every_row_and_names_only_what_exists() {
    let cases: BTreeSet<_> = cases::all().into_iter().map(|case| case.name).collect();
    is_true(&NFS, "e2e/nfs-checklist.md", &cases, &shown());
}

#[test]
fn the_checklist_of_the_tunnel_has_every_row_and_names_only_what_exists() {
    is_true(&TUNNEL, "e2e/tunnel-checklist.md", &BTreeSet::new(), &BTreeMap::new());
}

fn is_true(
    list: &List,
    file: &str,
    cases: &BTreeSet<String>,
    shown: &BTreeMap<u8, BTreeSet<String>>,
) {
    let table = fs::read_to_string(root().join(file)).unwrap();
    let exists = |path: &str| root().join(path).exists();
    let trouble = faults(list, &table, &names_of_tests(), cases, shown, exists);
    assert!(trouble.is_empty(), "\n{}", trouble.join("\n"));
}

/// The cases that say to show each row.
fn shown() -> BTreeMap<u8, BTreeSet<String>> {
    let mut shown: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    for case in cases::all() {
        for row in case.shows {
            shown.entry(row).or_default().insert(case.name.clone());
        }
    }
    shown
}

fn faults(
    list: &List,
    table: &str,
    tests: &BTreeSet<String>,
    cases: &BTreeSet<String>,
    shown: &BTreeMap<u8, BTreeSet<String>>,
    exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let List { letter, rows: most } = list;
    let rows: Vec<_> = table.lines().filter_map(|line| row(*letter, line)).collect();
    let mut faults = Vec::new();
    let numbers: Vec<_> = rows.iter().map(|(number, _)| *number).collect();
    if numbers != (1..=*most).collect::<Vec<_>>() {
        faults.push(format!(
            "not the rows {letter}1 to {letter}{most}, each once and in order: {numbers:?}"
        ));
    }
    for (number, cell) in rows {
        let quoted: BTreeSet<_> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let plain = cell.split('`').step_by(2).collect::<String>();
        if quoted.is_empty() && plain.trim().len() < 20 {
            faults.push(format!("{letter}{number}: no test and no reason"));
        }
        let is_path = |name: &str| name.contains(['/', ' ']) || name.starts_with("make");
        for name in quoted.iter().filter(|name| !is_path(name)) {
            if !tests.contains(name) && !cases.contains(name) {
                faults.push(format!("{letter}{number}: there is no test {name}"));
            }
        }
        for path in quoted.iter().filter(|name| name.contains('/') && !name.contains(' ')) {
            if !exists(path) {
                faults.push(format!("{letter}{number}: there is no {path}"));
            }
        }
        let named: BTreeSet<_> = quoted.intersection(cases).cloned().collect();
        let expected = shown.get(&number).cloned().unwrap_or_default();
        if named != expected {
            let all: Vec<_> = expected.iter().map(|name| format!("`{name}`")).collect();
            faults.push(format!("{letter}{number}: its cases are {}", all.join(", ")));
        }
    }
    faults
}

/// `| R12 | requirement | shown by |`
fn row(letter: char, line: &str) -> Option<(u8, String)> {
    let mut cells = line.strip_prefix("| ")?.strip_prefix(letter)?.split(" | ");
    let number = cells.next()?.trim().parse().ok()?;
    let cell = cells.nth(1)?.trim_end_matches([' ', '|']);
    Some((number, cell.to_owned()))
}

/// Functions that are tests, and the names in the lists of `e2e/tests/root_mount`.
fn names_of_tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = ["src", "tests", "e2e"].map(|folder| root().join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                names.extend(tests_in(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    names
}

fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut test_follows = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            test_follows = true;
        } else if let Some(name) = test_follows.then(|| function(line)).flatten() {
            names.push(name);
            test_follows = false;
        } else if let Some(name) =
            ["(\"", "&[(\"", "\""].iter().find_map(|it| line.strip_prefix(it))
        {
            names.extend(name.split_once("\",").map(|(name, _)| name.to_owned()));
        }
    }
    names
}

fn function(line: &str) -> Option<String> {
    let rest = line.strip_prefix("async fn ").or(line.strip_prefix("fn "))?;
    Some(rest.split(['(', '<']).next()?.to_owned())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_rule_sees_what_breaks_it() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (tests, cases) = (names(&["a_test"]), names(&["a_case"]));
    let shown = BTreeMap::from([(1, names(&["a_case"]))]);
    let rest: String = (2..=NFS.rows).map(|row| format!("| R{row} | x | `a_test` |\n")).collect();
    let judge = |first: &str| {
        let table = format!("{first}\n{rest}");
        faults(&NFS, &table, &tests, &cases, &shown, |path| path == "docs/there.md")
    };
    assert_eq!(
        judge("| R1 | `code` | `a_case`, `a_test`; `docs/there.md`, `make leaks` |"),
        [""; 0]
    );
    assert_eq!(judge("| R1 | x | `a_case`, `no_test` |").len(), 1);
    assert_eq!(judge("| R1 | x | `a_case`, `docs/nowhere.md` |").len(), 1);
    assert_eq!(judge("| R1 | x | `a_test` |"), ["R1: its cases are `a_case`"]);
    assert_eq!(judge("").len(), 1, "a missing row");
    assert_eq!(judge("| R1 | x | `a_case` |\n| R2 | x | |").len(), 2, "a row twice, and empty");
}

#[test]
fn tests_are_found_by_their_attribute_and_in_lists() {
    let text =
        "#[test]\n#[should_panic]\nfn one() {}\nfn helper() {}\n#[tokio::test]\nasync fn two() {}";
    assert_eq!(tests_in(text), ["one", "two"]);
    let list = "const TESTS: &[Steps] = &[\n(\"three\", three),\n];";
    assert_eq!(tests_in(list), ["three"]);
    assert_eq!(tests_in("const TESTS: &[Steps] =\n    &[(\"four\", four)];"), ["four"]);
}
