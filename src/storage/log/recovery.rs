//! Reading the log back: every whole record in order; a torn tail cut off; damage told from it and refused.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::segment::{HeaderRead, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{LogRecovery, Segment, corrupt};
use crate::format::log_record::{self, LogRecord};
use crate::storage::directory;
use crate::sys::map::SharedMap;
use crate::types::{Error, ErrorKind, Lsn, Result};

/// The disk writes no less than this at a time: a lost write leaves whole sectors of zeros.
const SECTOR_BYTES: usize = 512;

/// The log as found.
pub(super) struct Recovered {
    /// Segments with records, oldest first.
    pub segments: Vec<Segment>,
    /// Segments without: to be removed when the next segment, which carries their lsn on, is durable.
    pub empty: Vec<PathBuf>,
    /// The lsn after the last record there is.
    pub end: Lsn,
    /// The lsn after the last record there ever was, as far as segments know.
    pub next: Lsn,
    /// Number of the last segment; 0 when there is none.
    pub number_last: u64,
    pub report: LogRecovery,
}

/// Reads all segments of a directory.
pub(super) fn recover(dir: &Path, replay: &mut dyn FnMut(&LogRecord<'_>) -> Result<()>) -> Result<Recovered> {
    let numbered = list_segments(dir)?;
    let mut recovered = Recovered {
        segments: Vec::new(),
        empty: Vec::new(),
        end: Lsn(0),
        next: Lsn(0),
        number_last: numbered.last().map_or(0, |(number, _)| *number),
        report: LogRecovery::default(),
    };
    for (index, (_, path)) in numbered.iter().enumerate() {
        let is_last = index + 1 == numbered.len();
        let found = read_segment(path, is_last, recovered.end, replay)?;
        recovered.report.record_count += found.record_count;
        recovered.report.torn_bytes += found.torn_bytes;
        let Some(next) = found.next else {
            remove(path)?;
            directory::sync(dir)?;
            continue;
        };
        recovered.report.first.get_or_insert(found.first);
        if found.torn_bytes > 0 {
            truncate(path, found.bytes)?;
        }
        recovered.next = recovered.next.max(next);
        if found.record_count == 0 {
            recovered.empty.push(path.clone());
        } else {
            recovered.end = next;
            recovered.segments.push(Segment { path: path.clone(), end: next, bytes: found.bytes });
        }
    }
    Ok(recovered)
}

/// Reads all segments and changes nothing, for a check. A running server may append meanwhile: its unfinished record looks torn.
pub(super) fn check(dir: &Path) -> Result<LogRecovery> {
    let numbered = list_segments(dir)?;
    let mut report = LogRecovery::default();
    let mut end = Lsn(0);
    for (index, (_, path)) in numbered.iter().enumerate() {
        let found = read_segment(path, index + 1 == numbered.len(), end, &mut |_| Ok(()))?;
        if found.next.is_some() {
            report.first.get_or_insert(found.first);
        }
        report.record_count += found.record_count;
        report.torn_bytes += found.torn_bytes;
        if found.record_count > 0 {
            end = found.next.unwrap_or(end);
        }
    }
    Ok(report)
}

/// What one segment held.
struct SegmentFound {
    /// Of its header.
    first: Lsn,
    record_count: u64,
    /// Up to the last whole record.
    bytes: u64,
    torn_bytes: u64,
    /// The lsn after its last record; `None` when even its header is torn.
    next: Option<Lsn>,
}

fn read_segment(
    path: &Path,
    is_last: bool,
    expected: Lsn,
    replay: &mut dyn FnMut(&LogRecord<'_>) -> Result<()>,
) -> Result<SegmentFound> {
    let read = |error| Error::io(format_args!("read log segment {}", path.display()), &error);
    let file = File::open(path).map_err(read)?;
    let file_bytes = file.metadata().map_err(read)?.len();
    // A kill between making a segment and syncing its header. Records come only after that sync.
    let torn = SegmentFound { first: Lsn(0), record_count: 0, bytes: 0, torn_bytes: file_bytes, next: None };
    if file_bytes == 0 {
        return if is_last { Ok(torn) } else { Err(corrupt(path, 0, "it is empty")) };
    }
    if is_last {
        // A killed process may leave records the disk does not have yet. What is replayed is shown to readers, and only the
        // last segment may have a torn tail: this one is about to have a successor.
        file.sync_data().map_err(read)?;
    }
    let map = SharedMap::read(&file).map_err(read)?;
    let bytes = map.bytes();
    let header = match SegmentHeader::decode(bytes) {
        HeaderRead::Whole(header) => header,
        HeaderRead::Damaged if is_last && bytes.len() <= SEGMENT_HEADER_BYTES => return Ok(torn),
        HeaderRead::Damaged => return Err(corrupt(path, 0, "its header fails its check")),
        HeaderRead::Version(version) => {
            let message =
                format!("log segment {} is of version {version}; use the ShoalDB that wrote it", path.display());
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
    };
    if expected.0 != 0 && header.follows != expected {
        let what = format!("it follows record {}, but the one before ends at {expected}", header.follows);
        return Err(corrupt(path, 0, &what));
    }
    let mut found = SegmentFound { first: header.first, record_count: 0, bytes: 0, torn_bytes: 0, next: None };
    let mut next = header.first;
    let mut at = SEGMENT_HEADER_BYTES;
    while at < bytes.len() {
        match log_record::decode(&bytes[at..], header.salt).filter(|decoded| decoded.record.lsn == next) {
            Some(decoded) => {
                replay(&decoded.record)?;
                at += decoded.bytes;
                next = Lsn(next.0.saturating_add(1));
                found.record_count += 1;
            }
            None if is_last && is_torn(bytes, at, header.salt, next) => {
                found.torn_bytes = (bytes.len() - at) as u64;
                break;
            }
            None => return Err(corrupt(path, at, &format!("record {next} fails its check"))),
        }
    }
    found.bytes = at as u64;
    found.next = Some(next);
    Ok(found)
}

/// Whether the bad record `lsn` at `at` is what a kill or a power cut leaves of writes that were never acknowledged: the
/// file ends within it; or sectors that never reached the disk are zero, and what follows, if anything, was written before
/// `lsn` was durable (file systems may write the pages of one group in any order). Anything else is damage.
fn is_torn(bytes: &[u8], at: usize, salt: u64, lsn: Lsn) -> bool {
    let mut following = records_after(bytes, at, salt, lsn).peekable();
    match following.peek().copied() {
        None => log_record::is_cut_short(&bytes[at..], salt) || has_lost_sector(bytes, at),
        Some((first, _)) => {
            let was_durable = following.any(|(_, synced)| synced >= lsn);
            // The sector in which the next record begins was written: only whole ones before it can be lost.
            !was_durable && has_lost_sector(&bytes[..first / SECTOR_BYTES * SECTOR_BYTES], at)
        }
    }
}

/// Place and `synced` of every whole record behind a bad one.
fn records_after(bytes: &[u8], at: usize, salt: u64, lsn: Lsn) -> impl Iterator<Item = (usize, Lsn)> + '_ {
    let mut from = at + 1;
    std::iter::from_fn(move || {
        while from < bytes.len() {
            let offset = bytes[from..].windows(4).position(|window| window == log_record::MAGIC)?;
            let place = from + offset;
            from = place + 1;
            if let Some(decoded) = log_record::decode(&bytes[place..], salt).filter(|decoded| decoded.record.lsn > lsn)
            {
                from = place + decoded.bytes;
                return Some((place, decoded.synced));
            }
        }
        None
    })
}

/// Whether a sector behind `at` is zero; of the one in which `at` lies, what is behind it.
fn has_lost_sector(bytes: &[u8], at: usize) -> bool {
    let behind = bytes.get(at..).unwrap_or_default();
    let (first, rest) = behind.split_at(behind.len().min(at.next_multiple_of(SECTOR_BYTES) - at));
    let is_zero = |sector: &[u8]| !sector.is_empty() && sector.iter().all(|byte| *byte == 0);
    is_zero(first) || rest.chunks(SECTOR_BYTES).any(is_zero)
}

/// Segments by number; other files are not ours to touch.
fn list_segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let list = |error| Error::io(format_args!("list log directory {}", dir.display()), &error);
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        let number = number.filter(|number| number.len() == 12 && number.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            segments.push((number, path));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

pub(super) fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|error| Error::io(format_args!("remove log segment {}", path.display()), &error))
}

/// Cuts a torn tail, durably, before anything new is written behind it.
fn truncate(path: &Path, bytes: u64) -> Result<()> {
    let cut = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()
    };
    cut().map_err(|error| Error::io(format_args!("cut the torn tail of log segment {}", path.display()), &error))
}
