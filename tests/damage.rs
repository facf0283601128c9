//! Damaged files under a real server: each gets a clear error that names it, or the recovery that FORMAT.md promises; nothing
//! is served wrong, and what is whole goes on.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Api, Server, longs};

const DIM: usize = 8;
const OPTIONS: [&str; 4] = ["--searchers", "1", "--auto-flush-interval", "1h"];
/// Exit code of a server that does not start because of damaged files.
const CORRUPT: i32 = 5;

fn rows(start: i64, count: i64) -> (Vec<i64>, Vec<f32>) {
    let ids: Vec<i64> = (start..start + count).collect();
    let vectors = ids.iter().flat_map(|id| [*id as f32; DIM]).collect();
    (ids, vectors)
}

fn insert(api: &mut Api, name: &str, start: i64, count: i64) {
    let (ids, vectors) = rows(start, count);
    api.insert(name, &ids, 1, &vectors).expect("inserted");
}

/// Files with this extension under a directory, by name.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path, extension)),
            path if path.extension().is_some_and(|found| found == extension) => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 0x40;
    fs::write(path, bytes).expect("written");
}

fn truncate(path: &Path, bytes: u64) {
    fs::File::options().write(true).open(path).expect("opened").set_len(bytes).expect("truncated");
}

fn bytes_of(path: &Path) -> usize {
    fs::metadata(path).expect("there").len() as usize
}

/// A server killed with ten records of ten rows in its log, in one segment.
fn killed_with_a_log() -> Server {
    let mut server = Server::start(&OPTIONS);
    let mut api = server.api();
    api.create("logged", DIM, "L2");
    (0..10).for_each(|batch| insert(&mut api, "logged", batch * 10, 10));
    server.kill();
    server
}

fn log_segments(server: &Server) -> Vec<PathBuf> {
    files(&server.data_dir.join("log"), "log")
}

/// The server does not start; its log and the doctor name the file.
fn assert_refused(server: &mut Server, file: &Path) {
    server.launch();
    let status = server.ended();
    assert_eq!(status.code(), Some(CORRUPT), "{}", server.log());
    let name = file.file_name().expect("a name").to_string_lossy();
    assert!(server.log().contains(&*name), "{name} is not named in {}", server.log());
    assert_eq!(server.shm_left(), Vec::<String>::new());
    let (is_sound, report) = server.doctor();
    assert!(!is_sound && report.contains(&*name), "{report}");
}

#[test]
fn a_flipped_byte_in_the_log_stops_the_start() {
    let mut server = killed_with_a_log();
    let segment = log_segments(&server).pop().expect("a segment");
    // In the third record or so; in the header; in the last record, which is whole and was acknowledged.
    for at in [bytes_of(&segment) / 3, 20, bytes_of(&segment) - 5] {
        flip(&segment, at);
        assert_refused(&mut server, &segment);
        assert_eq!(log_segments(&server), std::slice::from_ref(&segment), "a refused start makes no segment");
        flip(&segment, at);
    }
    server.start_again();
    assert_eq!(server.api().count("logged"), 100);
}

#[test]
fn a_torn_tail_of_the_log_is_cut_and_everything_before_it_is_there() {
    let mut server = killed_with_a_log();
    let segment = log_segments(&server).pop().expect("a segment");
    truncate(&segment, bytes_of(&segment) as u64 - 7);
    server.start_again();
    assert_eq!(server.api().count("logged"), 90, "nine whole records and no half of the tenth");
    assert!(server.log().contains("torn"), "{}", server.log());
    insert(&mut server.api(), "logged", 1000, 10);
    server.kill();
    server.start_again();
    assert_eq!(server.api().count("logged"), 100, "the log goes on behind the cut");
}

#[test]
fn a_log_that_ends_early_in_the_middle_stops_the_start() {
    let mut server = killed_with_a_log();
    server.start_again();
    insert(&mut server.api(), "logged", 1000, 10);
    server.kill();
    let segments = log_segments(&server);
    assert!(segments.len() >= 2, "{segments:?}");
    let whole = fs::read(&segments[0]).expect("read");
    truncate(&segments[0], whole.len() as u64 - 7);
    assert_refused(&mut server, &segments[0]);
    // A segment that is missing altogether: the next one says what it follows.
    fs::remove_file(&segments[0]).expect("removed");
    server.launch();
    assert_eq!(server.ended().code(), Some(CORRUPT), "{}", server.log());
    assert!(server.log().contains("missing"), "{}", server.log());
    fs::write(&segments[0], whole).expect("written");
    server.start_again();
    assert_eq!(server.api().count("logged"), 110);
}

/// A stopped server with two collections of table files with deletes: `hurt`, to be damaged, and `well`.
fn stopped_with_tables() -> Server {
    let mut server = Server::start(&OPTIONS);
    let mut api = server.api();
    for name in ["well", "hurt"] {
        api.create(name, DIM, "L2");
        insert(&mut api, name, 0, 1000);
        api.flush(name);
        api.delete(name, "id in [1, 2, 3]").expect("deleted");
    }
    server.stop();
    server
}

