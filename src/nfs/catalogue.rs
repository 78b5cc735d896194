//! Every sentence that a failed mount can say: one table, each row with an id that never changes.
//!
//! A program, a dashboard or a translation goes by the id; the text may be bettered. Words in braces are filled
//! in by [`fill`]. A cause that reads otherwise through a tunnel than straight to a server has two texts.
//!
//! LONG: it is a table.

/// A sentence for one cause: what happened, and what to do about it.
#[derive(Debug)]
pub struct Message {
    /// Its name, for ever: `nfs.export-missing`.
    pub id: &'static str,
    /// For a mount through a tunnel, to a mount target of NAS.
    pub tunnel: Text,
    /// For a mount straight to a server.
    pub direct: Text,
}

/// Two parts of a line, neither with a dot at its end.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// What happened.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// How a line is put together. {over}, {said}, {elsewhere} and {gave_up} may be empty.
pub(super) const LINE: &str =
    "failed to mount {source} at {target}{over}: {cause}; {remedy}{said}{elsewhere}{gave_up}";
/// What it was tried with.
pub(super) const OVER: &str = " over NFS {version}";
/// What exactly happened, for whoever knows the calls.
pub(super) const SAID: &str = " ({outcome})";
/// The same, where the kernel had words for it.
pub(super) const SAID_BY_KERNEL: &str = " ({outcome}; kernel: {kernel})";
/// What came of another version.
pub(super) const ELSEWHERE: &str = "; over NFS {version}: {cause}{said}";
/// For a mount without TLS of a server of the vendor's, which may take no other than encrypted ones.
pub(super) const ONLY_ENCRYPTED: &str =
    ", and if the mount target takes encrypted mounts only, mount it with TLS";
/// How long an answer was waited for.
pub(super) const WITHIN: &str = " within {seconds} s";
/// How long it was tried.
pub(super) const GAVE_UP: &str = "; gave up after {rounds} rounds in {seconds} s";

