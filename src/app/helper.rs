//! Other names of this program: installed as `/sbin/mount.nfs` and the like, mount(8) and umount(8) call it.
//!
//! What they call it with (mount(8), "EXTERNAL HELPERS") is the grammar of our own subcommands, but for the
//! words in front: `mount.nfs4 SPEC DIR -o rw` is `alinas-csi mount -t nfs4 SPEC DIR -o rw`. kubectl calls its plugins by
//! their names, too; its command line is another one.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;

/// The names and what they stand for.
const NAMES: &[(&str, &[&str])] = &[
    ("mount.nfs", &["mount", "-t", "nfs"]),
    ("mount.nfs4", &["mount", "-t", "nfs4"]),
    ("mount.alinas", &["mount", "-t", "alinas"]),
    ("umount.nfs", &["umount"]),
    ("umount.nfs4", &["umount"]),
    ("umount.alinas", &["umount"]),
];

/// What kubectl calls as `kubectl alinas`.
const PLUGIN: &str = "kubectl-alinas";

/// The name in messages about the command line, which is then one that can be called.
const OURS: &str = "alinas-csi";

/// Whether kubectl has called us.
pub(super) fn is_plugin(program: Option<&OsStr>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new(PLUGIN)))
}

/// The arguments in the form of our own command line.
pub(super) fn spelled_out(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let words = arguments.next().map_or(&[][..], |program| words_of(&program));
    let words = words.iter().map(OsString::from);
    std::iter::once(OURS.into()).chain(words).chain(arguments).collect()
}

/// Whether these arguments, spelled out, are for a command that ends as mount(8) does.
pub(super) fn ends_as_mount(arguments: &[OsString]) -> bool {
    let known = |argument: &&OsString| ["mount", "umount"].iter().any(|word| *argument == word);
    // A value of an option in front could be called so too; then only the code of a usage error differs.
    arguments.iter().skip(1).take(5).any(|argument| known(&argument))
}

fn words_of(program: &OsStr) -> &'static [&'static str] {
    let name = Path::new(program).file_name();
    let known = NAMES.iter().find(|(known, _)| name == Some(OsStr::new(known)));
    known.map_or(&[], |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> String {
        let all = spelled_out(line.split(' ').map(OsString::from));
        all.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_name_that_mount_calls_us_by_says_command_and_type() {
        for (called, means) in [
            ("/sbin/mount.nfs nas:/ /mnt -o rw", "alinas-csi mount -t nfs nas:/ /mnt -o rw"),
            ("mount.nfs4 nas:/ /mnt -f", "alinas-csi mount -t nfs4 nas:/ /mnt -f"),
            ("/sbin/mount.alinas nas:/ /mnt", "alinas-csi mount -t alinas nas:/ /mnt"),
            ("umount.alinas /mnt -l", "alinas-csi umount /mnt -l"),
            ("/usr/bin/alinas-csi mount nas:/ /mnt", "alinas-csi mount nas:/ /mnt"),
            ("mount.nfs.old node", "alinas-csi node"),
        ] {
            assert_eq!(spelled(called), means);
        }
        assert!(spelled_out(Vec::new()).len() == 1, "no argument at all is no reason to panic");
    }

    #[test]
    fn kubectl_calls_its_plugin_by_its_name() {
        let is = |program: &str| is_plugin(Some(OsStr::new(program)));
        assert!(is("kubectl-alinas") && is("/usr/local/bin/kubectl-alinas"));
        assert!(!is("alinas-csi") && !is("/kubectl-alinas/alinas-csi") && !is_plugin(None));
    }

    #[test]
    fn mount_and_umount_are_recognised_behind_options() {
        let is = |line: &str| ends_as_mount(&spelled_out(line.split(' ').map(OsString::from)));
        assert!(is("alinas-csi mount") && is("umount.nfs") && is("alinas-csi --log info umount"));
        assert!(!is("alinas-csi node") && !is("alinas-csi"));
    }
}
