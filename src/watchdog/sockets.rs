//! The listening sockets of all tunnels, held for as long as their tunnels are wanted.
//!
//! Each is bound once, here. A tunnel process gets a further descriptor of it. So a socket goes on listening while no
//! tunnel process lives: the kernel's reconnect is not refused but waits in the socket's queue, and the next process
//! finds it there. A kernel that is refused once comes again after 3 s at the earliest (net/sunrpc/xprtsock.c,
//! XS_TCP_INIT_REEST_TO).
//!
//! An address that cannot be bound here is left to the tunnel process: it says who listens there, and waits for it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Makes listening sockets.
pub trait Bind: Send + Sync + fmt::Debug {
    /// A socket that listens there.
    fn bind(&self, endpoint: SocketAddrV4) -> io::Result<TcpListener>;
}

/// Those of this network namespace.
#[derive(Clone, Copy, Debug)]
pub struct LinuxSockets;

impl Bind for LinuxSockets {
    fn bind(&self, endpoint: SocketAddrV4) -> io::Result<TcpListener> {
        // std sets SO_REUSEADDR, so connections in TIME_WAIT do not keep us out, and never SO_REUSEPORT.
        TcpListener::bind(endpoint)
    }
}

/// Every socket, by where it listens.
#[derive(Debug)]
pub struct Sockets {
    bind: Box<dyn Bind>,
    held: Mutex<BTreeMap<SocketAddrV4, TcpListener>>,
}

impl Sockets {
    /// None yet.
    #[must_use]
    pub fn new(bind: impl Bind + 'static) -> Self {
        Self { bind: Box::new(bind), held: Mutex::default() }
    }

    /// A descriptor of the socket that listens there, which is bound where it is not held yet. None where that fails.
    pub fn ensure(&self, endpoint: SocketAddrV4) -> Option<OwnedFd> {
        match self.try_ensure(endpoint) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::debug!(tunnel.address = %endpoint, %error, "left to the tunnel process to bind");
                None
            }
        }
    }

    fn try_ensure(&self, endpoint: SocketAddrV4) -> io::Result<OwnedFd> {
        let mut held = self.held();
        let socket = match held.remove(&endpoint) {
            Some(socket) => socket,
            None => self.bind.bind(endpoint)?,
        };
        let copy = socket.try_clone();
        held.insert(endpoint, socket);
        Ok(copy?.into())
    }

    /// Holds those of `sockets` that are wanted, and closes the rest. Answers how many it holds.
    pub fn adopt(&self, sockets: Vec<OwnedFd>, wanted: impl Fn(SocketAddrV4) -> bool) -> usize {
        let mut held = self.held();
        for socket in sockets.into_iter().map(TcpListener::from) {
            match socket.local_addr() {
                Ok(SocketAddr::V4(endpoint)) if wanted(endpoint) => {
                    held.insert(endpoint, socket);
                }
                _ => {}
            }
        }
        held.len()
    }

    /// Closes the socket that listens there. The tunnel process has closed its own before.
    pub fn release(&self, endpoint: SocketAddrV4) {
        self.held().remove(&endpoint);
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<SocketAddrV4, TcpListener>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod fake {
    use super::*;

    /// Sockets that listen, but at ports of their own: tests share one machine.
    #[derive(Debug)]
    pub(in crate::watchdog) struct FakeSockets;

    impl Bind for FakeSockets {
        fn bind(&self, endpoint: SocketAddrV4) -> io::Result<TcpListener> {
            TcpListener::bind(SocketAddrV4::new(*endpoint.ip(), 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn any_endpoint() -> SocketAddrV4 {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(endpoint) = socket.local_addr().unwrap() else { panic!() };
        endpoint
    }

    #[test]
    fn who_connects_while_no_process_lives_waits_for_the_next_one() {
        let (sockets, endpoint) = (Sockets::new(LinuxSockets), any_endpoint());
        drop(sockets.ensure(endpoint).unwrap());
        let _kernel = TcpStream::connect(endpoint).unwrap();
        let next = TcpListener::from(sockets.ensure(endpoint).unwrap());
        next.accept().unwrap();
    }

    #[test]
    fn a_released_address_is_free_and_one_that_is_taken_is_left_to_the_tunnel_process() {
        let (sockets, endpoint) = (Sockets::new(LinuxSockets), any_endpoint());
        drop(sockets.ensure(endpoint).unwrap());
        sockets.release(endpoint);
        sockets.release(endpoint);
        let _other = TcpListener::bind(endpoint).unwrap();
        assert!(sockets.ensure(endpoint).is_none());
    }

    #[test]
    fn sockets_of_a_former_watchdog_are_held_where_they_are_wanted() {
        let bound = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [SocketAddr::V4(wanted), SocketAddr::V4(other)] =
            bound.each_ref().map(|socket| socket.local_addr().unwrap())
        else {
            panic!()
        };
        let sockets = Sockets::new(LinuxSockets);
        let handed_over = bound.into_iter().map(OwnedFd::from).collect();
        assert_eq!(sockets.adopt(handed_over, |endpoint| endpoint == wanted), 1);
        assert!(sockets.ensure(wanted).is_some());
        TcpListener::bind(other).unwrap();
    }
}