/// The table, in alphabetical order of the ids.
pub const CATALOGUE: &[Message] = &[
    each(
        "nfs.already-mounted",
        ("something is mounted there already", "unmount it first, if it is not in use"),
        ("something else is mounted there already", "unmount it first, if it is not in use"),
    ),
    same(
        "nfs.cancelled",
        "it was cancelled",
        "nothing is left of it, so ask again if it is wanted",
    ),
    each(
        "nfs.connection-lost",
        NO_TUNNEL,
        (
            "the server closed the connection without an answer",
            "look at its log, and at what stands between: a load balancer without a server behind it does this",
        ),
    ),
    each(
        "nfs.export-denied",
        (
            "the mount target denied access",
            "allow this node's address in the permission group of the mount target",
        ),
        ("the server denied access", "export the directory to this host"),
    ),
    // An NFSv3 server also says "denied" of a directory that is in no export.
    each(
        "nfs.export-denied-or-missing",
        (
            "the mount target denied access",
            "allow this node's address in the permission group of the mount target, and check that the path of \
             the volume exists there",
        ),
        (
            "the server denied access",
            "export the directory to this host, and check that it exists there",
        ),
    ),
    each(
        "nfs.export-missing",
        (
            "the mount target has no such directory",
            "create it there, or correct the path of the volume",
        ),
        (
            "the server has no such directory for this host",
            "create and export it there, or correct the path",
        ),
    ),
    each(
        "nfs.export-not-directory",
        ("this path is a file on the mount target", "give a directory as the path of the volume"),
        ("this path is a file on the server", "give a directory"),
    ),
    each(
        "nfs.export-stale",
        (
            "the directory was removed on the mount target meanwhile",
            "create it there again, or correct the path of the volume",
        ),
        (
            "the server's export has gone stale: its directory was removed or replaced",
            "export it anew on the server with exportfs -ra",
        ),
    ),
    same(
        "nfs.gssd-missing",
        "sec=krb5 and its like need rpc.gssd on this host, and it does not run ({why})",
        "start it (systemctl start rpc-gssd), or mount with sec=sys",
    ),
    same(
        "nfs.internal",
        "this program made a mistake",
        "please report it with this line and the log",
    ),
    same(
        "nfs.kernel-lacks-nfs",
        "the kernel of this node has no NFS client for this version",
        "load it (modprobe {module}), or install the package that holds it",
    ),
    same(
        "nfs.mountd-connection-lost",
        "the server's mountd closed the connection without an answer",
        "look at its log on the server",
    ),
    same(
        "nfs.mountd-no-answer",
        "the server's mountd did not answer{within}",
        "let its port through the firewalls, or mount with vers=4, which needs no mountd",
    ),
    same(
        "nfs.mountd-not-registered",
        "the server's rpcbind knows no {service} over {transport}",
        "start mountd there, give mountport=, or mount with vers=4, which needs no mountd",
    ),
    same(
        "nfs.mountd-other-protocol",
        "what answers at the port of the server's mountd is not mountd",
        "correct mountport= and mountproto=, or leave them out",
    ),
    same(
        "nfs.mountd-refused",
        "the server's mountd does not listen",
        "start it there, correct mountport=, or mount with vers=4, which needs no mountd",
    ),
    same(
        "nfs.mountd-version",
        "the server's mountd does not speak version {mount_version} of its protocol",
        "try another mountvers=, or vers=4, which needs no mountd",
    ),
    same("nfs.name-not-found", "the name {host} has no address: {why}", "correct the name"),
    same(
        "nfs.name-servers-silent",
        "the address of {host} could not be found: {why}",
        "look at this host's name servers",
    ),
    same("nfs.name-too-long", "a path or a name in it is too long", "shorten it"),
    same(
        "nfs.name-without-family",
        "{host} has no {family} address",
        "give it one, or use proto={other_family}",
    ),
    same(
        "nfs.nfs-not-registered",
        "the server's rpcbind knows no {service} over {transport}",
        "start the service there, or give port=",
    ),
    each(
        "nfs.no-answer",
        (
            "no answer through the tunnel at {endpoint}{within}",
            "check that the mount target is active and its security group lets this node in",
        ),
        (
            "the server did not answer{within}",
            "check that it runs and that firewalls let NFS through",
        ),
    ),
    same(
        "nfs.no-common-version",
        "the server serves none of the NFS versions that were tried: {versions}",
        "enable one of them there",
    ),
    same(
        "nfs.no-resources",
        "this host is short of something that passes: memory, open files or ports",
        "try again later, and see the end of this line",
    ),
    same(
        "nfs.not-privileged",
        "this process is not permitted to mount",
        "the node container must be privileged, and the command line must run as root",
    ),
    same(
        "nfs.option-refused",
        "the kernel refused the mount option {option}",
        "correct or remove it in the mount options",
    ),
    same(
        "nfs.options-refused",
        "the kernel refused one of the mount options",
        "correct or remove it in the mount options",
    ),
    same(
        "nfs.options-too-long",
        "the mount options are longer than the kernel takes",
        "remove some",
    ),
    OTHER,
    same(
        "nfs.other-protocol",
        "what answers at the server's NFS port does not speak NFS",
        "correct the server or port=",
    ),
    same(
        "nfs.rdma-no-device",
        "no RDMA device of this host leads to the server",
        "check the route and the device (rdma link), or mount with proto=tcp",
    ),
    each(
        "nfs.refused",
        NO_TUNNEL,
        (
            "nothing listens at the server's NFS port",
            "start the NFS service there, or correct the server or port=",
        ),
    ),
    same(
        "nfs.rpcbind-connection-lost",
        "the server's rpcbind closed the connection without an answer",
        "look at its log on the server",
    ),
    same(
        "nfs.rpcbind-no-answer",
        "the server's rpcbind did not answer{within}",
        "let port 111 through the firewalls, or give port= and mountport=",
    ),
    same(
        "nfs.rpcbind-other-protocol",
        "what answers at the server's port 111 is not rpcbind",
        "correct the server, or give port= and mountport=",
    ),
    same(
        "nfs.rpcbind-refused",
        "the server's rpcbind does not listen",
        "start it there, give port= and mountport=, or mount with vers=4",
    ),
    same(
        "nfs.security-offered",
        "the server exports the directory for {flavours} only",
        "mount with one of these (krb5 and its like need rpc.gssd on this host), or change sec= of its export",
    ),
    each(
        "nfs.security-refused",
        (
            "the mount target does not permit this kind of access",
            "remove sec= from the mount options",
        ),
        (
            "the server does not permit this kind of access",
            "choose another sec=, or change sec= of its export",
        ),
    ),
    each(
        "nfs.server-failed",
        ("the mount target reports a failure of its own", "try again later"),
        ("the server reports a failure of its own", "look at its log"),
    ),
    same(
        "nfs.statd-missing",
        "locks over NFS 3 need rpc.statd on this host, and it does not run ({why})",
        "start it (systemctl start rpc-statd), keep locks within this host (nolock or local_lock=all), or mount \
         with vers=4",
    ),
    same(
        "nfs.target-loops",
        "the path to mount at has too many symbolic links",
        "give a path without them",
    ),
    same(
        "nfs.target-missing",
        "the directory to mount at does not exist on this node",
        "create it",
    ),
    same(
        "nfs.target-no-answer",
        "the way to the directory to mount at leads through a file system that does not answer",
        "unmount what is dead there with umount -l",
    ),
    same(
        "nfs.target-not-directory",
        "the path to mount at is no directory on this node",
        "remove what is there",
    ),
    same(
        "nfs.tlshd-missing",
        "xprtsec= needs tlshd on this host, and it does not run ({why})",
        "start it (systemctl start tlshd), or mount without xprtsec=",
    ),
    same(
        "nfs.transport-not-in-kernel",
        "the kernel of this node has no NFS over {transport}",
        "mount with proto=tcp",
    ),
    same(
        "nfs.udp-needs-version-3",
        "NFS 4 does not run over UDP",
        "mount with proto=tcp or with vers=3",
    ),
    each(
        "nfs.unreachable",
        NO_TUNNEL,
        ("no way leads to the server", "check its address, the routes and the firewalls"),
    ),
    each(
        "nfs.version-not-served",
        (
            "the mount target does not serve this NFS version",
            "try the mount option {other_version}",
        ),
        (
            "the server does not serve this NFS version",
            "enable it there, or leave vers= out to take one that it serves",
        ),
    ),
    same(
        "nfs.worker-failed",
        "no process could be had to mount in",
        "see the end of this line, and try again",
    ),
];

