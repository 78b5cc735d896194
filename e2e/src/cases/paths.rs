//! What may be mounted, and where: odd names, long names, what is denied or not there.

use crate::cases::Case;
use crate::cases::Expected;
use crate::cases::Target;
use crate::plain::Front;

pub(super) fn cases() -> Vec<Case> {
    [odd(), refused(), targets(), callers()].concat()
}

/// Each version with the options that let it mount at once.
const BOTH: [(&str, &str); 2] = [("v4", "vers=4.2"), ("v3", "vers=3,nolock")];

fn good(path: &str) -> String {
    format!("{}:{path}", Front::Good.address())
}

fn odd() -> Vec<Case> {
    let long = format!("/share/deep/er/{}/{}", "long".repeat(50), "long".repeat(50));
    let paths = [
        ("blanks", "/b l a n k"),
        ("an_ampersand", "/am&p"),
        ("a_comma", "/com,ma"),
        ("more_than_ascii", "/grün"),
        ("equals_colon_and_backslash", "/a=b:c\\d"),
        ("slashes", "/share//deep/er/"),
        ("more_than_255_bytes", &long),
    ];
    let mut cases = Vec::new();
    for (version, options) in BOTH {
        for (name, path) in paths {
            let name = format!("a_path_with_{name}_{version}");
            cases.push(Case::new(name, good(path), options).shows(&[90]));
        }
        let name = format!("a_target_with_an_odd_name_{version}");
        let case = Case::new(name, good("/b l a n k"), options).shows(&[90]);
        cases.push(case.target(Target::OddDirectory));
    }
    cases.push(Case::new("the_root_of_all_exports_v4", good("/"), "vers=4.2").shows(&[21]));
    cases
}

fn refused() -> Vec<Case> {
    let at = |name: &str, path: &str, options: &str| {
        Case::new(name, good(path), options).shows(&[29, 80])
    };
    vec![
        at("a_path_that_is_not_there_v4", "/share/nil", "vers=4.2")
            .fails(&[&["/share/nil"], &["no such", "not exist"]]),
        at("a_path_that_is_not_there_v3", "/share/nil", "vers=3,nolock")
            .fails(&[&["/share/nil"], &["no such", "not exist"]]),
        at("a_path_that_is_not_there", "/share/nil", "nolock")
            .shows(&[25, 42])
            .fails(&[&["/share/nil"], &["no such", "not exist"]]),
        at("an_export_that_is_not_there_v4", "/nil", "vers=4.2")
            .fails(&[&["/nil"], &["no such", "not exist"]]),
        at("an_export_that_is_not_there_v3", "/nil", "vers=3,nolock")
            .fails(&[&["/nil"], &["denied", "access"]]),
        at("an_export_that_is_not_there", "/nil", "nolock")
            .shows(&[25])
            .fails(&[&["/nil"], &["no such", "not exist"]])
            .differs(
                "the answer of NFSv4.2 is told as well as that of NFSv3, not only the last one",
            ),
        at("an_export_denied_to_this_client_v4", "/denied", "vers=4.2")
            .fails(&[&["/denied"], &["no such", "not exist", "denied"]]),
        at("an_export_denied_to_this_client_v3", "/denied", "vers=3,nolock")
            .shows(&[33])
            .fails(&[&["/denied"], &["denied", "access"]]),
        at("an_export_denied_to_this_client", "/denied", "nolock")
            .shows(&[25, 33])
            .fails(&[&["/denied"]]),
        at("an_export_for_kerberos_only_v4", "/kerberos", "vers=4.2")
            .shows(&[47])
            .fails(&[&["sec"]]),
        at("an_export_for_kerberos_only_v3", "/kerberos", "vers=3,nolock").fails(&[&["sec"]]),
        at("a_file_as_an_export_v4", "/share/file", "vers=4.2")
            .shows(&[45])
            .fails(&[&["/share/file"], &["is a file"]]),
        at("a_file_as_an_export_v3", "/share/file", "vers=3,nolock")
            .shows(&[45])
            .fails(&[&["/share/file"], &["is a file"]]),
    ]
}

fn targets() -> Vec<Case> {
    let at = |name: &str, target: Target| {
        Case::at(name, Front::Good, "vers=4.2").target(target).shows(&[29])
    };
    vec![
        at("a_missing_target", Target::Missing)
            .shows(&[42, 84, 109])
            .fails(&[&["target", "mount point"], &["not exist", "no such"]]),
        at("a_target_that_is_a_file", Target::File)
            .shows(&[45])
            .fails(&[&["no directory", "not a directory"]]),
        at("a_target_that_is_a_loop_of_links", Target::Loop)
            .shows(&[38, 62])
            .fails(&[&["symbolic links", "links"]]),
        at("a_target_with_a_very_long_name", Target::TooLong).shows(&[40, 61]).fails(&[&["long"]]),
        at("a_target_where_it_is_mounted_already", Target::Taken)
            .shows(&[35])
            .with(&["vers=4.2"])
            .differs("the wanted state is there: success, as in the background mode of mount.nfs"),
    ]
}

fn callers() -> Vec<Case> {
    let at = |name: &str, options: &str| Case::at(name, Front::Good, options);
    vec![
        at("by_root", "vers=4.2").shows(&[67]),
        at("by_nobody", "vers=4.2")
            .shows(&[47, 68])
            .by_nobody()
            .fails_with(1, &[&["root", "privilege", "permi"]])
            .differs("mount(8): 1 is missing permission, 32 a mount that failed"),
        at("read_only_by_option", "vers=4.2,ro").shows(&[95]),
        at("read_only_by_flag", "vers=4.2").shows(&[95]).flags(&["-r"]),
        at("pretended", "vers=4.2").shows(&[55]).flags(&["-f"]).becomes(Expected::Pretended),
    ]
}
