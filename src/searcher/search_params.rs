//! The parameters of a search: pairs of strings, one of them JSON, checked with Milvus' texts.

use serde_json::{Map, Value};

use super::group_by::GroupBy;
use crate::config::limits::TOP_K_MAX;
use crate::index::flat::DistanceRange;
use crate::proto::common::KeyValuePair;
use crate::proto::milvus::SearchRequest;
use crate::types::{Error, ErrorKind, Metric, Result};

/// Parameters that change what a search means and that this server does not know yet.
const UNKNOWN: [&str; 2] = ["order_by_fields", "analyzer_name"];
/// Hints about how a filter is applied in Milvus, which change no result: here filters always go into the search.
const HINTS: [&str; 2] = ["iterative_filter", "disable"];

/// Checked parameters of one search.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SearchParams {
    /// Hits per query, offset not included.
    pub limit: usize,
    /// Hits to skip.
    pub offset: usize,
    /// Digits after the point; `None` = all.
    pub round_decimal: Option<u32>,
    /// Leave growing rows out.
    pub ignore_growing: bool,
    /// The vector field, when one is named.
    pub anns_field: Option<String>,
    /// The metric, as the client wrote it.
    pub metric_type: Option<String>,
    /// Bound of a range search away from the query.
    pub radius: Option<f64>,
    /// Bound of a range search towards the query.
    pub range_filter: Option<f64>,
    /// The parameters of the index, not checked yet: what they may be depends on its kind.
    pub of_index: Map<String, Value>,
    /// The request is a page of an iterator.
    pub is_iterator: bool,
    /// Second-generation iterators.
    pub iterator: Option<IteratorParams>,
    /// Hits come in groups.
    pub group_by: Option<GroupBy>,
    /// The time zone of timestamps.
    pub timezone: Option<String>,
    /// Which parts of timestamps are answered, instead of text.
    pub time_fields: Option<String>,
}

/// A page of a second-generation search iterator. The server keeps nothing: the bound says where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct IteratorParams {
    /// Rows of a page.
    pub batch_size: usize,
    /// The score of the last hit of the page before.
    pub last_bound: Option<f32>,
    /// The token of the first page's answer.
    pub token: Option<String>,
}

