//! Who asks: a thread for each connection, with so many calls outstanding.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;

use crate::bench::call::Call;
use crate::bench::call::HEAD;
use crate::bench::call::Heads;
use crate::bench::call::Kind;
use crate::failure::Failure;
use crate::failure::Result;

/// Nothing that is asked takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before it counts: connections open, buffers and windows grow.
const WARM_UP: Duration = Duration::from_millis(200);
const READ: usize = 256 * 1024;
/// What is written: of no call more.
static CONTENT: [u8; 1 << 20] = [0x5a; 1 << 20];

/// What is asked of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Each call.
    pub call: Call,
    /// Calls outstanding on each connection.
    pub depth: u32,
    /// Connections.
    pub connections: usize,
}

/// What a load led to, between the end of the warm-up and the end.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How long that was.
    pub seconds: f64,
    /// Calls of each connection.
    pub calls: Vec<u64>,
    /// From a call's first byte to its reply's last, in microseconds, sorted.
    pub micros: Vec<f64>,
}

impl Outcome {
    /// All calls.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.calls.iter().sum()
    }

    /// The slowest connection's share of what the average one got: 1 is fair.
    #[must_use]
    pub fn fairness(&self) -> f64 {
        let least = self.calls.iter().min().copied().unwrap_or_default() as f64;
        least * self.calls.len() as f64 / self.all() as f64
    }

    /// A quantile of the latencies.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let at = ((self.micros.len() as f64 - 1.0) * share).round();
        self.micros.get(at as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Loads an address for `window`; `gauge` is read at both ends of what counts.
///
/// Connections stay open until it has been read: the threads of a proxy that has one for each would be gone, and
/// their time with them.
///
/// # Errors
/// When a connection fails before the end.
pub fn run<T>(
    address: SocketAddr,
    load: Load,
    window: Duration,
    mut gauge: impl FnMut() -> Result<T>,
) -> Result<(Outcome, T, T)> {
    let run = Run { ends: Barrier::new(load.connections + 1), phase: AtomicU8::new(WARMING) };
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..load.connections).map(|_| scope.spawn(|| client(address, load, &run))).collect();
        run.ends.wait();
        thread::sleep(WARM_UP);
        let before = gauge();
        let start = Instant::now();
        run.phase.store(COUNTING, Ordering::Relaxed);
        thread::sleep(window);
        run.phase.store(OVER, Ordering::Relaxed);
        let seconds = start.elapsed().as_secs_f64();
        let after = gauge();
        run.ends.wait();
        let mut outcome = Outcome { seconds, ..Outcome::default() };
        for client in clients {
            let micros = client.join().map_err(|_| Failure::new("a client panicked"))??;
            outcome.calls.push(micros.len() as u64);
            outcome.micros.extend(micros);
        }
        outcome.micros.sort_by(f64::total_cmp);
        Ok((outcome, before?, after?))
    })
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// What all clients of a load wait for together.
struct Run {
    /// Of the time before all are connected, and of the time that they stay so.
    ends: Barrier,
    phase: AtomicU8,
}

