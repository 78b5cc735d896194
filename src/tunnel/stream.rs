//! A session as a stream of plain bytes, for what this process itself says to a server.
//!
//! The relay carries much and copies nothing; here little is said, one call after the other, and a stream is what
//! is easy to hold.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::tls::RecordSession;
use crate::tls::Session;
use crate::tls::record::FRAGMENT;
use crate::tls::record::LONGEST_RECORD;
use crate::tls::record::Opened;
use crate::tls::record::RecordFault;
use crate::tls::record::Records;
use crate::tunnel::dial::Dialled;

/// Plain bytes that go over the wire sealed.
#[derive(Debug)]
pub struct TlsStream(Kind);

#[derive(Debug)]
enum Kind {
    Records(Box<RecordStream<TcpStream>>),
    OpenSsl(Box<SslStream<TcpStream>>),
}

impl Dialled {
    /// The session as a stream.
    #[must_use]
    pub fn into_stream(self) -> TlsStream {
        TlsStream(match self.session {
            Session::Rustls { stream, records } => {
                Kind::Records(Box::new(RecordStream::new(stream, records)))
            }
            Session::OpenSsl(stream) => Kind::OpenSsl(Box::new(stream)),
        })
    }
}

/// Records over a stream, with what has come and not been read, and what was said and has not gone.
#[derive(Debug)]
struct RecordStream<S> {
    stream: S,
    records: Box<Records>,
    /// Sealed, from the server: at most a record that is not whole, and what came with it.
    sealed: Vec<u8>,
    /// Opened and not yet read.
    plain: Vec<u8>,
    /// How much of it has been read.
    read: usize,
    /// Sealed and not yet sent.
    outgoing: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RecordStream<S> {
    fn new(stream: S, session: RecordSession) -> Self {
        let RecordSession { records, received, early } = session;
        Self { stream, records, sealed: received, plain: early, read: 0, outgoing: Vec::new() }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let unread = self.plain.get(self.read..).unwrap_or_default();
            if !unread.is_empty() {
                let taken = unread.len().min(buffer.remaining());
                buffer.put_slice(unread.get(..taken).unwrap_or_default());
                self.read += taken;
                return Poll::Ready(Ok(()));
            }
            self.plain.clear();
            self.read = 0;
            match self.records.open(&mut self.sealed).map_err(io_error)? {
                Opened::Partial => {
                    if ready!(self.poll_receive(cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Opened::Control { length } => drop(self.sealed.drain(..length)),
                Opened::Data { length, plain } => {
                    self.plain.extend_from_slice(self.sealed.get(plain).unwrap_or_default());
                    self.sealed.drain(..length);
                }
                Opened::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.sealed.len();
        self.sealed.resize(before + LONGEST_RECORD, 0);
        let mut room = ReadBuf::new(self.sealed.get_mut(before..).unwrap_or_default());
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut room);
        let received = room.filled().len();
        self.sealed.truncate(before + received);
        polled.map_ok(|()| received)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let taken = plain.len().min(FRAGMENT);
        self.seal(plain.get(..taken).unwrap_or_default()).map_err(io_error)?;
        // What cannot go now goes with the next write or flush.
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn seal(&mut self, plain: &[u8]) -> Result<(), RecordFault> {
        self.records.pay(&mut self.outgoing)?;
        let layout = self.records.layout();
        let start = self.outgoing.len();
        self.outgoing.resize(start + layout.before, 0);
        self.outgoing.extend_from_slice(plain);
        self.outgoing.resize(self.outgoing.len() + layout.after, 0);
        self.records.seal(self.outgoing.get_mut(start..).unwrap_or_default())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Records(stream) => stream.poll_read(cx, buffer),
            Kind::OpenSsl(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        plain: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Records(stream) => stream.poll_write(cx, plain),
            Kind::OpenSsl(stream) => Pin::new(stream).poll_write(cx, plain),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Records(stream) => stream.poll_flush(cx),
            Kind::OpenSsl(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Records(stream) => {
                ready!(stream.poll_flush(cx))?;
                Pin::new(&mut stream.stream).poll_shutdown(cx)
            }
            Kind::OpenSsl(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

fn io_error(fault: RecordFault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}
