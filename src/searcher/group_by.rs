//! The parameters of a grouped search, checked with Milvus' texts.

use super::search_params::Pairs;
use crate::config::limits::{FIELDS_MAX, GROUP_SIZE_MAX};
use crate::filter::JsonPath;
use crate::query::{GroupField, Grouping};
use crate::types::{CollectionSchema, DataType, Error, ErrorKind, FieldSchema, Result};

/// What the request says about groups, before the schema is looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroupBy {
    /// Fields, paths into JSON fields, or keys of the dynamic field.
    names: Vec<String>,
    size: usize,
    is_strict: bool,
    /// Where in the JSON field the value is, besides what its name says: `field["key"]`.
    json_path: Option<String>,
    json_type: Option<DataType>,
    is_strict_cast: bool,
}

impl GroupBy {
    /// Reads the pairs; `None` when the search is not grouped.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn new(pairs: &Pairs<'_>) -> Result<Option<GroupBy>> {
        let size = group_size(pairs.get("group_size"))?;
        // The older parameter wins, as in Milvus.
        let one = pairs.get("group_by_field").map(str::trim).filter(|name| !name.is_empty());
        let names: Vec<String> = match one {
            Some(name) => vec![name.to_owned()],
            None => distinct_names(pairs.get("group_by_fields").unwrap_or_default())?,
        };
        if names.is_empty() {
            return Ok(None);
        }
        let json_type = pairs.get("json_type").map(json_type).transpose()?;
        Ok(Some(GroupBy {
            names,
            size,
            is_strict: pairs.is_true("strict_group_size"),
            json_path: pairs.get("json_path").map(str::to_owned),
            json_type,
            is_strict_cast: pairs.is_true("strict_cast"),
        }))
    }

    /// Finds the fields.
    ///
    /// # Errors
    /// With Milvus' texts: when one is none, or of a type that is not grouped; when several are JSON.
    pub fn grouping(&self, schema: &CollectionSchema, searched: &FieldSchema) -> Result<Grouping> {
        if searched.data_type == DataType::BinaryVector {
            let message = "not support search_group_by operation based on binary vector column";
            return Err(Error::new(ErrorKind::Unexpected, message));
        }
        let by = self.names.iter().map(|name| self.field(schema, name)).collect::<Result<Vec<GroupField>>>()?;
        if by.iter().filter(|by| by.path.is_some()).count() > 1 {
            let message = format_args!("group by {}: at most one JSON field can be grouped by", self.names.join(","));
            return Err(Error::invalid(message));
        }
        Ok(Grouping { by, size: self.size, is_strict: self.is_strict })
    }

    fn field(&self, schema: &CollectionSchema, name: &str) -> Result<GroupField> {
        let (field, mut path) = target(schema, name)?;
        if let Some(json_path) = self.json_path.as_ref().filter(|_| field.data_type == DataType::Json) {
            let unreadable =
                || Error::invalid(format_args!("parse nested path '{json_path}' failed: it is no path into {name}"));
            let (of_path, steps) = target(schema, json_path).map_err(|_| unreadable())?;
            if of_path.id != field.id || steps.is_none() {
                return Err(unreadable());
            }
            path = steps;
        }
        let is_grouped = match &path {
            Some(_) => field.data_type == DataType::Json,
            None => GroupField::groups(field.data_type),
        };
        if !is_grouped {
            let name = type_name(field.data_type);
            let message = format!("unsupported data type {name} for group by operator");
            return Err(Error::new(ErrorKind::Unexpected, message));
        }
        let GroupBy { json_type, is_strict_cast, .. } = *self;
        Ok(GroupField { field: field.clone(), path, json_type, is_strict_cast })
    }
}

/// The names of a list, each once: a repeated one makes the same groups.
fn distinct_names(list: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if names.iter().any(|known| known == name) {
            continue;
        }
        if names.len() == FIELDS_MAX {
            return Err(Error::invalid(format_args!(
                "group_by_fields names more than {FIELDS_MAX} fields; a collection has no more"
            )));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The field that a name means, and the path in it.
fn target<'s>(schema: &'s CollectionSchema, text: &str) -> Result<(&'s FieldSchema, Option<JsonPath>)> {
    let (name, brackets) = text.split_at(text.find('[').unwrap_or(text.len()));
    let path =
        match brackets {
            "" => None,
            _ => Some(JsonPath::parse(brackets).ok_or_else(|| {
                Error::invalid(format_args!("group by path {text} cannot be read: invalid identifier"))
            })?),
        };
    if let Some(field) = schema.field(name.trim()) {
        return Ok((field, path.filter(|_| field.data_type == DataType::Json)));
    }
    match (schema.dynamic_field(), path) {
        (Some(dynamic), None) => Ok((dynamic, Some(JsonPath::of_key(name)))),
        (Some(_), Some(_)) => Err(Error::unimplemented(format_args!(
            "grouping by {text}, a path below a key of the dynamic field; write $meta[..][..],"
        ))),
        (None, _) => Err(Error::new(
            ErrorKind::FieldNotFound,
            format!("groupBy field not found in schema: field not found[field={text}]"),
        )),
    }
}

/// A type by the name that Milvus' protocol has for it.
fn json_type(name: &str) -> Result<DataType> {
    let types = [DataType::Bool, DataType::Int8, DataType::Int16, DataType::Int32, DataType::Int64, DataType::VarChar];
    types
        .into_iter()
        .find(|data_type| data_type.name() == name)
        .ok_or_else(|| Error::new(ErrorKind::Unexpected, format!("unsupported data type {name} for group by operator")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_name_counts_once_and_the_number_of_names_has_a_limit() {
        assert_eq!(distinct_names("a, b,a,, b ,c").unwrap(), ["a", "b", "c"]);
        assert_eq!(distinct_names(&"a,".repeat(1_000_000)).unwrap(), ["a"]);
        let numbered = |count: usize| (0..count).map(|at| format!("f{at}")).collect::<Vec<_>>().join(",");
        assert_eq!(distinct_names(&numbered(FIELDS_MAX)).unwrap().len(), FIELDS_MAX);
        let error = distinct_names(&numbered(FIELDS_MAX + 1)).unwrap_err();
        assert!(error.message.contains("more than 64 fields"), "{error}");
    }
}
