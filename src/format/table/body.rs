//! The body of Arrow's record batch: which buffers it has, and the writing of them one after the other.

use std::io::{self, Write};

use arrow_ipc::FieldNode;

/// Buffers begin at multiples of this: a cache line, and the widest vector register.
pub(super) const ALIGNMENT_BYTES: usize = 64;

/// Lengths of everything, in Arrow's order.
#[derive(Default)]
pub(super) struct BodyPlan {
    pub nodes: Vec<FieldNode>,
    pub buffers: Vec<arrow_ipc::Buffer>,
    pub bytes: usize,
}

impl BodyPlan {
    /// A column (or the elements of a vector column) and its validity.
    pub fn column(&mut self, rows: usize, validity: Option<&BitPacker>) {
        let null_count = validity.map_or(0, BitPacker::zeros);
        self.nodes.push(FieldNode::new(rows as i64, null_count as i64));
        self.buffer(validity.map_or(0, |validity| validity.bytes().len()));
    }

    pub fn buffer(&mut self, bytes: usize) {
        self.buffers.push(arrow_ipc::Buffer::new(self.bytes as i64, bytes as i64));
        self.bytes += bytes.next_multiple_of(ALIGNMENT_BYTES);
    }
}

/// Writes what was planned.
pub(super) struct BodyWriter<'p, W> {
    out: W,
    planned: std::slice::Iter<'p, arrow_ipc::Buffer>,
    written: usize,
}

impl<'p, W: Write> BodyWriter<'p, W> {
    pub fn new(out: W, plan: &'p BodyPlan) -> BodyWriter<'p, W> {
        BodyWriter { out, planned: plan.buffers.iter(), written: 0 }
    }

    /// Bytes of the present buffer.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    /// Pads the present buffer and goes on to the next.
    ///
    /// # Errors
    /// Also when the buffer is not as long as planned: the header that names its place is written already.
    pub fn end_buffer(&mut self) -> io::Result<()> {
        let written = std::mem::take(&mut self.written);
        if self.planned.next().map(arrow_ipc::Buffer::length) != Some(written as i64) {
            let message = format!("a buffer of {written} bytes was planned otherwise: its source changed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.out.write_all(&[0; ALIGNMENT_BYTES][..written.next_multiple_of(ALIGNMENT_BYTES) - written])
    }
}

/// Bits as Arrow has them: the first in the lowest bit of the first byte.
pub(super) struct BitPacker {
    bytes: Vec<u8>,
    count: usize,
    ones: usize,
}

impl BitPacker {
    pub fn new(capacity: usize) -> BitPacker {
        BitPacker { bytes: vec![0; capacity.div_ceil(8)], count: 0, ones: 0 }
    }

    /// At most as often as the capacity says.
    pub fn push(&mut self, bit: bool) {
        self.bytes[self.count / 8] |= u8::from(bit) << (self.count % 8);
        self.count += 1;
        self.ones += usize::from(bit);
    }

    pub fn is_set(&self, index: usize) -> bool {
        self.bytes[index / 8] >> (index % 8) & 1 == 1
    }

    pub fn zeros(&self) -> usize {
        self.count - self.ones
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
