//! The lab's furniture: what the tests and the demo share.
//!
//! Nothing of the driver is linked in but the words of its protocols, and its records in the benchmark's server;
//! the driver itself runs as the real binary, in processes of its own. Start with [`nas`] for the server side and
//! [`driver`] for ours.

pub mod api_server;
pub mod bench;
pub mod beside;
pub mod cable;
pub mod capture;
pub mod cases;
pub mod certificates;
pub mod cloud;
pub mod cluster;
pub mod controller;
pub mod csi_client;
pub mod data;
pub mod driver;
pub mod failure;
pub mod ganesha;
pub mod lab;
pub mod listing;
pub mod name_service;
pub mod nas;
pub mod nginx;
pub mod openapi;
pub mod operator;
pub mod plain;
pub mod process;
pub mod provisioner;
pub mod sanity;
pub mod scene;
pub mod sidecar;
pub mod small_cluster;
pub mod steady_io;
pub mod survival;
pub mod tls_lab;
pub mod troubles;
pub mod tunnel_program;
pub mod vendor_page;
