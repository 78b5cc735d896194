//! Bytes from one side to the other, both ways, with bounded memory.
//!
//! One buffer for each direction and nothing behind it: while the far side takes nothing, nothing is read from
//! the near side. [`relay`] is the seam: whoever moves bytes faster replaces this file.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const BUFFER: usize = 64 * 1024;

/// How long one direction may go on after the other has ended. The NFS client closes both at once.
const HALF_CLOSED: Duration = Duration::from_secs(30);

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
    /// One side has ended and the other one does not.
    #[error("the connection stayed half closed for {} s", HALF_CLOSED.as_secs())]
    HalfClosed,
}

/// Moves bytes until both sides have ended, or one is lost.
///
/// # Errors
/// The first fault of either side.
pub async fn relay<K, S>(kernel: K, server: S, traffic: &Traffic) -> Result<(), RelayFault>
where
    K: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let (kernel_reads, kernel_writes) = tokio::io::split(kernel);
    let (server_reads, server_writes) = tokio::io::split(server);
    let upwards = async {
        pump(kernel_reads, server_writes, &traffic.to_server).await.map_err(|lost| match lost {
            Lost::From(error) => RelayFault::Kernel(error),
            Lost::To(error) => RelayFault::Server(error),
        })
    };
    let downwards = async {
        pump(server_reads, kernel_writes, &traffic.to_kernel).await.map_err(|lost| match lost {
            Lost::From(error) => RelayFault::Server(error),
            Lost::To(error) => RelayFault::Kernel(error),
        })
    };
    tokio::pin!(upwards, downwards);
    let last = tokio::select! {
        ended = &mut upwards => { ended?; timeout(HALF_CLOSED, downwards).await }
        ended = &mut downwards => { ended?; timeout(HALF_CLOSED, upwards).await }
    };
    last.unwrap_or(Err(RelayFault::HalfClosed))
}

/// Which end of a pump is lost.
enum Lost {
    From(io::Error),
    To(io::Error),
}

/// Moves bytes one way until the end, then hands the end on.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> Result<(), Lost> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await.map_err(Lost::From)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await.map_err(Lost::To);
        };
        to.write_all(bytes).await.map_err(Lost::To)?;
        to.flush().await.map_err(Lost::To)?;
        count.fetch_add(length as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::io::duplex;

    use super::*;

    const PIPE: usize = 1024;

    type Running = tokio::task::JoinHandle<(Result<(), RelayFault>, u64)>;

    /// The kernel's end, the server's end, and the relay between them.
    fn between() -> (DuplexStream, DuplexStream, Running) {
        let (kernel, near) = duplex(PIPE);
        let (far, server) = duplex(PIPE);
        let running = tokio::spawn(async move {
            let traffic = Traffic::default();
            (relay(near, far, &traffic).await, traffic.total())
        });
        (kernel, server, running)
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
