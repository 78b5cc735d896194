//! The text-based NFS mount: who is asked for what, what the kernel is told, and what refusals mean.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`request`] | what is asked of a mount |
//! | [`policy`] | what to do next: a pure machine |
//! | [`engine`] | does it |
//! | `class` | which errno may be helped by what |
//! | `diagnose`, `cause`, [`catalogue`], `fault` | from a refusal to one line of text |
//! | [`history`] | everything that was tried, for the log |
//! | [`client`] | NFSv3 spoken by ourselves, where nothing is mounted |
//!
//! Through a tunnel, the kernel connects to a loopback address, and the name in the source is for the eyes only.
//! Either way everything about addresses and ports is said to the kernel explicitly, so that it asks neither a
//! resolver nor rpcbind. Knows nothing of TLS or CSI.
//!
//! Read [`policy::Policy`] first.

pub mod catalogue;
mod cause;
mod class;
pub mod client;
mod diagnose;
pub mod engine;
pub mod farewell;
mod fault;
#[cfg(test)]
mod golden;
pub mod history;
pub mod once;
pub mod policy;
pub mod probe;
pub mod request;
pub mod rpc;
pub mod unmount;

pub use cause::Cause;
#[cfg(test)]
pub(crate) use cause::every as every_cause;
pub use engine::Engine;
pub use engine::Progress;
pub use fault::Event;
pub use fault::GaveUp;
pub use fault::MountFault;
pub use fault::Subject;
pub use request::MountRequest;
pub use request::Patience;
pub use request::Start;
pub use request::Way;
