//! Grouped searches: hits that share a field's value are one group, and groups are what a search counts.
//!
//! Hits come nearest first. They are taken until every wanted group is there (strict: until every one is full); hits of
//! further groups, or of a group that is full, are passed over. A group stands where its nearest hit stands.

use std::collections::HashMap;

use super::snapshot::FileRows;
use crate::filter::{JsonPath, JsonScalar};
use crate::types::{ColumnView, DataType, Error, ErrorKind, FieldSchema, Result, Value, Values};

/// How hits are grouped.
#[derive(Clone, Debug)]
pub struct Grouping {
    /// Hits that agree in all of these are a group; at least one.
    pub by: Vec<GroupField>,
    /// Most hits of a group.
    pub size: usize,
    /// A group that is not full yet keeps the search going.
    pub is_strict: bool,
}

/// One of the values that make a group.
#[derive(Clone, Debug)]
pub struct GroupField {
    /// A scalar, or JSON with a path.
    pub field: FieldSchema,
    /// Where in a JSON document the value is.
    pub path: Option<JsonPath>,
    /// What the value there is taken as; `None` = as what it is.
    pub json_type: Option<DataType>,
    /// A value of another type, or none, is an error.
    pub is_strict_cast: bool,
}

/// What the rows of a group share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum GroupKey {
    /// Null, or nothing that can be grouped at the path.
    Null,
    Bool(bool),
    Int(i64),
    /// The bits: a number is itself.
    Float(u64),
    Text(Box<[u8]>),
    /// By several fields.
    Several(Box<[GroupKey]>),
}

impl Grouping {
    /// The group of a row.
    ///
    /// # Errors
    /// When a value is not of the type it has to be of.
    pub(super) fn key(&self, rows: &FileRows<'_>, row: usize) -> Result<GroupKey> {
        match self.by.as_slice() {
            [field] => field.key(rows, row),
            several => Ok(GroupKey::Several(several.iter().map(|field| field.key(rows, row)).collect::<Result<_>>()?)),
        }
    }
}

impl GroupField {
    /// Whether values of a type can be grouped without a path.
    pub fn groups(data_type: DataType) -> bool {
        matches!(
            data_type,
            DataType::Bool
                | DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::VarChar
                | DataType::Timestamptz
        )
    }

    fn key(&self, rows: &FileRows<'_>, row: usize) -> Result<GroupKey> {
        match rows.column(&self.field) {
            Some(column) if column.validity.is_valid(row) => self.key_in(&column, row),
            Some(_) => Ok(GroupKey::Null),
            // A file older than the field.
            None => Ok(match &self.field.default_value {
                Some(Value::Bool(value)) => GroupKey::Bool(*value),
                Some(Value::Int(value)) => GroupKey::Int(*value),
                Some(Value::Text(value)) if self.path.is_some() => return self.json_key(value.as_bytes()),
                Some(Value::Text(value)) => GroupKey::Text(value.as_bytes().into()),
                Some(Value::Float(_) | Value::Null) | None => GroupKey::Null,
            }),
        }
    }

    fn key_in(&self, column: &ColumnView<'_>, row: usize) -> Result<GroupKey> {
        Ok(match column.values {
            _ if self.path.is_some() => return self.json_key(column.text(row)),
            Values::BoolBits { .. } | Values::BoolBytes(_) => GroupKey::Bool(column.bool(row)),
            Values::Text { .. } => GroupKey::Text(column.text(row).into()),
            _ => column.integer(row).map_or(GroupKey::Null, GroupKey::Int),
        })
    }

