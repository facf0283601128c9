//! Collections as their users describe them: fields, types, keys, metrics, values.

use serde::{Deserialize, Serialize};

use super::FieldId;

/// A field's type; the numbers are Milvus'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are Milvus'")]
pub enum DataType {
    Bool = 1,
    Int8 = 2,
    Int16 = 3,
    Int32 = 4,
    Int64 = 5,
    Float = 10,
    Double = 11,
    VarChar = 21,
    Array = 22,
    Json = 23,
    Timestamptz = 26,
    BinaryVector = 100,
    FloatVector = 101,
    Float16Vector = 102,
    BFloat16Vector = 103,
    SparseFloatVector = 104,
    Int8Vector = 105,
}

impl DataType {
    /// Every type, in the order of the numbers.
    pub const ALL: [DataType; 17] = [
        DataType::Bool,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float,
        DataType::Double,
        DataType::VarChar,
        DataType::Array,
        DataType::Json,
        DataType::Timestamptz,
        DataType::BinaryVector,
        DataType::FloatVector,
        DataType::Float16Vector,
        DataType::BFloat16Vector,
        DataType::SparseFloatVector,
        DataType::Int8Vector,
    ];

    /// The type with this Milvus number.
    pub fn from_number(number: i32) -> Option<DataType> {
        DataType::ALL.into_iter().find(|data_type| *data_type as i32 == number)
    }

    /// Whether it is one of the vector types.
    pub fn is_vector(self) -> bool {
        self as i32 >= 100
    }

    /// Bytes of one row of a fixed-width type, a vector's of `dim` dimensions; `None` for strings, JSON, arrays, sparse vectors.
    pub fn row_bytes(self, dim: usize) -> Option<usize> {
        match self {
            DataType::Bool | DataType::Int8 => Some(1),
            DataType::Int16 => Some(2),
            DataType::Int32 | DataType::Float => Some(4),
            DataType::Int64 | DataType::Double | DataType::Timestamptz => Some(8),
            DataType::VarChar | DataType::Array | DataType::Json | DataType::SparseFloatVector => None,
            DataType::BinaryVector => Some(dim / 8),
            DataType::FloatVector => Some(dim * 4),
            DataType::Float16Vector | DataType::BFloat16Vector => Some(dim * 2),
            DataType::Int8Vector => Some(dim),
        }
    }

    /// Milvus' name of the type as error texts spell it, such as `VarChar` or `FloatVector`.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Bool => "Bool",
            DataType::Int8 => "Int8",
            DataType::Int16 => "Int16",
            DataType::Int32 => "Int32",
            DataType::Int64 => "Int64",
            DataType::Float => "Float",
            DataType::Double => "Double",
            DataType::VarChar => "VarChar",
            DataType::Array => "Array",
            DataType::Json => "JSON",
            DataType::Timestamptz => "Timestamptz",
            DataType::BinaryVector => "BinaryVector",
            DataType::FloatVector => "FloatVector",
            DataType::Float16Vector => "Float16Vector",
            DataType::BFloat16Vector => "BFloat16Vector",
            DataType::SparseFloatVector => "SparseFloatVector",
            DataType::Int8Vector => "Int8Vector",
        }
    }
}

/// A default value, a primary key, a literal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// A list of primary keys, all of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Keys {
    Int(Vec<i64>),
    Text(Vec<String>),
}

impl Keys {
    /// Number of keys.
    pub fn len(&self) -> usize {
        match self {
            Keys::Int(keys) => keys.len(),
            Keys::Text(keys) => keys.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them, in the order of `rows`.
    ///
    /// # Panics
    /// When a row is out of bounds.
    pub fn select(&self, rows: &[usize]) -> Keys {
        match self {
            Keys::Int(keys) => Keys::Int(rows.iter().map(|row| keys[*row]).collect()),
            Keys::Text(keys) => Keys::Text(rows.iter().map(|row| keys[*row].clone()).collect()),
        }
    }
}

/// A metric of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Metric {
    /// Squared Euclidean distance; smaller is nearer.
    L2,
    /// Inner product; larger is nearer.
    Ip,
    /// Cosine of the angle; larger is nearer.
    Cosine,
    /// Differing bits of binary vectors; smaller is nearer.
    Hamming,
    /// 1 minus common bits by all set bits of binary vectors; smaller is nearer.
    Jaccard,
}

impl Metric {
    /// Every one.
    pub const ALL: [Metric; 5] = [Metric::L2, Metric::Ip, Metric::Cosine, Metric::Hamming, Metric::Jaccard];

