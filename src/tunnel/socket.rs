//! Options of TCP sockets, on both legs of a tunnel.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::net::TcpStream;

/// A peer that is gone is noticed after this much silence, whether or not bytes are under way to it.
const SILENCE: Duration = Duration::from_secs(16);
/// Two questions before that. tcp(7): with TCP_USER_TIMEOUT set, that decides instead of TCP_KEEPCNT, at the
/// first question after it; the third one is at 16 s, so the end comes then.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(8);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);
const KEEPALIVE_COUNT: u32 = 2;

const _: () = assert!(
    KEEPALIVE_IDLE.as_secs() + KEEPALIVE_COUNT as u64 * KEEPALIVE_INTERVAL.as_secs()
        <= SILENCE.as_secs()
        && SILENCE.as_secs() < 20,
    "a silent server must be noticed within 20 s"
);

/// Sends small requests at once, and notices a peer that is gone.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_COUNT);
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(SILENCE))
}
