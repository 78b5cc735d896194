//! Rules about the source itself, each a test: what a reviewer would otherwise have to look for every time.
//!
//! The layers come from the table in `src/lib.rs`, so the table that people read and the one that is held
//! cannot differ. Each rule is a pure function over texts; its own test at the end shows that it can fail.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// A file longer than this says why in a line `//! LONG: …`.
const LONGEST_FILE: usize = 400;

/// Where packages come from is the machine's business; a name in here would break a mirror. In halves, so
/// that this file keeps its own rule.
const REGISTRY_HOSTS: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("files.pythonhosted", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("sum.golang", ".org"),
    concat!("deb.debian", ".org"),
    concat!("archive.ubuntu", ".com"),
];

#[test]
fn imports_point_to_lower_layers_only() {
    let layers = layers(&read("src/lib.rs"));
    assert!(layers.len() >= 10, "the table of src/lib.rs was not understood: {layers:?}");
    let broken: Vec<_> = rust_files("src")
        .iter()
        .filter_map(|file| Some((module_of(file)?, file)))
        .flat_map(|(module, file)| upward_imports(&layers, &module, &read(file), file))
        .collect();
    assert_none(&broken);
}

#[test]
fn the_table_of_layers_names_every_module() {
    let layers = layers(&read("src/lib.rs"));
    let named: BTreeSet<_> = layers.keys().cloned().collect();
    let there: BTreeSet<_> = rust_files("src").iter().filter_map(|file| module_of(file)).collect();
    assert_eq!(named, there);
}

#[test]
fn every_rust_file_opens_by_saying_what_it_is_for() {
    let broken: Vec<_> = all_rust_files()
        .into_iter()
        .filter(|file| !opens_with_purpose(&read(file)))
        .map(|file| format!("{file}: does not open with `//!` and a sentence"))
        .collect();
    assert_none(&broken);
}

#[test]
fn a_long_file_says_why_it_is_long() {
    let broken: Vec<_> = all_rust_files()
        .into_iter()
        .filter(|file| is_long_without_reason(&read(file)))
        .map(|file| {
            format!("{file}: over {LONGEST_FILE} lines without a line `//! LONG: <reason>`")
        })
        .collect();
    assert_none(&broken);
}

#[test]
fn each_use_names_one_thing_of_one_module() {
    let broken: Vec<_> =
        all_rust_files().iter().flat_map(|file| grouped_uses(&read(file), file)).collect();
    assert_none(&broken);
}

#[test]
fn the_architecture_document_names_only_what_exists() {
    let broken: Vec<_> = paths_named_in(&read("ARCHITECTURE.md"))
        .into_iter()
        .filter(|path| !root().join(path).exists())
        .map(|path| format!("ARCHITECTURE.md names {path}, which is not there"))
        .collect();
    assert_none(&broken);
}

#[test]
fn the_architecture_document_names_only_tests_that_exist() {
    let sources: String = all_rust_files().iter().map(|file| read(file)).collect();
    let broken: Vec<_> = tests_named_in(&read("ARCHITECTURE.md"))
        .into_iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .map(|name| {
            format!("ARCHITECTURE.md says that the test {name} holds something; there is none")
        })
        .collect();
    assert_none(&broken);
}

#[test]
fn the_changelog_has_a_place_for_the_next_change() {
    assert!(read("CHANGELOG.md").lines().any(|line| line == "## [Unreleased]"));
}

#[test]
fn no_file_names_a_package_registry() {
    let broken: Vec<_> = files("", "")
        .into_iter()
        .filter(|file| !file.ends_with("Cargo.lock"))
        .filter_map(|file| Some((fs::read_to_string(root().join(&file)).ok()?, file)))
        .flat_map(|(text, file)| registries_in(&text, &file))
        .collect();
    assert_none(&broken);
}

#[test]
fn every_attribute_of_a_volume_is_documented_in_the_chart() {
    let documented = read("charts/alinas-csi/README.md");
    let broken: Vec<_> = alinas_csi::model::attributes::KEYS
        .iter()
        .filter(|key| !documented.contains(&format!("| `{}` | {} |", key.name, shown(key.default))))
        .map(|key| format!("charts/alinas-csi/README.md lacks `{}` with its default", key.name))
        .collect();
    assert_none(&broken);
}

#[test]
fn every_parameter_of_a_class_is_documented() {
    let documented = read("docs/storageclass.md");
    let broken: Vec<_> = alinas_csi::model::storage_class::KEYS
        .iter()
        .map(|key| format!("| `{}` | {} | {} |", key.name, shown(key.default), key.help))
        .filter(|row| !documented.contains(row))
        .map(|row| format!("docs/storageclass.md lacks the row {row}"))
        .collect();
    assert_none(&broken);
}

fn shown(default: &str) -> &str {
    if default.is_empty() { "none" } else { default }
}

/// The module table of a crate's first page, as name and layer.
fn layers(lib: &str) -> BTreeMap<String, u32> {
    let mut layers = BTreeMap::new();
    for row in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = row.split(" | ");
        let Some(Ok(layer)) = cells.next().map(|cell| cell.trim().parse()) else { continue };
        let modules = cells.next().unwrap_or_default();
        layers.extend(
            modules
                .split("[`")
                .skip(1)
                .filter_map(|rest| rest.split_once("`]"))
                .map(|(name, _)| (name.to_owned(), layer)),
        );
    }
    layers
}