    /// The metrics of a vector type, the one that is taken when none is named first.
    pub fn of_type(data_type: DataType) -> &'static [Metric] {
        match data_type {
            DataType::FloatVector | DataType::Float16Vector | DataType::BFloat16Vector | DataType::Int8Vector => {
                &[Metric::Cosine, Metric::L2, Metric::Ip]
            }
            DataType::BinaryVector => &[Metric::Hamming, Metric::Jaccard],
            _ => &[],
        }
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Metric::L2 => "L2",
            Metric::Ip => "IP",
            Metric::Cosine => "COSINE",
            Metric::Hamming => "HAMMING",
            Metric::Jaccard => "JACCARD",
        }
    }

    /// The metric of a name, in any case.
    pub fn from_name(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name().eq_ignore_ascii_case(name))
    }

    /// Whether a larger score is nearer.
    pub fn is_similarity(self) -> bool {
        matches!(self, Metric::Ip | Metric::Cosine)
    }
}

/// One field of a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldSchema {
    /// Unique in the collection; user fields start at 100.
    pub id: FieldId,
    /// Unique in the collection.
    pub name: String,
    /// The user's words.
    pub description: String,
    /// What a row holds.
    pub data_type: DataType,
    /// What an element of an `Array` holds.
    pub element_type: Option<DataType>,
    /// The one field that names rows; `Int64` or `VarChar`.
    pub is_primary: bool,
    /// Keys are made by the server.
    pub auto_id: bool,
    /// A row may hold null.
    pub is_nullable: bool,
    /// What a row holds when the client sends nothing.
    pub default_value: Option<Value>,
    /// The `$meta` field of a collection with dynamic fields; of type `Json`.
    pub is_dynamic: bool,
    /// Rows are spread over partitions by this field.
    pub is_partition_key: bool,
    /// A hint of the user's; kept and returned.
    pub is_clustering_key: bool,
    /// Filled by a function; cannot be inserted.
    pub is_function_output: bool,
    /// Parameters as the user sent them: `dim`, `max_length`, `max_capacity`, ...
    pub type_params: Vec<(String, String)>,
}

impl FieldSchema {
    /// A field that is nothing but its name and type: no key, never null, without parameters.
    pub fn new(id: FieldId, name: impl Into<String>, data_type: DataType) -> FieldSchema {
        FieldSchema {
            id,
            name: name.into(),
            description: String::new(),
            data_type,
            element_type: None,
            is_primary: false,
            auto_id: false,
            is_nullable: false,
            default_value: None,
            is_dynamic: false,
            is_partition_key: false,
            is_clustering_key: false,
            is_function_output: false,
            type_params: Vec::new(),
        }
    }

    /// A type parameter by name.
    pub fn type_param(&self, name: &str) -> Option<&str> {
        self.type_params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The dimension of a dense vector field; 0 for other fields. Checked when the collection is created.
    pub fn dim(&self) -> usize {
        self.type_param("dim").and_then(|dim| dim.parse().ok()).unwrap_or(0)
    }

    /// The longest string in bytes, for `VarChar`.
    pub fn max_length(&self) -> Option<usize> {
        self.type_param("max_length").and_then(|length| length.parse().ok())
    }

    /// Most elements of a row, for `Array`.
    pub fn max_capacity(&self) -> Option<usize> {
        self.type_param("max_capacity").and_then(|capacity| capacity.parse().ok())
    }

    /// Bytes of one row of a fixed-width field: scalars and dense vectors; `None` for strings, JSON, arrays, sparse vectors.
    pub fn row_bytes(&self) -> Option<usize> {
        self.data_type.row_bytes(if self.data_type.is_vector() { self.dim() } else { 0 })
    }
}

/// The fields of a collection, `$meta` included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectionSchema {
    /// The user's words.
    pub description: String,
    /// In the user's order; `$meta`, if any, is last.
    pub fields: Vec<FieldSchema>,
    /// Rows may carry keys that are no field.
    pub enable_dynamic_field: bool,
    /// Counts changes; the first is 1.
    pub version: u32,
}

impl CollectionSchema {
    /// A field by name.
    pub fn field(&self, name: &str) -> Option<&FieldSchema> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// A field by id.
    pub fn field_by_id(&self, id: FieldId) -> Option<&FieldSchema> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// The primary field: every checked schema has one.
    pub fn primary(&self) -> &FieldSchema {
        self.fields.iter().find(|field| field.is_primary).expect("a checked schema has a primary field")
    }

    /// The field that spreads rows over partitions, if there is one.
    pub fn partition_key(&self) -> Option<&FieldSchema> {
        self.fields.iter().find(|field| field.is_partition_key)
    }

    /// The vector fields.
    pub fn vector_fields(&self) -> impl Iterator<Item = &FieldSchema> {
        self.fields.iter().filter(|field| field.data_type.is_vector())
    }

    /// The `$meta` field.
    pub fn dynamic_field(&self) -> Option<&FieldSchema> {
        self.fields.iter().find(|field| field.is_dynamic)
    }
}
