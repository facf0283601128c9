//! Tests of `shm/publish`.

use super::*;
use crate::shm::fixture::{CELL, COLLECTION, Home, catalog, growing, manifest, place, table};

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn collection_dir(home: &Home) -> std::path::PathBuf {
    home.instance.shm_collection_dir(COLLECTION)
}

#[test]
fn a_publication_replaces_the_one_before() {
    let home = Home::new();
    for epoch in 1..=3 {
        let mut manifest = manifest(Vec::new(), Vec::new());
        home.publisher.publish_manifest(CELL, &mut manifest).unwrap();
        home.publisher.publish_catalog(&catalog()).unwrap();
        assert_eq!(manifest.epoch, Epoch(epoch));
        assert_eq!(home.publisher.control().manifest_epoch(CELL), Epoch(epoch));
        assert_eq!(names(&collection_dir(&home)), [format!("manifest-{epoch}")]);
        assert_eq!(names(&home.instance.shm_dir), ["7".to_owned(), format!("catalog-{epoch}"), "control".to_owned()]);
    }
}

#[test]
fn a_new_writer_goes_on_with_the_epochs_of_the_old_one() {
    let home = Home::new();
    home.publisher.publish_manifest(CELL, &mut manifest(Vec::new(), Vec::new())).unwrap();
    // A writer that died between writing a manifest and storing its epoch.
    fs::write(collection_dir(&home).join("manifest-2"), b"half").unwrap();
    let second = Publisher::open(&home.instance, &ServerConfig::default()).unwrap();
    let mut next = manifest(Vec::new(), Vec::new());
    second.publish_manifest(CELL, &mut next).unwrap();
    assert_eq!(next.epoch, Epoch(2));
    assert_eq!(names(&collection_dir(&home)), ["manifest-2"]);
}

#[test]
fn a_table_is_copied_whole_and_counted() {
    let home = Home::new();
    let mut entry = table(&home, 11, &[1, 2, 3]);
    place(&home, &mut entry, true);
    assert_eq!(entry.place, Place::Shm);
    let source = home.instance.tables_dir(COLLECTION).join("11.arrow");
    assert_eq!(fs::read(&source).unwrap(), fs::read(collection_dir(&home).join("11.arrow")).unwrap());
    assert_eq!(home.publisher.shm_bytes(), (entry.file_bytes, 0));
    home.publisher.remove_copy(COLLECTION, DurableFile::Table(entry.id));
    assert_eq!(home.publisher.shm_bytes(), (0, 0));
    assert!(names(&collection_dir(&home)).is_empty());
}

#[test]
fn a_damaged_table_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let entry = table(&home, 11, &[1, 2, 3]);
    let source = home.instance.tables_dir(COLLECTION).join("11.arrow");
    let wrong = entry.checksum ^ 1;
    let error = home.publisher.place(COLLECTION, DurableFile::Table(entry.id), &source, wrong, true).unwrap_err();
    assert!(error.kind == ErrorKind::Corrupt && error.message.contains("11.arrow"), "{error}");
    assert!(names(&collection_dir(&home)).is_empty());
    assert_eq!(home.publisher.shm_bytes(), (0, 0));
    let unread = home.publisher.place(COLLECTION, DurableFile::Table(entry.id), &source, wrong, false).unwrap();
    assert_eq!(unread, Place::Disk);
    assert!(verify_file(&source, wrong).is_err());
    verify_file(&source, entry.checksum).unwrap();
}

#[test]
fn tables_beyond_the_budget_stay_on_disk_until_room_is_given_back() {
    let probe = Home::new();
    let bytes = table(&probe, 1, &[1]).file_bytes;
    let home = Home::with_config(&ServerConfig { shm_bytes_max: Some(bytes), ..ServerConfig::default() });
    let (mut first, mut second) = (table(&home, 1, &[1]), table(&home, 2, &[2]));
    place(&home, &mut first, true);
    place(&home, &mut second, true);
    assert_eq!((first.place, second.place), (Place::Shm, Place::Disk));
    let source = home.instance.tables_dir(COLLECTION).join("2.arrow");
    let wrong = home.publisher.place(COLLECTION, DurableFile::Table(second.id), &source, second.checksum ^ 1, true);
    assert_eq!(wrong.unwrap_err().kind, ErrorKind::Corrupt, "it is read also when it is not copied");
    home.publisher.remove_copy(COLLECTION, DurableFile::Table(first.id));
    place(&home, &mut second, true);
    assert_eq!(second.place, Place::Shm);
}

