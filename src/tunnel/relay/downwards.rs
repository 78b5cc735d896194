//! From the server to the kernel: records in, plain bytes out.
//!
//! Records are opened where they were read to, and their plain bytes handed on from there, many in one
//! writev(2). No socket here: [`Downwards::space`] and [`Downwards::filled`] are the way in,
//! [`Downwards::pending`] and [`Downwards::sent`] the way out.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use crate::tls::record::Opened;
use crate::tls::record::RecordFault;
use crate::tls::record::Records;
use crate::tunnel::relay::buffers::Buffer;
use crate::tunnel::relay::buffers::Buffers;
use crate::tunnel::relay::marks::Marks;

/// The most slices in one writev(2).
const SLICES: usize = 32;
/// Content so short is moved next to that of the record before: a copy that is cheaper than a slice.
const SHORT: usize = 1024;

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Downwards {
    buffers: Buffers,
    buffer: Option<Buffer>,
    /// What has been read and not been opened.
    sealed: Range<usize>,
    /// What has been opened and not been sent.
    plain: VecDeque<Range<usize>>,
    /// Whether the server has said that nothing follows.
    closed: bool,
    marks: Marks,
}

impl Downwards {
    /// Begins with what the handshake has left over, which is less than a record.
    pub(super) fn new(buffers: Buffers, received: &[u8]) -> Self {
        let mut downwards = Self {
            buffers,
            buffer: None,
            sealed: 0..0,
            plain: VecDeque::new(),
            closed: false,
            marks: Marks::default(),
        };
        if !received.is_empty() {
            let space = downwards.space();
            let length = received.len().min(space.len());
            space.iter_mut().zip(received).for_each(|(space, byte)| *space = *byte);
            downwards.filled(length);
        }
        downwards
    }

    /// Where to read to. Nothing may be pending. Never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let buffer = self.buffer.get_or_insert_with(|| self.buffers.take());
        // The rest of a record that is not whole: at most one, so it is little and it fits.
        buffer.copy_within(self.sealed.clone(), 0);
        self.sealed = 0..self.sealed.len();
        buffer.get_mut(self.sealed.end..).unwrap_or_default()
    }

    /// Notes that so many bytes were read.
    pub(super) fn filled(&mut self, length: usize) {
        self.sealed.end += length;
    }

    /// Opens every record that is whole.
    pub(super) fn open(&mut self, records: &mut Records) -> Result<(), RecordFault> {
        let Some(buffer) = &mut self.buffer else { return Ok(()) };
        while !self.closed {
            let start = self.sealed.start;
            let sealed = buffer.get_mut(self.sealed.clone()).unwrap_or_default();
            match records.open(sealed)? {
                Opened::Partial => return Ok(()),
                Opened::Control { length } => self.sealed.start += length,
                Opened::Data { length, plain } => {
                    self.sealed.start += length;
                    let plain = start + plain.start..start + plain.end;
                    self.marks.follow(buffer.get(plain.clone()).unwrap_or_default());
                    keep(&mut self.plain, buffer, plain);
                }
                Opened::Closed => self.closed = true,
            }
        }
        Ok(())
    }

    /// Gives the buffer back, unless it holds the beginning of a record.
    pub(super) fn idle(&mut self) {
        if self.sealed.is_empty() {
            self.buffer = None;
        }
    }

    /// Whether the server has said that nothing follows.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the last reply is whole and handed on; of how many replies it was the last.
    pub(super) fn between_replies(&self) -> Option<u64> {
        (self.marks.is_between() && !self.has_pending()).then(|| self.marks.messages())
    }

    /// Whether these are no replies.
    pub(super) fn is_lost(&self) -> bool {
        self.marks.is_lost()
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.plain.is_empty()
    }

    /// What is to be sent next: empty slices at the end.
    pub(super) fn pending(&self) -> [IoSlice<'_>; SLICES] {
        let buffer = self.buffer.as_deref().unwrap_or_default();
        let mut plain = self.plain.iter();
        std::array::from_fn(|_| {
            let slice = plain.next().and_then(|range| buffer.get(range.clone()));
            IoSlice::new(slice.unwrap_or_default())
        })
    }

    /// Notes that so many bytes of [`Self::pending`] are out.
    pub(super) fn sent(&mut self, mut length: usize) {
        while let Some(first) = self.plain.front_mut() {
            if length < first.len() {
                first.start += length;
                return;
            }
            length -= first.len();
            self.plain.pop_front();
        }
    }
}

fn keep(plain: &mut VecDeque<Range<usize>>, buffer: &mut Buffer, content: Range<usize>) {
    match plain.back_mut() {
        _ if content.is_empty() => {}
        Some(last) if content.len() <= SHORT => {
            let length = content.len();
            buffer.copy_within(content, last.end);
            last.end += length;
        }
        _ => plain.push_back(content),
    }
}
