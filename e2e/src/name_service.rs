//! A name service that knows no name: what is not in `/etc/hosts` does not exist, and no test asks the
//! machine's own.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::failure::During;
use crate::failure::Result;

/// A question whose first label begins so gets no answer at all: a resolver says "try again" (EAI_AGAIN).
pub const SILENT_PREFIX: &str = "silent";

const PORT: u16 = 53;

/// The service, a thread; ends when dropped.
#[derive(Debug)]
pub struct NameService {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameService {
    /// Answers on UDP port 53 of an address of this machine.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(address: &str) -> Result<Self> {
        let socket = UdpSocket::bind((address, PORT)).during("failed to serve names")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let ended = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&ended);
        let thread = Some(thread::spawn(move || know_nothing(&socket, &heard)));
        Ok(Self { ended, thread })
    }
}

impl Drop for NameService {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers every question with "no such name" (RFC 1035, section 4.1.1: RCODE 3).
fn know_nothing(socket: &UdpSocket, ended: &AtomicBool) {
    let mut message = [0; 512];
    while !ended.load(Ordering::Relaxed) {
        let Ok((length, asker)) = socket.recv_from(&mut message) else { continue };
        if length < 12 || asks_for_silence(&message[12..length]) {
            continue;
        }
        message[2] |= 0x80;
        message[3] = 0x83;
        // No record follows the question: an EDNS record of the asker's is not echoed.
        message[6..12].fill(0);
        let end = end_of_question(&message[..length]);
        let _ = socket.send_to(&message[..end], asker);
    }
}

fn end_of_question(message: &[u8]) -> usize {
    const TYPE_AND_CLASS: usize = 4;
    let mut at = 12;
    while let Some(label) = message.get(at).filter(|label| **label != 0) {
        at += usize::from(*label) + 1;
    }
    (at + 1 + TYPE_AND_CLASS).min(message.len())
}

/// The first label of a question begins behind its length.
fn asks_for_silence(question: &[u8]) -> bool {
    question.get(1..).is_some_and(|label| label.starts_with(SILENT_PREFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_ends_behind_its_type_and_class_whatever_follows() {
        let message = [&[0; 12][..], b"\x01a\x02bc\x00\x00\x01\x00\x01rest"].concat();
        assert_eq!(end_of_question(&message), 12 + 6 + 4);
        assert_eq!(end_of_question(&message[..14]), 14, "cut short");
    }

    #[test]
    fn only_a_name_that_begins_so_is_left_without_an_answer() {
        assert!(asks_for_silence(b"\x06silent\x04test\x00"));
        assert!(!asks_for_silence(b"\x04loud\x04test\x00"));
        assert!(!asks_for_silence(b""));
    }
}
