//! What the documents tell people to type must exist: `make` targets, commands and flags of the program, values of the
//! chart.
//!
//! Only code is looked at: what stands between backquotes, in fences, and in lines that are set in. Links are another
//! matter, for docs/check, which needs no compiler. Each rule is a pure function over texts; its own test at the
//! end shows that it can fail.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use alinas_csi::app::command_line as program;
use alinas_csi::app::plugin_command_line as plugin;
use alinas_csi::runtime::request::Field;
use clap::Command;

/// How the program is called, and how its plugin of kubectl.
const NAME: &str = "alinas-csi ";
const PLUGIN: &str = "kubectl alinas ";

/// Documents beside those in docs/.
const MORE: [&str; 4] =
    ["README.md", "SECURITY.md", "CONTRIBUTING.md", "charts/alinas-csi/README.md"];

/// Flags of other programs, of helm and of a sidecar, that stand alone or at the beginning of a line.
const FOREIGN: [&str; 3] = ["extra-create-metadata", "namespace", "set"];

/// What a word ends with that is a file's name and no value of the chart, as in `node.log`.
const ENDINGS: [&str; 8] = ["conf", "crt", "json", "log", "md", "rs", "sock", "yaml"];

#[test]
fn what_the_documents_tell_people_to_make_is_a_target() {
    let targets = targets(&read("Makefile"));
    assert!(targets.len() >= 10, "the Makefile was not understood: {targets:?}");
    assert_none(|code| unknown_target(code, &targets));
}

#[test]
fn every_command_and_flag_in_the_documents_exists() {
    let (program, plugin) = (built(program()), built(plugin()));
    assert_none(|code| {
        let in_calls = unknown_in_call(code, NAME, &program);
        let in_plugin = unknown_in_call(code, PLUGIN, &plugin);
        let alone = unknown_flag(code, &[&program, &plugin]);
        [in_calls, in_plugin, alone].concat()
    });
}

#[test]
fn every_value_of_the_chart_in_the_documents_exists() {
    let values = values(&read("charts/alinas-csi/README.md"));
    assert!(values.len() >= 50, "the table of values was not understood: {values:?}");
    assert_none(|code| unknown_values(code, &values));
}

