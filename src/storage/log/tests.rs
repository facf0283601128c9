//! Tests of `storage/log`.

use std::os::unix::fs::FileExt;

use super::*;
use crate::format::log_record::RecordKind;
use crate::types::{CollectionId, PartitionId, Timestamp};

/// (lsn, payload) of everything a log replays.
type Replayed = Vec<(u64, Vec<u8>)>;

fn payload(lsn: u64) -> Vec<u8> {
    format!("payload of {lsn}").into_bytes().repeat(1 + lsn as usize % 4)
}

fn append(log: &mut Log, payload: &[u8]) {
    let record = LogRecord {
        lsn: log.next_lsn(),
        kind: RecordKind::Insert,
        collection: CollectionId(1),
        partition: PartitionId(2),
        timestamp: Timestamp(3),
        first_id: 4,
        payload,
    };
    log.append(&record);
}

/// Appends records, `group` to a durable write.
fn write(log: &mut Log, count: u64, group: u64) {
    for index in 1..=count {
        let payload = payload(log.next_lsn().0);
        append(log, &payload);
        if index % group == 0 || index == count {
            log.write(true).unwrap();
        }
    }
}

fn open(dir: &Path) -> Result<(Log, LogRecovery, Replayed)> {
    open_from(dir, Lsn(1))
}

fn open_from(dir: &Path, first_lsn_min: Lsn) -> Result<(Log, LogRecovery, Replayed)> {
    let mut replayed = Vec::new();
    let (log, recovery) = Log::open(dir, first_lsn_min, &mut |record| {
        replayed.push((record.lsn.0, record.payload.to_vec()));
        Ok(())
    })?;
    Ok((log, recovery, replayed))
}

fn expected(lsns: std::ops::RangeInclusive<u64>) -> Replayed {
    lsns.map(|lsn| (lsn, payload(lsn))).collect()
}

/// The segment with the most bytes: the one a test wrote to.
fn largest_segment(dir: &Path) -> PathBuf {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

#[test]
fn what_was_written_is_replayed_over_many_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let (mut log, recovery, replayed) = open(dir.path()).unwrap();
        assert_eq!(
            recovery,
            LogRecovery { record_count: round * 7, torn_bytes: 0, first: (round > 0).then_some(Lsn(1)) }
        );
        assert_eq!(replayed, expected(1..=round * 7));
        assert_eq!(log.next_lsn(), Lsn(round * 7 + 1));
        write(&mut log, 7, 3);
    }
}

#[test]
fn a_log_cut_at_any_byte_replays_every_whole_record_and_invents_none() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    let mut ends = vec![log.bytes()];
    for _ in 0..5 {
        write(&mut log, 1, 1);
        ends.push(log.bytes());
    }
    drop(log);
    let length = *ends.last().unwrap();
    for cut in 0..=length {
        let copy = copy_of(dir.path());
        let path = largest_segment(copy.path());
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1) as u64;
        let (mut log, recovery, replayed) = open(copy.path()).unwrap();
        assert_eq!(replayed, expected(1..=whole), "cut at {cut}");
        let torn = if cut < ends[0] { cut } else { cut - ends[whole as usize] };
        assert_eq!(recovery.torn_bytes, torn, "cut at {cut}");
        // The log goes on behind the cut, and the cut is not seen again.
        write(&mut log, 2, 1);
        drop(log);
        let (_, recovery, replayed) = open(copy.path()).unwrap();
        assert_eq!((replayed, recovery.torn_bytes), (expected(1..=whole + 2), 0), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_is_damage_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 4, 4);
    write(&mut log, 1, 1);
    let length = log.bytes();
    drop(log);
    let segment = largest_segment(dir.path());
    let whole = std::fs::read(&segment).unwrap();
    for at in 0..length {
        if (12..16).contains(&at) || (44..64).contains(&at) {
            continue; // Reserved bytes of the segment header.
        }
        let mut damaged = whole.clone();
        damaged[at as usize] ^= 1 << (at % 8);
        std::fs::write(&segment, &damaged).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt, "byte {at}: {error}");
        assert!(error.message.contains(&segment.display().to_string()), "{error}");
        assert_eq!(std::fs::read(&segment).unwrap(), damaged, "byte {at}");
    }
}

/// A power cut may leave a file its new length and not its last sectors: they read as zeros.
#[test]
fn sectors_lost_from_the_end_are_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 3, 1);
    let acknowledged = log.bytes() as usize;
    append(&mut log, &[b'x'; 2000]);
    log.write(false).unwrap();
    drop(log);
    let segment = largest_segment(dir.path());
    let whole = std::fs::read(&segment).unwrap();
    let mut lost_from = vec![acknowledged];
    lost_from.extend((acknowledged.next_multiple_of(512)..whole.len()).step_by(512));
    for from in lost_from {
        let copy = copy_of(dir.path());
        let mut bytes = whole.clone();
        bytes[from..].fill(0);
        std::fs::write(copy.path().join(segment.file_name().unwrap()), &bytes).unwrap();
        let (_, recovery, replayed) = open(copy.path()).unwrap();
        let torn = (whole.len() - acknowledged) as u64;
        assert_eq!((replayed, recovery.torn_bytes), (expected(1..=3), torn), "lost from {from}");
    }
}

#[test]
fn damage_in_a_segment_that_is_not_the_last_is_never_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 3, 1);
    drop(log);
    let segment = largest_segment(dir.path());
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 1, 1);
    drop(log);
    let length = segment.metadata().unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 1).unwrap();
    assert_eq!(open(dir.path()).unwrap_err().kind, ErrorKind::Corrupt);
}

