//! From the command line and nfsmount.conf to what is asked of the engine.

use std::path::Path;

use super::FsType;
use super::MountArgs;
use crate::app::alinas_conf::AlinasConf;
use crate::app::exit::Ending;
use crate::app::exit::Exit;
use crate::app::nfsmount_conf::Conf;
use crate::app::nfsmount_conf::Layers;
use crate::model::DeviceName;
use crate::model::ExportPath;
use crate::model::MountOptions;
use crate::model::MountTarget;
use crate::model::NfsVersion;
use crate::model::RemotePort;
use crate::model::TlsPolicy;
use crate::model::TunnelSpec;
use crate::model::nfs_option::Note;
use crate::model::nfs_option::Rules;
use crate::model::nfs_option::VersionWish;
use crate::model::nfs_option::keys;
use crate::model::tls_policy::CertificateCheck;
use crate::model::tls_policy::RevocationCheck;
use crate::nfs::Start;

/// What the vendor's client tells mount.nfs where no TLS is asked for (aliyun-alinas-utils 2.2).
const VENDOR_DEFAULTS: &str = "hard,timeo=600,retrans=2,rsize=1048576,wsize=1048576,noresvport";
const VENDOR_DEFAULTS_V3: &str = "proto=tcp,port=2049,mountport=2049,nolock";

/// User-space options that libmount keeps in utab (`libmount/src/optmap.c`): what is not `MNT_NOMTAB`.
const KEPT_IN_UTAB: [&str; 3] = ["_netdev", "helper", "uhelper"];

/// The vendor's word for: fail where no watchdog runs. For the command, not for the mount.
const NO_START_WATCHDOG: &str = "no_start_watchdog";

/// One mount as it is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// What to mount.
    pub(super) device: DeviceName,
    /// With which options.
    pub(super) options: MountOptions,
    /// Where the tunnel is to lead, if there is to be one.
    pub(super) tunnel: Option<TunnelSpec>,
    /// Whether a watchdog is to be started where the tunnel needs one and none serves.
    pub(super) start_watchdog: bool,
    /// What utab keeps as `OPTS`.
    pub(super) for_utab: String,
    /// Where negotiation begins.
    pub(super) start: Start,
    /// What the caller has to know before it begins.
    pub(super) warnings: Vec<String>,
    /// What the caller may want to know.
    pub(super) remarks: Vec<String>,
}

/// What files of this machine have to say.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Options, for types nfs and nfs4.
    pub(super) nfsmount: Conf,
    /// The vendor's settings, for type alinas.
    pub(super) vendor: AlinasConf,
}

impl Asked {
    pub(super) fn of(args: &MountArgs, target: &Path, files: &Files) -> Result<Self, Ending> {
        let device = DeviceName::parse(&args.spec).map_err(refused)?;
        let mut given = given(args)?;
        let start_watchdog = args.fs_type != FsType::Alinas || !take(&mut given, NO_START_WATCHDOG);
        let with_tls = args.fs_type == FsType::Alinas && has(&given, |key| key == "tls");
        let mut layers = Layers::default();
        let mut texts = defaults(args.fs_type, with_tls, &given);
        if args.fs_type != FsType::Alinas {
            layers = files.nfsmount.layers(device.host(), &target.to_string_lossy(), &given);
            texts.append(&mut layers.texts);
        }
        texts.extend(given.iter().cloned());
        let rules = if with_tls { Rules::Tunnel } else { Rules::Direct };
        let parsed = MountOptions::parse_with_notes(rules, texts.iter().map(String::as_str));
        let (options, of_options) = parsed.map_err(refused)?;
        if args.fs_type == FsType::Nfs4 {
            require_version_4(&options)?;
        }
        // That `tls` is no option of the mount itself is no news to who wrote it.
        let of_options = of_options.iter().filter(|note| note.option != "tls");
        let (warnings, remarks): (Vec<_>, Vec<_>) = of_options.partition(|note| note.is_warning());
        let Layers { start, warnings: of_files, .. } = layers;
        let mut warnings: Vec<_> = of_files.into_iter().chain(told(&warnings)).collect();
        if args.fs_type == FsType::Alinas {
            warnings.extend(files.vendor.warnings.iter().cloned());
        }
        let remarks = told(&remarks).collect();
        let mut tunnel = None;
        if with_tls {
            let mut spec = tunnel_to(&device, &options)?;
            warnings.extend(secure_as_said(&mut spec.policy, &files.vendor));
            tunnel = Some(spec);
        }
        if args.fs_type == FsType::Alinas && !with_tls {
            require_no_access_point(&device)?;
        }
        let for_utab = kept_in_utab(&given, with_tls);
        Ok(Self { device, options, tunnel, start_watchdog, for_utab, start, warnings, remarks })
    }
}

