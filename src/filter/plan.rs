//! The plan: a checked filter that readers share and evaluate against one file after another.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;

use super::condition::Condition;
use super::error::FilterError;
use super::planner::{self, Checked};
use super::predicate::{self, Leaf, Predicate, PredicateId};
use super::{Rows, TemplateValue, Templates, evaluate, known, parser};
use crate::config::limits::KEPT_TEXT_BYTES_MAX;
use crate::types::{Bitmap, CollectionSchema, FieldId, FieldSchema, Keys, Value};

/// A checked filter; a clone shares it.
#[derive(Clone, Debug)]
pub struct Plan {
    inner: Arc<Inner>,
}

struct Inner {
    checked: Checked,
    keys: Option<Keys>,
    bounds: Option<KeyBounds>,
    origin: Option<Origin>,
}

/// What a filter was made of, when that says which rows match.
#[derive(PartialEq)]
struct Origin {
    text: Box<str>,
    templates: Templates,
    hash: u64,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("predicates", &self.checked.predicates.len())
            .field("fields", &self.checked.fields.len())
            .field("sample", &self.checked.sample)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// Between which keys every match lies. The range may be empty (`low > high`): then nothing matches.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyBounds {
    /// `Value::Int` or `Value::Text`.
    pub low: Bound<Value>,
    /// `Value::Int` or `Value::Text`.
    pub high: Bound<Value>,
}

impl Plan {
    /// Parses and checks a filter; an empty or blank text matches every row.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn new(text: &str, schema: &CollectionSchema, templates: &Templates) -> Result<Plan, FilterError> {
        if text.trim().is_empty() {
            return Ok(Plan::match_all());
        }
        let mut checked = planner::check(text, parser::parse(text)?, schema, templates)?;
        predicate::push_negations_down(&mut checked.predicates);
        predicate::merge_equalities(&mut checked.predicates);
        predicate::order_by_cost(&mut checked.predicates);
        let key = schema.fields.iter().find(|field| field.is_primary).map(|field| field.id);
        let (keys, bounds) = match key {
            Some(key) => (primary_keys(&checked, key), primary_key_bounds(&checked, key)),
            None => (None, None),
        };
        let origin = checked.sample.is_none().then(|| Origin::of(text, templates)).flatten();
        Ok(Plan { inner: Arc::new(Inner { checked, keys, bounds, origin }) })
    }

    /// A number that filters of the same meaning share within this process; `None` when a filter is too long, or means another
    /// thing at every use.
    pub fn fingerprint(&self) -> Option<u64> {
        self.inner.origin.as_ref().map(|origin| origin.hash)
    }

    /// Whether another filter has the same fingerprint and matches the same rows of every file.
    pub fn is_same(&self, other: &Plan) -> bool {
        // What the text's names stand for depends on the schema.
        let is_same = self.inner.origin == other.inner.origin && self.fields() == other.fields();
        self.inner.origin.is_some() && is_same
    }

    /// The plan that every row matches.
    fn match_all() -> Plan {
        thread_local! {
            /// One per thread: what all threads count the uses of would be fought for.
            static MATCH_ALL: Plan = {
                let predicates = vec![Predicate::Constant(true)];
                let checked = Checked { predicates, root: 0, fields: Vec::new(), sample: None };
                Plan { inner: Arc::new(Inner { checked, keys: None, bounds: None, origin: None }) }
            };
        }
        MATCH_ALL.with(Plan::clone)
    }

    /// Whether every row matches, because the text was empty (or folded to `true`).
    pub fn is_match_all(&self) -> bool {
        let checked = &self.inner.checked;
        checked.sample.is_none() && matches!(checked.predicates[checked.root as usize], Predicate::Constant(true))
    }

    /// The keys, when the filter is exactly `pk in [...]` or `pk == x`: rows are then found without a scan.
    /// Ascending, each once.
    pub fn primary_keys(&self) -> Option<&Keys> {
        self.inner.keys.as_ref()
    }

    /// Between which keys every match lies, when the filter is a conjunction that says so (`pk > last and (...)`, as
    /// iterators page): a file sorted by key is then searched in one piece only.
    pub fn primary_key_bounds(&self) -> Option<&KeyBounds> {
        self.inner.bounds.as_ref()
    }

    /// The values of an integer or string field that a row must have one of to match, when the filter is a conjunction that
    /// says so.
    pub fn values_of(&self, field: FieldId) -> Option<Keys> {
        let checked = &self.inner.checked;
        let parts = conjunction(checked).into_iter();
        let lists = parts.filter_map(|part| equal_values(key_test(checked, part, field)?));
        lists.min_by_key(Keys::len)
    }

    /// Whether the filter asks for exactly one value of a field, beside whatever else.
    pub fn check_isolated(&self, field: FieldId) -> Isolation {
        let checked = &self.inner.checked;
        let mut isolation = Isolation::NotFound;
        for part in conjunction(checked) {
            match key_test(checked, part, field) {
                Some(Condition::Int { low, high }) if low == high => isolation = Isolation::OneValue,
                Some(Condition::TextEqual(_)) => isolation = Isolation::OneValue,
                Some(Condition::IntIn(set)) if set.members().len() == 1 => isolation = Isolation::OneValue,
                Some(Condition::TextIn(set)) if set.members().len() == 1 => isolation = Isolation::OneValue,
                Some(Condition::IntIn(_) | Condition::TextIn(_)) => return Isolation::Unsupported("IN"),
                Some(_) => return Isolation::Unsupported("ranges and patterns"),
                None if !uses(checked, part, field) => {}
                None if matches!(checked.predicates[part as usize], Predicate::Or(_)) => {
                    return Isolation::Unsupported("OR");
                }
                None => return Isolation::Unsupported("NOT"),
            }
        }
        isolation
    }

    /// The fields it reads.
    pub fn fields(&self) -> &[FieldSchema] {
        &self.inner.checked.fields
    }

    /// Whether what is known of the columns says that no row matches; nothing of them is read.
    pub fn excludes(&self, rows: &dyn Rows) -> bool {
        !self.is_match_all() && known::excludes(&self.inner.checked, rows)
    }

    /// The rows that match: bit = 1 where the filter is TRUE (not where it is FALSE or UNKNOWN).
    pub fn evaluate(&self, rows: &dyn Rows) -> Bitmap {
        let mut bitmap = evaluate::evaluate(&self.inner.checked, rows);
        if let Some(share) = self.inner.checked.sample {
            sample(&mut bitmap, share);
        }
        bitmap
    }
}

