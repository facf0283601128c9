//! Query: rows by filter or key, and count(*).

use super::output_fields::OutputFields;
use super::search_params::{Pairs, integer};
use super::session::{Found, Session};
use crate::config::limits::TOP_K_MAX;
use crate::filter::Templates;
use crate::proto::instants::InstantStyle;
use crate::proto::milvus::{QueryRequest, QueryResults};
use crate::proto::rows::templates_from_wire;
use crate::proto::schema::{DataType, FieldData, LongArray, ScalarField, field_data, scalar_field};
use crate::proto::status::success;
use crate::query::{self, RetrieveOptions, Selection};
use crate::types::{Error, ErrorKind, Result};

/// The output field that counts.
const COUNT: &str = "count(*)";
/// How output fields begin that ask for a number about rows instead of rows.
const AGGREGATIONS: [&str; 5] = ["count(", "sum(", "min(", "max(", "avg("];
/// Parameters that change what a query means and that this server does not know yet.
const UNKNOWN: [&str; 2] = ["group_by_fields", "order_by_fields"];

/// Query.
pub(super) fn query(session: &Session<'_>, request: &QueryRequest) -> Result<QueryResults> {
    session.wait_for(request.guarantee_timestamp)?;
    query_found(session.find(&request.db_name, &request.collection_name)?, request)
}

/// Queries a collection.
pub(super) fn query_found(mut found: Found, request: &QueryRequest) -> Result<QueryResults> {
    found.check_loaded("query")?;
    let pairs = Pairs(&request.query_params);
    if let Some(name) = UNKNOWN.into_iter().find(|name| pairs.get(name).is_some()) {
        return Err(Error::unimplemented(format_args!("the query parameter {name}")));
    }
    let window = Window::new(&pairs)?;
    if pairs.is_true("iterator") {
        found.read_at(request.guarantee_timestamp);
    }
    if let Some(name) = request.output_fields.iter().find(|name| is_unknown_aggregation(name)) {
        return Err(Error::unimplemented(format_args!("the aggregation {} of a query", name.trim())));
    }
    let is_count = request.output_fields.iter().any(|name| name.trim().eq_ignore_ascii_case(COUNT));
    if !is_count && window.limit.is_none() && request.expr.trim().is_empty() {
        return Err(Error::invalid("empty expression should be used with limit"));
    }
    let zone = found.zone(pairs.get("timezone"))?;
    let style = InstantStyle::new(zone.clone(), pairs.get("time_fields"))?;
    let templates = Templates { zone, ..templates_from_wire(request.expr_template_values.clone())? };
    let plan = found.plan(&request.expr, &templates)?;
    let selection = Selection {
        partitions: found.searched_partitions(&request.partition_names, &plan)?,
        plan,
        ignore_growing: pairs.is_true("ignore_growing"),
    };
    let (fields_data, output_fields) = if is_count {
        if request.output_fields.len() > 1 {
            return Err(Error::unimplemented("count(*) beside other output fields"));
        }
        if window.limit.is_some() || window.offset > 0 {
            return Err(Error::new(ErrorKind::Unexpected, "count entities with pagination is not allowed"));
        }
        (vec![count_field(query::count(&found.snapshot, &selection)?)], vec![COUNT.to_owned()])
    } else {
        rows(&found, &request.output_fields, style, selection, &window)?
    };
    Ok(QueryResults {
        status: Some(success()),
        fields_data,
        collection_name: found.name.clone(),
        output_fields,
        session_ts: found.snapshot.timestamp.0,
        primary_field_name: found.view().manifest.schema.primary().name.clone(),
        ..Default::default()
    })
}

fn is_unknown_aggregation(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    name != COUNT && name.ends_with(')') && AGGREGATIONS.iter().any(|start| name.starts_with(start))
}

fn rows(
    found: &Found,
    output_fields: &[String],
    style: InstantStyle,
    selection: Selection,
    window: &Window,
) -> Result<(Vec<FieldData>, Vec<String>)> {
    let schema = &found.view().manifest.schema;
    let mut output = OutputFields::new(schema, output_fields)?;
    output.add_field(schema.primary());
    output.style = style;
    let options = RetrieveOptions { selection, offset: window.offset, limit: window.limit };
    let retrieved = query::retrieve(&found.snapshot, &options)?;
    Ok((output.gather(&found.snapshot, &retrieved.rows)?, output.names))
}

fn count_field(count: u64) -> FieldData {
    let data = LongArray { data: vec![i64::try_from(count).unwrap_or(i64::MAX)] };
    FieldData {
        r#type: DataType::Int64.into(),
        field_name: COUNT.to_owned(),
        field: Some(field_data::Field::Scalars(ScalarField { data: Some(scalar_field::Data::LongData(data)) })),
        ..Default::default()
    }
}

/// `limit` and `offset`.
#[derive(Debug, PartialEq)]
struct Window {
    offset: usize,
    limit: Option<usize>,
}

impl Window {
    fn new(pairs: &Pairs<'_>) -> Result<Window> {
        // Without a limit an offset means nothing: Milvus does not look at it.
        let Some(text) = pairs.get("limit") else { return Ok(Window { offset: 0, limit: None }) };
        let limit = integer("limit", text)?;
        let offset = pairs.get("offset").map_or(Ok(0), |text| integer("offset", text))?;
        let invalid = |detail: String| {
            Err(Error::new(ErrorKind::Unexpected, format!("invalid max query result window, {detail}")))
        };
        if limit <= 0 {
            return invalid(format!("limit [{limit}] is invalid, should be greater than 0"));
        }
        if offset < 0 {
            return invalid(format!("offset [{offset}] is invalid, should be gte than 0"));
        }
        let end = limit.saturating_add(offset);
        if end > TOP_K_MAX as i64 {
            return invalid(format!("(offset+limit) should be in range [1, {TOP_K_MAX}], but got {end}"));
        }
        Ok(Window { offset: usize::try_from(offset).unwrap_or(0), limit: usize::try_from(limit).ok() })
    }
}
