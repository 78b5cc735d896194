//! One loopback address, and the life of each connection to it.
//!
//! The socket is bound once and held: an address that is bound, closed and bound again could meanwhile be
//! another tunnel's, and has shown one mount another file system's data.
//!
//! Connections are looked at one after the other, so that a process that connects without end costs one thread
//! and delays the kernel by milliseconds.

use std::io;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::host::peer::Connection;
use crate::tunnel::admission::Admission;
use crate::tunnel::carriers::Carriers;
use crate::tunnel::carriers::Place;
use crate::tunnel::dial::Dialer;
use crate::tunnel::dial::Dialled;
use crate::tunnel::gate::Gate;
use crate::tunnel::open_tunnel::OpenTunnel;
use crate::tunnel::relay::RelayFault;
use crate::tunnel::relay::Relayed;
use crate::tunnel::relay::buffers::Buffers;
use crate::tunnel::relay::relay;
use crate::tunnel::seldom::Seldom;
use crate::tunnel::socket;

/// At once, per listener. A mount has one connection, or `nconnect` of at most 16.
pub const MOST_CONNECTIONS: usize = 64;

/// After accept(2) has failed: usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the kernel's connection is kept while the server cannot be reached. A kernel whose connection is
/// closed comes again after 3 s, then 6, and so on up to 5 minutes (net/sunrpc/xprtsock.c, XS_TCP_INIT_REEST_TO and
/// XS_TCP_MAX_REEST_TO); while it is held, its requests are on their way as soon as the server is back. It is
/// closed at last so that a kernel whose own timeout ends a request (timeo, 60 s) begins afresh.
const HELD_FOR: Duration = Duration::from_secs(60);

/// How a tunnel ends, from the gentlest.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    /// No connection is accepted any more; the socket is closed.
    pub(super) stop: CancellationToken,
    /// Connections end between two calls.
    pub(super) drain: CancellationToken,
    /// Connections end at once.
    pub(super) cut: CancellationToken,
}

/// Takes an address.
///
/// # Errors
/// `AddrInUse` where somebody else listens there.
pub fn bind(address: SocketAddrV4) -> io::Result<TcpListener> {
    // std sets SO_REUSEADDR: connections of an earlier process that linger in TIME_WAIT do not keep us out.
    // It never sets SO_REUSEPORT, by which another process could share the address.
    let socket = std::net::TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// What serves one tunnel's connections.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) tunnel: Arc<OpenTunnel>,
    pub(super) dialer: Dialer,
    pub(super) admission: Admission,
    pub(super) gate: Gate,
    pub(super) buffers: Buffers,
    pub(super) carriers: Carriers,
    pub(super) ends: Ends,
    pub(super) connections: TaskTracker,
}

