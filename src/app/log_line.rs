//! How a line of the log is written: as text or as JSON, each with the fields of the request that it belongs to.
//!
//! ```text
//! 2026-11-22T08:30:00.123456Z  INFO alinas_csi::csi::node: staged found=Now call=NodeStageVolume request.id=0a1b2c3d4e5f
//! {"timestamp":"2026-…Z","level":"INFO","target":"alinas_csi::csi::node","message":"staged","found":"Now","call":…}
//! ```
//!
//! A field stands in a line once: what the line says itself goes before what its request says. The names do not change:
//! docs/logs.md lists them.

use std::fmt;

use serde::Serializer as _;
use serde::ser::SerializeMap;
use serde_json::Value;
use tracing::Event;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::DefaultFields;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::registry::LookupSpan;

use crate::runtime::request;

/// What comes from the crate `log` has its origin in fields with this prefix.
const OF_LOG: &str = "log.";
const TARGET_OF_LOG: &str = "log.target";
/// Fields of a span with this prefix are for a collector alone.
const OF_COLLECTOR: &str = "otel.";

/// A line for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextLine {
    /// When, how grave, and from which part; a system log adds its own.
    pub(super) head: bool,
}

impl<S> FormatEvent<S, JsonFields> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let said = Said::of(event);
        if self.head {
            SystemTime.format_time(&mut writer)?;
            write!(writer, " {:>5} {}: ", event.metadata().level().as_str(), said.target)?;
        }
        DefaultFields::new().format_fields(writer.by_ref(), event)?;
        for (name, value) in fields_of_request(context) {
            if !said.has(&name) {
                write!(writer, " {name}={}", Shown(&value))?;
            }
        }
        writeln!(writer)
    }
}

/// A line for machines.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonLine;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let said = Said::of(event);
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let head = [
            ("timestamp", timestamp.as_str()),
            ("level", event.metadata().level().as_str()),
            ("target", said.target.as_str()),
        ];
        let of_request = fields_of_request(context);
        let of_request = of_request.iter().filter(|(name, _)| !said.has(name));
        let fields = said.fields.iter().chain(of_request);
        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut line);
        let written = || -> Result<(), serde_json::Error> {
            let mut map = serializer.serialize_map(None)?;
            head.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
            let free = |name: &str| head.iter().all(|(head, _)| *head != name);
            let mut fields = fields.filter(|(name, _)| free(name));
            fields.try_for_each(|(name, value)| map.serialize_entry(name, value))?;
            map.end()
        };
        written().map_err(|_| fmt::Error)?;
        writeln!(writer, "{}", String::from_utf8_lossy(&line))
    }
}

/// What a line says itself.
struct Said {
    target: String,
    fields: Vec<(String, Value)>,
}

