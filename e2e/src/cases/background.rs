//! `bg`, `fg` and `retry=`: what is mounted once a fault is gone, and what is given up at once.

use crate::cases::Case;
use crate::cases::Expected;
use crate::cases::IMPATIENT;
use crate::cases::Repaired;
use crate::cases::Target;
use crate::plain::Condition;
use crate::plain::Front;

pub(super) fn cases() -> Vec<Case> {
    [repaired(), given_up()].concat()
}

fn repaired() -> Vec<Case> {
    let mut cases = Vec::new();
    for (version, options) in [("v3", "vers=3,nolock,proto=tcp"), ("v4", "vers=4.2")] {
        let background = format!("{options},bg,{IMPATIENT}");
        let at = |name: &str, front: Front, repaired: Repaired| {
            Case::at(format!("bg_until_{name}_{version}"), front, background.as_str())
                .shows(&[76, 108, 110])
                .becomes(Expected::MountedOnce(repaired))
        };
        let firewall = |name: &str, front: Front| at(name, front, Repaired::Background(front));
        cases.push(
            at("the_target_is_there", Front::Good, Repaired::Target)
                .target(Target::Missing)
                .shows(&[42, 84])
                .differs("a missing mount point counts as a timeout, as nfs(5) promises"),
        );
        cases.push(
            at("nfsd_is_started", Front::Good, Repaired::Server).when(Condition::NfsdStopped),
        );
        cases.push(firewall("nfs_passes", Front::NfsDropped));
        if version == "v3" {
            cases.push(firewall("mountd_passes", Front::MountDropped));
            cases.push(firewall("rpcbind_passes", Front::RpcbindDropped));
        }
        let waiting = Repaired::Waiting(Front::NfsReset);
        let foreground = format!("{options},fg,retry=1,{IMPATIENT}");
        cases.push(
            Case::at(format!("fg_waits_until_nfs_passes_{version}"), Front::NfsReset, foreground)
                .shows(&[77, 81, 108, 111])
                .becomes(Expected::MountedOnce(waiting)),
        );
    }
    cases.push(
        Case::at(
            "bg_until_a_missing_server_is_there",
            Front::BlackHole,
            format!("bg,nolock,{IMPATIENT}"),
        )
        .shows(&[76, 86])
        .becomes(Expected::MountedOnce(Repaired::Background(Front::BlackHole)))
        .within(90),
    );
    cases
}

/// A permanent error is told at once, whatever `bg` and `retry=` say.
fn given_up() -> Vec<Case> {
    let at =
        |name: &str, spec: &str, options: &str| Case::new(name, spec, options).shows(&[31, 76]);
    vec![
        at("bg_of_a_path_that_is_not_there", "203.0.113.10:/share/nil", "vers=4.2,bg")
            .fails(&[&["/share/nil"]]),
        at("bg_of_a_denied_export", "203.0.113.10:/denied", "vers=3,nolock,bg")
            .fails(&[&["/denied"]]),
        at("bg_with_an_unknown_option", "203.0.113.10:/share", "vers=4.2,bg,rsise=1024")
            .fails(&[&["rsise"]]),
        at("fg_of_a_path_that_is_not_there", "203.0.113.10:/share/nil", "vers=4.2,retry=2")
            .shows(&[77, 81])
            .fails(&[&["/share/nil"]]),
        at("fg_of_an_unknown_name", "unknown.plain.test:/share", "vers=4.2,retry=2")
            .shows(&[77, 81])
            .fails(&[&["unknown.plain.test"]]),
    ]
}