impl Listener {
    /// Accepts until stopped; the socket is closed when this returns.
    pub(super) async fn accept(self: Arc<Self>, socket: Arc<TcpListener>) {
        let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let lines = Seldom::default();
        let stop = self.ends.stop.clone();
        loop {
            let next = async {
                let slot = self.slot(&slots, &lines).await;
                (slot, self.next(&socket).await)
            };
            let (slot, stream) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                next = next => next,
            };
            let place = self.carriers.place();
            let runtime = place.runtime();
            // The accepting runtime lets go of it before it begins anew on a thread that carries data.
            if let Ok(kernel) = stream.into_std() {
                let connection = Arc::clone(&self).serve(kernel, slot, place);
                self.connections.spawn_on(connection, &runtime);
            }
        }
    }

    /// While all slots are taken nothing is accepted; the kernel's queue holds who comes.
    async fn slot(&self, slots: &Arc<Semaphore>, lines: &Seldom) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return Some(slot);
        }
        if let Some(others) = lines.now() {
            tracing::warn!(
                tunnel.address = %self.tunnel.address, connections.most = MOST_CONNECTIONS, others,
                "all connections of the tunnel are in use; more have to wait"
            );
        }
        Arc::clone(slots).acquire_owned().await.ok()
    }

    /// The next connection that may come in.
    async fn next(&self, socket: &TcpListener) -> TcpStream {
        loop {
            match socket.accept().await {
                Ok((stream, peer)) if self.admits(&stream, peer).await => return stream,
                Ok(_) => {}
                Err(error) => {
                    self.tunnel.accept_failed(&error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn admits(&self, stream: &TcpStream, peer: SocketAddr) -> bool {
        let (SocketAddr::V4(peer), Ok(SocketAddr::V4(local))) = (peer, stream.local_addr()) else {
            return false;
        };
        let by_name = self.tunnel.refusals.is_due();
        match self.admission.admit(Connection { peer, local }, by_name).await {
            Ok(()) => true,
            Err(refusal) => {
                self.tunnel.refused(&refusal);
                false
            }
        }
    }

    async fn serve(
        self: Arc<Self>,
        kernel: std::net::TcpStream,
        _slot: Option<OwnedSemaphorePermit>,
        _place: Place,
    ) {
        let _open = self.tunnel.connection_begins();
        let Ok(kernel) = TcpStream::from_std(kernel) else { return };
        tokio::select! {
            () = self.carry(kernel) => {}
            () = self.ends.cut.cancelled() => {}
        }
    }

    async fn carry(&self, kernel: TcpStream) {
        if let Err(error) = socket::prepare(&kernel) {
            tracing::debug!(%error, "failed to set options of the kernel's connection");
        }
        match self.relay(kernel).await {
            Ok(()) => tracing::debug!(tunnel.target = %self.tunnel.spec, "a connection has ended"),
            Err(fault) => self.tunnel.connection_broke(&fault),
        }
    }

    /// One session after the other, should they wear out; the kernel notices nothing.
    async fn relay(&self, mut kernel: TcpStream) -> Result<(), RelayFault> {
        let drain = &self.ends.drain;
        loop {
            // Draining ends it: the kernel's call has not been taken.
            let dialling = drain.run_until_cancelled(self.dial_while_it_waits(&kernel));
            // Boxed, so that a connection does not keep the room that only its handshake needs.
            let Some(dialled) = Box::pin(dialling).await.flatten() else { return Ok(()) };
            let Dialled { session, remote, negotiated, took } = dialled;
            self.tunnel.dialled(remote, negotiated, took);
            match relay(kernel, session, &self.buffers, &self.tunnel.traffic, drain).await? {
                Relayed::Whole => return Ok(()),
                Relayed::WornOut(still_open) => kernel = still_open,
            }
            tracing::info!(tunnel.target = %self.tunnel.spec, "a worn TLS 1.2 session is replaced");
        }
    }

    /// Dials until there is a session, or nobody waits for it any more, or the kernel has waited for too long.
    async fn dial_while_it_waits(&self, kernel: &TcpStream) -> Option<Dialled> {
        let closed_at = Instant::now() + HELD_FOR;
        loop {
            let fault = match self.gate.through(self.dialer.dial(&self.tunnel.spec)).await {
                Ok(dialled) => return Some(dialled),
                Err(fault) => fault,
            };
            // The kernel connects again as soon as we close: the pause keeps it from hammering.
            sleep(self.tunnel.dial_failed(&fault)).await;
            if Instant::now() >= closed_at || hung_up(kernel).await {
                return None;
            }
        }
    }
}

/// Whether the other end has closed. Bytes that it has sent before stay where they are.
async fn hung_up(stream: &TcpStream) -> bool {
    match timeout(Duration::ZERO, stream.ready(Interest::READABLE)).await {
        Ok(Ok(ready)) => ready.is_read_closed(),
        Ok(Err(_)) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn an_end_is_seen_behind_bytes_that_nobody_has_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut kernel = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        kernel.write_all(b"call").await.unwrap();
        ours.readable().await.unwrap();
        assert!(!hung_up(&ours).await);
        drop(kernel);
        let seen = async {
            while !hung_up(&ours).await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), seen).await.unwrap();
    }
}
