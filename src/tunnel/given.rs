//! Listening sockets that the watchdog has given to this process, until a tunnel takes them.
//!
//! The watchdog binds an address once and keeps a descriptor of the socket. So the address stays ours, and whoever
//! connects to it waits in the socket's queue, while one tunnel process ends and the next one begins.
//!
//! They come over standard input, before the first listeners ([`first_words`]) and later ([`GivenSockets::follow`]).
//! A socket says itself where it listens, so nothing needs to be said beside it; a connection of Unix sockets among them
//! is what the watchdog asks over where this process cannot make a socket of its own ([`Door`](crate::tunnel::door)).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_domain;
use rustix::net::sockopt::socket_type;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::host::parcel;

/// Sockets, by where they listen.
#[derive(Debug, Default)]
pub struct GivenSockets {
    unused: Mutex<BTreeMap<SocketAddrV4, TcpListener>>,
    arrived: Notify,
    direct: Mutex<Option<OwnedFd>>,
}

impl GivenSockets {
    /// Puts a socket here. One that neither listens on IPv4 nor leads to the watchdog is of no use.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn put(&self, socket: OwnedFd) -> io::Result<()> {
        if socket_domain(socket.as_fd())? == AddressFamily::UNIX {
            *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
            return Ok(());
        }
        let socket = TcpListener::from(socket);
        let SocketAddr::V4(address) = socket.local_addr()? else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        socket.set_nonblocking(true)?;
        self.unused().insert(address, socket);
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Takes the socket that listens there.
    pub fn take(&self, address: SocketAddrV4) -> Option<TcpListener> {
        self.unused().remove(&address)
    }

    /// Takes the connection to the watchdog, where it gave one.
    pub fn take_direct(&self) -> Option<UnixStream> {
        let given = self.direct.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let direct = std::os::unix::net::UnixStream::from(given);
        direct.set_nonblocking(true).ok()?;
        UnixStream::from_std(direct).ok()
    }

    /// Whether there is a socket that listens there.
    pub fn has(&self, address: SocketAddrV4) -> bool {
        self.unused().contains_key(&address)
    }

    /// Waits until there is one, and answers whether one came in time.
    pub async fn arrival(&self, address: SocketAddrV4, deadline: Duration) -> bool {
        let arrival = async {
            loop {
                // Before the look, so that what arrives between look and wait is not missed.
                let next = self.arrived.notified();
                if self.has(address) {
                    return;
                }
                next.await;
            }
        };
        timeout(deadline, arrival).await.is_ok()
    }

    /// Puts here what comes over `stream`, until it ends with the watchdog.
    pub async fn follow(&self, stream: UnixStream) {
        let (mut text, mut sockets) = (Vec::new(), Vec::new());
        loop {
            match parcel::receive(&stream, &mut text, &mut sockets).await {
                Ok(true) => self.put_all(&mut sockets),
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "failed to receive sockets from the watchdog");
                    return;
                }
            }
            text.clear();
        }
    }

    fn put_all(&self, sockets: &mut Vec<OwnedFd>) {
        for socket in sockets.drain(..) {
            if let Err(error) = self.put(socket) {
                tracing::error!(%error, "the watchdog gave a socket that cannot be used");
            }
        }
    }

    fn unused(&self) -> MutexGuard<'_, BTreeMap<SocketAddrV4, TcpListener>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the first line of `input`, and puts the sockets that come with it into `given`. What follows comes over the
/// stream that is answered; there is none where `input` is a pipe or a file, which carry no sockets.
///
/// # Errors
/// When `input` cannot be read, or ends before its first line does.
pub async fn first_words(
    input: OwnedFd,
    given: &GivenSockets,
) -> io::Result<(String, Option<UnixStream>)> {
    if socket_type(input.as_fd()).ok() != Some(SocketType::STREAM) {
        return Ok((line_of(input).await?, None));
    }
    let stream = std::os::unix::net::UnixStream::from(input);
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    let (mut text, mut sockets) = (Vec::new(), Vec::new());
    while !text.contains(&b'\n') {
        if !parcel::receive(&stream, &mut text, &mut sockets).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        given.put_all(&mut sockets);
    }
    Ok((String::from_utf8_lossy(&text).into_owned(), Some(stream)))
}

/// The watchdog writes it at once; reading blocks a thread, not the runtime.
async fn line_of(input: OwnedFd) -> io::Result<String> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(std::fs::File::from(input)), &mut line)
            .map(|_| line)
    });
    reading.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn listener() -> (SocketAddrV4, OwnedFd) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!() };
        (address, socket.into())
    }

    #[tokio::test]
    async fn sockets_come_with_the_first_line_and_after_it() {
        let (watchdog, ours) = UnixStream::pair().unwrap();
        let ours = OwnedFd::from(ours.into_std().unwrap());
        let ((first, socket), (later, later_socket)) = (listener(), listener());
        parcel::send(&watchdog, &[socket]).await.unwrap();
        parcel::send_text(&watchdog, b"[]\n").await.unwrap();
        let given = GivenSockets::default();
        let (line, stream) = first_words(ours, &given).await.unwrap();
        assert_eq!(line.trim(), "[]");
        assert!(given.has(first) && !given.has(later));
        parcel::send(&watchdog, &[later_socket]).await.unwrap();
        tokio::select! {
            arrived = given.arrival(later, DEADLINE) => assert!(arrived),
            () = given.follow(stream.unwrap()) => panic!("the stream is open"),
        }
        assert!(given.take(later).is_some() && given.take(later).is_none());
    }

    #[tokio::test]
    async fn a_connection_among_the_sockets_is_the_watchdog_s() {
        let (watchdog, ours) = UnixStream::pair().unwrap();
        let given = GivenSockets::default();
        given.put(ours.into_std().unwrap().into()).unwrap();
        let (address, socket) = listener();
        given.put(socket).unwrap();
        assert!(given.has(address));
        let direct = given.take_direct().unwrap();
        assert!(given.take_direct().is_none());
        drop(watchdog);
        direct.readable().await.unwrap();
        assert_eq!(direct.try_read(&mut [0]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_pipe_carries_the_line_alone() {
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&theirs, b"[]\n").unwrap();
        let (line, stream) = first_words(ours, &GivenSockets::default()).await.unwrap();
        assert_eq!((line.as_str(), stream.is_none()), ("[]\n", true));
    }

    #[tokio::test]
    async fn a_watchdog_that_ends_before_its_first_line_is_an_error() {
        let (watchdog, ours) = UnixStream::pair().unwrap();
        drop(watchdog);
        let ours = OwnedFd::from(ours.into_std().unwrap());
        assert!(first_words(ours, &GivenSockets::default()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_does_not_come_is_not_waited_for_without_end() {
        assert!(!GivenSockets::default().arrival(listener().0, DEADLINE).await);
    }
}