#[test]
fn a_segment_that_is_missing_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for _ in 0..3 {
        let (mut log, ..) = open(dir.path()).unwrap();
        write(&mut log, 2, 1);
        paths.push(log.segments.last().unwrap().path.clone());
    }
    std::fs::remove_file(&paths[1]).unwrap();
    assert_eq!(open(dir.path()).unwrap_err().kind, ErrorKind::Corrupt);
}

/// A hole of zeros where a page of the last group never reached the disk, though later pages of that group did.
fn with_hole(group_is_acknowledged: bool) -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 2, 1);
    let hole = log.bytes().next_multiple_of(4096);
    append(&mut log, &[b'x'; 12_000]);
    let small = payload(log.next_lsn().0);
    append(&mut log, &small);
    log.write(true).unwrap();
    if group_is_acknowledged {
        write(&mut log, 1, 1);
    }
    drop(log);
    let file = std::fs::OpenOptions::new().write(true).open(largest_segment(dir.path())).unwrap();
    file.write_all_at(&[0; 4096], hole).unwrap();
    (dir, hole)
}

#[test]
fn pages_lost_from_a_group_nobody_was_told_of_are_a_torn_tail() {
    let (dir, _) = with_hole(false);
    let (_, recovery, replayed) = open(dir.path()).unwrap();
    assert_eq!(replayed, expected(1..=2));
    assert!(recovery.torn_bytes > 12_000);
}

#[test]
fn pages_lost_from_an_acknowledged_group_are_damage() {
    let (dir, _) = with_hole(true);
    assert_eq!(open(dir.path()).unwrap_err().kind, ErrorKind::Corrupt);
}

#[test]
fn a_payload_that_looks_like_a_record_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 1, 1);
    let start = log.bytes();
    let mut forged = Vec::new();
    let inner = LogRecord {
        lsn: Lsn(3),
        kind: RecordKind::Insert,
        collection: CollectionId(1),
        partition: PartitionId(2),
        timestamp: Timestamp(3),
        first_id: 4,
        payload: b"forged",
    };
    log_record::encode(&inner, Seal { salt: 0, synced: Lsn(2) }, &mut forged);
    forged.extend_from_slice(b"and more");
    append(&mut log, &forged);
    log.write(true).unwrap();
    let length = log.bytes();
    drop(log);
    let file = std::fs::OpenOptions::new().write(true).open(largest_segment(dir.path())).unwrap();
    file.set_len(length - 1).unwrap();
    let (_, recovery, replayed) = open(dir.path()).unwrap();
    assert_eq!((replayed, recovery.torn_bytes), (expected(1..=1), length - 1 - start));
}

#[test]
fn a_full_segment_is_followed_by_another_and_cut_when_obsolete() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    let large = vec![7; 5 << 20];
    for _ in 0..10 {
        append(&mut log, &large);
        log.write(false).unwrap();
        log.rotate().unwrap();
    }
    assert_eq!(log.segments.len(), 3);
    log.cut(Lsn(4)).unwrap();
    assert_eq!(log.segments.len(), 3, "records 1 to 4 share a segment");
    log.cut(Lsn(5)).unwrap();
    assert_eq!(log.segments.len(), 2);
    let on_disk = || -> u64 {
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    assert_eq!(log.bytes(), on_disk());
    let (mut log, _, replayed) = open(dir.path()).unwrap();
    assert_eq!(replayed.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>(), (5..=10).collect::<Vec<_>>());
    log.cut(Lsn(11)).unwrap();
    assert_eq!((log.segments.len(), log.bytes()), (1, on_disk()));
    let (mut log, _, replayed) = open(dir.path()).unwrap();
    assert_eq!((replayed.len(), log.next_lsn()), (0, Lsn(11)));
    // What is written now is large and obsolete at once: it is replaced.
    append(&mut log, &large);
    log.write(true).unwrap();
    log.cut(Lsn(12)).unwrap();
    assert_eq!((log.segments.len(), log.bytes()), (1, SEGMENT_HEADER_BYTES as u64));
    assert_eq!(open(dir.path()).unwrap().0.next_lsn(), Lsn(12));
}

#[test]
fn numbers_go_on_from_the_larger_of_log_and_meta() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open_from(dir.path(), Lsn(50)).unwrap();
    assert_eq!(log.next_lsn(), Lsn(50));
    let payload_50 = payload(50);
    append(&mut log, &payload_50);
    log.write(true).unwrap();
    drop(log);
    // Twice: the first leaves an empty segment that starts at 70.
    for _ in 0..2 {
        let (log, _, replayed) = open_from(dir.path(), Lsn(70)).unwrap();
        assert_eq!((replayed, log.next_lsn()), (expected(50..=50), Lsn(70)));
    }
    let (mut log, _, replayed) = open(dir.path()).unwrap();
    assert_eq!((replayed, log.next_lsn()), (expected(50..=50), Lsn(70)));
    write(&mut log, 1, 1);
    let (_, _, replayed) = open(dir.path()).unwrap();
    assert_eq!(replayed, [expected(50..=50), expected(70..=70)].concat());
}

#[test]
fn an_error_of_replay_stops_the_opening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 3, 1);
    let error = Log::open(dir.path(), Lsn(1), &mut |_| Err(Error::internal("no room"))).unwrap_err();
    assert_eq!(error.message, "no room");
    assert_eq!(open(dir.path()).unwrap().2, expected(1..=3));
}

#[test]
fn after_an_error_the_log_refuses_every_write() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path()).unwrap();
    write(&mut log, 1, 1);
    // A full disk that needs no privileges.
    log.file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    append(&mut log, b"lost");
    assert_eq!(log.write(true).unwrap_err().kind, ErrorKind::DiskFull);
    let error = log.write(true).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DiskFull);
    assert!(error.message.contains("restart"), "{error}");
    assert_eq!(open(dir.path()).unwrap().2, expected(1..=1));
}
