//! What is looked at, and what was found. The table of checks is also that of docs/doctor.md.

use std::fmt::Write;

use serde::Serialize;

/// One thing that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Check {
    Kernel,
    Privileges,
    NetworkNamespace,
    KubeletDirectory,
    Watchdog,
    Tunnels,
    Mounts,
    LocalPort,
    OtherClients,
    NameServers,
    Clock,
    Api,
    MountTarget,
    Name,
    Route,
    Connect,
    Tls,
    TlsVersions,
    Certificate,
    ClientCertificate,
    NfsVersions,
    RoundTrip,
    Export,
}

/// A line of the table: the check, its word, whether it is of the server, and what it looks at.
struct Row(Check, &'static str, Of, &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Node,
    Server,
}

/// In the order in which they are looked at: each rests on those before it.
const TABLE: [Row; 23] = [
    Row(Check::Kernel, "kernel", Of::Node, "its release, and whether it knows NFS"),
    Row(Check::Privileges, "privileges", Of::Node, "whether this process may mount"),
    Row(
        Check::NetworkNamespace,
        "network-namespace",
        Of::Node,
        "whether it is the host's, where mounts look for their tunnels",
    ),
    Row(
        Check::KubeletDirectory,
        "kubelet-directory",
        Of::Node,
        "whether a mount made below it is seen by pods (mount propagation)",
    ),
    Row(Check::Watchdog, "watchdog", Of::Node, "whether it answers, and its tunnel process runs"),
    Row(Check::Tunnels, "tunnels", Of::Node, "whether the servers answer through the tunnels"),
    Row(
        Check::Mounts,
        "mounts",
        Of::Node,
        "whether every NFS mount through loopback finds its tunnel",
    ),
    Row(
        Check::LocalPort,
        "local-port",
        Of::Node,
        "whether somebody else has the port of the tunnels",
    ),
    Row(
        Check::OtherClients,
        "other-clients",
        Of::Node,
        "whether the vendor's client has mounts here",
    ),
    Row(Check::NameServers, "name-servers", Of::Node, "whether the resolver has any"),
    Row(
        Check::Clock,
        "clock",
        Of::Node,
        "how far it is from the `Date` that the API of NAS answers with, where that is set up",
    ),
    Row(
        Check::Api,
        "api",
        Of::Node,
        "where `--nas-region` is set: whether there are credentials, from where, and whether they may list file systems",
    ),
    Row(Check::MountTarget, "mount-target", Of::Server, "what the form of the domain says"),
    Row(Check::Name, "name", Of::Server, "whether the domain resolves, and to what"),
    Row(Check::Route, "route", Of::Server, "which address of this node packets leave from"),
    Row(
        Check::Connect,
        "connect",
        Of::Server,
        "which ports take a TCP connection, and in what time",
    ),
    Row(
        Check::Tls,
        "tls",
        Of::Server,
        "a handshake and an NFS call, verified as for a mount: version, cipher suite, key exchange",
    ),
    Row(Check::TlsVersions, "tls-versions", Of::Server, "whether the server speaks TLS 1.3"),
    Row(
        Check::Certificate,
        "certificate",
        Of::Server,
        "which one of the chain ends first, and when",
    ),
    Row(
        Check::ClientCertificate,
        "client-certificate",
        Of::Server,
        "whether the server asks for one",
    ),
    Row(Check::NfsVersions, "nfs-versions", Of::Server, "whether NFSv3 and NFSv4 are offered"),
    Row(Check::RoundTrip, "round-trip", Of::Server, "the time of NFS NULL calls through TLS"),
    Row(Check::Export, "export", Of::Server, "whether the server lets this node mount the path"),
];

/// How it stands with what was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// It works, or may work, and is worth a look.
    Warning,
    /// It does not work.
    Failed,
    /// It was not looked at.
    Skipped,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) verdict: Verdict,
    /// One line.
    pub(super) found: String,
    /// What to do, where there is something to do.
    pub(super) remedy: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Diagnosis {
    pub(super) findings: Vec<Finding>,
    /// One sentence.
    pub(super) advice: String,
}

