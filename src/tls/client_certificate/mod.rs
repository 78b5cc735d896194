//! The certificate that a server is shown when it asks who we are.
//!
//! Exactly that of aliyun-alinas-utils 2.2: self-signed, for three hours, with extensions that name the file
//! system, the access point and, with RAM, who vouches for it. It is made in this process, anew every 15
//! minutes, and never written anywhere.
//!
//! | module | what it is |
//! | --- | --- |
//! | `x509`, `ram` | its bytes, as pure functions; golden tests against openssl and Python |
//! | `schedule` | when it is made, as a pure function |
//! | [`holder`] | what carries that out: all certificates of the process |
//! | [`presenter`] | one certificate in a handshake |
//! | `key` | the key that all of them have |
//!
//! Start with [`ClientCertificates`].

mod fault;
#[cfg(test)]
mod golden;
pub mod holder;
mod key;
pub mod presenter;
mod ram;
mod schedule;
mod x509;

pub use fault::CertificateFault;
pub use holder::ClientCertificates;
pub use presenter::Presenter;
