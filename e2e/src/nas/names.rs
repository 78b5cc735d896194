//! Names of the mount targets, for the lab only: a hosts file of our own, and a name service that knows nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::failure::Result;
use crate::lab;
use crate::name_service::NameService;
use crate::nas::FRONTS;
use crate::process::run;

/// Nothing of the host listens there: systemd-resolved has 127.0.0.53.
const NAME_SERVICE: &str = "127.0.0.201";
const DEADLINE: Duration = Duration::from_secs(20);

/// The files that are replaced.
const FILES: [&str; 2] = ["hosts", "resolv.conf"];

/// The names; withdrawn when dropped.
#[derive(Debug)]
pub(super) struct Names {
    folder: std::path::PathBuf,
    _service: NameService,
}

impl Names {
    pub(super) fn publish(folder: &Path) -> Result<Self> {
        let mut hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for front in FRONTS {
            hosts += &format!("{} {}\n", front.address(), front.domain());
        }
        fs::write(folder.join("hosts"), hosts)?;
        fs::write(
            folder.join("resolv.conf"),
            format!("nameserver {NAME_SERVICE}\noptions timeout:1 attempts:2\n"),
        )?;
        let names = Self { folder: folder.to_owned(), _service: NameService::start(NAME_SERVICE)? };
        for file in FILES {
            let ours = folder.join(file).display().to_string();
            run(DEADLINE, "mount", &["--bind", &ours, &format!("/etc/{file}")])?;
        }
        Ok(names)
    }

    /// Unmounts only what is ours: in a container these files are mounts already.
    pub(super) fn withdraw(folder: &Path) {
        for mount in lab::mounts().unwrap_or_default() {
            let ours = FILES.iter().any(|file| mount.point == Path::new("/etc").join(file))
                && mount.root.contains(&folder.display().to_string());
            if ours {
                let _ = run(DEADLINE, "umount", &[&mount.point.display().to_string()]);
            }
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        Self::withdraw(&self.folder);
    }
}
