//! Linux, behind traits no wider than what the layers above need; each fake stands beside its trait.
//!
//! Knows nothing of volumes, TLS or CSI. Start with [`worker`]: every call that could block on a dead server
//! runs in a child process that can be killed.

pub mod mount_table;
pub mod nfs_clients;
pub mod state_dir;
pub mod worker;
