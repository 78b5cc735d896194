//! A plain NFS server: rpcbind, nfsd and rpc.mountd in a network namespace at the end of a cable, and
//! everything that can be wrong with it.
//!
//! ```text
//! node --- veth --- | firewall -> rpcbind :111, nfsd :2049, rpc.mountd :20048 |     namespace "plain"
//! ```
//!
//! Most faults are addresses: see [`Front`]. What concerns the server as a whole is a [`Condition`].
//! NFS with TLS has a world of its own, [`crate::nas`]; both can run at once. Several of this kind can, each
//! beside a node's network of its own: see [`Lane`].

mod condition;
mod console;
mod etc;
mod front;
mod lane;
mod peers;

use std::fs;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use crate::plain::condition::Condition;
pub use crate::plain::etc::Etc;
pub use crate::plain::etc::NAME;
pub use crate::plain::etc::NAME_HALF;
pub use crate::plain::etc::NAME_UNKNOWN;
pub use crate::plain::etc::NAME_V6;
pub use crate::plain::etc::silent_name;
pub use crate::plain::front::FRONTS;
pub use crate::plain::front::Front;
pub use crate::plain::lane::Lane;
pub use crate::plain::peers::CLOSING_PORT;
pub use crate::plain::peers::FOREIGN_PORT;
pub use crate::plain::peers::SILENT_PORT;

use crate::cable;
use crate::cable::batch;
use crate::cable::ip;
use crate::failure::During;
use crate::failure::Result;
use crate::lab;
use crate::name_service::NameService;
use crate::plain::console::Console;
use crate::process::run;

/// The node's address on the cable.
pub const NODE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Another client's address: an export may be allowed for it alone.
pub const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 250);
/// The server's IPv6 address.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x98, 0, 0, 0, 0, 2);
/// The server's link-local address, with the node's interface.
pub const SERVER_LINK_LOCAL: &str = "fe80::98:2%plain-node";
/// How many small exports there are: `/e01` and so on.
pub const SMALL_EXPORTS: usize = 20;

/// What is exported to everybody. The last is made of everything that a careless parser stumbles over.
const EXPORTS: [&str; 6] = ["/share", "/b l a n k", "/am&p", "/com,ma", "/grün", "/a=b:c\\d"];

/// The name of a world that is alone.
const ALONE: &str = "plain";
/// The NAS has 127.0.0.201.
const NAME_SERVICE: &str = "127.0.0.202";
const NODE_INTERFACE: &str = "plain-node";
const SERVER_INTERFACE: &str = "plain-server";
const START: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(30);

/// The running server. Everything that it started, mounted or named ends when it is dropped.
#[derive(Debug)]
pub struct Plain {
    condition: Condition,
    // In the order in which they must end.
    console: Console,
    _names: NameService,
    _etc: Arc<Etc>,
    network: Network,
    folder: Folder,
}

impl Plain {
    /// Cleans up what an earlier run left, and starts.
    ///
    /// # Errors
    /// When this machine may not be used for it, or a part does not come up; with the end of its log.
    pub fn start() -> Result<Self> {
        lab::require()?;
        clean_up(ALONE);
        Self::start_as(ALONE, Arc::new(Etc::cover()?))
    }

    /// In the network of the calling thread; `name` is the server's namespace and a part of the folder.
    fn start_as(name: &str, etc: Arc<Etc>) -> Result<Self> {
        let folder = Folder::create(name)?;
        let path = folder.path().display().to_string();
        let network = Network::create(name, folder.path())?;
        let names = NameService::start(NAME_SERVICE)?;
        let mut console = Console::open(&network.path(), &folder.path().join("log"))?;
        console.define("state", &path)?;
        console.define("slow", &Front::Slow.address().to_string())?;
        console.run(SHORT, &format!("nft -f {path}/firewall\n{SLOW}"))?;
        console.run(START, include_str!("serve.sh"))?;
        console.run(START, &condition::start_daemons())?;
        peers::listen(&network.path())?;
        let condition = Condition::Healthy;
        Ok(Self { condition, console, _names: names, _etc: etc, network, folder })
    }

