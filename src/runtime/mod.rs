//! What every role needs to run: deadlines, in-flight guards, shared questions, whole error texts, failure points,
//! What every role needs to run: deadlines, in-flight guards, shared questions, whole error texts, failure points,
//! a call over a connection, what a status says, histograms, the id of a request, a log that can be changed.
//!
//! Knows nothing of NFS, TLS or CSI.

#[cfg(test)]
pub(crate) mod captured;
pub mod chain;
pub mod clock;
pub mod failure_point;
pub mod histogram;
pub mod in_flight;
pub mod log_switch;
pub mod one_connection;
pub mod request;
pub mod request_layer;
pub mod status_words;
pub mod together;

pub use chain::Chain;
pub use clock::Clock;
pub use clock::Moment;
pub use clock::SystemClock;
pub use failure_point::FailurePoint;
pub use histogram::Histogram;
pub use histogram::Histograms;
pub use in_flight::InFlight;
pub use log_switch::LogSwitch;
pub use one_connection::one_connection;
pub use request_layer::Requests;
pub use status_words::status_words;
pub use together::Together;
