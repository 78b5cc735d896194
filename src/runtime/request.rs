//! A request: one call from outside, by an id that goes with it through every process that works for it.
//!
//! ```text
//! kubelet ── x-request-id? ──> node ── x-request-id ──> watchdog ── x-request-id ──> tunnel
//! ```
//!
//! The id and the fields of the log's lines are those of the task. A task that goes on with the work of another one
//! takes them along by [`carried`]; whatever else is spawned has none. Start with [`Request::run`].

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use tonic::Status;
use tonic::metadata::MetadataValue;
use tracing::Instrument;
use tracing::Span;
use tracing::field::Empty;

/// The metadata that carries the id, as other servers have it.
pub const HEADER: &str = "x-request-id";
/// The target of the spans here. They are there whatever the log shows: its lines have their fields from them.
pub const TARGET: &str = "alinas_csi::request";
/// The name of the spans of heartbeats.
pub const HEARTBEAT: &str = "heartbeat";
/// An id of somebody else's may be so long; a UUID has 36.
const LONGEST_ID: usize = 64;
/// Of an id that is drawn.
const ID_BYTES: usize = 6;
/// A field is cut after so many characters. An id of a volume has 128 bytes at most, and a path of a kubelet more.
const LONGEST_FIELD: usize = 512;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// What a request is called in every log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// One that nobody had before.
    #[must_use]
    pub fn drawn() -> Self {
        let mut bytes = [0; ID_BYTES];
        // Without randomness there is no TLS either; the id is all that would be the same twice.
        let _either_way = rand::fill(&mut bytes);
        Self(HEXLOWER.encode(&bytes).into())
    }

    /// A caller's own, where it can stand in a log: 1 to 64 letters, digits, `.`, `_` and `-`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_fine = |one: u8| one.is_ascii_alphanumeric() || b"._-".contains(&one);
        let is_sane = (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(is_fine);
        is_sane.then(|| Self(text.into()))
    }

    /// Of the request that this task works for.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// A macro, because the name of a span is a constant. Of the highest level and of a target of its own, so that no filter
// takes the fields from a line that it shows.
macro_rules! span {
    ($kind:expr, $name:expr, $id:expr) => {
        tracing::error_span!(
            target: TARGET, $kind,
            call = $name, request.id = %$id, volume.id = Empty, volume.name = Empty, snapshot.id = Empty,
            snapshot.name = Empty, mount.source = Empty, mount.target = Empty, tunnel.target = Empty,
            tunnel.address = Empty, otel.name = $name, otel.kind = "server", otel.status_code = Empty
        )
    };
}

/// A request that has begun.
#[derive(Clone, Debug)]
pub struct Request {
    id: RequestId,
    span: Span,
}

impl Request {
    /// A request of this name. `id` is the caller's, where it has one.
    #[must_use]
    pub fn begin(name: &str, id: Option<RequestId>) -> Self {
        let id = id.unwrap_or_else(RequestId::drawn);
        let span = span!("request", name, id);
        #[cfg(feature = "otlp")]
        trace::join(&span, &id);
        Self { id, span }
    }

    /// One that is made all the time, and is nothing for a collector of spans.
    #[must_use]
    pub fn heartbeat(name: &str, id: Option<RequestId>) -> Self {
        let id = id.unwrap_or_else(RequestId::drawn);
        let span = span!(HEARTBEAT, name, id);
        Self { id, span }
    }

    /// It is answered with an error.
    pub fn failed(&self) {
        self.span.record("otel.status_code", "ERROR");
    }

    /// Does the work of the request: its lines in the log carry the fields, and its calls to other processes the id.
    pub fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.id.clone(), work).instrument(self.span.clone())
    }

    /// Says something of the request outside of its work.
    pub fn say(&self, words: impl FnOnce()) {
        self.span.in_scope(words);
    }
}

/// What becomes known of a request while it is worked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The id of the volume.
    VolumeId,
    /// The name of a volume that has no id yet.
    VolumeName,
    /// The id of the snapshot.
    SnapshotId,
    /// The name of a snapshot that has no id yet.
    SnapshotName,
    /// `domain:/path`.
    MountSource,
    /// The path that is mounted at.
    MountTarget,
    /// Where a tunnel leads.
    TunnelTarget,
    /// Where the kernel connects to.
    TunnelAddress,
}