const OTHER: Message =
    same("nfs.other", "for a reason that may pass", "try again, and see the end of this line");

static FALLBACK: Message = OTHER;

const NO_TUNNEL: (&str, &str) = (
    "no connection through the tunnel at {endpoint}",
    "see the tunnel's log and `alinas-csi status` for whether it runs and reaches the mount target",
);

const fn same(id: &'static str, cause: &'static str, remedy: &'static str) -> Message {
    each(id, (cause, remedy), (cause, remedy))
}

const fn each(
    id: &'static str,
    tunnel: (&'static str, &'static str),
    direct: (&'static str, &'static str),
) -> Message {
    Message {
        id,
        tunnel: Text { cause: tunnel.0, remedy: tunnel.1 },
        direct: Text { cause: direct.0, remedy: direct.1 },
    }
}

/// The row of an id; that of `nfs.other` for one that is not in the table.
#[must_use]
pub fn message(id: &str) -> &'static Message {
    CATALOGUE.iter().find(|message| message.id == id).unwrap_or(&FALLBACK)
}

/// The table as a document has it: a row for each way in which a sentence reads.
#[must_use]
pub fn table() -> String {
    let mut table =
        "| id | mount | what has happened | what to do |\n| --- | --- | --- | --- |\n".to_owned();
    for Message { id, tunnel, direct } in CATALOGUE {
        if tunnel.cause == direct.cause && tunnel.remedy == direct.remedy {
            table += &row(id, "any", tunnel);
        } else {
            table += &row(id, "tunnel", tunnel);
            table += &row(id, "plain", direct);
        }
    }
    table
}

