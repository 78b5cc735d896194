//! The calls: record-marked as ONC RPC is (RFC 5531, section 11), with heads as long as those of NFS.
//!
//! A call and a reply begin with a head of [`HEAD`] bytes: mark, transaction, kind, size. The content of a WRITE
//! follows its call, that of a READ its reply.

/// As long as the head of an NFSv3 READ or WRITE with AUTH_SYS.
pub const HEAD: usize = 128;

const LAST_FRAGMENT: u32 = 1 << 31;
const MARK: u32 = 4;

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// So many bytes back.
    Read,
    /// Takes so many bytes.
    Write,
    /// Sleeps so many milliseconds before it reads on, as a server does that is overloaded.
    Pause,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is asked for.
    pub kind: Kind,
    /// Bytes, or milliseconds.
    pub size: u32,
}

/// A head that has come in.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The transaction.
    pub transaction: u32,
    /// What is asked for.
    pub call: Call,
    /// Bytes behind the head.
    pub follow: usize,
}

impl Call {
    /// Bytes behind the call's head.
    #[must_use]
    pub fn carries(self) -> u32 {
        if self.kind == Kind::Write { self.size } else { 0 }
    }

    /// Bytes behind the reply's head.
    #[must_use]
    pub fn brings(self) -> u32 {
        if self.kind == Kind::Read { self.size } else { 0 }
    }

    /// The head of the call.
    #[must_use]
    pub fn head(self, transaction: u32) -> [u8; HEAD] {
        self.head_with(transaction, self.carries())
    }

    /// The head of the reply.
    #[must_use]
    pub fn reply_head(self, transaction: u32) -> [u8; HEAD] {
        self.head_with(transaction, self.brings())
    }

    fn head_with(self, transaction: u32, follow: u32) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        let record = HEAD as u32 - MARK + follow;
        let kind = match self.kind {
            Kind::Read => 0,
            Kind::Write => 1,
            Kind::Pause => 2,
        };
        let words = [LAST_FRAGMENT | record, transaction, kind, self.size];
        for (at, word) in head.chunks_exact_mut(4).zip(words) {
            at.copy_from_slice(&word.to_be_bytes());
        }
        head
    }
}

fn parse(head: &[u8; HEAD]) -> Option<Head> {
    let word = |at: usize| Some(u32::from_be_bytes(*head.get(at..)?.first_chunk()?));
    let kind = match word(8)? {
        0 => Kind::Read,
        1 => Kind::Write,
        2 => Kind::Pause,
        _ => return None,
    };
    let record = word(0)? & !LAST_FRAGMENT;
    let follow = usize::try_from(record + MARK).ok()?.checked_sub(HEAD)?;
    Some(Head { transaction: word(4)?, call: Call { kind, size: word(12)? }, follow })
}

/// Finds heads in a stream and passes over what follows them.
#[derive(Debug)]
pub struct Heads {
    head: [u8; HEAD],
    have: usize,
    current: Option<Head>,
    skip: usize,
}

impl Default for Heads {
    fn default() -> Self {
        Self { head: [0; HEAD], have: 0, current: None, skip: 0 }
    }
}

impl Heads {
    /// Calls `found` for each head whose content has come whole. False where the stream makes no sense.
    pub fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Head)) -> bool {
        loop {
            let passed = self.skip.min(bytes.len());
            (self.skip, bytes) = (self.skip - passed, &bytes[passed..]);
            if self.skip > 0 {
                return true;
            }
            if let Some(head) = self.current.take() {
                found(head);
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            (self.have, bytes) = (self.have + taken, &bytes[taken..]);
            if self.have < HEAD {
                return true;
            }
            let Some(head) = parse(&self.head) else { return false };
            (self.have, self.skip, self.current) = (0, head.follow, Some(head));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_however_the_stream_is_cut() {
        let call = Call { kind: Kind::Write, size: 300 };
        let mut stream = Vec::new();
        for transaction in 0..3 {
            stream.extend(call.head(transaction));
            stream.extend(vec![0xff; 300]);
        }
        for piece in [1, 7, 128, 300, stream.len()] {
            let (mut heads, mut found) = (Heads::default(), Vec::new());
            for bytes in stream.chunks(piece) {
                assert!(heads.feed(bytes, |head| found.push((head.transaction, head.call))));
            }
            assert_eq!(found, [(0, call), (1, call), (2, call)], "pieces of {piece}");
        }
    }
}
