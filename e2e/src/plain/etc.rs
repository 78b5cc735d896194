//! An `/etc` of the worlds' own: names, a name service that knows nothing, and an `mtab` that a test may
//! spoil.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::failure::During;
use crate::failure::Result;
use crate::lab;
use crate::name_service::SILENT_PREFIX;
use crate::plain::Front;
use crate::plain::Memory;
use crate::plain::NAME_SERVICE;
use crate::plain::SERVER_V6;
use crate::plain::folder;
use crate::process::run;

/// The server by name, IPv4 only.
pub const NAME: &str = "plain.test";
/// The server by name, IPv6 only.
pub const NAME_V6: &str = "six.plain.test";
/// Two addresses, of which the one refuses everything.
pub const NAME_HALF: &str = "half.plain.test";
/// No such name.
pub const NAME_UNKNOWN: &str = "unknown.plain.test";

const SOURCE: &str = "alinas-csi-plain-etc";
const LAYER: &str = "plain-etc";
const DEADLINE: Duration = Duration::from_secs(20);

/// A name whose name servers do not answer.
#[must_use]
pub fn silent_name() -> String {
    format!("{SILENT_PREFIX}.plain.test")
}

/// A writable layer over `/etc`, for every world of this machine; ends when dropped.
#[derive(Debug)]
pub struct Etc {
    _layer: Memory,
}

impl Etc {
    /// Every world has the same addresses, so that one table of names serves all; the name service that it
    /// names is each world's own.
    ///
    /// # Errors
    /// When this machine may not be changed so, or cannot be.
    pub fn cover() -> Result<Self> {
        lab::require()?;
        Self::uncover();
        let layer = Memory::create(LAYER)?;
        let (upper, work) = (layer.0.join("upper"), layer.0.join("work"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let layers =
            format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
        run(DEADLINE, "mount", &["-t", "overlay", "-o", &layers, SOURCE, "/etc"])?;
        let etc = Self { _layer: layer };
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
        Memory::remove(&folder(LAYER));
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
