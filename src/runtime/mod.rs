//! What every role needs to run: deadlines, in-flight guards, shared questions, whole error texts, failure points,
//! a call over a connection, what a status says, histograms.
//!
//! Knows nothing of NFS, TLS or CSI.

pub mod chain;
pub mod clock;
pub mod failure_point;
pub mod histogram;
pub mod in_flight;
pub mod one_connection;
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
pub use one_connection::one_connection;
pub use status_words::status_words;
pub use together::Together;