impl Field {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::VolumeId,
        Self::VolumeName,
        Self::SnapshotId,
        Self::SnapshotName,
        Self::MountSource,
        Self::MountTarget,
        Self::TunnelTarget,
        Self::TunnelAddress,
    ];

    /// The name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VolumeId => "volume.id",
            Self::VolumeName => "volume.name",
            Self::SnapshotId => "snapshot.id",
            Self::SnapshotName => "snapshot.name",
            Self::MountSource => "mount.source",
            Self::MountTarget => "mount.target",
            Self::TunnelTarget => "tunnel.target",
            Self::TunnelAddress => "tunnel.address",
        }
    }
}

/// From here on, the lines of the request that this task works for say so. Outside of a request it is nothing.
pub fn note(field: Field, value: &str) {
    let span = Span::current();
    match value.char_indices().nth(LONGEST_FIELD) {
        _ if value.is_empty() => {}
        None => {
            span.record(field.name(), value);
        }
        Some((end, _)) => {
            span.record(field.name(), format!("{}…", &value[..end]));
        }
    }
}

/// The same work, in a task of its own: still for the request that this task works for.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let id = RequestId::current();
    let work = work.in_current_span();
    async move {
        match id {
            Some(id) => CURRENT.scope(id, work).await,
            None => work.await,
        }
    }
}

/// What lines say that belong to one of several attempts of a request.
#[must_use]
pub fn attempt(number: u32) -> Span {
    tracing::error_span!(target: TARGET, "attempt", attempt = number)
}

/// Sends the id along with a call. For `with_interceptor` of a client.
///
/// # Errors
/// Never.
pub fn pass_on(mut call: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    let id = RequestId::current();
    if let Some(value) = id.and_then(|id| MetadataValue::try_from(id.to_string()).ok()) {
        call.metadata_mut().insert(HEADER, value);
    }
    Ok(call)
}

/// The spans of a request in several processes are one trace: its id is made of the request's.
#[cfg(feature = "otlp")]
mod trace {
    use aws_lc_rs::digest;
    use opentelemetry::Context;
    use opentelemetry::trace::SpanContext;
    use opentelemetry::trace::SpanId;
    use opentelemetry::trace::TraceContextExt;
    use opentelemetry::trace::TraceFlags;
    use opentelemetry::trace::TraceId;
    use opentelemetry::trace::TraceState;
    use tracing::Span;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    use super::RequestId;

    pub(super) fn join(span: &Span, id: &RequestId) {
        let digest = digest::digest(&digest::SHA256, id.0.as_bytes());
        let (mut trace, mut parent) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&digest.as_ref()[..16]);
        parent.copy_from_slice(&digest.as_ref()[16..24]);
        let context = SpanContext::new(
            TraceId::from_bytes(trace),
            SpanId::from_bytes(parent),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        // An error says that nothing is sent.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_forge_a_line_is_not_taken() {
        for sane in ["a", "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f", "A_b.9", &"x".repeat(64)] {
            assert_eq!(RequestId::parse(sane).unwrap().to_string(), sane);
        }
        for not in ["", "a b", "a\nb", "a\"", "ä", "a=b", "a/b", &"x".repeat(65)] {
            assert_eq!(RequestId::parse(not), None, "{not:?}");
        }
    }

    #[test]
    fn ids_that_are_drawn_are_short_sane_and_differ() {
        let (one, other) = (RequestId::drawn(), RequestId::drawn());
        assert_eq!(one.to_string().len(), 12);
        assert_eq!(RequestId::parse(&one.to_string()).as_ref(), Some(&one));
        assert_ne!(one, other);
    }

    #[tokio::test]
    async fn the_id_goes_with_work_that_is_carried_and_into_calls_and_nowhere_else() {
        assert_eq!(RequestId::current(), None);
        assert!(pass_on(tonic::Request::new(())).unwrap().metadata().is_empty());
        let id = RequestId::parse("abc").unwrap();
        let sent = || pass_on(tonic::Request::new(())).unwrap().metadata().get(HEADER).cloned();
        let work = async {
            let carried = tokio::spawn(carried(async move { (RequestId::current(), sent()) }));
            let other = tokio::spawn(async { RequestId::current() });
            (carried.await.unwrap(), other.await.unwrap())
        };
        let ((carried, sent), other) = Request::begin("Call", Some(id.clone())).run(work).await;
        assert_eq!((carried, other), (Some(id), None));
        assert_eq!(sent.unwrap(), "abc");
    }
}
