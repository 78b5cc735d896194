//! The relay for a session that is a stream of plain text: OpenSSL's.
//!
//! One small buffer for each direction: while the far side takes nothing, nothing is read from the near side.
//! OpenSSL keeps a record of its own besides. It is for the few servers that rustls has nothing in common with, so
//! it is kept simple, not fast. A session does not wear out here: OpenSSL counts no records.

use std::io;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::tunnel::relay::FAREWELL;
use crate::tunnel::relay::HALF_CLOSED;
use crate::tunnel::relay::RelayFault;
use crate::tunnel::relay::Traffic;
use crate::tunnel::relay::marks::Marks;
use crate::tunnel::relay::silence;

/// The plain bytes of one record: OpenSSL gives and takes no more at once.
const BUFFER: usize = 16 * 1024;

/// Moves bytes until both sides have ended, or one is lost; once `drain` is cancelled, until no call is under way.
///
/// # Errors
/// The first fault of either side.
pub(super) async fn relay<K, S>(
    kernel: K,
    server: S,
    traffic: &Traffic,
    drain: &CancellationToken,
) -> Result<(), RelayFault>
where
    K: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let (mut kernel_reads, mut kernel_writes) = tokio::io::split(kernel);
    let (mut server_reads, mut server_writes) = tokio::io::split(server);
    let under_way = UnderWay::default();
    {
        let upwards = upwards(&mut kernel_reads, &mut server_writes, traffic, &under_way, drain);
        let downwards = downwards(&mut server_reads, &mut kernel_writes, traffic, &under_way);
        tokio::select! {
            biased;
            ended = both(upwards, downwards) => return ended,
            () = under_way.none_left(drain, traffic) => {}
        }
    }
    let goodbye = async {
        let _it_ends_anyway = server_writes.shutdown().await;
        kernel_writes.shutdown().await?;
        // A further call is not taken: without a reply it is sent again.
        while kernel_reads.read(&mut [0; 512]).await? > 0 {}
        io::Result::Ok(())
    };
    let _either_way = timeout(FAREWELL, goodbye).await;
    Ok(())
}

/// Waits for both directions; for the second one not for ever.
async fn both(
    upwards: impl Future<Output = Result<(), RelayFault>>,
    downwards: impl Future<Output = Result<(), RelayFault>>,
) -> Result<(), RelayFault> {
    tokio::pin!(upwards, downwards);
    let last = tokio::select! {
        ended = &mut upwards => { ended?; timeout(HALF_CLOSED, downwards).await }
        ended = &mut downwards => { ended?; timeout(HALF_CLOSED, upwards).await }
    };
    last.unwrap_or(Err(RelayFault::HalfClosed))
}

/// Which calls have not had their replies.
#[derive(Debug, Default)]
struct UnderWay {
    calls: Mutex<Marks>,
    replies: Mutex<Marks>,
    /// No further call is taken.
    ending: AtomicBool,
    progress: Notify,
}

impl UnderWay {
    /// Returns once draining has begun and every call has had its reply; where there are no calls, once nothing moves.
    async fn none_left(&self, drain: &CancellationToken, traffic: &Traffic) {
        drain.cancelled().await;
        self.ending.store(true, Ordering::Relaxed);
        loop {
            let (between, lost) = {
                let (calls, replies) = (lock(&self.calls), lock(&self.replies));
                let between = calls.is_between() && replies.is_between();
                let even = calls.messages() == replies.messages();
                (between && even, calls.is_lost() || replies.is_lost())
            };
            if lost {
                return silence(traffic).await;
            }
            if between {
                return;
            }
            self.progress.notified().await;
        }
    }

    /// How much of the kernel's bytes may be taken; nothing between two calls, at the end.
    fn room(&self) -> usize {
        let calls = lock(&self.calls);
        match self.ending.load(Ordering::Relaxed) && !calls.is_lost() {
            true if calls.is_between() => 0,
            true => calls.wanted().min(BUFFER),
            false => BUFFER,
        }
    }

    fn follow(&self, marks: &Mutex<Marks>, bytes: &[u8]) {
        lock(marks).follow(bytes);
        if self.ending.load(Ordering::Relaxed) {
            self.progress.notify_one();
        }
    }
}

fn lock(marks: &Mutex<Marks>) -> MutexGuard<'_, Marks> {
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves calls until the end, then hands the end on.
async fn upwards(
    mut kernel: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    traffic: &Traffic,
    under_way: &UnderWay,
    drain: &CancellationToken,
) -> Result<(), RelayFault> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let room = under_way.room();
        if room == 0 {
            // Until the connection ends.
            std::future::pending::<()>().await;
        }
        let space = buffer.get_mut(..room).unwrap_or_default();
        let length = tokio::select! {
            biased;
            () = drain.cancelled(), if !under_way.ending.load(Ordering::Relaxed) => {
                under_way.ending.store(true, Ordering::Relaxed);
                continue;
            }
            length = kernel.read(space) => length.map_err(RelayFault::Kernel)?,
        };
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return server.shutdown().await.map_err(RelayFault::Server);
        };
        // Before they are handed on: from here on a reply is due.
        under_way.follow(&under_way.calls, bytes);
        hand_on(&mut server, bytes).await.map_err(RelayFault::Server)?;
        traffic.to_server.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Moves replies until the end, then hands the end on.
