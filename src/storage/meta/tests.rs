//! Tests of `storage/meta`.

use super::*;
use crate::format::samples;
use crate::types::{DataType, FieldId, FileState, IndexId, IndexRecord, PartitionId, PartitionRecord};

fn meta() -> (tempfile::TempDir, Meta) {
    let dir = tempfile::tempdir().unwrap();
    let meta = Meta::open(&dir.path().join("meta.sqlite")).unwrap();
    (dir, meta)
}

fn reopened(meta: Meta) -> Meta {
    let path = meta.path.clone();
    drop(meta);
    Meta::open(&path).unwrap()
}

fn partition(id: i64, name: &str) -> PartitionRecord {
    PartitionRecord {
        id: PartitionId(id),
        name: name.to_owned(),
        created: Timestamp(u64::MAX),
        flushed_lsn: Lsn(id as u64),
        is_loaded: id % 2 == 0,
    }
}

fn collection(id: i64) -> CollectionRecord {
    CollectionRecord {
        id: CollectionId(id),
        database: "default".to_owned(),
        name: format!("c{id}"),
        schema: samples::schema(DataType::VarChar),
        properties: vec![("ttl".to_owned(), "0".to_owned())],
        consistency_level: 1,
        shards: 2,
        created: Timestamp(3),
        updated: Timestamp(u64::MAX - 1),
        is_loaded: true,
        start_lsn: Lsn(5),
        cell: u32::MAX,
        // In the user's order, not in that of ids or names.
        partitions: vec![partition(id + 2, "_default"), partition(id + 1, "a")],
        indexes: vec![IndexRecord {
            id: IndexId(id + 3),
            name: "i".to_owned(),
            field: FieldId(101),
            params: vec![("index_type".to_owned(), "FLAT".to_owned())],
        }],
        field_id_next: 300,
    }
}

fn file(id: i64, state: FileState) -> FileRecord {
    FileRecord {
        id: FileId(id),
        collection: CollectionId(10),
        partition: PartitionId(12),
        state,
        row_count: 7,
        file_bytes: 1 << 40,
        checksum: u64::MAX - 2,
        timestamps: (1, u64::MAX),
        deleted_count: 3,
    }
}

fn index_file(file: i64, index: i64) -> IndexFileRecord {
    IndexFileRecord {
        file: FileId(file),
        index: IndexId(index),
        collection: CollectionId(10),
        file_bytes: 1 << 40,
        checksum: u64::MAX - 3,
    }
}

#[test]
fn index_files_go_one_by_one_and_with_their_table_file() {
    let (_dir, mut meta) = meta();
    let put = |file, index| MetaEdit::PutIndexFile(index_file(file, index));
    meta.apply(&[put(20, 13), put(20, 14), put(21, 13), MetaEdit::DropIndexFile(FileId(20), IndexId(13))]).unwrap();
    assert_eq!(meta.load().unwrap().index_files, [index_file(20, 14), index_file(21, 13)]);
    meta.apply(&[MetaEdit::DropFile(FileId(20))]).unwrap();
    assert_eq!(meta.load().unwrap().index_files, [index_file(21, 13)]);
}

#[test]
fn a_new_catalog_has_the_default_database_and_free_ids() {
    let (_dir, meta) = meta();
    let state = meta.load().unwrap();
    assert_eq!(state.databases.len(), 1);
    assert_eq!(state.databases[0].name, "default");
    assert!(state.databases[0].created.unix_ms() > 1_700_000_000_000);
    assert!(state.id_next > state.databases[0].id);
    assert_eq!((state.row_id_next, state.lsn_next), (1, Lsn(1)));
    assert_eq!(reopened(meta).load().unwrap(), state);
}

