//! What a tunnel costs, beside its peers: the load, the server, and the proxies in between.
//!
//! ```text
//! load (this process) -> proxy (a process of its own) -> server (this process)
//! ```
//!
//! Start with [`peer`] for who is compared, [`load`] for what is asked, [`server`] for who answers.

pub mod call;
pub mod cold;
pub mod crowd;
pub mod gauge;
pub mod load;
pub mod null_server;
pub mod peer;
pub mod server;
pub mod slow;
mod tls_server;
