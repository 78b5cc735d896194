//! Where messages begin and end on a connection, by their record marks (RFC 5531, section 11).
//!
//! Between two calls, with no reply outstanding, a connection may end or its session be replaced, and nobody has to
//! say anything again. What is no NFS at all is noticed soon, and followed no more.

const MARK: usize = 4;
const LAST_FRAGMENT: u32 = 1 << 31;
/// No fragment of NFS is longer: rsize and wsize end at 1 MiB.
const LONGEST_FRAGMENT: usize = 64 << 20;
/// So many empty fragments in a row are none.
const MOST_EMPTY: u32 = 8;

/// Follows one direction.
#[derive(Debug, Default)]
pub(super) struct Marks {
    mark: [u8; MARK],
    have: usize,
    /// Left of the fragment.
    rest: usize,
    /// Whether it is its message's last one.
    last: bool,
    within: bool,
    messages: u64,
    /// Fragments without content in a row.
    empty: u32,
    /// These are no messages.
    lost: bool,
}

impl Marks {
    /// Notes the bytes that come next.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            let length = bytes.len().min(self.wanted());
            let (now, later) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
            if self.rest > 0 {
                self.rest -= length;
            } else {
                self.take_mark(now);
            }
            if self.have == 0 && self.rest == 0 && self.last {
                (self.within, self.last) = (false, false);
                self.messages += 1;
            }
            bytes = later;
        }
    }

    /// Bytes that surely belong to the current message, or to the mark of the next one. Never 0.
    pub(super) fn wanted(&self) -> usize {
        if self.rest > 0 { self.rest } else { MARK - self.have }
    }

    /// Whether the last message is whole and no other one has begun.
    pub(super) fn is_between(&self) -> bool {
        !self.within && self.have == 0 && !self.lost
    }

    /// Whether this is no stream of messages, so that nothing can be said of where one ends.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whole messages so far.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    fn take_mark(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.mark.get_mut(self.have) {
                *place = *byte;
                self.have += 1;
            }
        }
        self.within = true;
        if self.have == MARK {
            let mark = u32::from_be_bytes(self.mark);
            self.have = 0;
            self.last = mark & LAST_FRAGMENT != 0;
            self.rest = usize::try_from(mark & !LAST_FRAGMENT).unwrap_or(usize::MAX);
            self.empty = if mark == 0 { self.empty + 1 } else { 0 };
            self.lost = self.rest > LONGEST_FRAGMENT || self.empty > MOST_EMPTY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut stream = vec![0x80, 0, 0, 3, 1, 2, 3];
        stream.extend([0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 0x80, 0, 0, 1, 9]);
        stream.extend([0, 0, 0, 1, 7, 0x80, 0, 0, 0]);
        stream
    }

    #[test]
    fn messages_are_counted_however_the_stream_is_cut() {
        let stream = stream();
        for piece in 1..=stream.len() {
            let mut marks = Marks::default();
            stream.chunks(piece).for_each(|bytes| marks.follow(bytes));
            assert_eq!((marks.messages(), marks.is_between()), (3, true), "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_nfs_is_followed_no_more() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[0; 4096], b"ping"] {
            let mut marks = Marks::default();
            marks.follow(bytes);
            assert!(marks.is_lost() && !marks.is_between(), "{bytes:?}");
            marks.follow(&stream());
            assert!(marks.is_lost(), "{bytes:?}");
        }
    }

    #[test]
    fn who_reads_no_more_than_is_wanted_stops_between_two_messages() {
        let (stream, mut marks, mut at, mut stops) = (stream(), Marks::default(), 0, Vec::new());
        while at < stream.len() {
            let wanted = marks.wanted();
            marks.follow(&stream[at..at + wanted]);
            at += wanted;
            if marks.is_between() {
                stops.push(at);
            }
        }
        assert_eq!(stops, [7, 22, 31]);
    }
}
