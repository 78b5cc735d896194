//! Every mount option that Linux, mount(8) or the vendor's client knows, and what this driver does with it.
//!
//! One row each, so that "unknown" always means a slip of the hand, and so that the parser, the documents and
//! `explain` cannot disagree. The file is long because the table is; there is no logic in it. Kernel options
//! are those of `nfs_fs_parameters` (fs/nfs/fs_context.c, Linux 5.10 to 6.18), generic ones those of
//! util-linux (libmount/src/optmap.c), the last ones those of aliyun-alinas-utils. Defaults of a plain mount
//! are the kernel's (fs/nfs/client.c, include/linux/nfs_xdr.h), and for what the mount command does those of
//! nfs-utils (nfs(5)).
//!
//! LONG: a row for each option, and no logic.

use super::Consumer;
use super::Meaning;
use super::NfsOption;
use super::Preset;
use super::ValueKind;
use super::Versions;
use crate::model::client_identity::CredentialsPath;

/// The table. Its order is the order of the canonical text.
pub const OPTIONS: &[NfsOption] = &[
    // What decides the mount as a whole.
    row(
        "vers",
        ValueKind::Version,
        "The NFS version; through the tunnel, and only there, 4 is 4.0.",
    )
    .also(&["nfsvers", "v2", "v3", "v4", "v4.0", "v4.1", "v4.2"])
    .default(Preset::Sent("3"))
    .direct_default(Preset::Depends("the highest that client and server share"))
    .driver(),
    row("minorversion", one_of(&["0", "1", "2"]), "With vers=4, the part behind the dot.")
        .only(Versions::V4)
        .tunnel_refuses(&["1", "2"], OFFERED)
        .driver(),
    row(
        "sloppy",
        ValueKind::Flag,
        "Lets the kernel pass over options that it does not know; a plain mount passes over those that the \
         driver does not know too.",
    ),
    // How hard the mount is tried. Never sent to the kernel, which would ignore it.
    row("bg", ValueKind::Choice(&["fg", "bg"]), BG).default(Preset::Driver("fg")).driver(),
    row("retry", number(0, U32), "Minutes for which a mount is tried again; 0: once.")
        .default(Preset::Depends("2, and 10000 with bg"))
        .driver(),
    // Where the server is.
    row("proto", PROTOCOL, PROTO)
        .direct_default(Preset::Depends("tcp, over the family of the server's address"))
        .tunnel_refuses(OTHER_PROTOCOLS, TCP_ONLY)
        .driver()
        .tunnel_ignored(TUNNEL_IS_TCP),
    row("port", number(0, 65535), "The port of NFS; 0: ask rpcbind.")
        .direct_default(Preset::Depends("vers=4: 2049, with rdma 20049; vers=3: what rpcbind says"))
        .driver()
        .tunnel_refused(TUNNEL_DECIDES),
    row("mounthost", ValueKind::Host, "The host that answers MOUNT calls.")
        .only(Versions::V3)
        .direct_default(Preset::Depends("the server"))
        .driver()
        .tunnel_refused(TUNNEL_DECIDES),
    row("mountaddr", ValueKind::Address, "The address that answers MOUNT calls.")
        .only(Versions::V3)
        .direct_default(Preset::Depends("that of mounthost, or of the server"))
        .driver()
        .tunnel_refused(TUNNEL_DECIDES),
    row("mountport", number(0, 65535), "The port of MOUNT calls; 0: ask rpcbind.")
        .only(Versions::V3)
        .direct_default(Preset::Depends("what rpcbind says"))
        .driver()
        .tunnel_refused(TUNNEL_DECIDES),
    row("mountproto", one_of(PROTOCOLS), "The transport of MOUNT calls.")
        .only(Versions::V3)
        .direct_default(Preset::Depends("what rpcbind knows: that of proto, or else the other"))
        .tunnel_refuses(OTHER_PROTOCOLS, TCP_ONLY)
        .direct_refuses(&["rdma", "rdma6"], "the MOUNT protocol does not go over RDMA")
        .driver()
        .tunnel_ignored(TUNNEL_IS_TCP),
    row("mountvers", one_of(&["1", "2", "3"]), "The MOUNT version.")
        .only(Versions::V3)
        // Not `Driver`: even `mountvers=3` says that NFSv3 is meant.
        .direct_default(Preset::Depends("3"))
        .tunnel_refuses(&["1", "2"], "NFSv3 goes with MOUNT version 3")
        .direct_refuses(&["2"], "it goes with NFSv2, which no kernel has any more")
        .driver()
        .tunnel_ignored("it is what NFSv3 goes with"),
    // How hard the client tries.
    row("hard", ValueKind::Choice(&["hard", "soft", "softerr"]), HARD)
        .default(Preset::Sent("hard"))
        .direct_default(Preset::Kernel("hard")),
    row(
        "softreval",
        ValueKind::Switch { off: "nosoftreval" },
        "Answers from the cache of names while the server does not answer.",
    )
    .default(Preset::Kernel("nosoftreval")),
    row(
        "timeo",
        number(1, INT),
        "Tenths of a second before a request is sent again; at most 6000 count, over UDP 600.",
    )
    .default(Preset::Sent("600"))
    .direct_default(Preset::Depends("600, over UDP 11")),
    row("retrans", number(0, INT), "How often a request is sent again before the client says so.")
        .default(Preset::Sent("2"))
        .direct_default(Preset::Depends("2, over UDP 3")),
    row("fatal_neterrors", one_of(FATAL), FATAL_NETERRORS).default(Preset::Kernel("default")),
    // How much goes into a request, over how many connections.
    row(
        "rsize",
        number(1, U32),
        "Bytes in one READ; the kernel rounds it, and 1048576 is the most.",
    )
    .default(Preset::Sent("1048576"))
    .direct_default(Preset::Depends(NEGOTIATED)),
    row(
        "wsize",
        number(1, U32),
        "Bytes in one WRITE; the kernel rounds it, and 1048576 is the most.",
    )
    .default(Preset::Sent("1048576"))
    .direct_default(Preset::Depends(NEGOTIATED)),
    row("bsize", number(1, U32), "The block size that statfs(2) reports."),
    row("nconnect", number(1, 16), "Connections per server; the first mount of it decides.")
        .default(Preset::Kernel("1")),
    row("max_connect", number(1, 16), "Connections to several addresses of one server.")
        .only(Versions::V41)
        .direct_default(Preset::Kernel("1"))
        .tunnel_refused(NEEDS_41),
    row(
        "trunkdiscovery",
        ValueKind::Switch { off: "notrunkdiscovery" },
        "Asks the server for its other addresses.",
    )
    .only(Versions::V41)
    .direct_default(Preset::Kernel("notrunkdiscovery"))
    .tunnel_refused(NEEDS_41),
    row("resvport", ValueKind::Switch { off: "noresvport" }, RESVPORT)
        .default(Preset::Sent("noresvport"))
        .direct_default(Preset::Kernel("resvport")),
    row("write", one_of(&["lazy", "eager", "wait"]), "When data written are sent to the server.")
        .default(Preset::Kernel("lazy")),
    // What may be cached.
    row("actimeo", number(0, SECONDS), "Sets acregmin, acregmax, acdirmin and acdirmax at once."),
    row(
        "acregmin",
        number(0, SECONDS),
        "Least time in seconds that a file's attributes are cached.",
    )
    .default(Preset::Kernel("3")),
    row(
        "acregmax",
        number(0, SECONDS),
        "Greatest time in seconds that a file's attributes are cached.",
    )
    .default(Preset::Kernel("60")),
    row(
        "acdirmin",
        number(0, SECONDS),
        "Least time in seconds that a directory's attributes are cached.",
    )
    .default(Preset::Kernel("30")),
    row("acdirmax", number(0, SECONDS), "Greatest time in seconds for a directory's attributes.")
        .default(Preset::Kernel("60")),
    row(
        "ac",
        ValueKind::Switch { off: "noac" },
        "Caches attributes; noac also makes writes synchronous.",
    )
    .default(Preset::Kernel("ac")),
    row("cto", ValueKind::Switch { off: "nocto" }, "Close-to-open consistency among clients.")
        .default(Preset::Kernel("cto")),
    row(
        "lookupcache",
        one_of(&["all", "none", "positive", "pos"]),
        "Which answers about names are cached.",
    )
    .default(Preset::Kernel("all")),
    row(
        "sharecache",
        ValueKind::Switch { off: "nosharecache" },
        "Shares caches among equal mounts; without it, each has its own view of the data.",
    )
    .default(Preset::Kernel("sharecache")),
    row(
        "fsc",
        ValueKind::SwitchOrText { off: "nofsc" },
        "Caches file data on a local disk, where the node runs cachefilesd.",
    )
    .default(Preset::Kernel("nofsc")),
    row(
        "rdirplus",
        ValueKind::SwitchOrOneOf { off: "nordirplus", words: &["force", "none"] },
        "Reads attributes along with directories; a value needs a Linux newer than 6.12.",
    )
    .default(Preset::Kernel("rdirplus"))
    .tunnel_refuses(&["none"], "nordirplus says the same and is known to every kernel"),
    row(
        "alignwrite",
        ValueKind::Switch { off: "noalignwrite" },
        "Extends writes to whole pages; for a Linux newer than 6.1.",
    )
    .default(Preset::Kernel("alignwrite")),
    // Locks, rights, names.
    row("nolock", ValueKind::Switch { off: "lock" }, NOLOCK)
        .only(Versions::V3)
        .default(Preset::Sent("nolock"))
        .direct_default(Preset::Kernel("lock")),
    row("local_lock", one_of(&["all", "none", "flock", "posix"]), LOCAL_LOCK)
        .only(Versions::V3)
        .direct_default(Preset::Kernel("none"))
        .tunnel_refuses(&["none", "flock", "posix"], LOCKS)
        .tunnel_ignored("all locks of an NFSv3 mount are local anyway (nolock)"),
    row("acl", ValueKind::Switch { off: "noacl" }, "Asks for ACLs by the NFSACL side protocol.")
        .only(Versions::V3)
        .default(Preset::Kernel("acl")),
    row("namlen", number(1, 255), "The longest file name, where the server does not say it.")
        .only(Versions::V3),
    row("posix", ValueKind::Switch { off: "noposix" }, "Asks the server for its POSIX limits.")
        .only(Versions::V3)
        .default(Preset::Kernel("noposix")),
    row("sec", ValueKind::ListOf(FLAVOURS), "How a user is named and proven to the server.")
        .direct_default(Preset::Depends("the first of the server's list that the client has"))
        .tunnel_refuses(NEED_GSS, NO_KERBEROS),
    row(
        "clientaddr",
        ValueKind::Address,
        "Where the server may call back; an unspecified one: nowhere.",
    )
    .only(Versions::V40)
    .default(Preset::Depends("the address from which the node reaches the server"))
    .driver(),
    row("migration", ValueKind::Switch { off: "nomigration" }, "Follows a file system that moves.")
        .only(Versions::V40)
        .default(Preset::Kernel("nomigration")),
    row("xprtsec", one_of(&["none", "tls", "mtls"]), "The kernel's own TLS, with tlshd.")
        .default(Preset::Kernel("none"))
        .tunnel_refuses(&["tls", "mtls"], TUNNEL_ENCRYPTS)
        .tunnel_ignored("the kernel's own TLS is off, and the tunnel encrypts"),
    row("cert_serial", number(1, INT), "A key of the kernel's keyring: the certificate of mtls.")
        .tunnel_refused(TUNNEL_ENCRYPTS),
    row(
        "privkey_serial",
        number(1, INT),
        "A key of the kernel's keyring: the private key of mtls.",
    )
    .tunnel_refused(TUNNEL_ENCRYPTS),
    row("context", ValueKind::Text, "The SELinux label of every file."),
    row("fscontext", ValueKind::Text, "The SELinux label of the file system."),
    row("defcontext", ValueKind::Text, "The SELinux label of files without one."),
    row("rootcontext", ValueKind::Text, "The SELinux label of the root directory."),
    // Generic options of the superblock.
    row("sync", ValueKind::Switch { off: "async" }, "Sends every write to the server at once.")
        .default(Preset::Kernel("async")),
    row("dirsync", ValueKind::Flag, "Makes changes of directories synchronous."),
    row("lazytime", ValueKind::Switch { off: "nolazytime" }, "Keeps times in memory for a while.")
        .default(Preset::Kernel("nolazytime")),
    // Generic options of this mount alone.
    row("ro", ValueKind::Switch { off: "rw" }, "Mounts read-only.")
        .default(Preset::Kernel("rw"))
        .attribute(),
    row("nosuid", ValueKind::Switch { off: "suid" }, "Ignores set-user-id bits.")
        .default(Preset::Kernel("suid"))
        .attribute(),
    row("nodev", ValueKind::Switch { off: "dev" }, "Ignores device files.")
        .default(Preset::Kernel("dev"))
        .attribute(),
    row("noexec", ValueKind::Switch { off: "exec" }, "Executes no file.")
        .default(Preset::Kernel("exec"))
        .attribute(),
    row("nosymfollow", ValueKind::Switch { off: "symfollow" }, "Follows no symbolic link.")
        .default(Preset::Kernel("symfollow"))
        .attribute(),
    row(
        "relatime",
        ValueKind::Choice(&["relatime", "noatime", "strictatime"]),
        "When times of access are updated; on NFS the server decides.",
    )
    .also(&["atime", "norelatime", "nostrictatime"])
    .default(Preset::Kernel("relatime"))
    .attribute(),
    row("nodiratime", ValueKind::Switch { off: "diratime" }, "As noatime, for directories.")
        .default(Preset::Kernel("diratime"))
        .attribute(),
    // Accepted, without effect.
    // Refusing `addr` would be of no use: the option texts that mountinfo shows, and people copy, hold it.
    // mount.nfs drops it without a word; here a note says so.
    row("addr", ValueKind::Text, "The address of the server.")
        .ignored("the name of the server is resolved anew for every mount")
        .tunnel_refused(TUNNEL_DECIDES),
    row("nfsprog", number(100_003, 100_003), "The RPC program of NFS.").ignored(STANDARD_PROGRAM),
    row("mountprog", number(100_005, 100_005), "The RPC program of MOUNT.")
        .ignored(STANDARD_PROGRAM),
    row("intr", ValueKind::Switch { off: "nointr" }, "Nothing since Linux 2.6.25.")
        .ignored(HISTORY),
    row("mand", ValueKind::Switch { off: "nomand" }, "Nothing since Linux 5.15.").ignored(HISTORY),
    row("silent", ValueKind::Flag, "Asks mount(8) for fewer messages.")
        .also(&["loud", "quiet"])
        .ignored(FOR_MOUNT_8),
    row("iversion", ValueKind::Switch { off: "noiversion" }, "For local file systems.")
        .ignored(LOCAL),
    row("sub", ValueKind::Switch { off: "nosub" }, "Nothing on Linux.").ignored(HISTORY),
    row("quota", ValueKind::Switch { off: "noquota" }, "For local file systems.")
        .also(&["usrquota", "grpquota"])
        .ignored(LOCAL),
    row("defaults", ValueKind::Flag, "Stands where there is no option.").ignored(FOR_MOUNT_8),
    row("auto", ValueKind::Switch { off: "noauto" }, "Whether to mount at boot.")
        .ignored(FOR_MOUNT_8),
    row("user", ValueKind::Anything, "Who may mount.")
        .also(&["nouser", "users", "nousers", "owner", "noowner", "group", "nogroup"])
        .ignored(FOR_MOUNT_8),
    row("_netdev", ValueKind::Flag, "Mounts once the network is up.").ignored(FOR_MOUNT_8),
    row("nofail", ValueKind::Flag, "A failure does not stop the boot.").ignored(FOR_MOUNT_8),
    row("comment", ValueKind::Anything, "A remark.").ignored(FOR_MOUNT_8),
    row("helper", ValueKind::Anything, "The program that mounts.")
        .also(&["uhelper"])
        .ignored(FOR_MOUNT_8),
    row("x-*", ValueKind::Anything, "A remark to another program.")
        .also(&["X-*"])
        .ignored(FOR_MOUNT_8),
    row("tls", ValueKind::Flag, "Encryption in transit (vendor's client).")
        .tunnel_ignored("every mount of this driver's tunnel is encrypted")
        .direct_refused(
            "a plain NFS mount is not encrypted by it; use the tunnel, or the kernel's own TLS: \
             xprtsec=tls",
        ),
    // What the client certificate of the tunnel says.
    row(
        "accesspoint",
        ValueKind::Text,
        "The id of the access point; its domain as the server says it by itself.",
    )
    .driver()
    .direct_refused(PROVED_BY_TLS),
    row("ram", ValueKind::Flag, "The client certificate is signed with RAM credentials, too.")
        .driver()
        .direct_refused(PROVED_BY_TLS),
    row(
        "ram_config_file",
        ValueKind::Text,
        "Where the RAM credentials are; \"ram\" need not be said.",
    )
    .default(Preset::Depends(CredentialsPath::USUAL))
    .driver()
    .direct_refused(PROVED_BY_TLS),
    // Refused: not to be had.
    row("source", ValueKind::Text, "What is mounted.")
        .refused("the device name says what is mounted")
        .tunnel_refused("the volume says what is mounted"),
    row("remount", ValueKind::Flag, "Changes a mount.").refused(ANOTHER_OPERATION),
    row("bind", ValueKind::Flag, "Shows a directory at another place.")
        .also(&["rbind", "move"])
        .refused(ANOTHER_OPERATION),
    row("shared", ValueKind::Flag, "How mounts below it spread.")
        .also(&["rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"])
        .refused(ANOTHER_OPERATION),
    row("loop", ValueKind::Anything, "A file as a disk.")
        .also(&["offset", "sizelimit"])
        .refused("a directory of the server is mounted, not a disk image"),
    // Refused: options of the vendor's client (aliyun-alinas-utils).
    row("proxy", ValueKind::Anything, "Which proxy to use (vendor's client).")
        .also(&["proxy_port", "trybind", "bindtag", "tls_ciphers", "alitimeo"])
        .refused(NO_TUNNEL)
        .tunnel_refused("the tunnel is set up by the driver's own settings"),
    row("verify", ValueKind::Anything, "How to check the certificate (vendor's client).")
        .refused(NO_TUNNEL)
        .tunnel_refused(
            "the certificate is always checked; see the volume attribute tlsServerName",
        ),
    row("direct", ValueKind::Anything, "Mounts without TLS (vendor's client).")
        .also(&["nas_ip", "auto_fallback_nfs"])
        .refused(NO_TUNNEL)
        .tunnel_refused("it would bypass encryption in transit"),
    row("efc", ValueKind::Anything, "The vendor's own client instead of NFS (vendor's client).")
        .also(&["unas", "client_owner", "overlaybd_mount", "assign_uuid"])
        .refused("this driver mounts with the kernel's NFS client only"),
    row("no_start_watchdog", ValueKind::Anything, "A setting of the vendor's client.")
        .also(&[
            "no_atomic_move",
            "no_add_cgroup",
            "no_kernel_permission",
            "upgrade",
            "netcheck",
            "flagcheck",
            "kernel_version_check",
        ])
        .refused("it sets up the vendor's client, which this driver does not use; leave it out"),
];

