//! Tests of `shm/attach`.

use std::io::{Read, Write};

use super::*;
use crate::config::ServerConfig;
use crate::shm::fixture::{CELL, COLLECTION, Home, batch, catalog, growing, keys, manifest, place, table};
use crate::shm::manifest::ManifestDeletes;
use crate::shm::publish::Publisher;
use crate::sys::test_child::{Child, mount_small_tmpfs};
use crate::types::{DurableFile, Timestamp};

/// Publishes an empty `deleted_at` file for a table and names it in the table's line.
fn add_deletes(home: &Home, entry: &mut ManifestFile, name: &str) -> DeletedAt {
    let rows = entry.row_count as usize;
    let bytes = DeletedAt::file_bytes(rows);
    let (map, place) = home.publisher.create_live(COLLECTION, name, bytes).unwrap();
    entry.deletes = Some(ManifestDeletes { name: name.to_owned(), place });
    DeletedAt::create(map, rows)
}

#[test]
fn a_view_maps_what_the_manifest_names_and_follows_it() {
    let home = Home::new();
    let mut entry = table(&home, 1, &[3, 1, 2]);
    place(&home, &mut entry, true);
    let deletes = add_deletes(&home, &mut entry, "1-1.del");
    let (mut writer, chunk) = growing(&home.publisher, "2-0-1.grow", &[8, 9]);
    home.publisher.publish_manifest(CELL, &mut manifest(vec![entry], vec![chunk])).unwrap();
    home.publish_catalog();

    let attachment = Attachment::open(&home.instance).unwrap();
    assert_eq!(*attachment.catalog().unwrap(), catalog());
    let view = attachment.view(COLLECTION, CELL).unwrap();
    assert_eq!(keys(&*view.sealed[0].table), [1, 2, 3]);
    let rows = |view: &CollectionView| keys(&view.growing[0].file.rows(view.growing[0].file.rows_published()));
    assert_eq!(rows(&view), [8, 9]);

    writer.append(&batch(&[10]), 0..1, Timestamp(6));
    deletes.mark(1, 42);
    assert_eq!(rows(&view), [8, 9, 10], "rows show at once, without a publication");
    assert_eq!(view.sealed[0].deletes.as_ref().unwrap().marked_count(), 1);
    assert_eq!(view.partition("_default"), Some(PartitionId(1)));
    assert!(Arc::ptr_eq(&view, &attachment.view(COLLECTION, CELL).unwrap()), "nothing is read without a new epoch");
}

#[test]
fn a_new_epoch_maps_only_what_changed() {
    let home = Home::new();
    let (mut first, second) = (table(&home, 1, &[1]), table(&home, 2, &[2]));
    let (_writer, chunk) = growing(&home.publisher, "3-0-1.grow", &[8]);
    let publish = |files: [&ManifestFile; 2]| {
        let mut next = manifest(files.map(Clone::clone).to_vec(), vec![chunk.clone()]);
        home.publisher.publish_manifest(CELL, &mut next).unwrap();
    };
    let attachment = Attachment::open(&home.instance).unwrap();
    publish([&first, &second]);
    let before = attachment.view(COLLECTION, CELL).unwrap();
    let _deletes = add_deletes(&home, &mut first, "1-1.del");
    publish([&first, &second]);
    let after = attachment.view(COLLECTION, CELL).unwrap();
    assert!(Arc::ptr_eq(&before.sealed[1], &after.sealed[1]) && Arc::ptr_eq(&before.growing[0], &after.growing[0]));
    assert!(Arc::ptr_eq(&before.sealed[0].table, &after.sealed[0].table), "the rows stay mapped");
    assert!(before.sealed[0].deletes.is_none() && after.sealed[0].deletes.is_some());
    place(&home, &mut first, true);
    publish([&first, &second]);
    let moved = attachment.view(COLLECTION, CELL).unwrap();
    assert_eq!(moved.sealed[0].entry.place, Place::Shm);
    assert!(!Arc::ptr_eq(&moved.sealed[0].table, &after.sealed[0].table));
}

#[test]
fn an_old_view_keeps_its_bytes_after_their_replacement() {
    let home = Home::new();
    let mut old = table(&home, 1, &[1, 2, 3]);
    place(&home, &mut old, true);
    home.publisher.publish_manifest(CELL, &mut manifest(vec![old], Vec::new())).unwrap();
    let attachment = Attachment::open(&home.instance).unwrap();
    let view = attachment.view(COLLECTION, CELL).unwrap();
    let mut new = table(&home, 2, &[4]);
    place(&home, &mut new, true);
    home.publisher.publish_manifest(CELL, &mut manifest(vec![new], Vec::new())).unwrap();
    home.publisher.remove_copy(COLLECTION, DurableFile::Table(view.sealed[0].entry.id));
    fs::remove_dir_all(home.instance.tables_dir(COLLECTION)).unwrap();
    assert_eq!(keys(&*attachment.view(COLLECTION, CELL).unwrap().sealed[0].table), [4]);
    assert_eq!(keys(&*view.sealed[0].table), [1, 2, 3]);
}

