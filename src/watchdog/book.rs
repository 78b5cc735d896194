//! The tunnels that are wanted, in memory and on disk alike.
//!
//! Every change is written first and noted in memory after, so that no crash leaves an effect without its
//! record. Nothing in here waits for a network: the caller holds a lock meanwhile.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::TunnelSpec;
use crate::runtime::Chain;
use crate::watchdog::address::next_free;
use crate::watchdog::closing::Quiet;
use crate::watchdog::closing::Sample;
use crate::watchdog::closing::Verdict;
use crate::watchdog::condition::Condition;
use crate::watchdog::record::Record;
use crate::watchdog::record::RecordStore;
use crate::watchdog::record::User;

/// For how long an address that could not be bound is passed over.
const SET_ASIDE_FOR: Duration = Duration::from_secs(60);

/// Every tunnel that is wanted.
#[derive(Debug)]
pub(super) struct Book {
    store: RecordStore,
    entries: BTreeMap<Ipv4Addr, Entry>,
    /// Addresses of records that we cannot use, and whether nobody could.
    reserved: BTreeMap<Ipv4Addr, Damaged>,
    /// Addresses that are not to be given out until then.
    set_aside: BTreeMap<Ipv4Addr, Instant>,
}

/// Whether a record is damaged, and not only one of a later release or unreadable at the moment.
type Damaged = bool;

/// One tunnel that is wanted.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is on disk.
    pub(super) record: Record,
    /// Somebody may have been told its address: it was acquired, or came from an earlier watchdog.
    pub(super) handed_out: bool,
    /// The last look at it said that it may be closed.
    pub(super) due: bool,
    /// Why it could not be opened again, as it was logged.
    pub(super) trouble: Option<String>,
    /// Whether its server answers.
    pub(super) condition: Condition,
    quiet: Quiet,
}

impl Entry {
    fn new(record: Record, handed_out: bool) -> Self {
        let condition = Condition::new(record.endpoint.ip().to_bits());
        Self { record, handed_out, due: false, trouble: None, condition, quiet: Quiet::default() }
    }

    /// Whether nobody else holds it.
    pub(super) fn is_only_for(&self, user: &User) -> bool {
        self.record.users.iter().all(|other| other.is(&user.volume_id, &user.staging_path))
    }
}

impl Book {
    /// Reads the records. What cannot be used is logged, kept, and its address never given out.
    pub(super) fn load(store: RecordStore) -> io::Result<Self> {
        let (records, unusable) = store.load()?;
        for file in &unusable {
            tracing::error!(
                record.file = %file.file.display(),
                error = %Chain(&file.error),
                "a tunnel record cannot be used; it is kept and its address is not given out; remove the file \
                 once no mount uses the address"
            );
        }
        let users: usize = records.iter().map(|record| record.users.len()).sum();
        tracing::info!(
            tunnels = records.len(),
            users,
            unusable = unusable.len(),
            "tunnel records read"
        );
        Ok(Self {
            store,
            entries: records
                .into_iter()
                .map(|record| (*record.endpoint.ip(), Entry::new(record, true)))
                .collect(),
            reserved: unusable
                .iter()
                .filter_map(|file| Some((file.address?, file.error.is_damage())))
                .collect(),
            set_aside: BTreeMap::new(),
        })
    }

    /// Every tunnel, by address.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The tunnel at an address.
    pub(super) fn at(&mut self, address: Ipv4Addr) -> Option<&mut Entry> {
        self.entries.get_mut(&address)
    }

    /// The tunnel that leads where `spec` says.
    pub(super) fn leading_to(&self, spec: &TunnelSpec) -> Option<&Entry> {
        self.entries.values().find(|entry| entry.record.spec == *spec)
    }

    /// Who is known under this name, and which tunnel they hold.
    pub(super) fn holder(&self, volume_id: &str, staging_path: &str) -> Option<(&Record, &User)> {
        self.entries.values().find_map(|entry| {
            let user = entry.record.users.iter().find(|user| user.is(volume_id, staging_path))?;
            Some((&entry.record, user))
        })
    }

    /// Whether a record names the address that may be used, by us or by a later release.
    pub(super) fn names(&self, address: Ipv4Addr) -> bool {
        self.entries.contains_key(&address) || self.reserved.get(&address) == Some(&false)
    }

    /// Writes down a tunnel that a mount needs and that no record names but a damaged one. That is set aside, and
    /// answered.
    pub(super) fn adopt(&mut self, record: Record) -> io::Result<Option<PathBuf>> {
        let address = *record.endpoint.ip();
        let aside = match self.reserved.contains_key(&address) {
            true => Some(self.store.set_aside(address)?),
            false => None,
        };
        self.reserved.remove(&address);
        self.store.write(&record)?;
        self.entries.insert(address, Entry::new(record, true));
        Ok(aside)
    }

