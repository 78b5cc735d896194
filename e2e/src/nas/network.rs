//! The network namespace of the NAS and the cable to it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Result;
use crate::lab;
use crate::nas::FRONTS;
use crate::nas::Front;
use crate::process::run;

pub(super) const NODE_INTERFACE: &str = "nas-node";
const NAS_INTERFACE: &str = "nas-server";
const NAMESPACE: &str = "nas";
const DEADLINE: Duration = Duration::from_secs(20);

/// The namespace and the cable; gone when dropped.
#[derive(Debug)]
pub(super) struct Network;

pub(super) fn path() -> PathBuf {
    Path::new("/run/netns").join(NAMESPACE)
}

impl Network {
    pub(super) fn create(folder: &Path) -> Result<Self> {
        ip(&format!("netns add {NAMESPACE}"))?;
        let network = Self;
        let addresses = FRONTS.into_iter().filter(|front| *front != Front::Unreachable);
        let addresses = addresses
            .map(|front| format!("addr add {}/24 dev {NAS_INTERFACE}\n", front.address()))
            .collect::<String>();
        let node = format!(
            "link add {NODE_INTERFACE} type veth peer name {NAS_INTERFACE}\n\
             link set {NAS_INTERFACE} netns {NAMESPACE}\n\
             addr add {}/24 dev {NODE_INTERFACE}\n\
             link set {NODE_INTERFACE} up\n\
             route replace unreachable {}/32\n",
            lab::NODE_ADDRESS,
            Front::Unreachable.address()
        );
        batch(&[], folder, &node)?;
        let nas = format!("link set lo up\n{addresses}link set {NAS_INTERFACE} up\n");
        batch(&["-n", NAMESPACE], folder, &nas)?;
        Ok(network)
    }

    pub(super) fn remove() {
        let _ = ip(&format!("route del unreachable {}/32", Front::Unreachable.address()));
        let _ = ip(&format!("link del {NODE_INTERFACE}"));
        if let Ok(left) = ip(&format!("netns pids {NAMESPACE}")) {
            for pid in left.split_whitespace() {
                let _ = run(DEADLINE, "kill", &["-KILL", pid]);
            }
        }
        let _ = ip(&format!("netns del {NAMESPACE}"));
    }

    #[expect(clippy::unused_self, reason = "the namespace exists as long as this value")]
    pub(super) fn path(&self) -> PathBuf {
        path()
    }

    pub(super) fn drop_everything(&self) -> Result<()> {
        let rules = "add table inet silence; \
            add chain inet silence in { type filter hook input priority 0; policy drop; }; \
            add chain inet silence out { type filter hook output priority 0; policy drop; }; \
            add rule inet silence in iif lo accept; add rule inet silence out oif lo accept";
        self.nft(rules)
    }

    pub(super) fn let_everything_pass(&self) -> Result<()> {
        self.nft("delete table inet silence")
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let net = format!("--net={}", self.path().display());
        run(DEADLINE, "nsenter", &[&net, "nft", rules])?;
        Ok(())
    }
}

/// How many sockets listen on a port in the network of a process.
pub(super) fn count_listeners(process: u32, port: u16) -> usize {
    const LISTEN: &str = "0A";
    // proc(5): the network of that process. To enter it for each look would take far longer.
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap_or_default();
    let local = format!(":{port:04X}");
    let listens = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|address| address.ends_with(&local))
            && columns.nth(1) == Some(LISTEN)
    };
    table.lines().filter(listens).count()
}

impl Drop for Network {
    fn drop(&mut self) {
        Self::remove();
    }
}

/// Many commands by one process: each costs a tenth of a second on an emulated processor.
fn batch(options: &[&str], folder: &Path, commands: &str) -> Result<()> {
    let file = folder.join("ip.batch");
    fs::write(&file, commands)?;
    let file = file.display().to_string();
    run(DEADLINE, "ip", &[options, &["-batch", &file]].concat())?;
    Ok(())
}

fn ip(arguments: &str) -> Result<String> {
    run(DEADLINE, "ip", &arguments.split(' ').collect::<Vec<_>>())
}