fn row(id: &str, way: &str, text: &Text) -> String {
    let cause = fill(text.cause, &[("within", String::new())]);
    format!("| `{id}` | {way} | {cause} | {} |\n", text.remedy)
}

/// A template with its words filled in. A word without a value stays as it is, and what a value holds is never
/// taken for a word.
#[must_use]
pub(super) fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut parts = template.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (word, rest) = part.split_once('}').unwrap_or((part, ""));
        match values.iter().find(|(name, _)| *name == word) {
            Some((_, value)) => text.push_str(value),
            None => text.extend(["{", word, "}"]),
        }
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are for ever: a row may be added here, and none may go or change.
    const IDS: &[&str] = &[
        "nfs.already-mounted",
        "nfs.cancelled",
        "nfs.connection-lost",
        "nfs.export-denied",
        "nfs.export-denied-or-missing",
        "nfs.export-missing",
        "nfs.export-not-directory",
        "nfs.export-stale",
        "nfs.gssd-missing",
        "nfs.internal",
        "nfs.kernel-lacks-nfs",
        "nfs.mountd-connection-lost",
        "nfs.mountd-no-answer",
        "nfs.mountd-not-registered",
        "nfs.mountd-other-protocol",
        "nfs.mountd-refused",
        "nfs.mountd-version",
        "nfs.name-not-found",
        "nfs.name-servers-silent",
        "nfs.name-too-long",
        "nfs.name-without-family",
        "nfs.nfs-not-registered",
        "nfs.no-answer",
        "nfs.no-common-version",
        "nfs.no-resources",
        "nfs.not-privileged",
        "nfs.option-refused",
        "nfs.options-refused",
        "nfs.options-too-long",
        "nfs.other",
        "nfs.other-protocol",
        "nfs.rdma-no-device",
        "nfs.refused",
        "nfs.rpcbind-connection-lost",
        "nfs.rpcbind-no-answer",
        "nfs.rpcbind-other-protocol",
        "nfs.rpcbind-refused",
        "nfs.security-offered",
        "nfs.security-refused",
        "nfs.server-failed",
        "nfs.statd-missing",
        "nfs.target-loops",
        "nfs.target-missing",
        "nfs.target-no-answer",
        "nfs.target-not-directory",
        "nfs.tlshd-missing",
        "nfs.transport-not-in-kernel",
        "nfs.udp-needs-version-3",
        "nfs.unreachable",
        "nfs.version-not-served",
        "nfs.worker-failed",
    ];

    #[test]
    fn ids_are_unique_and_none_is_ever_lost() {
        let ids: Vec<_> = CATALOGUE.iter().map(|message| message.id).collect();
        assert_eq!(ids, IDS);
        assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    }

    #[test]
    fn every_text_is_a_part_of_one_line() {
        for message in CATALOGUE {
            for text in [message.tunnel, message.direct] {
                for part in [text.cause, text.remedy] {
                    let ends_well = !part.ends_with(['.', ' ', ';']) && !part.starts_with(' ');
                    // A stroke would end a cell of the document's table.
                    let is_cell = !part.contains(['\n', '|']);
                    assert!(!part.is_empty() && ends_well && is_cell, "{part:?}");
                }
            }
        }
    }

    #[test]
    fn words_are_filled_in_and_values_are_left_alone() {
        let values = [("a", "{b}".to_owned()), ("b", "2".to_owned())];
        assert_eq!(fill("x{a}y{b}{c}z", &values), "x{b}y2{c}z");
        assert_eq!(fill("", &values), "");
        assert_eq!(fill("{a", &values), "{b}");
    }
}
