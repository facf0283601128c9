//! Operators of partial upserts: elements are added to the stored array, or taken out of it, instead of replacing it.

use std::collections::HashSet;

use crate::config::limits::ARRAY_CAPACITY_MAX;
use crate::proto::instants::InstantStyle;
use crate::proto::rows::{array_column, column_into_wire};
use crate::proto::schema::field_partial_update_op::OpType;
use crate::proto::{milvus, schema};
use crate::types::{
    ArrayRow, CollectionSchema, Column, ColumnData, DataType, Element, Error, ErrorKind, FieldSchema, Result,
    TextColumn,
};

/// What becomes of the elements that a request gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArrayOperator {
    /// They come behind the stored ones.
    Append,
    /// Every stored element that equals one of them goes.
    Remove,
}

/// Whether a request's operators make it a partial upsert.
pub(super) fn has_operator(request: &milvus::UpsertRequest) -> bool {
    request.field_ops.iter().any(|given| given.op != i32::from(OpType::Replace))
}

/// Checks the operators of a request.
///
/// # Errors
/// With Milvus' texts.
pub(super) fn check(schema: &CollectionSchema, request: &milvus::UpsertRequest) -> Result<()> {
    for (index, given) in request.field_ops.iter().enumerate() {
        let name = given.field_name.as_str();
        if name.is_empty() {
            return Err(Error::invalid("FieldPartialUpdateOp.field_name is required"));
        }
        if request.field_ops[..index].iter().any(|other| other.field_name == name) {
            return Err(Error::invalid(format_args!("duplicate partial-update op for field \"{name}\"")));
        }
        if let Some(operator) = operator(given)? {
            check_field(schema, request, name, operator)?;
        }
    }
    Ok(())
}

/// The operator of a field; `None` when what is given takes the place of what is stored.
pub(super) fn operator_of(request: &milvus::UpsertRequest, field: &FieldSchema) -> Option<ArrayOperator> {
    let given = request.field_ops.iter().find(|given| given.field_name == field.name)?;
    operator(given).ok().flatten()
}

fn operator(given: &schema::FieldPartialUpdateOp) -> Result<Option<ArrayOperator>> {
    match OpType::try_from(given.op) {
        Ok(OpType::Replace) => Ok(None),
        Ok(OpType::ArrayAppend) => Ok(Some(ArrayOperator::Append)),
        Ok(OpType::ArrayRemove) => Ok(Some(ArrayOperator::Remove)),
        Err(_) => Err(Error::invalid(format_args!("unsupported partial update op: {}", given.op))),
    }
}

fn check_field(
    schema: &CollectionSchema,
    request: &milvus::UpsertRequest,
    name: &str,
    operator: ArrayOperator,
) -> Result<()> {
    let field = schema
        .field(name)
        .ok_or_else(|| Error::invalid(format_args!("field \"{name}\" not found in collection schema")))?;
    if field.is_primary {
        let message = format_args!("field \"{name}\" is the primary key and cannot carry a partial-update op");
        return Err(Error::invalid(message));
    }
    if field.data_type != DataType::Array {
        return Err(Error::invalid(format_args!(
            "op {} requires Array field, but field \"{name}\" is {}",
            operator.name(),
            field.data_type.name()
        )));
    }
    let given = request.fields_data.iter().find(|data| !data.is_dynamic && data.field_name == name);
    if given.is_none() {
        let message = format_args!("partial-update op targets field \"{name}\" not present in fields_data");
        return Err(Error::invalid(message));
    }
    Ok(())
}

impl ArrayOperator {
    fn name(self) -> &'static str {
        match self {
            ArrayOperator::Append => "ARRAY_APPEND",
            ArrayOperator::Remove => "ARRAY_REMOVE",
        }
    }

    /// The arrays that a row's stored and given one make. A null that is given changes nothing; a null that is stored, and a
    /// row that is new, are like an array without elements.
    ///
    /// # Errors
    /// With Milvus' texts: what is given is of another type, or the arrays get too long.
    pub fn applied(self, field: &FieldSchema, stored: Column, given: schema::FieldData) -> Result<schema::FieldData> {
        let other = || Error::internal(format!("the array field {} holds something else than arrays", field.name));
        let ColumnData::Text(stored_rows) = &stored.data else { return Err(other()) };
        let row_count = stored_rows.row_count();
        let given = array_column(field, given, row_count)?;
        let ColumnData::Text(given_rows) = &given.data else { return Err(other()) };
        let element_type = field.element_type.unwrap_or(DataType::Int64);
        let capacity = field.max_capacity().unwrap_or(ARRAY_CAPACITY_MAX);
        let is_valid = |column: &Column, row: usize| column.validity.as_ref().is_none_or(|valid| valid[row]);

        let mut merged = TextColumn::default();
        let mut validity = Vec::with_capacity(row_count);
        for row in 0..row_count {
            let stored_row = if is_valid(&stored, row) { stored_rows.row(row) } else { &[] };
            if !is_valid(&given, row) {
                merged.push(stored_row);
                validity.push(is_valid(&stored, row));
                continue;
            }
            let stored_row = ArrayRow::new(stored_row, element_type);
            let bytes = self.merged(stored_row, ArrayRow::new(given_rows.row(row), element_type), element_type);
            let length = ArrayRow::new(&bytes, element_type).len();
            if self == ArrayOperator::Append && length > capacity {
                let message = format!("array length {length} exceeds max_capacity {capacity}");
                return Err(Error::new(ErrorKind::Unexpected, message));
            }
            merged.push(&bytes);
            validity.push(true);
        }
        let column = Column { field: field.id, data: ColumnData::Text(merged), validity: Some(validity) };
        Ok(column_into_wire(field, column, &InstantStyle::default()))
    }

    fn merged(self, stored: ArrayRow<'_>, given: ArrayRow<'_>, element_type: DataType) -> Vec<u8> {
        match self {
            ArrayOperator::Append => ArrayRow::encode_elements(stored.iter().chain(given.iter()), element_type),
            ArrayOperator::Remove => {
                let gone: HashSet<Identity<'_>> = given.iter().filter_map(identity).collect();
                let stays = |element: &Element<'_>| identity(*element).is_none_or(|identity| !gone.contains(&identity));
                ArrayRow::encode_elements(stored.iter().filter(stays), element_type)
            }
        }
    }
}

/// What makes elements equal.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'a> {
    Bits(u64),
    Text(&'a [u8]),
}

/// `None` for what equals nothing, itself included.
fn identity(element: Element<'_>) -> Option<Identity<'_>> {
    match element {
        Element::Bool(value) => Some(Identity::Bits(value.into())),
        Element::Int(value) => Some(Identity::Bits(value as u64)),
        Element::Float(value) if value.is_nan() => None,
        // The two zeros are equal.
        Element::Float(value) => Some(Identity::Bits((value + 0.0).to_bits())),
        Element::Text(text) => Some(Identity::Text(text)),
    }
}
