//! A name service that knows the names it is given, and by default none: what is not in `/etc/hosts` does not exist
//! then, and no test asks the machine's own.

use std::net::Ipv4Addr;
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
        Self::knowing(address, Vec::new())
    }

    /// The same, for names that it does know. A name has one IPv4 address.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn knowing(address: &str, names: Vec<(String, Ipv4Addr)>) -> Result<Self> {
        let socket = UdpSocket::bind((address, PORT)).during("failed to serve names")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let ended = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&ended);
        let thread = Some(thread::spawn(move || serve(&socket, &names, &heard)));
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

fn serve(socket: &UdpSocket, names: &[(String, Ipv4Addr)], ended: &AtomicBool) {
    let mut message = [0; 512];
    while !ended.load(Ordering::Relaxed) {
        let Ok((length, asker)) = socket.recv_from(&mut message) else { continue };
        if length < 12 || asks_for_silence(&message[12..length]) {
            continue;
        }
        let _ = socket.send_to(&answer(&message[..length], names), asker);
    }
}

/// The address of a name that is known, and "no such name" for every other (RFC 1035, section 4.1).
fn answer(message: &[u8], names: &[(String, Ipv4Addr)]) -> Vec<u8> {
    const NO_SUCH_NAME: u8 = 0x83;
    const FOUND: u8 = 0x80;
    let mut answer = message[..end_of_question(message)].to_vec();
    answer[2] |= 0x80;
    answer[3] = NO_SUCH_NAME;
    // No record follows the question: an EDNS record of the asker's is not echoed.
    answer[6..12].fill(0);
    let asked = name_of(&answer[12..]);
    if let Some((_, address)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(&asked)) {
        answer[3] = FOUND;
        // Type A, class IN. For any other type the name is there and has nothing.
        if answer.ends_with(&[0, 1, 0, 1]) {
            answer[7] = 1;
            // The name of the question, A, IN, good for one second, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address.octets());
        }
    }
    answer
}

/// The labels of a question, with dots.
fn name_of(mut question: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((length, rest)) = question.split_first().filter(|(length, _)| **length != 0) {
        let (label, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        labels.push(String::from_utf8_lossy(label));
        question = rest;
    }
    labels.join(".")
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
    fn a_known_name_has_its_address_and_no_other_record() {
        let names = [("a.bc".to_owned(), Ipv4Addr::new(192, 0, 2, 9))];
        let ask = |question: &[u8]| {
            answer(&[&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], question].concat(), &names)
        };
        let found = ask(b"\x01A\x02bc\x00\x00\x01\x00\x01");
        assert_eq!((found[3], found[7]), (0x80, 1));
        assert!(found.ends_with(&[0, 4, 192, 0, 2, 9]));
        let other_type = ask(b"\x01a\x02bc\x00\x00\x1c\x00\x01");
        assert_eq!((other_type[3], other_type[7]), (0x80, 0));
        let unknown = ask(b"\x01x\x02bc\x00\x00\x01\x00\x01");
        assert_eq!((unknown[3], unknown[7]), (0x83, 0));
    }

    #[test]
    fn only_a_name_that_begins_so_is_left_without_an_answer() {
        assert!(asks_for_silence(b"\x06silent\x04test\x00"));
        assert!(!asks_for_silence(b"\x04loud\x04test\x00"));
        assert!(!asks_for_silence(b""));
    }
}