#[test]
fn every_edit_comes_back_as_it_was_made() {
    let (_dir, mut meta) = meta();
    let states = [
        FileState::New,
        FileState::Raw,
        FileState::ToIndex,
        FileState::Index,
        FileState::NewMerge,
        FileState::NewIndex,
        FileState::ToDelete,
        FileState::Backup,
    ];
    let files: Vec<FileRecord> = states.into_iter().zip(20..).map(|(state, id)| file(id, state)).collect();
    let database = DatabaseRecord {
        name: "d".to_owned(),
        id: 5,
        created: Timestamp(9),
        properties: vec![("a".into(), "b".into())],
    };
    let alias = |collection| MetaEdit::PutAlias {
        database: "default".to_owned(),
        alias: "x".to_owned(),
        collection: CollectionId(collection),
    };
    let mut edits = vec![
        MetaEdit::PutDatabase(database.clone()),
        MetaEdit::PutCollection(collection(10)),
        MetaEdit::PutCollection(collection(30)),
        alias(30),
        alias(10),
        MetaEdit::SetIdNext(40),
        MetaEdit::SetRowIdNext(i64::MAX),
        MetaEdit::SetTimestampHigh(Timestamp(u64::MAX)),
        MetaEdit::SetDeletesFlushedLsn(Lsn(6)),
        MetaEdit::SetLsnNext(Lsn(7)),
        MetaEdit::PutBuild(FileId(20), IndexId(13), 1),
        MetaEdit::PutBuild(FileId(20), IndexId(13), 2),
        MetaEdit::PutBuild(FileId(20), IndexId(14), 1),
        MetaEdit::PutBuild(FileId(21), IndexId(13), 3),
        MetaEdit::DropBuild(FileId(20), IndexId(14)),
    ];
    edits.extend(files.iter().cloned().map(MetaEdit::PutFile));
    let index_files = [index_file(20, 13), index_file(20, 14), index_file(21, 13)];
    edits.extend(index_files.iter().cloned().map(MetaEdit::PutIndexFile));
    meta.apply(&edits).unwrap();
    let meta = reopened(meta);
    let state = meta.load().unwrap();
    let expected = MetaState {
        databases: vec![state.databases[0].clone(), database],
        collections: vec![collection(10), collection(30)],
        aliases: vec![("default".to_owned(), "x".to_owned(), CollectionId(10))],
        files,
        index_files: index_files.to_vec(),
        id_next: 40,
        row_id_next: i64::MAX,
        timestamp_high: Timestamp(u64::MAX),
        deletes_flushed_lsn: Lsn(6),
        lsn_next: Lsn(7),
        builds: vec![(FileId(20), IndexId(13), 2), (FileId(21), IndexId(13), 3)],
    };
    assert_eq!(state, expected);
    assert_eq!(Meta::open_read_only(&meta.path).unwrap().load().unwrap(), expected);
    assert_eq!(meta.check_integrity().unwrap(), Vec::<String>::new());
}

#[test]
fn a_dropped_collection_takes_its_parts_with_it_and_a_changed_one_replaces_them() {
    let (_dir, mut meta) = meta();
    let alias = ("default".to_owned(), "x".to_owned());
    meta.apply(&[
        MetaEdit::PutCollection(collection(10)),
        MetaEdit::PutFile(file(20, FileState::Raw)),
        MetaEdit::PutAlias { database: alias.0, alias: alias.1, collection: CollectionId(10) },
    ])
    .unwrap();
    let mut changed = collection(10);
    changed.partitions.remove(0);
    changed.indexes.clear();
    meta.apply(&[MetaEdit::PutCollection(changed.clone())]).unwrap();
    assert_eq!(meta.load().unwrap().collections, [changed]);
    meta.apply(&[MetaEdit::DropCollection(CollectionId(10))]).unwrap();
    let state = meta.load().unwrap();
    assert_eq!((state.collections.len(), state.aliases.len(), state.files.len()), (0, 0, 1));
    meta.apply(&[MetaEdit::DropFile(FileId(20)), MetaEdit::DropDatabase("default".to_owned())]).unwrap();
    let state = meta.load().unwrap();
    assert_eq!((state.files.len(), state.databases.len()), (0, 0));
}

