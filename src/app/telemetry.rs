//! The log: text or JSON lines on standard error, filtered by `ALINAS_CSI_LOG`.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

use clap::ValueEnum;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Directive;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;

use crate::app::alinas_conf::AlinasConf;
use crate::app::log_file;
use crate::app::log_file::Limits;
use crate::app::log_file::LogFile;
use crate::app::log_line::JsonLine;
use crate::app::log_line::TextLine;
use crate::app::otlp;
use crate::app::system_log::SystemLog;
use crate::runtime::LogSwitch;
use crate::runtime::request;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// What is shown where nobody says it.
const FILTER: &str = "info";

/// What the command line says about the log.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// What the log shows: a level, or a list such as "alinas_csi::tunnel=debug,info" [default: info].
    #[arg(long, global = true, env = "ALINAS_CSI_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How the log is written, on standard error; mount and umount write to the system log.
    #[arg(long, global = true, env = "ALINAS_CSI_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Where log files are written besides; mount -t alinas has them in /var/log/aliyun/alinas.
    #[arg(long, global = true, env = "ALINAS_CSI_LOG_DIR", value_name = "DIRECTORY")]
    pub log_dir: Option<PathBuf>,
    /// The size in bytes at which a log file becomes the one before [default: 1048576].
    #[arg(
        long,
        global = true,
        env = "ALINAS_CSI_LOG_MAX_BYTES",
        value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1 << 20..=16 << 20)
    )]
    pub log_max_bytes: Option<u64>,
    /// How many log files are kept, the current one included [default: 10].
    #[arg(
        long,
        global = true,
        env = "ALINAS_CSI_LOG_FILE_COUNT",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u64).range(1..=16)
    )]
    pub log_file_count: Option<u64>,
}

impl LogArgs {
    /// The log of a process. Where files are wanted, its own has that name; a file of settings has a word in it, and
    /// the command line goes before that.
    pub(super) fn of(&self, conf: Option<&AlinasConf>, name: &str) -> Log {
        let filter = self.log.as_deref().or(conf.map(|conf| conf.level)).unwrap_or(FILTER);
        let folder = self.log_dir.as_deref().or(conf.map(|_| Path::new(log_file::FOLDER)));
        let limits = Limits::of(&conf.cloned().unwrap_or_default());
        let limits = Limits {
            bytes: self.log_max_bytes.unwrap_or(limits.bytes),
            files: self.log_file_count.unwrap_or(limits.files),
        };
        Log {
            filter: filter.to_owned(),
            file: folder.map(|folder| LogFile::new(folder, name, limits)),
        }
    }