impl SearchParams {
    /// Checks the pairs.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn new(pairs: &[KeyValuePair]) -> Result<SearchParams> {
        let pairs = Pairs(pairs);
        if let Some(name) = UNKNOWN.into_iter().find(|name| pairs.get(name).is_some()) {
            return Err(Error::unimplemented(format_args!("the search parameter {name}")));
        }
        let mut params = SearchParams {
            anns_field: pairs.get("anns_field").map(str::to_owned),
            metric_type: pairs.get("metric_type").map(str::to_owned),
            ignore_growing: pairs.is_true("ignore_growing"),
            is_iterator: pairs.is_true("iterator"),
            timezone: pairs.get("timezone").map(str::to_owned),
            time_fields: pairs.get("time_fields").map(str::to_owned),
            ..SearchParams::default()
        };
        params.add_json(pairs.get("params").unwrap_or_default())?;
        params.check_hints(pairs.get("hints"))?;
        params.round_decimal = round_decimal(pairs.get("round_decimal"))?;
        params.group_by = GroupBy::new(&pairs)?;
        params.check_group_by()?;
        params.iterator = iterator(&pairs)
            .map_err(|error| Error::new(error.kind, format!("parse iterator v2 info failed: {}", error.message)))?;
        params.add_window(&pairs)?;
        Ok(params)
    }

    /// Refuses a hint that is none. Milvus does not look at them in a range search.
    fn check_hints(&self, hints: Option<&str>) -> Result<()> {
        let (text, shown) = match hints {
            Some(hints) => (Some(hints), hints.to_owned()),
            None => match self.of_index.get("hints").filter(|hints| !hints.is_null()) {
                Some(hints) => (hints.as_str(), hints.to_string()),
                None => return Ok(()),
            },
        };
        if self.radius.is_some() || text.is_some_and(|text| HINTS.contains(&text)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unexpected, format!("hints: {shown} not supported")))
    }

    fn check_group_by(&self) -> Result<()> {
        if self.group_by.is_none() {
            return Ok(());
        }
        if self.is_iterator {
            return Err(Error::invalid("Not allowed to do groupBy when doing iteration"));
        }
        if self.radius.is_some() {
            return Err(Error::invalid("Not allowed to do range-search when doing search-group-by"));
        }
        Ok(())
    }

    /// `topk` and `offset`.
    fn add_window(&mut self, pairs: &Pairs<'_>) -> Result<()> {
        let text = pairs.get("topk").ok_or_else(|| Error::invalid("topk not found in search_params"))?;
        let limit = integer("topk", text)?;
        let is_page = self.is_iterator || self.iterator.is_some();
        // Clients ask for pages of iterators that are larger than a search may be: such a page is just shorter.
        let limit = if is_page && limit > TOP_K_MAX as i64 { TOP_K_MAX as i64 } else { limit };
        check_range("topk", limit, limit)?;
        let offset = pairs.get("offset").map_or(Ok(0), |text| integer("offset", text))?;
        if offset != 0 {
            check_range("offset", offset, offset)?;
        }
        check_range("offset+topk", limit + offset, limit + offset)?;
        self.limit = usize::try_from(limit).unwrap_or(0);
        self.offset = usize::try_from(offset).unwrap_or(0);
        if let Some(iterator) = &self.iterator {
            self.limit = iterator.batch_size;
        }
        Ok(())
    }

    /// The JSON parameters; those of the index among them.
    fn add_json(&mut self, text: &str) -> Result<()> {
        let params = json_object(text)?;
        self.radius = number(&params, "radius")?;
        self.range_filter = number(&params, "range_filter")?;
        if self.metric_type.is_none() {
            self.metric_type = params.get("metric_type").and_then(Value::as_str).map(str::to_owned);
        }
        if self.range_filter.is_some() && self.radius.is_none() {
            return Err(Error::invalid("range_filter requires radius to be set, otherwise it has no effect"));
        }
        match UNKNOWN.into_iter().find(|name| params.get(*name).is_some_and(|value| !value.is_null())) {
            Some(name) => Err(Error::unimplemented(format_args!("the search parameter {name}"))),
            None => {
                self.of_index = params;
                Ok(())
            }
        }
    }

    /// The distances that are wanted, smaller being nearer; `None` = all.
    ///
    /// # Errors
    /// When the range is empty, with Milvus' text.
    pub fn range(&self, metric: Metric) -> Result<Option<DistanceRange>> {
        let mut range = DistanceRange { low: f32::NEG_INFINITY, high: f32::INFINITY };
        let sign = if metric.is_similarity() { -1.0 } else { 1.0 };
        if let Some(radius) = self.radius {
            range.high = (sign * radius) as f32;
            if let Some(range_filter) = self.range_filter {
                range.low = (sign * range_filter) as f32;
                if sign * range_filter >= sign * radius {
                    let relation = if metric.is_similarity() { "greater" } else { "less" };
                    return Err(Error::invalid(format_args!(
                        "metric type ({}), range_filter({range_filter}) must be {relation} than radius({radius})",
                        metric.name()
                    )));
                }
            }
        }
        if let Some(bound) = self.iterator.as_ref().and_then(|iterator| iterator.last_bound) {
            // The next page begins strictly beyond the last hit.
            range.low = range.low.max((sign as f32 * bound).next_up());
        }
        let is_bounded = range.low > f32::NEG_INFINITY || range.high < f32::INFINITY;
        Ok(is_bounded.then_some(range))
    }

    /// A score with the digits that were asked for.
    pub fn round(&self, score: f32) -> f32 {
        match self.round_decimal {
            None => score,
            Some(digits) => {
                let scale = 10f64.powi(digits as i32);
                ((f64::from(score) * scale).round() / scale) as f32
            }
        }
    }
}

