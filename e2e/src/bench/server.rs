//! Who answers: a thread for each connection, with TLS on one port and without on another.
//!
//! All proxies have the same server, and it must not be what is measured: a terminator such as nginx or stunnel
//! would cost more than the proxy in front of it, on the same processors. This one opens records in place and
//! seals whatever stands in its buffer as the content of a reply, so that it copies nothing.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use alinas_csi::tls::record::FRAGMENT;
use alinas_csi::tls::record::Layout;
use alinas_csi::tls::record::Opened;
use alinas_csi::tls::record::Records;
use rustls::ServerConfig;

use crate::bench::call::HEAD;
use crate::bench::call::Head;
use crate::bench::call::Heads;
use crate::bench::call::Kind;
use crate::bench::tls_server;
use crate::failure::During;
use crate::failure::Result;

/// The most records of one write, and of one read.
const SLOTS: usize = 16;
const READ: usize = SLOTS * (FRAGMENT + 512);

/// Listens until the process ends.
#[derive(Debug)]
pub struct Server {
    /// Without TLS.
    pub plain: SocketAddr,
    /// With TLS.
    pub tls: SocketAddr,
    /// What it has seen.
    pub seen: Arc<Seen>,
}

/// What the server has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Handshakes with a certificate.
    pub full: AtomicU64,
    /// Handshakes with a ticket.
    pub resumed: AtomicU64,
}

impl Server {
    /// Starts to listen at an address of this machine, with a certificate and key in one file.
    ///
    /// # Errors
    /// When the certificate cannot be used or nothing bound.
    pub fn start(address: Ipv4Addr, certificate: &Path) -> Result<Self> {
        let config = tls_server::config(certificate)?;
        let seen = Arc::new(Seen::default());
        let plain = listen(address, |stream| serve(Plain(stream)))?;
        let counts = Arc::clone(&seen);
        let tls = listen(address, move |stream| serve_tls(stream, &config, &counts))?;
        Ok(Self { plain, tls, seen })
    }
}

fn listen(
    address: Ipv4Addr,
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0)).during("failed to bind the server")?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // A connection ends with an error when a proxy is killed or resets it: nothing to tell.
            thread::Builder::new().stack_size(256 * 1024).spawn(move || serve(stream)).ok();
        }
    });
    Ok(address)
}

fn serve_tls(mut stream: TcpStream, config: &Arc<ServerConfig>, seen: &Seen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let session = tls_server::accept(&mut stream, config)?;
    let count = if session.resumed { &seen.resumed } else { &seen.full };
    count.fetch_add(1, Ordering::Relaxed);
    serve(Tls {
        layout: session.records.layout(),
        stream,
        records: session.records,
        start: session.received,
    })
}

/// A stream under which records may lie.
trait Wire {
    fn layout(&self) -> Layout;
    /// Reads once. `sealed` bytes at the beginning of the buffer are left from before; says how many are left
    /// now, after calling `plain` with what could be opened. None at the end.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        left: usize,
        plain: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<usize>>;
    fn seal(&mut self, slot: &mut [u8]) -> io::Result<()>;
    fn stream(&mut self) -> &mut TcpStream;
}

struct Plain(TcpStream);

impl Wire for Plain {
    fn layout(&self) -> Layout {
        Layout { before: 0, after: 0 }
    }