#[test]
fn a_new_writer_takes_over_the_copies_it_finds() {
    let home = Home::new();
    let mut entry = table(&home, 1, &[1]);
    place(&home, &mut entry, true);
    let copied = fs::metadata(collection_dir(&home).join("1.arrow")).unwrap().modified().unwrap();
    let second = Publisher::open(&home.instance, &ServerConfig::default()).unwrap();
    let source = home.instance.tables_dir(COLLECTION).join("1.arrow");
    for copy in [false, true] {
        assert_eq!(
            second.place(COLLECTION, DurableFile::Table(entry.id), &source, entry.checksum, copy).unwrap(),
            Place::Shm
        );
        assert_eq!(fs::metadata(collection_dir(&home).join("1.arrow")).unwrap().modified().unwrap(), copied);
    }
    assert_eq!(second.shm_bytes().0, entry.file_bytes);
    fs::write(collection_dir(&home).join("1.arrow"), vec![0; entry.file_bytes as usize]).unwrap();
    assert_eq!(
        second.place(COLLECTION, DurableFile::Table(entry.id), &source, entry.checksum, true).unwrap(),
        Place::Shm
    );
    verify_file(&collection_dir(&home).join("1.arrow"), entry.checksum).unwrap();
}

#[test]
fn a_sweep_keeps_what_is_published_or_under_way_and_nothing_else() {
    let home = Home::new();
    let mut entry = table(&home, 1, &[1]);
    place(&home, &mut entry, true);
    let (_writer, chunk) = growing(&home.publisher, "1-0-1.grow", &[5]);
    let mut manifest = manifest(vec![entry], vec![chunk]);
    home.publisher.publish_manifest(CELL, &mut manifest).unwrap();
    home.publish_catalog();
    let (_unpublished, _) = growing(&home.publisher, "2-0-1.grow", &[6]);
    let dir = collection_dir(&home);
    let strangers = ["manifest-9", "0-0-0.grow", "99.arrow", ".98.arrow.tmp", ".manifest-3.tmp"];
    strangers.iter().for_each(|name| fs::write(dir.join(name), b"old").unwrap());
    fs::create_dir_all(home.instance.shm_dir.join("8")).unwrap();
    fs::write(home.instance.shm_dir.join("8/1.arrow"), b"old").unwrap();
    fs::write(home.instance.shm_dir.join("catalog-9"), b"old").unwrap();
    fs::create_dir_all(home.instance.live_dir(COLLECTION)).unwrap();
    fs::write(home.instance.live_dir(COLLECTION).join("3-0-0.grow"), b"old").unwrap();
    assert_eq!(home.publisher.sweep(&[&manifest]).unwrap(), strangers.len() + 3);
    assert_eq!(names(&dir), ["1-0-1.grow", "1.arrow", "2-0-1.grow", "manifest-1"]);
    assert_eq!(names(&home.instance.shm_dir), ["7", "catalog-1", "control"]);
    assert!(names(&home.instance.live_dir(COLLECTION)).is_empty());
    assert_eq!(home.publisher.sweep(&[&manifest]).unwrap(), 0);
}

#[test]
fn a_dropped_collection_leaves_nothing() {
    let home = Home::new();
    let mut entry = table(&home, 1, &[1]);
    place(&home, &mut entry, true);
    let (_writer, chunk) = growing(&home.publisher, "1-0-1.grow", &[5]);
    home.publisher.publish_manifest(CELL, &mut manifest(vec![entry], vec![chunk])).unwrap();
    home.publisher.remove_collection(CELL, COLLECTION).unwrap();
    home.publisher.remove_collection(CELL, COLLECTION).unwrap();
    assert_eq!(home.publisher.control().manifest_epoch(CELL), Epoch(0));
    assert!(!collection_dir(&home).exists());
    assert_eq!(home.publisher.shm_bytes(), (0, 0));
}

#[test]
fn a_live_file_is_fresh_also_when_its_name_was_used() {
    let home = Home::new();
    let (old, _) = home.publisher.create_live(COLLECTION, "1-0-1.grow", 4096).unwrap();
    old.write(0, b"old");
    let (new, place) = home.publisher.create_live(COLLECTION, "1-0-1.grow", 8192).unwrap();
    assert_eq!((new.len(), place, home.publisher.shm_bytes().1), (8192, Place::Shm, 8192));
    assert!(new.bytes().iter().all(|byte| *byte == 0));
    assert_eq!(&old.bytes()[..3], b"old");
    assert!(home.publisher.create_live(COLLECTION, "../1.grow", 4096).is_err());
}
