//! Query vectors, and the columns they are compared with.

use std::borrow::Cow;

use crate::kernel::{VectorElement, VectorRows};
use crate::types::{DataType, FieldSchema, Metric};

/// Queries of one search, used on every file: the caller's own, or a copy.
#[derive(Clone, Debug)]
pub struct Queries<'a> {
    /// Dimensions of one query.
    pub dim: usize,
    /// How rows are compared.
    pub metric: Metric,
    /// The queries end to end.
    pub values: Cow<'a, QueryValues>,
}

/// Query vectors end to end.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValues {
    /// For float and int8 vectors: a value per dimension.
    Dense(Vec<f32>),
    /// For binary vectors: a byte per eight dimensions.
    Bits(Vec<u8>),
}

impl Default for QueryValues {
    fn default() -> QueryValues {
        QueryValues::Dense(Vec::new())
    }
}

impl From<Vec<f32>> for QueryValues {
    fn from(values: Vec<f32>) -> QueryValues {
        QueryValues::Dense(values)
    }
}

impl From<Vec<u8>> for QueryValues {
    fn from(bytes: Vec<u8>) -> QueryValues {
        QueryValues::Bits(bytes)
    }
}

impl QueryValues {
    /// Bytes of memory.
    pub fn byte_len(&self) -> usize {
        match self {
            QueryValues::Dense(values) => size_of_val(values.as_slice()),
            QueryValues::Bits(bytes) => bytes.len(),
        }
    }

    /// How many vectors of `dim` dimensions these are, and whether nothing is left over.
    pub fn count(&self, dim: usize) -> (usize, bool) {
        let (length, width) = match self {
            QueryValues::Dense(values) => (values.len(), dim),
            QueryValues::Bits(bytes) => (bytes.len(), dim / 8),
        };
        // Nothing is a multiple of 0 but 0.
        (length.checked_div(width).unwrap_or(0), length.is_multiple_of(width))
    }

    /// Whether such queries are compared with vectors of a type.
    pub fn fit(&self, data_type: DataType) -> bool {
        match self {
            QueryValues::Dense(_) => vector_element(data_type).is_some(),
            QueryValues::Bits(_) => data_type == DataType::BinaryVector,
        }
    }
}

impl<'a> Queries<'a> {
    /// The caller's queries.
    pub fn borrowed(dim: usize, metric: Metric, values: &'a QueryValues) -> Queries<'a> {
        Queries { dim, metric, values: Cow::Borrowed(values) }
    }
}

impl Queries<'static> {
    /// Queries that nobody else holds.
    pub fn owned(dim: usize, metric: Metric, values: impl Into<QueryValues>) -> Queries<'static> {
        Queries { dim, metric, values: Cow::Owned(values.into()) }
    }

    /// Queries for float and int8 vectors: `dim` values each.
    pub fn dense(dim: usize, metric: Metric, values: Vec<f32>) -> Queries<'static> {
        Queries::owned(dim, metric, values)
    }
}

impl Queries<'_> {
    /// Number of queries.
    pub fn count(&self) -> usize {
        self.values.count(self.dim).0
    }

    /// The values of all queries; none for binary vectors.
    pub fn dense_values(&self) -> &[f32] {
        match &*self.values {
            QueryValues::Dense(values) => values,
            QueryValues::Bits(_) => &[],
        }
    }

    /// Some of the queries, in the order of `places`.
    ///
    /// # Panics
    /// When there is no such query.
    pub fn subset(&self, places: impl IntoIterator<Item = usize>) -> Queries<'static> {
        let values = match &*self.values {
            QueryValues::Dense(values) => QueryValues::Dense(picked(values, self.dim, places)),
            QueryValues::Bits(bytes) => QueryValues::Bits(picked(bytes, self.dim / 8, places)),
        };
        Queries::owned(self.dim, self.metric, values)
    }
}

fn picked<T: Copy>(values: &[T], width: usize, places: impl IntoIterator<Item = usize>) -> Vec<T> {
    places.into_iter().flat_map(|place| &values[place * width..(place + 1) * width]).copied().collect()
}

/// A column of vectors as mapped bytes.
#[derive(Clone, Copy, Debug)]
pub enum VectorColumn<'a> {
    /// Float and int8 vectors.
    Dense(VectorRows<'a>),
    /// Binary vectors; an "element" is a byte of eight dimensions.
    Bits(VectorRows<'a>),
}

impl<'a> VectorColumn<'a> {
    /// A column of `f32`.
    pub fn of_f32(bytes: &'a [u8], dim: usize) -> VectorColumn<'a> {
        VectorColumn::Dense(VectorRows::of_f32(bytes, dim))
    }

    /// The column of a field; `None` when the field holds no vectors of fixed width.
    pub fn new(field: &FieldSchema, bytes: &'a [u8]) -> Option<VectorColumn<'a>> {
        VectorColumn::of_type(field.data_type, field.dim(), bytes)
    }

    /// As [`VectorColumn::new`], for who knows the field's dimension.
    pub fn of_type(data_type: DataType, dim: usize, bytes: &'a [u8]) -> Option<VectorColumn<'a>> {
        match data_type {
            DataType::BinaryVector => {
                Some(VectorColumn::Bits(VectorRows { bytes, dim: dim / 8, element: VectorElement::I8 }))
            }
            data_type => {
                vector_element(data_type).map(|element| VectorColumn::Dense(VectorRows { bytes, dim, element }))
            }
        }
    }
}

/// The element of a dense vector type; `None` for binary and sparse vectors and for scalars.
pub fn vector_element(data_type: DataType) -> Option<VectorElement> {
    match data_type {
        DataType::FloatVector => Some(VectorElement::F32),
        DataType::Float16Vector => Some(VectorElement::F16),
        DataType::BFloat16Vector => Some(VectorElement::BF16),
        DataType::Int8Vector => Some(VectorElement::I8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_queries_are_those_at_the_places() {
        let dense = Queries::dense(2, Metric::L2, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(dense.count(), 3);
        assert_eq!(*dense.subset([2, 0]).values, vec![4.0, 5.0, 0.0, 1.0].into());
        let bits = Queries::owned(16, Metric::Jaccard, vec![0u8, 1, 2, 3, 4, 5]);
        assert_eq!(bits.count(), 3);
        assert_eq!(*bits.subset(1..3).values, vec![2u8, 3, 4, 5].into());
        assert_eq!((bits.subset([]).count(), bits.dense_values()), (0, &[][..]));
    }

    #[test]
    fn values_that_are_no_whole_vectors_are_noticed() {
        assert_eq!(QueryValues::from(vec![0.0f32; 5]).count(2), (2, false));
        assert_eq!(QueryValues::from(vec![0u8; 6]).count(16), (3, true));
        assert_eq!(QueryValues::from(vec![0u8; 1]).count(7), (0, false));
        assert_eq!(QueryValues::from(Vec::<f32>::new()).count(0), (0, true));
    }
}