/// `tunnel` for `src/tunnel/relay.rs` and for `src/tunnel.rs`; the crate's own two files have none.
fn module_of(file: &str) -> Option<String> {
    let name = file.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    (!["lib", "main"].contains(&name)).then(|| name.to_owned())
}

/// Every `crate::module` of a file that is neither its own module nor below it. Comments may point up.
fn upward_imports(
    layers: &BTreeMap<String, u32>,
    module: &str,
    text: &str,
    file: &str,
) -> Vec<String> {
    let own = layers.get(module).copied().unwrap_or_default();
    code_lines(text)
        .flat_map(|(number, line)| crate_paths(line).map(move |path| (number, path)))
        .filter(|(_, path)| path != module)
        .filter(|(_, path)| layers.get(path).is_some_and(|layer| *layer >= own))
        .map(|(number, path)| format!("{file}:{number}: {module} (layer {own}) imports {path}"))
        .collect()
}

fn crate_paths(line: &str) -> impl Iterator<Item = String> {
    line.split("crate::").skip(1).map(|rest| {
        rest.chars()
            .take_while(|character| character.is_alphanumeric() || *character == '_')
            .collect()
    })
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn opens_with_purpose(text: &str) -> bool {
    text.lines()
        .next()
        .and_then(|line| line.strip_prefix("//! "))
        .is_some_and(|sentence| sentence.len() > 10 && !sentence.contains("TODO"))
}

fn is_long_without_reason(text: &str) -> bool {
    text.lines().count() > LONGEST_FILE && !text.lines().any(|line| line.starts_with("//! LONG: "))
}

fn grouped_uses(text: &str, file: &str) -> Vec<String> {
    code_lines(text)
        .filter(|(_, line)| {
            let line = line.trim_start();
            let import = line.strip_prefix("pub ").unwrap_or(line);
            // The variants of an enum may be taken together: `use State::{Absent, Running};`.
            let path = import.strip_prefix("use ").and_then(|rest| rest.split_once("::{"));
            path.is_some_and(|(path, _)| !last_segment(path).starts_with(char::is_uppercase))
        })
        .map(|(number, _)| format!("{file}:{number}: one module per `use` line"))
        .collect()
}

fn last_segment(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

/// What stands in backquotes and looks like a path of the checkout.
fn paths_named_in(text: &str) -> Vec<String> {
    quoted(text)
        .filter(|word| {
            word.contains('/') && !word.starts_with('/') && !word.contains([' ', '<', '*'])
        })
        .filter(|word| {
            ["src/", "proto/", "e2e/", "tests/", "charts/", "deploy/", ".ci/"]
                .iter()
                .any(|folder| word.starts_with(folder))
        })
        .map(str::to_owned)
        .collect()
}

/// What stands in backquotes and is a sentence in snake case: at least three words, letters and digits.
fn tests_named_in(text: &str) -> Vec<String> {
    quoted(text)
        .filter(|word| word.matches('_').count() >= 3)
        .filter(|word| {
            word.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
        })
        .map(str::to_owned)
        .collect()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn registries_in(text: &str, file: &str) -> Vec<String> {
    REGISTRY_HOSTS
        .iter()
        .filter(|host| text.contains(*host))
        .map(|host| format!("{file}: names the package registry {host}"))
        .collect()
}

fn all_rust_files() -> Vec<String> {
    ["src", "tests", "e2e"]
        .into_iter()
        .flat_map(rust_files)
        .chain(["build.rs".to_owned()])
        .collect()
}

fn rust_files(folder: &str) -> Vec<String> {
    files(folder, ".rs")
}

/// The files of the checkout below a folder, by paths from its root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap().map(Result::unwrap) {
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && ![".git", "target"].contains(&entry.file_name().to_str().unwrap()) {
                folders.push(path);
            } else if kind.is_file() && path.to_str().unwrap().ends_with(ending) {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn each_rule_sees_what_breaks_it() {
    let table = "//! | layer | module | what |\n//! | 3 | [`tls`], [`nfs`] | x |\n//! | 0 | [`model`] | x |";
    let layers = layers(table);
    let imports = |module, text| upward_imports(&layers, module, text, "f").len();
    assert_eq!(imports("tls", "use crate::nfs::Mount;"), 1, "a neighbour of the same layer");
    assert_eq!(
        imports("model", "    let a = crate::tls::config();"),
        1,
        "a path in the middle of a line"
    );
    assert_eq!(
        imports("tls", "use crate::model::VolumeId;\nuse crate::tls::x;\n//! crate::nfs"),
        0
    );
    assert!(!opens_with_purpose("//! TODO") && !opens_with_purpose("use std::fs;"));
    assert!(is_long_without_reason(&"\n".repeat(LONGEST_FILE + 1)));
    assert!(!is_long_without_reason(&format!("//! LONG: a table\n{}", "\n".repeat(LONGEST_FILE))));
    assert_eq!(
        grouped_uses("pub use a::{b, c};\nuse a::b;\n// use a::{b};\nuse State::{On, Off};", "f")
            .len(),
        1
    );
    assert_eq!(paths_named_in("`src/nothing.rs`, `/run/x`, `cargo test`"), ["src/nothing.rs"]);
    assert_eq!(tests_named_in("`a_test_that_holds` and `alinas_csi`"), ["a_test_that_holds"]);
    assert_eq!(registries_in(REGISTRY_HOSTS[0], "f").len(), 1);
}
