//! What a failed mount is called, and what to do about it: one line for each.
//!
//! The texts are in [`super::catalogue`]; which failure is which is decided in [`super::diagnose`], and which of
//! several failures counts, in [`super::policy`].

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::catalogue;
use super::catalogue::fill;
use super::cause::Cause;
use super::history::History;
use super::request::MountRequest;
use super::request::Way;
use crate::model::DeviceName;
use crate::model::MountTarget;
use crate::model::NfsVersion;

/// Why a mount failed. Its text is one line: what was tried, on what, why it failed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFault {
    /// Why.
    pub cause: Cause,
    /// What was to be mounted, and how.
    pub subject: Subject,
    /// What was tried when it happened.
    pub event: Event,
    /// What came of other versions, in the order in which they were tried.
    pub elsewhere: Vec<(Cause, Event)>,
    /// Whether trying the same again is in vain until somebody changes something.
    pub permanent: bool,
    /// How long it was tried, where it was more than once.
    pub gave_up: Option<GaveUp>,
    /// Everything that was tried. Not part of the text.
    pub history: History,
}

/// What was to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `host:/path`.
    pub source: String,
    /// The local directory.
    pub target: PathBuf,
    /// Where the tunnel listens, if there is one.
    pub tunnel: Option<SocketAddr>,
}

/// What exactly happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The NFS version that was tried, where it came to that.
    pub version: Option<NfsVersion>,
    /// The server's address, where one was talked to directly.
    pub address: Option<String>,
    /// The call that failed and its errno, the question and its answer, or what became of the worker.
    pub outcome: String,
    /// The kernel's words.
    pub kernel: Vec<String>,
}

/// How long it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaveUp {
    /// How often every version and address was tried.
    pub rounds: u32,
    /// From the beginning to the end.
    pub after: Duration,
}

impl MountFault {
    /// A fault by itself, of a mount that was tried once.
    #[must_use]
    pub fn new(cause: Cause, subject: Subject, event: Event) -> Self {
        Self {
            cause,
            subject,
            event,
            elsewhere: Vec::new(),
            permanent: true,
            gave_up: None,
            history: History::default(),
        }
    }

    /// The name of the cause, which never changes: `nfs.export-missing`.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.cause.id()
    }

    /// What the mount command ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.cause.exit_code()
    }

    /// Whether trying the same again is in vain until somebody changes something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// Whether it looks like what a server does that speaks nothing but TLS, or lets nobody else in.
    fn may_lack_encryption(&self) -> bool {
        let so_it_looks = matches!(
            self.cause,
            Cause::ExportDenied
                | Cause::ExportDeniedOrMissing
                | Cause::ConnectionLost(_)
                | Cause::OtherProtocol(_)
        );
        so_it_looks && self.subject.tunnel.is_none() && self.subject.is_of_the_vendor()
    }

    fn cause_text(&self, cause: &Cause, event: &Event) -> String {
        fill(self.subject.text_for(cause).cause, &self.values(cause, event))
    }

    fn values(&self, cause: &Cause, event: &Event) -> Vec<(&'static str, String)> {
        let mut values = cause.values(event.version);
        values.extend(self.subject.tunnel.map(|endpoint| ("endpoint", endpoint.to_string())));
        values
    }

    fn elsewhere_text(&self) -> String {
        let told = |(cause, event): &(Cause, Event)| {
            let values = [
                ("version", event.version.map(|version| version.to_string()).unwrap_or_default()),
                ("cause", self.cause_text(cause, event)),
                ("said", event.said()),
            ];
            fill(catalogue::ELSEWHERE, &values)
        };
        self.elsewhere.iter().map(told).collect()
    }
}

impl fmt::Display for MountFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values(&self.cause, &self.event);
        let mut remedy = fill(self.subject.text_for(&self.cause).remedy, &values);
        if self.may_lack_encryption() {
            remedy.push_str(catalogue::ONLY_ENCRYPTED);
        }
        values.extend([
            ("source", format!("{:?}", self.subject.source)),
            ("target", format!("{:?}", self.subject.target)),
            ("over", self.event.over()),
            ("cause", self.cause_text(&self.cause, &self.event)),
            ("remedy", remedy),
            ("said", self.event.said()),
            ("elsewhere", self.elsewhere_text()),
            ("gave_up", self.gave_up.map(GaveUp::text).unwrap_or_default()),
        ]);
        f.write_str(&fill(catalogue::LINE, &values))
    }
}

impl std::error::Error for MountFault {}

impl Subject {
    pub(super) fn of(request: &MountRequest) -> Self {
        let tunnel = match request.way {
            Way::Tunnel { endpoint, .. } => Some(endpoint),
            Way::Direct => None,
        };
        Self { source: request.device.to_string(), target: request.target.clone(), tunnel }
    }

    /// Whether the server is a mount target or an access point of Alibaba Cloud NAS, by its domain.
    fn is_of_the_vendor(&self) -> bool {
        let device = DeviceName::parse(&self.source);
        let target = device.ok().and_then(|device| MountTarget::parse(device.host()).ok());
        target.is_some_and(|target| target.file_system().is_some())
    }

    fn text_for(&self, cause: &Cause) -> catalogue::Text {
        let message = cause.message();
        if self.tunnel.is_some() { message.tunnel } else { message.direct }
    }
}

impl Event {
    fn over(&self) -> String {
        let version = self.version.map(|version| version.to_string());
        version.map(|version| fill(catalogue::OVER, &[("version", version)])).unwrap_or_default()
    }

    /// For the end of the line: what exactly happened.
    fn said(&self) -> String {
        if self.outcome.is_empty() {
            return String::new();
        }
        let outcome = match &self.address {
            Some(address) => format!("{address}, {}", self.outcome),
            None => self.outcome.clone(),
        };
        let kernel = self.informative_words().join("; ");
        let template = if kernel.is_empty() { catalogue::SAID } else { catalogue::SAID_BY_KERNEL };
        fill(template, &[("outcome", outcome), ("kernel", kernel)])
    }

    /// Linux adds "Couldn't follow remote path" to every failure of NFSv4, whatever it is.
    fn informative_words(&self) -> Vec<&str> {
        let telling = |words: &&str| !words.contains("Couldn't follow remote path");
        self.kernel.iter().map(String::as_str).filter(telling).collect()
    }
}

impl GaveUp {
    fn text(self) -> String {
        let values =
            [("rounds", self.rounds.to_string()), ("seconds", self.after.as_secs().to_string())];
        fill(catalogue::GAVE_UP, &values)
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::Peer;
    use super::*;

    #[test]
    fn a_server_that_may_want_encryption_is_said_to_where_there_is_none() {
        let tunnel = Some("127.0.1.1:12049".parse().unwrap());
        for (source, tunnel, cause, hinted) in [
            ("0-a.cn-x.nas.aliyuncs.com:/", None, Cause::ExportDenied, true),
            ("0-a.cn-x.nas.aliyuncs.com:/a", None, Cause::ConnectionLost(Peer::Nfs), true),
            ("0-a.cn-x.nas.aliyuncs.com:/", None, Cause::NoSuchExport, false),
            ("0-a.cn-x.nas.aliyuncs.com:/", tunnel, Cause::ExportDenied, false),
            ("nas.example:/", None, Cause::ExportDenied, false),
        ] {
            let subject = Subject { source: source.to_owned(), target: "/t".into(), tunnel };
            let fault = MountFault::new(cause, subject, Event::default()).to_string();
            assert_eq!(fault.contains("takes encrypted mounts only"), hinted, "{fault}");
        }
    }
}
