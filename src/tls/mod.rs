//! Whom we trust, and why a handshake failed.
//!
//! Knows rustls and nothing of tunnels: no name is resolved and no socket opened here. There is no way to turn
//! verification off.
//!
//! Start with [`Trust`], which makes the configuration of every session; [`TlsFault`] is what a user reads when
//! a session does not come about.

pub mod certificate;
pub mod fault;
pub mod handshake;
pub mod record;
#[cfg(test)]
pub(crate) mod test_peer;
pub mod trust;
mod verify;

pub use certificate::CertificateFacts;
pub use fault::TlsFault;
pub use handshake::Session;
pub use handshake::shake_hands;
pub use trust::Trust;
pub use trust::TrustError;
