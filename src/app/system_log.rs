//! The log of a command that has no log of its own: lines to `/dev/log`, where syslogd or journald listens.
//!
//! A datagram `<priority>name[pid]: text` (RFC 3164 without the time, which the receiver adds) that never
//! waits: a log that is full or gone must not hold up a mount. No crate sends it so: `syslog` blocks.

use std::io;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use tracing::Level;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

const SOCKET: &str = "/dev/log";
const NAME: &str = "alinas-csi";
/// LOG_DAEMON, as `facility * 8`.
const DAEMON: u8 = 3 * 8;
/// What every receiver takes in one piece.
const LONGEST: usize = 8000;

/// Sends each log line as one message. Without anybody at the socket, lines are lost.
#[derive(Clone, Debug)]
pub(super) struct SystemLog(Option<Arc<UnixDatagram>>);

impl SystemLog {
    pub(super) fn open() -> Self {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> Self {
        let connected = || -> io::Result<UnixDatagram> {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Self(connected().ok().map(Arc::new))
    }

    fn message(&self, severity: u8) -> Message {
        Message { log: self.clone(), severity, text: Vec::new() }
    }
}

impl<'a> MakeWriter<'a> for SystemLog {
    type Writer = Message;

    fn make_writer(&'a self) -> Message {
        self.message(severity(Level::INFO))
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Message {
        self.message(severity(*event.level()))
    }
}

/// A message while it is written; sent when dropped.
#[derive(Debug)]
pub(super) struct Message {
    log: SystemLog,
    severity: u8,
    text: Vec<u8>,
}

impl Write for Message {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let Some(socket) = &self.log.0 else { return };
        let text = String::from_utf8_lossy(&self.text);
        // One message, one line: what came from a server must not look like a message of its own.
        let text = text.trim_end().replace('\n', " | ");
        let priority = DAEMON + self.severity;
        let mut message =
            format!("<{priority}>{NAME}[{}]: {text}", std::process::id()).into_bytes();
        message.truncate(LONGEST);
        // Nobody else can be told.
        let _ = socket.send(&message);
    }
}

/// As in syslog(3): LOG_ERR to LOG_DEBUG.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_one_message_with_priority_name_and_process() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let log = SystemLog::at(&path);
        write!(log.message(severity(Level::WARN)), "first\nsecond\n").unwrap();
        let mut buffer = [0; 200];
        let length = receiver.recv(&mut buffer).unwrap();
        let expected = format!("<28>alinas-csi[{}]: first | second", std::process::id());
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
    }

    #[test]
    fn without_a_log_and_with_a_full_one_nothing_waits() {
        let home = tempfile::tempdir().unwrap();
        write!(SystemLog::at(&home.path().join("none")).message(3), "lost").unwrap();
        let path = home.path().join("log");
        let _never_read = UnixDatagram::bind(&path).unwrap();
        let log = SystemLog::at(&path);
        (0..1000).for_each(|_| write!(log.message(3), "{}", "x".repeat(9000)).unwrap());
    }
}
