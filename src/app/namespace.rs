//! Refuses to serve tunnels in a network namespace where no mount would find them.
//!
//! An NFS mount connects from the namespace that it was made in, for as long as it lives. A watchdog or a tunnel process
//! anywhere else would look well, and every mount would hang. So it is compared with the namespace of the first process
//! and with the one that the last watchdog has noted in the state directory. What cannot be found out is said.

use std::path::Path;

use crate::host::net_namespace::NetNamespace;
use crate::host::net_namespace::boot_id;
use crate::host::state_dir::StateDir;

/// Where the last watchdog has noted its namespace: a boot id and a link, on one line.
const NOTE: &str = "network-namespace";

/// The flag that lets it run anywhere.
pub(super) const DANGEROUS_FLAG: &str = "--dangerous-any-network-namespace";

/// Why it is not the namespace of the mounts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceFault {
    /// The first process is elsewhere.
    #[error(
        "this process is in the network namespace {own} and the host in {host}: no mount of the host would find its \
         tunnels; run it in the host's (hostNetwork: true in a pod)"
    )]
    NotTheHosts {
        /// Ours.
        own: String,
        /// That of process 1.
        host: String,
    },
    /// The last watchdog was elsewhere, and has left tunnels.
    #[error(
        "this process is in the network namespace {own}, and the tunnels of the state directory were made in {noted}: \
         their mounts would hang; run it where the last watchdog ran, or remove the state directory once none of its \
         mounts is left"
    )]
    NotTheTunnels {
        /// Ours.
        own: String,
        /// That of the last watchdog.
        noted: String,
    },
}

/// What is known of namespaces at the start of a role.
#[derive(Debug, Default)]
struct Known {
    own: Option<NetNamespace>,
    first: Option<NetNamespace>,
    /// The last watchdog's since this boot.
    noted: Option<NetNamespace>,
    /// There are tunnels of the last watchdog.
    has_tunnels: bool,
}

/// Checks it for a process that serves tunnels, and logs what cannot be found out.
///
/// # Errors
/// Where mounts would not find the tunnels.
pub(super) fn ensure(
    state: Option<&Path>,
    has_tunnels: bool,
    anywhere: bool,
) -> Result<(), NamespaceFault> {
    let known = Known {
        own: NetNamespace::own().ok(),
        first: NetNamespace::of_first_process().ok(),
        noted: state.and_then(noted),
        has_tunnels,
    };
    match (judge(&known), anywhere) {
        (Err(fault), true) => {
            tracing::warn!(error = %fault, "DANGEROUS: {DANGEROUS_FLAG}: it runs all the same");
            Ok(())
        }
        (Err(fault), false) => Err(fault),
        (Ok(Some(doubt)), _) => {
            tracing::warn!("{doubt}");
            Ok(())
        }
        (Ok(None), _) => Ok(()),
    }
}

/// Notes our namespace for the next watchdog. What cannot be noted is missed then, with a warning.
pub(super) fn note(state: &StateDir) {
    let (Ok(own), Ok(boot)) = (NetNamespace::own(), boot_id()) else { return };
    if noted(state.path()).as_ref() == Some(&own) {
        return;
    }
    if let Err(error) = state.write(NOTE, format!("{boot} {own}\n").as_bytes()) {
        tracing::warn!(%error, "failed to note the network namespace in the state directory");
    }
}

fn noted(state: &Path) -> Option<NetNamespace> {
    let text = std::fs::read_to_string(state.join(NOTE)).ok()?;
    let (boot, namespace) = text.trim().split_once(' ')?;
    // After another boot the same number is another namespace.
    (boot == boot_id().ok()?).then(|| NetNamespace::noted(namespace))
}

/// A doubt is a sentence for the log.
fn judge(known: &Known) -> Result<Option<&'static str>, NamespaceFault> {
    let Some(own) = &known.own else {
        return Ok(Some(
            "the network namespace of this process cannot be found out: it must be that of the mounts",
        ));
    };
    if let Some(noted) = known.noted.as_ref().filter(|noted| known.has_tunnels && *noted != own) {
        let (own, noted) = (own.to_string(), noted.to_string());
        return Err(NamespaceFault::NotTheTunnels { own, noted });
    }
    match &known.first {
        Some(first) if first != own => {
            let (own, host) = (own.to_string(), first.to_string());
            Err(NamespaceFault::NotTheHosts { own, host })
        }
        Some(_) => Ok(None),
        None if known.noted.as_ref() == Some(own) => Ok(None),
        None => Ok(Some(
            "whether this is the network namespace of the host cannot be found out: process 1 does not show its own; \
             mounts of another one would not find their tunnels",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(number: u32) -> Option<NetNamespace> {
        Some(NetNamespace::noted(&format!("net:[{number}]")))
    }

    #[test]
    fn tunnels_are_served_in_the_namespace_of_the_host_and_of_their_mounts_alone() {
        for (own, first, noted, has_tunnels, outcome) in [
            (namespace(1), namespace(1), None, true, "fine"),
            (namespace(1), namespace(1), namespace(1), true, "fine"),
            (namespace(1), namespace(1), namespace(2), false, "fine"),
            (namespace(1), None, namespace(1), true, "fine"),
            (namespace(1), namespace(2), None, false, "and the host in net:[2]"),
            (namespace(1), namespace(2), namespace(1), true, "and the host in net:[2]"),
            (namespace(1), namespace(1), namespace(2), true, "were made in net:[2]"),
            (namespace(1), None, namespace(2), true, "were made in net:[2]"),
            (namespace(1), None, None, true, "process 1 does not show"),
            (namespace(1), None, namespace(2), false, "process 1 does not show"),
            (None, namespace(1), namespace(1), true, "of this process cannot be found out"),
        ] {
            let known = Known { own, first, noted, has_tunnels };
            let said = match judge(&known) {
                Ok(doubt) => doubt.unwrap_or("fine").to_owned(),
                Err(fault) => fault.to_string(),
            };
            assert!(said.contains(outcome), "{known:?}: {said}");
        }
    }

    #[test]
    fn what_is_noted_is_read_again_until_the_next_boot() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        assert_eq!(noted(state.path()), None);
        note(&state);
        assert_eq!(noted(state.path()), NetNamespace::own().ok());
        state.write(NOTE, b"00000000-0000-0000-0000-000000000000 net:[1]\n").unwrap();
        assert_eq!(noted(state.path()), None, "another boot");
    }

    #[test]
    fn where_the_tunnels_were_made_elsewhere_only_the_dangerous_flag_lets_it_run() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        state.write(NOTE, format!("{} net:[1]\n", boot_id().unwrap()).as_bytes()).unwrap();
        assert!(ensure(Some(state.path()), true, false).is_err());
        assert_eq!(ensure(Some(state.path()), true, true), Ok(()));
        assert_eq!(ensure(Some(state.path()), false, false), Ok(()));
    }
}
