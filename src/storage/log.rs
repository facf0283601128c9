//! The write-ahead log: segments `<n>.log` of records, appended, synced in groups, cut from the front.

use std::path::Path;

use crate::format::log_record::LogRecord;
use crate::types::{Lsn, Result};

/// The open log.
#[derive(Debug)]
pub struct Log {}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRecovery {
    /// Records read.
    pub record_count: u64,
    /// Bytes of a torn record cut off the end; 0 after a clean stop.
    pub torn_bytes: u64,
}

impl Log {
    /// Opens the log, gives every whole record to `replay` in order, cuts a torn tail off the last segment, and makes a
    /// fresh segment. A damaged record that is not a torn tail (whole records follow it) is an error of kind `Corrupt`
    /// that names the file and offset: nothing acknowledged is ever skipped silently. `first_lsn_min` is the smallest
    /// lsn to hand out next when the log is empty.
    ///
    /// # Errors
    /// Those of the disk, of a damaged record, and of `replay`.
    pub fn open(
        dir: &Path,
        first_lsn_min: Lsn,
        replay: &mut dyn FnMut(&LogRecord<'_>) -> Result<()>,
    ) -> Result<(Log, LogRecovery)> {
        let _ = (dir, first_lsn_min, replay);
        todo!()
    }

    /// The lsn the next record must carry.
    pub fn next_lsn(&self) -> Lsn {
        todo!()
    }

    /// Buffers a record. Its lsn must be [`Log::next_lsn`].
    pub fn append(&mut self, record: &LogRecord<'_>) {
        let _ = record;
        todo!()
    }

    /// Writes what is buffered; with `durable`, also fdatasyncs. After an error the log refuses further writes: what
    /// the kernel did with the failed pages is unknown.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&mut self, durable: bool) -> Result<()> {
        let _ = durable;
        todo!()
    }

    /// Starts a new segment when the present one is over the segment size (16 MiB).
    ///
    /// # Errors
    /// Those of the disk.
    pub fn rotate(&mut self) -> Result<()> {
        todo!()
    }

    /// Unlinks whole segments whose every record is below `keep_from`.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn cut(&mut self, keep_from: Lsn) -> Result<()> {
        let _ = keep_from;
        todo!()
    }

    /// Bytes in all segments.
    pub fn bytes(&self) -> u64 {
        todo!()
    }
}
