//! The generated protobuf types, and nothing else.
//!
//! Hand-written code lives in the layers that use them: `csi` for the Container Storage Interface and the kubelet, `node`,
//! `watchdog` and `tunnel` for the tunnel service, `runtime` for the log.

/// The Container Storage Interface, from `proto/csi/v1/csi.proto`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated code"
)]
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// The words about the log of a process, from `proto/alinas/log/v1/log.proto`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated code"
)]
pub mod log {
    tonic::include_proto!("alinas.log.v1");
}

/// The words between node plugin, watchdog and tunnel, from `proto/alinas/tunnel/v1/tunnel.proto`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated code"
)]
pub mod tunnel {
    tonic::include_proto!("alinas.tunnel.v1");
}

/// The kubelet's way to learn of a driver, from `proto/kubelet/pluginregistration/v1/api.proto`.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated code"
)]
pub mod kubelet {
    tonic::include_proto!("pluginregistration");
}