#[test]
fn another_process_sees_what_is_published() {
    let home = Home::new();
    let first = table(&home, 1, &[1]);
    home.publisher.publish_manifest(CELL, &mut manifest(vec![first], Vec::new())).unwrap();
    home.publish_catalog();
    let (mut from_child, to_parent) = std::io::pipe().unwrap();
    let (from_parent, mut to_child) = std::io::pipe().unwrap();
    let child = Child::fork(|| {
        let attachment = Attachment::open(&home.instance).unwrap();
        let cell = attachment.catalog().unwrap().collections[0].cell;
        let before = keys(&*attachment.view(COLLECTION, cell).unwrap().sealed[0].table);
        (&to_parent).write_all(b"x").unwrap();
        (&from_parent).read_exact(&mut [0]).unwrap();
        let view = attachment.view(COLLECTION, cell).unwrap();
        let after = keys(&*view.sealed[0].table);
        let visible = attachment.control().visible();
        i32::from((before, after, visible) != (vec![1], vec![2, 3], Timestamp(17)))
    });
    from_child.read_exact(&mut [0]).unwrap();
    let mut second = table(&home, 2, &[2, 3]);
    place(&home, &mut second, true);
    home.publisher.publish_manifest(CELL, &mut manifest(vec![second], Vec::new())).unwrap();
    home.publisher.control().set_visible(Timestamp(17));
    to_child.write_all(b"x").unwrap();
    assert_eq!(child.wait(), Some(0));
}

#[test]
fn a_reader_that_races_with_replacements_always_gets_a_whole_view() {
    const ROUNDS: i64 = 300;
    let home = Home::new();
    let attachment = Attachment::open(&home.instance).unwrap();
    let publish = |round: i64| {
        let mut entry = table(&home, round, &[round, round]);
        place(&home, &mut entry, true);
        let name = format!("{round}-0-1.grow");
        let (_writer, chunk) = growing(&home.publisher, &name, &[round]);
        home.publisher.publish_manifest(CELL, &mut manifest(vec![entry], vec![chunk])).unwrap();
        home.publish_catalog();
        home.publisher.remove_copy(COLLECTION, DurableFile::Table(crate::types::FileId(round - 1)));
        home.publisher.remove_live(COLLECTION, &format!("{}-0-1.grow", round - 1), Place::Shm);
    };
    publish(1);
    let deadline = Instant::now() + Duration::from_secs(600);
    std::thread::scope(|scope| {
        scope.spawn(|| (2..=ROUNDS).for_each(publish));
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < ROUNDS {
                    assert!(Instant::now() < deadline, "the writer stopped at {last}");
                    attachment.catalog().unwrap();
                    let view = attachment.view(COLLECTION, CELL).unwrap();
                    let now = keys(&view.growing[0].file.rows(1))[0];
                    assert_eq!(keys(&*view.sealed[0].table), [now, now]);
                    assert!(now >= last);
                    last = now;
                }
            });
        }
    });
}

#[test]
fn a_file_that_is_named_but_gone_is_reported_with_its_path() {
    let home = Home::new();
    let entry = table(&home, 1, &[1]);
    home.publisher.publish_manifest(CELL, &mut manifest(vec![entry], Vec::new())).unwrap();
    fs::remove_dir_all(home.instance.tables_dir(COLLECTION)).unwrap();
    let error = Attachment::open(&home.instance).unwrap().view(COLLECTION, CELL).unwrap_err();
    assert!(error.kind == ErrorKind::Corrupt && error.message.contains("1.arrow"), "{error}");
}

#[test]
fn what_contradicts_the_manifest_is_corrupt() {
    let home = Home::new();
    let good = table(&home, 1, &[1, 2]);
    let (_writer, chunk) = growing(&home.publisher, "2-0-1.grow", &[8]);
    let attachment = Attachment::open(&home.instance).unwrap();
    let damages: [&dyn Fn(&mut Manifest); 5] = [
        &|manifest| manifest.files[0].file_bytes += 1,
        &|manifest| manifest.files[0].row_count += 1,
        &|manifest| manifest.chunks[0].file_bytes -= 1,
        &|manifest| manifest.chunks[0].name = "../7/2-0-1.grow".to_owned(),
        &|manifest| {
            manifest.files[0].deletes = Some(ManifestDeletes { name: "2-0-1.grow".to_owned(), place: Place::Shm });
        },
    ];
    for damage in damages {
        let mut manifest = manifest(vec![good.clone()], vec![chunk.clone()]);
        damage(&mut manifest);
        home.publisher.publish_manifest(CELL, &mut manifest).unwrap();
        assert_eq!(attachment.view(COLLECTION, CELL).unwrap_err().kind, ErrorKind::Corrupt);
    }
    home.publisher.publish_manifest(CELL, &mut manifest(vec![good], vec![chunk])).unwrap();
    attachment.view(COLLECTION, CELL).unwrap();
    let path = paths::manifest(&home.instance, COLLECTION, Epoch(6), Place::Shm);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(Attachment::open(&home.instance).unwrap().view(COLLECTION, CELL).unwrap_err().kind, ErrorKind::Corrupt);
}

