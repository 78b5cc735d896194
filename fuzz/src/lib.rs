//! What must hold for any text at all, whoever wrote it.
//!
//! The modules are those of the driver, taken in by their path: they need a few crates and no cryptography, and the
//! driver as a whole would take minutes to build with the fuzzer's instruments in it.

mod null_suite;
mod records;

#[path = "../../src/model/mod.rs"]
pub mod model;

#[path = "../../src/host"]
pub mod host {
    //! What of the driver's layer of that name is fuzzed.

    pub mod mount_table;
    #[allow(dead_code, reason = "who asks the kernel other questions is not here")]
    mod netlink;
    #[allow(dead_code, reason = "who listens at an address is not fuzzed")]
    pub mod occupant;
    pub mod peer;
    mod peer_diag;
    #[allow(dead_code, reason = "who listens at an address is not fuzzed")]
    mod peer_proc;
    mod peer_rpc;

    use std::net::Ipv4Addr;
    use std::net::SocketAddrV4;

    /// An answer of inet_diag about the connection between two ports of this machine: about that one, or none.
    pub fn diag_answer(ports: [u16; 2], message: &[u8]) {
        let [local, peer] = ports.map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        if let Ok(Some(_)) = peer_diag::reply(message, peer::Connection { peer, local }) {
            assert_eq!(message[20..24], [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat());
        }
    }

    /// `/proc/net/tcp`: whatever is found stands in it.
    pub fn tcp_table(text: &str) {
        for line in peer_proc::lines(text) {
            assert!(!line.state.is_empty() && text.contains(line.state));
        }
    }

    /// `xprt_info` of a transport of the kernel's RPC client.
    pub fn transport(text: &str) {
        for key in ["src_port", "dst_port"] {
            if peer_rpc::port_in(text, key).is_some() {
                assert!(text.contains(&format!("{key}=")));
            }
        }
    }
}

#[path = "../../src/tls"]
pub mod tls {
    //! What of the driver's layer of that name is fuzzed.

    pub mod record;
}

pub use records::records;

use model::DeviceName;
use model::MountOptions;
use model::NfsVersion;
use model::nfs_option::LONGEST_TEXT;
use model::nfs_option::Note;
use model::nfs_option::OptionError;
use model::nfs_option::Rules;
use model::nfs_option::explain;
use model::nfs_option::keys;

/// Under either set of rules: what is accepted has one canonical text that means the same, what the kernel is
/// told has no way to end an option early, and no message forges a line of a log.
pub fn option_text(text: &str) {
    for rules in [Rules::Tunnel, Rules::Direct] {
        match MountOptions::parse_with_notes(rules, [text]) {
            Ok((options, notes)) => accepted_options(rules, &options, &notes),
            // To look for the nearest word takes a hundred times as long as to read a text.
            Err(OptionError::Unknown(key)) => assert!(text.contains(&key)),
            Err(error) => one_line(&error.to_string()),
        }
    }
    if keys(text).count() == 1 {
        let said = explain::explain(text).unwrap_or_else(|error| error.to_string());
        said.lines().for_each(one_line);
    }
}

fn accepted_options(rules: Rules, options: &MountOptions, notes: &[Note]) {
    notes.iter().for_each(|note| one_line(&note.to_string()));
    let canonical = options.to_string();
    match MountOptions::parse(rules, [canonical.as_str()]) {
        Ok(again) => {
            assert_eq!(&again, options, "{canonical}");
            assert_eq!(again.to_string(), canonical);
        }
        // The version, which the user need not have written, may be what is too much.
        Err(OptionError::TooLong(length)) => assert!(length <= LONGEST_TEXT + 16, "{length}"),
        Err(error) => panic!("{canonical}: {error}"),
    }
    for version in [NfsVersion::V3, NfsVersion::V40, NfsVersion::V41, NfsVersion::V42] {
        for (key, value) in options.kernel_options(version) {
            one_line(&key);
            one_line(value.as_deref().unwrap_or_default());
            assert!(!key.is_empty() && !key.contains([',', '=', '"']), "{key:?}");
            assert!(!value.is_some_and(|value| value.is_empty() || value.contains('"')), "{key}");
        }
    }
}

/// What is accepted is shown as it was written, and has a host.
pub fn device_name(text: &str) {
    match DeviceName::parse(text) {
        Ok(device) => {
            assert_eq!(device.to_string(), text);
            assert!(!device.host().is_empty() && !device.host().contains(['/', ',', ' ']));
            one_line(text);
        }
        Err(error) => one_line(&error.to_string()),
    }
}

/// Every line is an entry, or the whole is refused.
pub fn mountinfo(text: &str) {
    match host::mount_table::parse(text) {
        Ok(entries) => assert_eq!(entries.len(), text.lines().count()),
        Err(error) => one_line(&error.to_string()),
    }
}

/// What the kernel says of a peer: the first byte tells in which form.
pub fn peer(bytes: &[u8]) {
    let Some((form, said)) = bytes.split_first() else { return };
    match (form % 3, said) {
        (0, [a, b, c, d, message @ ..]) => {
            host::diag_answer(
                [u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])],
                message,
            );
        }
        (1, _) => host::tcp_table(&String::from_utf8_lossy(said)),
        _ => host::transport(&String::from_utf8_lossy(said)),
    }
}

fn one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