    /// The same log for a process that this one starts: what came by the environment, it has anyway.
    pub(super) fn passed_on(&self, conf: &AlinasConf) -> Vec<OsString> {
        let debug = conf.tunnel_debug.then(|| format!("{},alinas_csi=debug", conf.level));
        let filter = self.log.clone().or(debug).map(OsString::from);
        let folder = self.log_dir.clone().map(OsString::from);
        let number = |number: Option<u64>| number.map(|number| number.to_string().into());
        // Both write to one place.
        let format = (self.log_format == LogFormat::Json).then(|| "json".into());
        let given = [
            ("--log", filter),
            ("--log-format", format),
            ("--log-dir", folder),
            ("--log-max-bytes", number(self.log_max_bytes)),
            ("--log-file-count", number(self.log_file_count)),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
        given.flatten().collect()
    }
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct Log {
    /// Which of them.
    pub(super) filter: String,
    /// Besides standard error or the system log.
    pub(super) file: Option<LogFile>,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is no filter.
    #[error(
        "log filter {filter:?} cannot be read; expected a level such as \"info\" or \"alinas_csi=debug,info\""
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser said.
        source: ParseError,
    },
    /// The collector of spans has no usable address.
    #[error("spans cannot be sent to {endpoint:?}: {why}")]
    Collector {
        /// What was given.
        endpoint: String,
        /// In words.
        why: String,
    },
    /// A second log in one process.
    #[error("the log was opened twice")]
    Twice(#[from] TryInitError),
}

/// Opens the log of a command: what it has to say on the terminal it says itself, and the whole story goes to
/// the system log, without the time, which that one adds, and to a file where there is one.
///
/// # Errors
/// When the filter cannot be read.
pub(super) fn open_system_log(log: Log) -> Result<(), TelemetryError> {
    let lines = lines_to(SystemLog::open()).event_format(TextLine { head: false });
    let registry = tracing_subscriber::registry().with(parse(&log.filter)?);
    registry.with(lines).with(log.file.map(in_file)).try_init()?;
    Ok(())
}

/// Opens the log of this process, which goes by that name: on standard error, and in a file where there is one. Answers
/// what changes it while it is open. To be called within the runtime of the process.
///
/// # Errors
/// When the filter cannot be read, or the address that spans are sent to.
pub(super) fn open(
    log: Log,
    format: LogFormat,
    process: &'static str,
) -> Result<LogSwitch, TelemetryError> {
    let (filter, handle) = reload::Layer::new(parse(&log.filter)?);
    let lines = lines_to(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter).with(otlp::layer(process)?);
    let registry = registry.with(log.file.map(in_file));
    match format {
        LogFormat::Text => {
            registry.with(lines.event_format(TextLine { head: true })).try_init()?;
        }
        LogFormat::Json => registry.with(lines.event_format(JsonLine)).try_init()?,
    }
    Ok(LogSwitch::new(process, &log.filter, move |filter| {
        let filter = self::filter(filter).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

/// Text, each line with its time.
fn in_file<S>(file: LogFile) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    lines_to(file).event_format(TextLine { head: true })
}

/// Fields of spans are kept as JSON, for every layer: so a field that becomes known stands there once.
fn lines_to<S, W>(writer: W) -> fmt::Layer<S, JsonFields, fmt::format::Format, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> fmt::MakeWriter<'a> + 'static,
{
    fmt::layer().with_writer(writer).with_ansi(false).fmt_fields(JsonFields::new())
}

fn parse(text: &str) -> Result<EnvFilter, TelemetryError> {
    filter(text).map_err(|source| TelemetryError::Filter { filter: text.to_owned(), source })
}

/// A filter chooses lines. The requests that they belong to are known to each of them.
fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    let requests: Directive = format!("{}=error", request::TARGET).parse()?;
    Ok(EnvFilter::try_new(text)?.add_directive(requests))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::captured::Captured;
    use crate::runtime::request::Request;

    #[test]
    fn whatever_is_shown_says_to_which_request_it_belongs() {
        for (text, shown) in [
            ("error", &["broken"][..]),
            ("warn,alinas_csi::app=error", &["broken"]),
            ("other=trace", &["elsewhere"]),
            ("info", &["broken", "well", "elsewhere"]),
            ("off", &[]),
        ] {
            let log = Captured::default();
            let lines = lines_to(log.clone()).event_format(JsonLine);
            let subscriber = tracing_subscriber::registry().with(filter(text).unwrap()).with(lines);
            tracing::subscriber::with_default(subscriber, || {
                Request::begin("Call", None).say(|| {
                    tracing::error!("broken");
                    tracing::info!("well");
                    tracing::info!(target: "other", "elsewhere");
                });
            });
            let log = log.text();
            let said: Vec<serde_json::Value> =
                log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let messages: Vec<_> =
                said.iter().filter_map(|line| line["message"].as_str()).collect();
            assert_eq!(messages, shown, "{text}");
            assert!(said.iter().all(|line| line["call"] == "Call"), "{text}: {log}");
        }
    }

    #[test]
    fn a_log_that_is_changed_shows_what_it_did_not_show() {
        let log = Captured::default();
        let (layer, handle) = reload::Layer::new(filter("info").unwrap());
        let lines = lines_to(log.clone()).event_format(TextLine { head: false });
        let subscriber = tracing_subscriber::registry().with(layer).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            for text in ["info", "info,alinas_csi=debug", "info"] {
                handle.reload(filter(text).unwrap()).unwrap();
                tracing::debug!(text, "seen");
            }
        });
        assert_eq!(log.text(), "seen text=\"info,alinas_csi=debug\"\n");
    }
}
