//! The parameters of a grouped search, checked with Milvus' texts.

use super::search_params::Pairs;
use crate::config::limits::GROUP_SIZE_MAX;
use crate::filter::JsonPath;
use crate::query::Grouping;
use crate::types::{CollectionSchema, DataType, Error, ErrorKind, FieldSchema, Result};

/// Parameters that say how JSON values are read for grouping; ours are grouped as they are.
const UNKNOWN: [&str; 3] = ["json_path", "json_type", "strict_cast"];

/// What the request says about groups, before the schema is looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroupBy {
    /// A field, a path into a JSON field, or a key of the dynamic field.
    name: String,
    size: usize,
    is_strict: bool,
}

impl GroupBy {
    /// Reads the pairs; `None` when the search is not grouped.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn new(pairs: &Pairs<'_>) -> Result<Option<GroupBy>> {
        let size = group_size(pairs.get("group_size"))?;
        let name = match pairs.get("group_by_field").map(str::trim).filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => {
                let names = pairs.get("group_by_fields").unwrap_or_default();
                let mut names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                let Some(name) = names.next() else { return Ok(None) };
                if names.next().is_some() {
                    return Err(Error::unimplemented("a search grouped by several fields"));
                }
                name
            }
        };
        if let Some(unknown) = UNKNOWN.into_iter().find(|name| pairs.get(name).is_some()) {
            return Err(Error::unimplemented(format_args!("the search parameter {unknown}")));
        }
        Ok(Some(GroupBy { name: name.to_owned(), size, is_strict: pairs.is_true("strict_group_size") }))
    }

    /// Finds the field.
    ///
    /// # Errors
    /// With Milvus' texts: when it is none, or of a type that is not grouped.
    pub fn grouping(&self, schema: &CollectionSchema, searched: &FieldSchema) -> Result<Grouping> {
        if searched.data_type == DataType::BinaryVector {
            let message = "not support search_group_by operation based on binary vector column";
            return Err(Error::new(ErrorKind::Unexpected, message));
        }
        let (field, path) = self.target(schema)?;
        let is_grouped = match &path {
            Some(_) => field.data_type == DataType::Json,
            None => Grouping::groups(field.data_type),
        };
        if !is_grouped {
            let name = type_name(field.data_type);
            let message = format!("unsupported data type {name} for group by operator");
            return Err(Error::new(ErrorKind::Unexpected, message));
        }
        Ok(Grouping { field: field.clone(), path, size: self.size, is_strict: self.is_strict })
    }

    fn target<'s>(&self, schema: &'s CollectionSchema) -> Result<(&'s FieldSchema, Option<JsonPath>)> {
        let (name, brackets) = self.name.split_at(self.name.find('[').unwrap_or(self.name.len()));
        let path = match brackets {
            "" => None,
            _ => Some(JsonPath::parse(brackets).ok_or_else(|| {
                Error::invalid(format_args!("group by path {} cannot be read: invalid identifier", self.name))
            })?),
        };
        if let Some(field) = schema.field(name.trim()) {
            return Ok((field, path.filter(|_| field.data_type == DataType::Json)));
        }
        match (schema.dynamic_field(), path) {
            (Some(dynamic), None) => Ok((dynamic, Some(JsonPath::of_key(name)))),
            (Some(_), Some(_)) => Err(Error::unimplemented(format_args!(
                "grouping by {}, a path below a key of the dynamic field; write $meta[..][..],",
                self.name
            ))),
            (None, _) => Err(Error::new(
                ErrorKind::FieldNotFound,
                format!("groupBy field not found in schema: field not found[field={}]", self.name),
            )),
        }
    }
}

fn group_size(text: Option<&str>) -> Result<usize> {
    let Some(text) = text else { return Ok(1) };
    let size: i64 =
        text.trim().parse().map_err(|_| Error::invalid(format_args!("failed to parse input group size:{text}")))?;
    match usize::try_from(size).ok().filter(|size| *size > 0) {
        None => Err(Error::invalid(format_args!("input group size:{size} is negative, failed to do search_groupby"))),
        Some(size) if size > GROUP_SIZE_MAX => Err(Error::invalid(format_args!(
            "input group size:{size} exceeds configured max group size:{GROUP_SIZE_MAX}"
        ))),
        Some(size) => Ok(size),
    }
}

/// The names that Milvus' engine has for types.
fn type_name(data_type: DataType) -> String {
    match data_type {
        DataType::FloatVector => "VECTOR_FLOAT".to_owned(),
        DataType::BinaryVector => "VECTOR_BINARY".to_owned(),
        DataType::Float16Vector => "VECTOR_FLOAT16".to_owned(),
        DataType::BFloat16Vector => "VECTOR_BFLOAT16".to_owned(),
        DataType::Int8Vector => "VECTOR_INT8".to_owned(),
        DataType::SparseFloatVector => "VECTOR_SPARSE_U32_F32".to_owned(),
        other => other.name().to_ascii_uppercase(),
    }
}
