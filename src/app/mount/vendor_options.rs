//! Every option of the vendor's client (aliyun-alinas-utils 2.2), with `tls` and without: honoured, or refused with a
//! reason that says what to do instead. Nothing else is asked for: none is passed over in silence.

use std::path::Path;

use super::asked::Asked;
use super::asked::Files;
use super::tests::args;

/// What becomes of an option.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The mount is asked for, and this is how it shows.
    Honoured(Shows),
    /// The reason has these words.
    Refused(&'static str),
}

/// Where an option that is honoured can be seen.
#[derive(Clone, Copy, Debug)]
enum Shows {
    /// Among the options of the mount.
    Option(&'static str),
    /// By what is not among them.
    Lacks(&'static str),
    /// The mount goes through a tunnel.
    Tunnel,
    /// The client certificate of the tunnel names it.
    Identity(&'static str),
    /// No watchdog is started.
    NoStart,
    /// In a warning or remark that says why it changes nothing.
    Said(&'static str),
    /// Nothing differs from a mount without it.
    AsWithout,
}

use Fate::Honoured;
use Fate::Refused;

const OURS: Fate = Refused("driver's own settings");
const NO_TUNNEL: Fate = Refused("a plain NFS mount has none");
const THEIR_SET_UP: Fate = Refused("sets up the vendor's client, which this driver does not use");
const KERNEL_ONLY: Fate = Refused("kernel's NFS client only");
const BY_TLS: Fate = Refused("tls");
const BYPASS: Fate = Refused("bypass encryption");

/// The option, its fate with `tls`, and without.
const OPTIONS: &[(&str, Fate, Fate)] = &[
    ("tls", Honoured(Shows::Tunnel), Honoured(Shows::Tunnel)),
    ("vers=3", Honoured(Shows::Option("vers=3")), Honoured(Shows::Option("vers=3"))),
    ("vers=4.0", Honoured(Shows::Option("vers=4.0")), Honoured(Shows::Option("vers=4.0"))),
    ("vers=4", Honoured(Shows::Option("vers=4.0")), Honoured(Shows::Option("vers=4"))),
    ("vers=4.1", Refused("4.1"), Honoured(Shows::Option("vers=4.1"))),
    ("soft", Honoured(Shows::Option("soft")), Honoured(Shows::Option("soft"))),
    ("ro", Honoured(Shows::Option("ro")), Honoured(Shows::Option("ro"))),
    ("_netdev", Honoured(Shows::Said("_netdev")), Honoured(Shows::Said("_netdev"))),
    ("port=2049", Refused("port"), Honoured(Shows::Option("port=2049"))),
    ("resvport", Honoured(Shows::Option("resvport")), Honoured(Shows::Lacks("noresvport"))),
    ("accesspoint=ap-1a2b3c", Honoured(Shows::Identity("ap-1a2b3c")), BY_TLS),
    ("ram", Honoured(Shows::Identity(".credentials")), BY_TLS),
    ("ram_config_file=/etc/ram", Honoured(Shows::Identity("/etc/ram")), BY_TLS),
    ("no_start_watchdog", Honoured(Shows::NoStart), Honoured(Shows::AsWithout)),
    ("proxy=stunnel", OURS, NO_TUNNEL),
    ("proxy_port=12050", OURS, NO_TUNNEL),
    ("trybind", OURS, NO_TUNNEL),
    ("bindtag=a", OURS, NO_TUNNEL),
    ("tls_ciphers=original", OURS, NO_TUNNEL),
    ("alitimeo=180", OURS, NO_TUNNEL),
    ("verify=0", Refused("the certificate is always checked"), NO_TUNNEL),
    ("direct", BYPASS, NO_TUNNEL),
    ("nas_ip=192.0.2.1", BYPASS, NO_TUNNEL),
    ("auto_fallback_nfs", BYPASS, NO_TUNNEL),
    ("efc", KERNEL_ONLY, KERNEL_ONLY),
    ("unas", KERNEL_ONLY, KERNEL_ONLY),
    ("client_owner=a", KERNEL_ONLY, KERNEL_ONLY),
    ("overlaybd_mount", KERNEL_ONLY, KERNEL_ONLY),
    ("assign_uuid=a", KERNEL_ONLY, KERNEL_ONLY),
    ("no_atomic_move", THEIR_SET_UP, THEIR_SET_UP),
    ("no_add_cgroup", THEIR_SET_UP, THEIR_SET_UP),
    ("no_kernel_permission", THEIR_SET_UP, THEIR_SET_UP),
    ("upgrade", THEIR_SET_UP, THEIR_SET_UP),
    ("netcheck", THEIR_SET_UP, THEIR_SET_UP),
    ("flagcheck", THEIR_SET_UP, THEIR_SET_UP),
    ("kernel_version_check", THEIR_SET_UP, THEIR_SET_UP),
];

fn asked(options: &str) -> Result<Asked, String> {
    let line = format!("-t alinas 0-a.cn-x.nas.aliyuncs.com:/ /mnt -o {options}");
    Asked::of(&args(&line), Path::new("/mnt"), &Files::default()).map_err(|ending| ending.message)
}

fn differs(options: &str, fate: Fate) -> Option<String> {
    let asked = asked(options);
    let as_expected = match (&asked, fate) {
        (Err(reason), Refused(words)) => reason.contains(words) && reason.lines().count() == 1,
        (Ok(asked), Honoured(shows)) => is_shown(asked, shows),
        _ => false,
    };
    (!as_expected).then(|| format!("{options}: expected {fate:?}, got {asked:?}"))
}

fn is_shown(asked: &Asked, shows: Shows) -> bool {
    let options = asked.options.to_string();
    match shows {
        Shows::Option(option) => options.split(',').any(|word| word == option),
        Shows::Lacks(option) => !options.split(',').any(|word| word == option),
        Shows::Tunnel => asked.tunnel.is_some(),
        Shows::Identity(word) => format!("{:?}", asked.tunnel).contains(word),
        Shows::NoStart => !asked.start_watchdog && asked.tunnel.is_some(),
        Shows::Said(word) => {
            asked.remarks.iter().chain(&asked.warnings).any(|said| said.contains(word))
        }
        Shows::AsWithout => {
            let without = self::asked("rw").map(|without| without.options.to_string());
            without.as_ref() == Ok(&options)
        }
    }
}

#[test]
fn every_option_of_the_vendors_client_is_honoured_or_refused_with_the_reason() {
    let wrong = OPTIONS.iter().flat_map(|(option, with_tls, without)| {
        let plain = differs(option, *without);
        [differs(&format!("tls,{option}"), *with_tls), plain].into_iter().flatten()
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