    /// The value at the path of a document. Integers of smaller types are cut to them, as Milvus cuts them.
    fn json_key(&self, document: &[u8]) -> Result<GroupKey> {
        let scalar = self.path.as_ref().and_then(|path| path.scalar(document));
        let key = match (self.json_type, scalar) {
            (None | Some(DataType::Bool), Some(JsonScalar::Bool(value))) => GroupKey::Bool(value),
            (None | Some(DataType::Int64), Some(JsonScalar::Int(value))) => GroupKey::Int(value),
            (Some(DataType::Int8), Some(JsonScalar::Int(value))) => GroupKey::Int((value as i8).into()),
            (Some(DataType::Int16), Some(JsonScalar::Int(value))) => GroupKey::Int((value as i16).into()),
            (Some(DataType::Int32), Some(JsonScalar::Int(value))) => GroupKey::Int((value as i32).into()),
            (None, Some(JsonScalar::Float(value))) => GroupKey::Float(value.to_bits()),
            (None | Some(DataType::VarChar), Some(JsonScalar::Text(value))) => {
                GroupKey::Text(value.into_owned().into())
            }
            _ if self.is_strict_cast => return Err(self.wrong_type()),
            _ => GroupKey::Null,
        };
        Ok(key)
    }

    fn wrong_type(&self) -> Error {
        let wanted = self.json_type.map_or("scalar", DataType::name);
        let message =
            format!("failed to cast json of field {} to {wanted}, wrong json data inner type", self.field.name);
        Error::new(ErrorKind::Unexpected, message)
    }
}

/// The groups of one query as they come together.
#[derive(Debug)]
pub(super) struct Groups<T> {
    limit: usize,
    size: usize,
    is_strict: bool,
    places: HashMap<GroupKey, usize>,
    groups: Vec<Vec<T>>,
    full_count: usize,
}

impl<T> Groups<T> {
    /// No hits yet of `limit` groups.
    pub fn new(limit: usize, grouping: &Grouping) -> Groups<T> {
        let Grouping { size, is_strict, .. } = *grouping;
        Groups { limit, size, is_strict, places: HashMap::new(), groups: Vec::new(), full_count: 0 }
    }

    /// Offers a hit; hits come nearest first.
    pub fn push(&mut self, key: GroupKey, hit: T) {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None if self.groups.len() == self.limit => return,
            None => {
                self.places.insert(key, self.groups.len());
                self.groups.push(Vec::new());
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[place];
        if group.len() < self.size {
            group.push(hit);
            self.full_count += usize::from(group.len() == self.size);
        }
    }

    /// No further hit would be taken.
    pub fn is_complete(&self) -> bool {
        self.groups.len() == self.limit && (!self.is_strict || self.full_count == self.limit)
    }

    /// Group after group.
    pub fn into_groups(self) -> Vec<Vec<T>> {
        self.groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouping(size: usize, is_strict: bool) -> Grouping {
        Grouping { by: Vec::new(), size, is_strict }
    }

    fn groups(limit: usize, size: usize, is_strict: bool, keys: &[i64]) -> (Vec<Vec<usize>>, bool) {
        let mut groups = Groups::new(limit, &grouping(size, is_strict));
        for (hit, key) in keys.iter().enumerate() {
            if groups.is_complete() {
                break;
            }
            groups.push(GroupKey::Int(*key), hit);
        }
        let is_complete = groups.is_complete();
        (groups.into_groups(), is_complete)
    }

    #[test]
    fn a_loose_search_ends_with_the_last_groups_first_hit() {
        assert_eq!(groups(2, 2, false, &[7, 7, 7, 8, 8, 9]), (vec![vec![0, 1], vec![3]], true));
        assert_eq!(groups(3, 2, false, &[7, 8, 7]), (vec![vec![0, 2], vec![1]], false));
    }

    #[test]
    fn a_strict_search_goes_on_until_every_group_is_full() {
        assert_eq!(groups(2, 2, true, &[7, 7, 8, 9, 7, 8, 8]), (vec![vec![0, 1], vec![2, 5]], true));
        assert_eq!(groups(2, 2, true, &[7, 8, 9, 8]), (vec![vec![0], vec![1, 3]], false));
    }
}
