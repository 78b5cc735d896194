//! Linux, behind traits no wider than what the layers above need; each fake stands beside its trait.
//!
//! Knows nothing of volumes, TLS or CSI. Start with [`worker`]: every call that could block on a dead server
//! runs in a child process that can be killed.

pub mod claim;
pub mod command;
pub mod credentials;
pub mod daemon;
pub mod descriptors;
pub mod errno;
pub mod hosts_file;
pub mod hosts_text;
pub mod kernel_options;
pub mod kubelet;
pub mod local_address;
pub mod mount_stats;
pub mod mount_syscalls;
pub mod mount_table;
pub mod neighbours;
pub mod net_namespace;
mod netlink;
pub mod nfs_clients;
pub mod occupant;
pub mod parcel;
pub mod peer;
mod peer_diag;
mod peer_proc;
mod peer_rpc;
pub mod resolve;
pub mod route;
pub mod state_dir;
pub mod utab;
pub mod worker;
