//! Collections made by hand: files in a temporary directory and a model of every row in them.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use tempfile::TempDir;

use crate::format::RowSource;
use crate::format::deletes::DeletedAt;
use crate::format::growing::{ChunkCapacity, GrowingFile, GrowingWriter};
use crate::format::table::{TableFile, sort_rows, write_table};
use crate::index::flat::DistanceRange;
use crate::query::{RowAddress, Snapshot};
use crate::shm::attach::{CollectionView, GrowingChunk, SealedFile};
use crate::shm::manifest::{Manifest, ManifestChunk, ManifestDeletes, ManifestFile, Place};
use crate::sys::map::SharedMap;
use crate::types::{
    Batch, CollectionId, CollectionSchema, Column, ColumnData, DataType, Epoch, FieldId, FieldSchema, FileId,
    FileState, IndexRecord, Keys, Metric, PartitionId, TextColumn, Timestamp, Values,
};

/// Dimension of the vectors.
pub const DIM: usize = 4;
/// The nullable integer field.
pub const NUMBER: FieldId = FieldId(101);
/// The vector field.
pub const VECTOR: FieldId = FieldId(103);
const COLORS: [&str; 3] = ["red", "green", "blue"];

/// The type of the primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Int,
    Text,
}

/// Small reproducible random numbers (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

/// A row as the model knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRow {
    /// Unique over all rows of a world.
    pub id: u64,
    pub key: i64,
    pub number: Option<i64>,
    pub color: &'static str,
    pub vector: [f32; DIM],
    pub partition: PartitionId,
    pub is_growing: bool,
    pub inserted: u64,
    /// 0 = not deleted.
    pub deleted: u64,
}

impl ModelRow {
    /// A row at some distance of the zero vector.
    pub fn near(key: i64, distance: f32) -> ModelRow {
        ModelRow {
            id: 0,
            key,
            number: Some(key),
            color: COLORS[0],
            vector: [distance, 0.0, 0.0, 0.0],
            partition: PartitionId(1),
            is_growing: false,
            inserted: 0,
            deleted: 0,
        }
    }

    fn random(random: &mut Random, partition: PartitionId) -> ModelRow {
        let number = random.below(100) as i64;
        ModelRow {
            number: (number % 7 != 0).then_some(number),
            color: COLORS[random.below(3) as usize],
            vector: std::array::from_fn(|_| random.below(9) as f32 - 4.0),
            partition,
            ..ModelRow::near(random.below(60) as i64, 0.0)
        }
    }

    pub fn exists_at(&self, snapshot: Timestamp) -> bool {
        self.inserted <= snapshot.0 && !(self.deleted != 0 && self.deleted <= snapshot.0)
    }
}

/// A collection and its model.
pub struct World {
    directory: TempDir,
    pub schema: CollectionSchema,
    pub partitions: Vec<PartitionId>,
    /// Every row of every file.
    pub rows: Vec<ModelRow>,
    /// `addresses[file][row]` is a place in `rows`; sealed files and chunks apart, because sealed ones come first.
    sealed_rows: Vec<Vec<usize>>,
    growing_rows: Vec<Vec<usize>>,
    sealed: Vec<Arc<SealedFile>>,
    growing: Vec<Arc<GrowingChunk>>,
    pub last_timestamp: u64,
    pub horizon: Timestamp,
    pub indexes: Vec<IndexRecord>,
    pub damage: Option<String>,
    key_kind: KeyKind,
}

impl World {
    pub fn empty(key_kind: KeyKind) -> World {
        World {
            directory: tempfile::tempdir().unwrap(),
            schema: schema(key_kind),
            partitions: vec![PartitionId(1), PartitionId(2)],
            rows: Vec::new(),
            sealed_rows: Vec::new(),
            growing_rows: Vec::new(),
            sealed: Vec::new(),
            growing: Vec::new(),
            last_timestamp: 10,
            horizon: Timestamp(0),
            indexes: Vec::new(),
            damage: None,
            key_kind,
        }
    }