/// Pairs with look-up; an empty value counts as absent.
pub(super) struct Pairs<'a>(pub &'a [KeyValuePair]);

impl<'a> Pairs<'a> {
    /// A value by key.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a value is a true, as Python or JSON spell it.
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// A whole number.
pub(super) fn integer(name: &str, text: &str) -> Result<i64> {
    let invalid = || Error::new(ErrorKind::InvalidParameter, format!("{name} [{text}] is invalid"));
    text.trim().parse().map_err(|_| invalid())
}

fn check_range(name: &str, shown: i64, value: i64) -> Result<()> {
    if (1..=TOP_K_MAX as i64).contains(&value) {
        return Ok(());
    }
    let message = format!("{name} [{shown}] is invalid, it should be in range [1, {TOP_K_MAX}], but got {value}");
    Err(Error::new(ErrorKind::Unexpected, message))
}

fn round_decimal(text: Option<&str>) -> Result<Option<u32>> {
    let Some(text) = text else { return Ok(None) };
    match integer("round_decimal", text)? {
        -1 => Ok(None),
        digits @ 0..=6 => Ok(u32::try_from(digits).ok()),
        _ => Err(Error::invalid(format_args!(
            "round_decimal [{text}] is invalid, it should be -1 or an integer in range [0, 6]"
        ))),
    }
}

fn json_object(text: &str) -> Result<Map<String, Value>> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(params)) => Ok(params),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(Error::invalid(format_args!("search params in wrong format: not a JSON object: {text}"))),
        Err(error) => Err(Error::invalid(format_args!("search params in wrong format: {error}"))),
    }
}

fn number(params: &Map<String, Value>, name: &str) -> Result<Option<f64>> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(Error::invalid(format_args!("search parameter {name} is {value}: type must be number"))),
        },
    }
}

fn iterator(pairs: &Pairs<'_>) -> Result<Option<IteratorParams>> {
    if !pairs.is_true("search_iter_v2") {
        return Ok(None);
    }
    let refused = |message: &str| Err(Error::new(ErrorKind::Unexpected, message));
    if !pairs.is_true("iterator") {
        return refused("both iterator and search_iter_v2 must be set in the SDK");
    }
    if pairs.get("offset").is_some_and(|offset| offset.trim() != "0") {
        return Err(Error::invalid("Setting an offset is not permitted when using a search iterator v2"));
    }
    let token = pairs.get("search_iter_id");
    if token.is_some_and(|token| !is_uuid(token)) {
        return refused("invalid token format");
    }
    let Some(text) = pairs.get("search_iter_batch_size") else { return refused("batch size is required") };
    let batch_size = integer("batch size", text)?;
    check_range("batch size", batch_size, batch_size)?;
    let last_bound = pairs.get("search_iter_last_bound").map(|text| {
        let bound: Option<f32> = text.trim().parse().ok();
        bound
            .filter(|bound| bound.is_finite())
            .ok_or_else(|| Error::invalid(format_args!("failed to parse input last bound [{text}]")))
    });
    Ok(Some(IteratorParams {
        batch_size: usize::try_from(batch_size).unwrap_or(0),
        last_bound: last_bound.transpose()?,
        token: token.map(str::to_owned),
    }))
}

/// Whether a request is for a page of a second-generation iterator.
pub(super) fn is_page(request: &SearchRequest) -> bool {
    Pairs(&request.search_params).is_true("search_iter_v2")
}

/// Whether a parameter differs from page to page.
pub(super) fn is_of_one_page(name: &str) -> bool {
    ["topk", "limit", "search_iter_id", "search_iter_batch_size", "search_iter_last_bound"].contains(&name)
}

/// Hexadecimal digits in the groups of a UUID.
fn is_uuid(token: &str) -> bool {
    let is_hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    token.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && token.split('-').all(is_hexadecimal)
}
