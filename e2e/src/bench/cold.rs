//! How many round trips there are before the first answer, over a path on which each takes a while.
//!
//! The path is a forwarder of ours that holds everything back for half a round trip: netem is not to be had on
//! every machine. The connection's own round trip happens before it, on loopback, and is not counted.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::failure::Result;

/// One round trip.
pub const ROUND_TRIP: Duration = Duration::from_millis(40);

/// An address at which `target` is half a round trip away.
///
/// # Errors
/// When none can be bound.
pub fn far_away(target: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(target) else { continue };
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            thread::spawn(move || hold_back(near, far));
            thread::spawn(move || hold_back(far_too, near_too));
        }
    });
    Ok(address)
}

fn hold_back(mut from: TcpStream, mut to: TcpStream) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if sender.send((Instant::now() + ROUND_TRIP / 2, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}
