//! Which mount is meant: a directory in any spelling, or what is mounted.
//!
//! A directory is looked up without touching it: its server may be dead. Only where the way to it has links is
//! that way followed, and its own name only if nothing is mounted there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::host::mount_table::MountEntry;
use crate::host::mount_table::topmost_at;

/// Following links asks no server but those that the way leads over.
const DEADLINE: Duration = Duration::from_secs(10);

/// The mount that is on top where `place` says.
///
/// # Errors
/// When there is none, or several places are meant.
pub(super) async fn find(place: &Path, table: &[MountEntry]) -> Result<MountEntry, Ending> {
    let (wanted, mounts) = (place.to_owned(), table.to_owned());
    let looking = tokio::task::spawn_blocking(move || at_path(&wanted, &mounts));
    let at_path = match tokio::time::timeout(DEADLINE, looking).await {
        Ok(Ok(found)) => found,
        Ok(Err(panicked)) => return Err(Ending::new(Exit::Internal, panicked)),
        Err(_) => {
            let seconds = DEADLINE.as_secs();
            return Err(Ending::new(
                Exit::Failure,
                format!(
                    "the way to {place:?} was not followed within {seconds} s; give the path as findmnt shows it"
                ),
            ));
        }
    };
    match at_path {
        Some(mount) => Ok(mount),
        None => of_source(place, table),
    }
}

fn at_path(place: &Path, table: &[MountEntry]) -> Option<MountEntry> {
    let spellings: [fn(&Path) -> io::Result<PathBuf>; 3] = [
        |place| std::path::absolute(place),
        |place| {
            let absolute = std::path::absolute(place)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
                _ => Ok(absolute),
            }
        },
        |place| fs::canonicalize(place),
    ];
    let found = |spell: &fn(&Path) -> io::Result<PathBuf>| {
        let path: PathBuf = spell(place).ok()?.components().collect();
        topmost_at(table, &path).cloned()
    };
    spellings.iter().find_map(found)
}

/// Version 4 shows a source without a slash at the end, and with one where there is nothing else.
fn of_source(place: &Path, table: &[MountEntry]) -> Result<MountEntry, Ending> {
    let bare = |source: &str| source.trim_end_matches('/').to_owned();
    let wanted = bare(&place.to_string_lossy());
    let mounts: Vec<_> =
        table.iter().filter(|mount| mount.is_nfs() && bare(&mount.source) == wanted).collect();
    let places: BTreeSet<_> = mounts.iter().map(|mount| &mount.mount_point).collect();
    match (mounts.last(), places.len()) {
        (Some(mount), 1) => Ok((*mount).clone()),
        (Some(_), _) => {
            let places: Vec<_> = places.iter().map(|place| format!("{place:?}")).collect();
            let places = places.join(", ");
            Err(Ending::new(
                Exit::Usage,
                format!("{} is mounted at {places}; say which one", place.display()),
            ))
        }
        (None, _) => Err(Ending::new(Exit::Failure, format!("nothing is mounted at {place:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mount_table::fake::nfs_mount;

    fn table(mounts: &[(&str, &Path)]) -> Vec<MountEntry> {
        let numbered = (1..).zip(mounts);
        numbered
            .map(|(id, (source, place))| MountEntry { id, ..nfs_mount(source, place) })
            .collect()
    }

    #[tokio::test]
    async fn a_directory_is_found_by_every_spelling() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("real/a b")).unwrap();
        std::os::unix::fs::symlink("real", home.join("link")).unwrap();
        std::os::unix::fs::symlink("real/a b", home.join("direct")).unwrap();
        let table = table(&[("nas:/a", &home.join("real/a b"))]);
        for spelling in
            ["real/a b", "real/a b/", "real/./a b", "link/a b", "direct", "link/../real/a b"]
        {
            let found = find(&home.join(spelling), &table).await;
            assert_eq!(found.unwrap().id, 1, "{spelling}");
        }
        assert!(find(&home.join("real"), &table).await.is_err());
        let gone = self::table(&[("nas:/a", Path::new("/gone/and/away"))]);
        assert!(find(Path::new("/gone/and/away"), &gone).await.is_ok(), "its parent is hidden");
    }

    #[tokio::test]
    async fn what_is_mounted_does_for_where_if_it_is_one_place() {
        let (one, two) = (Path::new("/one"), Path::new("/two"));
        let table = table(&[
            ("nas:/a", one),
            ("nas:/b", one),
            ("nas:/b", two),
            ("nas:/", one),
            ("nas:/a", one),
        ]);
        let found = |spec: &'static str| find(Path::new(spec), &table);
        assert_eq!(found("nas:/a").await.unwrap().id, 5, "the last of those stacked there");
        assert_eq!(found("nas:/a/").await.unwrap().id, 5);
        assert_eq!(found("nas:").await.unwrap().id, 4);
        let ending = found("nas:/b").await.unwrap_err();
        assert_eq!(ending.exit, Exit::Usage);
        assert!(ending.message.contains("\"/one\", \"/two\"; say which"), "{}", ending.message);
        let ending = found("nas:/c").await.unwrap_err();
        assert_eq!(
            (ending.exit, ending.message.as_str()),
            (Exit::Failure, "nothing is mounted at \"nas:/c\"")
        );
    }
}
