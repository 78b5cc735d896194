//! The vendor's API of NAS: file systems, mount targets, directories with quotas, access points.
//!
//! Knows HTTP and the API's words; nothing of volumes, mounts or Kubernetes. Whom to trust is handed in, as a
//! configuration of rustls; the network, the clock and the sources of credentials stand behind traits.
//!
//! Start with [`NasClient`]. [`Action`] is the table of all calls, [`Kind`] that of all refusals; who we are to the
//! service is in [`credentials`].

pub mod action;
pub mod client;
pub mod counts;
pub mod credentials;
pub mod endpoint;
pub mod fault;
pub mod http;
pub mod instance_zone;
mod metadata_service;
mod pace;
mod query;
pub mod refusal;
mod retry;
mod signature;
#[cfg(test)]
mod test_clock;
pub mod types;

pub use action::Action;
pub use client::CALL_DEADLINE;
pub use client::Deleted;
pub use client::NasClient;
pub use counts::NasCounts;
pub use credentials::Credentials;
pub use credentials::CredentialsHolder;
pub use endpoint::Endpoint;
pub use endpoint::Network;
pub use endpoint::Region;
pub use fault::NasCause;
pub use fault::NasFault;
pub use http::Http;
pub use http::HttpFault;
pub use http::PlainNetwork;
pub use http::SecureNetwork;
pub use instance_zone::InstanceZone;
pub use refusal::Kind;
pub use refusal::Refusal;
