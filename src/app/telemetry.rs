//! The log: text or JSON lines on standard error, filtered by `ALINAS_CSI_LOG`.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

use crate::app::system_log::SystemLog;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
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
        source: tracing_subscriber::filter::ParseError,
    },
    /// A second log in one process.
    #[error("the log was opened twice")]
    Twice(#[from] TryInitError),
}

/// Opens the log of a command: what it has to say on the terminal it says itself, and the whole story goes to
/// the system log, without the time, which that one adds.
///
/// # Errors
/// When `filter` cannot be read.
pub fn open_system_log(filter: &str) -> Result<(), TelemetryError> {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    let lines = tracing_subscriber::fmt::layer().with_writer(SystemLog::open());
    let lines = lines.with_ansi(false).without_time().with_level(false).with_target(false);
    tracing_subscriber::registry().with(parse(filter)?).with(lines).try_init()?;
    Ok(())
}

/// Opens the log of this process.
///
/// # Errors
/// When `filter` cannot be read.
pub fn open(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = parse(filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init()?,
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
    }
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })
}
