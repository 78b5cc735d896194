//! A tree as lines, to be compared with another one: everything about each entry that a copy is to keep; and a tree to
//! compare.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use crate::failure::Result;

/// Every entry below a directory, in order: path, kind, mode, owner, time of change, content, and the first path of the
/// same file.
///
/// # Errors
/// Where something cannot be read.
pub fn of(directory: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    collect(directory, &mut paths)?;
    paths.sort();
    let mut first_names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let line = |path: &PathBuf| {
        let found = fs::symlink_metadata(path)?;
        let inner = path.strip_prefix(directory).unwrap_or(path).to_owned();
        let first = first_names.entry(found.ino()).or_insert_with(|| inner.clone());
        let kind = found.file_type();
        let (what, content) = if kind.is_dir() {
            ("directory", String::new())
        } else if kind.is_symlink() {
            let says = fs::read_link(path)?;
            ("link", String::from_utf8_lossy(says.as_os_str().as_bytes()).into_owned())
        } else if kind.is_file() {
            ("file", digest(&fs::read(path)?))
        } else if kind.is_fifo() {
            ("pipe", String::new())
        } else {
            ("device", format!("{:x}", found.rdev()))
        };
        // A link has no mode of its own.
        let mode = if kind.is_symlink() { 0 } else { found.mode() & 0o7777 };
        let (uid, gid) = (found.uid(), found.gid());
        // Servers set no times of a link (nfs-ganesha), or do.
        let time = if kind.is_symlink() {
            String::new()
        } else {
            format!("{}.{:09}", found.mtime(), found.mtime_nsec())
        };
        Ok(format!("{inner:?} {what} {mode:o} {uid}:{gid} {time} {content} ={first:?}"))
    };
    paths.iter().map(line).collect()
}

/// What is in a directory, by name, in order.
///
/// # Errors
/// Where it cannot be read.
pub fn names(directory: &Path) -> Result<Vec<String>> {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = fs::read_dir(directory)?.map(name).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Puts a small tree with something of each kind into a directory.
///
/// # Errors
/// Where it cannot be written.
pub fn plant(directory: &Path) -> Result<()> {
    let deep = directory.join("a/b/c");
    fs::create_dir_all(&deep)?;
    for folder in [directory, &directory.join("a"), &deep] {
        fs::write(folder.join("words"), "some words")?;
        fs::write(folder.join("empty"), "")?;
        symlink("../..", folder.join("link"))?;
    }
    fs::write(deep.join("long"), vec![7; 600_000])?;
    fs::hard_link(directory.join("words"), deep.join("the same"))?;
    Ok(())
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        paths.push(entry.path());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), paths)?;
        }
    }
    Ok(())
}

/// The length, and a sum by which two contents differ (FNV-1a).
fn digest(content: &[u8]) -> String {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{} bytes {:016x}", content.len(), content.iter().fold(0xcbf2_9ce4_8422_2325, step))
}
