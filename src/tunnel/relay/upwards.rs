//! From the kernel to the server: plain bytes in, records out.
//!
//! ```text
//! read(2) -> | room | plain 16 KiB | room || room | plain 16 KiB | room | ... -> sealed in place -> write(2)
//! ```
//!
//! Bytes are read to where they will be sealed, so nothing is copied, and all records of a buffer go out in one
//! write. No socket here: [`Upwards::spaces`] and [`Upwards::filled`] are the way in, [`Upwards::pending`] and
//! [`Upwards::sent`] the way out.

use std::io::IoSliceMut;
use std::ops::Range;

use crate::tls::record::FRAGMENT;
use crate::tls::record::Layout;
use crate::tls::record::RecordFault;
use crate::tls::record::Records;
use crate::tunnel::relay::buffers::Buffer;
use crate::tunnel::relay::buffers::Buffers;
use crate::tunnel::relay::marks::Marks;

/// The most records in one buffer.
pub(super) const SLOTS: usize = 16;

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Upwards {
    buffers: Buffers,
    buffer: Option<Buffer>,
    layout: Layout,
    /// What is to be sent of the buffer.
    sealed: Range<usize>,
    /// The plain bytes in there.
    plain: usize,
    /// Records that are no data. Only ever filled when nothing else is to be sent.
    control: Vec<u8>,
    control_sent: usize,
    /// Whether the last read filled one record, so that more is worth asking for.
    bulk: bool,
    marks: Marks,
}

impl Upwards {
    pub(super) fn new(buffers: Buffers, records: &Records) -> Self {
        Self {
            buffers,
            buffer: None,
            layout: records.layout(),
            marks: Marks::default(),
            sealed: 0..0,
            plain: 0,
            control: Vec::new(),
            control_sent: 0,
            bulk: false,
        }
    }

    /// Where to read to, one slice for each record: empty ones at the end, and at the beginning of a burst.
    pub(super) fn spaces(&mut self) -> [IoSliceMut<'_>; SLOTS] {
        let Layout { before, .. } = self.layout;
        let most = if self.bulk { SLOTS } else { 1 };
        let buffer = self.buffer.get_or_insert_with(|| self.buffers.take());
        let mut slots = buffer.chunks_exact_mut(self.layout.longest()).take(most);
        std::array::from_fn(|_| {
            let space = slots.next().and_then(|slot| slot.get_mut(before..before + FRAGMENT));
            IoSliceMut::new(space.unwrap_or_default())
        })
    }

    /// The first of [`Self::spaces`], and no more of it than belongs to the call that has begun.
    pub(super) fn space_within_call(&mut self) -> IoSliceMut<'_> {
        let wanted = self.marks.wanted().min(FRAGMENT);
        let start = self.layout.before;
        let buffer = self.buffer.get_or_insert_with(|| self.buffers.take());
        IoSliceMut::new(buffer.get_mut(start..start + wanted).unwrap_or_default())
    }

    /// Whether the last call is whole and no other one has begun; of how many calls it was the last.
    pub(super) fn between_calls(&self) -> Option<u64> {
        self.marks.is_between().then(|| self.marks.messages())
    }

    /// Whether these are no calls.
    pub(super) fn is_lost(&self) -> bool {
        self.marks.is_lost()
    }

    /// Seals so many bytes that were read.
    pub(super) fn filled(
        &mut self,
        plain: usize,
        records: &mut Records,
    ) -> Result<(), RecordFault> {
        let Some(buffer) = &mut self.buffer else { return Ok(()) };
        let room = self.layout.before + self.layout.after;
        let (mut end, mut left) = (0, plain);
        while left > 0 {
            let content = left.min(FRAGMENT);
            let slot = end..end + room + content;
            let start = end + self.layout.before;
            self.marks.follow(buffer.get(start..start + content).unwrap_or_default());
            records.seal(buffer.get_mut(slot.clone()).unwrap_or_default())?;
            (end, left) = (slot.end, left - content);
        }
        (self.sealed, self.plain) = (0..end, plain);
        self.bulk = plain >= FRAGMENT;
        Ok(())
    }

    /// Gives the buffer back.
    pub(super) fn idle(&mut self) {
        self.buffer = None;
        self.bulk = false;
    }

    /// Queues records that are no data. Nothing may be pending: they come after what was sealed before.
    pub(super) fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    /// What is to be sent next.
    pub(super) fn pending(&self) -> &[u8] {
        let control = self.control.get(self.control_sent..).unwrap_or_default();
        if !control.is_empty() {
            return control;
        }
        let buffer = self.buffer.as_deref().unwrap_or_default();
        buffer.get(self.sealed.clone()).unwrap_or_default()
    }

    /// Notes that so many bytes of [`Self::pending`] are out. Gives the plain bytes of a buffer that is done.
    pub(super) fn sent(&mut self, length: usize) -> usize {
        if self.control_sent < self.control.len() {
            self.control_sent += length;
            if self.control_sent == self.control.len() {
                self.control = Vec::new();
                self.control_sent = 0;
            }
            return 0;
        }
        self.sealed.start += length;
        if self.sealed.is_empty() { std::mem::take(&mut self.plain) } else { 0 }
    }
}
