//! What a test in the lab begins with: one NAS, one driver, one client.

use std::path::PathBuf;
use std::time::Duration;

use crate::csi_client::CsiClient;
use crate::csi_client::Volume;
use crate::driver::Driver;
use crate::failure::Failure;
use crate::failure::Result;
use crate::nas::Nas;
use crate::nas::TlsProfile;

/// How long the driver may take to close what nobody uses.
pub const CLEARED: Duration = Duration::from_secs(20);

/// A NAS and a driver beside it, fresh for one test. They end in this order.
#[derive(Debug)]
pub struct Scene {
    /// A client of the node plugin.
    pub client: CsiClient,
    /// The driver's processes.
    pub driver: Driver,
    /// The server side.
    pub nas: Nas,
}

impl Scene {
    /// Starts both.
    ///
    /// # Errors
    /// When either does not come up.
    pub fn start(profile: TlsProfile) -> Result<Self> {
        let nas = Nas::start(profile)?;
        let driver = Driver::start(nas.ca_file())?;
        Ok(Self { client: driver.client()?, driver, nas })
    }

    /// A volume that is the root of a mount target.
    #[must_use]
    pub fn volume(&self, id: &str, server: &str, vers: &str) -> Volume {
        Volume::new(&self.driver.kubelet_dir(), id, server, vers)
    }

    /// Where a pod sees a volume.
    #[must_use]
    pub fn target(&self, pod: &str) -> PathBuf {
        self.driver.kubelet_dir().join("pods").join(pod).join("mount")
    }

    /// Runs a part of a test, and puts the end of the driver's logs behind its failure.
    ///
    /// # Errors
    /// What the part answers.
    pub fn watch<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outcome = part(self);
        outcome.map_err(|failure| Failure::new(format!("{failure}\n{}", self.driver.logs())))
    }
}
