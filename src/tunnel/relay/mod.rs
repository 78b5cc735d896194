//! Bytes from one side to the other, both ways, with bounded memory.
//!
//! One task moves both directions of a connection, because they share a session. A direction has one buffer
//! and nothing behind it: while the far side takes nothing, nothing is read from the near side. System calls
//! and copies decide what a tunnel costs, so reads and writes are of up to 256 KiB, and bytes are sealed and
//! opened where they were read to. A session by OpenSSL is a stream that does its own buffering: [`copy`].
//!
//! LONG: both directions share a session, and how a connection ends depends on both.
//!
//! Start with [`relay`]. [`upwards`] and [`downwards`] are the two directions without their sockets;
//! [`buffers`] is their memory.

pub mod buffers;
mod copy;
mod downwards;
mod marks;
mod upwards;

use std::future::poll_fn;
use std::io;
use std::io::IoSliceMut;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use rustix::io::readv;
use socket2::SockRef;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::tls::RecordSession;
use crate::tls::Session;
use crate::tls::record::RecordFault;
use crate::tls::record::Records;
use crate::tunnel::relay::buffers::Buffers;
use crate::tunnel::relay::downwards::Downwards;
use crate::tunnel::relay::upwards::Upwards;

/// How long one direction may go on after the other has ended. The NFS client closes both at once.
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// How long the replies of a worn session may take. The kernel's next calls wait meanwhile; after that it is made
/// to connect again, which takes it as long.
const QUIET_DEADLINE: Duration = Duration::from_secs(5);

/// How long the kernel may take to close a connection that has ended between two calls.
const FAREWELL: Duration = Duration::from_secs(1);
/// What follows no calls, as far as we see, may be cut after it has carried nothing for so long.
const SILENCE: Duration = Duration::from_millis(100);

/// Buffers that a connection may move one way before others get their turn: some 2 MiB, a millisecond.
const TURN: u32 = 8;

/// Bytes that have been handed on.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the kernel.
    pub to_server: AtomicU64,
    /// From the server.
    pub to_kernel: AtomicU64,
}

impl Traffic {
    /// All bytes, for telling whether anything moves.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.to_server.load(Ordering::Relaxed) + self.to_kernel.load(Ordering::Relaxed)
    }
}

/// Why a connection ended before both sides had.
#[derive(Debug, thiserror::Error)]
pub enum RelayFault {
    /// The kernel's side is lost.
    #[error("the connection from the kernel was lost: {0}")]
    Kernel(#[source] io::Error),
    /// The server's side is lost.
    #[error("the connection to the server was lost: {0}")]
    Server(#[source] io::Error),
    /// The server's side is at its end without having said so: bytes may be missing.
    #[error("the server closed the connection without ending the TLS session")]
    Truncated,
    /// The session cannot go on.
    #[error("the TLS session was lost: {0}")]
    Session(#[from] RecordFault),
    /// One side has ended and the other one does not.
    #[error("the connection stayed half closed for {} s", HALF_CLOSED.as_secs())]
    HalfClosed,
}

/// How a relay ends without a fault.
#[derive(Debug)]
pub enum Relayed {
    /// Both sides have ended.
    Whole,
    /// The session is worn out. Nothing is under way, and the kernel waits for another one.
    WornOut(TcpStream),
}

/// Moves bytes until both sides have ended, one is lost, or the session is worn out. Once `drain` is cancelled, until
/// no call is under way: no further one is taken, and the kernel makes it again over its next connection.
///
/// # Errors
/// The first fault of either side.
pub async fn relay(
    kernel: TcpStream,
    session: Session<TcpStream>,
    buffers: &Buffers,
    traffic: &Traffic,
    drain: &CancellationToken,
) -> Result<Relayed, RelayFault> {
    match session {
        Session::Rustls { stream, records } => {
            in_place(kernel, stream, records, buffers, traffic, drain).await
        }
        // Boxed, so that the others do not keep room for it.
        Session::OpenSsl(stream) => {
            let relayed = Box::pin(copy::relay(kernel, stream, traffic, drain));
            relayed.await.map(|()| Relayed::Whole)
        }
    }
}

/// Returns once the tunnel carries nothing.
async fn silence(traffic: &Traffic) {
    loop {
        let before = traffic.total();
        sleep(SILENCE).await;
        if traffic.total() == before {
            return;
        }
    }
}

async fn in_place(
    mut kernel: TcpStream,
    server: TcpStream,
    session: RecordSession,
    buffers: &Buffers,
    traffic: &Traffic,
    drain: &CancellationToken,
) -> Result<Relayed, RelayFault> {
    let RecordSession { records, received, early } = session;
    if !early.is_empty() {
        kernel.write_all(&early).await.map_err(RelayFault::Kernel)?;
    }
    let mut connection = Connection {
        upwards: Upwards::new(buffers.clone(), &records),
        downwards: Downwards::new(buffers.clone(), &received),
        kernel,
        server,
        records,
        traffic,
        ending: false,
        up: Life::Open,
        down: Life::Open,
    };
    // A thousand idle connections do not keep what their handshakes needed.
    drop((received, early));
    let result = connection.run(drain).await;
    if let Err(RelayFault::Session(fault)) = &result {
        connection.accuse(fault);
    }
    Ok(match result? {
        Goal::Quiet if drain.is_cancelled() => {
            Box::pin(connection.end_between_calls()).await;
            Relayed::Whole
        }
        Goal::Quiet => Relayed::WornOut(connection.leave()),
        Goal::OneEnd | Goal::BothEnds => Relayed::Whole,
    })
}

/// Two sockets and the session on one of them.
struct Connection<'a> {
    kernel: TcpStream,
    server: TcpStream,
    records: Box<Records>,
    upwards: Upwards,
    downwards: Downwards,
    traffic: &'a Traffic,
    /// No further call is taken.
    ending: bool,
    up: Life,
    down: Life,
}

/// ```text
/// Open --end of file, close_notify--> Ending --all is sent--> Ended
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    Ending,
    Ended,
}

/// What to wait for, and what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// The end of one direction.
    OneEnd,
    /// Of both.
    BothEnds,
    /// The moment between two calls, with no reply outstanding.
    Quiet,
}

