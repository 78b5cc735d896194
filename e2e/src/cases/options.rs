//! Options: what the mount table shows of them, and what is refused and why.

use crate::cases::Case;
use crate::plain::Front;

pub(super) fn cases() -> Vec<Case> {
    [shown(), refused(), daemons()].concat()
}

/// R14, R98-R107, R113-R130, R140-R142: the kernel's table shows what arrived.
fn shown() -> Vec<Case> {
    let at = |name: &str, options: &str| Case::at(name, Front::Good, options);
    vec![
        at("nothing_is_asked_for", "").shows(&[3, 21, 22, 98, 99, 100, 131]).with(&["vers=4.2", "proto=tcp", "hard", "timeo=600", "retrans=2"]),
        at("type_nfs4", "").shows(&[13]).nfs4().with(&["vers=4.2"]),
        at("vers_4", "vers=4").shows(&[3, 13]).with(&["vers=4.2"]),
        at("vers_4_1", "vers=4.1").shows(&[13]).with(&["vers=4.1"]),
        at("minorversion_1", "vers=4,minorversion=1").shows(&[13]).with(&["vers=4.1"]),
        at("vers_4_0", "v4.0").shows(&[13]).with(&["vers=4.0"]),
        at("nfsvers_3_and_tcp", "nfsvers=3,proto=tcp,nolock").shows(&[12, 14, 114, 122, 124]).with(&["vers=3", "proto=tcp", "mountproto=tcp", "local_lock=all"]),
        at("soft_and_times", "vers=4.2,soft,timeo=55,retrans=4").shows(&[98, 99, 100]).with(&["soft", "timeo=55", "retrans=4"]),
        at("the_last_one_wins", "vers=4.2,soft,hard,timeo=50,timeo=60").shows(&[96, 98]).with(&["hard", "timeo=60"]),
        at("sizes", "vers=4.2,rsize=8192,wsize=5000").shows(&[101, 102]).with(&["rsize=8192", "wsize=4096"]),
        at("sizes_that_are_too_small", "vers=4.2,rsize=512,wsize=1023").shows(&[101, 102]).with(&["rsize=4096", "wsize=4096"]),
        at("attribute_times", "vers=4.2,acregmin=4,acregmax=61,acdirmin=31,acdirmax=62").shows(&[103, 104, 105, 106]).with(&["acregmin=4", "acregmax=61", "acdirmin=31", "acdirmax=62"]),
        at("actimeo_sets_all_four", "vers=3,nolock,actimeo=7").shows(&[107]).with(&["acregmin=7", "acregmax=7", "acdirmin=7", "acdirmax=7"]),
        at("flags_of_v3", "vers=3,nolock,nocto,noacl,nordirplus,posix,namlen=100,intr").shows(&[116, 125, 126, 127, 129, 130]).with(&["nocto", "noacl", "nordirplus", "posix", "namlen=100"]),
        at("noac_of_v3", "vers=3,nolock,noac").shows(&[128]).with(&["noac", "sync"]),
        at("flags_of_v4", "vers=4.2,nocto,noac,nosharecache,intr,proto=tcp,port=2049").shows(&[113, 131, 132, 140, 141, 142]).with(&["nocto", "noac", "sync", "nosharecache"]),
        at("ports_of_v3", "vers=3,nolock,port=2049,mountport=20048,mountvers=3,mountproto=tcp,nfsprog=100003,mountprog=100005").shows(&[114, 115, 117, 119, 120, 121, 123]).with(&["vers=3", "mountport=20048", "mountproto=tcp", "mountvers=3"]),
        at("mounthost_is_resolved", "vers=3,nolock,mounthost=plain.test").shows(&[118]).with(&["mountaddr=203.0.113.10"]),
        at("port_0_of_v4_asks_rpcbind", "vers=4.2,port=0").shows(&[132]).with(&["vers=4.2"]),
        at("sec_sys", "vers=4.2,sec=sys").shows(&[112]).with(&["sec=sys"]),
        at("nconnect", "vers=4.2,nconnect=2,nosharecache").shows(&[8]).with(&["nconnect=2"]),
        at("legacy_options_do_not_keep_v4_from_working", "nolock,namlen=255,posix,noacl").shows(&[4]).with(&["vers=4.2"]),
        at("mount_options_ask_for_v3", "mountproto=udp,nolock").shows(&[114]).with(&["vers=3", "mountproto=udp"]),
        at("mount_options_with_explicit_v4", "vers=4.2,mountport=20048").shows(&[4]).with(&["vers=4.2"])
            .differs("NFSv4 ignores what belongs to NFSv3, and says so"),
        at("options_of_the_command_do_not_reach_the_kernel", "vers=4.2,fg,retry=1,_netdev,nofail,x-systemd.automount,noauto,user").shows(&[95]).with(&["vers=4.2"]),
        at("sloppy_lets_unknown_options_pass", "vers=4.2,nonsense,sloppy").shows(&[96]).with(&["vers=4.2"]),
    ]
}