    /// Up to three files of each kind with random rows and deletes.
    pub fn random(key_kind: KeyKind, random: &mut Random) -> World {
        let mut world = World::empty(key_kind);
        for _ in 0..random.below(4) {
            let rows = world.random_rows(random);
            world.add_sealed(rows, random);
        }
        for _ in 0..random.below(4) {
            let rows = world.random_rows(random);
            world.add_growing(rows);
        }
        world.delete_some(random);
        world
    }

    fn random_rows(&self, random: &mut Random) -> Vec<ModelRow> {
        let partition = self.partitions[random.below(2) as usize];
        (0..1 + random.below(150)).map(|_| ModelRow::random(random, partition)).collect()
    }

    /// Rows written into a chunk, several to one timestamp; returns their places in `rows`.
    fn write_chunk(&mut self, mut rows: Vec<ModelRow>) -> (GrowingFile, Vec<usize>) {
        let batch = self.batch(&rows);
        let capacity = ChunkCapacity::for_batch(&self.schema, &batch, 0, rows.len(), 1 << 12);
        let map = self.map(capacity.file_bytes(&self.schema));
        let mut writer = GrowingWriter::create(map, &self.schema, &capacity);
        let mut start = 0;
        while start < rows.len() {
            let end = rows.len().min(start + 13);
            self.last_timestamp += 3;
            assert!(writer.rows_that_fit(&batch, start) >= end - start);
            writer.append(&batch, start..end, Timestamp(self.last_timestamp));
            rows[start..end].iter_mut().for_each(|row| row.inserted = self.last_timestamp);
            start = end;
        }
        let first = self.rows.len();
        for (index, row) in rows.iter_mut().enumerate() {
            row.id = (first + index) as u64;
        }
        let places = (first..first + rows.len()).collect();
        self.rows.append(&mut rows);
        (writer.file().clone(), places)
    }

    pub fn add_growing(&mut self, rows: Vec<ModelRow>) {
        let partition = rows[0].partition;
        let (file, places) = self.write_chunk(rows);
        places.iter().for_each(|place| self.rows[*place].is_growing = true);
        let name = format!("{}.grow", self.growing.len());
        let file_bytes = file.file_bytes() as u64;
        let entry = ManifestChunk { file: FileId(1000), name, partition, file_bytes, place: Place::Shm };
        self.growing.push(Arc::new(GrowingChunk { entry, file }));
        self.growing_rows.push(places);
    }

    pub fn add_sealed(&mut self, rows: Vec<ModelRow>, random: &mut Random) {
        let partition = rows[0].partition;
        let (chunk, places) = self.write_chunk(rows);
        let source = chunk.rows(chunk.rows_published());
        let sources: [&dyn RowSource; 1] = [&source];
        let order = sort_rows(&self.schema, &sources, &|_| true);
        let path = self.directory.path().join(format!("{}.arrow", self.sealed.len()));
        let mut out = File::create(&path).unwrap();
        let summary = write_table(&mut out, &self.schema, &sources, &order).unwrap();
        let map = Arc::new(SharedMap::read(&File::open(&path).unwrap()).unwrap());
        let table = Arc::new(TableFile::open(map).unwrap());
        // Some files never had a delete: they have no `deleted_at` file.
        let has_deletes = random.below(2) == 0;
        let deletes = has_deletes.then(|| DeletedAt::create(self.map(DeletedAt::file_bytes(order.len())), order.len()));
        let entry = ManifestFile {
            id: FileId(self.sealed.len() as i64),
            partition,
            state: FileState::Raw,
            row_count: summary.row_count,
            file_bytes: summary.file_bytes,
            checksum: summary.checksum,
            timestamps: summary.timestamps,
            place: Place::Disk,
            deletes: has_deletes.then(|| ManifestDeletes { name: "0.del".to_owned(), place: Place::Disk }),
            indexes: Vec::new(),
        };
        self.sealed_rows.push(order.iter().map(|row| places[row.row as usize]).collect());
        self.sealed.push(Arc::new(SealedFile { entry, table, deletes, indexes: Vec::new() }));
    }

