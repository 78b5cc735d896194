//! Names of the mount targets, for the lab only: a hosts file of our own, and a name service that knows nothing.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Result;
use crate::lab;
use crate::name_service::NameService;
use crate::nas::FRONTS;
use crate::nas::Front;
use crate::process::run;

/// Nothing of the host listens there: systemd-resolved has 127.0.0.53.
const NAME_SERVICE: &str = "127.0.0.201";
const DEADLINE: Duration = Duration::from_secs(20);

/// The files that are replaced.
const FILES: [&str; 2] = ["hosts", "resolv.conf"];

/// The names; withdrawn when dropped.
#[derive(Debug)]
pub(super) struct Names {
    folder: PathBuf,
    /// The names of the machine itself.
    others: String,
    _service: NameService,
}

impl Names {
    pub(super) fn publish(folder: &Path) -> Result<Self> {
        let others = fs::read_to_string("/etc/hosts").unwrap_or_default();
        fs::write(folder.join("hosts"), hosts(&others, Front::address))?;
        fs::write(
            folder.join("resolv.conf"),
            format!("nameserver {NAME_SERVICE}\noptions timeout:1 attempts:2\n"),
        )?;
        let names =
            Self { folder: folder.to_owned(), others, _service: NameService::start(NAME_SERVICE)? };
        for file in FILES {
            let ours = folder.join(file).display().to_string();
            run(DEADLINE, "mount", &["--bind", &ours, &format!("/etc/{file}")])?;
        }
        Ok(names)
    }

    pub(super) fn hosts(&self) -> PathBuf {
        self.folder.join("hosts")
    }

    /// Has the domain of a front lead to another address.
    pub(super) fn lead(&self, moved: Front, to: Ipv4Addr) -> Result<()> {
        let address = |front: Front| if front == moved { to } else { front.address() };
        // The same file: the mount over /etc/hosts shows it. What is read between the two steps of the write lacks
        // names, as a name service may.
        fs::write(self.hosts(), hosts(&self.others, address))?;
        Ok(())
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

fn hosts(others: &str, address: impl Fn(Front) -> Ipv4Addr) -> String {
    let ours = FRONTS.into_iter().map(|front| format!("{} {}\n", address(front), front.domain()));
    std::iter::once(others.to_owned()).chain(ours).collect()
}

impl Drop for Names {
    fn drop(&mut self) {
        Self::withdraw(&self.folder);
    }
}
