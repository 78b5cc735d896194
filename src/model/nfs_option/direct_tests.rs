//! What users write for a plain NFS mount, and what becomes of it.

use super::*;

fn parse(text: &str) -> MountOptions {
    MountOptions::parse(Rules::Direct, [text]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    match MountOptions::parse(Rules::Direct, [text]) {
        Ok(options) => panic!("{text} was accepted as {options}"),
        Err(error) => error.to_string(),
    }
}

fn notes(text: &str) -> Vec<String> {
    let (_, notes) = MountOptions::parse_with_notes(Rules::Direct, [text]).unwrap();
    notes.iter().map(Note::to_string).collect()
}

fn for_kernel(text: &str, version: NfsVersion) -> String {
    let shown = |(key, value): (String, Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => key,
    };
    parse(text).kernel_options(version).into_iter().map(shown).collect::<Vec<_>>().join(",")
}

#[test]
fn with_nothing_said_the_kernel_is_told_nothing_and_the_version_is_open() {
    let options = parse("");
    assert_eq!(options, MountOptions::unsaid(Rules::Direct));
    assert_eq!(options.version_wish(), VersionWish::Open);
    assert!(!options.selects_version_3());
    assert_eq!(options.to_string(), "");
    assert_eq!(for_kernel("", NfsVersion::V3), "");
    assert_eq!(options.mount_service(), MountService::default());
    assert_eq!((options.netid(), options.port(), options.retry()), (None, None, None));
    assert!(!options.background() && !options.needs_gssd() && !options.needs_tlshd());
    assert_eq!(options.locks(), Locks::Remote);
}

#[test]
fn texts_that_mean_the_same_have_one_canonical_text() {
    for (text, canonical) in [
        ("vers=4", "vers=4"),
        ("v4,nfsvers=4", "vers=4"),
        ("v4.0", "vers=4.0"),
        ("vers=4,minorversion=1", "vers=4.1"),
        ("minorversion=2,v4", "vers=4.2"),
        ("vers=4.2,minorversion=2", "vers=4.2"),
        ("nfsvers=3,proto=tcp", "vers=3,proto=tcp"),
        ("proto=tcp6,tcp", "tcp"),
        ("udp,rdma,proto=tcp6", "proto=tcp6"),
        ("bg,fg", ""),
        ("bg,retry=5", "bg,retry=5"),
        ("retry=0,foo=1,sloppy", "sloppy,retry=0"),
        ("hard,lock,resvport,nconnect=1,local_lock=none,acl,xprtsec=none", ""),
        ("timeo=600,retrans=2", "timeo=600,retrans=2"),
        ("nolock,local_lock=flock", "nolock"),
        ("lock,nolock,lock", ""),
        ("softreval,hard", ""),
        ("hard,softreval", "softreval"),
        ("sec=spkm:spkmi:spkmp:null:none", "sec=spkm3:spkm3i:spkm3p:none"),
        (
            "sec=krb5:krb5i:krb5p:lkey:lkeyi:lkeyp:spkm3:spkm3i:spkm3p:sys:none:sys",
            "sec=krb5:krb5i:krb5p:lkey:lkeyi:lkeyp:spkm3:spkm3i:spkm3p:sys:none",
        ),
        ("rdirplus=none", "nordirplus"),
        ("rdirplus=force", "rdirplus=force"),
        ("mountvers=3", "mountvers=3"),
        ("addr=10.0.0.1,intr,nfsprog=100003,mountprog=100005,_netdev,x-a=b", ""),
        ("vers=4.1,noacl,nolock,namlen=9,posix,mountport=1,mounthost=a,mountvers=1", "vers=4.1"),
        ("vers=4.1,migration,clientaddr=10.0.0.1", "vers=4.1"),
        ("vers=4,migration,max_connect=2", "vers=4,max_connect=2,migration"),
        ("vers=3,max_connect=2,trunkdiscovery,migration,clientaddr=::", "vers=3"),
        ("clientaddr=0.0.0.0,proto=tcp6", "proto=tcp6,clientaddr=0.0.0.0"),
        ("mounthost=FE80::1%eth0", "mounthost=FE80::1%eth0"),
        ("ro,context=\"a:s0:c1,c2\",nosuid", "context=\"a:s0:c1,c2\",ro,nosuid"),
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn each_refusal_names_the_option_and_the_reason() {
    for (text, said) in [
        ("vers=2", "NFS version 2 cannot be had: Linux no longer mounts it"),
        ("v2", "NFS version 2 cannot be had"),
        ("vers=5", "\"vers\" is \"5\"; expected 3, 4, 4.0, 4.1 or 4.2"),
        ("nfsvers=3.0", "\"vers\" is \"3.0\""),
        ("vers=4.10", "\"vers\" is \"4.10\""),
        ("vers=3,vers=4", "two NFS versions, 3 and 4;"),
        ("v4,vers=4.1", "two NFS versions, 4 and 4.1;"),
        ("vers=4.0,minorversion=1", "two NFS versions, 4.0 and 4.1;"),
        ("vers=3,minorversion=1", "\"vers=4\" only"),
        ("minorversion=1", "\"vers=4\" only"),
        ("vers=4,minorversion=3", "expected 0, 1 or 2"),
        ("proto=TCP", "expected tcp, tcp6, udp, udp6, rdma or rdma6"),
        ("tcp=1", "\"tcp\" is \"1\"; expected no value"),
        ("proto", "\"proto\" needs a value"),
        ("vers=4,udp", "UDP"),
        ("proto=udp6,vers=4.2", "UDP"),
        ("port=65536", "from 0 to 65535"),
        ("port=20x", "\"port\" is \"20x\""),
        ("mountvers=2", "NFSv2"),
        ("mountvers=4", "expected 1 or 3"),
        ("mountproto=rdma", "does not go over RDMA"),
        ("mounthost=a/b", "a name or an address"),
        ("mounthost=\"a,port=1\"", "a name or an address"),
        ("mountaddr=host", "an IPv4 or IPv6 address"),
        ("mountaddr=0.0.0.0", "an address of no host"),
        ("mountproto=tcp6,mountaddr=10.0.0.1", "different address families"),
        ("proto=tcp6,clientaddr=10.0.0.1", "different address families"),
        ("nfsprog=100004", "expected 100003"),
        ("clientaddr=garbage", "an IPv4 or IPv6 address"),
        ("source=a:/", "the device name says"),
        ("xprtsec=tls,udp", "encrypts TCP only"),
        ("rdma,xprtsec=mtls", "encrypts TCP only"),
        ("lock,local_lock=all", "\"local_lock=all\" does not"),
        ("nconnect=0", "from 1 to 16"),
        ("timeo=0", "from 1 to"),
        ("sec=ntlm", "\"sec\" is \"ntlm\""),
        ("sec=sys:", "\"sec\" is \"sys:\""),
        ("acregmin=61", "more than the 60"),
        ("tls", "not encrypted"),
        ("verify=1", "the vendor's TLS tunnel"),
        ("remount,ro", "operation of its own"),
        ("rbind", "operation of its own"),
        ("rsise=1", "did you mean \"rsize\"?"),
        ("secret=hunter2", "unknown mount option \"secret\""),
        ("sloppy,rsize=8k", "\"rsize\" is \"8k\""),
        ("fatal_neterrors=all", "expected default, ENETDOWN:ENETUNREACH,"),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(said), "{text}: {refusal}");
        assert!(!refusal.contains("hunter2"), "a value of an unknown option may be a secret");
    }
}

#[test]
fn an_option_that_does_not_do_all_that_it_says_is_noted() {
    for (text, said) in [
        (
            "addr=10.0.0.1",
            "\"addr\" is not taken from the user: the name of the server is resolved anew",
        ),
        ("vers=4,nolock", "\"nolock\" has no effect: it says nothing to this NFS version"),
        ("vers=4.1,mountport=1", "\"mountport\" has no effect"),
        ("secret=hunter2,sloppy", "\"secret\" has no effect: nobody knows it"),
        ("nolock,local_lock=all", "\"local_lock\" has no effect"),
        ("softerr,nosoftreval", "\"nosoftreval\" has no effect"),
        ("soft", "\"soft\": after a time without an answer"),
        ("noac,actimeo=5", "\"actimeo\" has no effect"),
        ("udp,nconnect=2", "\"nconnect\" has no effect"),
        ("cert_serial=5", "\"cert_serial\" has no effect: it goes with xprtsec=mtls"),
        ("sec=spkm", "\"sec\": Linux has no mechanism"),
        ("timeo=6001", "\"timeo\" acts as 6000"),
        ("timeo=601,udp", "\"timeo\" acts as 600"),
        ("rsize=512", "\"rsize\" acts as 4096"),
        ("rsize=3000", "\"rsize\" acts as 2048"),
        ("rsize=5000", "\"rsize\" acts as 4096: the kernel rounds it down to whole pages"),
        ("wsize=12288,udp", "\"wsize\" acts as 8192"),
        ("wsize=2000000", "\"wsize\" acts as 1048576"),
    ] {
        let notes = notes(text);
        assert!(notes.iter().any(|note| note.contains(said)), "{text}: {notes:?}");
        assert!(!notes.iter().any(|note| note.contains("hunter2")), "{notes:?}");
    }
    for text in
        ["rsize=65536,timeo=6000,vers=3,nolock,soft,ro", "vers=4.2,xprtsec=mtls,cert_serial=1"]
    {
        assert_eq!(notes(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn the_version_is_open_general_or_exact() {
    for (text, wish, selects_3) in [
        ("", VersionWish::Open, false),
        ("vers=4", VersionWish::AnyMinor, false),
        ("vers=4.1", VersionWish::Exactly(NfsVersion::V41), false),
        ("vers=3", VersionWish::Exactly(NfsVersion::V3), false),
        ("mounthost=a", VersionWish::Open, true),
        ("mountaddr=10.0.0.1", VersionWish::Open, true),
        ("mountvers=3", VersionWish::Open, true),
        ("mountproto=tcp", VersionWish::Open, true),
        ("mountport=20048", VersionWish::Open, true),
        ("udp", VersionWish::Open, true),
        ("mountport=20048,vers=4", VersionWish::AnyMinor, false),
    ] {
        let options = parse(text);
        assert_eq!(
            (options.version_wish(), options.selects_version_3()),
            (wish, selects_3),
            "{text}"
        );
    }
}

#[test]
fn what_the_policy_asks_for_is_typed() {
    let options = parse(
        "proto=udp6,port=0,mounthost=m,mountaddr=::1,mountport=635,mountproto=udp6,mountvers=1,bg,retry=3",
    );
    assert_eq!(options.netid(), Some((Transport::Udp, Some(Family::Inet6))));
    assert_eq!(parse("rdma").netid(), Some((Transport::Rdma, None)));
    assert_eq!(options.port(), Some(0));
    let service = MountService {
        host: Some("m".to_owned()),
        address: Some("::1".parse().unwrap()),
        port: Some(635),
        netid: NetId::parse("udp6"),
        version: Some(1),
    };
    assert_eq!(options.mount_service(), service);
    assert_eq!(options.retry(), Some(Duration::from_secs(180)));
    assert!(options.background());
    assert_eq!(options.lasting(), parse(&options.to_string().replace("bg,retry=3,", "")));
    assert_eq!(parse("clientaddr=10.0.0.9").client_address(), Some([10, 0, 0, 9].into()));
    assert_eq!(parse("sec=krb5p:null").security(), ["krb5p", "none"]);
    assert!(parse("sec=krb5p:sys").needs_gssd() && !parse("sec=sys:none").needs_gssd());
    assert!(parse("xprtsec=tls").needs_tlshd() && !parse("xprtsec=none").needs_tlshd());
    assert_eq!(parse("ro,noatime").attributes(), ["ro", "noatime"]);
}

#[test]
fn locks_ask_the_server_unless_all_of_them_are_kept_local() {
    for (text, locks) in [
        ("lock", Locks::Remote),
        ("local_lock=none", Locks::Remote),
        ("local_lock=flock", Locks::PartlyRemote),
        ("local_lock=posix", Locks::PartlyRemote),
        ("local_lock=all", Locks::Local),
        ("nolock", Locks::Local),
    ] {
        assert_eq!(parse(text).locks(), locks, "{text}");
        assert_eq!(locks.need_statd(), locks != Locks::Local);
    }
}

#[test]
fn the_kernel_gets_what_is_for_it_and_for_the_version_and_sloppy_first() {
    let text = "rsize=4096,bg,retry=1,intr,nolock,migration,trunkdiscovery,soft,sloppy,proto=tcp,port=1,\
                mountport=2,clientaddr=::,ro,sync,nosoftreval,sec=krb5,fsc=a,xprtsec=tls";
    for (version, told) in [
        (NfsVersion::V3, "sloppy,soft,rsize=4096,fsc=a,nolock,sec=krb5,xprtsec=tls,sync"),
        (NfsVersion::V40, "sloppy,soft,rsize=4096,fsc=a,sec=krb5,migration,xprtsec=tls,sync"),
        (NfsVersion::V42, "sloppy,soft,rsize=4096,trunkdiscovery,fsc=a,sec=krb5,xprtsec=tls,sync"),
    ] {
        assert_eq!(for_kernel(text, version), told, "{version}");
    }
}

#[test]
fn a_command_sees_how_options_were_spelled_and_takes_one_out() {
    let text = "nfsvers=3,,context=\"a,remount\",remount,ro";
    assert_eq!(keys(text).collect::<Vec<_>>(), ["nfsvers", "context", "remount", "ro"]);
    assert_eq!(without(text, "remount"), "nfsvers=3,,context=\"a,remount\",ro");
}