    /// Replaces every number that a sealed file holds behind the back of its statistics.
    pub fn overwrite_numbers(&mut self, file: usize, number: i64) {
        let sealed = &self.sealed[file];
        let field = self.schema.field_by_id(NUMBER).unwrap();
        let Some(Values::Int64(values)) = sealed.table.column(field).map(|view| view.values) else { panic!("numbers") };
        let mut bytes = sealed.table.bytes().to_vec();
        let start = values.as_ptr() as usize - sealed.table.bytes().as_ptr() as usize;
        bytes[start..start + values.len() * 8].copy_from_slice(&number.to_le_bytes().repeat(values.len()));
        let path = self.directory.path().join(format!("{file}.overwritten"));
        std::fs::write(&path, bytes).unwrap();
        let map = Arc::new(SharedMap::read(&File::open(&path).unwrap()).unwrap());
        let table = Arc::new(TableFile::open(map).unwrap());
        self.sealed[file] =
            Arc::new(SealedFile { entry: sealed.entry.clone(), table, deletes: None, indexes: Vec::new() });
    }

    /// Marks random rows of files that can have deletes, at timestamps after their insert.
    pub fn delete_some(&mut self, random: &mut Random) {
        for _ in 0..random.below(80) {
            self.last_timestamp += 1;
            let file = random.below((self.sealed.len() + self.growing.len()) as u64) as usize;
            if let Some(sealed) = self.sealed.get(file) {
                let row = random.below(self.sealed_rows[file].len() as u64) as usize;
                let is_new = sealed.deletes.as_ref().is_some_and(|deletes| deletes.mark(row, self.last_timestamp));
                if is_new {
                    self.rows[self.sealed_rows[file][row]].deleted = self.last_timestamp;
                }
            } else if let Some(chunk) = self.growing.get(file - self.sealed.len()) {
                let places = &self.growing_rows[file - self.sealed.len()];
                let row = random.below(places.len() as u64) as usize;
                let cell = &chunk.file.deleted_at()[row];
                if cell.load(std::sync::atomic::Ordering::Relaxed) == 0 {
                    cell.store(self.last_timestamp, std::sync::atomic::Ordering::Relaxed);
                    self.rows[places[row]].deleted = self.last_timestamp;
                }
            }
        }
    }

    fn map(&self, bytes: usize) -> Arc<SharedMap> {
        let file = tempfile::tempfile_in(self.directory.path()).unwrap();
        Arc::new(SharedMap::create(&file, bytes).unwrap())
    }

    /// Rows as a batch of the schema.
    pub fn batch(&self, rows: &[ModelRow]) -> Batch {
        let mut colors = TextColumn::default();
        rows.iter().for_each(|row| colors.push(row.color.as_bytes()));
        let keys = match self.key_kind {
            KeyKind::Int => ColumnData::Int64(rows.iter().map(|row| row.key).collect()),
            KeyKind::Text => {
                let mut keys = TextColumn::default();
                rows.iter().for_each(|row| keys.push(key_text(row.key).as_bytes()));
                ColumnData::Text(keys)
            }
        };
        let numbers = ColumnData::Int64(rows.iter().map(|row| row.number.unwrap_or(0)).collect());
        let vectors = ColumnData::FloatVector(rows.iter().flat_map(|row| row.vector).collect());
        let column = |index: usize, data, validity| Column { field: self.schema.fields[index].id, data, validity };
        let columns = vec![
            column(0, keys, None),
            column(1, numbers, Some(rows.iter().map(|row| row.number.is_some()).collect())),
            column(2, ColumnData::Text(colors), None),
            column(3, vectors, None),
        ];
        Batch { row_count: rows.len(), columns }
    }

