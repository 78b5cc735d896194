//! What options say together: the version, contradictions, what has no effect beside another.
//!
//! Read [`check`]: the order of its steps matters. An option without effect for the version contradicts
//! nothing, so that a text with options for every version can be used for each.

use std::net::IpAddr;

use super::Family;
use super::MountOptions;
use super::NetId;
use super::NfsVersion;
use super::Note;
use super::OPTIONS;
use super::OptionError;
use super::Rules;
use super::Transport;
use super::VersionWish;
use super::parse::Reading;
use super::place;

pub(super) fn check(mut reading: Reading) -> Result<(MountOptions, Vec<Note>), OptionError> {
    reading.pass_over_unknown()?;
    let wish = reading.wish()?;
    reading.leave_out_what_the_version_lacks(wish);
    reading.check_attribute_times()?;
    match reading.rules {
        Rules::Tunnel => reading.refuse_remote_locks()?,
        Rules::Direct => {
            reading.check_transports(wish)?;
            reading.check_families()?;
            reading.check_locks()?;
            reading.note_side_effects();
            reading.note_what_the_kernel_makes_of_numbers();
        }
    }
    reading.leave_out_what_holds_anyway();
    Ok((MountOptions { rules: reading.rules, wish, settings: reading.settings }, reading.notes))
}

impl Reading {
    fn pass_over_unknown(&mut self) -> Result<(), OptionError> {
        let sloppy = self.settings.contains_key(&place::SLOPPY);
        for key in std::mem::take(&mut self.unknown) {
            if !sloppy {
                return Err(OptionError::Unknown(key));
            }
            self.notes.push(Note::no_effect(&key, "nobody knows it, and \"sloppy\" was given"));
        }
        Ok(())
    }

    /// The version, once `minorversion` has said its part of it.
    fn wish(&mut self) -> Result<VersionWish, OptionError> {
        let wish = self.version.unwrap_or(VersionWish::unsaid(self.rules));
        let Some(setting) = self.settings.remove(&place::MINOR_VERSION) else { return Ok(wish) };
        let exact = VersionWish::Exactly(match setting.value.as_deref() {
            Some("0") => NfsVersion::V40,
            Some("1") => NfsVersion::V41,
            _ => NfsVersion::V42,
        });
        match self.version {
            Some(VersionWish::AnyMinor) => Ok(exact),
            Some(version) if version == exact => Ok(exact),
            Some(version @ VersionWish::Exactly(said)) if said.is_4() => {
                Err(OptionError::TwoVersions(version, exact))
            }
            _ => Err(OptionError::Contradiction(
                "\"minorversion\" goes with \"vers=4\" only".to_owned(),
            )),
        }
    }

    fn leave_out_what_the_version_lacks(&mut self, wish: VersionWish) {
        let Self { settings, notes, .. } = self;
        settings.retain(|place, _| {
            let Some(option) = OPTIONS.get(*place) else { return false };
            let stays = option.versions.include_any(wish);
            if !stays {
                notes.push(Note::no_effect(option.name, "it says nothing to this NFS version"));
            }
            stays
        });
    }

    /// The kernel takes a least time above the greatest and then behaves in no defined way.
    fn check_attribute_times(&self) -> Result<(), OptionError> {
        let all = self.number(place::ALL_ATTRIBUTE_TIMES);
        let [file_least, file_most, directory_least, directory_most] = place::ATTRIBUTE_TIMES;
        for (least, most, defaults) in
            [(file_least, file_most, (3, 60)), (directory_least, directory_most, (30, 60))]
        {
            let least_time = self.number(least).or(all).unwrap_or(defaults.0);
            let most_time = self.number(most).or(all).unwrap_or(defaults.1);
            if least_time > most_time {
                return Err(OptionError::Contradiction(format!(
                    "{:?} is {least_time}, which is more than the {most_time} of {:?}",
                    name_of(least),
                    name_of(most)
                )));
            }
        }
        Ok(())
    }

