//! Whom we trust, how a session comes about, and why one does not.
//!
//! Knows rustls and OpenSSL and nothing of tunnels: no name is resolved and no socket opened here.
//! Verification is weakened only by a [`crate::model::tls_policy::CertificateCheck`] that is called dangerous.
//!
//! Start with [`Trust`], which knows the roots of this moment; `Trust::shake_hands` makes a [`Session`] under
//! them; [`TlsFault`] is what a user reads when it does not come about.

pub mod certificate;
pub mod client_certificate;
mod config;
pub mod fault;
pub mod fips;
pub mod handshake;
mod open_ssl;
pub mod record;
pub mod revocation;
mod roots;
pub mod session;
#[cfg(test)]
pub(crate) mod test_peer;
pub mod trust;
mod verify;
pub mod weakness;

pub use certificate::CertificateFacts;
pub use client_certificate::ClientCertificates;
pub use fault::TlsFault;
pub use handshake::RecordSession;
pub use session::Negotiated;
pub use session::Session;
pub use trust::Trust;
pub use trust::TrustError;
pub use weakness::Weakness;
