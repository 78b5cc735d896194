//! What the kernel's NFS client has counted, by volume as far as it can be told. Pure.
//!
//! The kernel counts for a superblock. A volume that has one to itself is counted by its name; where several have one
//! together, as directories of one mount target with the same options do, nobody can tell them apart.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::path::PathBuf;

use crate::host::mount_stats::NfsCounts;
use crate::node::census::StagedVolume;

/// How many volumes of a node are named. A kubelet has 110 pods at most unless it is told otherwise, and most of them have
/// one volume; at 27 series each these are 3456. Which ones is decided by their names, so that it does not change.
pub const MOST_VOLUMES: usize = 128;

/// The name of what several volumes share.
pub const SHARED: &str = "shared";

/// What is counted of one volume, or of all those together that share their figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The mount target.
    pub target: String,
    /// The volume, or [`SHARED`].
    pub volume: String,
    /// What is counted.
    pub counts: NfsCounts,
}

/// A volume that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The mount target.
    pub target: String,
    /// The volume.
    pub volume: String,
    /// Pods that it is published to.
    pub published: u64,
    /// Whether others share its figures.
    pub shares: bool,
}

/// The volumes of a node in the order of their names, with as many named as there may be.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    sorted: Vec<StagedVolume>,
    /// Of how many volumes each superblock is.
    of_devices: HashMap<String, usize>,
}

impl Volumes {
    /// Puts them in order.
    #[must_use]
    pub fn of(staged: &[StagedVolume]) -> Self {
        let mut sorted = staged.to_vec();
        sorted.sort_by(|one, other| (&one.name, &one.target).cmp(&(&other.name, &other.target)));
        // Somebody has mounted over it. A name must not be in a scrape twice.
        sorted.dedup_by(|one, other| one.name == other.name && one.target == other.target);
        let mut of_devices = HashMap::new();
        for volume in &sorted {
            *of_devices.entry(volume.device.clone()).or_default() += 1;
        }
        Self { sorted, of_devices }
    }

    /// Those that are named.
    #[must_use]
    pub fn named(&self) -> Vec<Named> {
        let named = |volume: &StagedVolume| Named {
            target: volume.target.clone(),
            volume: volume.name.clone(),
            published: volume.published,
            shares: self.shares(volume),
        };
        self.head().map(named).collect()
    }

    /// How many are not.
    #[must_use]
    pub fn beyond(&self) -> usize {
        self.sorted.len().saturating_sub(MOST_VOLUMES)
    }

    /// Where to look for the figures of those that are named: one place for each superblock.
    #[must_use]
    pub fn places(&self) -> HashSet<PathBuf> {
        let mut seen = BTreeSet::new();
        let first = |volume: &&StagedVolume| seen.insert(volume.device.clone());
        self.head().filter(first).map(|volume| volume.staging_path.clone()).collect()
    }

    /// What is counted at the [`places`](Self::places). What is not there went away meanwhile.
    #[must_use]
    pub fn accounts(&self, counts: &HashMap<PathBuf, NfsCounts>) -> Vec<Account> {
        let mut accounts: BTreeMap<(&str, &str), NfsCounts> = BTreeMap::new();
        for volume in self.head() {
            let Some(counts) = counts.get(&volume.staging_path) else { continue };
            let name = if self.shares(volume) { SHARED } else { &volume.name };
            accounts.entry((&volume.target, name)).or_default().add(counts);
        }
        let account = |((target, volume), counts): ((&str, &str), NfsCounts)| Account {
            target: target.to_owned(),
            volume: volume.to_owned(),
            counts,
        };
        accounts.into_iter().map(account).collect()
    }

    fn shares(&self, volume: &StagedVolume) -> bool {
        self.of_devices.get(&volume.device).is_some_and(|volumes| *volumes > 1)
    }

    fn head(&self) -> impl Iterator<Item = &StagedVolume> {
        self.sorted.iter().take(MOST_VOLUMES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, device: &str) -> StagedVolume {
        StagedVolume {
            staging_path: PathBuf::from(format!("/stage/{name}")),
            published: 1,
            name: name.to_owned(),
            target: "nas".to_owned(),
            device: device.to_owned(),
        }
    }

    fn reads(bytes_read: u64) -> NfsCounts {
        NfsCounts { bytes_read, ..NfsCounts::default() }
    }

    #[test]
    fn a_superblock_is_counted_once_and_by_name_only_where_it_is_one_volumes() {
        let volumes = Volumes::of(&[
            volume("d", "0:4"),
            volume("b", "0:1"),
            volume("a", "0:1"),
            volume("c", "0:2"),
            volume("e", "0:4"),
        ]);
        let places = volumes.places();
        assert_eq!(places, ["/stage/a", "/stage/c", "/stage/d"].map(PathBuf::from).into());
        let counts = places.into_iter().map(|place| (place, reads(5))).collect();
        let accounts: Vec<_> = volumes
            .accounts(&counts)
            .into_iter()
            .map(|account| (account.volume, account.counts.bytes_read))
            .collect();
        assert_eq!(accounts, [("c".to_owned(), 5), (SHARED.to_owned(), 10)]);
        let shares: Vec<_> = volumes.named().iter().map(|named| named.shares).collect();
        assert_eq!(shares, [true, true, false, true, true]);
    }

    #[test]
    fn a_volume_that_is_mounted_twice_at_its_place_is_one() {
        let volumes = Volumes::of(&[volume("a", "0:1"), volume("a", "0:1")]);
        let named = volumes.named();
        assert_eq!((named.len(), named[0].shares), (1, false));
    }

    #[test]
    fn what_is_beyond_the_limit_is_counted_and_not_named() {
        let all: Vec<_> = (0..MOST_VOLUMES + 3)
            .rev()
            .map(|number| volume(&format!("pv-{number:04}"), &format!("0:{number}")))
            .collect();
        let volumes = Volumes::of(&all);
        assert_eq!((volumes.named().len(), volumes.beyond()), (MOST_VOLUMES, 3));
        assert_eq!(volumes.named()[0].volume, "pv-0000");
        assert_eq!(volumes.places().len(), MOST_VOLUMES);
    }
}
