//! Spans of requests, sent to a collector by OTLP where `OTEL_EXPORTER_OTLP_ENDPOINT` names one. In a build with the
//! feature `otlp` alone.
//!
//! ```text
//! a call ends ──> queue (2048) ── a batch ──> collector
//!                   │ full: dropped             │ fails or takes 10 s: dropped
//! ```
//!
//! No call ever waits for it: the queue takes a span at once or not at all, and what is dropped is counted and told once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter as OtlpExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::Span;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanExporter;
use opentelemetry_sdk::trace::SpanProcessor;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

use crate::app::telemetry::TelemetryError;
use crate::runtime::Chain;
use crate::runtime::request;

/// As the OpenTelemetry specification calls it.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Spans that wait for the collector. One has some 2 KiB.
const QUEUE: usize = 2048;
/// Spans that are sent together.
const BATCH: usize = 512;
/// For a batch.
const DEADLINE: Duration = Duration::from_secs(10);
/// So long spans are gathered, so that a burst of calls is a batch.
const GATHER: Duration = Duration::from_millis(500);

/// What sends spans, where a collector is named. To be called within the runtime that will do it.
///
/// # Errors
/// When the collector's address cannot be used.
pub(super) fn layer<S>(process: &'static str) -> Result<Option<impl Layer<S>>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(endpoint) = endpoint() else { return Ok(None) };
    let exporter = OtlpExporter::builder().with_tonic().build();
    let mut exporter = exporter
        .map_err(|error| TelemetryError::Collector { endpoint, why: Chain(&error).to_string() })?;
    let resource = resource(process);
    exporter.set_resource(&resource);
    let (outbox, queue) = Outbox::new(QUEUE);
    tokio::spawn(deliver(exporter, queue, Arc::clone(&outbox.dropped)));
    let provider =
        SdkTracerProvider::builder().with_resource(resource).with_span_processor(outbox).build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("alinas-csi"));
    Ok(Some(spans.with_filter(FilterFn::new(is_sent))))
}

/// Says where spans go.
pub(super) fn tell() {
    if let Some(endpoint) = endpoint() {
        tracing::info!(collector = endpoint, "the spans of requests are sent");
    }
}

/// Requests with what is told of them, but no heartbeats, and nothing of libraries: the exporter's own are among them.
fn is_sent(metadata: &tracing::Metadata<'_>) -> bool {
    match metadata.is_span() {
        true => metadata.target() == request::TARGET && metadata.name() != request::HEARTBEAT,
        false => metadata.target().starts_with("alinas_csi") && metadata.target() != module_path!(),
    }
}

fn resource(process: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(format!("alinas-csi-{process}"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

#[expect(clippy::disallowed_methods, reason = "settings are looked up here, once")]
fn endpoint() -> Option<String> {
    std::env::var(ENDPOINT).ok().filter(|endpoint| !endpoint.is_empty())
}

/// Spans on their way out.
#[derive(Debug)]
struct Outbox {
    queue: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
}

impl Outbox {
    fn new(size: usize) -> (Self, mpsc::Receiver<SpanData>) {
        let (queue, outgoing) = mpsc::channel(size);
        (Self { queue, dropped: Arc::default() }, outgoing)
    }
}

impl SpanProcessor for Outbox {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// What has not been sent by the end is lost: nobody waits for a collector.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends what comes, until nothing can come any more. What cannot be sent is dropped and counted; it is told when that
/// begins, and how many there were when it ends.
async fn deliver(
    exporter: impl SpanExporter,
    mut queue: mpsc::Receiver<SpanData>,
    dropped: Arc<AtomicU64>,
) {
    let mut is_told = false;
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        tokio::time::sleep(GATHER).await;
        while batch.len() < BATCH
            && let Ok(span) = queue.try_recv()
        {
            batch.push(span);
        }
        let spans = batch.len() as u64;
        let why = match timeout(DEADLINE, exporter.export(std::mem::take(&mut batch))).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Chain(&error).to_string()),
            Err(_) => Some(format!("no answer within {} s", DEADLINE.as_secs())),
        };
        match why {
            Some(why) => {
                dropped.fetch_add(spans, Ordering::Relaxed);
                if !is_told {
                    tracing::warn!(
                        error = why,
                        "the collector takes no spans; they are dropped until it does"
                    );
                }
                is_told = true;
            }
            None => {
                let dropped = dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!(
                        spans = dropped,
                        "the collector takes spans; these were dropped before"
                    );
                }
                is_told = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use opentelemetry::trace::Tracer;
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    /// Fails for as long as it is told to, and keeps how many it took otherwise.
    #[derive(Clone, Debug, Default)]
    struct Collector {
        is_gone: Arc<Mutex<bool>>,
        taken: Arc<AtomicU64>,
    }

    impl SpanExporter for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            if *self.is_gone.lock().unwrap() {
                return Err(OTelSdkError::InternalFailure("gone".to_owned()));
            }
            self.taken.fetch_add(batch.len() as u64, Ordering::Relaxed);
            Ok(())
        }
    }

    fn end_spans(provider: &SdkTracerProvider, count: usize) {
        let tracer = provider.tracer("test");
        (0..count).for_each(|_| drop(tracer.start("span")));
    }

    #[test]
    fn a_queue_that_nobody_empties_keeps_no_call_waiting_and_what_is_beyond_it_is_counted() {
        let (outbox, queue) = Outbox::new(QUEUE);
        let dropped = Arc::clone(&outbox.dropped);
        let provider = SdkTracerProvider::builder().with_span_processor(outbox).build();
        let began = Instant::now();
        end_spans(&provider, QUEUE + 500);
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!((queue.len(), dropped.load(Ordering::Relaxed)), (QUEUE, 500));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_collector_does_not_take_is_dropped_and_the_next_spans_are_sent() {
        let (outbox, queue) = Outbox::new(QUEUE);
        let dropped = Arc::clone(&outbox.dropped);
        let provider = SdkTracerProvider::builder().with_span_processor(outbox).build();
        let collector = Collector::default();
        tokio::spawn(deliver(collector.clone(), queue, Arc::clone(&dropped)));
        let settle = || tokio::time::sleep(Duration::from_secs(30));
        *collector.is_gone.lock().unwrap() = true;
        end_spans(&provider, 700);
        settle().await;
        assert_eq!(dropped.load(Ordering::Relaxed), 700);
        *collector.is_gone.lock().unwrap() = false;
        end_spans(&provider, 3);
        settle().await;
        assert_eq!(collector.taken.load(Ordering::Relaxed), 3);
        assert_eq!(dropped.load(Ordering::Relaxed), 0, "they were told");
    }
}
