//! Several worlds at once: a lane is a node's network of its own, with a plain server at the end of its cable.
//!
//! All lanes have the same addresses and names, so that a case need not know in which one it runs. They share
//! the mount table, `/etc` and the processor.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cable;
use crate::cable::ip;
use crate::failure::Result;
use crate::lab;
use crate::plain::Etc;
use crate::plain::Plain;
use crate::plain::clean_up;

/// A network for a client; a server is put beside it by [`Lane::serve`].
#[derive(Debug)]
pub struct Lane {
    number: usize,
}

impl Lane {
    /// A network with nothing but a loopback.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(number: usize) -> Result<Self> {
        let lane = Self { number };
        cable::remove("none", &lane.name());
        ip(&format!("netns add {}", lane.name()))?;
        ip(&format!("-n {} link set lo up", lane.name()))?;
        Ok(lane)
    }

    /// Starts the lane's server.
    ///
    /// # Errors
    /// When a part of it does not come up; with the end of its log.
    pub fn serve(&self, etc: &Arc<Etc>) -> Result<Plain> {
        let server = format!("plain-{}", self.number);
        clean_up(&server);
        lab::inside_network(&self.network(), || Plain::start_as(&server, Arc::clone(etc)))
    }

    /// The node's network namespace. Programs that a thread starts in there are in there too.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        cable::namespace(&self.name())
    }

    fn name(&self) -> String {
        format!("plain-node-{}", self.number)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        cable::remove("none", &self.name());
    }
}