async fn downwards(
    mut server: impl AsyncRead + Unpin,
    mut kernel: impl AsyncWrite + Unpin,
    traffic: &Traffic,
    under_way: &UnderWay,
) -> Result<(), RelayFault> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = server.read(&mut buffer).await.map_err(RelayFault::Server)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return kernel.shutdown().await.map_err(RelayFault::Kernel);
        };
        hand_on(&mut kernel, bytes).await.map_err(RelayFault::Kernel)?;
        traffic.to_kernel.fetch_add(length as u64, Ordering::Relaxed);
        under_way.follow(&under_way.replies, bytes);
    }
}

async fn hand_on(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::DuplexStream;
    use tokio::io::duplex;

    use super::*;

    const PIPE: usize = 1024;

    type Running = tokio::task::JoinHandle<(Result<(), RelayFault>, u64)>;

    /// The kernel's end, the server's end, and the relay between them.
    fn between() -> (DuplexStream, DuplexStream, Running) {
        let (kernel, server, running, _never) = with_drain();
        (kernel, server, running)
    }

    fn with_drain() -> (DuplexStream, DuplexStream, Running, CancellationToken) {
        let (kernel, near) = duplex(PIPE);
        let (far, server) = duplex(PIPE);
        let drain = CancellationToken::new();
        let drained = drain.clone();
        let running = tokio::spawn(async move {
            let traffic = Traffic::default();
            (relay(near, far, &traffic, &drained).await, traffic.total())
        });
        (kernel, server, running, drain)
    }

    #[tokio::test(start_paused = true)]
    async fn it_too_ends_between_two_calls_and_takes_no_further_one() {
        const CALL: [u8; 8] = [0x80, 0, 0, 4, 0, 0, 0, 1];
        const REPLY: [u8; 6] = [0x80, 0, 0, 2, 0, 1];
        let (mut kernel, mut server, running, drain) = with_drain();
        kernel.write_all(&[&CALL[..], &CALL[..6]].concat()).await.unwrap();
        server.read_exact(&mut [0; 14]).await.unwrap();
        drain.cancel();
        tokio::time::sleep(Duration::from_secs(2)).await;
        kernel.write_all(&[&CALL[6..], &CALL[..]].concat()).await.unwrap();
        server.read_exact(&mut [0; 2]).await.unwrap();
        server.write_all(&[REPLY, REPLY].concat()).await.unwrap();
        let mut replies = Vec::new();
        timeout(Duration::from_secs(5), kernel.read_to_end(&mut replies)).await.unwrap().unwrap();
        assert_eq!(replies, [REPLY, REPLY].concat());
        drop(kernel);
        let mut further = Vec::new();
        server.read_to_end(&mut further).await.unwrap();
        assert!(further.is_empty(), "a call was taken that gets no reply");
        running.await.unwrap().0.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_carries_no_calls_ends_once_it_is_silent() {
        let (mut kernel, mut server, running, drain) = with_drain();
        kernel.write_all(b"no nfs").await.unwrap();
        server.read_exact(&mut [0; 6]).await.unwrap();
        drain.cancel();
        assert_eq!(kernel.read(&mut [0]).await.unwrap(), 0);
        drop(kernel);
        running.await.unwrap().0.unwrap();
    }

    #[tokio::test]
    async fn an_end_is_handed_on_while_the_other_direction_goes_on() {
        let (mut kernel, mut server, running) = between();
        kernel.write_all(b"call").await.unwrap();
        kernel.shutdown().await.unwrap();
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.unwrap();
        server.write_all(b"reply").await.unwrap();
        drop(server);
        let mut answered = String::new();
        kernel.read_to_string(&mut answered).await.unwrap();
        assert_eq!((asked.as_str(), answered.as_str()), ("call", "reply"));
        let (result, total) = running.await.unwrap();
        result.unwrap();
        assert_eq!(total, 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_connection_ends_after_a_while() {
        let (mut kernel, _server, running) = between();
        kernel.shutdown().await.unwrap();
        let (result, _) = running.await.unwrap();
        assert!(matches!(result, Err(RelayFault::HalfClosed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_reads_nothing_stops_our_reading() {
        let (mut kernel, _server, _running) = between();
        let mut taken = 0;
        while let Ok(written) = timeout(Duration::from_secs(1), kernel.write(&[0; 1024])).await {
            taken += written.unwrap();
        }
        assert!(taken <= 2 * PIPE + BUFFER, "{taken}");
    }
}