#[test]
fn attempts_to_build_go_with_their_table_file_and_at_an_orderly_stop() {
    let (_dir, mut meta) = meta();
    let put = |file| MetaEdit::PutBuild(FileId(file), IndexId(1), 1);
    meta.apply(&[put(2), put(20), put(21), MetaEdit::DropFile(FileId(2))]).unwrap();
    assert_eq!(meta.load().unwrap().builds, [(FileId(20), IndexId(1), 1), (FileId(21), IndexId(1), 1)]);
    let before = meta.load().unwrap();
    meta.apply(&[MetaEdit::DropBuilds]).unwrap();
    assert_eq!(meta.load().unwrap(), MetaState { builds: Vec::new(), ..before });
}

#[test]
fn a_failed_transaction_changes_nothing() {
    let (_dir, mut meta) = meta();
    let before = meta.load().unwrap();
    // Two collections cannot own one partition.
    let mut thief = collection(30);
    thief.partitions = collection(10).partitions;
    let edits = [MetaEdit::SetIdNext(99), MetaEdit::PutCollection(collection(10)), MetaEdit::PutCollection(thief)];
    assert!(meta.apply(&edits).is_err());
    assert_eq!(meta.load().unwrap(), before);
}

#[test]
fn a_catalog_of_another_version_or_program_is_refused_by_name() {
    let (_dir, meta) = meta();
    let path = meta.path.clone();
    for (pragma, word) in [("user_version = 99", "version 99"), ("application_id = 1", "another program")] {
        meta.connection.execute_batch(&format!("PRAGMA {pragma}")).unwrap();
        for opened in [Meta::open(&path), Meta::open_read_only(&path)] {
            let error = opened.unwrap_err();
            assert!(error.message.contains(word) && error.message.contains("meta.sqlite"), "{error}");
        }
        meta.connection.execute_batch("PRAGMA user_version = 3").unwrap();
    }
}

#[test]
fn reading_a_closed_catalog_makes_no_file_beside_it_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a%20b?c#d");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("meta.sqlite");
    let mut meta = Meta::open(&path).unwrap();
    meta.apply(&[MetaEdit::SetIdNext(99)]).unwrap();
    let files = || std::fs::read_dir(&folder).unwrap().count();
    // While it is open, what is not in the file itself yet is read as well.
    assert_eq!((Meta::open_read_only(&path).unwrap().load().unwrap().id_next, files()), (99, 3));
    drop(meta);
    assert_eq!((Meta::open_read_only(&path).unwrap().load().unwrap().id_next, files()), (99, 1));
}

#[test]
fn garbage_is_corrupt_and_a_missing_file_is_not_made_for_reading() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.sqlite");
    assert!(Meta::open_read_only(&path).is_err());
    assert!(!path.exists());
    std::fs::write(&path, [0x5a; 8192]).unwrap();
    assert_eq!(Meta::open(&path).unwrap_err().kind, ErrorKind::Corrupt);
}

#[test]
fn a_changed_row_of_any_table_is_corrupt_and_named() {
    let changes = [
        ("databases", "created = 1"),
        ("collections", "schema = '{'"),
        ("partitions", "flushed_lsn = flushed_lsn + 1"),
        ("indexes", "name = 'j'"),
        ("aliases", "collection = 11"),
        ("table_files", "row_count = 8"),
        ("index_files", "checksum = 8"),
        ("progress", "value = value + 1"),
    ];
    assert_eq!(changes.map(|(table, _)| table), checksum::TABLES);
    for (table, change) in changes {
        let (_dir, mut meta) = meta();
        let alias = ("default".to_owned(), "x".to_owned());
        meta.apply(&[
            MetaEdit::PutCollection(collection(10)),
            MetaEdit::PutFile(file(20, FileState::Raw)),
            MetaEdit::PutIndexFile(index_file(20, 13)),
            MetaEdit::PutAlias { database: alias.0, alias: alias.1, collection: CollectionId(10) },
        ])
        .unwrap();
        meta.load().unwrap();
        meta.connection.execute(&format!("UPDATE {table} SET {change}"), []).unwrap();
        let error = meta.load().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(error.message.contains(table) && error.message.contains("meta.sqlite"), "{error}");
    }
}
