//! What users write, and what becomes of it.

use proptest::prelude::*;

use super::*;

/// What the vendor's client hands to the kernel for v3, but for addresses (facts A10).
const DEFAULTS_V3: &str = "hard,timeo=600,retrans=2,rsize=1048576,wsize=1048576,noresvport,nolock";

fn parse(text: &str) -> MountOptions {
    MountOptions::parse(Rules::Tunnel, [text]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    match MountOptions::parse(Rules::Tunnel, [text]) {
        Ok(options) => panic!("{text} was accepted as {options}"),
        Err(error) => error.to_string(),
    }
}

fn for_kernel(options: &MountOptions) -> String {
    let shown = |(key, value): (String, Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => key,
    };
    options
        .kernel_options(options.version_wish().exact().unwrap())
        .into_iter()
        .map(shown)
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn with_nothing_said_the_vendors_defaults_hold() {
    let options = MountOptions::default();
    assert_eq!(options, parse(""));
    assert_eq!(options.version_wish(), VersionWish::Exactly(NfsVersion::V3));
    assert_eq!(for_kernel(&options), DEFAULTS_V3);
    assert_eq!(options.to_string(), "vers=3");
    let options = parse("vers=4.0");
    assert_eq!(for_kernel(&options), DEFAULTS_V3.trim_end_matches(",nolock"));
}

#[test]
fn texts_that_mean_the_same_have_one_canonical_text() {
    for (text, canonical) in [
        ("nfsvers=3", "vers=3"),
        ("v3,vers=3,vers=3.0", "vers=3"),
        ("vers=4", "vers=4.0"),
        ("v4.0,minorversion=0,vers=4", "vers=4.0"),
        ("rsize=65536,vers=3,,", "vers=3,rsize=65536"),
        ("rsize=1,rsize=65536", "vers=3,rsize=65536"),
        ("soft,hard", "vers=3"),
        ("hard,softerr", "vers=3,softerr"),
        ("ro,nosuid,rw", "vers=3,nosuid"),
        ("noexec,ro", "vers=3,ro,noexec"),
        ("noatime,atime", "vers=3"),
        ("noac,ac,nocto", "vers=3,nocto"),
        ("acregmin=5,acdirmax=90,actimeo=7", "vers=3,actimeo=7"),
        ("acregmax=9,actimeo=7,acregmax=8", "vers=3,actimeo=7,acregmax=8"),
        ("actimeo=7,acregmax=60", "vers=3,actimeo=7,acregmax=60"),
        ("tls,proto=tcp,tcp,nolock,local_lock=all,noresvport", "vers=3"),
        ("timeo=600,retrans=2,rsize=1048576,wsize=1048576,hard,nconnect=1", "vers=3"),
        ("_netdev,nofail,x-systemd.automount,X-a=b,defaults,auto,user=a,users", "vers=3"),
        ("lock,noacl,vers=4.0", "vers=4.0"),
        ("clientaddr=10.0.0.1", "vers=3"),
        ("clientaddr=FE80::1,vers=4", "vers=4.0,clientaddr=fe80::1"),
        ("sec=null", "vers=3,sec=none"),
        ("lookupcache=pos", "vers=3,lookupcache=positive"),
        (
            "context=\"system_u:object_r:a_t:s0:c1,c2\"",
            "vers=3,context=\"system_u:object_r:a_t:s0:c1,c2\"",
        ),
        ("fsc=\"a\",nosoftreval", "vers=3,fsc=a"),
        ("fg,intr,mand,nfsprog=100003,xprtsec=none", "vers=3"),
        ("retry=5,bg,vers=4", "vers=4.0,bg,retry=5"),
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn each_refusal_names_the_option_and_the_reason() {
    for (text, said) in [
        ("rsise=1", "unknown mount option \"rsise\"; did you mean \"rsize\"?"),
        ("access_key_secret=hunter2", "unknown mount option \"access_key_secret\""),
        ("vers=3,nfsvers=4", "two NFS versions, 3 and 4.0"),
        ("vers=4.1", "NFS version 4.1 cannot be had: the mount target offers 3 and 4.0"),
        ("v4.2", "NFS version 4.2 cannot be had"),
        ("vers=2", "NFS version 2 cannot be had: the mount target offers 3 and 4.0"),
        ("vers=5", "\"vers\" is \"5\"; expected 3 or 4.0"),
        ("vers", "\"vers\" needs a value"),
        ("vers=4,minorversion=1", "minorversion=1"),
        ("minorversion=0", "\"vers=4\""),
        ("rsize=8k", "\"rsize\" is \"8k\"; expected a decimal number from 1 to 4294967295"),
        ("rsize=010", "\"rsize\" is \"010\""),
        ("rsize=0x2000", "\"rsize\" is \"0x2000\""),
        ("rsize=-1", "\"rsize\" is \"-1\""),
        ("rsize=+1", "\"rsize\" is \"+1\""),
        ("rsize=4294967296", "\"rsize\" is \"4294967296\""),
        ("rsize=", "\"rsize\" is \"\""),
        ("rsize", "\"rsize\" needs a value"),
        ("nconnect=17", "a decimal number from 1 to 16"),
        ("hard=1", "\"hard\" is \"1\"; expected no value"),
        ("soft=1", "\"soft\" is \"1\"; expected no value"),
        ("noac=1", "\"noac\" is \"1\"; expected no value"),
        ("nohard", "unknown mount option \"nohard\""),
        ("lock", "rpc.statd"),
        ("local_lock=none", "rpc.statd"),
        ("sec=krb5p", "AUTH_SYS"),
        ("sec=sys:krb5", "\"sec=krb5\""),
        ("sec=ntlm", "expected sys, none or null"),
        ("xprtsec=tls", "the tunnel encrypts"),
        ("addr=10.0.0.1", "the tunnel decides"),
        ("port=2049", "the tunnel decides"),
        ("mountport", "the tunnel decides"),
        ("mounthost=a", "the tunnel decides"),
        ("source=a:/", "the volume says"),
        ("proto=udp", "TCP only"),
        ("rdma", "TCP only"),
        ("bind", "operation of its own"),
        ("direct", "bypass encryption"),
        ("verify=0", "always checked"),
        ("proxy_port=12049", "the driver's own settings"),
        ("max_connect=2", "4.1"),
        ("clientaddr=garbage,vers=4", "expected an IPv4 or IPv6 address"),
        ("context=\"a", "double quotes"),
        ("context=a\"b\"", "double quotes"),
        ("\"ro\"", "double quotes"),
        ("acregmin=100", "\"acregmin\" is 100, which is more than the 60 of \"acregmax\""),
        ("ro\nrw", "control character"),
        (" ro", "did you mean \"ro\"?"),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(said), "{text}: {refusal}");
        assert!(!refusal.contains("hunter2"), "a value of an unknown option may be a secret");
    }
}

#[test]
fn the_texts_of_several_sources_are_read_in_their_order() {
    let options =
        MountOptions::parse(Rules::Tunnel, ["vers=4.0", "rsize=1024,ro", "rsize=2048"]).unwrap();
    assert_eq!(options.to_string(), "vers=4.0,rsize=2048,ro");
}

#[test]
fn attributes_of_the_mount_are_kept_from_the_kernels_nfs_client() {
    let options = parse("ro,nosuid,noatime,exec,sync,clientaddr=0.0.0.0,v4");
    assert!(options.read_only());
    assert_eq!(options.attributes(), ["ro", "nosuid", "noatime"]);
    assert_eq!(options.client_address(), Some([0, 0, 0, 0].into()));
    assert!(for_kernel(&options).ends_with(",noresvport,sync"), "{}", for_kernel(&options));
    assert!(!parse("rw").read_only());
}

#[test]
fn a_user_overrides_a_default_in_its_place() {
    let options = parse("softerr,resvport,rsize=4096,noac,nordirplus");
    assert_eq!(
        for_kernel(&options),
        "softerr,timeo=600,retrans=2,rsize=4096,wsize=1048576,resvport,noac,nordirplus,nolock"
    );
}

#[test]
fn what_has_no_effect_is_noted_with_the_reason() {
    let (_, notes) =
        MountOptions::parse_with_notes(Rules::Tunnel, ["intr,noacl,vers=4.0"]).unwrap();
    let notes: Vec<String> = notes.iter().map(Note::to_string).collect();
    assert!(notes.iter().any(|note| note.contains("\"intr\"")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("\"acl\"")), "{notes:?}");
}

#[test]
fn a_text_that_a_page_cannot_hold_is_refused() {
    let text = format!("context={}", "a".repeat(LONGEST_TEXT));
    assert!(refusal(&text).contains("at most 3500"));
}

#[test]
fn no_word_belongs_to_two_options_and_every_option_says_what_it_does() {
    let mut seen = std::collections::HashSet::new();
    for option in OPTIONS {
        for spelling in option.spellings() {
            assert!(seen.insert(spelling), "{spelling} is in the table twice");
        }
        assert!(option.help.ends_with('.'), "{}", option.name);
    }
}

#[test]
fn every_default_of_the_table_is_a_value_that_the_option_takes() {
    for rules in [Rules::Tunnel, Rules::Direct] {
        for option in OPTIONS {
            let (Preset::Kernel(preset) | Preset::Driver(preset) | Preset::Sent(preset)) =
                option.under(rules).default
            else {
                continue;
            };
            let text = match option.spellings().any(|spelling| spelling == preset) {
                true => preset.to_owned(),
                false => format!("{}={preset}", option.name),
            };
            let options = MountOptions::parse(rules, [text.as_str()]);
            assert_eq!(options, Ok(MountOptions::unsaid(rules)), "{text}");
        }
    }
}

fn any_option() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = OPTIONS.iter().flat_map(NfsOption::spellings).collect();
    const VALUES: &[&str] = &[
        "",
        "=1",
        "=60",
        "=3",
        "=4",
        "=4.1",
        "=none",
        "=all",
        "=tls",
        "=udp6",
        "=krb5:sys:null",
        "=a",
        "=\"a,b\"",
        "=10.0.0.1",
        "=::1",
    ];
    (proptest::sample::select(keys), proptest::sample::select(VALUES))
        .prop_map(|(key, value)| format!("{key}{value}"))
}

fn any_rules() -> impl Strategy<Value = Rules> {
    proptest::sample::select(&[Rules::Tunnel, Rules::Direct][..])
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(rules in any_rules(), text in "\\PC{0,60}") {
        let _ = MountOptions::parse(rules, [text.as_str()]);
    }

    #[test]
    fn a_canonical_text_says_the_same_as_what_it_was_made_from(
        rules in any_rules(),
        texts in proptest::collection::vec(any_option(), 0..6),
    ) {
        // Each text is added where it is accepted, so that most cases hold several options.
        let mut accepted: Vec<&str> = Vec::new();
        for text in &texts {
            accepted.push(text);
            if MountOptions::parse(rules, accepted.iter().copied()).is_err() {
                accepted.pop();
            }
        }
        let options = MountOptions::parse(rules, accepted).unwrap();
        let canonical = options.to_string();
        let again = MountOptions::parse(rules, [canonical.as_str()]).unwrap();
        prop_assert_eq!(&again, &options);
        prop_assert_eq!(again.to_string(), canonical);
    }
}