impl Check {
    pub(super) fn word(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

impl Finding {
    pub(super) fn ok(check: Check, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    pub(super) fn warning(check: Check, found: impl Into<String>, remedy: &str) -> Self {
        let (found, remedy) = (found.into(), Some(remedy.to_owned()));
        Self { check, verdict: Verdict::Warning, found, remedy }
    }

    pub(super) fn failed(check: Check, found: impl Into<String>, remedy: &str) -> Self {
        Self { verdict: Verdict::Failed, ..Self::warning(check, found, remedy) }
    }

    pub(super) fn skipped(check: Check, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, ..Self::ok(check, why) }
    }

    /// The check, what was found, what to do about it.
    fn sentence(&self) -> String {
        let Self { check, found, remedy, .. } = self;
        match remedy.as_deref().unwrap_or_default() {
            "" => format!("{:?}: {found}", check.word()),
            remedy => format!("{:?}: {found}; {remedy}", check.word()),
        }
    }

    /// From the text of a fault: this driver's say behind a semicolon what to do.
    pub(super) fn of_fault(check: Check, fault: &impl ToString) -> Self {
        let text = fault.to_string();
        match text.split_once("; ") {
            Some((found, remedy)) => Self::failed(check, found, remedy),
            None => Self::failed(check, text, ""),
        }
    }
}

impl Diagnosis {
    /// Puts the findings in order and says of what is missing that it was not looked at.
    pub(super) fn of(mut findings: Vec<Finding>, server_was_asked_for: bool) -> Self {
        let broken = findings.iter().find(|it| it.verdict == Verdict::Failed).map(|it| it.check);
        for Row(check, _, of, _) in &TABLE {
            let wanted = *of == Of::Node || server_was_asked_for;
            if wanted && !findings.iter().any(|finding| finding.check == *check) {
                let why = match broken {
                    Some(broken) => format!("not looked at: it needs {:?}", broken.word()),
                    None => "not looked at".to_owned(),
                };
                findings.push(Finding::skipped(*check, why));
            }
        }
        findings.sort_by_key(|it| TABLE.iter().position(|row| row.0 == it.check));
        let advice = advice(&findings, server_was_asked_for);
        Self { findings, advice }
    }

    pub(super) fn is_failed(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Failed)
    }
}

/// The first thing that fails is what to look at: what comes later may rest on it.
fn advice(findings: &[Finding], server_was_asked_for: bool) -> String {
    let first = |verdict| findings.iter().find(|finding| finding.verdict == verdict);
    match (first(Verdict::Failed), first(Verdict::Warning)) {
        (Some(failed), _) => format!("mend {}.", failed.sentence()),
        (None, Some(warning)) => format!("it should work; look at {}.", warning.sentence()),
        (None, None) if server_was_asked_for => {
            "nothing: this node can mount from that server, encrypted.".to_owned()
        }
        (None, None) => {
            "nothing on this node; name a mount target to look further: alinas-csi doctor DOMAIN:/PATH."
                .to_owned()
        }
    }
}

/// For people: a line for each finding, what to do last.
pub(super) fn table(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for Finding { check, verdict, found, .. } in &diagnosis.findings {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "-",
        };
        // Into a string: never fails.
        let _ = writeln!(text, "{verdict:<8} {:<19} {found}", check.word());
    }
    let _ = writeln!(text, "\nWhat to do: {}", diagnosis.advice);
    text
}

/// The document about all checks.
pub(in crate::app) fn page() -> String {
    let mut text = HEAD.to_owned();
    for (of, title) in [(Of::Node, "Of the node"), (Of::Server, "Of the server")] {
        let _ = writeln!(text, "\n## {title}\n\n| check | what is looked at |\n| --- | --- |");
        for Row(_, word, _, what) in TABLE.iter().filter(|row| row.2 == of) {
            let _ = writeln!(text, "| `{word}` | {what} |");
        }
    }
    text + BUNDLE
}

const HEAD: &str = "\
# What `alinas-csi doctor` looks at

