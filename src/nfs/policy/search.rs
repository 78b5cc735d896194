//! Finding out where a service listens, and whether it answers, before the kernel is sent there.
//!
//! A server that swallows packets keeps the kernel for three minutes and a mount cannot say which of its ports
//! it was; a NULL call finds out in seconds.
//!
//! ```text
//! candidate ─> port known? ─no─> ask rpcbind ─> NULL call ─> found
//!     ^                               │             │
//!     └────── the next candidate <────┴─────────────┘   none left: the failure that says most
//! ```
//!
//! Where rpcbind does not answer over TCP, it is asked for the same port over UDP, unless the user named a transport:
//! a firewall that lets NFS through and not port 111 over TCP is no reason to fail (mount.nfs fails there). It costs
//! the limit of one call over UDP, and only a mount that would fail without.

use std::collections::VecDeque;

use super::job::Endpoint;
use crate::host::resolve::ServerAddress;
use crate::model::nfs_option::Transport;
use crate::nfs::cause::Cause;
use crate::nfs::class::Class;
use crate::nfs::diagnose::Diagnosis;
use crate::nfs::probe::RpcFault;
use crate::nfs::probe::Service;

/// A service that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    service: Service,
    /// What the user said.
    given_port: Option<u16>,
    /// Where it is looked for, the place at hand first.
    candidates: VecDeque<Candidate>,
    /// What rpcbind said of the place at hand.
    told_port: Option<u16>,
    found: Option<Endpoint>,
    /// Of the failures so far, the one that says most.
    fault: Option<Diagnosis>,
}

/// Somewhere to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: ServerAddress,
    pub(super) transport: Transport,
    /// What rpcbind is asked over, where the port is not known.
    pub(super) rpcbind_over: Transport,
}

/// What is to be asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// rpcbind.
    AskPort(Candidate),
    /// The service.
    Ping(Endpoint),
    /// Nobody.
    Ended(Result<Endpoint, Diagnosis>),
}

impl Search {
    /// Port 0 stands for asking rpcbind.
    pub(super) fn new(
        service: Service,
        port: Option<u16>,
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Self {
        Self {
            service,
            given_port: port.filter(|port| *port != 0),
            candidates: candidates.into_iter().collect(),
            told_port: None,
            found: None,
            fault: None,
        }
    }

    /// A search whose end is known.
    pub(super) fn ended(service: Service, end: Result<Endpoint, Diagnosis>) -> Self {
        let (found, fault) = match end {
            Ok(endpoint) => (Some(endpoint), None),
            Err(diagnosis) => (None, Some(diagnosis)),
        };
        Self { found, fault, ..Self::new(service, None, []) }
    }

    pub(super) fn service(&self) -> Service {
        self.service
    }

    pub(super) fn found(&self) -> Option<Endpoint> {
        self.found
    }

    pub(super) fn next(&self) -> Next {
        if let Some(endpoint) = self.found {
            return Next::Ended(Ok(endpoint));
        }
        let Some(candidate) = self.candidates.front().copied() else {
            return Next::Ended(Err(self.fault.clone().unwrap_or_else(nowhere_to_look)));
        };
        match self.given_port.or(self.told_port) {
            None => Next::AskPort(candidate),
            Some(port) => Next::Ping(candidate.at(port)),
        }
    }

    /// What rpcbind said to the question `asked`.
    pub(super) fn port_told(&mut self, answer: Result<u16, RpcFault>, asked: &str) {
        let Next::AskPort(candidate) = self.next() else { return };
        match answer {
            // rpcbind says 0 for what it does not know (RFC 1833, section 3.2).
            Ok(0) => self.port_told(Err(RpcFault::NotRegistered), asked),
            Ok(port) => self.told_port = Some(port),
            Err(fault) => {
                let transport = candidate.transport;
                let is_silent = !matches!(fault, RpcFault::NotRegistered);
                // That it did not answer the same question otherwise is no news then.
                if !is_silent && candidate.rpcbind_over != transport {
                    self.fault = None;
                }
                self.candidates.retain(|other| match is_silent {
                    true => !other.asks_the_same(candidate),
                    false => !other.is_the_same(candidate),
                });
                self.go_on(Diagnosis::of_rpcbind(&fault, self.service, transport, asked));
            }
        }
    }

    /// What the service said to the question `asked`. One that wants other credentials than none is there too.
    pub(super) fn pinged(&mut self, answer: Result<(), RpcFault>, asked: &str) {
        let Next::Ping(endpoint) = self.next() else { return };
        match answer {
            Ok(()) | Err(RpcFault::Denied) => self.found = Some(endpoint),
            Err(fault) => {
                self.candidates.retain(|other| {
                    (other.address, other.transport) != (endpoint.address, endpoint.transport)
                });
                self.go_on(Diagnosis::of_ping(&fault, self.service, asked));
            }
        }
    }

    /// The candidate at hand is out already.
    fn go_on(&mut self, diagnosis: Diagnosis) {
        self.told_port = None;
        let says_more = |before: &Diagnosis| diagnosis.cause.weight() > before.cause.weight();
        if self.fault.as_ref().is_none_or(says_more) {
            self.fault = Some(diagnosis);
        }
    }
}

impl Candidate {
    /// One that is looked for where it is found.
    pub(super) fn new(address: ServerAddress, transport: Transport) -> Self {
        Self { address, transport, rpcbind_over: transport }
    }

    /// The other way to ask for the same, where there is one.
    pub(super) fn asked_over_udp(self) -> Option<Self> {
        let other = Self { rpcbind_over: Transport::Udp, ..self };
        (self.transport == Transport::Tcp && self.address.ip.is_ipv4()).then_some(other)
    }

    fn is_the_same(self, other: Self) -> bool {
        (self.address, self.transport) == (other.address, other.transport)
    }

    fn asks_the_same(self, other: Self) -> bool {
        (self.address, self.rpcbind_over) == (other.address, other.rpcbind_over)
    }

    fn at(self, port: u16) -> Endpoint {
        Endpoint { address: self.address, transport: self.transport, port }
    }
}

/// An empty list of addresses, which no resolver gives.
fn nowhere_to_look() -> Diagnosis {
    Diagnosis::new(Cause::Unreachable, Class::TEMPORARY, "no address to look at")
}
