//! `-o remount`: changes generic options of one mount, and nothing else.
//!
//! The kernel keeps NFS options from the first mount to the last unmount: a remount that changes one is EINVAL
//! without a word (`nfs_reconfigure`). So it is refused here, by name. mount(8) hands over the options of the
//! mount with those of the user; what only repeats what holds is passed over.

use std::path::Path;
use std::time::Duration;

use super::FsType;
use super::MountArgs;
use super::asked::words;
use crate::app::command;
use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::host::mount_table::MountEntry;
use crate::host::mount_table::ProcMountTable;
use crate::host::mount_table::topmost_at;
use crate::host::utab::Utab;
use crate::host::worker::ChildWorker;
use crate::host::worker::Job;
use crate::host::worker::Worker;
use crate::model::nearest::did_you_mean;
use crate::model::nfs_option::Consumer;
use crate::model::nfs_option::NfsOption;
use crate::model::nfs_option::OPTIONS;
use crate::model::nfs_option::Rules;
use crate::model::nfs_option::ValueKind;
use crate::model::nfs_option::keys;
use crate::model::nfs_option::row_of;

/// Changing a flag of a mount asks no server.
const DEADLINE: Duration = Duration::from_secs(10);

/// Whether an option text asks for a remount.
pub(super) fn is_asked(text: &str) -> bool {
    keys(text).any(|key| key == "remount")
}

/// Remounts what is on top at `target`.
pub(super) async fn run(args: &MountArgs, target: &Path) -> Result<(), Ending> {
    let table = command::read_table(&ProcMountTable)?;
    let mount = topmost_at(&table, target).filter(|mount| mount.is_nfs()).ok_or_else(|| {
        Ending::new(Exit::Failure, format!("{target:?} holds no NFS mount that could be remounted"))
    })?;
    let recorded = Utab::system().last_at(target).ok().flatten();
    let recorded = recorded.map(|entry| entry.attributes).unwrap_or_default();
    let attributes = new_attributes(args, mount, &recorded).map_err(|why| {
        Ending::new(Exit::Failure, format!("failed to remount {target:?}: {why}"))
    })?;
    if args.fake {
        return Ok(());
    }
    set(&ChildWorker::default(), target, attributes).await
}

/// Gives the mount at `target` these attributes, and takes all others away.
pub(in crate::app) async fn set(
    worker: &dyn Worker,
    target: &Path,
    attributes: Vec<String>,
) -> Result<(), Ending> {
    let job = Job::SetAttributes { target: target.to_owned(), attributes };
    worker.run(job, DEADLINE).await.map(|_| ()).map_err(|failure| {
        Ending::new(Exit::Failure, format!("failed to remount {target:?}: {failure}"))
    })
}

/// The attributes of the mount after what was asked for, in the order in which it was.
fn new_attributes(
    args: &MountArgs,
    mount: &MountEntry,
    recorded: &str,
) -> Result<Vec<String>, String> {
    let mut attributes: Vec<String> = mount.options.clone();
    attributes.retain(|word| row_of(word).is_some_and(is_attribute));
    let mut changed = Vec::new();
    let flags = [(args.read_only, "ro"), (args.read_write, "rw")];
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word);
    for word in args.options.iter().flat_map(|text| words(text)).chain(flags) {
        let key = word.split('=').next().unwrap_or(word);
        let option = row_of(key).ok_or_else(|| {
            let spellings = OPTIONS.iter().flat_map(NfsOption::spellings);
            format!("unknown mount option {key:?}{}", did_you_mean(key, spellings))
        })?;
        if is_attribute(option) {
            apply(option, key, &mut attributes);
        } else if !says_nothing(args, option) && !holds(word, mount, recorded) {
            changed.push(key);
        }
    }
    // What holds anyway is no attribute.
    attributes.retain(|word| !["rw", "relatime"].contains(&word.as_str()));
    if changed.is_empty() {
        return Ok(attributes);
    }
    Err(format!(
        "a remount changes only generic options such as ro, nosuid, noexec; not so {}: unmount, and mount anew",
        changed.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ")
    ))
}

fn is_attribute(option: &NfsOption) -> bool {
    option.under(Rules::Direct).consumer == Consumer::Attribute
}

fn apply(option: &NfsOption, key: &str, attributes: &mut Vec<String>) {
    attributes.retain(|word| row_of(word).is_none_or(|held| held.name != option.name));
    match option.value {
        ValueKind::Choice(words) if words.contains(&key) => attributes.push(key.to_owned()),
        ValueKind::Switch { off } if key != off => attributes.push(option.name.to_owned()),
        _ => {}
    }
}

/// `remount` itself, remarks to other programs, and what steers this command alone.
fn says_nothing(args: &MountArgs, option: &NfsOption) -> bool {
    ["remount", "bg", "retry", "sloppy"].contains(&option.name)
        || (option.name == "tls" && args.fs_type == FsType::Alinas)
        || (option.name != "addr"
            && matches!(option.under(Rules::Direct).consumer, Consumer::Ignored(_)))
}

fn holds(word: &str, mount: &MountEntry, recorded: &str) -> bool {
    mount.super_options.iter().any(|shown| shown == word) || words(recorded).any(|old| old == word)
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;
    use crate::host::mount_table::fake::nfs_mount;

    fn attributes(line: &str) -> Result<Vec<String>, String> {
        let shown = |text: &str| text.split(',').map(str::to_owned).collect();
        let mount = MountEntry {
            options: shown("rw,nosuid,relatime"),
            super_options: shown("rw,vers=3,rsize=4096,hard,addr=192.0.2.1"),
            ..nfs_mount("nas:/", Path::new("/mnt"))
        };
        new_attributes(&args(&format!("nas:/ /mnt {line}")), &mount, "vers=3,rsize=8192")
    }

    #[test]
    fn generic_options_are_added_to_those_that_hold_and_the_last_wins() {
        for (line, after) in [
            ("-o remount,ro", &["nosuid", "ro"][..]),
            ("-o remount,ro,rw", &["nosuid"]),
            ("-o remount,suid", &[]),
            ("-o remount -r", &["nosuid", "ro"]),
            ("-o ro,remount -w", &["nosuid"]),
            ("-o remount,noatime", &["nosuid", "noatime"]),
            ("-o remount,noatime,relatime,noexec", &["nosuid", "noexec"]),
            ("-o remount,_netdev,x-y=z,bg,retry=3", &["nosuid"]),
        ] {
            assert_eq!(attributes(line).unwrap(), after, "{line}");
        }
    }

    #[test]
    fn nfs_options_that_repeat_what_holds_are_passed_over_and_others_refused_by_name() {
        let merged = "-o rw,nosuid,relatime,vers=3,rsize=4096,hard,addr=192.0.2.1,remount,ro";
        assert_eq!(attributes(merged).unwrap(), ["nosuid", "ro"]);
        assert!(attributes("-o remount,rsize=8192").is_ok(), "as it was asked for");
        let said = attributes("-o remount,rsize=1024,soft,ro").unwrap_err();
        assert!(said.contains("\"rsize\", \"soft\": unmount"), "{said}");
        assert!(attributes("-o remount,sync").unwrap_err().contains("\"sync\""));
        assert!(attributes("-o remount,rsise=1").unwrap_err().contains("did you mean \"rsize\""));
    }
}
