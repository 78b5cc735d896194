//! Names of the mount targets, for the lab only: a hosts file of our own, and a name service that knows nothing.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::failure::During;
use crate::failure::Result;
use crate::lab;
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
    ended: Arc<AtomicBool>,
    service: Option<JoinHandle<()>>,
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
        let socket = UdpSocket::bind((NAME_SERVICE, 53)).during("failed to serve names")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let ended = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&ended);
        let service = Some(thread::spawn(move || know_nothing(&socket, &heard)));
        let names = Self { folder: folder.to_owned(), ended, service };
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
        self.ended.store(true, Ordering::Relaxed);
        if let Some(service) = self.service.take() {
            let _ = service.join();
        }
    }
}

/// Answers every question with "no such name" (RFC 1035, section 4.1.1: RCODE 3).
fn know_nothing(socket: &UdpSocket, ended: &AtomicBool) {
    let mut message = [0; 512];
    while !ended.load(Ordering::Relaxed) {
        let Ok((length, asker)) = socket.recv_from(&mut message) else { continue };
        if length < 12 {
            continue;
        }
        message[2] |= 0x80;
        message[3] = 0x83;
        // No record follows the question: an EDNS record of the asker's is not echoed.
        message[6..12].fill(0);
        let end = end_of_question(&message[..length]);
        let _ = socket.send_to(&message[..end], asker);
    }
}

fn end_of_question(message: &[u8]) -> usize {
    const TYPE_AND_CLASS: usize = 4;
    let mut at = 12;
    while let Some(label) = message.get(at).filter(|label| **label != 0) {
        at += usize::from(*label) + 1;
    }
    (at + 1 + TYPE_AND_CLASS).min(message.len())
}
