//! The write-ahead log: segments `<n>.log` of records, appended, synced in groups, cut from the front.

mod recovery;
mod segment;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use self::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::directory;
use crate::fail_point;
use crate::format::log_record::{self, LogRecord, Seal};
use crate::sys::failpoint;
use crate::types::{Error, ErrorKind, Lsn, Result};

/// A segment over this is followed by a new one.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// A segment whose every record is obsolete is replaced by an empty one from this size on: below it, the two syncs cost
/// more than the bytes.
const SEGMENT_CUT_BYTES_MIN: u64 = 1 << 20;
/// The buffer is given back when one large group made it larger than this.
const BUFFER_KEPT_BYTES_MAX: usize = 32 << 20;

/// A closed segment, or the one that is written.
#[derive(Clone, Debug)]
struct Segment {
    path: PathBuf,
    /// The lsn after its last record.
    end: Lsn,
    bytes: u64,
}

/// The open log.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    /// Oldest first; the last one is written.
    segments: Vec<Segment>,
    file: File,
    header: SegmentHeader,
    number: u64,
    next: Lsn,
    /// Records up to here are durable.
    synced: Lsn,
    buffer: Vec<u8>,
    /// Why nothing may be written any more.
    poison: Option<Error>,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRecovery {
    /// Records read.
    pub record_count: u64,
    /// The first lsn of the oldest segment found; `None` when there was none.
    pub first: Option<Lsn>,
    /// Bytes of a torn record cut off the end; 0 after a clean stop.
    pub torn_bytes: u64,
}