/// The file of the collection that was made last.
fn of_hurt(server: &Server, extension: &str) -> PathBuf {
    let mut found = files(&server.data_dir.join("tables"), extension);
    found.sort_by_key(|path| path.file_stem().and_then(|stem| stem.to_str()?.parse::<i64>().ok()));
    assert_eq!(found.len(), 2, "{found:?}");
    found.pop().expect("two")
}

/// The damaged collection says so, in whatever it is asked; the other one answers.
fn assert_hurt(server: &mut Server, file: &Path) {
    server.start_again();
    let mut api = server.api();
    let name = file.file_name().expect("a name").to_string_lossy();
    let search = api.search("hurt", &[5.0; DIM], 1).expect_err("a search of a damaged collection");
    let query = api.query("hurt", "id == 5", &["id"], None).expect_err("a query of a damaged collection");
    for refused in [search, query] {
        assert!(refused.reason.contains(&*name) && refused.reason.contains("damaged"), "{refused:?}");
    }
    assert_eq!(api.search("well", &[5.0; DIM], 1).expect("an answer").0, [5]);
    assert_eq!(api.count("well"), 997);
    let (is_sound, report) = server.doctor();
    assert!(!is_sound && report.contains(&*name), "{report}");
    server.stop();
}

#[test]
fn a_damaged_table_file_hurts_its_collection_only() {
    let mut server = stopped_with_tables();
    let table = of_hurt(&server, "arrow");
    let whole = fs::read(&table).expect("read");
    for at in [whole.len() / 2, 3, whole.len() - 3] {
        flip(&table, at);
        assert_hurt(&mut server, &table);
        fs::write(&table, &whole).expect("written");
    }
    for bytes in [whole.len() as u64 - 1, 10, 0] {
        truncate(&table, bytes);
        assert_hurt(&mut server, &table);
        fs::write(&table, &whole).expect("written");
    }
    fs::remove_file(&table).expect("removed");
    assert_hurt(&mut server, &table);
    fs::write(&table, &whole).expect("written");
    server.start_again();
    assert_eq!(server.api().count("hurt"), 997, "the restored file is as good as ever");
}

/// Whoever copies the file into shared memory would notice it as well, but later.
#[test]
fn a_damaged_table_file_is_noticed_before_the_first_answer() {
    let mut server = stopped_with_tables();
    let table = of_hurt(&server, "arrow");
    flip(&table, bytes_of(&table) / 2);
    let copying = "publish.table_copying";
    server.set_holds(&[copying]);
    server.start_again();
    let refused = server.api().search("hurt", &[5.0; DIM], 1).expect_err("a search of a damaged collection");
    assert!(refused.reason.contains("damaged"), "{refused:?}");
    server.wait_until_held(copying, 1);
    server.let_go(copying);
    server.stop();
}

#[test]
fn a_damaged_delete_checkpoint_hurts_its_collection_only() {
    let mut server = stopped_with_tables();
    let checkpoint = of_hurt(&server, "del");
    let whole = fs::read(&checkpoint).expect("read");
    for at in [whole.len() / 2, 1, whole.len() - 1] {
        flip(&checkpoint, at);
        assert_hurt(&mut server, &checkpoint);
        fs::write(&checkpoint, &whole).expect("written");
    }
    truncate(&checkpoint, whole.len() as u64 - 8);
    assert_hurt(&mut server, &checkpoint);
    fs::remove_file(&checkpoint).expect("removed");
    assert_hurt(&mut server, &checkpoint);
    fs::write(&checkpoint, &whole).expect("written");
    server.start_again();
    let answer = server.api().query("hurt", "id < 5", &["id"], Some(10)).expect("an answer");
    assert_eq!(longs(&answer, "id"), [0, 4]);
}

#[test]
fn a_flipped_byte_of_the_catalog_is_refused_or_harmless() {
    let mut server = stopped_with_tables();
    let meta = server.data_dir.join("meta.sqlite");
    let whole = fs::read(&meta).expect("read");
    assert!(!meta.with_extension("sqlite-wal").exists(), "a clean stop leaves one file");
    // Bytes of records, page headers and the schema, spread over the pages; free space is harmless.
    let mut refused = 0;
    for page in 0..whole.len() / 4096 {
        for at in [page * 4096 + 3, page * 4096 + 4090, page * 4096 + 4000] {
            flip(&meta, at);
            match server.try_start_again() {
                true => {
                    let mut api = server.api();
                    assert_eq!((api.count("well"), api.count("hurt")), (997, 997), "byte {at}");
                    server.stop();
                }
                false => {
                    assert!(server.ended().code().is_some_and(|code| code == CORRUPT), "byte {at}: {}", server.log());
                    refused += 1;
                }
            }
            fs::write(&meta, &whole).expect("written");
        }
    }
    assert!(refused > 0);
    truncate(&meta, whole.len() as u64 / 2);
    assert_refused(&mut server, &meta);
}
