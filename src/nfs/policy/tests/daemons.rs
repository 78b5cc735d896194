//! Daemons of this host that an option needs: explained before the mount, not by an errno after it.

use super::*;

fn without_daemons() -> World {
    World { daemons: Presence::Missing("nobody registered it".to_owned()), ..World::default() }
}

#[test]
fn locks_of_version_3_need_statd_or_a_choice() {
    let run = without_daemons().run(direct("vers=3"));
    assert_eq!(run.fault().id(), "nfs.statd-missing");
    assert!(run.fault().is_permanent());
    assert_eq!(run.versions().len(), 0);
    let text = run.fault().to_string();
    for choice in ["rpc-statd", "nolock", "local_lock=all", "vers=4"] {
        assert!(text.contains(choice), "{text}");
    }
    for options in ["vers=3,nolock", "vers=3,local_lock=all", "vers=4.2"] {
        let run = without_daemons().run(direct(options));
        assert_eq!(run.asked("Statd"), 0, "{options}");
        assert_eq!(run.versions().len(), 1, "{options}");
    }
    for options in ["vers=3,local_lock=flock", "vers=3,local_lock=posix", "vers=3,lock"] {
        assert_eq!(without_daemons().run(direct(options)).fault().id(), "nfs.statd-missing");
    }
    let run = World::default().run(direct("vers=3"));
    assert_eq!((run.asked("Statd"), run.mounted().version), (1, NfsVersion::V3));
}

#[test]
fn a_server_that_is_down_is_not_explained_by_statd() {
    let run = without_daemons().ping(|_, _, _| Err(RpcFault::Refused)).run(direct("retry=0"));
    assert_eq!(run.fault().id(), "nfs.refused");
    assert!(!run.fault().is_permanent());
}

#[test]
fn kerberos_needs_gssd_and_tls_needs_tlshd() {
    for (options, id) in [
        ("sec=krb5", "nfs.gssd-missing"),
        ("sec=krb5p,vers=3,nolock", "nfs.gssd-missing"),
        ("xprtsec=tls", "nfs.tlshd-missing"),
        ("xprtsec=mtls", "nfs.tlshd-missing"),
    ] {
        let run = without_daemons().run(direct(options));
        assert_eq!(run.fault().id(), id, "{options}");
        assert!(run.fault().is_permanent());
        assert_eq!(run.journal.len(), 3, "nothing is sent: {:?}", run.journal);
        assert!(matches!(World::default().run(direct(options)).end, Step::Finish(_)), "{options}");
    }
    assert!(matches!(without_daemons().run(direct("sec=sys")).end, Step::Finish(_)));
}

#[test]
fn a_daemon_that_cannot_be_seen_is_not_held_to_be_missing() {
    let world =
        World { daemons: Presence::Unknown("another namespace".to_owned()), ..World::default() };
    let run = world.run(direct("vers=3"));
    let note = Note::DaemonUnknown(Daemon::Statd, "another namespace".to_owned());
    assert_eq!(run.mounted().notes, [note]);
}