    /// The world at a timestamp.
    pub fn snapshot(&self, timestamp: u64) -> Snapshot {
        let manifest = Manifest {
            collection: CollectionId(1),
            epoch: Epoch(1),
            schema: self.schema.clone(),
            properties: Vec::new(),
            consistency_level: 2,
            shards: 1,
            created: Timestamp(1),
            updated: Timestamp(1),
            is_loaded: true,
            partitions: Vec::new(),
            indexes: self.indexes.clone(),
            sealed_row_count: 0,
            released: Vec::new(),
            unindexed: Vec::new(),
            horizon: self.horizon,
            files: self.sealed.iter().map(|file| file.entry.clone()).collect(),
            chunks: self.growing.iter().map(|chunk| chunk.entry.clone()).collect(),
            damage: self.damage.clone(),
        };
        let view = CollectionView { manifest, sealed: self.sealed.clone(), growing: self.growing.clone() };
        Snapshot::new(Timestamp(timestamp), Arc::new(view))
    }

    /// The model of an address.
    pub fn row(&self, address: RowAddress) -> &ModelRow {
        let file = address.file as usize;
        let places = self.sealed_rows.get(file).unwrap_or_else(|| &self.growing_rows[file - self.sealed_rows.len()]);
        &self.rows[places[address.row as usize]]
    }

    pub fn field(&self, name: &str) -> &FieldSchema {
        self.schema.field(name).unwrap()
    }

    pub fn keys_of(&self, rows: &[&ModelRow]) -> Keys {
        match self.key_kind {
            KeyKind::Int => Keys::Int(rows.iter().map(|row| row.key).collect()),
            KeyKind::Text => Keys::Text(rows.iter().map(|row| key_text(row.key)).collect()),
        }
    }

    /// The smallest distance of each key among the wanted rows, ascending; "smaller is nearer" for every metric.
    pub fn nearest(
        &self,
        wanted: &dyn Fn(&ModelRow) -> bool,
        query: &[f32],
        metric: Metric,
        range: Option<DistanceRange>,
    ) -> Vec<(i64, f32)> {
        let mut nearest: HashMap<i64, f32> = HashMap::new();
        for row in self.rows.iter().filter(|row| wanted(row)) {
            let distance = distance(query, &row.vector, metric);
            if range.is_none_or(|range| range.low <= distance && distance < range.high) {
                let best = nearest.entry(row.key).or_insert(distance);
                *best = best.min(distance);
            }
        }
        let mut nearest: Vec<(i64, f32)> = nearest.into_iter().collect();
        nearest.sort_by(|a, b| a.1.total_cmp(&b.1));
        nearest
    }
}

fn distance(a: &[f32], b: &[f32], metric: Metric) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let distance = match metric {
        Metric::L2 => a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum(),
        Metric::Ip => -dot(a, b),
        Metric::Cosine => match (dot(a, a) * dot(b, b)).sqrt() {
            0.0 => 0.0,
            norms => -dot(a, b) / norms,
        },
        Metric::Hamming | Metric::Jaccard => unreachable!("the world holds float vectors"),
    };
    distance as f32
}

fn key_text(key: i64) -> String {
    format!("k{key:05}")
}

fn schema(key_kind: KeyKind) -> CollectionSchema {
    let (key_type, params) = match key_kind {
        KeyKind::Int => (DataType::Int64, Vec::new()),
        KeyKind::Text => (DataType::VarChar, vec![("max_length".to_owned(), "16".to_owned())]),
    };
    let key = FieldSchema { is_primary: true, type_params: params, ..FieldSchema::new(FieldId(100), "id", key_type) };
    let number = FieldSchema { is_nullable: true, ..FieldSchema::new(NUMBER, "number", DataType::Int64) };
    let color = FieldSchema {
        type_params: vec![("max_length".to_owned(), "16".to_owned())],
        ..FieldSchema::new(FieldId(102), "color", DataType::VarChar)
    };
    let vector = FieldSchema {
        type_params: vec![("dim".to_owned(), DIM.to_string())],
        ..FieldSchema::new(VECTOR, "vector", DataType::FloatVector)
    };
    CollectionSchema {
        description: String::new(),
        fields: vec![key, number, color, vector],
        enable_dynamic_field: false,
        version: 1,
    }
}