const INT: u64 = 2_147_483_647;
const U32: u64 = 4_294_967_295;
/// What the kernel can count in ticks of a thousandth of a second without an overflow.
const SECONDS: u64 = INT / 1000;

const BG: &str = "fg: the mount is there when the call returns, or has failed. bg: after a fault that may pass \
                  the call returns at once, and the mount is tried until retry runs out; a pod's volume is \
                  reported as staged only once it is mounted.";
const HARD: &str = "hard: a request waits for the server for ever; soft, softerr: it fails after retrans, \
                    and data may be lost.";
const PROTO: &str = "The transport, and with a value (tcp, tcp6) the family of addresses too; udp goes with \
                     NFSv3 only.";
const PROVED_BY_TLS: &str = "the client certificate of a TLS connection says it, and a plain NFS mount has \
                             none; mount with encryption (option \"tls\" of type alinas)";
const FATAL_NETERRORS: &str = "Network errors that end a request; for a Linux newer than 6.12.";
const RESVPORT: &str =
    "Connects from a port below 1024; noresvport lets the client reconnect more freely.";
const NOLOCK: &str = "Keeps locks within the node; lock asks the server, with the help of rpc.statd. NFSv4 \
                      always asks the server.";
const LOCAL_LOCK: &str = "Which locks are kept within the node.";
const NEGOTIATED: &str = "what the server takes, at most 1048576";