impl Connection<'_> {
    async fn run(&mut self, drain: &CancellationToken) -> Result<Goal, RelayFault> {
        let mut reached = tokio::select! {
            biased;
            reached = poll_fn(|cx| self.poll_until(cx, Goal::OneEnd)) => reached?,
            () = drain.cancelled() => Goal::Quiet,
        };
        if reached == Goal::Quiet {
            // No more calls are taken until those that are under way have had their replies.
            self.ending = true;
            reached = Box::pin(self.run_until_quiet(drain)).await?;
        }
        if reached == Goal::OneEnd {
            let last = poll_fn(|cx| self.poll_until(cx, Goal::BothEnds));
            reached = timeout(HALF_CLOSED, last).await.unwrap_or(Err(RelayFault::HalfClosed))?;
        }
        Ok(reached)
    }

    async fn run_until_quiet(&mut self, drain: &CancellationToken) -> Result<Goal, RelayFault> {
        let lost = self.upwards.is_lost() || self.downwards.is_lost();
        if lost && drain.is_cancelled() {
            let traffic = self.traffic;
            return tokio::select! {
                reached = poll_fn(|cx| self.poll_until(cx, Goal::BothEnds)) => reached,
                () = silence(traffic) => Ok(Goal::Quiet),
            };
        }
        let quiet = poll_fn(|cx| self.poll_until(cx, Goal::Quiet));
        if drain.is_cancelled() {
            // Whoever drains has a deadline of its own.
            return quiet.await;
        }
        let spent = Err(RelayFault::Session(RecordFault::KeysSpent));
        timeout(QUIET_DEADLINE, quiet).await.unwrap_or(spent)
    }

    /// Moves what can be moved. Ready when `goal` is reached, or [`Goal::OneEnd`] on the way to quiet; on the
    /// way to an end, [`Goal::Quiet`] as soon as that is what to wait for.
    fn poll_until(&mut self, cx: &mut Context<'_>, goal: Goal) -> Poll<Result<Goal, RelayFault>> {
        // Downwards first: what it finds may have to be answered upwards.
        let down = self.poll_downwards(cx)?.is_ready();
        let up = self.poll_upwards(cx)?.is_ready();
        let reached = match goal {
            Goal::BothEnds => (down && up).then_some(Goal::BothEnds),
            _ if down || up => Some(Goal::OneEnd),
            Goal::OneEnd => self.records.is_worn().then_some(Goal::Quiet),
            Goal::Quiet => self.is_quiet().then_some(Goal::Quiet),
        };
        reached.map_or(Poll::Pending, |reached| Poll::Ready(Ok(reached)))
    }

    fn is_quiet(&self) -> bool {
        let calls = self.upwards.between_calls().filter(|_| self.upwards.pending().is_empty());
        calls.is_some() && calls == self.downwards.between_replies()
    }

    /// Ends the session, and gives the kernel's side back.
    fn leave(mut self) -> TcpStream {
        if self.records.close(self.upwards.queue()).is_ok() {
            let _ = self.server.try_write(self.upwards.pending());
        }
        self.kernel
    }

    /// Ends both sides. What the kernel has sent meanwhile is not taken: it gets no reply, and is sent again over the
    /// next connection. It is read all the same, or closing would be a reset, which may overtake the last reply.
    async fn end_between_calls(self) {
        let kernel = self.leave();
        let closed = async {
            shut(&kernel, Shutdown::Write)?;
            loop {
                kernel.readable().await?;
                match kernel.try_read(&mut [0; 4096]) {
                    Ok(0) => return io::Result::Ok(()),
                    Err(error) if !is_passing(&error) => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
        };
        let _either_way = timeout(FAREWELL, closed).await;
    }

    fn poll_upwards(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayFault>> {
        for _ in 0..TURN {
            ready!(self.poll_send(cx))?;
            if self.records.owes() && self.up == Life::Open {
                self.records.pay(self.upwards.queue())?;
                continue;
            }
            match self.up {
                Life::Open => ready!(self.poll_take(cx))?,
                Life::Ending => {
                    shut(&self.server, Shutdown::Write).map_err(RelayFault::Server)?;
                    self.up = Life::Ended;
                }
                Life::Ended => return Poll::Ready(Ok(())),
            }
        }
        next_turn(cx)
    }

    fn poll_downwards(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayFault>> {
        for _ in 0..TURN {
            self.downwards.open(&mut self.records)?;
            ready!(self.poll_hand_on(cx))?;
            match self.down {
                Life::Open if self.downwards.is_closed() => self.down = Life::Ending,
                Life::Open => ready!(self.poll_receive(cx))?,
                Life::Ending => {
                    shut(&self.kernel, Shutdown::Write).map_err(RelayFault::Kernel)?;
                    self.down = Life::Ended;
                }
                Life::Ended => return Poll::Ready(Ok(())),
            }
        }
        next_turn(cx)
    }

    /// Sends everything that is sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayFault>> {
        loop {
            let pending = self.upwards.pending();
            if pending.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let sent = ready!(Pin::new(&mut self.server).poll_write(cx, pending));
            let plain = self.upwards.sent(sent.map_err(RelayFault::Server)?);
            self.traffic.to_server.fetch_add(plain as u64, Ordering::Relaxed);
        }
    }

    /// Reads from the kernel, and seals.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayFault>> {
        if self.takes_no_call() && self.upwards.between_calls().is_some() {
            self.upwards.idle();
            return Poll::Pending;
        }
        if self.kernel.poll_read_ready(cx).map_err(RelayFault::Kernel)?.is_pending() {
            self.upwards.idle();
            return Poll::Pending;
        }
        match self.take() {
            Ok(0) => {
                self.upwards.idle();
                self.records.close(self.upwards.queue())?;
                self.up = Life::Ending;
            }
            Ok(length) => self.upwards.filled(length, &mut self.records)?,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Poll::Ready(Err(RelayFault::Kernel(error))),
        }
        Poll::Ready(Ok(()))
    }

    fn takes_no_call(&self) -> bool {
        self.ending || self.records.is_worn()
    }

    /// At the end, not a byte of the next call is taken.
    fn take(&mut self) -> io::Result<usize> {
        if self.takes_no_call() {
            return read_until_short(&self.kernel, &mut [self.upwards.space_within_call()]);
        }
        read_until_short(&self.kernel, &mut self.upwards.spaces())
    }

    /// Writes everything that is opened.
    fn poll_hand_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayFault>> {
        while self.downwards.has_pending() {
            let pending = self.downwards.pending();
            let pending = pending.split(|slice| slice.is_empty()).next().unwrap_or_default();
            let sent = ready!(Pin::new(&mut self.kernel).poll_write_vectored(cx, pending));
            let sent = sent.map_err(RelayFault::Kernel)?;
            self.downwards.sent(sent);
            self.traffic.to_kernel.fetch_add(sent as u64, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the server.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayFault>> {
        if self.server.poll_read_ready(cx).map_err(RelayFault::Server)?.is_pending() {
            self.downwards.idle();
            return Poll::Pending;
        }
        let space = IoSliceMut::new(self.downwards.space());
        match read_until_short(&self.server, &mut [space]) {
            Ok(0) => Poll::Ready(Err(RelayFault::Truncated)),
            Ok(length) => {
                self.downwards.filled(length);
                Poll::Ready(Ok(()))
            }
            Err(error) if is_passing(&error) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(RelayFault::Server(error))),
        }
    }

    /// Tells the server what was wrong, where nothing is in the way.
    fn accuse(&mut self, fault: &RecordFault) {
        if self.upwards.pending().is_empty() {
            self.records.accuse(fault, self.upwards.queue());
            let _ = self.server.try_write(self.upwards.pending());
        }
    }
}

/// Lets other connections have their turn before this one goes on.
fn next_turn<T>(cx: &Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Reads what is there. A read that is shorter than its room has emptied the socket: no second one has to find
/// that out.
fn read_until_short(stream: &TcpStream, spaces: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let used = spaces.iter().position(|space| space.is_empty()).unwrap_or(spaces.len());
    let spaces = spaces.get_mut(..used).unwrap_or_default();
    let room: usize = spaces.iter().map(|space| space.len()).sum();
    let mut read = None;
    let state = stream.try_io(Interest::READABLE, || {
        let length = readv(stream, spaces)?;
        read = Some(length);
        // Makes tokio wait for news from the kernel. The end of the file is no news, it is remembered.
        if (1..room).contains(&length) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match read {
        Some(length) => Ok(length),
        None => state.map(|()| 0),
    }
}

/// Not a fault: the next turn finds out.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn shut(stream: &TcpStream, how: Shutdown) -> io::Result<()> {
    SockRef::from(stream).shutdown(how)
}

#[cfg(test)]
mod tests;