fn client(address: SocketAddr, load: Load, run: &Run) -> io::Result<Vec<f64>> {
    let client = Client::connect(address, load.call);
    run.ends.wait();
    let mut micros = Vec::new();
    let loaded = client.and_then(|mut client| {
        client.load(load.depth, &run.phase, &mut micros)?;
        client.finish()?;
        Ok(client)
    });
    run.ends.wait();
    loaded.map(|_| micros)
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    call: Call,
    content: &'static [u8],
    heads: Heads,
    /// What is being sent: its head, and how much is out of head and content.
    sending: Option<([u8; HEAD], usize)>,
    next: u32,
    /// When the outstanding calls began; they are answered in order.
    began: VecDeque<Instant>,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects and makes one call, so that the session behind the proxy is there.
    ///
    /// # Errors
    /// When that is not answered.
    pub fn connect(address: SocketAddr, call: Call) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;

        let mut client = Self {
            stream,
            call,
            content: &[],
            heads: Heads::default(),
            sending: None,
            next: 0,
            began: VecDeque::new(),
            buffer: vec![0; READ],
        };
        client.call(call)?;
        Ok(client)
    }

    /// Makes one call and waits for its answer.
    ///
    /// # Errors
    /// When none comes.
    pub fn call(&mut self, call: Call) -> io::Result<()> {
        self.begin(call);
        self.finish()
    }

    /// Sends a call whole and does not wait for its answer.
    ///
    /// # Errors
    /// When the other side does not take it.
    pub fn send_all(&mut self, call: Call) -> io::Result<()> {
        self.press(call, 1, PATIENCE).map(|_| ())
    }

    /// Sends so many calls without receiving, until the other side takes nothing for `patience`. Gives the
    /// bytes that it took.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn press(&mut self, call: Call, most: u32, patience: Duration) -> io::Result<usize> {
        let mut taken = 0;
        for _ in 0..most {
            self.begin(call);
            while self.sending.is_some() {
                match self.send() {
                    Ok(sent) => taken += sent,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if wait(&self.stream, PollFlags::OUT, patience)?.is_empty() {
                            return Ok(taken);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(taken)
    }

    fn begin(&mut self, call: Call) {
        self.content = CONTENT.get(..call.carries() as usize).unwrap_or(&CONTENT);
        self.sending = Some((call.head(self.next), 0));
        self.began.push_back(Instant::now());
        self.next = self.next.wrapping_add(1);
    }

    /// Waits until nothing is outstanding. What becomes of the connection after the last answer is not looked at.
    fn finish(&mut self) -> io::Result<()> {
        while !self.began.is_empty() {
            self.turn(&mut |_| {})?;
        }
        Ok(())
    }

    fn load(&mut self, depth: u32, phase: &AtomicU8, micros: &mut Vec<f64>) -> io::Result<()> {
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        loop {
            let phase = phase.load(Ordering::Relaxed);
            if phase == OVER {
                return Ok(());
            }
            // As many at once as the socket takes.
            while self.sending.is_none() && self.began.len() < depth {
                self.begin(self.call);
                if let Err(error) = self.send_whole() {
                    passing(error)?;
                }
            }
            self.turn(&mut |took: Duration| {
                if phase == COUNTING {
                    micros.push(took.as_secs_f64() * 1e6);
                }
            })?;
        }
    }

    /// Sends and receives what can be, and waits where nothing can.
    fn turn(&mut self, answered: &mut dyn FnMut(Duration)) -> io::Result<()> {
        if let Err(error) = self.send_whole() {
            passing(error)?;
        }
        let want = match self.sending {
            Some(_) => PollFlags::IN | PollFlags::OUT,
            None => PollFlags::IN,
        };
        let got = wait(&self.stream, want, PATIENCE)?;
        if got.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if got.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.receive(answered)?;
        }
        Ok(())
    }

    fn send_whole(&mut self) -> io::Result<()> {
        while self.sending.is_some() {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<usize> {
        let Some((head, out)) = &mut self.sending else { return Ok(0) };
        let behind = out.saturating_sub(HEAD);
        let slices = [
            IoSlice::new(&head[(*out).min(HEAD)..]),
            IoSlice::new(&self.content[behind.min(self.content.len())..]),
        ];
        let sent = self.stream.write_vectored(&slices)?;
        *out += sent;
        if *out == HEAD + self.content.len() {
            self.sending = None;
        }
        Ok(sent)
    }

    fn receive(&mut self, answered: &mut dyn FnMut(Duration)) -> io::Result<()> {
        let length = match self.stream.read(&mut self.buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) => return passing(error),
        };
        let began = &mut self.began;
        let sense = self.heads.feed(&self.buffer[..length], |_| {
            if let Some(began) = began.pop_front() {
                answered(began.elapsed());
            }
        });
        if sense { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// One small call and its answer on a fresh connection, from connect to the reply's last byte.
///
/// # Errors
/// When there is none.
pub fn first_answer(address: SocketAddr) -> io::Result<Duration> {
    let start = Instant::now();
    Client::connect(address, Call { kind: Kind::Read, size: 0 })?;
    Ok(start.elapsed())
}

fn wait(stream: &TcpStream, flags: PollFlags, patience: Duration) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(stream, flags)];
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    poll(&mut fds, Some(&patience))?;
    Ok(fds[0].revents())
}

fn passing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}