const FATAL: &[&str] = &["default", "ENETDOWN:ENETUNREACH", "ENETUNREACH:ENETDOWN", "none"];
const PROTOCOLS: &[&str] = &["tcp", "tcp6", "udp", "udp6", "rdma", "rdma6"];
const PROTOCOL: ValueKind =
    ValueKind::OneOfOrBare { words: PROTOCOLS, bare: &["tcp", "udp", "rdma"] };
const OTHER_PROTOCOLS: &[&str] = &["tcp6", "udp", "udp6", "rdma", "rdma6"];
const FLAVOURS: &[&str] = &[
    "sys", "none", "null", "krb5", "krb5i", "krb5p", "lkey", "lkeyi", "lkeyp", "spkm3", "spkm3i",
    "spkm3p", "spkm", "spkmi", "spkmp",
];
const NEED_GSS: &[&str] = &[
    "krb5", "krb5i", "krb5p", "lkey", "lkeyi", "lkeyp", "spkm", "spkmi", "spkmp", "spkm3",
    "spkm3i", "spkm3p",
];

const OFFERED: &str = "the mount target offers 3 and 4.0";
const NEEDS_41: &str = "it needs NFS 4.1, and the mount target offers 3 and 4.0";
const LOCKS: &str = "NFSv3 locks over the network need rpc.statd and connections beside the tunnel";
const NO_KERBEROS: &str = "the mount target knows AUTH_SYS only, and the tunnel protects the wire";
const TCP_ONLY: &str = "the tunnel carries TCP only";
const TUNNEL_IS_TCP: &str = "the tunnel is always TCP";
const TUNNEL_DECIDES: &str = "the tunnel decides where the kernel connects to";
const TUNNEL_ENCRYPTS: &str = "the tunnel encrypts; the kernel's own TLS is not needed";
const NO_TUNNEL: &str = "it is for the vendor's TLS tunnel, and a plain NFS mount has none";
const STANDARD_PROGRAM: &str = "the kernel always uses the standard program";
const ANOTHER_OPERATION: &str = "it is an operation of its own, not an option of a mount";
const HISTORY: &str = "Linux no longer has it";
const LOCAL: &str = "it is for local file systems";
const FOR_MOUNT_8: &str = "it is for mount(8) and the like, not for the file system";