impl Origin {
    fn of(text: &str, templates: &Templates) -> Option<Origin> {
        let mut values: Vec<(&String, &TemplateValue)> = templates.values.iter().collect();
        let bytes =
            values.iter().map(|(name, value)| name.len() + bytes_of(value)).fold(text.len(), usize::saturating_add);
        if bytes > KEPT_TEXT_BYTES_MAX {
            return None;
        }
        values.sort_by_key(|(name, _)| *name);
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        if !values.is_empty() {
            format!("{values:?}").hash(&mut hasher);
        }
        Some(Origin { text: text.into(), templates: templates.clone(), hash: hasher.finish() })
    }
}

/// About.
fn bytes_of(value: &TemplateValue) -> usize {
    let (mut open, mut bytes) = (vec![value], 0usize);
    while let Some(value) = open.pop() {
        bytes = bytes.saturating_add(match value {
            TemplateValue::Bool(_) | TemplateValue::Int(_) | TemplateValue::Float(_) => size_of::<u64>(),
            TemplateValue::Text(text) => text.len(),
            TemplateValue::Json(document) => document.len(),
            TemplateValue::List(values) if values.len() > KEPT_TEXT_BYTES_MAX => return usize::MAX,
            TemplateValue::List(values) => {
                open.extend(values);
                values.len()
            }
        });
        if bytes > KEPT_TEXT_BYTES_MAX {
            return bytes;
        }
    }
    bytes
}

/// How a filter uses the field that keeps tenants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// It names one value that every match has.
    OneValue,
    /// It does not speak of the field.
    NotFound,
    /// It uses the field otherwise.
    Unsupported(&'static str),
}

/// Keeps a random share of the rows that are set, to the nearest whole row (which of the two is random too).
fn sample(bitmap: &mut Bitmap, share: f64) {
    let mut state = RandomState::new().hash_one(bitmap.row_count());
    // splitmix64, to numbers in 0..1.
    let mut random = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut left = bitmap.count_ones();
    let mut wanted = (left as f64 * share + random()).floor();
    for word in bitmap.words_mut() {
        let mut rest = *word;
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            // Each row is taken with the chance that the rest cannot fill: every choice is equally likely.
            if random() * (left as f64) < wanted {
                wanted -= 1.0;
            } else {
                *word &= !bit;
            }
            left -= 1;
            rest &= rest - 1;
        }
    }
}

/// The test of a leaf that is one of the primary key.
fn key_test(checked: &Checked, id: PredicateId, key: FieldId) -> Option<&Condition> {
    match &checked.predicates[id as usize] {
        Predicate::Leaf { leaf: Leaf::Scalar { field, test }, is_negated: false }
            if checked.fields[usize::from(*field)].id == key =>
        {
            Some(test)
        }
        _ => None,
    }
}