fn told(notes: &[&Note]) -> impl Iterator<Item = String> {
    notes.iter().map(ToString::to_string)
}

/// The option texts of the command line, the flags that stand for options behind them.
fn given(args: &MountArgs) -> Result<Vec<String>, Ending> {
    let mut given = args.options.clone();
    // Linux documents it so: the type says the version, and two ways to say it could differ.
    if args.fs_type == FsType::Nfs4 && has(&given, |key| key == "nfsvers") {
        return Err(refused(
            "mount option \"nfsvers\" is not for type nfs4; leave it out, or use \"-t nfs\"",
        ));
    }
    let flags = [(args.sloppy, "sloppy"), (args.read_only, "ro"), (args.read_write, "rw")];
    given.extend(flags.iter().filter(|(set, _)| *set).map(|(_, option)| (*option).to_owned()));
    Ok(given)
}

/// Takes an option without value out of the texts; answers whether it was there.
fn take(texts: &mut [String], option: &str) -> bool {
    let there = texts.iter().any(|text| words(text).any(|word| word == option));
    if there {
        for text in texts {
            let left: Vec<_> = words(text).filter(|word| *word != option).collect();
            *text = left.join(",");
        }
    }
    there
}

fn defaults(fs_type: FsType, with_tls: bool, given: &[String]) -> Vec<String> {
    let open = !has(given, is_version);
    let texts: &[&str] = match fs_type {
        // With TLS they are the rules of the tunnel.
        FsType::Alinas if with_tls => &[],
        FsType::Alinas if open => &[VENDOR_DEFAULTS, VENDOR_DEFAULTS_V3, "vers=3"],
        FsType::Alinas if is_version_3(given) => &[VENDOR_DEFAULTS, VENDOR_DEFAULTS_V3],
        FsType::Alinas => &[VENDOR_DEFAULTS],
        FsType::Nfs4 if !has(given, |key| key != "minorversion" && is_version(key)) => &["vers=4"],
        FsType::Nfs | FsType::Nfs4 => &[],
    };
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// What cannot be read is refused later, with all other options around it.
fn is_version_3(given: &[String]) -> bool {
    let parsed = MountOptions::parse(Rules::Direct, given.iter().map(String::as_str));
    parsed.is_ok_and(|options| options.version_wish() == VersionWish::Exactly(NfsVersion::V3))
}

fn require_version_4(options: &MountOptions) -> Result<(), Ending> {
    match options.version_wish() {
        VersionWish::Exactly(NfsVersion::V3) => {
            Err(refused("type nfs4 is NFS version 4; use \"-t nfs\" for version 3"))
        }
        _ => Ok(()),
    }
}

/// As with the vendor's client. Type nfs asks for plain NFS in so many words, and gets it.
fn require_no_access_point(device: &DeviceName) -> Result<(), Ending> {
    let access_point = MountTarget::parse(device.host()).ok().and_then(|host| host.access_point());
    match access_point {
        Some(access_point) => Err(refused(format!(
            "{device}: the access point {access_point} is mounted with encryption only; add the option \"tls\""
        ))),
        None => Ok(()),
    }
}

fn tunnel_to(device: &DeviceName, options: &MountOptions) -> Result<TunnelSpec, Ending> {
    let target = MountTarget::parse(device.host()).map_err(refused)?;
    ExportPath::parse(device.path()).map_err(refused)?;
    let server_name = target.certificate_name().cloned().ok_or_else(|| {
        refused(format!(
            "{device}: with \"tls\" the server is to be named by its domain; its certificate does not carry an \
             address"
        ))
    })?;
    let tunnel = TunnelSpec::to(target.name().clone(), RemotePort::Known);
    let identity = options.identity().map_err(refused)?;
    TunnelSpec { server_name, ..tunnel }.identified(identity).map_err(refused)
}

/// What the vendor's settings say about certificates; answers what they open.
fn secure_as_said(policy: &mut TlsPolicy, vendor: &AlinasConf) -> Option<String> {
    if vendor.check_validity {
        policy.revocation = RevocationCheck::Ocsp;
    }
    if vendor.check_host_name {
        return None;
    }
    policy.check = CertificateCheck::DangerousAnyName;
    Some(
        "stunnel_check_cert_hostname is false: whoever has any certificate of a trusted authority can be the \
         server; leave that line out, and the name is checked"
            .to_owned(),
    )
}

fn kept_in_utab(given: &[String], with_tls: bool) -> String {
    let kept = |word: &&str| {
        let (key, value) =
            word.split_once('=').map_or((*word, None), |(key, value)| (key, Some(value)));
        KEPT_IN_UTAB.contains(&key) || key.starts_with("x-") || (key == "user" && value.is_some())
    };
    let mut words: Vec<_> = given.iter().flat_map(|text| words(text)).filter(kept).collect();
    // umount(8) calls umount.alinas for it, which gives the tunnel back.
    if with_tls {
        words.push("helper=alinas");
    }
    words.join(",")
}

/// The options of a text, split at the commas outside of double quotes.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let words = text.split(move |character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    });
    words.filter(|word| !word.is_empty())
}

