//! The load: record-marked RPC calls with a number of them outstanding (RFC 5531, section 11).
//!
//! A call names the length of its reply, so one server serves reads and writes:
//! `mark(4) | reply length(4) | filler`; the reply is `mark(4) | filler`.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

/// The top bit of a record mark: the last fragment of its record.
pub(crate) const LAST_FRAGMENT: u32 = 1 << 31;

const MIB: usize = 1 << 20;
/// What an NFS call or reply carries besides its data, about.
const HEADER: usize = 120;

/// One shape of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) call: usize,
    pub(crate) reply: usize,
    pub(crate) outstanding: usize,
    pub(crate) connections: usize,
    /// Whether operations or bytes are what counts.
    pub(crate) small: bool,
}

impl Load {
    const WRITE: Load = Load {
        name: "write 1 MiB x16",
        call: MIB + HEADER,
        reply: HEADER,
        outstanding: 16,
        connections: 1,
        small: false,
    };
    const READ: Load =
        Load { name: "read 1 MiB x16", call: HEADER, reply: MIB + HEADER, ..Self::WRITE };
    const SMALL: Load = Load {
        name: "read 4 KiB x1",
        call: HEADER,
        reply: 4096 + HEADER,
        outstanding: 1,
        connections: 1,
        small: true,
    };

    /// Every shape, in the order of the table.
    pub(crate) const ALL: [Load; 8] = [
        Self::WRITE,
        Self::READ,
        Load { name: "write 1 MiB x16, 4 conn", connections: 4, ..Self::WRITE },
        Load { name: "read 1 MiB x16, 4 conn", connections: 4, ..Self::READ },
        Load { name: "write 1 MiB x16, 8 conn", connections: 8, ..Self::WRITE },
        Load { name: "read 1 MiB x16, 8 conn", connections: 8, ..Self::READ },
        Self::SMALL,
        Load { name: "read 4 KiB x64", outstanding: 64, ..Self::SMALL },
    ];
}

/// What one connection did in the window.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) operations: u64,
    pub(crate) latencies: Vec<Duration>,
}

/// Runs `load` on one connection: a warm-up, then the window, in which operations count.
pub(crate) fn run(
    address: SocketAddr,
    load: Load,
    warm_up: Duration,
    window: Duration,
) -> io::Result<Done> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    let call = record(load.call, load.reply);
    let mut reply = vec![0; load.reply + 4];
    let mut sent = std::collections::VecDeque::with_capacity(load.outstanding);
    let mut done = Done::default();
    let begin = Instant::now();
    for _ in 0..load.outstanding {
        sent.push_back(Instant::now());
        stream.write_all(&call)?;
    }
    while let Some(since) = sent.pop_front() {
        stream.read_exact(&mut reply)?;
        let now = Instant::now();
        let elapsed = now - begin;
        if elapsed >= warm_up && elapsed < warm_up + window {
            done.operations += 1;
            done.latencies.push(now - since);
        }
        // Past the window the outstanding calls are answered and no new one is made.
        if elapsed < warm_up + window {
            sent.push_back(now);
            stream.write_all(&call)?;
        }
    }
    Ok(done)
}

/// A call of `length` bytes that asks for a reply of `reply` bytes.
fn record(length: usize, reply: usize) -> Vec<u8> {
    let mut record = vec![0x5a; length + 4];
    record[..4].copy_from_slice(&mark(length).to_be_bytes());
    record[4..8].copy_from_slice(&u32::try_from(reply).unwrap_or(u32::MAX).to_be_bytes());
    record
}

/// The mark of a whole record of `length` bytes.
pub(crate) fn mark(length: usize) -> u32 {
    LAST_FRAGMENT | u32::try_from(length).unwrap_or(0)
}
