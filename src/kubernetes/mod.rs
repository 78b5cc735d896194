//! What driver processes say to Kubernetes, and the little that they ask it.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`access`] | whether this process has a service account, and where the API server is |
//! | [`reason`] | the table of everything that is ever said; docs/events.md is written from it |
//! | [`event`] | one thing said about one object |
//! | [`book`] | what has been said already, as a pure function of the time |
//! | [`reporter`] | says it, in the background, at a bounded rate |
//! | [`own_node`] | a node's labels, its registered drivers, its startup taint |
//! | [`volumes`] | the PersistentVolumes of this driver |
//! | [`cluster`] | all of these over the network |
//!
//! All of it is a courtesy: no mount, no CSI call and no tunnel waits for the API server. Each question has a deadline,
//! and what cannot be said is counted and dropped. Outside of a cluster nothing here is ever tried.
//!
//! Knows nothing of NFS, tunnels or CSI. Start with [`Reporter`].

pub mod access;
pub mod book;
pub mod cluster;
pub mod event;
pub mod fault;
pub mod own_node;
pub mod reason;
pub mod reporter;
pub mod volumes;

pub use access::Access;
pub use cluster::Cluster;
pub use event::About;
pub use event::Report;
pub use fault::KubernetesFault;
pub use own_node::OwnNode;
pub use reason::Reason;
pub use reporter::Reporter;
pub use volumes::Volumes;