fn has(texts: &[String], wanted: impl Fn(&str) -> bool) -> bool {
    texts.iter().any(|text| keys(text).any(&wanted))
}

fn is_version(key: &str) -> bool {
    ["vers", "nfsvers", "minorversion", "v2", "v3", "v4"].contains(&key) || key.starts_with("v4.")
}

/// As in mount.nfs, an option that cannot be mounted with is a failed mount and no wrong call.
fn refused(why: impl ToString) -> Ending {
    Ending::new(Exit::Failure, why)
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn asked(line: &str) -> Result<Asked, String> {
        Asked::of(&args(line), Path::new("/mnt"), &Files::default())
            .map_err(|ending| ending.message)
    }

    fn options(line: &str) -> String {
        asked(line).unwrap().options.to_string()
    }

    #[test]
    fn the_settings_of_the_vendor_say_what_of_the_certificate_is_checked() {
        let asked = |line: &str, vendor: AlinasConf| {
            let files = Files { nfsmount: Conf::default(), vendor };
            Asked::of(&args(line), Path::new("/mnt"), &files).unwrap()
        };
        let line = "-t alinas nas.example:/ /mnt -o tls";
        let plain = asked(line, AlinasConf::default());
        assert_eq!(plain.tunnel.unwrap().policy, TlsPolicy::default());
        assert!(plain.warnings.is_empty(), "{:?}", plain.warnings);
        let open = AlinasConf {
            check_host_name: false,
            check_validity: true,
            warnings: vec!["alinas-utils.conf: unknown key x".to_owned()],
            ..AlinasConf::default()
        };
        let weak = asked(line, open.clone());
        let policy = weak.tunnel.unwrap().policy;
        assert_eq!(policy.check, CertificateCheck::DangerousAnyName);
        assert_eq!(policy.revocation, RevocationCheck::Ocsp);
        assert_eq!(weak.warnings.len(), 2, "{:?}", weak.warnings);
        assert!(weak.warnings[1].contains("stunnel_check_cert_hostname"), "{:?}", weak.warnings);
        assert!(asked("nas.example:/ /mnt", open).warnings.is_empty());
    }

    #[test]
    fn flags_are_options_behind_all_others() {
        assert!(asked("nas:/ /mnt -r -o rw").unwrap().options.read_only());
        assert!(!asked("nas:/ /mnt -w -o ro").unwrap().options.read_only());
        assert!(asked("nas:/ /mnt -o ro").unwrap().options.read_only());
        assert!(asked("nas:/ /mnt -s").unwrap().options.sloppy());
    }

    #[test]
    fn the_type_says_what_holds_for_the_version() {
        let wish = |line| asked(line).unwrap().options.version_wish();
        assert_eq!(wish("nas:/ /mnt"), VersionWish::Open);
        assert_eq!(wish("-t nfs4 nas:/ /mnt"), VersionWish::AnyMinor);
        assert_eq!(wish("-t nfs4 nas:/ /mnt -o vers=4.1"), VersionWish::Exactly(NfsVersion::V41));
        assert_eq!(
            wish("-t nfs4 nas:/ /mnt -o minorversion=1"),
            VersionWish::Exactly(NfsVersion::V41)
        );
        assert_eq!(wish("-t alinas nas:/ /mnt"), VersionWish::Exactly(NfsVersion::V3));
        assert_eq!(wish("-t alinas nas:/ /mnt -o vers=4.0"), VersionWish::Exactly(NfsVersion::V40));
        for (line, part) in [
            ("-t nfs4 nas:/ /mnt -o nfsvers=4.1", "\"nfsvers\" is not for type nfs4"),
            ("-t nfs4 nas:/ /mnt -o vers=3", "use \"-t nfs\""),
            ("-t nfs nas:/ /mnt -o tls", "tls"),
        ] {
            let said = asked(line).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn the_vendors_type_without_tls_has_the_vendors_defaults_under_the_users_options() {
        let told = options("-t alinas nas:/ /mnt -o soft,rsize=4096");
        for part in
            ["vers=3", "soft", "rsize=4096", "wsize=1048576", "noresvport", "nolock", "port=2049"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("hard"), "{told}");
        assert!(options("-t alinas nas:/ /mnt -o v3").contains("port=2049"));
        let version_4 = asked("-t alinas nas:/ /mnt -o vers=4.0").unwrap();
        assert!(!version_4.options.to_string().contains("port=2049"));
        assert!(version_4.remarks.is_empty(), "{:?}", version_4.remarks);
    }

    #[test]
    fn tls_leads_through_a_tunnel_to_a_name_that_a_certificate_can_prove() {
        let asked_for = asked("-t alinas nas.example.com:/a /mnt -o tls,vers=4.0,_netdev").unwrap();
        let tunnel = asked_for.tunnel.unwrap();
        assert_eq!(
            (tunnel.to_string().as_str(), tunnel.port),
            ("nas.example.com", RemotePort::Known)
        );
        assert_eq!(asked_for.for_utab, "_netdev,helper=alinas");
        assert_eq!((asked_for.warnings.len(), asked_for.remarks.len()), (0, 1), "_netdev");
        for (spec, part) in [("192.0.2.1:/a", "named by its domain"), ("nas:../a", "must begin")] {
            let said = asked(&format!("-t alinas {spec} /mnt -o tls")).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_watchdog_is_started_unless_the_vendors_word_says_not_to() {
        for (options, starts) in [
            ("tls,vers=3", true),
            ("tls,no_start_watchdog,vers=3", false),
            ("no_start_watchdog", false),
        ] {
            let asked = asked(&format!("-t alinas nas.example:/ /mnt -o {options}")).unwrap();
            assert_eq!(asked.start_watchdog, starts, "{options}");
            assert!(!asked.options.to_string().contains(NO_START_WATCHDOG), "{options}");
        }
        let said = asked("-t nfs nas.example:/ /mnt -o no_start_watchdog").unwrap_err();
        assert!(said.contains(NO_START_WATCHDOG), "{said}");
    }

    #[test]
    fn what_is_done_otherwise_than_asked_is_a_warning_and_the_rest_is_a_remark() {
        let asked = asked("nas:/ /mnt -o addr=192.0.2.9,rsize=5000,intr,_netdev").unwrap();
        let said = |notes: &[String], part: &str| notes.iter().any(|note| note.contains(part));
        assert!(said(&asked.warnings, "\"addr\" is not taken from the user"));
        assert!(said(&asked.warnings, "\"rsize\" acts as 4096"));
        assert!(said(&asked.remarks, "intr") && said(&asked.remarks, "_netdev"));
        assert_eq!((asked.warnings.len(), asked.remarks.len()), (2, 2), "{asked:?}");
    }

    #[test]
    fn utab_keeps_what_libmount_keeps() {
        let line =
            "nas:/ /mnt -o rw,_netdev,nofail,x-systemd.automount,X-fstab,user=ann,users,comment=c";
        assert_eq!(asked(line).unwrap().for_utab, "_netdev,x-systemd.automount,user=ann");
    }

    #[test]
    fn options_are_split_at_commas_outside_of_quotes() {
        assert_eq!(words("a,,b=\"c,d\",e").collect::<Vec<_>>(), ["a", "b=\"c,d\"", "e"]);
    }
}