/// Looks at all code of all documents.
fn assert_none(faults: impl Fn(&str) -> Vec<String>) {
    let mut found = Vec::new();
    for file in documents() {
        for code in code(&read(&file)) {
            found.extend(faults(&code).iter().map(|fault| format!("{file}: {fault}: {code:?}")));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

fn documents() -> Vec<String> {
    let folder = fs::read_dir(root().join("docs")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    pages.chain(MORE.map(str::to_owned)).collect()
}

/// The pieces of code of a text, a line each. What stands between backquotes may go on in the next line.
fn code(text: &str) -> Vec<String> {
    let (mut found, mut prose, mut is_fenced) = (Vec::new(), String::new(), false);
    for line in text.lines().chain([""]) {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        if is_fenced || is_fence || line.is_empty() || line.starts_with("    ") {
            found.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
            prose.clear();
            found.push(line.trim().to_owned());
        } else {
            prose += line;
            prose += " ";
        }
    }
    found
}

fn targets(makefile: &str) -> BTreeSet<String> {
    let is_name = |name: &&str| {
        !name.is_empty() && name.chars().all(|one| one.is_ascii_lowercase() || one == '-')
    };
    let names = makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
    names.filter(is_name).map(str::to_owned).collect()
}

fn unknown_target(code: &str, targets: &BTreeSet<String>) -> Vec<String> {
    let target = code.strip_prefix("make ").and_then(|rest| rest.split(' ').next());
    let unknown = target.filter(|target| !target.is_empty() && !targets.contains(*target));
    unknown.map(|target| format!("there is no target {target}")).into_iter().collect()
}

/// A command line with what each command inherits.
fn built(mut command: Command) -> Command {
    command.build();
    command
}

/// The words behind the name of a program, where it is called.
fn call<'a>(code: &'a str, name: &str) -> Vec<&'a str> {
    let line = code.split(" #").next().unwrap_or_default();
    let Some((before, words)) = line.split_once(name) else { return Vec::new() };
    let is_name = before.is_empty() || before.ends_with(['/', ' ']);
    if !is_name || before.starts_with("helm ") {
        return Vec::new();
    }
    let words = words.split_whitespace().map(|word| word.trim_matches(['[', ']']));
    words.take_while(|word| !["|", ">", "&&"].contains(word)).collect()
}

fn unknown_in_call(code: &str, name: &str, program: &Command) -> Vec<String> {
    let words = call(code, name);
    let command = words.iter().find_map(|word| program.find_subcommand(word));
    let first = words.first().copied().unwrap_or_default();
    let is_word = !first.is_empty() && first.chars().all(|one| one.is_ascii_lowercase());
    let mut faults = Vec::new();
    if is_word && program.find_subcommand(first).is_none() {
        faults.push(format!("there is no command {first}"));
    }
    for flag in words.iter().filter_map(|word| flag(word)) {
        if ![Some(program), command].into_iter().flatten().any(|command| has(command, flag)) {
            faults.push(format!("this command has no flag --{flag}"));
        }
    }
    faults
}

/// A flag that stands alone may be any command's.
fn unknown_flag(code: &str, programs: &[&Command]) -> Vec<String> {
    let Some(flag) = code.split(' ').next().and_then(flag) else { return Vec::new() };
    let mut commands =
        programs.iter().flat_map(|program| program.get_subcommands().chain([*program]));
    if FOREIGN.contains(&flag) || commands.any(|command| has(command, flag)) {
        return Vec::new();
    }
    vec![format!("no command has a flag --{flag}")]
}

/// `state-dir` of `--state-dir=DIR`.
fn flag(word: &str) -> Option<&str> {
    let is_part = |one: char| one.is_ascii_lowercase() || one == '-';
    let name = word.strip_prefix("--")?.split(|one: char| !is_part(one)).next()?;
    name.starts_with(|one: char| one.is_ascii_lowercase()).then_some(name)
}

fn has(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(flag))
}

/// The first column of the table of values.
fn values(readme: &str) -> BTreeSet<String> {
    let table = readme.split("<!-- values -->").nth(1).unwrap_or_default();
    let table = table.split("<!-- end of values -->").next().unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

/// What `--set` is given, and words with a dot that begin as values do.
fn unknown_values(code: &str, values: &BTreeSet<String>) -> Vec<String> {
    let words: Vec<_> = code.split_whitespace().collect();
    let set =
        words.windows(2).filter(|pair| pair[0] == "--set").flat_map(|pair| pair[1].split(','));
    let set = set.map(|given| given.split(['=', '[']).next().unwrap_or_default());
    let is_field = Field::ALL.iter().any(|field| field.name() == code);
    let alone = (words.len() == 1 && !is_field && looks_like_a_value(code, values)).then_some(code);
    let unknown = set.chain(alone).filter(|name| !is_value(name, values));
    unknown.map(|name| format!("the chart has no value {name}")).collect()
}

fn looks_like_a_value(word: &str, values: &BTreeSet<String>) -> bool {
    let Some((first, rest)) = word.split_once('.') else { return false };
    let is_name = rest.chars().all(|one| one.is_ascii_alphanumeric() || one == '.');
    let is_file = rest.rsplit('.').next().is_some_and(|ending| ENDINGS.contains(&ending));
    is_name && !is_file && is_block(first, values)
}

/// A value, or a block of some.
fn is_value(name: &str, values: &BTreeSet<String>) -> bool {
    values.contains(name) || is_block(name, values)
}

fn is_block(name: &str, values: &BTreeSet<String>) -> bool {
    let below = format!("{name}.");
    values.iter().any(|value| value.starts_with(&below))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn each_rule_sees_what_breaks_it() {
    let text = "a `b` and `c\nd` `e`\n\n    f\n```yaml\ng: `h`\n```\nno code";
    assert_eq!(code(text), ["b", "c d", "e", "", "f", "```yaml", "g: `h`", "```", ""]);

    let targets = targets("all: x\n\techo a: b\n.PHONY: all\n");
    assert_eq!(targets.len(), 1);
    for (code, faults) in [("make all x=y", 0), ("make one", 1), ("make  a word", 0)] {
        assert_eq!(unknown_target(code, &targets).len(), faults, "{code}");
    }

    let (program, plugin) = (built(program()), built(plugin()));
    for (code, faults) in [
        ("alinas-csi status -o json --state-dir /run | jq --raw-output x", 0),
        ("kubectl exec pod -- /alinas-csi --log debug mount --fake", 0),
        ("alinas-csi stat", 1),
        ("alinas-csi watchdog --proxy-prot=8000 # --nothing", 1),
        ("alinas-csi mount: what it says", 0),
        ("helm install alinas-csi charts/alinas-csi --namespace x", 0),
        ("--metrics-listen ADDRESS", 0),
        ("--proxy-prot", 1),
        ("kubectl alinas status --node a --context there", 0),
        ("kubectl alinas stat", 1),
        ("kubectl alinas status --tunnel b", 1),
        ("--volume NAME", 0),
        ("---", 0),
    ] {
        let found = unknown_in_call(code, NAME, &program).len()
            + unknown_in_call(code, PLUGIN, &plugin).len()
            + unknown_flag(code, &[&program, &plugin]).len();
        assert_eq!(found, faults, "{code}");
    }

    let values = BTreeSet::from(["tunnel.proxyPort", "node.affinity"].map(str::to_owned));
    for (code, faults) in [
        ("tunnel.proxyPort", 0),
        ("tunnel.proxyProt", 1),
        ("tunnel", 0),
        ("node.log", 0),
        ("helm upgrade --set tunnel.proxyPort=1,node.x=2 --set tunnel.y=3", 2),
    ] {
        assert_eq!(unknown_values(code, &values).len(), faults, "{code}");
    }
}