impl Said {
    fn of(event: &Event<'_>) -> Self {
        let mut said = Self { target: event.metadata().target().to_owned(), fields: Vec::new() };
        event.record(&mut said);
        said
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name().trim_start_matches("r#");
        if name == TARGET_OF_LOG {
            self.target = value.as_str().unwrap_or_default().to_owned();
        } else if !name.starts_with(OF_LOG) {
            self.fields.push((name.to_owned(), value));
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

/// From the outermost span in, ours alone: those of libraries have fields of any name.
fn fields_of_request<S>(context: &FmtContext<'_, S, JsonFields>) -> Vec<(String, Value)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut fields: Vec<(String, Value)> = Vec::new();
    let spans = context.event_scope().into_iter().flat_map(|scope| scope.from_root());
    for span in spans.filter(|span| span.metadata().target() == request::TARGET) {
        let extensions = span.extensions();
        let Some(formatted) = extensions.get::<FormattedFields<JsonFields>>() else { continue };
        if let Ok(Value::Object(of_span)) = serde_json::from_str(formatted) {
            fields.retain(|(name, _)| !of_span.contains_key(name));
            fields.extend(of_span.into_iter().filter(|(name, _)| !name.starts_with(OF_COLLECTOR)));
        }
    }
    fields
}

/// A value in a line of text: in quotes where it could be taken for more than one word.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) if is_one_word(text) => f.write_str(text),
            Value::String(text) => write!(f, "{text:?}"),
            other => write!(f, "{other}"),
        }
    }
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|one| one.is_ascii_graphic() && !"\"'`".contains(one))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::runtime::captured::Captured;
    use crate::runtime::request::Request;
    use crate::runtime::request::RequestId;

    /// The page that says which fields there are.
    const DOCUMENT: &str = include_str!("../../docs/logs.md");

    fn written(line: impl FnOnce(), json: bool) -> String {
        let log = Captured::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false);
        let layer = layer.fmt_fields(JsonFields::new());
        let layer = match json {
            true => layer.event_format(JsonLine).boxed(),
            false => layer.event_format(TextLine { head: true }).boxed(),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), line);
        log.text()
    }

    fn staged() {
        let id = RequestId::parse("0a1b2c3d4e5f");
        let request = Request::begin("NodeStageVolume", id);
        request.say(|| {
            request::note(request::Field::VolumeId, "pv-1");
            request::note(request::Field::MountSource, "nas.example.com:/a b");
            request::note(request::Field::MountTarget, "/stage\nINFO forged");
            request::attempt(2).in_scope(|| {
                tracing::info!(volume.id = "pv-1", ms = 7, found = ?Some(1), "staged");
            });
        });
    }

    #[test]
    fn a_line_of_json_has_its_fields_and_those_of_its_request_each_once_under_stable_names() {
        let line = written(staged, true);
        let read: Value = serde_json::from_str(&line).unwrap();
        let read = read.as_object().unwrap();
        let text = |name: &str| read[name].as_str().unwrap();
        assert_eq!(text("level"), "INFO");
        assert_eq!(text("target"), "alinas_csi::app::log_line::tests");
        assert_eq!(text("message"), "staged");
        assert_eq!(text("call"), "NodeStageVolume");
        assert_eq!(text("request.id"), "0a1b2c3d4e5f");
        assert_eq!(text("volume.id"), "pv-1");
        assert_eq!(text("mount.source"), "nas.example.com:/a b");
        assert_eq!(text("mount.target"), "/stage\nINFO forged");
        assert_eq!(text("found"), "Some(1)");
        assert_eq!((&read["ms"], &read["attempt"]), (&7.into(), &2.into()));
        let stamp = humantime::parse_rfc3339(text("timestamp"));
        assert!(stamp.is_ok(), "{line}");
        assert_eq!(read.len(), 12, "{line}");
        assert_eq!(line.matches("volume.id").count(), 1, "{line}");
        assert_eq!(line.lines().count(), 1);
        let known = request::Field::ALL.map(request::Field::name);
        for name in read.keys().map(String::as_str).chain(known).filter(|name| *name != "found") {
            assert!(DOCUMENT.contains(&format!("| `{name}` | ")), "docs/logs.md lacks {name}");
        }
    }

    #[test]
    fn a_line_of_text_ends_with_the_fields_of_its_request_and_stays_one_line() {
        let line = written(staged, false);
        let (head, rest) = line.split_once("Z  INFO alinas_csi::app::log_line::tests: ").unwrap();
        assert!(humantime::parse_rfc3339(&format!("{head}Z")).is_ok(), "{line}");
        let expected = r#"staged volume.id="pv-1" ms=7 found=Some(1) call=NodeStageVolume "#
            .to_owned()
            + r#"mount.source="nas.example.com:/a b" mount.target="/stage\nINFO forged" "#
            + "request.id=0a1b2c3d4e5f attempt=2\n";
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_line_of_no_request_has_no_field_of_one_and_none_that_hides_its_head() {
        let line = written(|| tracing::warn!(level = "low", "alone"), true);
        let read: Value = serde_json::from_str(&line).unwrap();
        let names: Vec<_> = read.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            (names, &read["level"]),
            (vec!["level", "message", "target", "timestamp"], &"WARN".into())
        );
        assert!(written(|| tracing::warn!("alone"), false).ends_with(": alone\n"));
    }

    #[test]
    fn spans_of_libraries_add_nothing() {
        let foreign = || {
            Request::begin("Probe", None).say(|| {
                let span =
                    tracing::error_span!(target: "h2", "frame", call = "other", secret = "s");
                span.in_scope(|| tracing::info!("seen"));
            });
        };
        let line = written(foreign, true);
        assert!(line.contains("\"call\":\"Probe\"") && !line.contains("secret"), "{line}");
    }
}
