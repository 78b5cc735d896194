//! The Container Storage Interface: takes a call apart, calls, puts the answer together. Decides nothing.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`endpoint`] | the socket that we are called on |
//! | [`identity`], [`node`], [`controller`] | the services: one short handler for each call |
//! | [`request`], [`controller_request`], [`controller_snapshot`] | messages into requests; what is malformed ends here |
//! | [`defaults`] | what holds for volumes that do not say it themselves |
//! | [`code`], [`controller_code`] | one table for each call, from its errors to gRPC codes |
//! | `controller_topology` | in which zones a volume is wanted, and in which one it is |
//! | [`registration`] | how the kubelet learns of us |
//! | [`succession`] | how the next node plugin takes over |
//! | `node_event` | which of the node's errors is said in an event, and about what |
//! | [`topology`] | zones, as nodes and volumes carry them |
//! | [`troubles`] | what was said in events, counted |
//! | [`refusal`] | an error logged once and made a status |
//!
//! The code decides what the kubelet does next, so [`code`] says what each one means to it.

pub mod code;
pub mod controller;
pub mod controller_code;
pub mod controller_request;
pub mod controller_snapshot;
mod controller_topology;
pub mod defaults;
pub mod endpoint;
pub mod identity;
pub mod node;
mod node_event;
pub mod refusal;
pub mod registration;
pub mod request;
pub mod succession;
pub mod topology;
pub mod troubles;

pub use controller::ControllerService;
pub use defaults::VolumeDefaults;
pub use endpoint::CsiEndpoint;
pub use endpoint::ListenError;
pub use identity::DriverName;
pub use identity::DriverNameError;
pub use identity::IdentityService;
pub use node::NodeId;
pub use node::NodeIdError;
pub use node::NodeService;
pub use node_event::refused as event_of;
pub use registration::Registrar;
pub use succession::SuccessionService;
pub use topology::TopologyKey;
pub use troubles::Troubles;
