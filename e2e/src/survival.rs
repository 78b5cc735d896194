//! What every test of a fault has in common: two volumes in use, one of NFS 3 and one of 4.0, under work that never
//! pauses; and in the end no call has failed, no block is damaged, and nothing is left.
//!
//! Read [`under_steady_io`] first, then [`Field::survives`].

use std::path::PathBuf;
use std::time::Duration;

use crate::csi_client::Access;
use crate::csi_client::Volume;
use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::nas::Front;
use crate::nas::TlsProfile;
use crate::scene::CLEARED;
use crate::scene::Scene;
use crate::steady_io::SteadyIo;

/// The versions that are in use at once, each through a tunnel of its own.
const PLACES: [(&str, Front); 2] = [("3", Front::Good), ("4.0", Front::Second)];
/// After a fault, how often each place must have been worked at again.
const ROUNDS: u64 = 3;
/// For that. The kernel waits up to a minute between two tries, and the lab's processor is emulated.
const RECOVERY: Duration = Duration::from_secs(240);

/// How many faults at random a run is to have, where it is to be a long one. Without, every test is short.
pub const FAULTS: &str = "ALINAS_CSI_FAULTS";
/// What a run at random begins with, so that it can be repeated.
pub const SEED: &str = "ALINAS_CSI_FAULT_SEED";

/// Two volumes at work.
pub struct Field<'a> {
    /// Server and driver.
    pub scene: &'a mut Scene,
    /// The work.
    pub io: SteadyIo,
    volumes: Vec<(Volume, PathBuf)>,
}

/// Runs faults while two volumes are in use, and makes sure that none of them is felt but by a pause.
///
/// # Errors
/// What the faults answer, what the work has suffered, or what is left.
pub fn under_steady_io(faults: impl FnOnce(&mut Field<'_>) -> Result<()>) -> Result<()> {
    let mut scene = Scene::start(TlsProfile::Tls13)?;
    scene.watch(|scene| {
        let mut field = Field::prepare(scene)?;
        faults(&mut field)?;
        field.clear_up()
    })
}

impl<'a> Field<'a> {
    fn prepare(scene: &'a mut Scene) -> Result<Self> {
        let mut volumes = Vec::new();
        for (version, front) in PLACES {
            let name = format!("steady-{version}");
            let volume = scene.volume(&name, front.domain(), version);
            let target = scene.target(&name);
            scene.client.stage(&volume)?;
            scene.client.publish(&volume, &target, Access::ReadWrite)?;
            volumes.push((volume, target));
        }
        let places = PLACES.iter().zip(&volumes);
        let io = SteadyIo::start(
            places.map(|((version, _), (_, target))| (*version, target.as_path())),
        )?;
        io.goes_on(ROUNDS, RECOVERY)?;
        println!("undisturbed: the longest pause is {}", io.pauses());
        Ok(Self { scene, io, volumes })
    }

    /// Has a fault happen, and waits until the work goes on as if it had not. Prints the longest pause.
    ///
    /// # Errors
    /// What the fault answers, or what the work has suffered.
    pub fn survives(
        &mut self,
        what: &str,
        fault: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        fault(self).during(what)?;
        self.works().during(what)?;
        println!("{what}: the longest pause was {}", self.io.pauses());
        Ok(())
    }

    /// Waits until the work has gone on for a while, unharmed.
    ///
    /// # Errors
    /// Where it does not.
    pub fn works(&self) -> Result<()> {
        self.io.goes_on(ROUNDS, RECOVERY)?;
        self.io.is_unharmed()
    }

    /// Has the node plugin look at the volumes.
    ///
    /// # Errors
    /// The plugin's.
    pub fn node_answers(&self) -> Result<()> {
        for (volume, target) in &self.volumes {
            self.scene.client.stats(volume, target)?;
        }
        Ok(())
    }

    fn clear_up(self) -> Result<()> {
        println!("in all: {}", self.io.finish(RECOVERY)?);
        for (volume, target) in &self.volumes {
            self.scene.client.unpublish(volume, target)?;
            self.scene.client.unstage(volume)?;
        }
        self.scene.driver.nothing_is_left(CLEARED)
    }
}

/// The number in [`FAULTS`].
#[must_use]
pub fn long_run() -> Option<usize> {
    std::env::var(FAULTS).ok()?.parse().ok()
}

/// As much as a long run is to have, or as little as CI has time for.
#[must_use]
pub fn scaled<T>(short: T, long: T) -> T {
    if long_run().is_some() { long } else { short }
}

/// Numbers that look random and can be had again (xorshift64*).
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins with [`SEED`] or with what the clock says, and prints it.
    ///
    /// # Errors
    /// When the seed is no number.
    pub fn seeded() -> Result<Self> {
        let seed = match std::env::var(SEED) {
            Ok(text) => text.parse().map_err(|_| Failure::new(format!("{SEED} is no number")))?,
            Err(_) => std::time::UNIX_EPOCH.elapsed()?.as_secs(),
        };
        println!("repeat this run with {SEED}={seed}");
        Ok(Self(seed | 1 << 63))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or_default() % end
    }

    /// The items in another order.
    #[must_use]
    pub fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_of_one_seed_fall_alike_and_a_shuffle_loses_nothing() {
        let mut dice = [Dice(7); 2];
        let [first, second] = dice.each_mut().map(|dice| dice.shuffled((0..50).collect()));
        assert_eq!(first, second);
        assert_ne!(first, (0..50).collect::<Vec<_>>());
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
}