    fn receive(
        &mut self,
        buffer: &mut [u8],
        _: usize,
        plain: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<usize>> {
        let length = self.0.read(buffer)?;
        plain(&buffer[..length])?;
        Ok((length > 0).then_some(0))
    }

    fn seal(&mut self, _: &mut [u8]) -> io::Result<()> {
        Ok(())
    }

    fn stream(&mut self) -> &mut TcpStream {
        &mut self.0
    }
}

struct Tls {
    stream: TcpStream,
    records: Records,
    layout: Layout,
    /// What was left over from the handshake.
    start: Vec<u8>,
}

impl Wire for Tls {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn receive(
        &mut self,
        buffer: &mut [u8],
        left: usize,
        plain: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<usize>> {
        let mut end = left;
        if self.start.is_empty() {
            end += self.stream.read(&mut buffer[left..])?;
            if end == left {
                return Ok(None);
            }
        } else {
            buffer[..self.start.len()].copy_from_slice(&self.start);
            end = self.start.len();
            self.start.clear();
        }
        let mut begin = 0;
        loop {
            match self.records.open(&mut buffer[begin..end]).map_err(io::Error::other)? {
                Opened::Partial => break,
                Opened::Closed => return Ok(None),
                Opened::Control { length } => begin += length,
                Opened::Data { length, plain: range } => {
                    plain(&buffer[begin + range.start..begin + range.end])?;
                    begin += length;
                }
            }
        }
        buffer.copy_within(begin..end, 0);
        if self.records.owes() {
            let mut out = Vec::new();
            self.records.pay(&mut out).map_err(io::Error::other)?;
            self.stream.write_all(&out)?;
        }
        Ok(Some(end - begin))
    }

    fn seal(&mut self, slot: &mut [u8]) -> io::Result<()> {
        self.records.seal(slot).map_err(io::Error::other)
    }

    fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

fn serve(mut wire: impl Wire) -> io::Result<()> {
    wire.stream().set_nodelay(true)?;
    let mut buffer = vec![0; READ];
    let mut answers = Answers::new(wire.layout());
    let (mut left, mut heads) = (0, Heads::default());
    let mut calls: Vec<Head> = Vec::new();
    loop {
        let mut sense = true;
        let received = wire.receive(&mut buffer, left, &mut |plain| {
            sense &= heads.feed(plain, |head| calls.push(head));
            Ok(())
        })?;
        if !sense {
            return Err(io::ErrorKind::InvalidData.into());
        }
        for head in calls.drain(..) {
            if head.call.kind == Kind::Pause {
                thread::sleep(Duration::from_millis(head.call.size.into()));
            }
            answers.put(&mut wire, &head)?;
        }
        answers.flush(&mut wire)?;
        let Some(rest) = received else { return Ok(()) };
        left = rest;
    }
}

/// Replies on their way out, in records.
struct Answers {
    buffer: Vec<u8>,
    layout: Layout,
    /// Plain bytes in there.
    plain: usize,
}

impl Answers {
    fn new(layout: Layout) -> Self {
        Self { buffer: vec![0; SLOTS * layout.longest()], layout, plain: 0 }
    }

    fn put(&mut self, wire: &mut impl Wire, head: &Head) -> io::Result<()> {
        for byte in head.call.reply_head(head.transaction) {
            let (slot, offset) = (self.plain / FRAGMENT, self.plain % FRAGMENT);
            self.buffer[slot * self.layout.longest() + self.layout.before + offset] = byte;
            self.plain += 1;
            self.flush_if_full(wire)?;
        }
        let mut content = usize::try_from(head.call.brings()).unwrap_or_default();
        while content > 0 {
            // Whatever stands there is the content.
            let part = content.min(SLOTS * FRAGMENT - self.plain);
            (self.plain, content) = (self.plain + part, content - part);
            self.flush_if_full(wire)?;
        }
        Ok(())
    }

    fn flush_if_full(&mut self, wire: &mut impl Wire) -> io::Result<()> {
        if self.plain == SLOTS * FRAGMENT { self.flush(wire) } else { Ok(()) }
    }

    fn flush(&mut self, wire: &mut impl Wire) -> io::Result<()> {
        let room = self.layout.before + self.layout.after;
        let mut end = 0;
        while self.plain > 0 {
            let content = self.plain.min(FRAGMENT);
            wire.seal(&mut self.buffer[end..end + room + content])?;
            (end, self.plain) = (end + room + content, self.plain - content);
        }
        wire.stream().write_all(&self.buffer[..end])
    }
}

const _: () = assert!(HEAD < FRAGMENT, "a head fits a record");