    /// What the server is like now.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Makes the server so; does nothing if it is so already.
    ///
    /// # Errors
    /// When a daemon does not follow.
    pub fn turn(&mut self, condition: Condition) -> Result<()> {
        if self.condition == condition {
            return Ok(());
        }
        let end = self.condition.end();
        self.condition = Condition::Healthy;
        self.console.run(START, &end)?;
        self.condition = condition;
        self.console.run(START, &condition.begin())?;
        Ok(())
    }

    /// Takes the firewall away from an address.
    ///
    /// # Errors
    /// When the rules cannot be changed.
    pub fn lift(&mut self, front: Front) -> Result<()> {
        let address = front.address();
        self.console.run(SHORT, &format!("nft add element inet plain lifted '{{ {address} }}'"))?;
        Ok(())
    }

    /// Puts the firewall back before every address that has one.
    ///
    /// # Errors
    /// When the rules cannot be changed.
    pub fn lower(&mut self) -> Result<()> {
        self.console.run(SHORT, "nft flush set inet plain lifted")?;
        Ok(())
    }

    /// The server's own disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        disk(self.folder.path())
    }

    /// A folder that everybody can reach, for mount points and the program under test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server's network namespace.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.network.path()
    }

    /// Runs commands in the server's network namespace.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn run(&mut self, commands: &str) -> Result<String> {
        self.console.run(START, commands)
    }
}

/// 300 ms late, for what comes from one address only: a class of a `prio` discipline that nothing else uses.
const SLOW: &str = "tc qdisc add dev plain-server root handle 1: prio bands 4 \
        priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
    tc qdisc add dev plain-server parent 1:4 netem delay 300ms
    tc filter add dev plain-server protocol ip parent 1: u32 match ip src \"$slow\" flowid 1:4";

impl Drop for Plain {
    fn drop(&mut self) {
        // nfsd's threads belong to the network namespace and outlive every process in it.
        let _ = self.console.run(SHORT, "echo 0 >/proc/fs/nfsd/threads");
    }
}

fn disk(folder: &Path) -> PathBuf {
    folder.join("disk")
}

/// Ends what a killed run left. Whatever is not there is not missed.
fn clean_up(name: &str) {
    let network = cable::namespace(name);
    if network.exists() {
        let net = format!("--net={}", network.display());
        let stop = "mount -t nfsd nfsd /proc/fs/nfsd && echo 0 >/proc/fs/nfsd/threads";
        let _ = run(SHORT, "nsenter", &[&net, "unshare", "--mount", "sh", "-c", stop]);
    }
    Network::remove(name);
    Memory::remove(&folder(name));
}

fn folder(name: &str) -> PathBuf {
    Path::new("/srv").join(format!("alinas-csi-{name}"))
}

/// A folder in memory; gone when dropped.
#[derive(Debug)]
struct Memory(PathBuf);

impl Memory {
    fn create(name: &str) -> Result<Self> {
        let path = folder(name);
        fs::create_dir_all(&path).during("failed to make the plain server's folder")?;
        let shown = path.display().to_string();
        run(SHORT, "mount", &["-t", "tmpfs", "-o", "mode=755", "plain", &shown])?;
        Ok(Self(path))
    }

    fn remove(path: &Path) {
        if lab::mounts_below(path).is_ok_and(|mounts| !mounts.is_empty()) {
            let _ = run(SHORT, "umount", &["-l", &path.display().to_string()]);
        }
        let _ = fs::remove_dir(path);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        Self::remove(&self.0);
    }
}

/// The world's folder: the server's disk and what its daemons read.
#[derive(Debug)]
struct Folder(Memory);

