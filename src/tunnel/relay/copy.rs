//! The relay for a session that is a stream of plain text: OpenSSL's.
//!
//! One small buffer for each direction: while the far side takes nothing, nothing is read from the near side.
//! OpenSSL keeps a record of its own besides. It is for the few servers that rustls has nothing in common with, so
//! it is kept simple, not fast. A session does not wear out here: OpenSSL counts no records.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::tunnel::relay::HALF_CLOSED;
use crate::tunnel::relay::RelayFault;
use crate::tunnel::relay::Traffic;

/// The plain bytes of one record: OpenSSL gives and takes no more at once.
const BUFFER: usize = 16 * 1024;

/// Moves bytes until both sides have ended, or one is lost.
///
/// # Errors
/// The first fault of either side.
pub(super) async fn relay<K, S>(kernel: K, server: S, traffic: &Traffic) -> Result<(), RelayFault>
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
    use std::time::Duration;

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
