//! Where an option stands in the table.
//!
//! The options that the code itself speaks of have a constant here, found while compiling, so that a renamed
//! row cannot be missed. What a user writes is looked up in an index over all spellings.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::NfsOption;
use super::OPTIONS;

pub(super) const VERSION: usize = place("vers");
pub(super) const MINOR_VERSION: usize = place("minorversion");
pub(super) const SLOPPY: usize = place("sloppy");
pub(super) const BACKGROUND: usize = place("bg");
pub(super) const ADDRESS: usize = place("addr");
pub(super) const RETRY: usize = place("retry");
pub(super) const PROTO: usize = place("proto");
pub(super) const PORT: usize = place("port");
pub(super) const MOUNT_HOST: usize = place("mounthost");
pub(super) const MOUNT_ADDRESS: usize = place("mountaddr");
pub(super) const MOUNT_PORT: usize = place("mountport");
pub(super) const MOUNT_PROTO: usize = place("mountproto");
pub(super) const MOUNT_VERSION: usize = place("mountvers");
pub(super) const HARD: usize = place("hard");
pub(super) const SOFT_REVALIDATION: usize = place("softreval");
pub(super) const TIMEOUT: usize = place("timeo");
pub(super) const READ_SIZE: usize = place("rsize");
pub(super) const WRITE_SIZE: usize = place("wsize");
pub(super) const CONNECTIONS: usize = place("nconnect");
pub(super) const ATTRIBUTE_CACHE: usize = place("ac");
pub(super) const ALL_ATTRIBUTE_TIMES: usize = place("actimeo");
/// What `actimeo` sets all at once: the least and the greatest time for files, the same for directories.
pub(super) const ATTRIBUTE_TIMES: [usize; 4] =
    [place("acregmin"), place("acregmax"), place("acdirmin"), place("acdirmax")];
pub(super) const NO_LOCK: usize = place("nolock");
pub(super) const LOCAL_LOCK: usize = place("local_lock");
pub(super) const SECURITY: usize = place("sec");
pub(super) const CLIENT_ADDRESS: usize = place("clientaddr");
pub(super) const TRANSPORT_SECURITY: usize = place("xprtsec");
pub(super) const CERTIFICATE: usize = place("cert_serial");
pub(super) const PRIVATE_KEY: usize = place("privkey_serial");
pub(super) const READ_ONLY: usize = place("ro");
pub(super) const ACCESS_POINT: usize = place("accesspoint");
pub(super) const RAM: usize = place("ram");
pub(super) const RAM_CONFIG_FILE: usize = place("ram_config_file");

static SPELLINGS: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
    OPTIONS
        .iter()
        .enumerate()
        .flat_map(|(place, option)| option.spellings().map(move |spelling| (spelling, place)))
        .collect()
});

/// The option that `key` selects, and its place.
pub(super) fn find(key: &str) -> Option<(usize, &'static NfsOption)> {
    let place = SPELLINGS.get(key).or_else(|| {
        // `x-anything`: so far the only spellings with an open end are of this length.
        let front = key.get(..2)?;
        SPELLINGS.get(format!("{front}*").as_str())
    })?;
    Some((*place, OPTIONS.get(*place)?))
}

const fn place(name: &str) -> usize {
    let mut place = 0;
    while !same(OPTIONS[place].name.as_bytes(), name.as_bytes()) {
        place += 1;
    }
    place
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}
