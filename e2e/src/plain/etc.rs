//! An `/etc` of the world's own: names, a name service that knows nothing, and an `mtab` that a test may
//! spoil.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::failure::During;
use crate::failure::Result;
use crate::lab;
use crate::name_service::NameService;
use crate::name_service::SILENT_PREFIX;
use crate::plain::Front;
use crate::plain::SERVER_V6;
use crate::process::run;

/// The server by name, IPv4 only.
pub const NAME: &str = "plain.test";
/// The server by name, IPv6 only.
pub const NAME_V6: &str = "six.plain.test";
/// Two addresses, of which the one refuses everything.
pub const NAME_HALF: &str = "half.plain.test";
/// No such name.
pub const NAME_UNKNOWN: &str = "unknown.plain.test";

/// The NAS has 127.0.0.201.
const NAME_SERVICE: &str = "127.0.0.202";
const SOURCE: &str = "alinas-csi-plain-etc";
const DEADLINE: Duration = Duration::from_secs(20);

/// A name whose name servers do not answer.
#[must_use]
pub fn silent_name() -> String {
    format!("{SILENT_PREFIX}.plain.test")
}

/// A writable layer over `/etc`, and the name service; both end when this is dropped.
#[derive(Debug)]
pub(super) struct Etc {
    _service: NameService,
}

impl Etc {
    /// `folder` must be a file system that overlayfs can write to.
    pub(super) fn cover(folder: &Path) -> Result<Self> {
        let (upper, work) = (folder.join("etc"), folder.join("etc-work"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let layers =
            format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
        run(DEADLINE, "mount", &["-t", "overlay", "-o", &layers, SOURCE, "/etc"])?;
        let etc = Self { _service: NameService::start(NAME_SERVICE)? };
        fs::write("/etc/hosts", hosts()).during("failed to write names")?;
        fs::remove_file("/etc/resolv.conf").during("failed to replace resolv.conf")?;
        let resolver = format!("nameserver {NAME_SERVICE}\noptions timeout:1 attempts:2\n");
        fs::write("/etc/resolv.conf", resolver).during("failed to name the name service")?;
        Ok(etc)
    }

    /// Takes the layer away, if it is there.
    pub(super) fn uncover() {
        let ours = |mount: &lab::Mount| mount.source == SOURCE && mount.point == Path::new("/etc");
        if lab::mounts().unwrap_or_default().iter().any(ours) {
            let _ = run(DEADLINE, "umount", &["-l", "/etc"]);
        }
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        Self::uncover();
    }
}

fn hosts() -> String {
    let mut hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut name = |address: &dyn std::fmt::Display, name: &str| {
        let _ = writeln!(hosts, "{address} {name}");
    };
    name(&Front::Good.address(), NAME);
    name(&SERVER_V6, NAME_V6);
    name(&Front::Closed.address(), NAME_HALF);
    name(&Front::Good.address(), NAME_HALF);
    hosts
}