    fn refuse_remote_locks(&self) -> Result<(), OptionError> {
        if self.key(place::NO_LOCK) == Some("lock") {
            return Err(OptionError::Refused { option: "lock".to_owned(), reason: NO_STATD });
        }
        Ok(())
    }

    fn check_transports(&self, wish: VersionWish) -> Result<(), OptionError> {
        let transport = self.transport();
        let secured = matches!(self.value(place::TRANSPORT_SECURITY), Some("tls" | "mtls"));
        let is_4 = match wish {
            VersionWish::Open => false,
            VersionWish::AnyMinor => true,
            VersionWish::Exactly(version) => version.is_4(),
        };
        match transport {
            Transport::Udp if is_4 => Err(contradiction(
                "NFSv4 does not go over UDP (RFC 8881 section 2.9.1); leave out \"udp\" or use \
                 vers=3",
            )),
            Transport::Udp | Transport::Rdma if secured => {
                Err(contradiction("\"xprtsec\" encrypts TCP only; leave out the other transport"))
            }
            _ => Ok(()),
        }
    }

    /// What can be known of families before a name is resolved.
    fn check_families(&self) -> Result<(), OptionError> {
        if self.address(place::MOUNT_ADDRESS).is_some_and(|address| address.is_unspecified()) {
            return Err(contradiction("\"mountaddr\" is an address of no host"));
        }
        for (proto, address, anywhere) in [
            (place::MOUNT_PROTO, place::MOUNT_ADDRESS, false),
            (place::PROTO, place::CLIENT_ADDRESS, true),
        ] {
            let netid = self.value(proto).and_then(NetId::parse);
            let (Some(netid), Some(to)) = (netid, self.address(address)) else { continue };
            // An unspecified one says "do not call back", in either family.
            if netid.family != Family::of(to) && !(anywhere && to.is_unspecified()) {
                return Err(OptionError::Contradiction(format!(
                    "\"{}={netid}\" and \"{}={to}\" are of different address families",
                    name_of(proto),
                    name_of(address)
                )));
            }
        }
        Ok(())
    }