impl Log {
    /// Opens the log, gives every whole record to `replay` in order, cuts a torn tail off the last segment, and makes a
    /// fresh segment. A damaged record that is not a torn tail is an error of kind `Corrupt` that names the file and
    /// offset: nothing acknowledged is ever skipped silently. FORMAT.md says how the two are told apart. `first_lsn_min`
    /// is the smallest lsn to hand out next.
    ///
    /// # Errors
    /// Those of the disk, of a damaged record, and of `replay`.
    pub fn open(
        dir: &Path,
        first_lsn_min: Lsn,
        replay: &mut dyn FnMut(&LogRecord<'_>) -> Result<()>,
    ) -> Result<(Log, LogRecovery)> {
        directory::create(dir)?;
        directory::sync_name(dir)?;
        let recovered = recovery::recover(dir, replay)?;
        let next = recovered.next.max(first_lsn_min).max(Lsn(1));
        let number = recovered.number_last + 1;
        let header = SegmentHeader::new(next, recovered.end);
        let (file, segment) = create_segment(dir, number, &header)?;
        recovered.empty.iter().try_for_each(|path| recovery::remove(path))?;
        let mut segments = recovered.segments;
        segments.push(segment);
        let synced = Lsn(next.0 - 1);
        let log =
            Log { dir: dir.to_owned(), segments, file, header, number, next, synced, buffer: Vec::new(), poison: None };
        Ok((log, recovered.report))
    }

    /// Reads every record and changes nothing (doctor).
    ///
    /// # Errors
    /// Those of the disk and of a damaged record.
    pub fn check(dir: &Path) -> Result<LogRecovery> {
        recovery::check(dir)
    }

    /// The lsn the next record must carry.
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Buffers a record. Its lsn must be [`Log::next_lsn`].
    ///
    /// # Panics
    /// When it is not: a bug of the caller.
    pub fn append(&mut self, record: &LogRecord<'_>) {
        assert_eq!(record.lsn, self.next, "records are numbered without gaps");
        log_record::encode(record, Seal { salt: self.header.salt, synced: self.synced }, &mut self.buffer);
        self.next = Lsn(self.next.0 + 1);
    }

    /// Writes what is buffered; with `durable`, also fdatasyncs. After an error the log refuses further writes: what
    /// the kernel did with the failed pages is unknown.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&mut self, durable: bool) -> Result<()> {
        self.refuse_if_poisoned()?;
        let written = self.file.write_all(&self.buffer).and_then(|()| fail_point!("log.written"));
        self.poison_on(written, "append to")?;
        let segment = self.segments.last_mut().expect("a log has a segment that is written");
        segment.bytes += self.buffer.len() as u64;
        segment.end = self.next;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES_MAX);
        if durable { self.sync() } else { Ok(()) }
    }

    /// Starts a new segment when the present one is over the segment size (16 MiB).
    ///
    /// # Errors
    /// Those of the disk.
    pub fn rotate(&mut self) -> Result<()> {
        let segment = self.segments.last().expect("a log has a segment that is written");
        if segment.bytes < SEGMENT_BYTES_MAX || !self.buffer.is_empty() { Ok(()) } else { self.start_segment() }
    }

    /// Unlinks whole segments whose every record is below `keep_from`; a large one that is written is replaced first.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn cut(&mut self, keep_from: Lsn) -> Result<()> {
        let segment = self.segments.last().expect("a log has a segment that is written");
        if self.next <= keep_from && segment.bytes >= SEGMENT_CUT_BYTES_MIN && self.buffer.is_empty() {
            self.start_segment()?;
        }
        let mut unlinked = 0;
        // Oldest first, and never past one that is kept: what is left after a kill still has no gap.
        while self.segments.len() > 1 && self.segments[0].end <= keep_from {
            let segment = self.segments.remove(0);
            std::fs::remove_file(&segment.path)
                .map_err(|error| Error::io(format_args!("remove log segment {}", segment.path.display()), &error))?;
            failpoint::reach("log.segment_unlinked");
            unlinked += 1;
        }
        if unlinked > 0 { directory::sync(&self.dir) } else { Ok(()) }
    }

    /// Bytes in all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn sync(&mut self) -> Result<()> {
        let synced = fail_point!("log.syncing").and_then(|()| self.file.sync_data());
        self.poison_on(synced, "sync")?;
        self.synced = Lsn(self.next.0 - 1);
        failpoint::reach("log.synced");
        Ok(())
    }

    fn start_segment(&mut self) -> Result<()> {
        self.refuse_if_poisoned()?;
        // Only the last segment may have a torn tail, whatever the durability: so this one must be whole on disk first.
        self.sync()?;
        let header = SegmentHeader::new(self.next, self.next);
        let created = create_segment(&self.dir, self.number + 1, &header);
        let (file, segment) = created.inspect_err(|error| self.poison = Some(error.clone()))?;
        self.segments.push(segment);
        (self.file, self.header, self.number) = (file, header, self.number + 1);
        failpoint::reach("log.segment_started");
        Ok(())
    }

    fn refuse_if_poisoned(&self) -> Result<()> {
        match &self.poison {
            None => Ok(()),
            Some(error) => Err(Error::new(
                error.kind,
                format!("the log takes no more writes after an error; restart to recover ({error})"),
            )),
        }
    }

    fn poison_on(&mut self, result: std::io::Result<()>, attempt: &str) -> Result<()> {
        let path = self.segments.last().map(|segment| segment.path.display().to_string()).unwrap_or_default();
        let result = result.map_err(|error| Error::io(format_args!("{attempt} log segment {path}"), &error));
        result.inspect_err(|error| self.poison = Some(error.clone()))
    }
}

/// `<number>.log`, zero-padded: names sort as numbers do.
fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.log"))
}

/// Makes an empty segment durably, name included.
fn create_segment(dir: &Path, number: u64, header: &SegmentHeader) -> Result<(File, Segment)> {
    let path = segment_path(dir, number);
    let create = || {
        let mut file = directory::create_file(&path)?;
        file.write_all(&header.encode())?;
        file.sync_all()?;
        Ok(file)
    };
    let file = create()
        .map_err(|error: std::io::Error| Error::io(format_args!("make log segment {}", path.display()), &error))?;
    directory::sync(dir)?;
    Ok((file, Segment { path, end: header.first, bytes: SEGMENT_HEADER_BYTES as u64 }))
}

fn corrupt(path: &Path, offset: usize, what: &str) -> Error {
    let path = path.display();
    let message = format!(
        "log segment {path} is damaged at byte {offset}: {what}; acknowledged writes may follow it, so nothing was \
         changed: restore the file from a backup, or move it away to go on without it and what follows"
    );
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests;