#[test]
fn before_anything_is_published_the_error_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let instance = Home::instance_in(dir.path());
    assert_eq!(Attachment::open(&instance).unwrap_err().kind, ErrorKind::Unavailable);
    let home = Home::new();
    let attachment = Attachment::open(&home.instance).unwrap();
    assert_eq!(attachment.catalog().unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(attachment.view(COLLECTION, CELL).unwrap_err().kind, ErrorKind::CollectionNotFound);
}

#[test]
fn a_dropped_collection_is_forgotten_and_unmapped() {
    let home = Home::new();
    let entry = table(&home, 1, &[1]);
    home.publisher.publish_manifest(CELL, &mut manifest(vec![entry], Vec::new())).unwrap();
    let attachment = Attachment::open(&home.instance).unwrap();
    let view = Arc::downgrade(&attachment.view(COLLECTION, CELL).unwrap());
    attachment.forget_dropped(&catalog());
    assert!(view.upgrade().is_some());
    home.publisher.remove_collection(CELL, COLLECTION).unwrap();
    attachment.forget_dropped(&Catalog::default());
    assert!(view.upgrade().is_none());
    assert_eq!(attachment.view(COLLECTION, CELL).unwrap_err().kind, ErrorKind::CollectionNotFound);
}

#[test]
fn a_replaced_instance_directory_is_noticed() {
    let home = Home::new();
    let attachment = Attachment::open(&home.instance).unwrap();
    assert!(attachment.is_current());
    fs::remove_dir_all(&home.instance.shm_dir).unwrap();
    assert!(!attachment.is_current());
    let _second = Publisher::open(&home.instance, &ServerConfig::default()).unwrap();
    assert!(!attachment.is_current());
}

/// Runs in a child with a file system of its own: 1 MiB of shared memory, of which the control file takes half.
fn fill_a_small_shared_memory(dir: &Path) -> i32 {
    fs::create_dir_all(dir.join("shm")).unwrap();
    if !mount_small_tmpfs(&dir.join("shm"), 1 << 20) {
        return 77;
    }
    let home = Home::in_dir(dir);
    let mut entry = table(&home, 1, &[1, 2]);
    place(&home, &mut entry, true);
    assert_eq!(entry.place, Place::Disk, "the reserve is for live files");
    let (large, large_place) = home.publisher.create_live(COLLECTION, "large.grow", 4 << 20).unwrap();
    assert_eq!((large.len(), large_place), (4 << 20, Place::Disk));
    for step in [128 << 10, 4096] {
        let mut number = 0;
        while home.publisher.create_live(COLLECTION, &format!("{step}-{number}.grow"), step).unwrap().1 == Place::Shm {
            number += 1;
        }
    }
    let deletes = add_deletes(&home, &mut entry, "1-1.del");
    let (_writer, chunk) = growing(&home.publisher, "2-0-1.grow", &[8]);
    assert_eq!((chunk.place, entry.deletes.as_ref().unwrap().place), (Place::Disk, Place::Disk));
    home.publisher.publish_manifest(CELL, &mut manifest(vec![entry], vec![chunk])).unwrap();
    home.publish_catalog();
    assert!(paths::manifest(&home.instance, COLLECTION, Epoch(1), Place::Disk).exists());
    deletes.mark(0, 9);
    let attachment = Attachment::open(&home.instance).unwrap();
    assert_eq!(*attachment.catalog().unwrap(), catalog());
    let view = attachment.view(COLLECTION, CELL).unwrap();
    assert_eq!(keys(&*view.sealed[0].table), [1, 2]);
    assert_eq!(view.sealed[0].deletes.as_ref().unwrap().marked_count(), 1);
    assert_eq!(view.growing[0].file.rows_published(), 1);
    0
}

#[test]
fn what_does_not_fit_into_shared_memory_is_published_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    match Child::fork(|| fill_a_small_shared_memory(dir.path())).wait() {
        Some(77) => eprintln!("not tested: this machine lets nobody mount a tmpfs"),
        code => assert_eq!(code, Some(0)),
    }
}
