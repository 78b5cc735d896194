//! Desired tunnels against living ones.
//!
//! ```text
//!     node plugin ──Acquire, Release──> service ──> tunnels ──Open, Close, Probe──> tunnel process
//!                                                    │   ^                            ^
//!                                     records <──────┘   └─ reaper (every second)     │ start, heartbeat, kill
//!                                                                                   driver
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`record`], `book` | what is wanted, on disk and in memory |
//! | [`address`], [`closing`], [`health`], [`supervise`] | the decisions, as pure functions |
//! | [`tunnels`], [`reaper`], [`checkup`], [`driver`] | what carries them out |
//! | [`process`], [`relay`], `predecessor` | the tunnel process and how to talk to it |
//! | [`sockets`] | the listening sockets, which outlive every tunnel process |
//! | `strays`, [`neighbourhood`], [`notices`] | mounts without a record, other watchdogs, and what an operator is told |
//! | [`report`] | what is known about all of it, for people and for metrics |
//! | [`hosts`] | lines of `/etc/hosts`, where they are asked for |
//! | [`service`] | the door for the node plugin |
//!
//! Deliberately absent: nothing here touches a mounted file or another process's `/proc`, so that no dead
//! server can ever block the watchdog. Start with [`tunnels::Tunnels::acquire`].

pub mod address;
mod book;
pub mod checkup;
pub mod closing;
pub mod condition;
pub mod driver;
pub mod health;
pub mod hosts;
pub mod neighbourhood;
pub mod notices;
mod predecessor;
pub mod process;
pub mod reaper;
pub mod record;
pub mod relay;
pub mod report;
pub mod service;
pub mod sockets;
mod strays;
pub mod supervise;
pub mod tunnels;

#[cfg(test)]
mod fake;