Printed by `alinas-csi explain --doctor`; a test holds this file to it.

    alinas-csi doctor                                     # this node
    alinas-csi doctor DOMAIN:/PATH                        # and a mount target, seen from this node
    kubectl exec -n kube-system ds/alinas-csi-node -c watchdog -- /alinas-csi doctor DOMAIN:/PATH
    kubectl alinas doctor --node NAME DOMAIN:/PATH        # by the plugin of kubectl (docs/status.md)

The checks are done in this order; each rests on those before it, so the first that fails is the one to mend, and the
last line says how. Nothing is mounted and nothing is changed. It ends with 1 where a check has failed, else with 0;
`-o json` and `-o yaml` are for machines.

The API of NAS is asked with the settings of the controller, so ask there:

    kubectl exec -n kube-system deploy/alinas-csi-controller -c controller -- /alinas-csi doctor

The clock is compared with the API's answers alone, to whole seconds. A mount target tells no time: its certificate only
says whether it is valid by this machine's clock, which `tls` finds out. The API is asked once without a signature, for
its `Date`, and once for the number of file systems (`nas:DescribeFileSystems`).
";

const BUNDLE: &str = "
## A support archive

    alinas-csi doctor --bundle bundle.tar DOMAIN:/PATH
    kubectl exec -n kube-system ds/alinas-csi-node -c watchdog -- /alinas-csi doctor --bundle - > bundle.tar
    kubectl alinas doctor --node NAME --bundle bundle.tar DOMAIN:/PATH

It has the findings, what `status` says, version and kernel, the NFS mounts of the kernel's table, the settings, the
records of the state directory and the last lines of log files (`notes.txt` says what is missing). Logs of pods are not
in it: add what `kubectl logs` says. It is a plain tar of 10 MiB at most; FILE gets mode
0600. Where it cannot be written doctor ends with 64, after its findings.

No secret is put into it: of the vendor's variables it is told that they are set and no more, and what this process can
find out about tokens, access key secrets and private keys is taken out of every text. Names of mount targets, volumes
and directories, addresses and perhaps ids of access keys are in it. Look into it before you give it away.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_in_the_table_once() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(!row.0.word().is_empty());
            assert!(TABLE[..index].iter().all(|other| other.0 != row.0 && other.1 != row.1));
        }
    }

    #[test]
    fn the_document_is_the_one_that_is_printed() {
        assert_eq!(page(), include_str!("../../../docs/doctor.md"));
    }

    #[test]
    fn the_first_failure_is_what_to_mend_and_what_rests_on_it_is_not_looked_at() {
        let fault = "failed to resolve nas.example.com: no such name; check this node's DNS";
        let findings = vec![
            Finding::of_fault(Check::Name, &fault),
            Finding::warning(Check::Privileges, "it may not mount", "ask as root"),
        ];
        let diagnosis = Diagnosis::of(findings, true);
        assert!(diagnosis.is_failed());
        assert_eq!(diagnosis.findings.len(), TABLE.len());
        assert_eq!(diagnosis.advice, format!("mend \"name\": {fault}."));
        let shown = table(&diagnosis);
        for line in [
            "FAILED   name                failed to resolve nas.example.com: no such name\n",
            "-        export              not looked at: it needs \"name\"\n",
            "no such name; check this node's DNS.\n",
        ] {
            assert!(shown.contains(line), "{line}{shown}");
        }
    }

    #[test]
    fn where_nothing_fails_the_first_doubt_is_said_and_else_that_there_is_none() {
        let doubt = Finding::warning(Check::Privileges, "it may not mount", "ask as root");
        let diagnosis = Diagnosis::of(vec![doubt], false);
        let advice = "it should work; look at \"privileges\": it may not mount; ask as root.";
        assert_eq!(diagnosis.advice, advice);
        assert!(!diagnosis.is_failed());
        assert!(!diagnosis.findings.iter().any(|finding| finding.check == Check::Tls));
        for (server, words) in [(true, "this node can mount"), (false, "name a mount target")] {
            let fine = Diagnosis::of(vec![Finding::ok(Check::Kernel, "Linux")], server);
            assert!(fine.advice.contains(words), "{}", fine.advice);
        }
    }
}
