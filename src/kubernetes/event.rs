//! One thing said about one object, and the form that the API has for it.

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::core::v1::EventSource;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::kubernetes::reason::Reason;
use crate::runtime::Moment;

/// The API's limit for a message of events.k8s.io/v1.
const LONGEST_MESSAGE: usize = 1024;
/// Leaves room for what makes the name of an event one.
const LONGEST_NAME: usize = 200;
/// Where events about objects without a namespace are.
const NAMESPACE_OF_NONE: &str = "default";

/// The object that something is said about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct About {
    kind: Kind,
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Pod,
    Claim,
    Volume,
    Node,
}

impl About {
    /// A pod. Without its uid `kubectl describe` does not show what is said.
    #[must_use]
    pub fn pod(namespace: &str, name: &str, uid: &str) -> Self {
        Self::new(Kind::Pod, namespace, name, uid)
    }

    /// A PersistentVolumeClaim.
    #[must_use]
    pub fn claim(namespace: &str, name: &str, uid: &str) -> Self {
        Self::new(Kind::Claim, namespace, name, uid)
    }

    /// A PersistentVolume.
    #[must_use]
    pub fn volume(name: &str, uid: &str) -> Self {
        Self::new(Kind::Volume, "", name, uid)
    }

    /// A node. Its uid in events is its name: so it is with the kubelet's, and `kubectl describe node` looks for it.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self::new(Kind::Node, "", name, name)
    }

    fn new(kind: Kind, namespace: &str, name: &str, uid: &str) -> Self {
        let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.to_owned());
        Self { kind, namespace, name, uid }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace that events about it are in.
    #[must_use]
    pub fn events_namespace(&self) -> &str {
        if self.namespace.is_empty() { NAMESPACE_OF_NONE } else { &self.namespace }
    }

    fn reference(&self) -> ObjectReference {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        ObjectReference {
            api_version: some("v1"),
            kind: some(self.kind.word()),
            namespace: some(&self.namespace),
            name: some(&self.name),
            uid: some(&self.uid),
            ..ObjectReference::default()
        }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Claim => "PersistentVolumeClaim",
            Self::Volume => "PersistentVolume",
            Self::Node => "Node",
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, .. } = self;
        match namespace.as_str() {
            "" => write!(f, "{} {name}", kind.word()),
            namespace => write!(f, "{} {namespace}/{name}", kind.word()),
        }
    }
}

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// About what.
    pub about: About,
    /// Why.
    pub reason: Reason,
    /// For people: one line, without a secret.
    pub message: String,
}

/// Who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The driver's name.
    pub component: String,
    /// The node, where it is the word of one: that of another node is another event. Empty for the controller, whose
    /// replicas say the same.
    pub instance: String,
}

impl Source {
    /// The same name for the same reason about the same object, whichever process says it: whoever comes second is told
    /// by the API that it has been said.
    #[must_use]
    pub fn event_name(&self, about: &About, reason: Reason) -> String {
        let whole = format!(
            "{} {} {about} {} {}",
            self.component,
            self.instance,
            about.uid,
            reason.row().name
        );
        let digest = digest::digest(&digest::SHA256, whole.as_bytes());
        let mut name: String = about.name.chars().take(LONGEST_NAME).collect();
        name.truncate(name.trim_end_matches(['.', '-']).len());
        name.push('.');
        name.extend(HEXLOWER.encode(digest.as_ref()).chars().take(16));
        name
    }

    /// The event, said for the first time at `now`.
    #[must_use]
    pub fn event(&self, report: &Report, now: Moment) -> Event {
        let row = report.reason.row();
        let at = time(now);
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(self.event_name(&report.about, report.reason)),
                namespace: some(report.about.events_namespace()),
                ..ObjectMeta::default()
            },
            involved_object: report.about.reference(),
            reason: some(row.name),
            type_: some(row.level.word()),
            message: Some(shortened(&report.message)),
            count: Some(1),
            first_timestamp: Some(at.clone()),
            last_timestamp: Some(at),
            reporting_component: some(&self.component),
            reporting_instance: some(&self.instance),
            source: Some(EventSource {
                component: some(&self.component),
                host: some(&self.instance),
            }),
            ..Event::default()
        }
    }
}

/// The time on the wall as the API has it.
#[must_use]
pub fn time(now: Moment) -> Time {
    Time(Timestamp::from_second(now.epoch_seconds()).unwrap_or_default())
}

/// Cut where the API would refuse it.
#[must_use]
pub fn shortened(message: &str) -> String {
    const CUT: &str = " …";
    if message.len() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    let most = LONGEST_MESSAGE - CUT.len();
    let end = (0..=most).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
    format!("{}{CUT}", message.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use std::time::Instant;

    use super::*;

    fn source(instance: &str) -> Source {
        Source {
            component: "alinas.csi.alibabacloud.com".to_owned(),
            instance: instance.to_owned(),
        }
    }

    #[test]
    fn an_event_has_what_kubectl_describe_looks_for() {
        let now = Moment { steady: Instant::now(), wall: Duration::from_secs(1_700_000_000) };
        let report = Report {
            about: About::claim("shop", "data", "u-1"),
            reason: Reason::AccessDenied,
            message: "no".to_owned(),
        };
        let event = serde_json::to_value(source("node-1").event(&report, now)).unwrap();
        for (pointer, value) in [
            ("/involvedObject/kind", "PersistentVolumeClaim"),
            ("/involvedObject/uid", "u-1"),
            ("/metadata/namespace", "shop"),
            ("/reason", "AccessDenied"),
            ("/type", "Warning"),
            ("/source/host", "node-1"),
            ("/lastTimestamp", "2023-11-14T22:13:20Z"),
        ] {
            assert_eq!(event.pointer(pointer).unwrap(), value, "{pointer} in {event}");
        }
        let node = Report { about: About::node("node-1"), ..report };
        let event = serde_json::to_value(source("node-1").event(&node, now)).unwrap();
        assert_eq!(event.pointer("/metadata/namespace").unwrap(), "default");
        assert_eq!(event.pointer("/involvedObject/uid").unwrap(), "node-1");
        assert!(event.pointer("/involvedObject/namespace").is_none());
    }

    #[test]
    fn the_name_of_an_event_is_that_of_its_object_reason_and_speaker() {
        let claim = About::claim("shop", "data", "u-1");
        let name = |source: Source, about: &About, reason| source.event_name(about, reason);
        let first = name(source("n"), &claim, Reason::AccessDenied);
        assert_eq!(first, name(source("n"), &claim, Reason::AccessDenied));
        assert!(first.starts_with("data."), "{first}");
        for other in [
            name(source("m"), &claim, Reason::AccessDenied),
            name(source("n"), &claim, Reason::MountFailed),
            name(source("n"), &About::claim("shop", "data", "u-2"), Reason::AccessDenied),
            name(source("n"), &About::volume("data", "u-1"), Reason::AccessDenied),
        ] {
            assert_ne!(first, other);
        }
        let long = About::claim("shop", &"a".repeat(253), "u");
        assert!(name(source("n"), &long, Reason::MountFailed).len() <= 253);
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        for message in ["é".repeat(1000), format!("a{}", "é".repeat(1000)), "x".repeat(1025)] {
            let cut = shortened(&message);
            assert!(cut.len() <= LONGEST_MESSAGE && cut.ends_with('…'), "{}", cut.len());
        }
        assert_eq!(shortened("short"), "short");
    }
}
