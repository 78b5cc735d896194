//! mount(2) itself, with arguments that no program should give it (R56 to R66): what the kernel answers is
//! what the driver's tables of errors are made of.
//!
//! Needs the lab and one thread: `e2e/lab/guest -- <this> --test-threads=1`. No server: nothing here gets
//! that far.

#![expect(
    unsafe_code,
    reason = "only mount(2) itself takes a null pointer, or one that leads nowhere"
)]

use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::ptr;

use e2e::failure::Result;
use e2e::failure::ensure;

/// A string argument of the system call.
enum Text {
    Null,
    /// An address that belongs to nobody: what `mmap` gave and `munmap` took back.
    Unallocated,
    Bytes(CString),
}

impl Text {
    fn new(text: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(CString::new(text).expect("no NUL in it"))
    }

    fn with_pointer<T>(&self, use_it: impl FnOnce(*const libc::c_char) -> T) -> T {
        match self {
            Self::Null => use_it(ptr::null()),
            Self::Unallocated => use_it(unallocated()),
            Self::Bytes(text) => use_it(text.as_ptr()),
        }
    }
}

fn unallocated() -> *const libc::c_char {
    const SIZE: usize = 4096;
    // SAFETY: a new private mapping, which nobody else knows, is made and given back; the address is never
    // read by this program.
    unsafe {
        let page = libc::mmap(
            ptr::null_mut(),
            SIZE,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(page, libc::MAP_FAILED);
        libc::munmap(page, SIZE);
        page.cast()
    }
}

/// The errno, or 0.
fn mount(source: &Text, target: &Text, fs_type: &CStr, options: &Text) -> i32 {
    source.with_pointer(|source| {
        target.with_pointer(|target| {
            options.with_pointer(|options| {
                // SAFETY: the kernel copies strings from these addresses and answers EFAULT for those that
                // it cannot read; it writes to none.
                let outcome =
                    unsafe { libc::mount(source, target, fs_type.as_ptr(), 0, options.cast()) };
                if outcome == 0 {
                    0
                } else {
                    io::Error::last_os_error().raw_os_error().unwrap_or(-1)
                }
            })
        })
    })
}

const NFS: &CStr = c"nfs";
const SOURCE: &str = "127.0.0.1:/share";
const OPTIONS: &str = "addr=127.0.0.1,vers=4.2,port=1";

fn options() -> Text {
    Text::new(OPTIONS)
}

fn directory() -> Result<(tempfile::TempDir, Text)> {
    let folder = tempfile::tempdir()?;
    let target = text_of(folder.path());
    Ok((folder, target))
}

fn text_of(path: &Path) -> Text {
    Text::new(path.display().to_string())
}

fn compare(rows: &[(&str, i32, i32)]) -> Result<()> {
    let wrong: Vec<_> =
        rows.iter().filter(|(_, answered, expected)| answered != expected).collect();
    ensure(wrong.is_empty(), format!("(what, errno, expected errno): {wrong:?}"))
}

#[test]
fn the_first_parameter() -> Result<()> {
    e2e::lab::require()?;
    let (_folder, target) = directory()?;
    let source = |source: Text| mount(&source, &target, NFS, &options());
    compare(&[
        ("R56: NULL", source(Text::Null), libc::EINVAL),
        ("R57: no colon", source(Text::new("127.0.0.1/share")), libc::EINVAL),
        ("R57: empty", source(Text::new("")), libc::EINVAL),
        ("R57: an open bracket", source(Text::new("[::1:/share")), libc::EINVAL),
        (
            "R58: longer than a page",
            source(Text::new(format!("h:/{}", "p".repeat(5000)))),
            libc::EINVAL,
        ),
        (
            "R58: a path of 2000 bytes",
            source(Text::new(format!("127.0.0.1:/{}", "p".repeat(2000)))),
            libc::ECONNREFUSED,
        ),
        ("R59: unallocated", source(Text::Unallocated), libc::EFAULT),
        ("a good one reaches the network", source(Text::new(SOURCE)), libc::ECONNREFUSED),
    ])
}

#[test]
fn the_second_parameter() -> Result<()> {
    e2e::lab::require()?;
    let folder = tempfile::tempdir()?;
    let target = |target: Text| mount(&Text::new(SOURCE), &target, NFS, &options());
    let link = folder.path().join("loop");
    symlink(&link, &link)?;
    let chain = chain_of_links(folder.path(), 41)?;
    let short = chain_of_links(folder.path(), 40)?;
    let file = folder.path().join("file");
    std::fs::write(&file, "")?;
    compare(&[
        ("R60: NULL", target(Text::Null), libc::EFAULT),
        (
            "R61: a component of 256 bytes",
            target(Text::new(format!("/{}", "t".repeat(256)))),
            libc::ENAMETOOLONG,
        ),
        (
            "R61: a path of more than 4095 bytes",
            target(Text::new("/tt".repeat(2000))),
            libc::ENAMETOOLONG,
        ),
        ("R62: a link to itself", target(text_of(&link)), libc::ELOOP),
        ("R62: 41 links", target(text_of(&chain)), libc::ELOOP),
        ("40 links are allowed", target(text_of(&short)), libc::ECONNREFUSED),
        ("R63: unallocated", target(Text::Unallocated), libc::EFAULT),
        ("R42: not there", target(text_of(&folder.path().join("missing"))), libc::ENOENT),
        ("R45: below a file", target(text_of(&file.join("x"))), libc::ENOTDIR),
    ])
}

/// The last of `count` links, each to the one before; the first leads to a directory.
fn chain_of_links(folder: &Path, count: usize) -> Result<std::path::PathBuf> {
    let mut last = folder.join(format!("end-{count}"));
    std::fs::create_dir(&last)?;
    for number in 0..count {
        let link = folder.join(format!("link-{count}-{number}"));
        symlink(&last, &link)?;
        last = link;
    }
    Ok(last)
}

#[test]
fn the_option_string() -> Result<()> {
    e2e::lab::require()?;
    let (_folder, target) = directory()?;
    let options = |options: Text| mount(&Text::new(SOURCE), &target, NFS, &options);
    let padded = |padding: usize| {
        let text = format!("{OPTIONS},rsize={:0>padding$}", "");
        Text::new(text)
    };
    compare(&[
        ("R64: NULL", options(Text::Null), libc::EINVAL),
        ("R64: empty", options(Text::new("")), libc::EINVAL),
        ("R66: unallocated", options(Text::Unallocated), libc::EFAULT),
        ("R37: an unknown option", options(Text::new(format!("{OPTIONS},rsise=1"))), libc::EINVAL),
        (
            "R37: a value out of range",
            options(Text::new(format!("{OPTIONS},port=65536"))),
            libc::EINVAL,
        ),
        ("fits into a page", options(padded(1000)), libc::ECONNREFUSED),
        // The kernel cuts at a page, in the middle of whatever stands there: why we count before.
        (
            "R65: what lies behind a page is not read",
            options(Text::new(format!("{OPTIONS},rsize={:0>4060},nonsense", ""))),
            libc::ECONNREFUSED,
        ),
    ])
}

#[test]
fn the_file_system_type() -> Result<()> {
    e2e::lab::require()?;
    let (_folder, target) = directory()?;
    let unknown = mount(&Text::new(SOURCE), &target, c"nfs5", &options());
    compare(&[("R41: unknown", unknown, libc::ENODEV)])
}