    /// The lowest address that nobody uses.
    pub(super) fn free_address(
        &mut self,
        kernel: &BTreeSet<Ipv4Addr>,
        now: Instant,
    ) -> Option<Ipv4Addr> {
        self.set_aside.retain(|_, until| *until > now);
        let mut taken = kernel.clone();
        taken.extend(self.entries.keys());
        taken.extend(self.reserved.keys());
        taken.extend(self.set_aside.keys());
        next_free(&taken)
    }

    /// Passes an address over for a while.
    pub(super) fn set_aside(&mut self, address: Ipv4Addr, now: Instant) {
        self.set_aside.insert(address, now + SET_ASIDE_FOR);
    }

    /// Writes down a tunnel that is not open yet.
    pub(super) fn create(&mut self, record: Record) -> io::Result<()> {
        self.store.write(&record)?;
        self.entries.insert(*record.endpoint.ip(), Entry::new(record, false));
        Ok(())
    }

    /// Writes down who holds a tunnel. Who is there already stays; the tunnel is not about to be closed any more.
    pub(super) fn add_user(&mut self, endpoint: SocketAddrV4, user: &User) -> io::Result<()> {
        let Some(entry) = self.entries.get_mut(endpoint.ip()) else {
            return Err(io::Error::other(format!("the tunnel at {endpoint} is gone")));
        };
        if !entry.record.users.contains(user) {
            let mut record = entry.record.clone();
            record.users.push(user.clone());
            self.store.write(&record)?;
            entry.record = record;
        }
        entry.due = false;
        entry.quiet = Quiet::default();
        Ok(())
    }

    /// Takes a user out of the tunnel that they hold. Who holds none needs no taking out.
    pub(super) fn remove_user(&mut self, volume_id: &str, staging_path: &str) -> io::Result<()> {
        for entry in self.entries.values_mut() {
            let mut record = entry.record.clone();
            record.users.retain(|user| !user.is(volume_id, staging_path));
            if record.users.len() != entry.record.users.len() {
                self.store.write(&record)?;
                entry.record = record;
                entry.quiet = Quiet::default();
                if entry.record.users.is_empty() {
                    // Nobody looks after it any more.
                    entry.condition = Condition::new(entry.record.endpoint.ip().to_bits());
                }
            }
        }
        Ok(())
    }

    /// The tunnels with users that are to be looked at, the longest waiting first.
    pub(super) fn due_for_a_look(&self, now: Instant) -> Vec<(SocketAddrV4, TunnelSpec)> {
        let due = |entry: &Entry| Some((entry.condition.due()?, entry.record.endpoint));
        let held = self.entries.values().filter(|entry| !entry.record.users.is_empty());
        let mut waiting: Vec<_> = held
            .filter_map(|entry| Some((due(entry)?, &entry.record.spec)))
            .filter(|((due, _), _)| *due <= now)
            .collect();
        waiting.sort_by_key(|(due, _)| *due);
        waiting.into_iter().map(|((_, endpoint), spec)| (endpoint, spec.clone())).collect()
    }

    /// Forgets a tunnel that is closed.
    pub(super) fn delete(&mut self, address: Ipv4Addr) -> io::Result<()> {
        self.store.remove(address)?;
        self.entries.remove(&address);
        Ok(())
    }

    /// Looks at every tunnel with the kernel's eyes, and answers with those that may be closed. `kernel` is
    /// absent where it could not be read.
    pub(super) fn observe(
        &mut self,
        kernel: Option<&BTreeSet<Ipv4Addr>>,
        grace: Duration,
        now: Instant,
    ) -> Vec<Record> {
        let mut due = Vec::new();
        for (address, entry) in &mut self.entries {
            let sample = match kernel.map(|addresses| addresses.contains(address)) {
                Some(true) => Sample::InUse,
                Some(false) => Sample::Unused,
                None => Sample::Unknown,
            };
            let verdict;
            (entry.quiet, verdict) =
                entry.quiet.observe(sample, entry.record.users.len(), grace, now);
            entry.due = verdict == Verdict::Close;
            match verdict {
                Verdict::Keep => {}
                Verdict::Close => due.push(entry.record.clone()),
                Verdict::ReportOrphan => report_orphan(&entry.record),
            }
        }
        due
    }
}

fn report_orphan(record: &Record) {
    for user in &record.users {
        tracing::warn!(
            tunnel.address = %record.endpoint.ip(),
            volume.id = user.volume_id,
            volume.staging_path = user.staging_path,
            "the tunnel is orphaned: the volume holds it, but the kernel has not used it for five minutes; it is \
             kept until the volume is unstaged"
        );
    }
}
