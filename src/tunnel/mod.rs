//! The data path: loopback listeners, admission, dialling, relaying.
//!
//! ```text
//! kernel -> listener -> admission -> dial (resolve, connect, TLS) -> relay <-> mount target
//! ```
//!
//! Knows nothing of records, mounts or volumes: it binds what it is told to and forgets it when it ends. The
//! layer above remembers.
//!
//! Start with [`TunnelProcess`], the set of open tunnels; then [`listener`] for the life of one connection.

pub mod admission;
pub mod carriers;
mod connect;
pub mod convert;
mod counts;
pub mod dial;
pub mod dial_fault;
pub mod door;
mod exchange;
mod expiry;
mod gate;
pub mod given;
pub mod initial;
pub mod listener;
mod ocsp;
pub mod open_tunnel;
pub mod probe;
pub mod process;
pub mod relay;
pub mod resolve;
mod seldom;
pub mod service;
mod socket;
pub mod socket_name;
pub mod stream;

pub use admission::Admission;
pub use dial::DialFault;
pub use dial::Dialer;
pub use initial::InitialListener;
pub use probe::ProbeFault;
pub use process::TunnelProcess;
pub use stream::TlsStream;