fn refused() -> Vec<Case> {
    let at = |name: &str, options: &str| Case::at(name, Front::Good, options).shows(&[37, 48]);
    let named = "the message names the option";
    vec![
        at("an_unknown_option", "vers=4.2,rsise=8192")
            .shows(&[20, 29])
            .fails(&[&["rsise"], &["rsize"]])
            .differs(named),
        at("a_value_that_is_no_number", "vers=4.2,timeo=soon")
            .shows(&[20])
            .fails(&[&["timeo"], &["soon"]])
            .differs(named),
        at("a_value_with_a_suffix", "vers=4.2,rsize=8k")
            .fails(&[&["rsize"], &["8k"]])
            .differs(named),
        at("a_value_out_of_range", "vers=4.2,port=65536")
            .fails(&[&["port"], &["65535"]])
            .differs(named),
        at("a_timeo_of_0", "vers=4.2,timeo=0").fails(&[&["timeo"]]).differs(named),
        at("a_flag_with_a_value", "vers=4.2,hard=1").fails(&[&["hard"]]).differs(named),
        at("an_option_without_its_value", "vers=4.2,timeo").fails(&[&["timeo"]]).differs(named),
        at("a_version_that_does_not_exist", "vers=5")
            .shows(&[53])
            .fails(&[&["vers"], &["5"]])
            .differs(named),
        at("two_versions", "vers=4.2,nfsvers=3").fails(&[&["version", "vers"]]).differs(named),
        at("nfsvers_with_type_nfs4", "nfsvers=4")
            .shows(&[13])
            .nfs4()
            .fails(&[&["nfsvers"]])
            .differs("the seed does not allow `nfsvers=` with this type"),
        at("an_open_quote", "vers=4.2,context=\"a,b").fails(&[&["quote"]]).differs(named),
        at("a_version_2", "vers=2")
            .shows(&[3, 11, 70, 82])
            .fails(&[&["2"], &["version", "nfsv2"]])
            .differs("the message says what to use instead"),
        at("options_of_more_than_a_page", &format!("vers=4.2,x-note={}", "n".repeat(5000)))
            .shows(&[65])
            .fails(&[&["bytes"], &["at most"]])
            .differs("one limit for all options, whoever reads them, is easier to keep"),
        at(
            "options_for_the_kernel_of_more_than_a_page",
            &format!("vers=4.2,fsc={}", "n".repeat(5000)),
        )
        .shows(&[65])
        .fails(&[&["bytes"], &["at most"]])
        .differs("the message says how long they are and how long they may be"),
        at("another_program_number", "vers=3,nolock,nfsprog=100004")
            .shows(&[121])
            .fails(&[&["nfsprog"]])
            .differs("a kernel that cannot use another program is not asked to"),
        at("another_program_number_of_mount", "vers=3,nolock,mountprog=100099")
            .shows(&[119])
            .fails(&[&["mountprog"]])
            .differs("a kernel that cannot use another program is not asked to"),
        at("retry_that_is_no_number", "vers=4.2,retry=often")
            .shows(&[111])
            .fails(&[&["retry"], &["often"]])
            .differs("a mistake is told, not replaced by the default"),
        at("udp_where_the_kernel_has_none", "vers=3,nolock,udp")
            .shows(&[5, 72, 83])
            .fails(&[&["udp"]])
            .differs(named),
        at("udp_with_v4", "vers=4.2,proto=udp").shows(&[131]).fails(&[&["udp"]]).differs(named),
    ]
}

/// What needs a daemon on the client, or a device: none is there in the lab.
fn daemons() -> Vec<Case> {
    let at = |name: &str, options: &str| Case::at(name, Front::Good, options).shows(&[29]);
    vec![
        at("locks_without_statd", "vers=3,retry=0")
            .shows(&[14, 124])
            .fails(&[&["statd"], &["nolock"]]),
        at("locks_on_this_node_alone", "vers=3,local_lock=all")
            .shows(&[124])
            .with(&["local_lock=all"])
            .differs("locks that stay on this node need no rpc.statd"),
        at("kerberos_without_gssd", "sec=krb5,retry=0")
            .shows(&[15, 112])
            .nfs4()
            .fails(&[&["gssd"]])
            .differs("the missing daemon is named"),
        at("kerberos_of_v3_without_gssd", "vers=3,nolock,sec=krb5,retry=0")
            .shows(&[112])
            .fails(&[&["gssd"]])
            .differs("the missing daemon is named"),
        at("tls_of_the_kernel_without_tlshd", "vers=4.2,xprtsec=tls,retry=0")
            .shows(&[8])
            .fails(&[&["xprtsec", "tlshd"]])
            .differs("the missing daemon, or the kernel that lacks the option, is named"),
        at("rdma_without_a_device", "vers=4.2,proto=rdma,retry=0")
            .shows(&[8])
            .fails(&[&["rdma"]])
            .differs(""),
    ]
}
