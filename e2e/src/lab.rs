//! Facts about the machine that a test runs on: may it be used, what is mounted, who listens.

use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;
use std::thread;

use rustix::process::Pid;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;

/// Makes sure that this process may change names, networks and mounts without harm to anybody.
///
/// # Errors
/// Says what to run instead.
pub fn require() -> Result<()> {
    const REMEDY: &str = "run it by e2e/lab/guest, or as root by `unshare --mount`";
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(format!("this needs root: {REMEDY}")));
    }
    let in_guest = std::env::var("ALINAS_CSI_LAB").is_ok_and(|place| place == "guest");
    let own_mounts = fs::read_link("/proc/self/ns/mnt")? != fs::read_link("/proc/1/ns/mnt")?;
    if in_guest || own_mounts {
        return Ok(());
    }
    Err(Failure::new(format!("this changes /etc/hosts and would do so for all: {REMEDY}")))
}

/// One mount, as far as a test cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory of its file system that is mounted.
    pub root: String,
    /// Where.
    pub point: PathBuf,
    /// The flags of the mount itself: `rw,relatime`.
    pub flags: String,
    /// `nfs`, `nfs4`, …
    pub fs_type: String,
    /// `domain:/path`.
    pub source: String,
    /// The options of the superblock.
    pub options: String,
}

/// Every mount of this mount namespace (proc(5), mountinfo).
///
/// # Errors
/// When the table cannot be read.
pub fn mounts() -> Result<Vec<Mount>> {
    let table = fs::read_to_string("/proc/self/mountinfo").during("failed to read mounts")?;
    Ok(table.lines().filter_map(mount).collect())
}

fn mount(line: &str) -> Option<Mount> {
    let (place, file_system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3).map(str::to_owned);
    let mut file_system = file_system.split(' ').map(str::to_owned);
    Some(Mount {
        root: unescaped(&place.next()?),
        point: PathBuf::from(unescaped(&place.next()?)),
        flags: place.next()?,
        fs_type: file_system.next()?,
        source: unescaped(&file_system.next()?),
        options: file_system.next().unwrap_or_default(),
    })
}

/// The kernel writes blanks, tabs, line ends, backslashes and `#` as `\\` and three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match byte {
            Some(byte) => plain += &(char::from(byte).to_string() + &part[3..]),
            None => plain += &format!("\\{part}"),
        }
    }
    plain
}

/// What is mounted at a path or below it.
///
/// # Errors
/// When the table cannot be read.
pub fn mounts_below(folder: &Path) -> Result<Vec<Mount>> {
    Ok(mounts()?.into_iter().filter(|mount| mount.point.starts_with(folder)).collect())
}

/// The loopback addresses on which anybody listens on a port.
///
/// # Errors
/// When the table cannot be read.
pub fn loopback_listeners(port: u16) -> Result<Vec<SocketAddrV4>> {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string("/proc/net/tcp").during("failed to read sockets")?;
    let listeners = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, state) = (columns.next()?, columns.nth(1)?);
        let (address, local_port) = local.split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?;
        let local_port = u16::from_str_radix(local_port, 16).ok()?;
        (state == LISTEN).then(|| SocketAddrV4::new(address.to_le_bytes().into(), local_port))
    });
    Ok(listeners.filter(|at| at.ip().is_loopback() && at.port() == port).collect())
}

/// The processes whose command line names a path.
#[must_use]
pub fn processes_naming(path: &Path) -> Vec<Pid> {
    let path = path.display().to_string();
    let names_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&path)
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(names_it).filter_map(Pid::from_raw).collect()
}

/// The processes whose program lies in a folder.
#[must_use]
pub fn processes_running(folder: &Path) -> Vec<Pid> {
    let runs = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.starts_with(folder))
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(runs).filter_map(Pid::from_raw).collect()
}

/// Runs work in another network namespace. The sockets that it makes stay there.
///
/// # Errors
/// When the namespace cannot be entered, or what the work answers.
pub fn inside_network<T: Send>(
    namespace: &Path,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    use std::os::fd::AsFd;
    let namespace = fs::File::open(namespace).during("failed to open the network namespace")?;
    // A thread of its own: where it has been, no other work shall run by accident.
    thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            rustix::thread::move_into_link_name_space(
                namespace.as_fd(),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )?;
            work()
        });
        visitor.join().unwrap_or_else(|_| Err(Failure::new("the visitor of a network panicked")))
    })
}

/// The node's side of the cable to the NAS.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read_whatever_optional_fields_it_has() {
        let line = "36 35 0:30 / /mnt rw,noatime shared:1 master:2 - nfs a.b:/c rw,vers=3";
        let mount = mount(line).unwrap();
        assert_eq!((mount.root.as_str(), mount.point.as_path()), ("/", Path::new("/mnt")));
        assert_eq!((mount.source.as_str(), mount.options.as_str()), ("a.b:/c", "rw,vers=3"));
    }

    #[test]
    fn what_the_kernel_escapes_is_read_as_it_was() {
        let line = r"36 35 0:30 / /m\040n\134t rw - nfs4 a:/b\040c rw";
        let mount = mount(line).unwrap();
        assert_eq!((mount.point.to_str(), mount.source.as_str()), (Some(r"/m n\t"), "a:/b c"));
        assert_eq!(mount.flags, "rw");
        assert_eq!(unescaped("ü\\"), "ü\\");
    }

    #[test]
    fn a_listener_of_our_own_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(loopback_listeners(port).unwrap().len(), 1);
        drop(listener);
        // Another test may be between fork and exec, and hold a copy of it.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !loopback_listeners(port).unwrap().is_empty() {
            assert!(std::time::Instant::now() < deadline, "it is still shown");
            std::thread::yield_now();
        }
    }
}