impl Folder {
    fn path(&self) -> &Path {
        &self.0.0
    }

    fn create(name: &str) -> Result<Self> {
        let memory = Memory::create(name)?;
        let disk = disk(&memory.0);
        let mut exports = String::new();
        for (number, path) in
            (1..).zip(EXPORTS.map(str::to_owned).into_iter().chain(small_exports()))
        {
            fs::create_dir_all(disk.join(path.trim_start_matches('/')))?;
            exports += &format!("{} *({OPTIONS},rw,fsid={number})\n", quoted(&path));
        }
        for (number, (path, line)) in (100..).zip([
            ("denied", format!("{OTHER_CLIENT}({OPTIONS},rw,fsid=")),
            ("kerberos", format!("*({OPTIONS},sec=krb5,rw,fsid=")),
            ("readonly", format!("*({OPTIONS},ro,fsid=")),
        ]) {
            fs::create_dir(disk.join(path))?;
            exports += &format!("/{path} {line}{number})\n");
        }
        fs::create_dir_all(
            disk.join("share").join("deep/er").join("long".repeat(50)).join("long".repeat(50)),
        )?;
        fs::write(disk.join("share/file"), "a file")?;
        fs::write(memory.0.join("exports"), exports)?;
        fs::write(memory.0.join("firewall"), front::firewall())?;
        Ok(Self(memory))
    }
}

const OPTIONS: &str = "insecure,no_root_squash,no_subtree_check,async";

fn small_exports() -> impl Iterator<Item = String> {
    (1..=SMALL_EXPORTS).map(|number| format!("/e{number:02}"))
}

/// exports(5): octal escapes for what is not plain.
fn quoted(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'/' | b'&' | b',' | b'=' | b':' | b'a'..=b'z' | b'0'..=b'9' => {
                char::from(byte).to_string()
            }
            other => format!("\\{other:03o}"),
        })
        .collect()
}

/// The server's namespace and the cable to it; gone when dropped.
#[derive(Debug)]
struct Network(String);

impl Network {
    fn create(name: &str, folder: &Path) -> Result<Self> {
        ip(&format!("netns add {name}"))?;
        let network = Self(name.to_owned());
        let unroutable = Front::Unroutable.address();
        batch(
            &[],
            folder,
            &format!(
                "link add {NODE_INTERFACE} type veth peer name {SERVER_INTERFACE} netns {name}\n\
                 addr add {NODE}/24 dev {NODE_INTERFACE}\n\
                 addr add 2001:db8:98::1/64 dev {NODE_INTERFACE} nodad\n\
                 addr add fe80::98:1/64 dev {NODE_INTERFACE} nodad\n\
                 link set {NODE_INTERFACE} up\n\
                 route replace throw {unroutable}/32\n"
            ),
        )?;
        let addresses = FRONTS.into_iter().filter(|front| front.is_there());
        let mut server: String = addresses
            .map(|front| format!("addr add {}/24 dev {SERVER_INTERFACE}\n", front.address()))
            .collect();
        server += &format!(
            "addr add {SERVER_V6}/64 dev {SERVER_INTERFACE} nodad\n\
             addr add fe80::98:2/64 dev {SERVER_INTERFACE} nodad\n\
             link set lo up\nlink set {SERVER_INTERFACE} up\n"
        );
        batch(&["-n", name], folder, &server)?;
        Ok(network)
    }

    fn remove(name: &str) {
        let _ = ip(&format!("route del throw {}/32", Front::Unroutable.address()));
        cable::remove(NODE_INTERFACE, name);
    }

    fn path(&self) -> PathBuf {
        cable::namespace(&self.0)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        Self::remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exports_5_would_misread_is_escaped() {
        assert_eq!(quoted("/b l"), "/b\\040l");
        assert_eq!(quoted("/am&p"), "/am&p");
        assert_eq!(quoted("/ü\\"), "/\\303\\274\\134");
    }
}
