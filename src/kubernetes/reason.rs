//! Everything that this driver ever says in an event: one table, each row with a name that never changes.
//!
//! A reason is for programs and for searching, the message of an event for people. docs/events.md is written from here.

/// How an event is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For information.
    Normal,
    /// Somebody should do something.
    Warning,
}

impl Level {
    /// The word of the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Of which process an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The node plugin, of a mount on its node.
    Node,
    /// The controller, of a mount target that volumes use.
    Controller,
}

/// What is known about a reason.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, for ever.
    pub name: &'static str,
    /// How it is marked.
    pub level: Level,
    /// Who says it.
    pub speaker: Speaker,
    /// What has happened, as a sentence without its dot.
    pub help: &'static str,
    /// What to do, the same.
    pub remedy: &'static str,
}

macro_rules! reasons {
    ($($speaker:ident $level:ident $name:ident: $help:literal, $remedy:literal;)*) => {
        /// Why something is said. The meaning of each stands in its row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the table says what each means, and is printed")]
        pub enum Reason {
            $($name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What is known about it.
            #[must_use]
            pub fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        name: stringify!($name),
                        level: Level::$level,
                        speaker: Speaker::$speaker,
                        help: $help,
                        remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

reasons! {
    Node Warning MountTargetNameNotFound:
        "The mount target's domain does not resolve on the node",
        "Correct the domain; mount targets resolve only inside their VPC";
    Node Warning MountTargetUnreachable:
        "No way leads to the mount target, or nobody listens there",
        "Check routes, the mount target's state and its port";
    Node Warning MountTargetSilent:
        "The mount target does not answer",
        "Check security groups, the permission group, and that the node is in the mount target's VPC";
    Node Warning EncryptionRefused:
        "The server does not speak TLS there, breaks the handshake off, or shares no version or cipher with this driver",
        "Use a mount target that was made with encryption in transit, and the right tlsPort";
    Node Warning CertificateUntrusted:
        "The server's certificate is signed by nobody who is trusted, or was revoked",
        "Give the authority in the chart's tunnel.ca or the volume's caBundle, or find out who answers there";
    Node Warning CertificateWrongName:
        "The server's certificate is for another name",
        "Use the mount target's own domain as server, or set tlsServerName";
    Node Warning CertificateExpired:
        "The server's certificate has expired, or is not valid yet",
        "Check the node's clock; if it is right, have the certificate renewed";
    Node Warning ClientCertificateFailed:
        "No certificate could be made to show the server who mounts",
        "Check the credentials of RAM that the volume names";
    Node Warning AccessDenied:
        "The mount target does not let the node in",
        "Add the node's address to the permission group of the mount target";
    Node Warning DirectoryMissing:
        "The volume's directory is not on the file system, or is none",
        "Create it, or correct the path of the volume";
    Node Warning MountOptionRefused:
        "The kernel or the server refuses a mount option",
        "Correct mountOptions or options, which the message names";
    Node Warning MountConflict:
        "Something else is mounted in the volume's place, or the same volume in another way",
        "Delete the pods that use it in the other way, or make the options the same";
    Node Warning MountFailed:
        "The mount failed for another reason, which the message says",
        "Do what the message says";
    Node Warning VolumeNotUnmounted:
        "A mount does not go away",
        "See which process holds it; it is tried again";
    Node Warning NodeLacksNfs:
        "The node's kernel lacks what the mount needs, or the plugin its privileges",
        "Load the kernel module that the message names, or run the node plugin privileged";
    Node Warning TunnelUnavailable:
        "The node has no tunnel to give: the watchdog or its tunnel process does not serve",
        "Look at the log of the watchdog container on that node";
    Node Warning WrongNetworkNamespace:
        "The node plugin and the watchdog are not on the node's own network",
        "Run both with hostNetwork: true";
    Node Warning ZoneUnknown:
        "Topology is asked for, and neither the node's labels nor its metadata say its zone",
        "Label the node with topology.kubernetes.io/zone";
    Node Normal StartupTaintRemoved:
        "The kubelet has registered the driver, and the node takes pods that use it",
        "Nothing";
    Controller Normal MountTargetMoved:
        "The mount target's domain leads to another address; mounts follow at their next connection",
        "Nothing; allow the new address where a firewall names the old one";
    Controller Warning MountTargetDisabled:
        "The mount target has been switched off: whoever uses the volume waits",
        "Switch it on in the console of NAS";
    Controller Warning MountTargetDeleted:
        "The mount target has been deleted: whoever uses the volume waits for good",
        "Make another mount target for the file system, and PersistentVolumes that name it";
    Controller Warning MountTargetGone:
        "The mount target's domain no longer resolves",
        "See whether the mount target was deleted; if not, check the cluster's DNS";
    Controller Warning MountTargetNotAnswering:
        "The mount target has not answered the controller for some time",
        "Check security groups, the permission group and the file system's state";
    Controller Warning MountTargetInsecure:
        "What answers at the mount target cannot prove that it is the mount target",
        "Find out who answers there; mounts refuse it, too";
    Controller Warning CertificateExpiring:
        "The mount target's certificate ends soon",
        "The vendor renews it; if it is your own, renew it now";
    Controller Normal MountTargetBack:
        "The mount target is as it should be again",
        "Nothing";
}

/// The document about all of them.
#[must_use]
pub fn page() -> String {
    let mut page = PREFACE.to_owned();
    for (speaker, title) in [(Speaker::Node, NODE), (Speaker::Controller, CONTROLLER)] {
        page += title;
        page += "| reason | type | what has happened | what to do |\n| --- | --- | --- | --- |\n";
        for row in Reason::ALL.iter().map(|reason| reason.row()) {
            if row.speaker == speaker {
                let Row { name, level, help, remedy, .. } = row;
                page += &format!("| `{name}` | {} | {help}. | {remedy}. |\n", level.word());
            }
        }
    }
    page
}

const PREFACE: &str = "\
# Events

What a user must act on is said in an event, in one sentence: what was tried, on what, why it failed, what to do. The \
reason never changes, so it may be searched for:

    kubectl get events --all-namespaces --field-selector reason=AccessDenied

The kubelet and the external-provisioner put the sentence of a failed call on the Pod or the claim, too (`FailedMount`, \
`ProvisioningFailed`). What the driver adds are the reasons below, on the PersistentVolumeClaim, where it is seen by who \
owns the data. A claim is known by what the provisioner says at creation; a failed mount of a PersistentVolume that was \
made by hand is said on the Node.

Each is said once: within five minutes the same reason about the same object is counted and not repeated. At most five \
events a second are sent, none is waited for, and what the API server does not take after three attempts is dropped and \
counted (`alinas_csi_controller_events_total`). `events.enabled` in the chart switches them off.

This page is written from the table in the code: `alinas-csi explain --events > docs/events.md`.
";
const NODE: &str = "\n## From the node plugin, on PersistentVolumeClaim, Pod or Node\n\n";
const CONTROLLER: &str =
    "\n## From the controller, on PersistentVolume and PersistentVolumeClaim\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_of_the_api_and_sentences_have_no_dot() {
        for row in Reason::ALL.iter().map(|reason| reason.row()) {
            // The API takes up to 128 bytes; by convention it is one word in CamelCase.
            assert!(row.name.len() < 64 && row.name.chars().all(char::is_alphanumeric));
            for sentence in [row.help, row.remedy] {
                assert!(!sentence.ends_with('.') && !sentence.contains('|'), "{}", row.name);
            }
        }
    }

    /// Renewed by `alinas-csi explain --events > docs/events.md`.
    #[test]
    fn the_document_about_events_is_what_the_table_says() {
        let committed = include_str!("../../docs/events.md");
        assert!(committed == page(), "docs/events.md is old; renew it (see above)");
    }
}
