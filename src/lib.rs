//! A Kubernetes CSI driver that mounts Alibaba Cloud NAS over TLS, with nothing installed on the host.
//!
//! The modules are layers, and an import only ever points to a lower one (`tests/source.rs` holds that).
//! From the top:
//!
//! | layer | module | what it knows |
//! | --- | --- | --- |
//! | 8 | [`app`] | where everything meets: the command line, settings, one file per role |
//! | 7 | [`csi`] | gRPC: takes a call apart, calls, puts the answer together; decides nothing |
//! | 6 | [`node`], [`controller`] | what a node, what the cluster does for a volume |
//! | 5 | [`watchdog`] | desired tunnels against living ones |
//! | 4 | [`tunnel`] | listeners, admission, dialling, relaying |
//! | 3 | [`tls`], [`nfs`] | rustls configurations; the text-based NFS mount |
//! | 2 | [`host`] | Linux behind narrow traits, each with a fake beside it |
//! | 2 | [`nas`] | the API by which file systems, directories and quotas are made |
//! | 2 | [`kubernetes`] | what is said to a cluster: events; and the little that it is asked |
//! | 1 | [`runtime`] | deadlines, in-flight guards, error chains |
//! | 0 | [`model`], [`proto`] | the words of the domain; the words on the wire |
//!
//! Start with [`model`] for the vocabulary, then `node::stage` for the path of a volume.

pub mod app;
pub mod controller;
pub mod csi;
pub mod host;
pub mod kubernetes;
pub mod model;
pub mod nas;
pub mod nfs;
pub mod node;
pub mod proto;
pub mod runtime;
pub mod tls;
pub mod tunnel;
pub mod watchdog;