/// A row for the kernel's NFS client, for all versions; the methods below make it something else.
const fn row(name: &'static str, value: ValueKind, help: &'static str) -> NfsOption {
    let meaning = Meaning {
        consumer: Consumer::Kernel,
        default: Preset::None,
        refused_words: &[],
        why_refused: "",
    };
    let (aliases, versions) = (&[], Versions::Any);
    NfsOption { name, aliases, value, versions, tunnel: meaning, direct: meaning, help }
}

/// Methods that name neither set of rules speak of both.
impl NfsOption {
    const fn also(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn only(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    const fn default(self, default: Preset) -> Self {
        let tunnel = Meaning { default, ..self.tunnel };
        Self { tunnel, ..self }.direct_default(default)
    }

    const fn direct_default(self, default: Preset) -> Self {
        Self { direct: Meaning { default, ..self.direct }, ..self }
    }

    const fn driver(self) -> Self {
        self.for_both(Consumer::Driver)
    }

    const fn attribute(self) -> Self {
        self.for_both(Consumer::Attribute)
    }

    const fn ignored(self, why: &'static str) -> Self {
        self.for_both(Consumer::Ignored(why))
    }

    const fn tunnel_ignored(self, why: &'static str) -> Self {
        self.through_tunnel(Consumer::Ignored(why))
    }

    const fn refused(self, why: &'static str) -> Self {
        self.for_both(Consumer::Refused(why))
    }

    const fn tunnel_refused(self, why: &'static str) -> Self {
        self.through_tunnel(Consumer::Refused(why))
    }

    const fn direct_refused(self, why: &'static str) -> Self {
        Self { direct: Meaning { consumer: Consumer::Refused(why), ..self.direct }, ..self }
    }

    const fn tunnel_refuses(
        self,
        refused_words: &'static [&'static str],
        why_refused: &'static str,
    ) -> Self {
        Self { tunnel: Meaning { refused_words, why_refused, ..self.tunnel }, ..self }
    }

    const fn direct_refuses(
        self,
        refused_words: &'static [&'static str],
        why_refused: &'static str,
    ) -> Self {
        Self { direct: Meaning { refused_words, why_refused, ..self.direct }, ..self }
    }

    const fn for_both(self, consumer: Consumer) -> Self {
        let direct = Meaning { consumer, ..self.direct };
        Self { direct, ..self }.through_tunnel(consumer)
    }

    const fn through_tunnel(self, consumer: Consumer) -> Self {
        Self { tunnel: Meaning { consumer, ..self.tunnel }, ..self }
    }
}

const fn number(least: u64, most: u64) -> ValueKind {
    ValueKind::Number { least, most }
}

const fn one_of(words: &'static [&'static str]) -> ValueKind {
    ValueKind::OneOf(words)
}
