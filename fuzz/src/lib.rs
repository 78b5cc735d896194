//! What must hold for any text at all, whoever wrote it.
//!
//! The modules are those of the driver, taken in by their path: they need three small crates, and the driver as
//! a whole would take minutes to build with the fuzzer's instruments in it.

#[path = "../../src/model/mod.rs"]
pub mod model;

#[path = "../../src/host"]
pub mod host {
    //! What of the driver's layer of that name is fuzzed.

    pub mod mount_table;
}

use model::DeviceName;
use model::MountOptions;
use model::NfsVersion;
use model::nfs_option::LONGEST_TEXT;
use model::nfs_option::Note;
use model::nfs_option::OptionError;
use model::nfs_option::Rules;
use model::nfs_option::explain;
use model::nfs_option::keys;

/// Under either set of rules: what is accepted has one canonical text that means the same, what the kernel is
/// told has no way to end an option early, and no message forges a line of a log.
pub fn option_text(text: &str) {
    for rules in [Rules::Tunnel, Rules::Direct] {
        match MountOptions::parse_with_notes(rules, [text]) {
            Ok((options, notes)) => accepted_options(rules, &options, &notes),
            // To look for the nearest word takes a hundred times as long as to read a text.
            Err(OptionError::Unknown(key)) => assert!(text.contains(&key)),
            Err(error) => one_line(&error.to_string()),
        }
    }
    if keys(text).count() == 1 {
        let said = explain::explain(text).unwrap_or_else(|error| error.to_string());
        said.lines().for_each(one_line);
    }
}

fn accepted_options(rules: Rules, options: &MountOptions, notes: &[Note]) {
    notes.iter().for_each(|note| one_line(&note.to_string()));
    let canonical = options.to_string();
    match MountOptions::parse(rules, [canonical.as_str()]) {
        Ok(again) => {
            assert_eq!(&again, options, "{canonical}");
            assert_eq!(again.to_string(), canonical);
        }
        // The version, which the user need not have written, may be what is too much.
        Err(OptionError::TooLong(length)) => assert!(length <= LONGEST_TEXT + 16, "{length}"),
        Err(error) => panic!("{canonical}: {error}"),
    }
    for version in [NfsVersion::V3, NfsVersion::V40, NfsVersion::V41, NfsVersion::V42] {
        for (key, value) in options.kernel_options(version) {
            one_line(&key);
            one_line(value.as_deref().unwrap_or_default());
            assert!(!key.is_empty() && !key.contains([',', '=', '"']), "{key:?}");
            assert!(!value.is_some_and(|value| value.is_empty() || value.contains('"')), "{key}");
        }
    }
}

/// What is accepted is shown as it was written, and has a host.
pub fn device_name(text: &str) {
    match DeviceName::parse(text) {
        Ok(device) => {
            assert_eq!(device.to_string(), text);
            assert!(!device.host().is_empty() && !device.host().contains(['/', ',', ' ']));
            one_line(text);
        }
        Err(error) => one_line(&error.to_string()),
    }
}

/// Every line is an entry, or the whole is refused.
pub fn mountinfo(text: &str) {
    match host::mount_table::parse(text) {
        Ok(entries) => assert_eq!(entries.len(), text.lines().count()),
        Err(error) => one_line(&error.to_string()),
    }
}

fn one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
