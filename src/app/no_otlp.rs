//! In a build without the feature `otlp`: spans are sent nowhere, and who wants them sent is told so.

use tracing_subscriber::layer::Identity;

use crate::app::telemetry::TelemetryError;

/// Nothing. See `src/app/otlp.rs` for what is there with the feature.
pub(super) fn layer(_process: &str) -> Result<Option<Identity>, TelemetryError> {
    Ok(None)
}

/// Says that nothing is sent, where something is to be.
#[expect(clippy::disallowed_methods, reason = "settings are looked up here, once")]
pub(super) fn tell() {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        tracing::warn!(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but this build sends no spans: it lacks the feature otlp"
        );
    }
}
