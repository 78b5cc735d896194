//! What the tests of this rung share: one NAS, one driver, one volume.

use std::path::PathBuf;
use std::time::Duration;

use e2e::csi_client::CsiClient;
use e2e::csi_client::Volume;
use e2e::driver::Driver;
use e2e::failure::Failure;
use e2e::failure::Result;
use e2e::nas::Nas;
use e2e::nas::TlsProfile;

/// How long the driver may take to close what nobody uses.
pub const CLEARED: Duration = Duration::from_secs(20);

/// A NAS and a driver beside it, fresh for one test. The driver ends first.
pub struct Scene {
    pub client: CsiClient,
    pub driver: Driver,
    pub nas: Nas,
}

impl Scene {
    pub fn start(profile: TlsProfile) -> Result<Self> {
        let nas = Nas::start(profile)?;
        let driver = Driver::start(nas.ca_file())?;
        Ok(Self { client: driver.client()?, driver, nas })
    }

    /// A volume that is the root of a mount target.
    pub fn volume(&self, id: &str, server: &str, vers: &str) -> Volume {
        Volume::new(&self.driver.kubelet_dir(), id, server, vers)
    }

    /// Where a pod sees a volume.
    pub fn target(&self, pod: &str) -> PathBuf {
        self.driver.kubelet_dir().join("pods").join(pod).join("mount")
    }
}

/// Fails with a sentence unless a condition holds; unlike `assert!` it lets a test answer `Result`.
pub fn ensure(condition: bool, sentence: impl Into<String>) -> Result<()> {
    if condition { Ok(()) } else { Err(Failure::new(sentence)) }
}