/// The parts that all have to be true.
fn conjunction(checked: &Checked) -> Vec<PredicateId> {
    let mut parts = Vec::new();
    let mut open = vec![checked.root];
    while let Some(id) = open.pop() {
        match &checked.predicates[id as usize] {
            Predicate::And(children) => open.extend(children),
            Predicate::Or(children) if children.len() == 1 => open.extend(children),
            _ => parts.push(id),
        }
    }
    parts
}

/// Whether a predicate asks anything about a field's values.
fn uses(checked: &Checked, root: PredicateId, field: FieldId) -> bool {
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        match &checked.predicates[id as usize] {
            Predicate::And(children) | Predicate::Or(children) => open.extend(children),
            Predicate::Not(child) => open.push(*child),
            Predicate::Leaf { leaf: Leaf::Scalar { field: asked, .. }, .. } => {
                if checked.fields[usize::from(*asked)].id == field {
                    return true;
                }
            }
            Predicate::Leaf { .. } | Predicate::Constant(_) => {}
        }
    }
    false
}

/// The values a test lets through, when it lists them.
fn equal_values(test: &Condition) -> Option<Keys> {
    match test {
        Condition::Int { low, high } if low == high => Some(Keys::Int(vec![*low])),
        Condition::IntIn(set) => Some(Keys::Int(set.members().to_vec())),
        Condition::TextEqual(text) => Some(Keys::Text(vec![text.to_string()])),
        Condition::TextIn(set) => Some(Keys::Text(set.members().iter().map(|member| member.to_string()).collect())),
        _ => None,
    }
}

fn primary_keys(checked: &Checked, key: FieldId) -> Option<Keys> {
    if checked.sample.is_some() {
        return None;
    }
    let mut root = checked.root;
    while let Predicate::And(children) | Predicate::Or(children) = &checked.predicates[root as usize] {
        let [only] = **children else { return None };
        root = only;
    }
    equal_values(key_test(checked, root, key)?)
}

fn primary_key_bounds(checked: &Checked, key: FieldId) -> Option<KeyBounds> {
    let mut bounds: Option<KeyBounds> = None;
    for id in conjunction(checked) {
        let Some(part) = key_test(checked, id, key).and_then(test_bounds) else { continue };
        bounds = Some(match bounds {
            None => part,
            Some(bounds) => KeyBounds {
                low: tighter(bounds.low, part.low, std::cmp::Ordering::Greater),
                high: tighter(bounds.high, part.high, std::cmp::Ordering::Less),
            },
        });
    }
    bounds
}

fn test_bounds(test: &Condition) -> Option<KeyBounds> {
    let text = |bound: &Bound<Box<str>>| bound.as_ref().map(|text| Value::Text(text.to_string()));
    Some(match test {
        Condition::Int { low, high } => KeyBounds {
            low: if *low == i64::MIN { Bound::Unbounded } else { Bound::Included(Value::Int(*low)) },
            high: if *high == i64::MAX { Bound::Unbounded } else { Bound::Included(Value::Int(*high)) },
        },
        Condition::IntIn(set) => KeyBounds {
            low: Bound::Included(Value::Int(*set.members().first()?)),
            high: Bound::Included(Value::Int(*set.members().last()?)),
        },
        Condition::TextEqual(only) => {
            let only = Bound::Included(Value::Text(only.to_string()));
            KeyBounds { low: only.clone(), high: only }
        }
        Condition::TextRange { low, high } => KeyBounds { low: text(low), high: text(high) },
        Condition::TextIn(set) => KeyBounds {
            low: Bound::Included(Value::Text(set.members().first()?.to_string())),
            high: Bound::Included(Value::Text(set.members().last()?.to_string())),
        },
        _ => return None,
    })
}

/// The bound that lets fewer keys through; `inward` is the order of a tighter bound to a looser one.
fn tighter(left: Bound<Value>, right: Bound<Value>, inward: std::cmp::Ordering) -> Bound<Value> {
    let key = |bound: &Bound<Value>| match bound {
        Bound::Included(value) => Some((value.clone(), false)),
        Bound::Excluded(value) => Some((value.clone(), true)),
        Bound::Unbounded => None,
    };
    let (Some((left_value, _)), Some((right_value, right_is_open))) = (key(&left), key(&right)) else {
        return if matches!(left, Bound::Unbounded) { right } else { left };
    };
    let order = match (&left_value, &right_value) {
        (Value::Int(left), Value::Int(right)) => right.cmp(left),
        (Value::Text(left), Value::Text(right)) => right.cmp(left),
        _ => std::cmp::Ordering::Equal,
    };
    let takes_right = order == inward || order == std::cmp::Ordering::Equal && right_is_open;
    if takes_right { right } else { left }
}