    /// `lock` and `nolock` override `local_lock` in the kernel, in silence (nfs_start_server() and its
    /// like in fs/nfs/client.c).
    fn check_locks(&mut self) -> Result<(), OptionError> {
        let local = self.value(place::LOCAL_LOCK).unwrap_or("none");
        match self.key(place::NO_LOCK) {
            Some("lock") if local != "none" => Err(OptionError::Contradiction(format!(
                "\"lock\" asks the server for every lock, \"local_lock={local}\" does not"
            ))),
            Some("nolock") => {
                if self.settings.remove(&place::LOCAL_LOCK).is_some() {
                    let why = "\"nolock\" keeps all locks within the node";
                    self.notes.push(Note::no_effect("local_lock", why));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_side_effects(&mut self) {
        let softerr = self.key(place::HARD) == Some("softerr");
        if softerr && self.key(place::SOFT_REVALIDATION) == Some("nosoftreval") {
            self.notes.push(Note::no_effect("nosoftreval", "\"softerr\" implies \"softreval\""));
        }
        if self.key(place::HARD).is_some_and(|key| key != "hard") && !self.read_only() {
            let why = "after a time without an answer a write fails, and its data are lost";
            self.notes.push(Note::warning("soft", why));
        }
        if self.key(place::ATTRIBUTE_CACHE) == Some("noac") {
            self.note_unused_times();
        }
        if self.transport() == Transport::Udp && self.settings.contains_key(&place::CONNECTIONS) {
            self.notes.push(Note::no_effect("nconnect", "UDP has no connections"));
        }
        for key in [place::CERTIFICATE, place::PRIVATE_KEY] {
            if self.settings.contains_key(&key)
                && self.value(place::TRANSPORT_SECURITY) != Some("mtls")
            {
                self.notes.push(Note::no_effect(name_of(key), "it goes with xprtsec=mtls"));
            }
        }
        let mut flavours = self.value(place::SECURITY).into_iter().flat_map(|list| list.split(':'));
        if flavours.any(|flavour| flavour.starts_with("lkey") || flavour.starts_with("spkm")) {
            let why = "Linux has no mechanism for lkey and spkm any more; a mount with them fails";
            self.notes.push(Note::warning("sec", why));
        }
    }

    fn note_unused_times(&mut self) {
        let times = place::ATTRIBUTE_TIMES.into_iter().chain([place::ALL_ATTRIBUTE_TIMES]);
        for place in times.filter(|place| self.settings.contains_key(place)) {
            self.notes.push(Note::no_effect(name_of(place), "\"noac\" caches no attributes"));
        }
    }

    fn note_what_the_kernel_makes_of_numbers(&mut self) {
        for place in [place::READ_SIZE, place::WRITE_SIZE] {
            let Some(asked) = self.number(place) else { continue };
            let (effective, why) = transfer_size(asked, self.transport());
            if effective != asked {
                self.notes.push(Note::limited(name_of(place), effective, why));
            }
        }
        let most = if self.transport() == Transport::Udp { 600 } else { 6000 };
        if self.number(place::TIMEOUT).is_some_and(|asked| asked > most) {
            self.notes.push(Note::limited("timeo", most, "it is the most that the kernel waits"));
        }
    }

    fn leave_out_what_holds_anyway(&mut self) {
        let all_times = self.settings.contains_key(&place::ALL_ATTRIBUTE_TIMES);
        let rules = self.rules;
        self.settings.retain(|place, setting| {
            let Some(option) = OPTIONS.get(*place) else { return false };
            (all_times && place::ATTRIBUTE_TIMES.contains(place))
                || !option
                    .under(rules)
                    .holds_anyway(setting.value.as_deref().unwrap_or(setting.key))
        });
    }

    fn key(&self, place: usize) -> Option<&'static str> {
        self.settings.get(&place).map(|setting| setting.key)
    }

    fn value(&self, place: usize) -> Option<&str> {
        self.settings.get(&place)?.value.as_deref()
    }

    fn number(&self, place: usize) -> Option<u64> {
        self.value(place)?.parse().ok()
    }

    fn address(&self, place: usize) -> Option<IpAddr> {
        self.value(place)?.parse().ok()
    }

    fn read_only(&self) -> bool {
        self.key(place::READ_ONLY) == Some("ro")
    }

    fn transport(&self) -> Transport {
        let setting = self.settings.get(&place::PROTO);
        setting
            .and_then(|setting| setting.netid())
            .map_or(Transport::Tcp, |(transport, _)| transport)
    }
}

const NO_STATD: &str = "NFSv3 locks over the network need rpc.statd and connections beside the tunnel; use \
                        vers=4.0, which has locks of its own, or nolock (the default), which keeps locks \
                        within the node";

/// A page of memory, where it has the usual size.
const PAGE: u64 = 4096;

/// What the kernel makes of an `rsize` or `wsize`, before it asks the server: nfs_io_size() in
/// fs/nfs/internal.h.
fn transfer_size(asked: u64, transport: Transport) -> (u64, &'static str) {
    match asked {
        ..1024 => (PAGE, "less than 1024 means 4096"),
        1_048_577.. => (1_048_576, "it is the most that the kernel puts into a request"),
        _ if asked < PAGE || transport == Transport::Udp => {
            (1 << asked.ilog2(), "the kernel rounds it down to a power of two")
        }
        _ => (asked - asked % PAGE, "the kernel rounds it down to whole pages of 4096"),
    }
}

fn contradiction(text: &str) -> OptionError {
    OptionError::Contradiction(text.to_owned())
}

fn name_of(place: usize) -> &'static str {
    OPTIONS.get(place).map_or("", |option| option.name)
}
