//! The life of a mount target, as far as the cluster has to do with it.
//!
//! | step | where |
//! | --- | --- |
//! | its domain is read, and refused where it has no TLS | [`crate::model::mount_target`] |
//! | its region is known by its domain; a slip of the hand is named | [`region`] |
//! | one of several is chosen for a volume | [`choose`] |
//! | it resolves, answers TLS and shows a certificate that will do, before a volume is made | [`crate::controller::network`] |
//! | the API is asked how it is, where there are credentials | [`described`] |
//! | those in use are watched, and it is said what becomes of them | [`watch`] |
//!
//! The domain, never an address, goes into the volume context; nodes resolve it again at each connection.

pub mod choose;
pub mod described;
pub mod region;
pub mod watch;

pub use described::MountTargets;
pub use watch::Watcher;
