//! The network namespace of the NAS and the cable to it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::cable;
use crate::cable::batch;
use crate::cable::ip;
use crate::failure::Result;
use crate::lab;
use crate::nas::FRONTS;
use crate::nas::Front;
use crate::nas::MADE;
use crate::nas::MOVED;
use crate::nas::PORT;
use crate::process::run;

pub(super) const NODE_INTERFACE: &str = "nas-node";
const NAS_INTERFACE: &str = "nas-server";
const NAMESPACE: &str = "nas";
const DEADLINE: Duration = Duration::from_secs(20);

/// The namespace and the cable; gone when dropped.
#[derive(Debug)]
pub(super) struct Network;

pub(super) fn path() -> PathBuf {
    cable::namespace(NAMESPACE)
}

impl Network {
    pub(super) fn create(folder: &Path) -> Result<Self> {
        ip(&format!("netns add {NAMESPACE}"))?;
        let network = Self;
        let addresses = FRONTS.into_iter().filter(|front| *front != Front::Unreachable);
        let addresses = addresses.map(Front::address).chain([MOVED, MADE]);
        let addresses = addresses
            .map(|address| format!("addr add {address}/24 dev {NAS_INTERFACE}\n"))
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
        cable::remove(NODE_INTERFACE, NAMESPACE);
    }

    #[expect(clippy::unused_self, reason = "the namespace exists as long as this value")]
    pub(super) fn path(&self) -> PathBuf {
        path()
    }

    pub(super) fn drop_everything(&self) -> Result<()> {
        let rules = "add table inet fault; \
            add chain inet fault in { type filter hook input priority 0; policy drop; }; \
            add chain inet fault out { type filter hook output priority 0; policy drop; }; \
            add rule inet fault in iif lo accept; add rule inet fault out oif lo accept";
        self.nft(rules)
    }

    pub(super) fn let_everything_pass(&self) -> Result<()> {
        self.nft("delete table inet fault")
    }

    pub(super) fn drop_what_ends(&self) -> Result<()> {
        self.nft(&format!(
            "add table inet fault; \
             add chain inet fault out {{ type filter hook output priority 0; }}; \
             add rule inet fault out tcp sport {PORT} tcp flags & (fin|rst) != 0 drop"
        ))
    }

    pub(super) fn reset_everything(&self) -> Result<()> {
        self.nft(&format!(
            "add table inet fault; \
             add chain inet fault in {{ type filter hook input priority 0; }}; \
             add rule inet fault in tcp dport {PORT} reject with tcp reset"
        ))
    }

    /// Takes an address from the NAS: whoever speaks to it is not answered. Not by `ip addr del`, which takes all
    /// others of the same net with the first one.
    pub(super) fn lose(&self, address: Ipv4Addr) -> Result<()> {
        self.nft(&format!(
            "add table inet lost; \
             add chain inet lost in {{ type filter hook input priority 0; }}; \
             add rule inet lost in ip daddr {address} drop"
        ))
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let net = format!("--net={}", self.path().display());
        run(DEADLINE, "nsenter", &[&net, "nft", rules])?;
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        Self::remove();
    }
}
