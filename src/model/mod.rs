//! The words of the domain: mount targets, volumes, paths, options.
//!
//! Pure values. Nothing here reads a file, a clock, a socket or the cluster, so every rule about "what may a
//! user ask for" is tested without a fake.
//!
//! Read [`VolumeAttributes::parse`] first: it is the door that a user's strings come in by.

pub mod attributes;
pub mod changes;
pub mod client_identity;
pub mod device_name;
pub mod export_path;
pub mod mount_target;
pub mod nearest;
pub mod nfs_option;
pub mod snapshot_handle;
pub mod storage_class;
pub mod tls_policy;
pub mod tunnel_spec;
pub mod volume_class;
pub mod volume_handle;
pub mod volume_id;
pub mod volume_ref;
pub mod zone;

pub use attributes::AttributeError;
pub use attributes::MountProtocol;
pub use attributes::VolumeAttributes;
pub use changes::ChangeError;
pub use changes::Changes;
pub use client_identity::ClientSubject;
pub use device_name::DeviceName;
pub use device_name::DeviceNameError;
pub use export_path::ExportPath;
pub use mount_target::MountTarget;
pub use nfs_option::MountOptions;
pub use nfs_option::NfsVersion;
pub use snapshot_handle::SnapshotHandle;
pub use storage_class::ClassError;
pub use storage_class::OnDelete;
pub use storage_class::StorageClass;
pub use tls_policy::TlsPolicy;
pub use tunnel_spec::RemotePort;
pub use tunnel_spec::ServerName;
pub use tunnel_spec::TunnelSpec;
pub use volume_class::VolumeClass;
pub use volume_handle::Export;
pub use volume_handle::VolumeHandle;
pub use volume_handle::VolumeKey;
pub use volume_id::VolumeId;
pub use volume_ref::AccessPointHandle;
pub use volume_ref::FileSystemHandle;
pub use volume_ref::VolumeRef;
pub use zone::Zone;
